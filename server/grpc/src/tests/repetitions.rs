//! Checks that are sent again: they get the first answer, whatever has changed since.

use rateguard_proto::v1;
use rateguard_proto::v1::ErrorReason as R;
use rateguard_proto::v1::api_service_client::ApiServiceClient;
use rateguard_proto::v1::price_service_client::PriceServiceClient;
use rateguard_proto::v1::quota_service_client::QuotaServiceClient;
use rateguard_proto::v1::rule_service_client::RuleServiceClient;
use tonic::{Code, Status};

use super::managed::{api, make_api};
use super::world::{World, reason};

fn consume(request_id: &str) -> v1::CheckQuotaRequest {
    v1::CheckQuotaRequest { request_id: request_id.to_owned(), explain: true, ..Default::default() }
}

fn reserve(request_id: &str) -> v1::CheckQuotaRequest {
    let estimate =
        v1::Estimate { input_tokens: Some(1_000), max_output_tokens: Some(0), ..Default::default() };
    v1::CheckQuotaRequest {
        model: "own-model".to_owned(),
        estimate: Some(estimate),
        mode: v1::CheckMode::Reserve.into(),
        ..consume(request_id)
    }
}

async fn check(world: &World, request: v1::CheckQuotaRequest) -> Result<v1::CheckQuotaResponse, Status> {
    Ok(QuotaServiceClient::new(world.transport()).check_quota(request).await?.into_inner())
}

async fn make_rule(world: &World, rule: v1::Rule) -> String {
    let mut client = RuleServiceClient::new(world.transport());
    let made = client
        .create_rule(v1::CreateRuleRequest { rule: Some(rule), request_id: String::new() })
        .await
        .unwrap()
        .into_inner();
    made.rule.unwrap().id
}

fn a_minute(limit: i64) -> v1::Rule {
    let window = v1::FixedWindow { limit, window_ms: 60_000 };
    v1::Rule {
        display_name: format!("{limit} a minute"),
        algorithm: Some(v1::rule::Algorithm::FixedWindow(window)),
        ..v1::Rule::default()
    }
}

/// A rule that denies calls without a subject.
fn a_minute_for_each_subject() -> v1::Rule {
    let subject = v1::ScopeDimension { kind: v1::ScopeKind::Subject.into(), ..Default::default() };
    v1::Rule { scope: vec![subject], on_missing: v1::OnMissing::Deny.into(), ..a_minute(7) }
}

async fn set_price(world: &World, input: &str) -> v1::Price {
    let price = v1::Price {
        provider: "acme".to_owned(),
        model: "own-model".to_owned(),
        token_rates: Some(v1::TokenRates { input: Some(input.to_owned()), ..Default::default() }),
        ..v1::Price::default()
    };
    let mut client = PriceServiceClient::new(world.transport());
    let request = v1::CreatePriceOverrideRequest { price: Some(price), request_id: String::new() };
    client.create_price_override(request).await.unwrap().into_inner().price.unwrap()
}

async fn remove_price(world: &World, price: v1::Price) {
    let mut client = PriceServiceClient::new(world.transport());
    let request = v1::DeletePriceOverrideRequest { id: price.id, ..Default::default() };
    client.delete_price_override(request).await.unwrap();
}

#[tokio::test]
async fn an_allowed_check_stays_so_when_a_rule_would_deny_it_for_a_missing_value() {
    let world = World::new().await;
    let rule = make_rule(&world, a_minute(5)).await;
    assert!(!check(&world, consume("first")).await.unwrap().replayed);
    let denying = make_rule(&world, a_minute_for_each_subject()).await;
    let again = check(&world, consume("first")).await.unwrap();
    assert_eq!((again.decision(), again.replayed), (v1::Decision::Allowed, true));
    assert_eq!((again.limits[0].id.as_str(), again.limits[0].remaining), (rule.as_str(), 4));
    assert!(again.explanation.iter().any(|limit| limit.id == rule && limit.matched));
    let other = consume("first");
    let other = v1::CheckQuotaRequest { endpoint: "/other".to_owned(), ..other };
    assert_eq!(reason(&check(&world, other).await.unwrap_err()), R::RequestIdReused);
    let new = check(&world, consume("second")).await.unwrap();
    assert_eq!((new.decision(), &new.limiting_limit_id), (v1::Decision::Denied, &denying));
}

#[tokio::test]
async fn a_denial_for_a_missing_value_is_explained() {
    let world = World::new().await;
    let denying = make_rule(&world, a_minute_for_each_subject()).await;
    let other = v1::CallMatch { models: vec!["gpt".to_owned()], ..Default::default() };
    let other = make_rule(&world, v1::Rule { r#match: Some(other), ..a_minute(5) }).await;
    let answer = check(&world, consume("")).await.unwrap();
    assert_eq!(answer.decision(), v1::Decision::Denied);
    let told: Vec<_> = answer.explanation.iter().map(|l| (l.id.clone(), l.matched)).collect();
    assert_eq!(told, [(denying.clone(), true), (other, false)]);
    let mut client = QuotaServiceClient::new(world.transport());
    let standing = client.get_quota(v1::GetQuotaRequest::default()).await.unwrap().into_inner();
    let causes: Vec<_> = standing.limits.iter().map(|limit| (&limit.id, limit.denial_cause())).collect();
    assert_eq!(causes, [(&denying, v1::DenialCause::ScopeValueMissing)]);
}

#[tokio::test]
async fn an_allowed_check_stays_so_when_its_api_is_gone() {
    let world = World::new().await;
    let made = make_api(&world, api("chat")).await.unwrap();
    let named = |id| v1::CheckQuotaRequest { api: "chat".to_owned(), ..consume(id) };
    assert!(!check(&world, named("first")).await.unwrap().replayed);
    let mut client = ApiServiceClient::new(world.transport());
    client.delete_api(v1::DeleteApiRequest { id: made.id, ..Default::default() }).await.unwrap();
    let again = check(&world, named("first")).await.unwrap();
    assert_eq!((again.decision(), again.replayed), (v1::Decision::Allowed, true));
    assert_eq!(check(&world, named("second")).await.unwrap_err().code(), Code::NotFound);
    let peek = v1::CheckQuotaRequest { mode: v1::CheckMode::Peek.into(), ..named("first") };
    assert_eq!(check(&world, peek).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn a_repeated_reservation_tells_what_was_reserved_under_the_prices_of_then() {
    let world = World::new().await;
    let price = set_price(&world, "1").await;
    let first = check(&world, reserve("first")).await.unwrap();
    assert_eq!(first.reserved.as_ref().unwrap().nanos, 1_000_000);
    remove_price(&world, price).await;
    set_price(&world, "3").await;
    let again = check(&world, reserve("first")).await.unwrap();
    assert!(again.replayed);
    assert_eq!((again.reservation_id, again.reserved), (first.reservation_id, first.reserved));
    assert_eq!(check(&world, reserve("second")).await.unwrap().reserved.unwrap().nanos, 3_000_000);
}

#[tokio::test]
async fn a_repeated_reservation_stands_when_its_price_is_not_known_any_more() {
    let world = World::new().await;
    let policy = v1::UnknownPricePolicy::Deny.into();
    make_api(&world, v1::Api { unknown_price_policy: policy, ..api("chat") }).await.unwrap();
    let named = |id| v1::CheckQuotaRequest { api: "chat".to_owned(), ..reserve(id) };
    let price = set_price(&world, "1").await;
    let first = check(&world, named("first")).await.unwrap();
    remove_price(&world, price).await;
    assert_eq!(reason(&check(&world, named("second")).await.unwrap_err()), R::PriceUnknown);
    let again = check(&world, named("first")).await.unwrap();
    assert_eq!((again.reservation_id, again.reserved), (first.reservation_id, first.reserved));
}
