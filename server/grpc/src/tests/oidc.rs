//! Logging in through a provider, and everything that is no log-in.

use std::collections::BTreeSet;

use rateguard_engine::people::ExternalLogin;
use rateguard_proto::v1;
use rateguard_proto::v1::{AuditActorKind as Actor, AuditResourceKind as Kind, ErrorReason as R, Role};
use serde_json::{Value, json};
use tonic::{Code, Status};

use super::audit::listed;
use super::persons::{PASSWORD, Someone, login, registration, secret};
use super::provider::{CLIENT, Mood, Provider, Returned, Signing};
use super::world::{START_MS, World, reason};

/// A server with a provider.
struct Stage {
    world: World,
}

impl Stage {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut ExternalLogin)) -> Self {
        Self { world: World::with_provider(change).await }
    }

    fn provider(&self) -> &Provider {
        self.world.provider()
    }

    async fn begin(&self) -> Result<v1::BeginOidcLoginResponse, Status> {
        let answer = self.world.visitor().begin_oidc_login(v1::BeginOidcLoginRequest {}).await?;
        Ok(answer.into_inner())
    }

    async fn visit(&self) -> Returned {
        self.provider().visit(&self.begin().await.unwrap())
    }

    async fn complete(&self, returned: Returned) -> Result<v1::CompleteOidcLoginResponse, Status> {
        self.complete_with(returned, |_| {}).await
    }

    async fn complete_with(
        &self,
        returned: Returned,
        change: impl FnOnce(&mut v1::CompleteOidcLoginRequest),
    ) -> Result<v1::CompleteOidcLoginResponse, Status> {
        let mut request = v1::CompleteOidcLoginRequest {
            login_id: secret(&returned.login_id),
            code: secret(&returned.code),
            state: secret(&returned.state),
            ..v1::CompleteOidcLoginRequest::default()
        };
        change(&mut request);
        Ok(self.world.visitor().complete_oidc_login(request).await?.into_inner())
    }

    async fn log_in(&self) -> Result<v1::CompleteOidcLoginResponse, Status> {
        self.complete(self.visit().await).await
    }

    /// Why a log-in fails whose token says something else.
    async fn refused_saying(&self, claims: Value) -> R {
        self.provider().say(claims);
        reason(&self.log_in().await.unwrap_err())
    }

    async fn link(&self, person: &Someone, password: &str) -> Result<(), Status> {
        let returned = self.visit().await;
        let request = v1::LinkOidcRequest {
            login_id: secret(&returned.login_id),
            code: secret(&returned.code),
            state: secret(&returned.state),
            current_password: secret(password),
        };
        self.world.auth(person).link_oidc(request).await.map(drop)
    }
}

fn id(answer: v1::CompleteOidcLoginResponse) -> String {
    answer.user.unwrap().id
}

#[tokio::test]
async fn the_first_log_in_makes_an_account_and_the_next_one_finds_it() {
    let stage = Stage::new().await;
    let first = stage.log_in().await.unwrap();
    let (user, grant) = (first.user.unwrap(), first.grant.unwrap());
    assert_eq!((user.email.as_str(), user.display_name.as_str()), ("ada@example.com", "Ada Lovelace"));
    let access = grant.access_token.unwrap().value;
    let me = stage.world.me(&access).await.unwrap();
    let entries = listed(stage.world.transport_with(&access), v1::AuditEntryFilter::default()).await.unwrap();
    let methods: BTreeSet<String> = entries.into_iter().map(|entry| entry.method).collect();
    assert_eq!(methods, ["rateguard.v1.AuthService/CompleteOidcLogin".to_owned()].into());
    assert_eq!((me.role(), me.memberships.len()), (Role::Owner, 1));
    // The address may change at the provider; the person stays.
    stage.provider().say(json!({ "email": "lovelace@example.com" }));
    assert_eq!(id(stage.log_in().await.unwrap()), user.id);
    // Nobody knows a password of the account.
    let refused = stage.world.visitor().login(login("ada@example.com", PASSWORD)).await.unwrap_err();
    assert_eq!(reason(&refused), R::LoginRefused);
}

#[tokio::test]
async fn visitors_learn_whether_there_is_a_provider() {
    let stage = Stage::new().await;
    let methods = |world: &World| {
        let mut visitor = world.visitor();
        async move { visitor.get_auth_methods(v1::GetAuthMethodsRequest {}).await.unwrap().into_inner() }
    };
    let told = methods(&stage.world).await;
    assert_eq!((told.password, told.oidc, told.oidc_display_name.as_str()), (true, true, "Example"));
    let plain = World::new().await;
    assert!(!methods(&plain).await.oidc);
    let refused = plain.visitor().begin_oidc_login(v1::BeginOidcLoginRequest {}).await.unwrap_err();
    assert_eq!(reason(&refused), R::OidcNotConfigured);
}

#[tokio::test]
async fn a_log_in_is_good_once_for_whoever_began_it_and_for_ten_minutes() {
    let stage = Stage::new().await;
    let refused = async |returned| reason(&stage.complete(returned).await.unwrap_err());
    let (mine, other) = (stage.visit().await, stage.visit().await);
    assert_eq!(refused(Returned { state: other.state.clone(), ..mine.clone() }).await, R::LoginRefused);
    // It is spent by that.
    assert_eq!(refused(mine).await, R::LoginRefused);
    let stolen = Returned { login_id: format!("rgo_{}", "A".repeat(43)), ..other.clone() };
    assert_eq!(refused(stolen).await, R::LoginRefused);
    stage.complete(other.clone()).await.unwrap();
    assert_eq!(refused(other.clone()).await, R::LoginRefused);
    // Neither is the code good for another log-in.
    assert_eq!(refused(Returned { code: other.code, ..stage.visit().await }).await, R::LoginRefused);
    let injected = Returned { code: stage.visit().await.code, ..stage.visit().await };
    assert_eq!(refused(injected).await, R::LoginRefused);
    let late = stage.visit().await;
    stage.world.clock.advance_ms(600_000);
    assert_eq!(refused(late).await, R::LoginRefused);
}

#[tokio::test]
async fn a_token_that_says_something_else_is_refused() {
    let stage = Stage::new().await;
    let now = START_MS / 1_000;
    for claims in [
        json!({ "iss": "https://elsewhere.example.com" }),
        json!({ "aud": "another" }),
        json!({ "aud": [CLIENT, "another"] }),
        json!({ "aud": [CLIENT, "another"], "azp": "another" }),
        json!({ "azp": "another" }),
        json!({ "exp": now - 61 }),
        json!({ "iat": now + 61 }),
        json!({ "nbf": now + 61 }),
        json!({ "nonce": "another" }),
        json!({ "nonce": null }),
        json!({ "sub": "" }),
        json!({ "sub": "ada\u{0}" }),
        json!({ "sub": "a".repeat(256) }),
        json!({ "email_verified": false }),
        json!({ "email_verified": null }),
        json!({ "email_verified": "false" }),
        json!({ "email": null }),
        json!({ "email": "ada@evil.example" }),
        json!({ "email": "ada@sub.example.com" }),
        json!({ "email": "ada@example.com@evil.example" }),
    ] {
        assert_eq!(stage.refused_saying(claims.clone()).await, R::LoginRefused, "{claims}");
    }
    for claims in [
        json!({ "exp": now - 59, "iat": now + 59 }),
        json!({ "aud": [CLIENT, "another"], "azp": CLIENT }),
        json!({ "email_verified": "true" }),
    ] {
        stage.provider().say(claims);
        stage.log_in().await.unwrap();
    }
}

#[tokio::test]
async fn a_token_without_the_providers_signature_is_refused() {
    let stage = Stage::new().await;
    for signing in [Signing::Forged, Signing::Unsigned, Signing::Shared] {
        stage.provider().sign(signing);
        let refused = stage.log_in().await.unwrap_err();
        assert_eq!(reason(&refused), R::LoginRefused, "{signing:?}");
    }
    stage.provider().sign(Signing::Right);
    stage.log_in().await.unwrap();
}

#[tokio::test]
async fn a_new_key_of_the_provider_is_found_and_unknown_ones_are_not_asked_for_without_end() {
    let stage = Stage::new().await;
    stage.log_in().await.unwrap();
    stage.log_in().await.unwrap();
    assert_eq!(stage.provider().keys_fetched(), 1);
    stage.provider().rotate();
    stage.log_in().await.unwrap();
    assert_eq!(stage.provider().keys_fetched(), 2);
    stage.provider().sign(Signing::Forged);
    for _ in 0..3 {
        assert_eq!(reason(&stage.log_in().await.unwrap_err()), R::LoginRefused);
    }
    assert_eq!(stage.provider().keys_fetched(), 2);
}

#[tokio::test]
async fn a_provider_that_is_away_or_answers_nonsense_is_unavailable() {
    for mood in [Mood::Failing, Mood::Endless, Mood::Foreign] {
        let stage = Stage::new().await;
        stage.provider().be(mood);
        let away = stage.begin().await.unwrap_err();
        assert_eq!((away.code(), reason(&away)), (Code::Unavailable, R::ProviderUnavailable), "{mood:?}");
        stage.provider().be(Mood::Good);
        let returned = stage.visit().await;
        if mood != Mood::Foreign {
            stage.provider().be(mood);
            let away = stage.complete(returned).await.unwrap_err();
            assert_eq!(reason(&away), R::ProviderUnavailable, "{mood:?}");
        }
        stage.provider().be(Mood::Good);
        stage.log_in().await.unwrap();
    }
}

#[tokio::test]
async fn a_provider_that_says_nothing_is_unavailable_in_time() {
    let stage = Stage::new().await;
    stage.provider().be(Mood::Silent);
    tokio::time::pause();
    let away = stage.begin().await.unwrap_err();
    assert_eq!(reason(&away), R::ProviderUnavailable);
}

#[tokio::test]
async fn an_account_with_the_address_is_never_opened_unless_it_is_linked() {
    let stage = Stage::new().await;
    let ada = stage.world.registered(registration("ada@example.com")).await.unwrap();
    assert_eq!(reason(&stage.log_in().await.unwrap_err()), R::AccountNotLinked);
    assert_eq!(reason(&stage.link(&ada, "another password").await.unwrap_err()), R::LoginRefused);
    stage.link(&ada, PASSWORD).await.unwrap();
    stage.link(&ada, PASSWORD).await.unwrap();
    assert_eq!(id(stage.log_in().await.unwrap()), ada.id);
    let bob = stage.world.someone("bob").await;
    assert_eq!(reason(&stage.link(&bob, PASSWORD).await.unwrap_err()), R::IdentityTaken);
}

#[tokio::test]
async fn linking_leaves_an_entry_where_the_person_is_at_work() {
    let stage = Stage::new().await;
    let ada = stage.world.registered(registration("ada@example.com")).await.unwrap();
    stage.link(&ada, PASSWORD).await.unwrap();
    // What is linked already is no change, and what is refused is none.
    stage.link(&ada, PASSWORD).await.unwrap();
    stage.link(&ada, "another password").await.unwrap_err();
    let entries = listed(stage.world.transport_with(&ada.access), v1::AuditEntryFilter::default()).await;
    let mut entries = entries.unwrap();
    entries.retain(|entry| entry.method == "rateguard.v1.AuthService/LinkOidc");
    let [entry] = &entries[..] else { panic!("{entries:?}") };
    assert_eq!((&entry.actor_id, &entry.resource_id), (&ada.id, &ada.id));
    assert_eq!((entry.actor_kind(), entry.resource_kind()), (Actor::Person, Kind::User));
    let (before, after) = (&entry.before_json, serde_json::from_str::<Value>(&entry.after_json).unwrap());
    assert_eq!((before.as_str(), &after["external_identity"]["subject"]), ("", &json!("ada-1")));
}

#[tokio::test]
async fn an_invitation_by_mail_is_for_its_address_at_the_provider_too() {
    let stage = Stage::new().await;
    let bob = stage.world.someone("bob").await;
    let invite = v1::InviteMemberRequest {
        email: "eve@example.com".to_owned(),
        role: Role::Viewer.into(),
        ..Default::default()
    };
    stage.world.members(&bob).invite_member(invite).await.unwrap();
    let mail = stage.world.outbox.sent.lock().unwrap().pop().unwrap();
    let token = mail.text.expose().split("#token=").nth(1).and_then(|rest| rest.lines().next()).unwrap();
    let stolen = stage.complete_with(stage.visit().await, |r| r.invitation_token = secret(token)).await;
    assert_eq!(reason(&stolen.unwrap_err()), R::InvitationUnknown);
    let eve = stage.provider().visit_as(&stage.begin().await.unwrap(), "eve-1", "eve@example.com");
    let joined = stage.complete_with(eve, |r| r.invitation_token = secret(token)).await.unwrap();
    assert_eq!(joined.grant.unwrap().workspace_id, bob.workspace);
}

#[tokio::test]
async fn whoever_has_no_account_gets_none_where_none_are_made() {
    let stage = Stage::with(|login| login.create_accounts = false).await;
    let unknown = stage.log_in().await.unwrap_err();
    let ada = stage.world.registered(registration("ada@example.com")).await.unwrap();
    let known = stage.log_in().await.unwrap_err();
    // Both are told the same.
    assert_eq!((reason(&unknown), unknown.message()), (R::AccountNotLinked, known.message()));
    stage.link(&ada, PASSWORD).await.unwrap();
    stage.log_in().await.unwrap();
}

#[tokio::test]
async fn a_new_person_joins_by_invitation_and_chooses_among_their_workspaces_later() {
    let stage = Stage::new().await;
    let bob = stage.world.someone("bob").await;
    let token = stage.world.invitation(&bob, Role::Viewer).await;
    let unknown = stage.complete_with(stage.visit().await, |r| r.invitation_token = secret("rgi_x")).await;
    assert_eq!(reason(&unknown.unwrap_err()), R::InvitationUnknown);
    let joined = stage.complete_with(stage.visit().await, |r| r.invitation_token = secret(&token)).await;
    assert_eq!(joined.unwrap().grant.unwrap().workspace_id, bob.workspace);
    let elsewhere = stage.world.workspace.to_string();
    let refused = stage.complete_with(stage.visit().await, |r| r.workspace_id = elsewhere).await;
    assert_eq!(reason(&refused.unwrap_err()), R::RoleMissing);
}

#[tokio::test]
async fn what_somebody_comes_back_with_is_checked() {
    let stage = Stage::new().await;
    for change in [
        (|r| r.login_id = None) as fn(&mut v1::CompleteOidcLoginRequest),
        |r| r.code = None,
        |r| r.state = None,
    ] {
        let refused = stage.complete_with(stage.visit().await, change).await.unwrap_err();
        assert_eq!(reason(&refused), R::FieldMissing);
    }
}

#[tokio::test]
async fn log_ins_are_counted_with_all_others_of_a_place() {
    let stage = Stage::new().await;
    let mut begun = 0;
    let refused = loop {
        match stage.begin().await {
            Ok(_) => begun += 1,
            Err(refused) => break refused,
        }
    };
    assert_eq!((begun, reason(&refused)), (120, R::TooManyAttempts));
}
