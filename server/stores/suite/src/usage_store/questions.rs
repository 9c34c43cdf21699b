//! Filters and queries over varied events.

use std::ops::Range;

use rateguard_core::ids::{ApiId, KeyId, RequestId};
use rateguard_core::time::{Millis, Zone};
use rateguard_core::usage::UsageEvent;
use rateguard_engine::ports::{EventFilter, EventQuery, Granularity, GroupBy, SeriesQuery, UsageFilter};

use super::{ALL, DAY_MS, HOUR_MS, MINUTE_MS};
use crate::event_log::samples::{APIS, KEYS, MODELS, Numbers, START_MS, SUBJECTS, reservation};

pub(super) fn everything() -> UsageFilter {
    let accounted = Millis::ZERO..Millis::new(i64::MAX);
    UsageFilter { accounted, api: None, key: None, subject: None, model: None }
}

pub(super) fn all_events() -> EventQuery {
    EventQuery { filter: EventFilter::default(), before: None, limit: ALL }
}

pub(super) fn occurred(range: Range<Millis>) -> EventFilter {
    EventFilter { occurred: Some(range), ..EventFilter::default() }
}

/// A range around varied events that begins and ends anywhere, or at a whole minute, hour or day.
pub(super) fn any_range(numbers: &mut Numbers) -> Range<Millis> {
    let mut end = || {
        let length = numbers.one_of(&[1, MINUTE_MS, HOUR_MS, DAY_MS]);
        Millis::new(numbers.instant_ms() / length * length)
    };
    let (one, other) = (end(), end());
    one.min(other)..one.max(other)
}

/// A filter with the parts whose bits are set.
pub(super) fn filter_of(parts: u64, numbers: &mut Numbers) -> UsageFilter {
    let part = |bit: u64| parts >> bit & 1 == 1;
    UsageFilter {
        api: part(0).then(|| ApiId::parse("api", numbers.one_of(&APIS)).expect("a sample is valid")),
        key: part(1).then(|| KeyId::parse("key", numbers.one_of(&KEYS)).expect("a sample is valid")),
        subject: part(2).then(|| numbers.one_of(&SUBJECTS).to_owned()),
        model: part(3).then(|| numbers.one_of(&MODELS).to_owned()),
        ..everything()
    }
}

/// A filter with the parts whose bits are set, most of them as one event has them.
pub(super) fn event_filter_of(parts: u64, event: &UsageEvent, numbers: &mut Numbers) -> EventFilter {
    let part = |bit: u64| parts >> bit & 1 == 1;
    let stranger = RequestId::parse("request_id", "stranger").ok();
    let filter = filter_of(parts & 0b1111, numbers);
    EventFilter {
        occurred: part(4).then(|| any_range(numbers)),
        api: filter.api.and_then(|_| event.call.api.clone()),
        key: filter.key.map(|_| event.call.key.clone()),
        subject: filter.subject.map(|_| event.call.subject.clone()),
        model: filter.model.map(|_| event.call.model.clone()),
        event_id: part(5).then(|| event.event_id.clone()),
        request_id: part(6).then(|| event.request_id.clone().or(stranger)).flatten(),
        reservation: part(7).then(|| event.reservation.clone().unwrap_or_else(|| reservation(u128::MAX))),
    }
}

pub(super) fn days(filter: UsageFilter, group_by: Option<GroupBy>, zone_name: &str) -> SeriesQuery {
    let month = Millis::new(START_MS - 15 * DAY_MS)..Millis::new(START_MS + 15 * DAY_MS);
    let start = filter.accounted.start.max(month.start);
    let filter = UsageFilter { accounted: start..filter.accounted.end.min(month.end), ..filter };
    SeriesQuery { filter, granularity: Granularity::Day, group_by, zone: zone(zone_name), points_max: ALL }
}

pub(super) fn zone(name: &str) -> Zone {
    Zone::parse("zone", name).expect("a sample is valid")
}
