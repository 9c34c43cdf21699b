use proptest::prelude::*;

use super::*;
use crate::decision::tests::{NOON, cases};
use crate::time::{CalendarPeriod, Zone};

mod buckets;
mod budgets;
mod hints;
pub(crate) mod never_over;

/// A limit whose calendar is still to be asked.
#[derive(Clone, Debug)]
pub(crate) enum AnyLimit {
    Bucket { capacity: i64, refill: Refill },
    Fixed { limit: i64, window_ms: i64 },
    Sliding { limit: i64, window_ms: i64 },
    Calendar { limit: i64, zone: Zone },
    Budget { nanos: i64, zone: Zone },
    Prepaid { nanos: i64 },
}

impl AnyLimit {
    pub(crate) fn at(&self, now: Millis) -> Limit {
        match self.clone() {
            Self::Bucket { capacity, refill } => Limit::TokenBucket { capacity, refill },
            Self::Fixed { limit, window_ms } => Limit::FixedWindow { limit, window_ms },
            Self::Sliding { limit, window_ms } => Limit::SlidingWindow { limit, window_ms },
            Self::Calendar { limit, zone } => {
                Limit::CalendarWindow { limit, bounds: CalendarPeriod::Hour.bounds(&zone, now) }
            }
            Self::Budget { nanos, zone } => {
                Limit::Budget { nanos, bounds: Some(CalendarPeriod::Day.bounds(&zone, now)) }
            }
            Self::Prepaid { nanos } => Limit::Budget { nanos, bounds: None },
        }
    }
}

fn any_small_zone() -> impl Strategy<Value = Zone> {
    prop::sample::select(vec!["UTC", "Asia/Kathmandu", "Australia/Lord_Howe"])
        .prop_map(|name| Zone::parse("zone", name).unwrap())
}

prop_compose! {
    pub(crate) fn any_bucket()(
        capacity in 1_i64..40,
        units in 1_i64..20,
        period_ms in prop_oneof![1_i64..50, 100_i64..5_000],
    ) -> AnyLimit {
        AnyLimit::Bucket { capacity, refill: Refill::new(units, period_ms, capacity).unwrap() }
    }
}

/// Limits that give back what was used.
pub(crate) fn any_renewing_limit() -> impl Strategy<Value = AnyLimit> {
    let window = || (1_i64..40, prop_oneof![100_i64..400, 1_000_i64..10_000]);
    prop_oneof![
        any_bucket(),
        window().prop_map(|(limit, window_ms)| AnyLimit::Fixed { limit, window_ms }),
        window().prop_map(|(limit, window_ms)| AnyLimit::Sliding { limit, window_ms }),
        (1_i64..40, any_small_zone()).prop_map(|(limit, zone)| AnyLimit::Calendar { limit, zone }),
    ]
}

pub(crate) fn any_limit() -> impl Strategy<Value = AnyLimit> {
    prop_oneof![
        4 => any_renewing_limit(),
        1 => (1_i64..40, any_small_zone()).prop_map(|(nanos, zone)| AnyLimit::Budget { nanos, zone }),
        1 => (1_i64..40).prop_map(|nanos| AnyLimit::Prepaid { nanos }),
    ]
}

/// Time between two calls: often none or next to none, sometimes longer than any small window.
pub(crate) fn any_step_ms() -> impl Strategy<Value = i64> {
    prop_oneof![4 => Just(0_i64), 4 => 1_i64..20, 4 => 20_i64..2_000, 1 => 2_000_i64..4_000_000]
}

/// Something that happens to one counter.
#[derive(Clone, Debug)]
enum Event {
    Take(i64),
    Charge { amount: i64, ago_ms: i64 },
    Correct { which: prop::sample::Index, delta: i64 },
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => (1_i64..30).prop_map(Event::Take),
        1 => (1_i64..30, 0_i64..3_000).prop_map(|(amount, ago_ms)| Event::Charge { amount, ago_ms }),
        2 => (any::<prop::sample::Index>(), -30_i64..30).prop_map(|(which, delta)| Event::Correct { which, delta }),
    ]
}

fn any_history() -> impl Strategy<Value = Vec<(i64, Event)>> {
    prop::collection::vec((any_step_ms(), any_event()), 1..25)
}

/// One counter with what was taken from it.
struct Driven {
    limit: AnyLimit,
    counter: Counter,
    now: Millis,
    taken: Vec<(Mark, i64)>,
}

impl Driven {
    fn new(limit: AnyLimit) -> Self {
        let now = Millis::new(NOON);
        Self { counter: Counter::fresh(&limit.at(now), now), limit, now, taken: Vec::new() }
    }

    fn after(limit: AnyLimit, history: Vec<(i64, Event)>) -> Self {
        let mut driven = Self::new(limit);
        for (step_ms, event) in history {
            driven.now = driven.now.plus(step_ms);
            driven.apply(&event);
        }
        driven
    }

    fn apply(&mut self, event: &Event) {
        let (limit, now) = (self.limit.at(self.now), self.now);
        match event {
            Event::Take(amount) => {
                // Takes go through a check, debts do not.
                if self.counter.read(&limit, *amount, now).denied.is_none() {
                    self.taken.push((self.counter.take(&limit, *amount, now), *amount));
                }
            }
            Event::Charge { amount, ago_ms } => self.counter.charge(&limit, *amount, now.plus(-ago_ms), now),
            Event::Correct { which, delta } if !self.taken.is_empty() => {
                let (mark, taken) = which.get(&self.taken);
                let (delta, now) = (*delta.max(&-taken), now);
                self.counter.correct(*mark, *taken, delta, now);
                self.taken.remove(which.index(self.taken.len()));
            }
            Event::Correct { .. } => {}
        }
    }

    fn read(&self, need: i64, now: Millis) -> Reading {
        self.counter.read(&self.limit.at(now), need, now)
    }

    fn used(&self, now: Millis) -> i128 {
        self.read(0, now).used
    }
}

proptest! {
    #![proptest_config(cases(500))]

    #[test]
    fn reading_the_future_and_the_past_never_changes_a_counter(
        limit in any_limit(), history in any_history(), away_ms in -100_000_i64..100_000,
    ) {
        let driven = Driven::after(limit, history);
        let before = driven.counter.clone();
        driven.read(1, driven.now.plus(away_ms));
        prop_assert_eq!(before, driven.counter);
    }

    #[test]
    fn a_clock_that_steps_back_renews_nothing(
        limit in any_limit(), history in any_history(), back_ms in 1_i64..10_000_000, amount in 1_i64..10,
    ) {
        let mut driven = Driven::after(limit, history);
        let (now, earlier) = (driven.now, driven.now.plus(-back_ms));
        let before = driven.used(now);
        prop_assert!(driven.used(earlier) >= before);
        let limit = driven.limit.at(earlier);
        driven.counter.take(&limit, amount, earlier);
        prop_assert!(driven.used(earlier) >= before + i128::from(amount));
        // What is taken under such a clock does not leave before what was there.
        prop_assert!(before == 0 || driven.used(now) == before + i128::from(amount));
    }

    #[test]
    fn an_idle_counter_reads_as_a_fresh_one_from_then_on(
        limit in any_limit(), history in any_history(), wait_ms in 0_i64..20_000, more_ms in any_step_ms(),
        need in 0_i64..50,
    ) {
        let driven = Driven::after(limit, history);
        let idle = driven.now.plus(wait_ms);
        prop_assume!(driven.counter.is_idle(idle));
        for later in [idle, idle.plus(more_ms)] {
            let limit = driven.limit.at(later);
            prop_assert_eq!(driven.read(need, later), Counter::fresh(&limit, later).read(&limit, need, later));
        }
    }

    #[test]
    fn a_counter_becomes_idle_once_its_reset_has_passed(limit in any_renewing_limit(), history in any_history()) {
        let driven = Driven::after(limit, history);
        let reset_at = driven.read(0, driven.now).reset_at.unwrap();
        prop_assert_eq!(driven.used(reset_at), 0);
        prop_assert!(driven.counter.is_idle(reset_at));
    }

    #[test]
    fn changing_the_size_of_a_limit_keeps_what_was_used(
        limit in any_limit(), history in any_history(), size in 0_i64..100,
    ) {
        let driven = Driven::after(limit.clone(), history);
        let changed = resized(&limit, size).at(driven.now);
        let reading = driven.counter.read(&changed, 0, driven.now);
        prop_assert_eq!(reading.used, driven.used(driven.now));
        prop_assert_eq!(i128::from(reading.remaining), (i128::from(size) - reading.used).max(0));
    }

    #[test]
    fn a_counter_takes_amounts_of_any_size_without_wrapping(
        limit in any_limit(), amounts in prop::collection::vec((any_step_ms(), extreme()), 1..12),
    ) {
        let mut driven = Driven::new(limit);
        for (step_ms, amount) in amounts {
            driven.now = driven.now.plus(step_ms);
            let (limit, now) = (driven.limit.at(driven.now), driven.now);
            let mark = driven.counter.take(&limit, amount, now);
            driven.counter.charge(&limit, amount, now, now);
            prop_assert!(driven.used(now) >= i128::from(amount));
            driven.counter.correct(mark, amount, amount, now);
            driven.counter.correct(mark, amount, -amount, now);
            prop_assert!(driven.used(now) >= 0);
            let reading = driven.read(i64::MAX, now);
            prop_assert!(reading.remaining >= 0 && reading.denied == Some(RetryAfter::Never));
        }
    }
}

fn extreme() -> impl Strategy<Value = i64> {
    prop_oneof![
        1_i64..1_000,
        Just(crate::limits::AMOUNT_MAX),
        Just(crate::limits::MONEY_NANOS_MAX),
        Just(i64::MAX)
    ]
}

fn resized(limit: &AnyLimit, size: i64) -> AnyLimit {
    match limit.clone() {
        AnyLimit::Bucket { refill, .. } => AnyLimit::Bucket { capacity: size, refill },
        AnyLimit::Fixed { window_ms, .. } => AnyLimit::Fixed { limit: size, window_ms },
        AnyLimit::Sliding { window_ms, .. } => AnyLimit::Sliding { limit: size, window_ms },
        AnyLimit::Calendar { zone, .. } => AnyLimit::Calendar { limit: size, zone },
        AnyLimit::Budget { zone, .. } => AnyLimit::Budget { nanos: size, zone },
        AnyLimit::Prepaid { .. } => AnyLimit::Prepaid { nanos: size },
    }
}
