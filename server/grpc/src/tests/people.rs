//! Accounts, sessions, roles, invitations and ownership, as people see them.

use rateguard_engine::audit::Deed;
use rateguard_engine::people::{PasswordHash, Policy, Registration};
use rateguard_engine::ports::PeopleStore;
use rateguard_proto::v1;
use rateguard_proto::v1::api_service_client::ApiServiceClient;
use rateguard_proto::v1::quota_service_client::QuotaServiceClient;
use rateguard_proto::v1::rule_service_client::RuleServiceClient;
use rateguard_proto::v1::{ErrorReason as R, Role};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::persons::{PASSWORD, Someone, login, registration, secret, tokens};
use super::world::{ACCESS_MS, REFRESH_MS, World, policy, reason, told};

fn refused<T: std::fmt::Debug>(answer: Result<T, Status>) -> R {
    reason(&answer.unwrap_err())
}

async fn list_apis(world: &World, access: &str) -> Result<usize, Status> {
    let mut client = ApiServiceClient::new(world.transport_with(access));
    Ok(client.list_apis(v1::ListApisRequest::default()).await?.into_inner().apis.len())
}

#[tokio::test]
async fn a_person_registers_and_is_the_owner_of_a_workspace() {
    let world = World::new().await;
    let ada = world.someone("Ada").await;
    assert_eq!(ada.email, "ada@example.com");
    let me = world.me(&ada.access).await.unwrap();
    assert_eq!(me.user.unwrap().id, ada.id);
    assert_eq!((me.workspace_id, me.role), (ada.workspace.clone(), Role::Owner.into()));
    assert_eq!(me.memberships.len(), 1);
    assert_eq!(list_apis(&world, &ada.access).await.unwrap(), 0);
    assert_eq!(refused(world.registered(registration("ADA@example.com")).await), R::EmailTaken);
}

#[tokio::test]
async fn what_a_person_registers_with_is_checked() {
    let world = World::new().await;
    let with = |change: fn(&mut v1::RegisterRequest)| {
        let mut request = registration("ada@example.com");
        change(&mut request);
        world.registered(request)
    };
    let field = |answer: Result<Someone, Status>| told(&answer.unwrap_err()).2;
    assert_eq!(field(with(|r| r.email = "ada".to_owned()).await), "email");
    assert_eq!(field(with(|r| r.email.clear()).await), "email");
    assert_eq!(field(with(|r| r.password = secret("too short")).await), "password");
    assert_eq!(field(with(|r| r.password = None).await), "password");
    assert_eq!(field(with(|r| r.display_name.clear()).await), "display_name");
    assert_eq!(field(with(|r| r.time_zone = "Mars/Olympus".to_owned()).await), "time_zone");
    assert_eq!(field(with(|r| r.currency_code = "euros".to_owned()).await), "currency_code");
    assert_eq!(refused(with(|r| r.invitation_token = secret("rgi_x")).await), R::InvitationUnknown);
    world.registered(registration("ada@example.com")).await.unwrap();
}

#[tokio::test]
async fn registration_is_as_open_as_the_installation_says() {
    let closed = World::with_policy(Policy { registration: Registration::Closed, ..policy() }).await;
    assert_eq!(refused(closed.registered(registration("a@example.com")).await), R::RegistrationClosed);
    let invited = World::with_policy(Policy { registration: Registration::InviteOnly, ..policy() }).await;
    assert_eq!(refused(invited.registered(registration("a@example.com")).await), R::RegistrationClosed);
    let with_token =
        v1::RegisterRequest { invitation_token: secret("rgi_x"), ..registration("a@example.com") };
    assert_eq!(refused(invited.registered(with_token).await), R::InvitationUnknown);
}

#[tokio::test]
async fn whoever_makes_an_invitation_up_learns_of_no_account() {
    let world = World::new().await;
    world.someone("ada").await;
    // 32 bytes, as a token has them.
    let made_up = format!("rgi_{}", "A".repeat(43));
    let with =
        |email: &str| v1::RegisterRequest { invitation_token: secret(&made_up), ..registration(email) };
    let known = world.registered(with("ada@example.com")).await.unwrap_err();
    let unknown = world.registered(with("bob@example.com")).await.unwrap_err();
    assert_eq!(told(&known), (Code::NotFound, R::InvitationUnknown, String::new()));
    assert_eq!((known.message(), known.details()), (unknown.message(), unknown.details()));
}

#[tokio::test]
async fn an_unknown_address_and_a_wrong_password_are_answered_alike() {
    let world = World::new().await;
    world.someone("ada").await;
    let wrong = world.visitor().login(login("ada@example.com", "wrong password")).await.unwrap_err();
    let unknown = world.visitor().login(login("bob@example.com", PASSWORD)).await.unwrap_err();
    assert_eq!(told(&wrong), (Code::Unauthenticated, R::LoginRefused, String::new()));
    assert_eq!(wrong.message(), unknown.message());
    assert_eq!(wrong.details(), unknown.details());
    let right = world.visitor().login(login("Ada@Example.com", PASSWORD)).await.unwrap().into_inner();
    assert_eq!(right.user.unwrap().email, "ada@example.com");
}

#[tokio::test]
async fn log_ins_are_limited_and_the_wait_is_told() {
    let world = World::new().await;
    world.someone("ada").await;
    let mut last = None;
    for _ in 0..12 {
        let status = world.visitor().login(login("ada@example.com", "wrong password")).await.unwrap_err();
        last = Some(status);
    }
    let last = last.unwrap();
    assert_eq!((last.code(), reason(&last)), (Code::ResourceExhausted, R::TooManyAttempts));
    // The right password is not even tried.
    let right = world.visitor().login(login("ada@example.com", PASSWORD)).await.unwrap_err();
    assert_eq!(reason(&right), R::TooManyAttempts);
    let wait = right.get_error_details().retry_info().unwrap().retry_delay.unwrap();
    world.clock.advance_ms(i64::try_from(wait.as_millis()).unwrap());
    world.visitor().login(login("ada@example.com", PASSWORD)).await.unwrap();
}

#[tokio::test]
async fn a_hash_of_bcrypt_is_replaced_when_its_owner_logs_in() {
    let world = World::new().await;
    let ada = world.someone("ada").await;
    let store = world.config.people();
    let id = rateguard_core::ids::UserId::parse("id", &ada.id).unwrap();
    let stored = store.user(&id).await.unwrap().unwrap();
    // Of the password "imported password", with a cost of 4.
    let imported = PasswordHash::stored(&bcrypt::hash("imported password", 4).unwrap());
    let deed = Deed::of_server("Test", world.engine.now());
    store.set_password(&id, &stored.password, imported, None, &deed).await.unwrap();
    world.visitor().login(login("ada@example.com", "imported password")).await.unwrap();
    let after = store.user(&id).await.unwrap().unwrap();
    assert!(after.password.as_str().starts_with("$argon2id$"));
    world.visitor().login(login("ada@example.com", "imported password")).await.unwrap();
}

#[tokio::test]
async fn a_refresh_token_is_rotated_and_an_old_one_ends_the_family() {
    let world = World::new().await;
    let ada = world.someone("ada").await;
    let other = tokens(world.visitor().login(login(&ada.email, PASSWORD)).await.unwrap().into_inner().grant);
    let (access, second, workspace) = world.refreshed(&ada.refresh).await.unwrap();
    assert_ne!(second, ada.refresh);
    assert_eq!(workspace, ada.workspace);
    world.me(&access).await.unwrap();
    let (_, third, _) = world.refreshed(&second).await.unwrap();
    assert_eq!(refused(world.refreshed(&ada.refresh).await), R::SessionEnded);
    // The newest of the family is worth nothing now, and neither is any access token of it.
    assert_eq!(refused(world.refreshed(&third).await), R::SessionEnded);
    assert_eq!(refused(world.me(&access).await), R::SessionEnded);
    assert_eq!(refused(world.me(&ada.access).await), R::SessionEnded);
    world.me(&other.0).await.unwrap();
    assert_eq!(refused(world.refreshed("rgr_nonsense").await), R::SessionEnded);
}

#[tokio::test]
async fn tokens_stop_in_time() {
    let world = World::new().await;
    let ada = world.someone("ada").await;
    world.clock.advance_ms(ACCESS_MS - 1);
    world.me(&ada.access).await.unwrap();
    world.clock.advance_ms(1);
    assert_eq!(refused(world.me(&ada.access).await), R::SessionEnded);
    let (_, refresh, _) = world.refreshed(&ada.refresh).await.unwrap();
    world.clock.advance_ms(REFRESH_MS);
    assert_eq!(refused(world.refreshed(&refresh).await), R::SessionEnded);
}

#[tokio::test]
async fn sessions_are_listed_and_revoked_at_once() {
    let world = World::new().await;
    let ada = world.someone("ada").await;
    world.clock.advance_ms(1_000);
    let phone = tokens(world.visitor().login(login(&ada.email, PASSWORD)).await.unwrap().into_inner().grant);
    let mut client = world.auth(&ada);
    let listed =
        client.list_sessions(v1::ListSessionsRequest::default()).await.unwrap().into_inner().sessions;
    let current: Vec<bool> = listed.iter().map(|session| session.current).collect();
    assert_eq!(current, [false, true]);
    let id = listed[0].id.clone();
    let bob = world.someone("bob").await;
    let request = || v1::RevokeSessionRequest { id: id.clone() };
    assert_eq!(refused(world.auth(&bob).revoke_session(request()).await), R::ResourceNotFound);
    client.revoke_session(request()).await.unwrap();
    assert_eq!(refused(world.me(&phone.0).await), R::SessionEnded);
    assert_eq!(refused(list_apis(&world, &phone.0).await), R::SessionEnded);
    assert_eq!(refused(client.revoke_session(request()).await), R::ResourceNotFound);
    world.me(&ada.access).await.unwrap();
    client.logout(v1::LogoutRequest {}).await.unwrap();
    assert_eq!(refused(world.me(&ada.access).await), R::SessionEnded);
    assert_eq!(refused(world.refreshed(&ada.refresh).await), R::SessionEnded);
}

#[tokio::test]
async fn a_new_password_ends_the_other_sessions() {
    let world = World::new().await;
    let ada = world.someone("ada").await;
    let phone = tokens(world.visitor().login(login(&ada.email, PASSWORD)).await.unwrap().into_inner().grant);
    let change = |current: &str, new: &str| v1::ChangePasswordRequest {
        current_password: secret(current),
        new_password: secret(new),
    };
    let mut client = world.auth(&ada);
    assert_eq!(
        refused(client.change_password(change("wrong password", "another password")).await),
        R::LoginRefused
    );
    assert_eq!(refused(client.change_password(change(PASSWORD, "short")).await), R::FieldOutOfBounds);
    client.change_password(change(PASSWORD, "another password")).await.unwrap();
    world.me(&ada.access).await.unwrap();
    assert_eq!(refused(world.me(&phone.0).await), R::SessionEnded);
    assert_eq!(refused(world.visitor().login(login(&ada.email, PASSWORD)).await), R::LoginRefused);
    world.visitor().login(login(&ada.email, "another password")).await.unwrap();
}

#[tokio::test]
async fn a_token_that_is_changed_or_made_up_is_unknown() {
    let world = World::new().await;
    let ada = world.someone("ada").await;
    let mut forged = ada.access.clone();
    forged.replace_range(20..21, if &ada.access[20..21] == "A" { "B" } else { "A" });
    for token in [forged.as_str(), "v4.public.", "v4.public.e30", "eyJhbGciOiJub25lIn0.e30.", &ada.refresh] {
        assert_eq!(refused(world.me(token).await), R::CredentialUnknown, "{token}");
    }
}

#[tokio::test]
async fn a_key_is_no_person_and_a_person_is_no_key() {
    let world = World::new().await;
    let ada = world.someone("ada").await;
    assert_eq!(refused(world.me(&world.key).await), R::PersonOnly);
    let check = v1::CheckQuotaRequest::default();
    let mut client = QuotaServiceClient::new(world.transport_with(&ada.access));
    assert_eq!(refused(client.check_quota(check).await), R::RoleMissing);
}

#[tokio::test]
async fn what_a_person_may_do_goes_by_their_role() {
    let world = World::new().await;
    let owner = world.someone("owner").await;
    let admin = world.invited_by(&owner, "admin", Role::Admin).await;
    let member = world.invited_by(&owner, "member", Role::Member).await;
    let viewer = world.invited_by(&owner, "viewer", Role::Viewer).await;
    for (person, may_limit, may_manage) in
        [(&viewer, false, false), (&member, true, false), (&admin, true, true), (&owner, true, true)]
    {
        assert_eq!(list_apis(&world, &person.access).await.unwrap(), 0, "{}", person.email);
        let mut rules = RuleServiceClient::new(world.transport_with(&person.access));
        let limited = refused(rules.create_rule(v1::CreateRuleRequest::default()).await);
        assert_eq!(limited == R::FieldMissing, may_limit, "{}: {limited:?}", person.email);
        let mut apis = ApiServiceClient::new(world.transport_with(&person.access));
        let managed = refused(apis.create_api(v1::CreateApiRequest::default()).await);
        assert_eq!(managed == R::FieldMissing, may_manage, "{}: {managed:?}", person.email);
        let listed = world.members(person).list_invitations(v1::ListInvitationsRequest::default()).await;
        assert_eq!(listed.is_ok(), may_manage, "{}", person.email);
    }
}

#[tokio::test]
async fn a_role_that_changes_counts_for_tokens_that_are_out_already() {
    let world = World::new().await;
    let owner = world.someone("owner").await;
    let admin = world.invited_by(&owner, "admin", Role::Admin).await;
    world.members(&admin).list_invitations(v1::ListInvitationsRequest::default()).await.unwrap();
    let change = |role: Role, etag: &str| v1::UpdateMemberRequest {
        user_id: admin.id.clone(),
        role: role.into(),
        etag: etag.to_owned(),
    };
    let changed = world.members(&owner).update_member(change(Role::Viewer, "1")).await.unwrap().into_inner();
    assert_eq!(changed.member.unwrap().etag, "2");
    assert_eq!(refused(world.members(&owner).update_member(change(Role::Admin, "1")).await), R::EtagMismatch);
    let listed = world.members(&admin).list_invitations(v1::ListInvitationsRequest::default()).await;
    assert_eq!(refused(listed), R::RoleMissing);
    let removal = v1::RemoveMemberRequest { user_id: admin.id.clone() };
    world.members(&owner).remove_member(removal).await.unwrap();
    assert_eq!(refused(list_apis(&world, &admin.access).await), R::RoleMissing);
    let me = world.me(&admin.access).await.unwrap();
    assert_eq!((me.role, me.memberships.len()), (Role::Unspecified.into(), 0));
    let (access, _, workspace) = world.refreshed(&admin.refresh).await.unwrap();
    assert_eq!(workspace, "");
    assert_eq!(refused(list_apis(&world, &access).await), R::RoleMissing);
}

#[tokio::test]
async fn nothing_of_another_workspace_is_reached() {
    let world = World::new().await;
    let (ada, bob) = (world.someone("ada").await, world.someone("bob").await);
    let switch = v1::SwitchWorkspaceRequest { workspace_id: bob.workspace.clone() };
    assert_eq!(refused(world.auth(&ada).switch_workspace(switch).await), R::RoleMissing);
    let get = v1::GetWorkspaceRequest { id: bob.workspace.clone() };
    assert_eq!(refused(world.workspaces(&ada).get_workspace(get).await), R::ResourceNotFound);
    let update = v1::UpdateWorkspaceRequest {
        workspace: Some(v1::Workspace {
            id: bob.workspace.clone(),
            display_name: "mine".to_owned(),
            ..v1::Workspace::default()
        }),
        update_mask: Some(prost_types::FieldMask { paths: vec!["display_name".to_owned()] }),
    };
    assert_eq!(refused(world.workspaces(&ada).update_workspace(update).await), R::ResourceNotFound);
    let removal = v1::RemoveMemberRequest { user_id: bob.id.clone() };
    assert_eq!(refused(world.members(&ada).remove_member(removal).await), R::ResourceNotFound);
    let named = v1::LoginRequest { workspace_id: bob.workspace.clone(), ..login(&ada.email, PASSWORD) };
    assert_eq!(refused(world.visitor().login(named).await), R::RoleMissing);
    let token = world.invitation(&bob, Role::Viewer).await;
    let open = world
        .members(&bob)
        .list_invitations(v1::ListInvitationsRequest::default())
        .await
        .unwrap()
        .into_inner();
    let revoke = v1::RevokeInvitationRequest { id: open.invitations[0].id.clone() };
    assert_eq!(refused(world.members(&ada).revoke_invitation(revoke).await), R::ResourceNotFound);
    let accept = v1::AcceptInvitationRequest { token: secret(&token) };
    world.members(&ada).accept_invitation(accept).await.unwrap();
}

#[tokio::test]
async fn a_person_works_in_several_workspaces() {
    let world = World::new().await;
    let ada = world.someone("ada").await;
    let draft = v1::Workspace {
        display_name: "second".to_owned(),
        time_zone: "Europe/Berlin".to_owned(),
        currency_code: "EUR".to_owned(),
        ..v1::Workspace::default()
    };
    let create = v1::CreateWorkspaceRequest { workspace: Some(draft), request_id: String::new() };
    let made = world.workspaces(&ada).create_workspace(create).await.unwrap().into_inner().workspace.unwrap();
    assert_eq!((made.role, made.time_zone.as_str()), (Role::Owner.into(), "Europe/Berlin"));
    let switch = v1::SwitchWorkspaceRequest { workspace_id: made.id.clone() };
    let (access, refresh, workspace) =
        tokens(world.auth(&ada).switch_workspace(switch).await.unwrap().into_inner().grant);
    assert_eq!((workspace.as_str(), refresh.as_str()), (made.id.as_str(), ""));
    assert_eq!(list_apis(&world, &access).await.unwrap(), 0);
    // The token from before still works where it was good, and refreshing goes on in the new one.
    assert_eq!(world.me(&ada.access).await.unwrap().workspace_id, ada.workspace);
    assert_eq!(world.refreshed(&ada.refresh).await.unwrap().2, made.id);
    let listed = world
        .workspaces(&ada)
        .list_workspaces(v1::ListWorkspacesRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(listed.workspaces.len(), 2);
}

#[tokio::test]
async fn a_workspace_is_renamed_by_its_admins() {
    let world = World::new().await;
    let ada = world.someone("ada").await;
    let update = |paths: &[&str], etag: &str| v1::UpdateWorkspaceRequest {
        workspace: Some(v1::Workspace {
            id: ada.workspace.clone(),
            display_name: "renamed".to_owned(),
            etag: etag.to_owned(),
            ..v1::Workspace::default()
        }),
        update_mask: Some(prost_types::FieldMask { paths: paths.iter().map(ToString::to_string).collect() }),
    };
    let mut client = world.workspaces(&ada);
    let renamed = client.update_workspace(update(&["display_name"], "1")).await.unwrap().into_inner();
    assert_eq!(
        renamed.workspace.map(|w| (w.display_name, w.etag)),
        Some(("renamed".to_owned(), "2".to_owned()))
    );
    assert_eq!(refused(client.update_workspace(update(&["display_name"], "1")).await), R::EtagMismatch);
    assert_eq!(refused(client.update_workspace(update(&["time_zone"], "")).await), R::UpdateMaskInvalid);
    let viewer = world.invited_by(&ada, "viewer", Role::Viewer).await;
    let refusal = world.workspaces(&viewer).update_workspace(update(&["*"], "")).await;
    assert_eq!(refused(refusal), R::RoleMissing);
}

#[tokio::test]
async fn an_invitation_by_mail_is_for_its_address_and_good_once() {
    let world = World::new().await;
    let (ada, bob, cyd) =
        (world.someone("ada").await, world.someone("bob").await, world.someone("cyd").await);
    let invite = |email: &str| v1::InviteMemberRequest {
        email: email.to_owned(),
        role: Role::Member.into(),
        ..Default::default()
    };
    let answer = world.members(&ada).invite_member(invite("Bob@example.com")).await.unwrap().into_inner();
    assert_eq!(answer.token, None);
    let mail = world.outbox.sent.lock().unwrap().pop().unwrap();
    assert_eq!(mail.to.as_str(), "bob@example.com");
    let text = mail.text.expose();
    let token = text.split("#token=").nth(1).and_then(|rest| rest.lines().next()).unwrap();
    let accept = || v1::AcceptInvitationRequest { token: secret(token) };
    assert_eq!(refused(world.members(&cyd).accept_invitation(accept()).await), R::InvitationUnknown);
    let grant = world.members(&bob).accept_invitation(accept()).await.unwrap().into_inner().grant;
    assert_eq!(tokens(grant).2, ada.workspace);
    assert_eq!(refused(world.members(&bob).accept_invitation(accept()).await), R::InvitationUnknown);
    assert_eq!(refused(world.members(&ada).invite_member(invite("bob@example.com")).await), R::AlreadyMember);
    let owner =
        v1::InviteMemberRequest { email: String::new(), role: Role::Owner.into(), ..Default::default() };
    assert_eq!(refused(world.members(&ada).invite_member(owner).await), R::FieldOutOfBounds);
}

#[tokio::test]
async fn an_invitation_is_made_and_sent_once_for_a_request() {
    let world = World::new().await;
    let ada = world.someone("ada").await;
    let invite = |email: &str, id: &str| v1::InviteMemberRequest {
        email: email.to_owned(),
        role: Role::Viewer.into(),
        request_id: id.to_owned(),
    };
    let mut members = world.members(&ada);
    let first = members.invite_member(invite("bob@example.com", "one")).await.unwrap().into_inner();
    let again = members.invite_member(invite("bob@example.com", "one")).await.unwrap().into_inner();
    assert_eq!(again, first);
    assert_eq!(world.outbox.sent.lock().unwrap().len(), 1);
    assert_eq!(refused(members.invite_member(invite("cyd@example.com", "one")).await), R::RequestIdReused);
    let bounces = || invite("bounces@example.com", "two");
    assert_eq!(refused(members.invite_member(bounces()).await), R::StoreUnavailable);
    // Nothing was made, and so the same request may still make it.
    assert_eq!(refused(members.invite_member(bounces()).await), R::StoreUnavailable);
    let link = members.invite_member(invite("", "three")).await.unwrap().into_inner();
    let again = members.invite_member(invite("", "three")).await.unwrap().into_inner();
    assert!(link.token.is_some() && again.token.is_none());
    assert_eq!(again.invitation, link.invitation);
    let id = link.invitation.unwrap().id;
    members.revoke_invitation(v1::RevokeInvitationRequest { id }).await.unwrap();
    assert_eq!(refused(members.invite_member(invite("", "three")).await), R::ResourceNotFound);
}

#[tokio::test]
async fn an_invitation_ends_when_it_is_revoked_when_it_is_old_and_when_its_mail_bounces() {
    let world = World::new().await;
    let (ada, bob) = (world.someone("ada").await, world.someone("bob").await);
    let bounces = v1::InviteMemberRequest {
        email: "bounces@example.com".to_owned(),
        role: Role::Viewer.into(),
        ..Default::default()
    };
    assert_eq!(refused(world.members(&ada).invite_member(bounces).await), R::StoreUnavailable);
    let list = || v1::ListInvitationsRequest::default();
    assert!(world.members(&ada).list_invitations(list()).await.unwrap().into_inner().invitations.is_empty());
    let token = world.invitation(&ada, Role::Viewer).await;
    let open = world.members(&ada).list_invitations(list()).await.unwrap().into_inner().invitations;
    let revoke = v1::RevokeInvitationRequest { id: open[0].id.clone() };
    world.members(&ada).revoke_invitation(revoke).await.unwrap();
    let accept = |token: &str| v1::AcceptInvitationRequest { token: secret(token) };
    assert_eq!(refused(world.members(&bob).accept_invitation(accept(&token)).await), R::InvitationUnknown);
    let token = world.invitation(&ada, Role::Viewer).await;
    world.clock.advance_ms(REFRESH_MS - 1);
    let (access, ..) = world.refreshed(&bob.refresh).await.unwrap();
    world.clock.advance_ms(1);
    let bob = Someone { access, ..bob };
    assert_eq!(refused(world.members(&bob).accept_invitation(accept(&token)).await), R::InvitationUnknown);
}

#[tokio::test]
async fn ownership_is_handed_over_and_the_last_owner_stays() {
    let world = World::new().await;
    let ada = world.someone("ada").await;
    let bob = world.invited_by(&ada, "bob", Role::Member).await;
    let leave = |person: &Someone| v1::RemoveMemberRequest { user_id: person.id.clone() };
    let to = |person: &Someone| v1::TransferOwnershipRequest { user_id: person.id.clone() };
    assert_eq!(refused(world.members(&ada).remove_member(leave(&ada)).await), R::LastOwner);
    assert_eq!(refused(world.members(&bob).transfer_ownership(to(&bob)).await), R::RoleMissing);
    assert_eq!(refused(world.members(&ada).transfer_ownership(to(&ada)).await), R::FieldConflict);
    let made = world.members(&ada).transfer_ownership(to(&bob)).await.unwrap().into_inner().member.unwrap();
    assert_eq!((made.user_id.as_str(), made.role), (bob.id.as_str(), Role::Owner.into()));
    assert_eq!(world.me(&ada.access).await.unwrap().role, i32::from(Role::Admin));
    assert_eq!(refused(world.members(&ada).remove_member(leave(&bob)).await), R::RoleMissing);
    world.members(&ada).remove_member(leave(&ada)).await.unwrap();
    assert_eq!(refused(world.members(&bob).remove_member(leave(&bob)).await), R::LastOwner);
}

#[tokio::test]
async fn members_are_listed_in_pages() {
    let world = World::new().await;
    let ada = world.someone("ada").await;
    world.invited_by(&ada, "bob", Role::Member).await;
    world.invited_by(&ada, "cyd", Role::Viewer).await;
    let page = |token: &str| v1::ListMembersRequest {
        page_size: 2,
        page_token: token.to_owned(),
        ..v1::ListMembersRequest::default()
    };
    let first = world.members(&ada).list_members(page("")).await.unwrap().into_inner();
    let second = world.members(&ada).list_members(page(&first.next_page_token)).await.unwrap().into_inner();
    let mut emails: Vec<_> = first.members.iter().chain(&second.members).map(|m| m.email.clone()).collect();
    emails.sort();
    assert_eq!(emails, ["ada@example.com", "bob@example.com", "cyd@example.com"]);
    assert_eq!(second.next_page_token, "");
    assert_eq!(refused(world.members(&ada).list_members(page("nonsense")).await), R::PageTokenInvalid);
}
