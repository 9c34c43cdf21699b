//! Every method that changes what is managed leaves an entry: a tour of all of them, held against the
//! table of methods, so that a new one is missed the day it is added.

use std::collections::BTreeSet;

use rateguard_proto::access::{METHODS, Method};
use rateguard_proto::v1;
use rateguard_proto::v1::api_service_client::ApiServiceClient;
use rateguard_proto::v1::auth_service_client::AuthServiceClient;
use rateguard_proto::v1::budget_service_client::BudgetServiceClient;
use rateguard_proto::v1::configuration_service_client::ConfigurationServiceClient;
use rateguard_proto::v1::key_service_client::KeyServiceClient;
use rateguard_proto::v1::price_service_client::PriceServiceClient;
use rateguard_proto::v1::quota_service_client::QuotaServiceClient;
use rateguard_proto::v1::rule_service_client::RuleServiceClient;
use rateguard_proto::v1::workspace_service_client::WorkspaceServiceClient;

use super::audit::listed;
use super::managed::{api, make_rule, mask, ten_a_minute, usd};
use super::persons::{PASSWORD, Someone, login, secret, tokens};
use super::prices::own_price;
use super::world::{Transport, World};

/// Methods of the services of management that change nothing begin so.
const READING: [&str; 3] = ["Export", "Get", "List"];
/// Services whose calls change no managed thing: they are called, not managed with.
const NOT_MANAGING: [&str; 5] = [
    "rateguard.v1.QuotaService",
    "rateguard.v1.UsageService",
    "rateguard.v1.AnalyticsService",
    "rateguard.internal.v1.GatewayService",
    "envoy.service.ratelimit.v3.RateLimitService",
];
/// A method of theirs that does.
const MANAGING_ALL_THE_SAME: &str = "ResetQuota";
/// Begins what leaves its entries once it is completed.
const BEGINNING: &str = "rateguard.v1.AuthService/BeginOidcLogin";

fn changing_methods() -> BTreeSet<String> {
    let methods = METHODS.iter().map(Method::names);
    methods
        .filter(|(service, method)| !NOT_MANAGING.contains(service) || *method == MANAGING_ALL_THE_SAME)
        .filter(|(_, method)| !READING.iter().any(|reading| method.starts_with(reading)))
        .map(|(service, method)| format!("{service}/{method}"))
        .filter(|path| path != BEGINNING)
        .collect()
}

#[tokio::test]
async fn every_method_that_changes_something_leaves_an_entry() {
    let world = World::with_provider(|_| {}).await;
    let owner = world.someone("owner").await;
    let transport = || world.transport_with(&owner.access);
    apis_and_keys(transport()).await;
    limits(transport()).await;
    whole(transport()).await;
    prices(transport()).await;
    as_a_whole(transport()).await;
    let heir = members(&world, &owner).await;
    sessions(&world, &heir).await;
    through_the_provider(&world, &heir).await;
    // The workspace is the heir's now, who makes another one last.
    let grant = world.visitor().login(login(&heir.email, PASSWORD)).await.unwrap().into_inner().grant;
    let mut seen = methods_seen(&world, &tokens(grant.clone()).0).await;
    seen.extend(methods_seen(&world, &new_workspace(&world, &tokens(grant).0).await).await);
    let missed: Vec<_> = changing_methods().difference(&seen).cloned().collect();
    assert_eq!(missed, [""; 0]);
}

async fn methods_seen(world: &World, access: &str) -> BTreeSet<String> {
    let entries = listed(world.transport_with(access), v1::AuditEntryFilter::default()).await.unwrap();
    entries.into_iter().map(|entry| entry.method).collect()
}

/// Makes a workspace and works there; gives the access token.
async fn new_workspace(world: &World, access: &str) -> String {
    let draft = v1::Workspace { display_name: "another".to_owned(), ..v1::Workspace::default() };
    let create = v1::CreateWorkspaceRequest { workspace: Some(draft), request_id: String::new() };
    let mut workspaces = WorkspaceServiceClient::new(world.transport_with(access));
    let made = workspaces.create_workspace(create).await.unwrap().into_inner().workspace.unwrap();
    let switch = v1::SwitchWorkspaceRequest { workspace_id: made.id };
    let mut auth = AuthServiceClient::new(world.transport_with(access));
    tokens(auth.switch_workspace(switch).await.unwrap().into_inner().grant).0
}

async fn apis_and_keys(transport: Transport) {
    let mut apis = ApiServiceClient::new(transport.clone());
    let made = apis
        .create_api(v1::CreateApiRequest { api: Some(api("one")), request_id: String::new() })
        .await
        .unwrap()
        .into_inner();
    let changed = v1::Api { id: made.api.unwrap().id, display_name: "new".to_owned(), ..v1::Api::default() };
    let id = changed.id.clone();
    let update = v1::UpdateApiRequest { api: Some(changed), update_mask: mask(&["display_name"]) };
    apis.update_api(update).await.unwrap();
    apis.delete_api(v1::DeleteApiRequest { id, etag: String::new() }).await.unwrap();
    let mut keys = KeyServiceClient::new(transport);
    let key = v1::Key { display_name: "k".to_owned(), scopes: vec![1], ..v1::Key::default() };
    let made = keys
        .create_key(v1::CreateKeyRequest { key: Some(key), request_id: String::new() })
        .await
        .unwrap()
        .into_inner();
    let changed = v1::Key { id: made.key.unwrap().id, display_name: "new".to_owned(), ..v1::Key::default() };
    let id = changed.id.clone();
    let update = v1::UpdateKeyRequest { key: Some(changed), update_mask: mask(&["display_name"]) };
    keys.update_key(update).await.unwrap();
    let rotate = v1::RotateKeyRequest { id: id.clone(), ..v1::RotateKeyRequest::default() };
    keys.rotate_key(rotate).await.unwrap();
    keys.delete_key(v1::DeleteKeyRequest { id, etag: String::new() }).await.unwrap();
}

async fn as_a_whole(transport: Transport) {
    let apis = vec![api("applied")];
    let wanted = v1::WorkspaceConfiguration { apis, ..v1::WorkspaceConfiguration::default() };
    let configuration = Some(wanted);
    let apply = v1::ApplyWorkspaceRequest { configuration, ..v1::ApplyWorkspaceRequest::default() };
    ConfigurationServiceClient::new(transport).apply_workspace(apply).await.unwrap();
}

async fn limits(transport: Transport) {
    let mut rules = RuleServiceClient::new(transport.clone());
    let made = make_rule(&mut rules, ten_a_minute()).await.unwrap();
    let id = made.id.clone();
    let changed = v1::Rule { display_name: "new".to_owned(), ..made };
    let update = v1::UpdateRuleRequest { rule: Some(changed), update_mask: mask(&["display_name"]) };
    rules.update_rule(update).await.unwrap();
    let counters = v1::reset_quota_request::Counters::All(v1::AllCounters {});
    let reset = v1::ResetQuotaRequest { rule_id: id.clone(), counters: Some(counters) };
    QuotaServiceClient::new(transport.clone()).reset_quota(reset).await.unwrap();
    rules.delete_rule(v1::DeleteRuleRequest { id, etag: String::new() }).await.unwrap();
    let mut budgets = BudgetServiceClient::new(transport);
    let monthly = v1::CalendarBudget { period: v1::CalendarPeriod::Month.into(), time_zone: String::new() };
    let budget = v1::Budget {
        display_name: "team".to_owned(),
        amount: usd(5_000_000_000),
        period: Some(v1::budget::Period::Calendar(monthly)),
        ..v1::Budget::default()
    };
    let create = v1::CreateBudgetRequest { budget: Some(budget), request_id: String::new() };
    let made = budgets.create_budget(create).await.unwrap().into_inner().budget.unwrap();
    let id = made.id.clone();
    let changed = v1::Budget { display_name: "new".to_owned(), ..made };
    let update = v1::UpdateBudgetRequest { budget: Some(changed), update_mask: mask(&["display_name"]) };
    budgets.update_budget(update).await.unwrap();
    let prepaid = v1::Budget {
        display_name: "prepaid".to_owned(),
        amount: usd(0),
        period: Some(v1::budget::Period::Prepaid(v1::PrepaidBudget {})),
        ..v1::Budget::default()
    };
    let create = v1::CreateBudgetRequest { budget: Some(prepaid), request_id: String::new() };
    let made = budgets.create_budget(create).await.unwrap().into_inner().budget.unwrap();
    let top_up = v1::TopUpBudgetRequest {
        budget_id: made.id,
        amount: usd(1),
        request_id: "one".to_owned(),
        note: String::new(),
    };
    budgets.top_up_budget(top_up).await.unwrap();
    budgets.delete_budget(v1::DeleteBudgetRequest { id, etag: String::new() }).await.unwrap();
}

/// Applies a configuration of one rule.
async fn whole(transport: Transport) {
    let configuration = v1::WorkspaceConfiguration { rules: vec![ten_a_minute()], ..Default::default() };
    let apply = v1::ApplyWorkspaceRequest { configuration: Some(configuration), ..Default::default() };
    ConfigurationServiceClient::new(transport).apply_workspace(apply).await.unwrap();
}

async fn prices(transport: Transport) {
    let mut prices = PriceServiceClient::new(transport);
    let create = v1::CreatePriceOverrideRequest {
        price: Some(own_price("acme", "own-model", "3")),
        request_id: String::new(),
    };
    let made = prices.create_price_override(create).await.unwrap().into_inner().price.unwrap();
    let id = made.id.clone();
    let changed = v1::Price { id: made.id, request_rate: Some("0.01".to_owned()), ..v1::Price::default() };
    let update_mask = mask(&["request_rate"]);
    let update = v1::UpdatePriceOverrideRequest { price: Some(changed), update_mask };
    prices.update_price_override(update).await.unwrap();
    prices.delete_price_override(v1::DeletePriceOverrideRequest { id, etag: String::new() }).await.unwrap();
}

/// Leaves the workspace to somebody else, whom it gives back.
async fn members(world: &World, owner: &Someone) -> Someone {
    let heir = world.invited_by(owner, "heir", v1::Role::Admin).await;
    let guest = world.someone("guest").await;
    let token = world.invitation(owner, v1::Role::Viewer).await;
    let accept = v1::AcceptInvitationRequest { token: secret(&token) };
    world.members(&guest).accept_invitation(accept).await.unwrap();
    let raise = v1::UpdateMemberRequest {
        user_id: guest.id.clone(),
        role: v1::Role::Member.into(),
        etag: String::new(),
    };
    world.members(owner).update_member(raise).await.unwrap();
    let removal = v1::RemoveMemberRequest { user_id: guest.id.clone() };
    world.members(owner).remove_member(removal).await.unwrap();
    world.invitation(owner, v1::Role::Viewer).await;
    let mut members = world.members(owner);
    let open = members.list_invitations(v1::ListInvitationsRequest::default()).await.unwrap().into_inner();
    let revoke = v1::RevokeInvitationRequest { id: open.invitations[0].id.clone() };
    members.revoke_invitation(revoke).await.unwrap();
    let transfer = v1::TransferOwnershipRequest { user_id: heir.id.clone() };
    members.transfer_ownership(transfer).await.unwrap();
    heir
}

/// Links an identity of the provider, and logs in by it.
async fn through_the_provider(world: &World, person: &Someone) {
    let grant = world.visitor().login(login(&person.email, PASSWORD)).await.unwrap().into_inner().grant;
    let mut auth = AuthServiceClient::new(world.transport_with(&tokens(grant).0));
    let begun = auth.begin_oidc_login(v1::BeginOidcLoginRequest {}).await.unwrap().into_inner();
    let returned = world.provider().visit(&begun);
    let link = v1::LinkOidcRequest {
        login_id: secret(&returned.login_id),
        code: secret(&returned.code),
        state: secret(&returned.state),
        current_password: secret(PASSWORD),
    };
    auth.link_oidc(link).await.unwrap();
    let begun = auth.begin_oidc_login(v1::BeginOidcLoginRequest {}).await.unwrap().into_inner();
    let returned = world.provider().visit(&begun);
    let complete = v1::CompleteOidcLoginRequest {
        login_id: secret(&returned.login_id),
        code: secret(&returned.code),
        state: secret(&returned.state),
        ..v1::CompleteOidcLoginRequest::default()
    };
    world.visitor().complete_oidc_login(complete).await.unwrap();
}

/// What ends well in the workspace that the person owns since.
async fn sessions(world: &World, person: &Someone) {
    let phone =
        tokens(world.visitor().login(login(&person.email, PASSWORD)).await.unwrap().into_inner().grant);
    let mut auth = world.auth(person);
    let listed = auth.list_sessions(v1::ListSessionsRequest::default()).await.unwrap().into_inner().sessions;
    let other = listed.iter().find(|session| !session.current).unwrap();
    auth.revoke_session(v1::RevokeSessionRequest { id: other.id.clone() }).await.unwrap();
    let renamed = v1::Workspace {
        id: person.workspace.clone(),
        display_name: "new".to_owned(),
        ..v1::Workspace::default()
    };
    let update =
        v1::UpdateWorkspaceRequest { workspace: Some(renamed), update_mask: mask(&["display_name"]) };
    world.workspaces(person).update_workspace(update).await.unwrap();
    let switch = v1::SwitchWorkspaceRequest { workspace_id: person.workspace.clone() };
    auth.switch_workspace(switch).await.unwrap();
    let same =
        v1::ChangePasswordRequest { current_password: secret(PASSWORD), new_password: secret(PASSWORD) };
    auth.change_password(same).await.unwrap();
    assert!(world.refreshed(&phone.1).await.is_err());
    let (_, next, _) = world.refreshed(&person.refresh).await.unwrap();
    assert!(world.refreshed(&person.refresh).await.is_err(), "an old token ends the session");
    assert!(world.refreshed(&next).await.is_err());
    let third =
        tokens(world.visitor().login(login(&person.email, PASSWORD)).await.unwrap().into_inner().grant);
    let mut auth = AuthServiceClient::new(world.transport_with(&third.0));
    auth.logout(v1::LogoutRequest {}).await.unwrap();
}
