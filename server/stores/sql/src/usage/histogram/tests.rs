//! Tests of the histogram.

use proptest::prelude::*;

use super::*;

fn of(latencies: &[i64]) -> Histogram {
    let mut histogram = Histogram::default();
    latencies.iter().for_each(|latency| histogram.record(*latency));
    histogram
}

fn nearest_rank(mut latencies: Vec<i64>, percent: usize) -> i64 {
    latencies.sort_unstable();
    latencies[(latencies.len() * percent).div_ceil(100).max(1) - 1]
}

#[test]
fn nothing_counted_has_no_percentile() {
    assert_eq!(Histogram::default().percentile(50), None);
}

#[test]
fn small_latencies_are_exact() {
    for latency in 0..32 {
        assert_eq!(of(&[latency]).percentile(50), Some(latency));
    }
}

#[test]
fn the_largest_latency_has_the_last_bucket() {
    assert_eq!(bucket_of(i64::MAX), BUCKET_MAX);
    assert!(middle(BUCKET_MAX) > i64::MAX / 100 * 96);
}

#[test]
fn a_negative_latency_counts_as_none_at_all() {
    assert_eq!(bucket_of(-1), 0);
}

#[test]
fn text_that_is_no_histogram_is_refused() {
    for text in ["1", "1:x;", "x:1;", "960:1;", "1:2:3;", "-1:1;"] {
        assert_eq!(Histogram::default().add_text(text), None, "{text}");
    }
    assert_eq!(Histogram::default().record_text("5;x;"), None);
}

proptest! {
    #[test]
    fn percentiles_are_within_a_tenth(latencies in prop::collection::vec(0_i64..86_400_000, 1..200)) {
        let histogram = of(&latencies);
        for percent in [50, 95, 99] {
            let exact = nearest_rank(latencies.clone(), percent);
            let told = histogram.percentile(percent as u64).unwrap();
            prop_assert!((told - exact).abs() * 10 <= exact, "{percent}: {told} for {exact}");
        }
    }

    #[test]
    fn buckets_rise_with_the_value(value in 0_i64..i64::MAX) {
        prop_assert!(bucket_of(value) <= bucket_of(value + 1));
        prop_assert_eq!(bucket_of(middle(bucket_of(value))), bucket_of(value));
    }

    #[test]
    fn texts_put_together_add_up(
        first in prop::collection::vec(0_i64..1_000_000, 0..50),
        second in prop::collection::vec(0_i64..1_000_000, 0..50),
    ) {
        let mut read = Histogram::default();
        read.add_text(&format!("{}{}", of(&first).to_text(), of(&second).to_text())).unwrap();
        prop_assert_eq!(&read, &of(&[first.clone(), second.clone()].concat()));
        let mut added = of(&first);
        added.add(&of(&second));
        prop_assert_eq!(added, read);
    }
}
