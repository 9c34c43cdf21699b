//! Envoy's units of time.

use rateguard_core::counter::Limit;
use rateguard_core::time::Bounds;
use rateguard_proto::envoy::service::ratelimit::v3::rate_limit_response::rate_limit::Unit;
use rateguard_proto::envoy::r#type::v3::RateLimitUnit;

const SECOND_MS: i64 = 1_000;
const MINUTE_MS: i64 = 60 * SECOND_MS;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;
const WEEK_MS: i64 = 7 * DAY_MS;
const MONTH_MS: i64 = 30 * DAY_MS;
const YEAR_MS: i64 = 365 * DAY_MS;

/// Units of answers, the longest first.
const UNITS: [(Unit, i64); 7] = [
    (Unit::Year, YEAR_MS),
    (Unit::Month, MONTH_MS),
    (Unit::Week, WEEK_MS),
    (Unit::Day, DAY_MS),
    (Unit::Hour, HOUR_MS),
    (Unit::Minute, MINUTE_MS),
    (Unit::Second, SECOND_MS),
];

/// The length of a unit of a request; `None` for the one that is none.
pub(super) fn length_ms(unit: RateLimitUnit) -> Option<i64> {
    match unit {
        RateLimitUnit::Unknown => None,
        RateLimitUnit::Second => Some(SECOND_MS),
        RateLimitUnit::Minute => Some(MINUTE_MS),
        RateLimitUnit::Hour => Some(HOUR_MS),
        RateLimitUnit::Day => Some(DAY_MS),
        RateLimitUnit::Month => Some(MONTH_MS),
        RateLimitUnit::Year => Some(YEAR_MS),
    }
}

/// The window of a limit in the longest unit of which it has a whole number, and that number.
pub(super) fn unit_of(limit: &Limit) -> (Unit, u32) {
    match *limit {
        Limit::CalendarWindow { bounds, .. } | Limit::Budget { bounds: Some(bounds), .. } => {
            (of_calendar(bounds), 1)
        }
        _ => window_ms(limit).map_or((Unit::Unknown, 1), whole),
    }
}

/// The length of a limit's window, if it has one; of a bucket the time after which it is full again.
pub(super) fn window_ms(limit: &Limit) -> Option<i64> {
    match *limit {
        Limit::FixedWindow { window_ms, .. } | Limit::SlidingWindow { window_ms, .. } => Some(window_ms),
        Limit::TokenBucket { capacity, refill } => Some(refill.ms_to_give_back(capacity)),
        Limit::CalendarWindow { bounds, .. } => Some(bounds.end.since(bounds.start)),
        Limit::Concurrency { .. } => None,
        Limit::Budget { bounds, .. } => bounds.map(|bounds| bounds.end.since(bounds.start)),
    }
}

fn whole(window_ms: i64) -> (Unit, u32) {
    let fitting = UNITS.into_iter().find(|(_, unit_ms)| window_ms > 0 && window_ms % unit_ms == 0);
    let counted = fitting.and_then(|(unit, unit_ms)| Some((unit, u32::try_from(window_ms / unit_ms).ok()?)));
    counted.unwrap_or((Unit::Unknown, 1))
}

/// Periods of a calendar differ in their lengths: a day has 23 to 25 hours, a month 28 to 31 days.
fn of_calendar(bounds: Bounds) -> Unit {
    let length_ms = bounds.end.since(bounds.start);
    let longer_than = |unit_ms: i64| length_ms > unit_ms + unit_ms / 2;
    match length_ms {
        _ if longer_than(WEEK_MS) => Unit::Month,
        _ if longer_than(DAY_MS) => Unit::Week,
        _ if longer_than(HOUR_MS) => Unit::Day,
        _ => Unit::Hour,
    }
}

#[cfg(test)]
mod tests {
    use rateguard_core::counter::Refill;
    use rateguard_core::time::{CalendarPeriod, Millis, Zone};

    use super::*;

    #[test]
    fn a_window_is_told_in_the_longest_unit_that_fits() {
        for (window_ms, expected) in [
            (1_000, (Unit::Second, 1)),
            (60_000, (Unit::Minute, 1)),
            (90_000, (Unit::Second, 90)),
            (7 * DAY_MS, (Unit::Week, 1)),
            (30 * DAY_MS, (Unit::Month, 1)),
            (365 * DAY_MS, (Unit::Year, 1)),
            (366 * DAY_MS, (Unit::Day, 366)),
            (1_500, (Unit::Unknown, 1)),
        ] {
            assert_eq!(unit_of(&Limit::FixedWindow { limit: 1, window_ms }), expected);
        }
        let refill = Refill::new(10, 1_000, 100).unwrap();
        assert_eq!(unit_of(&Limit::TokenBucket { capacity: 100, refill }), (Unit::Second, 10));
    }

    #[test]
    fn a_period_of_a_calendar_is_told_by_its_name_whatever_its_length() {
        let zone = Zone::parse("zone", "Europe/Berlin").unwrap();
        // In the day in which clocks went forward, of a February.
        let at = [Millis::new(1_774_750_000_000), Millis::new(1_770_000_000_000)];
        for now in at {
            for (period, unit) in [
                (CalendarPeriod::Hour, Unit::Hour),
                (CalendarPeriod::Day, Unit::Day),
                (CalendarPeriod::Week, Unit::Week),
                (CalendarPeriod::Month, Unit::Month),
            ] {
                let limit = Limit::CalendarWindow { limit: 1, bounds: period.bounds(&zone, now) };
                assert_eq!(unit_of(&limit), (unit, 1));
            }
        }
    }
}
