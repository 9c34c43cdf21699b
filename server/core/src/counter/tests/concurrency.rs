//! Calls at the same time.

use super::*;
use crate::limits::RESERVATION_TTL_MS_MAX;

const NOW: Millis = Millis::ZERO;
const THREE: Limit = Limit::Concurrency { limit: 3 };

fn holding(amount: i64) -> Counter {
    let mut counter = Counter::fresh(&THREE, NOW);
    assert_eq!(counter.take(&THREE, amount, NOW), Mark::Concurrency);
    counter
}

fn used(counter: &Counter, now: Millis) -> i128 {
    counter.read(&THREE, 0, now).used
}

#[test]
fn what_is_held_is_given_back_by_its_end_and_never_by_time() {
    let mut counter = holding(3);
    let much_later = NOW.plus(1_000_000_000_000);
    let denied = counter.read(&THREE, 1, much_later);
    assert_eq!((denied.used, denied.remaining), (3, 0));
    assert_eq!((denied.denied, denied.reset_at), (Some(RetryAfter::Never), None));
    assert!(!counter.is_idle(much_later));
    counter.correct(Mark::Concurrency, 1, -1, much_later);
    assert_eq!(counter.read(&THREE, 1, much_later).denied, None);
    counter.correct(Mark::Concurrency, 2, -2, much_later);
    assert!(counter.is_idle(NOW) && counter.is_free(NOW));
}

#[test]
fn a_report_without_a_reservation_tells_of_a_call_that_is_over() {
    let mut counter = holding(1);
    counter.charge(&THREE, 5, NOW, NOW);
    assert_eq!(used(&counter, NOW), 1);
}

#[test]
fn a_smaller_limit_keeps_what_is_held() {
    let counter = holding(3);
    let one = Limit::Concurrency { limit: 1 };
    assert_eq!(counter.read(&one, 0, NOW).remaining, 0);
    assert_eq!(counter.read(&one, 0, NOW).used, 3);
}

#[test]
fn after_a_crash_the_ceiling_counts_as_held_until_every_reservation_must_be_over() {
    let mut counter = ConcurrencyCounter { held: 1, ceiling: 3, ..ConcurrencyCounter::default() };
    counter.forget_holders(NOW);
    let lost_until = NOW.plus(RESERVATION_TTL_MS_MAX);
    assert_eq!(counter, ConcurrencyCounter { held: 0, lost: 3, lost_until, ceiling: 0 });
    let counter = Counter::Concurrency(Box::new(counter));
    assert_eq!(used(&counter, lost_until.plus(-1)), 3);
    assert_eq!(used(&counter, lost_until), 0);
    assert!(!counter.is_idle(lost_until.plus(-1)) && counter.is_idle(lost_until));
}

#[test]
fn a_second_crash_makes_nothing_last_longer_that_nobody_took_since() {
    let mut counter = ConcurrencyCounter { ceiling: 3, ..ConcurrencyCounter::default() };
    counter.forget_holders(NOW);
    let first = counter;
    counter.forget_holders(NOW.plus(5));
    assert_eq!(counter, first);
}

#[test]
fn what_is_set_back_counts_as_new_but_for_money() {
    for limit in [
        THREE,
        Limit::FixedWindow { limit: 3, window_ms: 60_000 },
        Limit::SlidingWindow { limit: 3, window_ms: 60_000 },
        Limit::TokenBucket { capacity: 3, refill: Refill::new(1, 1_000, 3).unwrap() },
    ] {
        let mut counter = Counter::fresh(&limit, NOW);
        counter.take(&limit, 3, NOW);
        assert!(counter.set_back());
        assert_eq!(counter.read(&limit, 0, NOW).remaining, 3, "{limit:?}");
        assert!(counter.is_idle(NOW), "{limit:?}");
    }
    let budget = Limit::Budget { nanos: 3, bounds: None };
    let mut counter = Counter::fresh(&budget, NOW);
    counter.take(&budget, 3, NOW);
    assert!(!counter.set_back());
    assert_eq!(counter.read(&budget, 0, NOW).remaining, 0);
}
