//! What every audit trail promises, whoever writes it: the stores of what is changed, and the one that
//! reads.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use rateguard_core::ids::{KeyId, RequestId};
use rateguard_engine::audit::{
    Actor, AuditEntry, AuditKind, Deed, INSTALLATION_CHAIN, MASKED, MASKED_CHANGED, Origin, verify,
};
use rateguard_engine::listing::SequenceQuery;
use rateguard_engine::people::{PasswordHash, Role};
use rateguard_engine::ports::{
    AuditFilter, AuditQuery, AuditStore, ConfigStore, ExternalIdentity, MemberChange, PeopleStore, Refreshed,
    Resource, ResourceChange, ResourceKind, StoreError,
};
use rateguard_engine::resources::SealedCredential;

use crate::Backend;
use crate::config_store::samples::{api, key, one_of_each, rule};
use crate::people_store::samples::{
    at, hashes, invitation, own, refreshing, session, session_id, signing_key, user, user_id, workspace, ws,
};

/// A promise is kept unless it panics or meets an error that it does not expect.
type Outcome = Result<(), StoreError>;

/// More than any case makes.
const LIMIT: usize = 1_000;
/// How often it is looked whether everything is witnessed, and for how long at most.
const WITNESS_POLL: Duration = Duration::from_millis(5);
const WITNESS_WAIT_MAX: Duration = Duration::from_secs(20);
/// Writers at once.
const WRITERS: u8 = 20;

/// The stores of one storage.
#[derive(Clone)]
pub struct Audited {
    /// Managed resources.
    pub config: Arc<dyn ConfigStore>,
    /// People.
    pub people: Arc<dyn PeopleStore>,
    /// The trail of both.
    pub audit: Arc<dyn AuditStore>,
}

/// Runs every case as a test of its own. `$backend` makes a fresh [`Backend`].
#[macro_export]
macro_rules! audit_store_suite {
    ($backend:expr) => {
        $crate::audit_store_suite!(@cases $backend;
            an_entry_says_who_did_what_from_where
            every_kind_of_resource_is_followed_through_its_life
            secrets_never_appear_and_a_new_one_is_told
            every_change_of_people_leaves_its_entries
            sessions_are_followed_from_their_beginning_to_their_end
            a_refused_change_leaves_no_entry
            workspaces_have_chains_of_their_own
            what_belongs_to_no_workspace_is_in_the_installations_chain
            entries_are_filtered_and_paged
            many_writers_at_once_make_one_chain
            changes_made_together_leave_an_entry_each
            a_restart_goes_on_with_the_chain
            what_is_shown_is_what_was_stored
        );
    };
    (@cases $backend:expr; $($case:ident)*) => {
        $(
            #[::tokio::test]
            async fn $case() -> Result<(), ::rateguard_engine::ports::StoreError> {
                $crate::audit_store::$case(&$backend).await
            }
        )*
    };
}

/// Who, by which method, from where, when, and by which request.
pub async fn an_entry_says_who_did_what_from_where<B: Backend<Store = Audited>>(backend: &B) -> Outcome {
    let store = with_ada(backend).await?;
    store.config.insert(&ws("ws_1"), Resource::Rule(rule("rule_1")), LIMIT, &by_key(7)).await?;
    let entry = last(&store, "ws_1").await?;
    assert_eq!((entry.actor_kind.as_str(), entry.actor_id.as_str()), ("key", "key_1"));
    assert_eq!(entry.method, "rateguard.v1.RuleService/CreateRule");
    assert_eq!((entry.kind.as_str(), entry.id.as_str()), ("rule", "rule_1"));
    assert_eq!((entry.ip.as_deref(), entry.request_id.as_deref()), (Some("2001:db8::7"), Some("req-1")));
    assert_eq!(entry.user_agent.as_deref(), Some("a client"));
    assert_eq!((entry.at, entry.workspace.as_str()), (at(7), "ws_1"));
    assert_eq!(entry.hash, entry.chained_hash());
    let gateway = Deed { actor: Actor::Gateway(key_id()), origin: Origin::default(), at: at(8) };
    store.config.remove(&ws("ws_1"), ResourceKind::Rule, "rule_1", None, &gateway).await?;
    let entry = last(&store, "ws_1").await?;
    assert_eq!((entry.actor_kind.as_str(), entry.ip, entry.request_id), ("gateway", None, None));
    sound(&store).await
}

/// Making shows what is, changing what was and is, removing what was.
pub async fn every_kind_of_resource_is_followed_through_its_life<B: Backend<Store = Audited>>(
    backend: &B,
) -> Outcome {
    let store = with_ada(backend).await?;
    for resource in one_of_each(1) {
        let (kind, id) = (resource.kind(), resource.id().to_owned());
        store.config.insert(&ws("ws_1"), resource.clone(), LIMIT, &by_key(2)).await?;
        let made = last(&store, "ws_1").await?;
        assert_eq!((made.id.as_str(), made.before.as_deref()), (id.as_str(), None));
        assert!(made.after.as_ref().is_some_and(|after| after.contains(&id)), "{made:?}");
        store.config.replace(&ws("ws_1"), resource, 1, &by_key(3)).await?;
        let changed = last(&store, "ws_1").await?;
        assert_eq!((&changed.before, &changed.after), (&made.after, &made.after));
        store.config.remove(&ws("ws_1"), kind, &id, Some(2), &by_key(4)).await?;
        let removed = last(&store, "ws_1").await?;
        assert_eq!((&removed.before, removed.after.as_deref()), (&made.after, None));
    }
    sound(&store).await
}

/// Hashes, sealed credentials and tokens stand in no entry. That a secret was replaced does.
pub async fn secrets_never_appear_and_a_new_one_is_told<B: Backend<Store = Audited>>(backend: &B) -> Outcome {
    let store = with_ada(backend).await?;
    let sealed = |byte| {
        let mut sealed = api("api_1", "one");
        sealed.credential = Some(SealedCredential(vec![byte; 40]));
        Resource::Api(sealed)
    };
    store.config.insert(&ws("ws_1"), sealed(0xa1), LIMIT, &by_key(2)).await?;
    assert!(last(&store, "ws_1").await?.after.is_some_and(|after| after.contains(MASKED)));
    store.config.replace(&ws("ws_1"), sealed(0xb2), 1, &by_key(3)).await?;
    assert!(last(&store, "ws_1").await?.after.is_some_and(|after| after.contains(MASKED_CHANGED)));
    store.config.insert(&ws("ws_1"), Resource::Key(key("key_1", 0xc3)), LIMIT, &by_key(4)).await?;
    store.config.replace(&ws("ws_1"), Resource::Key(key("key_1", 0xd4)), 1, &by_key(5)).await?;
    assert!(last(&store, "ws_1").await?.after.is_some_and(|after| after.contains(MASKED_CHANGED)));
    let ada = user("ada");
    store.people.set_password(&ada.id, &ada.password, PasswordHash::stored("new hash"), None, &by(6)).await?;
    let open = invitation(1, "ws_1", None, Role::Viewer);
    store.people.insert_invitation(open, [0xe5; 32], LIMIT, &by(7)).await?;
    store
        .people
        .begin_session(
            session(1, "ada"),
            &PasswordHash::stored("new hash"),
            hashes(0xf6, 0xf7),
            LIMIT,
            &by(8),
        )
        .await?;
    store.people.add_signing_key(signing_key(0x17), None, &by(9)).await?;
    let mut entries = all(&store, Some("ws_1")).await?;
    entries.extend(all(&store, None).await?);
    let text = format!("{:?}", entries.iter().map(|entry| (&entry.before, &entry.after)).collect::<Vec<_>>());
    for byte in ["a1", "b2", "c3", "d4", "e5", "f6", "f7"] {
        assert!(!text.contains(&byte.repeat(4)), "{byte} of {text}");
    }
    assert!(
        !text.contains("hash of ada") && !text.contains("new hash") && !text.contains("sealed"),
        "{text}"
    );
    sound(&store).await
}

/// Accounts, workspaces, members and invitations, each with who they are about.
pub async fn every_change_of_people_leaves_its_entries<B: Backend<Store = Audited>>(backend: &B) -> Outcome {
    let store = with_ada(backend).await?;
    let (people, one) = (&store.people, ws("ws_1"));
    people.insert_invitation(invitation(1, "ws_1", None, Role::Admin), [1; 32], LIMIT, &by(2)).await?;
    let joining = rateguard_engine::ports::Joining::Invited([1; 32]);
    people.create_user(user("bob"), joining, LIMIT, &by(11)).await?;
    let name = workspace("ws_new").name;
    people.rename_workspace(&one, &name, None, &by(12)).await?;
    people.transfer(&one, &user_id("ada"), &user_id("bob"), &by(13)).await?.expect("an owner may");
    people.insert_invitation(invitation(2, "ws_1", None, Role::Viewer), [2; 32], LIMIT, &by(14)).await?;
    let leave = MemberChange {
        workspace: one.clone(),
        actor: user_id("ada"),
        member: user_id("ada"),
        role: None,
        expected: None,
    };
    people.change_member(leave, &by(15)).await?.expect("anybody may leave");
    let told = told(&store, Some("ws_1")).await?;
    let expected = [
        ("workspace", false, true),
        ("member", false, true),
        ("user", false, true),
        ("invitation", false, true),
        ("member", false, true),
        ("invitation", true, false),
        ("user", false, true),
        ("workspace", true, true),
        ("member", true, true),
        ("member", true, true),
        ("invitation", false, true),
        // With the right to invite goes what was invited.
        ("invitation", true, false),
        ("member", true, false),
    ];
    let expected = expected.map(|(kind, before, after)| (kind.to_owned(), before, after));
    assert_eq!(told, expected);
    let roles = all(&store, Some("ws_1")).await?;
    assert!(
        roles.iter().any(|entry| entry.after.as_deref() == Some(r#"{"role":"admin","user_id":"user_ada"}"#))
    );
    sound(&store).await
}

/// Logging in, moving, logging out, a new password, an identity that is linked, and an old refresh token.
pub async fn sessions_are_followed_from_their_beginning_to_their_end<B: Backend<Store = Audited>>(
    backend: &B,
) -> Outcome {
    let store = with_ada(backend).await?;
    let people = &store.people;
    let begun = all(&store, Some("ws_1")).await?.len();
    let in_place = |number| {
        let mut session = session(number, "ada");
        session.workspace = Some(ws("ws_1"));
        session
    };
    for number in 1..=4 {
        people
            .begin_session(in_place(number), &user("ada").password, hashes(number, number), LIMIT, &by(10))
            .await?;
    }
    people.end_session(&user_id("ada"), &session_id(1), &by(11)).await?;
    people.refresh_session(refreshing(2, 2, 20), &by(12)).await?;
    let reused = people.refresh_session(refreshing(2, 2, 21), &by(13)).await?;
    assert_eq!(reused, Refreshed::Reused(session_id(2)));
    let ada = user("ada");
    let new = PasswordHash::stored("new");
    people.set_password(&ada.id, &ada.password, new, Some(&session_id(3)), &by(14)).await?;
    let issuer = "https://id.example.com".to_owned();
    let identity = ExternalIdentity { issuer, subject: "ada-1".to_owned() };
    people.link_identity(&user_id("ada"), &session_id(3), identity.clone(), LIMIT, &by(15)).await?;
    // What is linked already is no change.
    people.link_identity(&user_id("ada"), &session_id(3), identity, LIMIT, &by(15)).await?;
    people.move_session(&session_id(3), &ws("ws_1"), &by(15)).await?;
    let told = told(&store, Some("ws_1")).await?.split_off(begun);
    let session = |before, after| ("session".to_owned(), before, after);
    let mut expected = vec![session(false, true); 4];
    // Logged out; ended by an old token, not by the rotation before.
    expected.extend([session(true, false), session(true, false)]);
    expected.extend([("user".to_owned(), true, true), session(true, false)]);
    expected.extend([("user".to_owned(), false, true), session(true, true)]);
    assert_eq!(told, expected);
    // What ends by its time is told by when it began.
    people.sweep_people(at(9_000), at(0)).await?;
    assert_eq!(all(&store, Some("ws_1")).await?.len(), begun + expected.len());
    sound(&store).await
}

/// Nothing is written of what was not done.
pub async fn a_refused_change_leaves_no_entry<B: Backend<Store = Audited>>(backend: &B) -> Outcome {
    let store = with_ada(backend).await?;
    store.config.insert(&ws("ws_1"), Resource::Rule(rule("rule_1")), LIMIT, &by_key(2)).await?;
    let before = (all(&store, Some("ws_1")).await?, all(&store, None).await?);
    let (one, deed, ada) = (ws("ws_1"), by_key(3), user("ada"));
    let refusals = [
        store.config.insert(&one, Resource::Rule(rule("rule_1")), LIMIT, &deed).await.map(drop),
        store.config.insert(&one, Resource::Rule(rule("rule_2")), 1, &deed).await.map(drop),
        store.config.replace(&one, Resource::Rule(rule("rule_1")), 7, &deed).await.map(drop),
        store.config.remove(&one, ResourceKind::Rule, "rule_9", None, &deed).await,
        store.people.create_user(ada.clone(), own("ws_9"), LIMIT, &deed).await.map(drop),
        store.people.create_workspace(workspace("ws_9"), &ada.id, 1, &deed).await.map(drop),
        store
            .people
            .set_password(&ada.id, &PasswordHash::stored("x"), ada.password.clone(), None, &deed)
            .await,
        store.people.end_session(&ada.id, &session_id(9), &deed).await,
        store.people.move_session(&session_id(9), &one, &deed).await,
        store.people.remove_invitation(&one, &invitation(9, "ws_1", None, Role::Viewer).id, &deed).await,
    ];
    assert!(refusals.iter().all(Result::is_err), "{refusals:?}");
    assert_eq!(store.people.refresh_session(refreshing(9, 9, 9), &deed).await?, Refreshed::Unknown);
    assert_eq!((all(&store, Some("ws_1")).await?, all(&store, None).await?), before);
    assert_eq!(all(&store, Some("ws_9")).await?, []);
    sound(&store).await
}

/// Each workspace counts its own entries and sees no other's.
pub async fn workspaces_have_chains_of_their_own<B: Backend<Store = Audited>>(backend: &B) -> Outcome {
    let store = with_ada(backend).await?;
    store.people.create_user(user("bob"), own("ws_2"), LIMIT, &by(2)).await?;
    store.config.insert(&ws("ws_2"), Resource::Rule(rule("rule_1")), LIMIT, &by_key(3)).await?;
    for name in ["ws_1", "ws_2"] {
        let entries = all(&store, Some(name)).await?;
        assert!(entries.iter().all(|entry| entry.workspace == name), "{entries:?}");
        let places: Vec<u64> = entries.iter().map(|entry| entry.sequence).collect();
        assert_eq!(places, (1..=entries.len() as u64).collect::<Vec<_>>());
    }
    assert_eq!(all(&store, Some("ws_2")).await?.len(), 1 + all(&store, Some("ws_1")).await?.len());
    sound(&store).await
}

/// Signing keys, and sessions and passwords that belong to no workspace.
pub async fn what_belongs_to_no_workspace_is_in_the_installations_chain<B: Backend<Store = Audited>>(
    backend: &B,
) -> Outcome {
    let store = with_ada(backend).await?;
    let [one, two, three] = [1, 2, 3].map(signing_key);
    store.people.add_signing_key(one.clone(), None, &by(2)).await?;
    store.people.add_signing_key(two.clone(), Some(&one.id), &by(3)).await?;
    store.people.add_signing_key(three, Some(&two.id), &by(4)).await?;
    store
        .people
        .begin_session(session(1, "ada"), &user("ada").password, hashes(1, 1), LIMIT, &by(10))
        .await?;
    let key = |before, after| ("signing_key".to_owned(), before, after);
    let begun = ("session".to_owned(), false, true);
    let expected = [key(false, true), key(false, true), key(true, false), key(false, true), begun];
    assert_eq!(told(&store, None).await?, expected);
    let entries = all(&store, None).await?;
    assert!(entries.iter().all(|entry| entry.workspace == INSTALLATION_CHAIN));
    sound(&store).await
}

fn all_of_it() -> SequenceQuery {
    SequenceQuery { limit: LIMIT, ..SequenceQuery::default() }
}

/// By who, what, which and when; the newest first unless asked otherwise.
pub async fn entries_are_filtered_and_paged<B: Backend<Store = Audited>>(backend: &B) -> Outcome {
    let store = with_ada(backend).await?;
    for number in 1..=5 {
        let resource = Resource::Rule(rule(&format!("rule_{number}")));
        store.config.insert(&ws("ws_1"), resource, LIMIT, &by_key(100 + number)).await?;
    }
    let ids = async |filter: AuditFilter| {
        let query = AuditQuery { filter, part: all_of_it() };
        let entries = store.audit.audit_entries(Some(&ws("ws_1")), &query).await?;
        Ok::<_, StoreError>(entries.into_iter().map(|entry| entry.id).collect::<Vec<_>>())
    };
    let rules = ids(AuditFilter { kind: Some(AuditKind::Rule), ..AuditFilter::default() }).await?;
    assert_eq!(rules, ["rule_5", "rule_4", "rule_3", "rule_2", "rule_1"]);
    let of_key = AuditFilter { actor_id: Some("key_1".to_owned()), ..AuditFilter::default() };
    assert_eq!(ids(of_key).await?, rules);
    let of_one = AuditFilter { id: Some("rule_3".to_owned()), ..AuditFilter::default() };
    assert_eq!(ids(of_one.clone()).await?, ["rule_3"]);
    let when = AuditFilter { at: Some(at(102)..at(104)), ..AuditFilter::default() };
    assert_eq!(ids(when).await?, ["rule_3", "rule_2"]);
    let nobody = AuditFilter { actor_id: Some("key_2".to_owned()), ..of_one };
    assert_eq!(ids(nobody).await?, [""; 0]);
    let whole = all(&store, Some("ws_1")).await?;
    let part = SequenceQuery { oldest_first: false, after: Some(whole[3].sequence), limit: 2 };
    let query = AuditQuery { part, ..AuditQuery::default() };
    let page = store.audit.audit_entries(Some(&ws("ws_1")), &query).await?;
    assert_eq!(page, [whole[2].clone(), whole[1].clone()]);
    let query = AuditQuery { part: SequenceQuery { oldest_first: true, ..part }, ..AuditQuery::default() };
    let page = store.audit.audit_entries(Some(&ws("ws_1")), &query).await?;
    assert_eq!(page, [whole[4].clone(), whole[5].clone()]);
    Ok(())
}

/// Changes of both stores at once stand one after the other.
pub async fn many_writers_at_once_make_one_chain<B: Backend<Store = Audited>>(backend: &B) -> Outcome {
    let store = with_ada(backend).await?;
    let before = all(&store, Some("ws_1")).await?.len();
    let writers = (1..=WRITERS).map(|number| {
        let store = store.clone();
        async move {
            if number % 2 == 0 {
                let open = invitation(number, "ws_1", None, Role::Viewer);
                return store.people.insert_invitation(open, [number; 32], LIMIT, &by(10)).await;
            }
            let rule = Resource::Rule(rule(&format!("rule_{number}")));
            store.config.insert(&ws("ws_1"), rule, LIMIT, &by_key(10)).await.map(drop)
        }
    });
    for written in join_all(writers).await {
        written?;
    }
    assert_eq!(all(&store, Some("ws_1")).await?.len(), before + usize::from(WRITERS));
    sound(&store).await
}

/// Changes of one transaction stand one after the other, each with what was before it.
pub async fn changes_made_together_leave_an_entry_each<B: Backend<Store = Audited>>(backend: &B) -> Outcome {
    let store = with_ada(backend).await?;
    let before = last(&store, "ws_1").await?.sequence;
    let at_priority = |priority| Resource::Rule(rateguard_core::rule::Rule { priority, ..rule("rule_1") });
    let changes = vec![
        ResourceChange::Insert { resource: at_priority(1), limit: LIMIT },
        ResourceChange::Replace { resource: at_priority(2), expected: 1 },
        ResourceChange::Remove { kind: ResourceKind::Rule, id: "rule_1".to_owned(), expected: Some(2) },
    ];
    store.config.apply_all(&ws("ws_1"), changes, 0, &by_key(2)).await?;
    let entries = all(&store, Some("ws_1")).await?;
    let [made, changed, removed] = &entries[entries.len() - 3..] else { panic!("{entries:?}") };
    assert_eq!((made.sequence, removed.sequence), (before + 1, before + 3));
    assert_eq!((&made.before, &changed.before), (&None, &made.after));
    assert_eq!((&removed.before, &removed.after), (&changed.after, &None));
    assert_ne!(made.after, changed.after);
    sound(&store).await
}

/// The next entry follows the last one from before.
pub async fn a_restart_goes_on_with_the_chain<B: Backend<Store = Audited>>(backend: &B) -> Outcome {
    let store = with_ada(backend).await?;
    let before = last(&store, "ws_1").await?;
    backend.close(store).await;
    let store = backend.open().await;
    store.config.insert(&ws("ws_1"), Resource::Rule(rule("rule_1")), LIMIT, &by_key(9)).await?;
    let next = last(&store, "ws_1").await?;
    assert_eq!((next.sequence, next.previous_hash), (before.sequence + 1, before.hash));
    sound(&store).await
}

/// Text is shown as it is, whatever JSON has to escape.
pub async fn what_is_shown_is_what_was_stored<B: Backend<Store = Audited>>(backend: &B) -> Outcome {
    let store = with_ada(backend).await?;
    let mut odd = rule("rule_1");
    odd.name = rateguard_core::ids::DisplayName::parse("name", "\"quoted\" \\ ünïcode").expect("is valid");
    store.config.insert(&ws("ws_1"), Resource::Rule(odd), LIMIT, &by_key(2)).await?;
    let shown = last(&store, "ws_1").await?.after.unwrap_or_default();
    assert!(shown.contains(r#"\"quoted\" \\ ünïcode"#), "{shown}");
    sound(&store).await
}

async fn with_ada<B: Backend<Store = Audited>>(backend: &B) -> Result<Audited, StoreError> {
    let store = backend.open().await;
    store.people.create_user(user("ada"), own("ws_1"), LIMIT, &by(1)).await?;
    Ok(store)
}

/// The entries of a chain, the oldest first.
async fn all(store: &Audited, workspace: Option<&str>) -> Result<Vec<AuditEntry>, StoreError> {
    let workspace = workspace.map(ws);
    let query = AuditQuery { part: all_of_it(), ..AuditQuery::default() };
    let mut entries = store.audit.audit_entries(workspace.as_ref(), &query).await?;
    entries.reverse();
    Ok(entries)
}

async fn last(store: &Audited, workspace: &str) -> Result<AuditEntry, StoreError> {
    Ok(all(store, Some(workspace)).await?.pop().expect("there is an entry"))
}

/// What kind of thing each entry is about, and whether it was before and is after.
async fn told(store: &Audited, workspace: Option<&str>) -> Result<Vec<(String, bool, bool)>, StoreError> {
    let entries = all(store, workspace).await?;
    Ok(entries.into_iter().map(|entry| (entry.kind, entry.before.is_some(), entry.after.is_some())).collect())
}

/// The whole trail verifies, at once and when everything in it is witnessed, which is soon.
async fn sound(store: &Audited) -> Outcome {
    assert_eq!(verify(store.audit.as_ref(), &[]).await?.findings, []);
    let all_witnessed = async {
        while store.audit.witnessed_heads().await? != store.audit.audit_heads().await? {
            tokio::time::sleep(WITNESS_POLL).await;
        }
        Outcome::Ok(())
    };
    tokio::time::timeout(WITNESS_WAIT_MAX, all_witnessed).await.expect("everything is witnessed soon")?;
    let report = verify(store.audit.as_ref(), &[]).await?;
    assert_eq!(report.findings, []);
    assert!(!report.chains.is_empty());
    Ok(())
}

fn key_id() -> KeyId {
    KeyId::parse("id", "key_1").expect("a sample is valid")
}

fn by(ms: i64) -> Deed {
    crate::people_store::samples::by(ms)
}

fn by_key(ms: i64) -> Deed {
    let ip: IpAddr = "2001:db8::7".parse().expect("a sample is valid");
    let origin = Origin {
        service: "rateguard.v1.RuleService",
        method: "CreateRule",
        ip: Some(ip),
        user_agent: Some("a client".to_owned()),
        request_id: RequestId::parse("id", "req-1").ok(),
    };
    Deed { actor: Actor::Key(key_id()), origin, at: at(ms) }
}
