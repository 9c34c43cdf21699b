use rateguard_core::time::Bounds;

use super::*;

const WINDOW_MS: i64 = 6_000;

fn at(ms: i64) -> Millis {
    Millis::new(600_000 + ms)
}

fn exactly(used: i128) -> Range {
    Range { low: used, high: used }
}

#[test]
fn a_fixed_window_has_what_was_taken_in_it_and_nothing_of_the_one_before() {
    let mut book = CounterBook::new(Limit::FixedWindow { limit: 10, window_ms: WINDOW_MS });
    book.take(at(0), 4);
    book.take(at(WINDOW_MS - 1), 3);
    assert_eq!(book.range(at(WINDOW_MS - 1)), exactly(7));
    assert_eq!(book.range(at(WINDOW_MS)), exactly(0));
}

#[test]
fn a_correction_counts_where_the_amount_was_taken() {
    let mut book = CounterBook::new(Limit::FixedWindow { limit: 10, window_ms: WINDOW_MS });
    let place = book.take(at(0), 4);
    book.take(at(WINDOW_MS), 3);
    book.correct(place, 1, at(WINDOW_MS + 1));
    assert_eq!(book.range(at(WINDOW_MS + 1)), exactly(3));
}

#[test]
fn a_calendar_window_follows_its_bounds_into_the_next_one() {
    let bounds = Bounds { start: at(0), end: at(100), next_end: at(200) };
    let mut book = CounterBook::new(Limit::CalendarWindow { limit: 10, bounds });
    book.take(at(50), 4);
    book.take(at(150), 1);
    assert_eq!(book.range(at(99)), exactly(5), "an amount of later is not asked for earlier");
    assert_eq!(book.range(at(150)), exactly(1));
}

#[test]
fn a_sliding_window_counts_an_amount_for_the_window_and_at_most_one_part_more() {
    let mut book = CounterBook::new(Limit::SlidingWindow { limit: 10, window_ms: WINDOW_MS });
    book.take(at(0), 4);
    assert_eq!(book.range(at(WINDOW_MS - 1)), exactly(4));
    assert_eq!(book.range(at(WINDOW_MS)), Range { low: 0, high: 4 });
    assert_eq!(book.range(at(WINDOW_MS + 100)), exactly(0));
}

#[test]
fn a_bucket_drains_and_what_is_given_back_is_between_all_and_nothing() {
    let refill = Refill::new(1, 100, 10).expect("a bucket within bounds");
    let mut book = CounterBook::new(Limit::TokenBucket { capacity: 10, refill });
    let place = book.take(at(0), 8);
    assert_eq!(book.range(at(250)), exactly(6));
    book.correct(place, 3, at(250));
    assert_eq!(book.range(at(250)), Range { low: 1, high: 6 });
}

#[test]
fn a_budget_has_what_is_spent_and_what_is_held() {
    let mut book = CounterBook::new(Limit::Budget { nanos: 100, bounds: None });
    book.hold(30);
    book.charge(at(0), 20, at(0));
    assert_eq!(book.range(at(0)), exactly(50));
    book.hold(-30);
    assert_eq!(book.range(at(0)), exactly(20));
}

#[test]
fn more_than_a_limit_in_one_window_is_over_and_as_much_over_two_is_not() {
    let mut book = CounterBook::new(Limit::FixedWindow { limit: 10, window_ms: WINDOW_MS });
    book.take(at(WINDOW_MS - 1), 8);
    book.take(at(WINDOW_MS), 8);
    assert_eq!(book.admitted_over(at(WINDOW_MS)), None);
    book.take(at(WINDOW_MS + 1), 3);
    assert!(book.admitted_over(at(WINDOW_MS + 1)).is_some());
}

#[test]
fn a_sliding_window_is_over_across_the_edge_of_a_fixed_one() {
    let mut book = CounterBook::new(Limit::SlidingWindow { limit: 10, window_ms: WINDOW_MS });
    book.take(at(WINDOW_MS - 1), 8);
    book.take(at(WINDOW_MS), 3);
    assert!(book.admitted_over(at(WINDOW_MS)).is_some());
}

#[test]
fn a_bucket_is_over_beyond_its_capacity_and_what_was_refilled() {
    let refill = Refill::new(1, 100, 10).expect("a bucket within bounds");
    let mut book = CounterBook::new(Limit::TokenBucket { capacity: 10, refill });
    book.take(at(0), 10);
    book.take(at(500), 5);
    assert_eq!(book.admitted_over(at(500)), None);
    book.take(at(500), 1);
    assert!(book.admitted_over(at(500)).is_some());
}

#[test]
fn what_was_only_reported_is_debt_and_no_admission() {
    let mut book = CounterBook::new(Limit::FixedWindow { limit: 10, window_ms: WINDOW_MS });
    book.charge(at(0), 25, at(0));
    assert_eq!(book.range(at(0)), exactly(25));
    assert_eq!(book.admitted_over(at(0)), None);
}

#[test]
fn what_comes_on_top_stands_with_its_amount_and_of_several_maybe_not() {
    let refill = Refill::new(1, 100, 10).expect("a bucket within bounds");
    let mut book = CounterBook::new(Limit::TokenBucket { capacity: 10, refill });
    let place = book.take(at(0), 1);
    book.correct(place, 7, at(300));
    assert_eq!(book.range(at(300)), Range { low: 4, high: 6 });
    let other = book.take(at(300), 1);
    book.correct(other, 2, at(300));
    assert_eq!(book.range(at(300)).low, 1);
}
