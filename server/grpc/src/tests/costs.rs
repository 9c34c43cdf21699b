//! What calls cost at the edges of what is known and of what fits: nothing there is free by chance.

use rateguard_core::ids::PriceId;
use rateguard_core::money::Price;
use rateguard_core::pricing::{PriceBook, PriceSheet, PriceSource, TokenRates};
use rateguard_core::time::Millis;
use rateguard_core::usage::PriceRef;
use rateguard_proto::v1;
use rateguard_proto::v1::ErrorReason as R;
use rateguard_proto::v1::budget_service_client::BudgetServiceClient;
use rateguard_proto::v1::price_service_client::PriceServiceClient;
use rateguard_proto::v1::quota_service_client::QuotaServiceClient;
use rateguard_proto::v1::rule_service_client::RuleServiceClient;
use rateguard_proto::v1::usage_service_client::UsageServiceClient;
use tonic::Status;

use super::managed::{api, fixed_window, make_api, mask, usd};
use super::world::{World, reason, told};

/// The longest input that the listed model has a price for.
const PRICED_TOKENS: i64 = 1_000;
/// Nano-units that one input token costs.
const TOKEN_NANOS: i64 = 2_500;
const MONEY_NANOS_MAX: i64 = 1_000_000_000_000_000_000;

/// A model with a price for short inputs alone, at 2.50 dollars a million tokens.
async fn world_of_short_inputs() -> World {
    let input = Some(Price::parse_decimal("input", "2.5", 1_000_000).unwrap());
    let sheet = PriceSheet {
        reference: PriceRef { id: PriceId::parse("id", "price_short").unwrap(), version: 1 },
        provider: "maker".to_owned(),
        model: "short".to_owned(),
        token_rates: TokenRates { input, output: input, ..TokenRates::default() },
        per_request: None,
        per_unit: Vec::new(),
        input_tokens_max: None,
        output_tokens_max: None,
        priced_input_tokens_max: Some(PRICED_TOKENS),
        effective_from: Millis::ZERO,
        source: PriceSource::Catalogue,
    };
    World::with_catalogue(PriceBook::new(vec![sheet])).await
}

/// An API with the slug `charged`.
async fn make_charged(world: &World, policy: v1::UnknownPricePolicy, price_per_request: &str) {
    let is_default = policy == v1::UnknownPricePolicy::ChargeDefault;
    let charged = v1::Api {
        unknown_price_policy: policy.into(),
        default_cost: usd(7).filter(|_| is_default),
        price_per_request: Some(price_per_request.to_owned()),
        ..api("charged")
    };
    make_api(world, charged).await.unwrap();
}

async fn make_budget(world: &World, nanos: i64, enforcement: v1::BudgetEnforcement) -> String {
    let budget = v1::Budget {
        display_name: "all money".to_owned(),
        amount: usd(nanos),
        enforcement: enforcement.into(),
        period: Some(v1::budget::Period::Prepaid(v1::PrepaidBudget {})),
        ..v1::Budget::default()
    };
    let request = v1::CreateBudgetRequest { budget: Some(budget), request_id: String::new() };
    let made = BudgetServiceClient::new(world.transport()).create_budget(request).await.unwrap();
    made.into_inner().budget.unwrap().id
}

async fn state(world: &World, id: &str) -> v1::BudgetState {
    let request = v1::GetBudgetRequest { id: id.to_owned() };
    let found = BudgetServiceClient::new(world.transport()).get_budget(request).await.unwrap();
    found.into_inner().budget.unwrap().state.unwrap()
}

async fn check(world: &World, request: v1::CheckQuotaRequest) -> Result<v1::CheckQuotaResponse, Status> {
    Ok(QuotaServiceClient::new(world.transport()).check_quota(request).await?.into_inner())
}

async fn report(world: &World, record: v1::UsageRecord) -> v1::RecordResult {
    let request = v1::ReportUsageRequest { records: vec![record] };
    let answer = UsageServiceClient::new(world.transport()).report_usage(request).await.unwrap();
    answer.into_inner().results.remove(0)
}

/// A reservation for so many tokens of input and none of output.
fn reserve_input(input_tokens: i64) -> v1::CheckQuotaRequest {
    let estimate = v1::Estimate {
        input_tokens: Some(input_tokens),
        max_output_tokens: Some(0),
        ..v1::Estimate::default()
    };
    v1::CheckQuotaRequest {
        api: "charged".to_owned(),
        model: "short".to_owned(),
        mode: v1::CheckMode::Reserve.into(),
        estimate: Some(estimate),
        ..v1::CheckQuotaRequest::default()
    }
}

fn used_input(event_id: &str, input_tokens: i64) -> v1::UsageRecord {
    let tokens =
        v1::TokenUsage { input_total: Some(input_tokens), output: Some(0), ..v1::TokenUsage::default() };
    v1::UsageRecord {
        event_id: event_id.to_owned(),
        api: "charged".to_owned(),
        model: "short".to_owned(),
        tokens: Some(tokens),
        ..v1::UsageRecord::default()
    }
}

fn amounts(unit: &str, amount: i64) -> Vec<v1::UnitAmount> {
    vec![v1::UnitAmount { unit: unit.to_owned(), amount }]
}

fn reserve_requests(amount: i64) -> v1::CheckQuotaRequest {
    v1::CheckQuotaRequest {
        api: "charged".to_owned(),
        mode: v1::CheckMode::Reserve.into(),
        amounts: amounts("requests", amount),
        ..v1::CheckQuotaRequest::default()
    }
}

fn used_requests(event_id: &str, amount: i64) -> v1::UsageRecord {
    v1::UsageRecord {
        event_id: event_id.to_owned(),
        api: "charged".to_owned(),
        amounts: amounts("requests", amount),
        ..v1::UsageRecord::default()
    }
}

#[tokio::test]
async fn a_padded_input_holds_at_the_known_rates_so_that_a_hard_budget_holds() {
    let world = world_of_short_inputs().await;
    make_charged(&world, v1::UnknownPricePolicy::AllowAndFlag, "0").await;
    let padded = PRICED_TOKENS + 1;
    make_budget(&world, 3 * padded * TOKEN_NANOS, v1::BudgetEnforcement::Hard).await;
    for _ in 0..3 {
        let answer = check(&world, reserve_input(padded)).await.unwrap();
        assert_eq!(answer.reserved, usd(padded * TOKEN_NANOS));
    }
    assert_eq!(check(&world, reserve_input(padded)).await.unwrap().decision(), v1::Decision::Denied);
}

#[tokio::test]
async fn a_long_input_is_charged_at_the_known_rates_and_flagged() {
    for policy in [v1::UnknownPricePolicy::AllowAndFlag, v1::UnknownPricePolicy::Deny] {
        let world = world_of_short_inputs().await;
        make_charged(&world, policy, "0.000000001").await;
        let budget = make_budget(&world, MONEY_NANOS_MAX, v1::BudgetEnforcement::Hard).await;
        let result = report(&world, used_input("long", 2_000)).await;
        assert_eq!(
            (result.status(), &result.cost),
            (v1::RecordStatus::Accepted, &usd(2_000 * TOKEN_NANOS + 1))
        );
        assert_eq!(result.flags, [i32::from(v1::UsageFlag::PriceUnknown)]);
        assert_eq!(state(&world, &budget).await.spent_nanos, 2_000 * TOKEN_NANOS + 1);
        let short = report(&world, used_input("short", PRICED_TOKENS)).await;
        assert_eq!((short.cost, short.flags), (usd(PRICED_TOKENS * TOKEN_NANOS + 1), Vec::new()));
    }
}

#[tokio::test]
async fn a_default_cost_stands_for_a_long_input_but_holds_no_less_than_the_known_rates() {
    let world = world_of_short_inputs().await;
    make_charged(&world, v1::UnknownPricePolicy::ChargeDefault, "0").await;
    let answer = check(&world, reserve_input(2_000)).await.unwrap();
    assert_eq!(answer.reserved, usd(2_000 * TOKEN_NANOS));
    let result = report(&world, used_input("long", 2_000)).await;
    assert_eq!((result.cost, result.flags), (usd(7), vec![i32::from(v1::UsageFlag::PriceUnknown)]));
}

#[tokio::test]
async fn an_api_that_denies_unknown_prices_denies_a_long_input() {
    let world = world_of_short_inputs().await;
    make_charged(&world, v1::UnknownPricePolicy::Deny, "0").await;
    assert!(check(&world, reserve_input(PRICED_TOKENS)).await.is_ok());
    assert_eq!(reason(&check(&world, reserve_input(PRICED_TOKENS + 1)).await.unwrap_err()), R::PriceUnknown);
}

#[tokio::test]
async fn a_cost_beyond_all_money_is_a_fault_of_the_amount_under_every_policy() {
    use v1::UnknownPricePolicy as P;
    for policy in [P::AllowAndFlag, P::ChargeDefault, P::Deny] {
        let world = World::new().await;
        make_charged(&world, policy, "1").await;
        let budget = make_budget(&world, 10, v1::BudgetEnforcement::Hard).await;
        let most = check(&world, reserve_requests(1_000_000_000)).await.unwrap();
        assert_eq!(most.decision(), v1::Decision::Denied, "{policy:?}");
        let (_, refused, field) = told(&check(&world, reserve_requests(1_000_000_001)).await.unwrap_err());
        assert_eq!((refused, field.as_str()), (R::FieldOutOfBounds, "amounts[0].amount"), "{policy:?}");
        let result = report(&world, used_requests("beyond", 1_000_000_001)).await;
        assert_eq!((result.status(), result.cost), (v1::RecordStatus::Rejected, None), "{policy:?}");
        assert_eq!(
            (R::try_from(result.reason), result.field.as_str()),
            (Ok(R::FieldOutOfBounds), "amounts[0].amount")
        );
        assert_eq!(state(&world, &budget).await.spent_nanos, 0);
        let most = report(&world, used_requests("most", 1_000_000_000)).await;
        assert_eq!(most.cost, usd(MONEY_NANOS_MAX), "{policy:?}");
    }
}

/// A million dollars for each token of the input, and nothing for one of the output.
async fn set_dear_input(world: &World) {
    let rates = v1::TokenRates {
        input: Some("1000000000000".to_owned()),
        output: Some("0".to_owned()),
        ..v1::TokenRates::default()
    };
    let price = v1::Price {
        provider: "maker".to_owned(),
        model: "short".to_owned(),
        token_rates: Some(rates),
        ..v1::Price::default()
    };
    let request = v1::CreatePriceOverrideRequest { price: Some(price), request_id: String::new() };
    PriceServiceClient::new(world.transport()).create_price_override(request).await.unwrap();
}

#[tokio::test]
async fn tokens_whose_cost_does_not_fit_are_named() {
    let world = World::new().await;
    make_charged(&world, v1::UnknownPricePolicy::AllowAndFlag, "0").await;
    set_dear_input(&world).await;
    let (_, refused, field) = told(&check(&world, reserve_input(1_001)).await.unwrap_err());
    assert_eq!((refused, field.as_str()), (R::FieldOutOfBounds, "estimate.input_tokens"));
    let result = report(&world, used_input("beyond", 1_001)).await;
    assert_eq!((result.reason(), result.field.as_str()), (R::FieldOutOfBounds, "tokens.input_total"));
    assert_eq!(report(&world, used_input("most", 1_000)).await.cost, usd(MONEY_NANOS_MAX));
}

/// Ten records of the largest cost: more than the wire's 64 bits hold.
async fn overspend(world: &World) {
    for number in 0..10 {
        let record = v1::UsageRecord {
            event_id: format!("dear-{number}"),
            cost: usd(MONEY_NANOS_MAX),
            ..v1::UsageRecord::default()
        };
        assert_eq!(report(world, record).await.status(), v1::RecordStatus::Accepted);
    }
}

#[tokio::test]
async fn a_budget_that_is_spent_beyond_64_bits_tells_the_largest_number_and_refuses_no_check() {
    let world = World::new().await;
    let budget = make_budget(&world, 1, v1::BudgetEnforcement::Shadow).await;
    let ten_a_minute = v1::Rule {
        display_name: "ten a minute".to_owned(),
        algorithm: fixed_window(10),
        ..v1::Rule::default()
    };
    let request = v1::CreateRuleRequest { rule: Some(ten_a_minute), request_id: String::new() };
    RuleServiceClient::new(world.transport()).create_rule(request).await.unwrap();
    overspend(&world).await;
    for used in 1..=10 {
        let answer = check(&world, v1::CheckQuotaRequest::default()).await.unwrap();
        let mut told: Vec<_> = answer.limits.iter().map(|limit| (limit.kind(), limit.used)).collect();
        told.sort();
        assert_eq!(answer.decision(), v1::Decision::Allowed);
        assert_eq!(told, [(v1::LimitKind::Rule, used), (v1::LimitKind::Budget, i64::MAX)]);
    }
    assert_eq!(
        check(&world, v1::CheckQuotaRequest::default()).await.unwrap().decision(),
        v1::Decision::Denied
    );
    let spent = state(&world, &budget).await;
    assert_eq!((spent.spent_nanos, spent.held_nanos, spent.remaining_nanos), (i64::MAX, 0, 0));
}

#[tokio::test]
async fn a_budget_that_is_spent_beyond_64_bits_is_listed_and_changed_like_any_other() {
    let world = World::new().await;
    let id = make_budget(&world, 1, v1::BudgetEnforcement::Soft).await;
    overspend(&world).await;
    let mut client = BudgetServiceClient::new(world.transport());
    let listed = client.list_budgets(v1::ListBudgetsRequest::default()).await.unwrap().into_inner().budgets;
    assert_eq!(listed[0].state.as_ref().unwrap().spent_nanos, i64::MAX);
    let raised = v1::Budget { id, amount: usd(MONEY_NANOS_MAX), ..v1::Budget::default() };
    let request = v1::UpdateBudgetRequest { budget: Some(raised), update_mask: mask(&["amount"]) };
    let changed = client.update_budget(request).await.unwrap().into_inner().budget.unwrap();
    assert_eq!(changed.amount, usd(MONEY_NANOS_MAX));
    let request = v1::GetQuotaRequest::default();
    let quota = QuotaServiceClient::new(world.transport()).get_quota(request).await.unwrap().into_inner();
    assert_eq!((quota.limits[0].used, quota.limits[0].remaining), (i64::MAX, 0));
}
