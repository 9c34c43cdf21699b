//! Calls at the same time, and reservations that are renewed.

use rateguard_core::limits::{RESERVATION_LIFE_MS_MAX, RESERVATION_TTL_MS_DEFAULT, RESERVATION_TTL_MS_MAX};
use rateguard_core::time::Millis;
use rateguard_engine::resources::Scope;
use rateguard_proto::v1;
use rateguard_proto::v1::ErrorReason as R;
use rateguard_proto::v1::quota_service_client::QuotaServiceClient;
use rateguard_proto::v1::rule_service_client::RuleServiceClient;
use rateguard_proto::v1::usage_service_client::UsageServiceClient;
use tonic::Code;

use super::managed::make_rule;
use super::world::{START_MS, Transport, World, plain_key, reason, told};
use crate::convert::timestamp;

async fn at_once(world: &World, limit: i64, mode: v1::RuleMode) -> v1::Rule {
    let rule = v1::Rule {
        display_name: format!("{limit} at once"),
        algorithm: Some(v1::rule::Algorithm::Concurrency(v1::Concurrency { limit })),
        mode: mode.into(),
        ..v1::Rule::default()
    };
    make_rule(&mut RuleServiceClient::new(world.transport()), rule).await.unwrap()
}

fn quota(world: &World) -> QuotaServiceClient<Transport> {
    QuotaServiceClient::new(world.transport())
}

fn asking(mode: v1::CheckMode) -> v1::CheckQuotaRequest {
    v1::CheckQuotaRequest { mode: mode.into(), ..v1::CheckQuotaRequest::default() }
}

async fn reserve(world: &World) -> v1::CheckQuotaResponse {
    quota(world).check_quota(asking(v1::CheckMode::Reserve)).await.unwrap().into_inner()
}

async fn end(world: &World, event_id: &str, reservation_id: &str) {
    let record = v1::UsageRecord {
        event_id: event_id.to_owned(),
        reservation_id: reservation_id.to_owned(),
        ..v1::UsageRecord::default()
    };
    let report = v1::ReportUsageRequest { records: vec![record] };
    let results = UsageServiceClient::new(world.transport()).report_usage(report).await.unwrap();
    assert_eq!(results.into_inner().results[0].status(), v1::RecordStatus::Accepted);
}

async fn renew(
    world: &World,
    reservation_id: &str,
    ttl_ms: Option<i64>,
) -> Result<Option<prost_types::Timestamp>, tonic::Status> {
    let request = v1::RenewReservationRequest { reservation_id: reservation_id.to_owned(), ttl_ms };
    Ok(quota(world).renew_reservation(request).await?.into_inner().expire_time)
}

#[tokio::test]
async fn as_many_calls_run_as_may_and_another_for_each_that_ends() {
    let world = World::new().await;
    at_once(&world, 2, v1::RuleMode::Enforced).await;
    let (first, second) = (reserve(&world).await, reserve(&world).await);
    let denied = reserve(&world).await;
    assert_eq!(denied.decision(), v1::Decision::Denied);
    assert_eq!(denied.retry_after_ms, None, "nobody knows when the calls end");
    let status = &denied.limits[0];
    assert_eq!(status.denial_cause(), v1::DenialCause::Exhausted);
    assert_eq!((status.used, status.window_ms, status.reset_time), (2, 0, None));
    end(&world, "first", &first.reservation_id).await;
    assert_eq!(reserve(&world).await.decision(), v1::Decision::Allowed);
    let release = v1::ReleaseReservationRequest { reservation_id: second.reservation_id };
    quota(&world).release_reservation(release).await.unwrap();
    assert_eq!(reserve(&world).await.decision(), v1::Decision::Allowed);
    assert_eq!(reserve(&world).await.decision(), v1::Decision::Denied);
    world.pass_ms(RESERVATION_TTL_MS_DEFAULT).await;
    assert_eq!(reserve(&world).await.decision(), v1::Decision::Allowed, "the others have expired");
}

#[tokio::test]
async fn a_call_holds_as_many_requests_as_it_names_and_more_than_all_never_fit() {
    let world = World::new().await;
    at_once(&world, 3, v1::RuleMode::Enforced).await;
    let of = |amount| v1::CheckQuotaRequest {
        amounts: vec![v1::UnitAmount { unit: "requests".to_owned(), amount }],
        ..asking(v1::CheckMode::Reserve)
    };
    let never = quota(&world).check_quota(of(4)).await.unwrap().into_inner();
    assert_eq!(never.limits[0].denial_cause(), v1::DenialCause::AmountAboveLimit);
    for (amount, decision) in
        [(2, v1::Decision::Allowed), (2, v1::Decision::Denied), (0, v1::Decision::Allowed)]
    {
        let answer = quota(&world).check_quota(of(amount)).await.unwrap().into_inner();
        assert_eq!((answer.decision(), answer.limits[0].used), (decision, 2));
    }
}

#[tokio::test]
async fn a_call_that_says_no_end_is_refused_and_a_peek_tells() {
    let world = World::new().await;
    at_once(&world, 1, v1::RuleMode::Enforced).await;
    let refused = quota(&world).check_quota(asking(v1::CheckMode::Consume)).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused)), (Code::FailedPrecondition, R::ConcurrencyNeedsReserve));
    let peek = || async {
        quota(&world).check_quota(asking(v1::CheckMode::Peek)).await.unwrap().into_inner().decision()
    };
    assert_eq!(peek().await, v1::Decision::Allowed);
    reserve(&world).await;
    assert_eq!(peek().await, v1::Decision::Denied);
}

#[tokio::test]
async fn a_shadow_of_calls_at_the_same_time_watches_those_that_tell_their_end() {
    let world = World::new().await;
    at_once(&world, 1, v1::RuleMode::Shadow).await;
    let consumed = quota(&world).check_quota(asking(v1::CheckMode::Consume)).await.unwrap().into_inner();
    assert_eq!((consumed.decision(), consumed.limits[0].used), (v1::Decision::Allowed, 0));
    let held = reserve(&world).await;
    assert_eq!((held.limits[0].used, held.limits[0].allowed), (1, true));
    let beyond = reserve(&world).await;
    assert_eq!((beyond.decision(), beyond.limits[0].used), (v1::Decision::Allowed, 1));
    assert!(!beyond.limits[0].allowed);
}

#[tokio::test]
async fn a_report_without_a_reservation_leaves_calls_at_the_same_time_alone() {
    let world = World::new().await;
    at_once(&world, 1, v1::RuleMode::Enforced).await;
    let held = reserve(&world).await;
    end(&world, "another", "").await;
    assert_eq!(reserve(&world).await.decision(), v1::Decision::Denied);
    end(&world, "its-own", &held.reservation_id).await;
    let status = quota(&world).get_quota(v1::GetQuotaRequest::default()).await.unwrap().into_inner();
    assert_eq!(status.limits[0].used, 0);
}

#[tokio::test]
async fn a_rule_of_calls_at_the_same_time_that_cannot_be_is_refused_by_its_field() {
    let world = World::new().await;
    let rule = |limit| v1::Rule {
        display_name: "at once".to_owned(),
        algorithm: Some(v1::rule::Algorithm::Concurrency(v1::Concurrency { limit })),
        ..v1::Rule::default()
    };
    let local = v1::FailurePolicy {
        mode: v1::FailureMode::Local.into(),
        local_share_percent: 10,
        local_replicas_max: 2,
    };
    for (wrong, field) in [
        (rule(-1), "rule.concurrency.limit"),
        (v1::Rule { unit: "tokens".to_owned(), ..rule(1) }, "rule.unit"),
        (v1::Rule { consistency: v1::RuleConsistency::Leased.into(), ..rule(1) }, "rule.consistency"),
        (v1::Rule { failure_policy: Some(local), ..rule(1) }, "rule.failure_policy.mode"),
        (v1::Rule { counts_denied: true, ..rule(1) }, "rule.counts_denied"),
    ] {
        let refused =
            make_rule(&mut RuleServiceClient::new(world.transport()), wrong.clone()).await.unwrap_err();
        let expected = (Code::InvalidArgument, R::FieldOutOfBounds, field.to_owned());
        assert_eq!(told(&refused), expected, "{wrong:?}");
    }
}

#[tokio::test]
async fn a_renewed_reservation_goes_on_and_so_does_the_id_of_its_check() {
    let world = World::new().await;
    at_once(&world, 1, v1::RuleMode::Enforced).await;
    let question = v1::CheckQuotaRequest { request_id: "long".to_owned(), ..asking(v1::CheckMode::Reserve) };
    let held = quota(&world).check_quota(question.clone()).await.unwrap().into_inner();
    world.pass_ms(RESERVATION_TTL_MS_DEFAULT - 1).await;
    let expires = renew(&world, &held.reservation_id, Some(RESERVATION_TTL_MS_MAX)).await.unwrap();
    let until = START_MS + RESERVATION_TTL_MS_DEFAULT - 1 + RESERVATION_TTL_MS_MAX;
    assert_eq!(expires, Some(timestamp(Millis::new(until))));
    // A shorter time takes nothing away.
    assert_eq!(renew(&world, &held.reservation_id, Some(1_000)).await.unwrap(), expires);
    world.pass_ms(RESERVATION_TTL_MS_MAX - 1).await;
    let again = quota(&world).check_quota(question).await.unwrap().into_inner();
    assert!(again.replayed);
    assert_eq!((again.reservation_id, again.reservation_expire_time), (held.reservation_id, expires));
    assert_eq!(reserve(&world).await.decision(), v1::Decision::Denied, "it runs on");
}

#[tokio::test]
async fn a_renewal_has_bounds_an_owner_and_an_end() {
    let world = World::new().await;
    let held = reserve(&world).await.reservation_id;
    for ttl_ms in [0, 999, RESERVATION_TTL_MS_MAX + 1, i64::MAX, i64::MIN] {
        let refused = renew(&world, &held, Some(ttl_ms)).await.unwrap_err();
        assert_eq!(told(&refused), (Code::InvalidArgument, R::FieldOutOfBounds, "ttl_ms".to_owned()));
    }
    let other = world.add_key(plain_key(&[Scope::Quota])).await;
    let request = v1::RenewReservationRequest { reservation_id: held.clone(), ttl_ms: None };
    let foreign = QuotaServiceClient::new(world.transport_with(&other)).renew_reservation(request).await;
    assert_eq!(reason(&foreign.unwrap_err()), R::ResourceNotFound);
    let mut passed = 0;
    while passed + RESERVATION_TTL_MS_MAX < RESERVATION_LIFE_MS_MAX {
        renew(&world, &held, Some(RESERVATION_TTL_MS_MAX)).await.unwrap();
        world.pass_ms(RESERVATION_TTL_MS_MAX - 1).await;
        passed += RESERVATION_TTL_MS_MAX - 1;
    }
    let last = renew(&world, &held, Some(RESERVATION_TTL_MS_MAX)).await.unwrap();
    assert_eq!(last, Some(timestamp(Millis::new(START_MS + RESERVATION_LIFE_MS_MAX))));
    world.pass_ms(RESERVATION_LIFE_MS_MAX - passed).await;
    let over = renew(&world, &held, None).await.unwrap_err();
    assert_eq!((over.code(), reason(&over)), (Code::FailedPrecondition, R::ReservationEnded));
}
