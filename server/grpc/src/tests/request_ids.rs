//! Creating things with a request id, once and again.

use rateguard_proto::v1;
use rateguard_proto::v1::ErrorReason as R;
use rateguard_proto::v1::api_service_client::ApiServiceClient;
use rateguard_proto::v1::budget_service_client::BudgetServiceClient;
use rateguard_proto::v1::key_service_client::KeyServiceClient;
use rateguard_proto::v1::price_service_client::PriceServiceClient;
use rateguard_proto::v1::rule_service_client::RuleServiceClient;
use tonic::Code;

use super::managed::{api, ten_a_minute, usd};
use super::prices::own_price;
use super::world::{World, reason, told};

/// 24 hours.
const DAY_MS: i64 = 86_400_000;

fn named(rule: v1::Rule, request_id: &str) -> v1::CreateRuleRequest {
    v1::CreateRuleRequest { rule: Some(rule), request_id: request_id.to_owned() }
}

#[tokio::test]
async fn a_rule_is_made_once_for_its_request_id_until_a_day_has_passed() {
    let world = World::new().await;
    let mut rules = RuleServiceClient::new(world.transport());
    let made = rules.create_rule(named(ten_a_minute(), "one")).await.unwrap().into_inner().rule;
    let again = rules.create_rule(named(ten_a_minute(), "one")).await.unwrap().into_inner().rule;
    assert_eq!(again, made);
    let other = v1::Rule { priority: 3, ..ten_a_minute() };
    let refused = told(&rules.create_rule(named(other, "one")).await.unwrap_err());
    assert_eq!(refused, (Code::AlreadyExists, R::RequestIdReused, "request_id".to_owned()));
    world.pass_ms(DAY_MS).await;
    let next = rules.create_rule(named(ten_a_minute(), "one")).await.unwrap().into_inner().rule;
    assert_ne!(next.unwrap().id, made.unwrap().id);
}

#[tokio::test]
async fn without_a_request_id_each_call_makes_another_one() {
    let world = World::new().await;
    let mut rules = RuleServiceClient::new(world.transport());
    let one = rules.create_rule(named(ten_a_minute(), "")).await.unwrap().into_inner().rule.unwrap();
    let other = rules.create_rule(named(ten_a_minute(), "")).await.unwrap().into_inner().rule.unwrap();
    assert_ne!(one.id, other.id);
}

#[tokio::test]
async fn a_request_id_is_of_one_kind_printable_and_bounded() {
    let world = World::new().await;
    let mut rules = RuleServiceClient::new(world.transport());
    for id in ["a\nb", "é", &"x".repeat(129)] {
        let refused = told(&rules.create_rule(named(ten_a_minute(), id)).await.unwrap_err());
        assert_eq!(refused, (Code::InvalidArgument, R::FieldOutOfBounds, "request_id".to_owned()));
    }
    rules.create_rule(named(ten_a_minute(), "one")).await.unwrap();
    let create = v1::CreateApiRequest { api: Some(api("one")), request_id: "one".to_owned() };
    let refused = ApiServiceClient::new(world.transport()).create_api(create).await.unwrap_err();
    assert_eq!(reason(&refused), R::RequestIdReused);
}

#[tokio::test]
async fn an_api_a_budget_and_a_price_are_made_once_although_another_would_be_refused() {
    let world = World::new().await;
    let request_id = || "one".to_owned();
    let mut apis = ApiServiceClient::new(world.transport());
    let create = v1::CreateApiRequest { api: Some(api("slug")), request_id: request_id() };
    let made = apis.create_api(create.clone()).await.unwrap().into_inner();
    assert_eq!(apis.create_api(create).await.unwrap().into_inner(), made);

    let mut prices = PriceServiceClient::new(world.transport());
    let price = Some(own_price("acme", "own-model", "3"));
    let create = v1::CreatePriceOverrideRequest { price, request_id: "two".to_owned() };
    let made = prices.create_price_override(create.clone()).await.unwrap().into_inner();
    assert_eq!(prices.create_price_override(create).await.unwrap().into_inner(), made);

    let mut budgets = BudgetServiceClient::new(world.transport());
    let budget = v1::Budget {
        display_name: "prepaid".to_owned(),
        amount: usd(7),
        period: Some(v1::budget::Period::Prepaid(v1::PrepaidBudget {})),
        ..v1::Budget::default()
    };
    let create = v1::CreateBudgetRequest { budget: Some(budget), request_id: "three".to_owned() };
    let made = budgets.create_budget(create.clone()).await.unwrap().into_inner();
    assert_eq!(budgets.create_budget(create).await.unwrap().into_inner(), made);
}

#[tokio::test]
async fn a_key_is_made_and_rotated_once_and_its_secret_is_shown_once() {
    let world = World::new().await;
    let mut keys = KeyServiceClient::new(world.transport());
    let key = v1::Key { display_name: "k".to_owned(), scopes: vec![1], ..v1::Key::default() };
    let create = v1::CreateKeyRequest { key: Some(key), request_id: "make".to_owned() };
    let made = keys.create_key(create.clone()).await.unwrap().into_inner();
    let again = keys.create_key(create.clone()).await.unwrap().into_inner();
    assert_eq!((again.key, again.secret.is_some(), made.secret.is_some()), (made.key.clone(), false, true));

    let id = made.key.unwrap().id;
    let request_id = "rotate".to_owned();
    let rotate = v1::RotateKeyRequest { id: id.clone(), request_id, ..v1::RotateKeyRequest::default() };
    let rotated = keys.rotate_key(rotate.clone()).await.unwrap().into_inner();
    let again = keys.rotate_key(rotate.clone()).await.unwrap().into_inner();
    assert_eq!((again.key, again.secret.is_some()), (rotated.key, false));
    assert!(rotated.secret.is_some());
    let longer = v1::RotateKeyRequest { overlap_ms: Some(1), ..rotate };
    assert_eq!(reason(&keys.rotate_key(longer).await.unwrap_err()), R::RequestIdReused);

    keys.delete_key(v1::DeleteKeyRequest { id, etag: String::new() }).await.unwrap();
    assert_eq!(reason(&keys.create_key(create).await.unwrap_err()), R::ResourceNotFound);
}

#[tokio::test]
async fn a_person_makes_a_workspace_once_for_a_request_id_that_is_theirs_alone() {
    let world = World::new().await;
    let (ada, bob) = (world.someone("ada").await, world.someone("bob").await);
    let create = |name: &str| v1::CreateWorkspaceRequest {
        workspace: Some(v1::Workspace { display_name: name.to_owned(), ..v1::Workspace::default() }),
        request_id: "one".to_owned(),
    };
    let made = world.workspaces(&ada).create_workspace(create("second")).await.unwrap().into_inner();
    let again = world.workspaces(&ada).create_workspace(create("second")).await.unwrap().into_inner();
    assert_eq!(again, made);
    let refused = world.workspaces(&ada).create_workspace(create("third")).await.unwrap_err();
    assert_eq!(reason(&refused), R::RequestIdReused);
    let of_bob = world.workspaces(&bob).create_workspace(create("third")).await.unwrap().into_inner();
    assert_ne!(of_bob.workspace.unwrap().id, made.workspace.unwrap().id);
    let list = v1::ListWorkspacesRequest::default();
    let listed = world.workspaces(&ada).list_workspaces(list).await.unwrap().into_inner();
    assert_eq!(listed.workspaces.len(), 2);
}
