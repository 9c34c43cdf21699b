use super::*;
use jiff::tz::db;
use proptest::prelude::*;

use crate::decision::tests::cases;

const PERIODS: [CalendarPeriod; 4] =
    [CalendarPeriod::Hour, CalendarPeriod::Day, CalendarPeriod::Week, CalendarPeriod::Month];

/// Zones with rare habits: gaps and folds at midnight, changes of half an hour, a skipped day,
/// changes a minute past midnight, odd offsets.
const PECULIAR: [&str; 20] = [
    "America/Sao_Paulo",
    "Asia/Beirut",
    "Africa/Cairo",
    "America/Havana",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Asia/Kathmandu",
    "America/St_Johns",
    "America/Goose_Bay",
    "Africa/Monrovia",
    "Asia/Pyongyang",
    "Pacific/Kiritimati",
    "Pacific/Kwajalein",
    "Antarctica/Casey",
    "Antarctica/Vostok",
    "America/Caracas",
    "Asia/Tehran",
    "America/Toronto",
    "America/New_York",
    "UTC",
];

/// 2100-01-01T00:00:00Z.
const FAR_MS: i64 = 4_102_444_800_000;

fn zone(name: &str) -> Zone {
    Zone::parse("zone", name).unwrap()
}

fn at(text: &str) -> Millis {
    Millis::new(text.parse::<Timestamp>().unwrap().as_millisecond())
}

fn any_zone() -> impl Strategy<Value = Zone> {
    let all: Vec<String> = db().available().map(|name| name.to_string()).collect();
    prop_oneof![
        prop::sample::select(PECULIAR.to_vec()).prop_map(zone),
        prop::sample::select(all).prop_map(|n| zone(&n))
    ]
}

/// An instant near a change of the zone's offset where it has one, so that the rare cases are the
/// common ones here.
fn near_a_change(zone: &Zone, from_ms: i64, offset_ms: i64) -> Millis {
    let change = zone.0.following(timestamp(Millis::new(from_ms))).next();
    change.map_or(Millis::new(from_ms), |change| millis(change.timestamp()).plus(offset_ms))
}

fn any_place_and_time() -> impl Strategy<Value = (Zone, Millis)> {
    let near = prop_oneof![-3_i64..3, -7_200_000_i64..7_200_000, -90_000_000_i64..90_000_000];
    (any_zone(), 0..FAR_MS, near, prop::bool::weighted(0.8)).prop_map(|(zone, from_ms, offset_ms, near)| {
        let at = if near { near_a_change(&zone, from_ms, offset_ms) } else { Millis::new(from_ms) };
        (zone, at)
    })
}

fn assert_windows_tile(zone: &Zone, at: Millis) {
    for period in PERIODS {
        let bounds = period.bounds(zone, at);
        let told = || format!("{period:?} in {} at {at:?}: {bounds:?}", zone.name());
        assert!(bounds.contain(at), "the window does not hold its instant: {}", told());
        assert!(bounds.end < bounds.next_end, "{}", told());
        for inside in [bounds.start, bounds.end.plus(-1)] {
            assert_eq!(period.bounds(zone, inside), bounds, "{}", told());
        }
        let next = period.bounds(zone, bounds.end);
        assert_eq!((next.start, next.end), (bounds.end, bounds.next_end), "{}", told());
        if bounds.start > Millis::ZERO {
            let before = period.bounds(zone, bounds.start.plus(-1));
            assert_eq!((before.end, before.next_end), (bounds.start, bounds.end), "{}", told());
        }
    }
}

/// The latest date that the zone's clocks have shown by `at`, found by looking at every quarter of
/// an hour of the last two days: a definition of the day that knows nothing of transitions.
fn latest_date_shown(zone: &Zone, at: Millis) -> Date {
    let shown = |at: Millis| timestamp(at).to_zoned(zone.0.clone()).date();
    let begin = at.get() - at.get() % 60_000;
    (0..2 * 24 * 60).map(|minutes| shown(Millis::new(begin - minutes * 60_000))).fold(shown(at), Date::max)
}

proptest! {
    #![proptest_config(cases(1_500))]

    #[test]
    fn windows_hold_their_instant_and_tile_without_gap_or_overlap((zone, at) in any_place_and_time()) {
        assert_windows_tile(&zone, at);
    }

    #[test]
    fn a_name_of_any_kind_never_panics(name in ".{0,40}") {
        if let Ok(zone) = Zone::parse("zone", &name) {
            prop_assert!(zone.name().eq_ignore_ascii_case(&name));
        }
    }

    #[test]
    fn an_instant_of_any_size_is_clamped_and_never_panics(ms in any::<i64>(), more in any::<i64>()) {
        let at = Millis::new(ms).plus(more);
        prop_assert!((0..=MILLIS_MAX).contains(&at.get()));
        prop_assert_eq!(at.since(at.plus(1)), 0);
    }
}

proptest! {
    #![proptest_config(cases(100))]

    #[test]
    fn a_day_begins_when_the_clocks_first_show_its_date((zone, at) in any_place_and_time()) {
        prop_assume!(at.get() > 3 * 24 * HOUR_MS);
        let bounds = CalendarPeriod::Day.bounds(&zone, at);
        let today = latest_date_shown(&zone, at);
        prop_assert_eq!(latest_date_shown(&zone, bounds.start), today);
        prop_assert_eq!(latest_date_shown(&zone, bounds.end.plus(-1)), today);
        prop_assert!(latest_date_shown(&zone, bounds.start.plus(-1)) < today);
        prop_assert!(latest_date_shown(&zone, bounds.end) > today);
    }
}

fn day(zone_name: &str, instant: &str) -> (Millis, Millis) {
    let bounds = CalendarPeriod::Day.bounds(&zone(zone_name), at(instant));
    (bounds.start, bounds.end)
}

fn hours_of(window: (Millis, Millis)) -> i64 {
    window.1.since(window.0) / HOUR_MS
}

#[test]
fn a_day_that_begins_in_a_gap_begins_where_the_clocks_land() {
    let window = day("America/Sao_Paulo", "2018-11-04T12:00:00Z");
    assert_eq!(window, (at("2018-11-04T03:00:00Z"), at("2018-11-05T02:00:00Z")));
    assert_eq!(hours_of(window), 23);
    let window = day("Asia/Beirut", "2023-03-26T12:00:00Z");
    assert_eq!((window.0, hours_of(window)), (at("2023-03-25T22:00:00Z"), 23));
    assert_eq!(hours_of(day("Africa/Cairo", "2023-04-28T12:00:00Z")), 23);
}

#[test]
fn a_day_in_which_the_clocks_go_back_has_25_hours() {
    assert_eq!(hours_of(day("America/Sao_Paulo", "2018-02-17T12:00:00Z")), 25);
    // Havana repeats the hour after midnight: the first midnight opens the day.
    let window = day("America/Havana", "2023-11-05T12:00:00Z");
    assert_eq!((window.0, hours_of(window)), (at("2023-11-05T04:00:00Z"), 25));
}

#[test]
fn a_day_that_was_shown_for_a_minute_and_again_an_hour_later_has_begun_the_first_time() {
    // At 00:01 on 7 November 2010 St John's went back to 23:01 of the 6th.
    let first_midnight = at("2010-11-07T02:30:00Z");
    assert_eq!(day("America/St_Johns", "2010-11-07T02:45:00Z").0, first_midnight);
    assert_eq!(day("America/St_Johns", "2010-11-07T02:29:59.999Z").1, first_midnight);
}

#[test]
fn a_day_that_a_zone_skipped_has_no_window() {
    let thursday = day("Pacific/Apia", "2011-12-30T09:59:59.999Z");
    let saturday = day("Pacific/Apia", "2011-12-30T10:00:00Z");
    assert_eq!(thursday.1, saturday.0);
    assert_eq!((hours_of(thursday), hours_of(saturday)), (24, 24));
}

#[test]
fn a_change_by_half_an_hour_cuts_the_clock_hour() {
    let lord_howe = zone("Australia/Lord_Howe");
    let hour = |instant: &str| CalendarPeriod::Hour.bounds(&lord_howe, at(instant));
    // Forward at 15:30 UTC, from 02:00 to 02:30: half an hour is left of the hour.
    assert_eq!(hour("2023-09-30T15:40:00Z").start, at("2023-09-30T15:30:00Z"));
    assert_eq!(hour("2023-09-30T15:40:00Z").end, at("2023-09-30T16:00:00Z"));
    // Back at 15:00 UTC, from 02:00 to 01:30: half an hour is repeated, as a window of its own.
    assert_eq!(hour("2023-04-01T14:50:00Z").end, at("2023-04-01T15:00:00Z"));
    assert_eq!(hour("2023-04-01T15:10:00Z").end, at("2023-04-01T15:30:00Z"));
}

#[test]
fn hours_of_a_zone_with_an_odd_offset_begin_at_its_own_full_hours() {
    let bounds = CalendarPeriod::Hour.bounds(&zone("Asia/Kathmandu"), at("2024-05-05T10:00:00Z"));
    assert_eq!((bounds.start, bounds.end), (at("2024-05-05T09:15:00Z"), at("2024-05-05T10:15:00Z")));
}

#[test]
fn weeks_begin_on_monday_and_months_on_the_first() {
    let zone = zone("Europe/Berlin");
    let week = CalendarPeriod::Week.bounds(&zone, at("2024-03-31T12:00:00Z"));
    assert_eq!((week.start, week.end), (at("2024-03-24T23:00:00Z"), at("2024-03-31T22:00:00Z")));
    let month = CalendarPeriod::Month.bounds(&zone, at("2024-02-29T12:00:00Z"));
    assert_eq!((month.start, month.end), (at("2024-01-31T23:00:00Z"), at("2024-02-29T23:00:00Z")));
    assert_eq!(month.next_end, at("2024-03-31T22:00:00Z"));
}

#[test]
fn windows_at_both_ends_of_time_do_not_panic() {
    for name in PECULIAR {
        assert_windows_tile(&zone(name), Millis::ZERO);
        for period in PERIODS {
            let nearly_last = Millis::new(MILLIS_MAX - 1);
            assert!(period.bounds(&zone(name), nearly_last).contain(nearly_last), "{period:?} {name}");
            assert_eq!(period.bounds(&zone(name), Millis::new(i64::MAX)).end, Millis::new(MILLIS_MAX));
        }
    }
}

#[test]
fn a_zone_is_known_by_its_iana_name_alone() {
    assert_eq!(zone("europe/berlin").name(), "Europe/Berlin");
    assert_eq!(zone("UTC"), Zone::UTC);
    for name in ["", "Berlin", "Etc/Unknown", "+02:00", "CET-1CEST", "../../etc/localtime"] {
        assert_eq!(Zone::parse("zone", name).unwrap_err().field, "zone", "{name}");
    }
}

#[test]
fn a_day_opens_where_the_clocks_jump_over_its_midnight() {
    // No zone of today does this: forward at 23:30 by an hour, on the second Sunday of March.
    let zone = Zone(TimeZone::posix("AAA0BBB,M3.2.0/23:30,M11.1.0/1").unwrap());
    let bounds = CalendarPeriod::Day.bounds(&zone, at("2024-03-11T12:00:00Z"));
    assert_eq!((bounds.start, bounds.end), (at("2024-03-10T23:30:00Z"), at("2024-03-11T23:00:00Z")));
    for minutes in -90..90 {
        assert_windows_tile(&zone, at("2024-03-10T23:30:00Z").plus(minutes * 60_000));
    }
}
