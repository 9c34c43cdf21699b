//! Two processes over one store of people, and signing keys that rotate.

use std::sync::Arc;
use std::time::Duration;

use rateguard_core::ids::{SessionId, UserId, WorkspaceId};
use rateguard_engine::audit::Origin;
use rateguard_engine::directory::Directory;
use rateguard_engine::error::{EngineError, Reason};
use rateguard_engine::listing::{Order, PageQuery};
use rateguard_engine::people::{
    EmailAddress, InvitationFilter, Mail, MailError, Mailer, People, PeopleBackground, PeopleSetup, Person,
    Role,
};
use rateguard_engine::ports::PeopleStore;
use rateguard_engine::secrets::CredentialCipher;
use rateguard_proto::v1;
use tokio::sync::Notify;

use super::persons::{PASSWORD, login, tokens};
use super::world::{World, policy};

/// A week, in which one key signs.
const WEEK_MS: i64 = 604_800_000;
/// How long a test waits for another process to notice.
const PATIENCE: Duration = Duration::from_secs(20);

/// Another process over the same store.
async fn replica(world: &World) -> (Arc<People>, PeopleBackground) {
    replica_with(world, CredentialCipher::new(&[7; 32]).unwrap()).await.unwrap()
}

async fn replica_with(
    world: &World,
    cipher: CredentialCipher,
) -> Result<(Arc<People>, PeopleBackground), EngineError> {
    replica_sending(world, cipher, None).await
}

async fn replica_sending(
    world: &World,
    cipher: CredentialCipher,
    mailer: Option<Arc<dyn Mailer>>,
) -> Result<(Arc<People>, PeopleBackground), EngineError> {
    let setup = PeopleSetup {
        clock: world.clock.clone(),
        directory: world.engine.directory().clone(),
        cipher,
        policy: policy(),
        mailer,
        external: None,
    };
    People::start(Arc::new(world.config.people()), setup).await
}

/// A process of its own that knows what the store holds now, and reads on only when it is told to.
async fn cut_off(world: &World) -> (Arc<People>, Arc<Directory>) {
    let (config, now) = (world.config.clone(), world.engine.now());
    let directory = Arc::new(Directory::load(config, Arc::default(), now).await.unwrap());
    let setup = PeopleSetup {
        clock: world.clock.clone(),
        directory: directory.clone(),
        cipher: CredentialCipher::new(&[7; 32]).unwrap(),
        policy: policy(),
        mailer: None,
        external: None,
    };
    let (people, background) = People::start(Arc::new(world.config.people()), setup).await.unwrap();
    background.stop().await;
    (people, directory)
}

async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("never: {what}"));
}

fn reason(people: &People, token: &str) -> Option<Reason> {
    people.by_token(token).err().map(|error| error.reason)
}

#[tokio::test]
async fn a_session_that_ends_in_one_process_ends_in_the_other() {
    let world = World::new().await;
    let (other, _background) = replica(&world).await;
    let ada = world.someone("ada").await;
    assert_eq!(reason(&other, &ada.access), None);
    world.auth(&ada).logout(v1::LogoutRequest {}).await.unwrap();
    eventually("the session has ended", || reason(&other, &ada.access) == Some(Reason::SessionEnded)).await;
}

#[tokio::test]
async fn a_role_that_changes_in_one_process_changes_in_the_other() {
    let world = World::new().await;
    let (other, _background) = replica(&world).await;
    let ada = world.someone("ada").await;
    let bob = world.invited_by(&ada, "bob", v1::Role::Admin).await;
    let role = || other.by_token(&bob.access).unwrap().role;
    assert_eq!(role(), Some(Role::Admin));
    let removal = v1::RemoveMemberRequest { user_id: bob.id.clone() };
    world.members(&ada).remove_member(removal).await.unwrap();
    eventually("the role is gone", || role().is_none()).await;
}

#[tokio::test]
async fn a_process_that_starts_later_knows_what_has_ended_before() {
    let world = World::new().await;
    let ada = world.someone("ada").await;
    world.auth(&ada).logout(v1::LogoutRequest {}).await.unwrap();
    let (later, _background) = replica(&world).await;
    assert_eq!(reason(&later, &ada.access), Some(Reason::SessionEnded));
}

#[tokio::test]
async fn a_process_that_was_cut_off_for_long_knows_the_workspaces_that_came_meanwhile() {
    let world = World::new().await;
    let (other, directory) = cut_off(&world).await;
    let ada = world.someone("ada").await;
    let made = WorkspaceId::parse("id", &ada.workspace).unwrap();
    let store = world.config.people();
    let now = world.engine.now();
    store.sweep_people(now, now.plus(1)).await.unwrap();
    assert!(directory.view(&made).is_none());
    other.refresh().await.unwrap();
    assert_eq!(directory.view(&made).unwrap().workspace.id, made);
    // The same where the feed has grown since.
    let bob = world.someone("bob").await;
    store.sweep_people(now, now.plus(1)).await.unwrap();
    world.auth(&bob).logout(v1::LogoutRequest {}).await.unwrap();
    other.refresh().await.unwrap();
    assert!(directory.view(&WorkspaceId::parse("id", &bob.workspace).unwrap()).is_some());
    assert_eq!(reason(&other, &bob.access), Some(Reason::SessionEnded));
}

/// Takes its time, and then does not take what it is given.
#[derive(Default)]
struct SlowMailer {
    begun: Notify,
    ended: Notify,
}

#[tonic::async_trait]
impl Mailer for SlowMailer {
    async fn send(&self, _mail: Mail) -> Result<(), MailError> {
        self.begun.notify_one();
        self.ended.notified().await;
        Err(MailError("no such mailbox".to_owned()))
    }
}

#[tokio::test]
async fn an_invitation_that_cannot_be_sent_is_taken_back_also_when_nobody_waits_for_it() {
    let world = World::new().await;
    let mailer = Arc::new(SlowMailer::default());
    let cipher = CredentialCipher::new(&[7; 32]).unwrap();
    let (other, _background) = replica_sending(&world, cipher, Some(mailer.clone())).await.unwrap();
    let ada = other.by_token(&world.someone("ada").await.access).unwrap();
    let bob = EmailAddress::parse("email", "bob@example.com").unwrap();
    let origin = Origin::default();
    tokio::select! {
        answer = other.invite(&ada, Some(bob), Role::Member, None, &origin) => panic!("{answer:?}"),
        () = mailer.begun.notified() => {}
    }
    let all = PageQuery { order: Order::default(), after: None, limit: 10 };
    let filter = InvitationFilter::default();
    assert_eq!(other.invitations(&ada, &filter, &all).await.unwrap().items.len(), 1);
    mailer.ended.notify_one();
    let taken_back = async {
        while !other.invitations(&ada, &filter, &all).await.unwrap().items.is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, taken_back).await.expect("the invitation is taken back");
}

#[tokio::test]
async fn keys_follow_each_other_and_what_the_old_one_signed_stays_good() {
    let world = World::new().await;
    let store = world.config.people();
    let ada = world.someone("ada").await;
    let first = store.signing_keys().await.unwrap();
    assert_eq!(first.len(), 1);
    world.clock.advance_ms(WEEK_MS - 1);
    let late = tokens(world.visitor().login(login(&ada.email, PASSWORD)).await.unwrap().into_inner().grant);
    world.clock.advance_ms(1);
    let (rotating, _background) = replica(&world).await;
    let both = store.signing_keys().await.unwrap();
    assert_eq!((both.len(), &both[0]), (2, &first[0]));
    // The new key does not sign before every process has read of it.
    assert!(both[1].signs_from > world.engine.now());
    assert_eq!(reason(&rotating, &late.0), None);
    world.clock.advance_ms(both[1].signs_from.since(world.engine.now()));
    let new = tokens(world.visitor().login(login(&ada.email, PASSWORD)).await.unwrap().into_inner().grant);
    assert!(new.0 != late.0 && reason(&rotating, &new.0).is_none());
    assert_eq!(reason(&rotating, &late.0), None);
}

#[tokio::test]
async fn a_process_with_another_encryption_key_does_not_start() {
    let world = World::new().await;
    let refused = replica_with(&world, CredentialCipher::new(&[8; 32]).unwrap()).await;
    assert_eq!(refused.err().map(|error| error.reason), Some(Reason::Internal));
}

#[tokio::test]
async fn what_the_store_keeps_of_a_person_opens_nothing() {
    let world = World::new().await;
    let ada = world.someone("ada").await;
    let store = world.config.people();
    let id = UserId::parse("id", &ada.id).unwrap();
    let user = store.user(&id).await.unwrap().unwrap();
    assert!(user.password.as_str().starts_with("$argon2id$") && !format!("{user:?}").contains("$argon2id$"));
    let key = &store.signing_keys().await.unwrap()[0];
    let another = CredentialCipher::new(&[8; 32]).unwrap();
    assert!(another.open_signing_key(&key.id, &key.sealed).is_err());
}

#[tokio::test]
async fn a_person_of_no_live_session_can_end_nothing() {
    let world = World::new().await;
    let ada = world.someone("ada").await;
    let person = Person {
        user: UserId::parse("id", &ada.id).unwrap(),
        session: SessionId::from_random([9; 16]),
        workspace: None,
        role: None,
    };
    let refused = world.people.end_session(&person, &person.session, &Origin::default()).await.unwrap_err();
    assert_eq!(refused.reason, Reason::ResourceNotFound);
}
