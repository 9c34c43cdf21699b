//! `retry_after`: denied one millisecond before, allowed exactly at it.

use super::*;

fn wait_ms(driven: &Driven, need: i64) -> Option<RetryAfter> {
    driven.read(need, driven.now).denied
}

proptest! {
    #![proptest_config(cases(800))]

    #[test]
    fn a_call_passes_at_the_instant_it_was_told_and_not_a_millisecond_earlier(
        limit in any_renewing_limit(), history in any_history(), need in 1_i64..50,
    ) {
        let driven = Driven::after(limit, history);
        let size = driven.limit.at(driven.now).size();
        match wait_ms(&driven, need) {
            None => prop_assert!(need <= size),
            Some(RetryAfter::Never) => prop_assert!(need > size),
            Some(RetryAfter::Millis(ms)) => {
                prop_assert!(ms > 0 && need <= size);
                let told = driven.now.plus(ms);
                prop_assert!(driven.read(need, told).denied.is_none());
                prop_assert!(driven.read(need, told.plus(-1)).denied.is_some());
            }
        }
    }

    #[test]
    fn the_hint_stays_honest_while_the_clock_runs(
        limit in any_renewing_limit(), history in any_history(), need in 1_i64..50, part in 0_i64..100,
    ) {
        let driven = Driven::after(limit, history);
        if let Some(RetryAfter::Millis(ms)) = wait_ms(&driven, need) {
            let later = driven.now.plus(ms * part / 100);
            let rest = RetryAfter::Millis(ms - ms * part / 100);
            prop_assert_eq!(driven.read(need, later).denied, Some(rest));
        }
    }

    #[test]
    fn a_stepped_back_clock_is_waited_for(
        limit in any_bucket(), history in any_history(), need in 1_i64..50, back_ms in 1_i64..100_000,
    ) {
        let driven = Driven::after(limit, history);
        let earlier = driven.now.plus(-back_ms);
        if let Some(RetryAfter::Millis(ms)) = driven.read(need, earlier).denied {
            prop_assert!(driven.read(need, earlier.plus(ms)).denied.is_none());
            prop_assert!(driven.read(need, earlier.plus(ms - 1)).denied.is_some());
        }
    }

    #[test]
    fn a_calendar_budget_is_renewed_when_it_says(
        nanos in 1_i64..100, spent in 0_i64..200, crash_held in 0_i64..200, until_ms in 0_i64..200_000_000,
        need in 1_i64..150,
    ) {
        let (now, limit) = (Millis::new(NOON), AnyLimit::Budget { nanos, zone: Zone::UTC });
        let mut driven = Driven::new(limit);
        driven.counter.charge(&driven.limit.at(now), spent, now, now);
        if let Counter::Budget(budget) = &mut driven.counter {
            budget.anonymous = crate::counter::budget::AnonymousHold {
                nanos: i128::from(crash_held),
                until: now.plus(until_ms),
            };
        }
        match driven.read(need, now).denied {
            None => prop_assert!(spent + crash_held + need <= nanos || until_ms == 0),
            Some(RetryAfter::Never) => prop_assert!(need > nanos),
            Some(RetryAfter::Millis(ms)) => {
                prop_assert!(driven.read(need, now.plus(ms)).denied.is_none());
                // Held money counts as spent, so the hint is exact only where nothing is held.
                let one_earlier = driven.read(need, now.plus(ms - 1));
                prop_assert!(crash_held > 0 || one_earlier.denied.is_some());
            }
        }
    }

    #[test]
    fn a_prepaid_budget_is_never_waited_for(nanos in 1_i64..100, spent in 0_i64..200, need in 1_i64..150) {
        let mut driven = Driven::new(AnyLimit::Prepaid { nanos });
        driven.counter.charge(&driven.limit.at(driven.now), spent, driven.now, driven.now);
        let expected = (spent + need > nanos).then_some(RetryAfter::Never);
        let reading = driven.read(need, driven.now);
        prop_assert_eq!((reading.denied, reading.reset_at), (expected, None));
    }
}

fn sliding_100_per_minute() -> AnyLimit {
    AnyLimit::Sliding { limit: 100, window_ms: 60_000 }
}

#[test]
fn the_sliding_window_refuses_100_at_60_s_after_100_at_0_9_s() {
    let limit = sliding_100_per_minute().at(Millis::ZERO);
    let mut counter = Counter::fresh(&limit, Millis::new(900));
    counter.take(&limit, 100, Millis::new(900));
    let refused = counter.read(&limit, 100, Millis::new(60_000));
    assert_eq!(refused.denied, Some(RetryAfter::Millis(1_000)));
    assert!(counter.read(&limit, 100, Millis::new(60_999)).denied.is_some());
    assert_eq!(counter.read(&limit, 100, Millis::new(61_000)).denied, None);
}

#[test]
fn the_sliding_window_waits_only_for_the_oldest_that_are_needed() {
    let limit = sliding_100_per_minute().at(Millis::ZERO);
    let mut counter = Counter::fresh(&limit, Millis::ZERO);
    for second in 0..10 {
        counter.take(&limit, 10, Millis::new(second * 1_000));
    }
    let now = Millis::new(30_000);
    assert_eq!(counter.read(&limit, 10, now).denied, Some(RetryAfter::Millis(31_000)));
    assert_eq!(counter.read(&limit, 11, now).denied, Some(RetryAfter::Millis(32_000)));
    assert_eq!(counter.read(&limit, 100, now).denied, Some(RetryAfter::Millis(40_000)));
}

#[test]
fn a_limit_of_nothing_denies_for_ever() {
    let nothing = [
        Limit::TokenBucket { capacity: 0, refill: Refill::new(1, 1, 0).unwrap() },
        Limit::FixedWindow { limit: 0, window_ms: 1_000 },
        Limit::SlidingWindow { limit: 0, window_ms: 1_000 },
        Limit::Budget { nanos: 0, bounds: Some(CalendarPeriod::Month.bounds(&Zone::UTC, Millis::new(NOON))) },
    ];
    for limit in nothing {
        let reading = Counter::fresh(&limit, Millis::new(NOON)).read(&limit, 1, Millis::new(NOON));
        assert_eq!(reading.denied, Some(RetryAfter::Never), "{limit:?}");
    }
}

#[test]
fn a_bucket_gives_back_its_first_unit_after_exactly_its_part_of_the_period() {
    // 7 units in 3 seconds: one unit takes 428.57 ms.
    let refill = Refill::new(7, 3_000, 7).unwrap();
    let limit = Limit::TokenBucket { capacity: 7, refill };
    let mut counter = Counter::fresh(&limit, Millis::new(NOON));
    counter.take(&limit, 7, Millis::new(NOON));
    assert_eq!(counter.read(&limit, 1, Millis::new(NOON)).denied, Some(RetryAfter::Millis(429)));
    assert_eq!(counter.read(&limit, 7, Millis::new(NOON)).denied, Some(RetryAfter::Millis(3_000)));
}
