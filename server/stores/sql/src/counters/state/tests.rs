//! Tests of counters as bytes: whatever was written comes back, and nothing else is believed.

use proptest::collection::vec;
use proptest::prelude::*;
use rateguard_core::counter::{Limit, Refill};
use rateguard_core::limits::WINDOW_MS_MIN;
use rateguard_store_suite::checkpoint_store::samples::counters;

use super::*;

const NOW_MS_MAX: i64 = 4_000_000_000_000;

fn millis() -> impl Strategy<Value = Millis> {
    (0..NOW_MS_MAX).prop_map(Millis::new)
}

fn limits() -> impl Strategy<Value = Limit> {
    prop_oneof![
        (1..1_i64 << 30, 1..1_000_i64, 1..100_000_i64).prop_map(|(capacity, units, period_ms)| {
            let refill = Refill::new(units, period_ms, capacity).unwrap();
            Limit::TokenBucket { capacity, refill }
        }),
        (0..i64::MAX, WINDOW_MS_MIN..WINDOW_MS_MAX)
            .prop_map(|(limit, window_ms)| Limit::FixedWindow { limit, window_ms }),
        (0..i64::MAX, WINDOW_MS_MIN..WINDOW_MS_MAX)
            .prop_map(|(limit, window_ms)| Limit::SlidingWindow { limit, window_ms }),
    ]
}

/// A counter that was really used, so that its parts fit each other.
fn used() -> impl Strategy<Value = Counter> {
    (limits(), millis(), vec((0..1_i64 << 40, 0..10_000_000_i64), 0..80)).prop_map(|(limit, start, uses)| {
        let mut now = start;
        let mut counter = Counter::fresh(&limit, now);
        for (amount, pause_ms) in uses {
            now = now.plus(pause_ms);
            if amount % 2 == 0 {
                counter.take(&limit, amount, now);
            } else {
                counter.lend(&limit, amount, now);
            }
        }
        counter
    })
}

fn periods() -> impl Strategy<Value = PeriodMoney> {
    let money = || -MONEY_SUM_MAX..=MONEY_SUM_MAX;
    (millis(), millis(), money(), money()).prop_map(|(start, end, spent, held)| PeriodMoney {
        start,
        end,
        spent,
        held,
    })
}

fn budgets() -> impl Strategy<Value = Counter> {
    let money = || 0..=MONEY_SUM_MAX;
    (periods(), prop::option::of(periods()), money(), millis(), money()).prop_map(
        |(current, previous, nanos, until, ceiling)| {
            let anonymous = AnonymousHold { nanos, until };
            Counter::Budget(Box::new(BudgetCounter { current, previous, anonymous, ceiling }))
        },
    )
}

#[test]
fn every_sample_comes_back() {
    for counter in counters() {
        assert_eq!(decode(&encode(&counter)).as_ref(), Ok(&counter));
    }
}

#[test]
fn a_counter_takes_few_bytes() {
    let window = counters().into_iter().next().unwrap();
    assert!(encode(&window).len() <= 16, "{}", encode(&window).len());
}

#[test]
fn another_version_or_kind_is_refused() {
    let mut bytes = encode(&counters()[0]);
    bytes[0] = VERSION + 1;
    assert_eq!(decode(&bytes), Err(Malformed("version")));
    bytes[0] = VERSION;
    bytes[1] = 77;
    assert_eq!(decode(&bytes), Err(Malformed("kind")));
}

proptest! {
    #[test]
    fn a_used_counter_comes_back(counter in prop_oneof![used(), budgets()]) {
        prop_assert!(decode(&encode(&counter)) == Ok(counter));
    }

    #[test]
    fn a_cut_or_lengthened_state_is_refused(counter in prop_oneof![used(), budgets()], cut in any::<prop::sample::Index>()) {
        let mut bytes = encode(&counter);
        prop_assert!(decode(&bytes[..cut.index(bytes.len())]).is_err());
        bytes.push(0);
        prop_assert!(decode(&bytes).is_err());
    }

    #[test]
    fn garbage_is_refused_or_reads_as_a_counter_that_can_be_used(
        mut bytes in vec(any::<u8>(), 0..64), kind in 0..6_u8, limit in limits(), now in millis()
    ) {
        if let [version, second, ..] = bytes.as_mut_slice() {
            (*version, *second) = (VERSION, kind);
        }
        if let Ok(mut counter) = decode(&bytes) {
            prop_assert!(decode(&encode(&counter)) == Ok(counter.clone()));
            counter.read(&limit, 1, now);
            counter.charge(&limit, 1, now, now);
            counter.is_idle(now);
        }
    }

    #[test]
    fn one_wrong_byte_never_panics(counter in prop_oneof![used(), budgets()], place in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = encode(&counter);
        let place = place.index(bytes.len());
        bytes[place] = byte;
        if let Ok(read) = decode(&bytes) {
            prop_assert!(decode(&encode(&read)) == Ok(read));
        }
    }
}
