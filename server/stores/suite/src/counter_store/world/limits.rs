//! The suite's limits.

use rateguard_core::counter::{Limit, Refill};
use rateguard_core::time::Bounds;

use super::{MINUTE_MS, at};

/// At most `limit` a minute.
pub fn a_minute(limit: i64) -> Limit {
    Limit::FixedWindow { limit, window_ms: MINUTE_MS }
}

/// At most `limit` in any minute.
pub fn any_minute(limit: i64) -> Limit {
    Limit::SlidingWindow { limit, window_ms: MINUTE_MS }
}

/// A bucket of `capacity`, refilled by `units` a minute.
pub fn bucket(capacity: i64, units: i64) -> Limit {
    let refill = Refill::new(units, MINUTE_MS, capacity).expect("the suite's buckets are within bounds");
    Limit::TokenBucket { capacity, refill }
}

/// The calendar's hour of the suite.
pub fn this_hour() -> Bounds {
    let hour_ms = 60 * MINUTE_MS;
    Bounds { start: at(0), end: at(hour_ms), next_end: at(2 * hour_ms) }
}

/// At most `limit` an hour of the calendar.
pub fn an_hour(limit: i64) -> Limit {
    Limit::CalendarWindow { limit, bounds: this_hour() }
}

/// A budget without reset.
pub fn prepaid(nanos: i64) -> Limit {
    Limit::Budget { nanos, bounds: None }
}

/// A budget of a calendar's hour.
pub fn hourly(nanos: i64) -> Limit {
    Limit::Budget { nanos, bounds: Some(this_hour()) }
}

/// At most `limit` at the same time.
pub fn at_once(limit: i64) -> Limit {
    Limit::Concurrency { limit }
}
