//! The same answers worked out from the events themselves, one by one and without any rollup.

use std::collections::BTreeMap;

use rateguard_core::ids::WorkspaceId;
use rateguard_core::time::{CalendarPeriod, Millis, Zone};
use rateguard_core::usage::{EventKind, LoggedEvent, UsageEvent};
use rateguard_engine::ports::{
    EventFilter, Granularity, GroupBy, SeriesPoint, SeriesQuery, Summary, UsageFilter,
};

const PERCENTS: [usize; 3] = [50, 95, 99];
/// How far a percentile may be off, as a part of itself: a bucket is at most a tenth wide.
const PERCENTILE_PART_MAX: i64 = 10;

/// Whether a sum counts an event.
pub fn is_summed(workspace: &WorkspaceId, filter: &UsageFilter, event: &UsageEvent) -> bool {
    let call = &event.call;
    event.workspace == *workspace
        && filter.accounted.contains(&event.accounted_at)
        && filter.api.as_ref().is_none_or(|api| call.api.as_ref() == Some(api))
        && filter.key.as_ref().is_none_or(|key| call.key == *key)
        && filter.subject.as_ref().is_none_or(|subject| call.subject == *subject)
        && filter.model.as_ref().is_none_or(|model| call.model == *model)
}

/// Whether a list shows an event.
pub fn is_listed(workspace: &WorkspaceId, filter: &EventFilter, event: &UsageEvent) -> bool {
    let call = &event.call;
    event.workspace == *workspace
        && filter.occurred.as_ref().is_none_or(|occurred| occurred.contains(&event.occurred_at))
        && filter.api.as_ref().is_none_or(|api| call.api.as_ref() == Some(api))
        && filter.key.as_ref().is_none_or(|key| call.key == *key)
        && filter.subject.as_ref().is_none_or(|subject| call.subject == *subject)
        && filter.model.as_ref().is_none_or(|model| call.model == *model)
        && filter.event_id.as_ref().is_none_or(|id| event.event_id == *id)
        && filter.request_id.as_ref().is_none_or(|id| event.request_id.as_ref() == Some(id))
        && filter.reservation.as_ref().is_none_or(|id| event.reservation.as_ref() == Some(id))
}

/// The sums of some events. Percentiles are exact.
pub fn summary<'a>(events: impl IntoIterator<Item = &'a UsageEvent>) -> Summary {
    let events: Vec<&UsageEvent> = events.into_iter().collect();
    let calls: Vec<&UsageEvent> = events.iter().copied().filter(|e| e.kind == EventKind::Usage).collect();
    let count = |is: fn(&UsageEvent) -> bool| calls.iter().filter(|event| is(event)).count() as i64;
    let total = |of: fn(&UsageEvent) -> Option<i64>| calls.iter().filter_map(|event| of(event)).sum();
    Summary {
        requests: calls.len() as i64,
        errors: count(|e| e.outcome.status_code >= 400 || !e.outcome.error_type.is_empty()),
        rate_limited: count(|e| e.outcome.rate_limited),
        cache_hits: count(|e| e.outcome.cache_hit),
        cost_nanos: events.iter().map(|e| i128::from(e.cost.get())).sum(),
        input_tokens: total(|e| e.tokens.input_total),
        cached_input_tokens: total(|e| e.tokens.cached_input),
        output_tokens: total(|e| e.tokens.output),
        latency_ms_percentiles: percentiles(calls.iter().filter_map(|e| e.outcome.latency_ms).collect()),
        ..Summary::default()
    }
}

fn percentiles(mut latencies: Vec<i64>) -> Option<[i64; 3]> {
    latencies.sort_unstable();
    let rank = |percent: usize| (latencies.len() * percent).div_ceil(100).max(1) - 1;
    (!latencies.is_empty()).then(|| PERCENTS.map(|percent| latencies[rank(percent)]))
}

/// A series over the events that count.
pub fn series(workspace: &WorkspaceId, query: &SeriesQuery, events: &[LoggedEvent]) -> Vec<SeriesPoint> {
    let mut buckets: BTreeMap<(Millis, String), Vec<&UsageEvent>> = BTreeMap::new();
    for LoggedEvent { event, .. } in events {
        if is_summed(workspace, &query.filter, event) {
            let start = start(query.granularity, &query.zone, event.accounted_at);
            buckets.entry((start, group(query.group_by, event))).or_default().push(event);
        }
    }
    let point = |((start, group), events)| SeriesPoint { start, group, summary: summary::<'_>(events) };
    buckets.into_iter().map(point).collect()
}

fn start(granularity: Granularity, zone: &Zone, at: Millis) -> Millis {
    match granularity {
        Granularity::Minute => Millis::new(at.get() / 60_000 * 60_000),
        Granularity::Hour => Millis::new(at.get() / 3_600_000 * 3_600_000),
        Granularity::Day => CalendarPeriod::Day.bounds(zone, at).start,
    }
}

fn group(by: Option<GroupBy>, event: &UsageEvent) -> String {
    let call = &event.call;
    match by {
        None => String::new(),
        Some(GroupBy::Api) => call.api.as_ref().map(ToString::to_string).unwrap_or_default(),
        Some(GroupBy::Key) => call.key.to_string(),
        Some(GroupBy::Status) => event.outcome.status_code.to_string(),
        Some(GroupBy::Error) => event.outcome.error_type.clone(),
        Some(GroupBy::Endpoint) => call.endpoint.clone(),
        Some(GroupBy::Subject) => call.subject.clone(),
        Some(GroupBy::Model) => call.model.clone(),
    }
}

/// Asserts that a store's sums are those expected: equal, with percentiles within a tenth.
pub fn assert_agrees(told: &Summary, expected: &Summary, about: &dyn std::fmt::Debug) {
    let parts = |summary: &Summary| Summary {
        latency_ms_percentiles: None,
        through: Default::default(),
        ..summary.clone()
    };
    assert_eq!(parts(told), parts(expected), "{about:?}");
    let (Some(told), Some(exact)) = (told.latency_ms_percentiles, expected.latency_ms_percentiles) else {
        assert_eq!(told.latency_ms_percentiles, expected.latency_ms_percentiles, "{about:?}");
        return;
    };
    for (told, exact) in told.into_iter().zip(exact) {
        let off = (told - exact).abs();
        assert!(off * PERCENTILE_PART_MAX <= exact, "{told} for {exact}: {about:?}");
    }
}
