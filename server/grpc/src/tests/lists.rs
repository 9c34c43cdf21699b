//! Lists: their orders, what they can be narrowed to, and what their page tokens are good for.

use prost_types::Timestamp;
use rateguard_engine::resources::{Key, Scope};
use rateguard_proto::v1;
use rateguard_proto::v1::api_service_client::ApiServiceClient;
use rateguard_proto::v1::audit_service_client::AuditServiceClient;
use rateguard_proto::v1::budget_service_client::BudgetServiceClient;
use rateguard_proto::v1::key_service_client::KeyServiceClient;
use rateguard_proto::v1::rule_service_client::RuleServiceClient;
use rateguard_proto::v1::{ErrorReason as R, ResourceState, Role};
use tonic::{Code, Status};

use super::managed::{api, make_api, make_rule, mask, ten_a_minute, usd};
use super::persons::{PASSWORD, Someone, login};
use super::world::{START_MS, Transport, World, plain_key, reason, told};

const ORDERS: [&str; 8] = [
    "",
    "id",
    "id desc",
    "create_time",
    "create_time desc",
    "update_time desc",
    "display_name",
    "display_name desc",
];

fn named(display_name: &str) -> v1::Rule {
    v1::Rule { display_name: display_name.to_owned(), ..ten_a_minute() }
}

/// The names on all pages of a list of rules.
async fn names(
    client: &mut RuleServiceClient<Transport>,
    request: v1::ListRulesRequest,
) -> Result<Vec<String>, Status> {
    let (mut names, mut request) = (Vec::new(), request);
    loop {
        let page = client.list_rules(request.clone()).await?.into_inner();
        names.extend(page.rules.into_iter().map(|rule| rule.display_name));
        if page.next_page_token.is_empty() {
            return Ok(names);
        }
        request.page_token = page.next_page_token;
    }
}

#[tokio::test]
async fn rules_come_in_every_order_both_ways() {
    let world = World::new().await;
    let mut client = RuleServiceClient::new(world.transport());
    let mut made = Vec::new();
    // Two of each instant.
    for name in ["d", "a", "C", "ä", "b", "e"] {
        if made.len() % 2 == 0 {
            world.clock.advance_ms(1);
        }
        made.push(make_rule(&mut client, named(name)).await.unwrap());
    }
    world.clock.advance_ms(1);
    let rule = v1::Rule { priority: 1, ..made[1].clone() };
    let change = v1::UpdateRuleRequest { rule: Some(rule), update_mask: mask(&["priority"]) };
    let changed = client.update_rule(change).await.unwrap().into_inner().rule.unwrap();
    made[1] = changed;
    let instant = |at: &Option<Timestamp>| at.map(|at| (at.seconds, at.nanos));
    for order_by in ORDERS {
        let (field, descending) = match order_by.strip_suffix(" desc") {
            Some(field) => (field, true),
            None => (order_by, false),
        };
        let mut expected = made.clone();
        expected.sort_by_cached_key(|rule| match field {
            "create_time" => (instant(&rule.create_time), String::new(), rule.id.clone()),
            "update_time" => (instant(&rule.update_time), String::new(), rule.id.clone()),
            "display_name" => (None, rule.display_name.clone(), rule.id.clone()),
            _ => (None, String::new(), rule.id.clone()),
        });
        if descending {
            expected.reverse();
        }
        let request =
            v1::ListRulesRequest { page_size: 1, order_by: order_by.to_owned(), ..Default::default() };
        let expected: Vec<_> = expected.into_iter().map(|rule| rule.display_name).collect();
        assert_eq!(names(&mut client, request).await.unwrap(), expected, "{order_by:?}");
    }
}

#[tokio::test]
async fn an_order_that_a_list_does_not_have_is_refused_with_those_that_it_has() {
    let world = World::new().await;
    let mut client = RuleServiceClient::new(world.transport());
    for order_by in ["name", "priority desc", "id  desc", "ID", "id,create_time", " id", "desc", "join_time"]
    {
        let request = v1::ListRulesRequest { order_by: order_by.to_owned(), ..Default::default() };
        let error = client.list_rules(request).await.unwrap_err();
        assert_eq!(told(&error), (Code::InvalidArgument, R::FieldMalformed, "order_by".to_owned()));
        assert!(
            error.message().contains("id, create_time, update_time, display_name"),
            "{}",
            error.message()
        );
    }
    let ada = world.someone("ada").await;
    let request = v1::ListMembersRequest { order_by: "update_time".to_owned(), ..Default::default() };
    let error = world.members(&ada).list_members(request).await.unwrap_err();
    assert!(error.message().contains("id, join_time, display_name"), "{}", error.message());
    let mut audit = AuditServiceClient::new(world.transport());
    let request = v1::ListAuditEntriesRequest { order_by: "id".to_owned(), ..Default::default() };
    assert_eq!(told(&audit.list_audit_entries(request).await.unwrap_err()).2, "order_by");
}

#[tokio::test]
async fn rules_are_narrowed_to_the_calls_that_they_can_apply_to() {
    let world = World::new().await;
    let one = make_api(&world, api("one")).await.unwrap();
    let mut client = RuleServiceClient::new(world.transport());
    let of_calls = |name: &str, calls: v1::CallMatch| v1::Rule { r#match: Some(calls), ..named(name) };
    let of_api = v1::CallMatch { api_ids: vec![one.id.clone()], ..Default::default() };
    let of_model = v1::CallMatch { models: vec!["gpt-*".to_owned()], ..Default::default() };
    let of_subject = v1::CallMatch { subjects: vec!["ada".to_owned()], ..Default::default() };
    let off = v1::Rule { active: Some(false), ..named("Off") };
    let made = [
        named("all"),
        of_calls("api", of_api),
        of_calls("model", of_model),
        of_calls("subject", of_subject),
        off,
    ];
    for rule in made {
        make_rule(&mut client, rule).await.unwrap();
    }
    let all = v1::ListRulesRequest { order_by: "display_name".to_owned(), ..Default::default() };
    let cases = [
        (
            v1::ListRulesRequest { api_id: "api_other".to_owned(), ..all.clone() },
            vec!["Off", "all", "model", "subject"],
        ),
        (
            v1::ListRulesRequest { api_id: one.id.clone(), ..all.clone() },
            vec!["Off", "all", "api", "model", "subject"],
        ),
        (
            v1::ListRulesRequest { model: "o3".to_owned(), ..all.clone() },
            vec!["Off", "all", "api", "subject"],
        ),
        (
            v1::ListRulesRequest { subject: "bob".to_owned(), ..all.clone() },
            vec!["Off", "all", "api", "model"],
        ),
        (
            v1::ListRulesRequest {
                key_id: "key_other".to_owned(),
                state: ResourceState::Disabled.into(),
                ..all.clone()
            },
            vec!["Off"],
        ),
        (v1::ListRulesRequest { state: ResourceState::Expired.into(), ..all.clone() }, vec![]),
        (v1::ListRulesRequest { display_name_contains: "oF".to_owned(), ..all.clone() }, vec!["Off"]),
    ];
    for (request, expected) in cases {
        for page_size in [1, 0] {
            let request = v1::ListRulesRequest { page_size, ..request.clone() };
            assert_eq!(names(&mut client, request.clone()).await.unwrap(), expected, "{request:?}");
        }
    }
}

#[tokio::test]
async fn budgets_are_narrowed_to_the_apis_that_they_can_apply_to() {
    let world = World::new().await;
    let one = make_api(&world, api("one")).await.unwrap();
    let of_api = v1::CallMatch { api_ids: vec![one.id.clone()], ..Default::default() };
    let mut budgets = BudgetServiceClient::new(world.transport());
    let budget = v1::Budget {
        display_name: "Money".to_owned(),
        r#match: Some(of_api),
        amount: usd(1),
        period: Some(v1::budget::Period::Prepaid(v1::PrepaidBudget {})),
        ..Default::default()
    };
    let create = v1::CreateBudgetRequest { budget: Some(budget), ..Default::default() };
    budgets.create_budget(create).await.unwrap();
    for (api_id, count) in [(one.id.as_str(), 1), ("api_other", 0), ("", 1)] {
        let request = v1::ListBudgetsRequest { api_id: api_id.to_owned(), ..Default::default() };
        assert_eq!(
            budgets.list_budgets(request).await.unwrap().into_inner().budgets.len(),
            count,
            "{api_id}"
        );
    }
}

#[tokio::test]
async fn keys_and_apis_are_narrowed_to_their_state_their_name_and_what_they_begin_with() {
    let world = World::new().await;
    let mut client = KeyServiceClient::new(world.transport());
    let expires_at = Some(rateguard_core::time::Millis::new(START_MS + 10));
    let mut secrets = Vec::new();
    for key in [
        Key { active: false, ..plain_key(&[Scope::Quota]) },
        Key { expires_at, ..plain_key(&[Scope::Quota]) },
        Key { bound_subject: Some("ada".to_owned()), ..plain_key(&[Scope::Quota]) },
    ] {
        secrets.push(world.add_key(key).await);
    }
    world.clock.advance_ms(10);
    let prefix = |place: usize| secrets[place][..12].to_owned();
    let any = v1::ListKeysRequest::default();
    let of = |state: ResourceState| v1::ListKeysRequest { state: state.into(), ..any.clone() };
    let cases = [
        (of(ResourceState::Disabled), vec![prefix(0)]),
        (of(ResourceState::Expired), vec![prefix(1)]),
        (v1::ListKeysRequest { subject: "ada".to_owned(), ..any.clone() }, vec![prefix(2)]),
        (v1::ListKeysRequest { prefix: prefix(1), ..any.clone() }, vec![prefix(1)]),
        (v1::ListKeysRequest { prefix: prefix(1), ..of(ResourceState::Active) }, vec![]),
        (v1::ListKeysRequest { display_name_contains: "nobody's".to_owned(), ..any.clone() }, vec![]),
    ];
    for (request, expected) in cases {
        let keys = client.list_keys(request.clone()).await.unwrap().into_inner().keys;
        assert_eq!(keys.into_iter().map(|key| key.prefix).collect::<Vec<_>>(), expected, "{request:?}");
    }
    let whole = v1::ListKeysRequest { prefix: secrets[0].clone(), ..any.clone() };
    let error = client.list_keys(whole).await.unwrap_err();
    assert_eq!(told(&error), (Code::InvalidArgument, R::FieldOutOfBounds, "prefix".to_owned()));
    assert!(!error.message().contains(&secrets[0]));
    let unknown = v1::ListKeysRequest { state: 77, ..any.clone() };
    assert_eq!(told(&client.list_keys(unknown).await.unwrap_err()).2, "state");
    let long = v1::ListKeysRequest { display_name_contains: "x".repeat(129), ..any };
    assert_eq!(told(&client.list_keys(long).await.unwrap_err()).2, "display_name_contains");

    make_api(&world, api("one")).await.unwrap();
    make_api(&world, v1::Api { active: Some(false), ..api("two") }).await.unwrap();
    let mut apis = ApiServiceClient::new(world.transport());
    let off = v1::ListApisRequest { state: ResourceState::Disabled.into(), ..Default::default() };
    let listed = apis.list_apis(off).await.unwrap().into_inner().apis;
    assert_eq!(listed.into_iter().map(|api| api.slug).collect::<Vec<_>>(), ["two"]);
}

#[tokio::test]
async fn a_token_is_good_for_its_own_order_filter_and_workspace_alone() {
    let world = World::new().await;
    let (ada, bob) = (world.someone("ada").await, world.someone("bob").await);
    let mut of_ada = RuleServiceClient::new(world.transport_with(&ada.access));
    let mut of_bob = RuleServiceClient::new(world.transport_with(&bob.access));
    for name in ["a", "b", "c"] {
        make_rule(&mut of_ada, named(name)).await.unwrap();
        make_rule(&mut of_bob, named(name)).await.unwrap();
    }
    let first =
        v1::ListRulesRequest { page_size: 1, state: ResourceState::Active.into(), ..Default::default() };
    let page_token = of_ada.list_rules(first.clone()).await.unwrap().into_inner().next_page_token;
    let next = v1::ListRulesRequest { page_token, ..first };
    let others = [
        v1::ListRulesRequest { order_by: "id desc".to_owned(), ..next.clone() },
        v1::ListRulesRequest { order_by: "create_time".to_owned(), ..next.clone() },
        v1::ListRulesRequest { state: ResourceState::Unspecified.into(), ..next.clone() },
        v1::ListRulesRequest { display_name_contains: "a".to_owned(), ..next.clone() },
        v1::ListRulesRequest { subject: "ada".to_owned(), ..next.clone() },
    ];
    for other in others {
        assert_eq!(
            reason(&of_ada.list_rules(other.clone()).await.unwrap_err()),
            R::PageTokenInvalid,
            "{other:?}"
        );
    }
    assert_eq!(reason(&of_bob.list_rules(next.clone()).await.unwrap_err()), R::PageTokenInvalid);
    let same = v1::ListRulesRequest { page_size: 2, order_by: "id".to_owned(), ..next };
    assert_eq!(of_ada.list_rules(same).await.unwrap().into_inner().rules.len(), 2);
}

#[tokio::test]
async fn people_page_through_members_invitations_workspaces_and_sessions() {
    let world = World::new().await;
    let ada = world.someone("ada").await;
    world.invited_by(&ada, "bob", Role::Member).await;
    world.invited_by(&ada, "cyd", Role::Viewer).await;
    let members = v1::ListMembersRequest { order_by: "join_time desc".to_owned(), ..Default::default() };
    let emails =
        |page: v1::ListMembersResponse| page.members.into_iter().map(|m| m.email).collect::<Vec<_>>();
    let only = v1::ListMembersRequest { role: Role::Viewer.into(), ..members.clone() };
    assert_eq!(
        emails(world.members(&ada).list_members(only).await.unwrap().into_inner()),
        ["cyd@example.com"]
    );
    let only = v1::ListMembersRequest { email_contains: "BOB@".to_owned(), ..members };
    assert_eq!(
        emails(world.members(&ada).list_members(only).await.unwrap().into_inner()),
        ["bob@example.com"]
    );

    for role in [Role::Viewer, Role::Admin, Role::Viewer] {
        world.invitation(&ada, role).await;
        world.clock.advance_ms(1);
    }
    let newest = v1::ListInvitationsRequest {
        page_size: 1,
        role: Role::Viewer.into(),
        order_by: "create_time desc".to_owned(),
        ..Default::default()
    };
    let first = world.members(&ada).list_invitations(newest.clone()).await.unwrap().into_inner();
    let rest = v1::ListInvitationsRequest { page_token: first.next_page_token.clone(), ..newest };
    let second = world.members(&ada).list_invitations(rest).await.unwrap().into_inner();
    assert!(
        first.invitations[0].create_time.unwrap().nanos > second.invitations[0].create_time.unwrap().nanos
    );
    assert_eq!(second.next_page_token, "");

    sessions_are_paged(&world, &ada).await;
    workspaces_are_paged(&world, &ada).await;
}

async fn sessions_are_paged(world: &World, ada: &Someone) {
    for _ in 0..2 {
        world.clock.advance_ms(1);
        world.visitor().login(login("ada@example.com", PASSWORD)).await.unwrap();
    }
    let one = v1::ListSessionsRequest { page_size: 1, ..Default::default() };
    let mut seen = Vec::new();
    let mut request = one.clone();
    loop {
        let page = world.auth(ada).list_sessions(request.clone()).await.unwrap().into_inner();
        seen.extend(page.sessions);
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(seen.len(), 3);
    assert!(seen[2].current, "the newest come first");
    let elsewhere = v1::ListSessionsRequest { workspace_id: "ws_none".to_owned(), ..one };
    assert!(world.auth(ada).list_sessions(elsewhere).await.unwrap().into_inner().sessions.is_empty());
}

async fn workspaces_are_paged(world: &World, ada: &Someone) {
    for name in ["Zoo", "Aquarium"] {
        world.clock.advance_ms(1);
        let workspace = v1::Workspace { display_name: name.to_owned(), ..Default::default() };
        let request = v1::CreateWorkspaceRequest { workspace: Some(workspace), ..Default::default() };
        world.workspaces(ada).create_workspace(request).await.unwrap();
    }
    let listed = async |request: v1::ListWorkspacesRequest| {
        let page = world.workspaces(ada).list_workspaces(request).await.unwrap().into_inner();
        let names = page.workspaces.into_iter().map(|workspace| workspace.display_name).collect::<Vec<_>>();
        (names, page.next_page_token)
    };
    let all = listed(v1::ListWorkspacesRequest::default()).await.0;
    assert_eq!(all[1..], ["Zoo", "Aquarium"], "in the order of joining");
    let zoos = v1::ListWorkspacesRequest { display_name_contains: "zOO".to_owned(), ..Default::default() };
    assert_eq!(listed(zoos).await.0, ["Zoo"]);
    let last = v1::ListWorkspacesRequest {
        page_size: 1,
        order_by: "join_time desc".to_owned(),
        role: Role::Owner.into(),
        ..Default::default()
    };
    let (first, page_token) = listed(last.clone()).await;
    let (second, _) = listed(v1::ListWorkspacesRequest { page_token, ..last }).await;
    assert_eq!([first, second].concat(), ["Aquarium", "Zoo"]);
}
