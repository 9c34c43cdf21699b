//! Amounts of nothing, below nothing, and near the largest number, in every mode.

use rateguard_core::limits::{AMOUNT_MAX, LIMIT_MAX, MONEY_NANOS_MAX};
use rateguard_proto::v1;
use rateguard_proto::v1::ErrorReason as R;
use rateguard_proto::v1::quota_service_client::QuotaServiceClient;
use rateguard_proto::v1::rule_service_client::RuleServiceClient;
use tonic::{Code, Status};

use super::managed::{fixed_window, make_rule, usd};
use super::world::{World, told};

const MODES: [v1::CheckMode; 3] = [v1::CheckMode::Consume, v1::CheckMode::Peek, v1::CheckMode::Reserve];

async fn ask(world: &World, mode: v1::CheckMode, amount: i64) -> Result<v1::CheckQuotaResponse, Status> {
    let request = v1::CheckQuotaRequest {
        mode: mode.into(),
        amounts: vec![v1::UnitAmount { unit: "tokens".to_owned(), amount }],
        ..v1::CheckQuotaRequest::default()
    };
    Ok(QuotaServiceClient::new(world.transport()).check_quota(request).await?.into_inner())
}

async fn tokens_to(world: &World, limit: i64) {
    let rule = v1::Rule {
        display_name: "tokens".to_owned(),
        unit: "tokens".to_owned(),
        algorithm: fixed_window(limit),
        ..v1::Rule::default()
    };
    make_rule(&mut RuleServiceClient::new(world.transport()), rule).await.unwrap();
}

#[tokio::test]
async fn nothing_always_passes_and_takes_nothing_also_where_nothing_is_left() {
    for limit in [0, 5] {
        let world = World::new().await;
        tokens_to(&world, limit).await;
        ask(&world, v1::CheckMode::Consume, limit).await.unwrap();
        for mode in MODES {
            let answer = ask(&world, mode, 0).await.unwrap();
            assert_eq!(answer.decision(), v1::Decision::Allowed, "{mode:?} of {limit}");
            assert_eq!((answer.limits[0].used, answer.limits[0].remaining), (limit, 0));
            let denied = ask(&world, mode, 1).await.unwrap();
            assert_eq!(denied.decision(), v1::Decision::Denied, "{mode:?} of {limit}");
        }
    }
}

#[tokio::test]
async fn less_than_nothing_and_more_than_an_amount_may_be_is_refused() {
    let world = World::new().await;
    tokens_to(&world, LIMIT_MAX).await;
    for mode in MODES {
        for amount in [-1, i64::MIN, AMOUNT_MAX + 1, i64::MAX - 1, i64::MAX] {
            let refused = ask(&world, mode, amount).await.unwrap_err();
            let expected = (Code::InvalidArgument, R::FieldOutOfBounds, "amounts[0].amount".to_owned());
            assert_eq!(told(&refused), expected, "{mode:?} of {amount}");
        }
    }
}

#[tokio::test]
async fn the_largest_amounts_add_up_to_the_largest_limit_and_not_beyond() {
    let world = World::new().await;
    tokens_to(&world, LIMIT_MAX).await;
    let whole = LIMIT_MAX / AMOUNT_MAX;
    for _ in 0..whole {
        let answer = ask(&world, v1::CheckMode::Consume, AMOUNT_MAX).await.unwrap();
        assert_eq!(answer.decision(), v1::Decision::Allowed);
    }
    let beyond = ask(&world, v1::CheckMode::Reserve, AMOUNT_MAX).await.unwrap();
    assert_eq!(beyond.decision(), v1::Decision::Denied);
    assert_eq!(beyond.limits[0].used, whole * AMOUNT_MAX);
    let rest = ask(&world, v1::CheckMode::Reserve, LIMIT_MAX - whole * AMOUNT_MAX).await.unwrap();
    assert_eq!((rest.decision(), rest.limits[0].remaining), (v1::Decision::Allowed, 0));
}

#[tokio::test]
async fn estimates_and_limits_of_any_size_are_answered_or_refused_by_their_field() {
    let world = World::new().await;
    let mut client = QuotaServiceClient::new(world.transport());
    for nanos in [-1, i64::MIN, MONEY_NANOS_MAX + 1, i64::MAX] {
        let estimate = v1::Estimate { cost: usd(nanos), ..v1::Estimate::default() };
        let request = v1::CheckQuotaRequest {
            mode: v1::CheckMode::Reserve.into(),
            estimate: Some(estimate),
            ..v1::CheckQuotaRequest::default()
        };
        let (code, reason, field) = told(&client.check_quota(request).await.unwrap_err());
        assert_eq!((code, reason), (Code::InvalidArgument, R::FieldOutOfBounds), "{nanos}");
        assert!(field.starts_with("estimate.cost"), "{field}");
    }
    for limit in [-1, i64::MIN, LIMIT_MAX + 1, i64::MAX] {
        let rule = v1::Rule {
            display_name: "beyond".to_owned(),
            algorithm: fixed_window(limit),
            ..v1::Rule::default()
        };
        let refused = make_rule(&mut RuleServiceClient::new(world.transport()), rule).await.unwrap_err();
        let expected = (Code::InvalidArgument, R::FieldOutOfBounds, "rule.fixed_window.limit".to_owned());
        assert_eq!(told(&refused), expected);
    }
}
