//! Checks and reports.

use rateguard_engine::resources::Scope;
use rateguard_proto::v1;
use rateguard_proto::v1::ErrorReason as R;
use rateguard_proto::v1::quota_service_client::QuotaServiceClient;
use rateguard_proto::v1::rule_service_client::RuleServiceClient;
use rateguard_proto::v1::usage_service_client::UsageServiceClient;
use tonic::Code;
use tonic_types::StatusExt;

use super::managed::{api, make_api, usd};
use super::world::{START_MS, World, plain_key, reason, told};

async fn limit_to(world: &World, limit: i64, models: &[&str]) -> String {
    let matches = v1::CallMatch {
        models: models.iter().map(|model| (*model).to_owned()).collect(),
        ..v1::CallMatch::default()
    };
    let window = v1::FixedWindow { limit, window_ms: 60_000 };
    let rule = v1::Rule {
        display_name: format!("{limit} a minute"),
        r#match: Some(matches),
        algorithm: Some(v1::rule::Algorithm::FixedWindow(window)),
        ..v1::Rule::default()
    };
    let mut client = RuleServiceClient::new(world.transport());
    let made = client
        .create_rule(v1::CreateRuleRequest { rule: Some(rule), request_id: String::new() })
        .await
        .unwrap();
    made.into_inner().rule.unwrap().id
}

fn record(event_id: &str) -> v1::UsageRecord {
    v1::UsageRecord {
        event_id: event_id.to_owned(),
        model: "gpt".to_owned(),
        cost: usd(1_500),
        tokens: Some(v1::TokenUsage { input_total: Some(100), output: Some(0), ..v1::TokenUsage::default() }),
        dimensions: [("plan".to_owned(), "free".to_owned())].into(),
        status_code: 200,
        latency_ms: Some(250),
        request_id: "request-1".to_owned(),
        ip: "192.0.2.7".to_owned(),
        ..v1::UsageRecord::default()
    }
}

#[tokio::test]
async fn a_denial_is_an_answer_with_the_limit_and_the_wait() {
    let world = World::new().await;
    let id = limit_to(&world, 2, &[]).await;
    let mut client = QuotaServiceClient::new(world.transport());
    for _ in 0..2 {
        let answer = client.check_quota(v1::CheckQuotaRequest::default()).await.unwrap().into_inner();
        assert_eq!(answer.decision(), v1::Decision::Allowed);
    }
    let denied = client.check_quota(v1::CheckQuotaRequest::default()).await.unwrap().into_inner();
    assert_eq!((denied.decision(), &denied.limiting_limit_id), (v1::Decision::Denied, &id));
    assert_eq!(denied.retry_after_ms, Some(60_000 - START_MS % 60_000));
    let status = &denied.limits[0];
    assert_eq!(
        (status.denial_cause(), status.remaining, status.limiting),
        (v1::DenialCause::Exhausted, 0, true)
    );
}

#[tokio::test]
async fn an_explanation_names_every_limit_whether_it_matched_or_not() {
    let world = World::new().await;
    let (every, other) = (limit_to(&world, 5, &[]).await, limit_to(&world, 5, &["claude-*"]).await);
    let mut client = QuotaServiceClient::new(world.transport());
    let request = v1::CheckQuotaRequest { model: "gpt".to_owned(), explain: true, ..Default::default() };
    let answer = client.check_quota(request.clone()).await.unwrap().into_inner();
    let told: Vec<_> = answer.explanation.iter().map(|l| (l.id.clone(), l.matched, l.reason())).collect();
    let expected =
        [(every, true, v1::MismatchReason::Unspecified), (other, false, v1::MismatchReason::Model)];
    assert_eq!(told, expected);
    let silent = v1::CheckQuotaRequest { explain: false, ..request };
    assert!(client.check_quota(silent).await.unwrap().into_inner().explanation.is_empty());
}

#[tokio::test]
async fn what_is_wrong_with_a_check_is_named() {
    let world = World::new().await;
    let mut client = QuotaServiceClient::new(world.transport());
    let amount = |unit: &str, amount: i64| v1::UnitAmount { unit: unit.to_owned(), amount };
    let attributes = |name: &str, value: &str| [(name.to_owned(), value.to_owned())].into();
    let check = v1::CheckQuotaRequest::default;
    let wrong = [
        (
            v1::CheckQuotaRequest { request_id: "a b".to_owned(), ..check() },
            R::FieldOutOfBounds,
            "request_id",
        ),
        (v1::CheckQuotaRequest { api: "x".repeat(65), ..check() }, R::FieldOutOfBounds, "api"),
        (v1::CheckQuotaRequest { method: "x".repeat(65), ..check() }, R::FieldOutOfBounds, "method"),
        (v1::CheckQuotaRequest { ip: "999.1.1.1".to_owned(), ..check() }, R::FieldMalformed, "ip"),
        (
            v1::CheckQuotaRequest { attributes: attributes("KEY", "v"), ..check() },
            R::FieldOutOfBounds,
            "attributes",
        ),
        (
            v1::CheckQuotaRequest { amounts: vec![amount("cost", 1)], ..check() },
            R::FieldMalformed,
            "amounts[0].unit",
        ),
        (
            v1::CheckQuotaRequest { amounts: vec![amount("tokens", -1)], ..check() },
            R::FieldOutOfBounds,
            "amounts[0].amount",
        ),
        (v1::CheckQuotaRequest { mode: 9, ..check() }, R::FieldMalformed, "mode"),
        (
            v1::CheckQuotaRequest { reservation_ttl_ms: Some(5_000), ..check() },
            R::FieldConflict,
            "reservation_ttl_ms",
        ),
        (
            v1::CheckQuotaRequest {
                estimate: Some(v1::Estimate { cost: usd(1), ..Default::default() }),
                ..check()
            },
            R::EstimateNeedsReserve,
            "estimate.cost",
        ),
        (
            v1::CheckQuotaRequest {
                estimate: Some(v1::Estimate { choices: Some(0), ..Default::default() }),
                ..check()
            },
            R::FieldOutOfBounds,
            "estimate.choices",
        ),
    ];
    for (request, expected, field) in wrong {
        let status = client.check_quota(request).await.unwrap_err();
        assert_eq!(told(&status), (Code::InvalidArgument, expected, field.to_owned()));
        let details = status.get_error_details();
        let violation = &details.bad_request().unwrap().field_violations[0];
        assert_eq!(violation.field, field);
        assert!(!violation.description.is_empty());
    }
}

#[tokio::test]
async fn an_item_of_a_batch_fails_by_itself() {
    let world = World::new().await;
    let mut client = QuotaServiceClient::new(world.transport());
    let unknown = v1::CheckQuotaRequest { api: "nobody".to_owned(), ..Default::default() };
    let requests = vec![v1::CheckQuotaRequest::default(), unknown];
    let answer =
        client.batch_check_quota(v1::BatchCheckQuotaRequest { requests }).await.unwrap().into_inner();
    use v1::batch_check_result::Result as Item;
    assert!(
        matches!(&answer.results[0].result, Some(Item::Response(r)) if r.decision() == v1::Decision::Allowed)
    );
    let Some(Item::Error(error)) = &answer.results[1].result else { panic!("{answer:?}") };
    assert_eq!((error.code, error.reason()), (Code::NotFound.into(), R::ResourceNotFound));
    for count in [0, 1_001] {
        let requests = vec![v1::CheckQuotaRequest::default(); count];
        let error = client.batch_check_quota(v1::BatchCheckQuotaRequest { requests }).await.unwrap_err();
        assert_eq!(told(&error), (Code::InvalidArgument, R::FieldOutOfBounds, "requests".to_owned()));
    }
}

#[tokio::test]
async fn a_reservation_is_released_by_whoever_took_it_and_hidden_from_others() {
    let world = World::new().await;
    let app = world.add_key(plain_key(&[Scope::Gateway, Scope::Quota])).await;
    let mut gateway = QuotaServiceClient::new(world.gateway_for(&app));
    let reserve = v1::CheckQuotaRequest {
        mode: v1::CheckMode::Reserve.into(),
        estimate: Some(v1::Estimate { cost: usd(700), ..v1::Estimate::default() }),
        ..v1::CheckQuotaRequest::default()
    };
    let held = gateway.check_quota(reserve).await.unwrap().into_inner();
    assert_eq!(held.reserved, usd(700));
    let release = v1::ReleaseReservationRequest { reservation_id: held.reservation_id };
    // The app's own key is another principal than the gateway that acts for it.
    let mut own = QuotaServiceClient::new(world.transport_with(&app));
    let error = own.release_reservation(release.clone()).await.unwrap_err();
    assert_eq!((error.code(), reason(&error)), (Code::NotFound, R::ResourceNotFound));
    for _ in 0..2 {
        let state = gateway.release_reservation(release.clone()).await.unwrap().into_inner().state();
        assert_eq!(state, v1::ReservationState::Released);
    }
}

#[tokio::test]
async fn a_record_is_accepted_once_and_listed_as_it_was_reported() {
    let world = World::new().await;
    let mut client = UsageServiceClient::new(world.transport());
    let bad = v1::UsageRecord { status_code: 99, ..record("bad") };
    let request = v1::ReportUsageRequest { records: vec![record("one"), bad] };
    let results = client.report_usage(request.clone()).await.unwrap().into_inner().results;
    assert_eq!((results[0].status(), &results[0].cost), (v1::RecordStatus::Accepted, &usd(1_500)));
    assert_eq!((results[1].status(), results[1].reason()), (v1::RecordStatus::Rejected, R::FieldOutOfBounds));
    assert_eq!((results[1].event_id.as_str(), results[1].field.as_str()), ("bad", "status_code"));
    let again = client.report_usage(request).await.unwrap().into_inner().results;
    assert_eq!((again[0].status(), &again[0].cost), (v1::RecordStatus::Duplicate, &usd(1_500)));

    let page = client.list_usage_events(v1::ListUsageEventsRequest::default()).await.unwrap().into_inner();
    assert_eq!(page.events.len(), 1);
    let event = &page.events[0];
    assert_eq!((event.kind(), &event.cost), (v1::UsageEventKind::Usage, &usd(1_500)));
    assert_eq!(
        (event.cost_components[0].name.as_str(), event.cost_components[0].unit_price.as_str()),
        ("explicit", "")
    );
    let expected = v1::UsageRecord {
        occur_time: Some(prost_types::Timestamp { seconds: START_MS / 1_000, nanos: 0 }),
        attempt: Some(1),
        r#final: Some(true),
        exactness: v1::UsageExactness::Exact.into(),
        already_consumed_units: Some(v1::UnitSet { units: vec!["requests".to_owned()] }),
        ..record("one")
    };
    assert_eq!(event.record, Some(expected));
}

#[tokio::test]
async fn what_is_wrong_with_a_record_is_named_and_sinks_it_alone() {
    let world = World::new().await;
    let mut client = UsageServiceClient::new(world.transport());
    let tokens = vec![v1::UnitAmount { unit: "tokens".to_owned(), amount: 1 }];
    let twice = v1::UnitSet { units: vec!["a".to_owned(), "a".to_owned()] };
    let price = v1::PriceReference { price_id: "price_x".to_owned(), price_version: 0 };
    let cases = [
        (record(""), R::FieldMissing, "event_id"),
        (record("expired:rsv_1"), R::EventIdReserved, "event_id"),
        (v1::UsageRecord { attempt: Some(0), ..record("a") }, R::FieldOutOfBounds, "attempt"),
        (v1::UsageRecord { amounts: tokens, ..record("b") }, R::FieldConflict, "amounts[0].unit"),
        (
            v1::UsageRecord { already_consumed_units: Some(twice), ..record("c") },
            R::FieldOutOfBounds,
            "already_consumed_units.units[1]",
        ),
        (v1::UsageRecord { price: Some(price), ..record("d") }, R::FieldOutOfBounds, "price.price_version"),
        (v1::UsageRecord { latency_ms: Some(-1), ..record("e") }, R::FieldOutOfBounds, "latency_ms"),
        (
            v1::UsageRecord {
                cost: Some(v1::NanoMoney { currency_code: "EUR".to_owned(), nanos: 1 }),
                ..record("f")
            },
            R::CurrencyMismatch,
            "cost.currency_code",
        ),
        (
            v1::UsageRecord {
                occur_time: Some(prost_types::Timestamp { seconds: 0, nanos: 0 }),
                ..record("g")
            },
            R::OccurTimeTooOld,
            "occur_time",
        ),
        (
            v1::UsageRecord {
                occur_time: Some(prost_types::Timestamp { seconds: i64::MAX, nanos: 0 }),
                ..record("h")
            },
            R::FieldMalformed,
            "occur_time",
        ),
    ];
    let mut records: Vec<_> = cases.iter().map(|(record, ..)| record.clone()).collect();
    let no_currency = v1::NanoMoney { currency_code: String::new(), nanos: 7 };
    records.push(v1::UsageRecord { cost: Some(no_currency), ..record("good") });
    let results = client.report_usage(v1::ReportUsageRequest { records }).await.unwrap().into_inner().results;
    for (result, (_, expected, field)) in results.iter().zip(&cases) {
        assert_eq!((result.reason(), result.field.as_str()), (*expected, *field));
        assert!(!result.message.is_empty() && result.status() == v1::RecordStatus::Rejected);
    }
    assert_eq!((results[10].status(), &results[10].cost), (v1::RecordStatus::Accepted, &usd(7)));
}

#[tokio::test]
async fn events_are_paged_and_filtered() {
    let world = World::new().await;
    make_api(&world, api("openai")).await.unwrap();
    let mut client = UsageServiceClient::new(world.transport());
    let of_api = |n: i32| v1::UsageRecord { api: "openai".to_owned(), ..record(&format!("event-{n}")) };
    let mut records: Vec<_> = (0..5).map(of_api).collect();
    records.push(record("elsewhere"));
    client.report_usage(v1::ReportUsageRequest { records }).await.unwrap();
    let filter = Some(v1::UsageEventFilter { api: "openai".to_owned(), ..Default::default() });
    let (mut seen, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = v1::ListUsageEventsRequest { filter: filter.clone(), page_size: 2, page_token };
        let page = client.list_usage_events(request).await.unwrap().into_inner();
        seen.extend(page.events.into_iter().map(|event| event.record.unwrap().event_id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, (0..5).rev().map(|n| format!("event-{n}")).collect::<Vec<_>>());
    let span = |start: i64, end: i64| v1::UsageEventFilter {
        start_time: Some(prost_types::Timestamp { seconds: start, nanos: 0 }),
        end_time: Some(prost_types::Timestamp { seconds: end, nanos: 0 }),
        ..v1::UsageEventFilter::default()
    };
    let slug = v1::UsageEventFilter { api: "nobody".to_owned(), ..v1::UsageEventFilter::default() };
    for (filter, code, field) in
        [(span(5, 5), Code::InvalidArgument, "filter.end_time"), (slug, Code::NotFound, "filter.api")]
    {
        let request = v1::ListUsageEventsRequest { filter: Some(filter), ..Default::default() };
        let error = client.list_usage_events(request).await.unwrap_err();
        assert_eq!((error.code(), told(&error).2.as_str()), (code, field));
    }
}
