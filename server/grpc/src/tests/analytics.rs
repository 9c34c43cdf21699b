//! Sums of what was used.

use std::time::Duration;

use prost_types::Timestamp;
use rateguard_proto::v1;
use rateguard_proto::v1::ErrorReason as R;
use rateguard_proto::v1::Metric as M;
use rateguard_proto::v1::analytics_service_client::AnalyticsServiceClient;
use rateguard_proto::v1::usage_service_client::UsageServiceClient;
use tonic::Code;

use super::managed::usd;
use super::world::{START_MS, World, told};

/// Seconds of the start of the tests' day.
const TODAY: i64 = START_MS / 86_400_000 * 86_400;
const HOUR: i64 = 3_600;

fn span(start: i64, end: i64) -> Option<v1::TimeRange> {
    let at = |seconds: i64| Some(Timestamp { seconds, nanos: 0 });
    Some(v1::TimeRange { start_time: at(start), end_time: at(end) })
}

fn today() -> Option<v1::TimeRange> {
    span(TODAY, TODAY + 24 * HOUR)
}

/// Three models with 1, 2 and 3 calls of a dollar-cent each, an hour apart.
async fn world() -> World {
    let world = World::new().await;
    let mut records = Vec::new();
    for (model, count) in [("small", 1), ("middle", 2), ("large", 3)] {
        for number in 0..count {
            records.push(v1::UsageRecord {
                event_id: format!("{model}-{number}"),
                occur_time: Some(Timestamp { seconds: TODAY + number * HOUR, nanos: 0 }),
                model: model.to_owned(),
                cost: usd(10_000_000),
                tokens: Some(v1::TokenUsage { input_total: Some(5), output: Some(2), ..Default::default() }),
                status_code: if number == 2 { 500 } else { 200 },
                latency_ms: Some(100),
                ..v1::UsageRecord::default()
            });
        }
    }
    let mut client = UsageServiceClient::new(world.transport());
    client.report_usage(v1::ReportUsageRequest { records }).await.unwrap();
    world.engine.roll_up().await.unwrap();
    world
}

fn by_model(metrics: &[M]) -> v1::QueryTimeSeriesRequest {
    v1::QueryTimeSeriesRequest {
        range: today(),
        metrics: metrics.iter().map(|metric| (*metric).into()).collect(),
        granularity: v1::Granularity::Hour.into(),
        group_by: v1::GroupBy::Model.into(),
        ..v1::QueryTimeSeriesRequest::default()
    }
}

#[tokio::test]
async fn a_summary_has_every_sum_that_the_rollups_hold() {
    let world = world().await;
    let mut client = AnalyticsServiceClient::new(world.transport());
    let request = v1::GetSummaryRequest { range: today(), filter: None };
    let summary = client.get_summary(request).await.unwrap().into_inner().summary.unwrap();
    assert_eq!((summary.request_count, summary.error_count, &summary.cost), (6, 1, &usd(60_000_000)));
    assert_eq!(summary.tokens, Some(v1::TokenTotals { input_total: 30, cached_input: 0, output: 12 }));
    assert!(summary.latency_p50_ms.is_some_and(|ms| (90..=110).contains(&ms)), "{summary:?}");

    let filter = Some(v1::AnalyticsFilter { model: "nobody".to_owned(), ..Default::default() });
    let none =
        client.get_summary(v1::GetSummaryRequest { range: today(), filter }).await.unwrap().into_inner();
    let none = none.summary.unwrap();
    assert_eq!((none.request_count, none.cost, none.latency_p50_ms), (0, usd(0), None));
}

#[tokio::test]
async fn the_largest_series_by_the_first_metric_come_first_and_the_rest_are_counted() {
    let world = world().await;
    let mut client = AnalyticsServiceClient::new(world.transport());
    let request =
        v1::QueryTimeSeriesRequest { series_max: 2, ..by_model(&[M::Cost, M::Requests, M::LatencyP99]) };
    let answer = client.query_time_series(request).await.unwrap().into_inner();
    let groups: Vec<_> =
        answer.series.iter().map(|series| (series.group.as_str(), series.points.len())).collect();
    assert_eq!(groups, [("large", 3), ("middle", 2)]);
    assert_eq!((answer.omitted_series_count, answer.currency_code.as_str()), (1, "USD"));
    let first = &answer.series[0].points[0];
    assert_eq!(first.start_time.as_ref().unwrap().seconds, TODAY);
    let metrics: Vec<_> = first.values.iter().map(|value| value.metric()).collect();
    assert_eq!(metrics, [M::Cost, M::Requests, M::LatencyP99]);
    assert_eq!((first.values[0].value, first.values[1].value), (Some(10_000_000), Some(1)));
}

#[tokio::test]
async fn days_begin_in_the_time_zone_that_is_asked_for() {
    let world = world().await;
    let mut client = AnalyticsServiceClient::new(world.transport());
    let request = v1::QueryTimeSeriesRequest {
        granularity: v1::Granularity::Day.into(),
        group_by: 0,
        time_zone: "Pacific/Kiritimati".to_owned(),
        range: span(TODAY - 48 * HOUR, TODAY + 48 * HOUR),
        ..by_model(&[M::Requests])
    };
    let answer = client.query_time_series(request).await.unwrap().into_inner();
    // Fourteen hours ahead: their day of the calls began at ten the day before.
    let starts: Vec<_> =
        answer.series[0].points.iter().map(|point| point.start_time.as_ref().unwrap().seconds).collect();
    assert_eq!(starts, [TODAY - 14 * HOUR]);
}

#[tokio::test]
async fn a_question_beyond_its_bounds_is_refused_by_name() {
    let world = World::new().await;
    let mut client = AnalyticsServiceClient::new(world.transport());
    let good = || by_model(&[M::Requests]);
    let year = span(TODAY, TODAY + 366 * 24 * HOUR);
    let wrong = [
        (v1::QueryTimeSeriesRequest { range: None, ..good() }, R::FieldMissing, "range.start_time"),
        (v1::QueryTimeSeriesRequest { range: span(5, 5), ..good() }, R::FieldOutOfBounds, "range.end_time"),
        (
            v1::QueryTimeSeriesRequest { range: span(0, 366 * 24 * HOUR + 1), ..good() },
            R::FieldOutOfBounds,
            "range",
        ),
        (v1::QueryTimeSeriesRequest { metrics: vec![], ..good() }, R::FieldMissing, "metrics"),
        (v1::QueryTimeSeriesRequest { metrics: vec![1, 1], ..good() }, R::FieldOutOfBounds, "metrics[1]"),
        (v1::QueryTimeSeriesRequest { metrics: vec![0], ..good() }, R::FieldMissing, "metrics[0]"),
        (v1::QueryTimeSeriesRequest { granularity: 0, ..good() }, R::FieldMissing, "granularity"),
        (v1::QueryTimeSeriesRequest { series_max: 101, ..good() }, R::FieldOutOfBounds, "series_max"),
        (
            v1::QueryTimeSeriesRequest { series_max: -1, group_by: 0, ..good() },
            R::FieldOutOfBounds,
            "series_max",
        ),
        (
            v1::QueryTimeSeriesRequest { time_zone: "Mars/Base".to_owned(), ..good() },
            R::FieldMalformed,
            "time_zone",
        ),
        (v1::QueryTimeSeriesRequest { range: year, ..good() }, R::QueryTooLarge, "granularity"),
    ];
    for (request, expected, field) in wrong {
        let error = client.query_time_series(request).await.unwrap_err();
        assert_eq!(told(&error), (Code::InvalidArgument, expected, field.to_owned()));
    }
    let year = v1::QueryTimeSeriesRequest {
        range: span(TODAY, TODAY + 366 * 24 * HOUR),
        granularity: v1::Granularity::Day.into(),
        ..good()
    };
    let answer = tokio::time::timeout(Duration::from_secs(30), client.query_time_series(year)).await;
    assert!(answer.expect("an answer in time").unwrap().into_inner().series.is_empty());
}
