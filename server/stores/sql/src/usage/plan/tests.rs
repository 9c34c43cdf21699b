//! Tests of the plan.

use proptest::prelude::*;

use super::*;
use crate::usage::rollup::{DAY_MS, HOUR_MS};

const GRAINS: [i64; 3] = [DAY_MS, HOUR_MS, MINUTE_MS];

fn rollup(grain_ms: i64, from: i64, to: i64) -> Segment {
    Segment { source: Source::Rollup { grain_ms }, from, to }
}

fn raw(from: i64, to: i64) -> Segment {
    Segment { source: Source::Raw, from, to }
}

#[test]
fn whole_days_are_one_segment() {
    assert_eq!(segments(DAY_MS, 3 * DAY_MS, &GRAINS), [rollup(DAY_MS, DAY_MS, 3 * DAY_MS)]);
}

#[test]
fn a_range_within_a_minute_is_raw() {
    assert_eq!(segments(5, 10, &GRAINS), [raw(5, 10)]);
    assert_eq!(segments(10, 10, &GRAINS), []);
}

#[test]
fn ragged_ends_are_filled_from_finer_grains() {
    let (from, to) = (HOUR_MS - MINUTE_MS - 1, 3 * HOUR_MS + 7);
    let expected = [
        raw(from, from + 1),
        rollup(MINUTE_MS, HOUR_MS - MINUTE_MS, HOUR_MS),
        rollup(HOUR_MS, HOUR_MS, 3 * HOUR_MS),
        raw(3 * HOUR_MS, to),
    ];
    assert_eq!(segments(from, to, &GRAINS), expected);
}

#[test]
fn days_that_begin_at_half_past_are_hours_and_half_hours() {
    let half = HOUR_MS / 2;
    let days = [(half, DAY_MS + half), (DAY_MS + half, 2 * DAY_MS + half)];
    let expected = [
        raw(half, HOUR_MS),
        rollup(HOUR_MS, HOUR_MS, DAY_MS),
        raw(DAY_MS, DAY_MS + HOUR_MS),
        rollup(HOUR_MS, DAY_MS + HOUR_MS, 2 * DAY_MS),
        raw(2 * DAY_MS, 2 * DAY_MS + half),
    ];
    assert_eq!(bucket_segments(days.into_iter(), &[DAY_MS, HOUR_MS]), expected);
}

#[test]
fn raw_segments_are_not_joined_within_a_minute() {
    let buckets = [(0, 10), (10, 20)];
    assert_eq!(bucket_segments(buckets.into_iter(), &GRAINS), [raw(0, 10), raw(10, 20)]);
}

proptest! {
    #[test]
    fn segments_cover_the_range_once_and_in_order(from in 0_i64..10 * DAY_MS, length in 0_i64..10 * DAY_MS) {
        let found = segments(from, from + length, &GRAINS);
        let mut at = from;
        for segment in &found {
            prop_assert_eq!(segment.from, at);
            prop_assert!(segment.to > segment.from);
            if let Source::Rollup { grain_ms } = segment.source {
                prop_assert_eq!(segment.from % grain_ms, 0);
                prop_assert_eq!(segment.to % grain_ms, 0);
            }
            at = segment.to;
        }
        prop_assert_eq!(at, from + length);
        let raw_ms: i64 = found.iter().filter(|s| s.source == Source::Raw).map(|s| s.to - s.from).sum();
        prop_assert!(raw_ms < 2 * MINUTE_MS);
    }
}
