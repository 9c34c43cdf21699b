//! Leases held by several, against the oracle that knows only what was admitted, and when.

use proptest::prelude::*;

use super::*;
use crate::counter::tests::never_over::{Admitted, assert_never_over};
use crate::counter::tests::{AnyLimit, any_renewing_limit, any_step_ms};
use crate::counter::{Refill, RetryAfter, TokenBucket};
use crate::decision::tests::{MemoryCounters, NOON, cases, charge};
use crate::decision::{Mode, decide};

const COUNTER: CounterId = CounterId(1);
const HOLDERS: usize = 3;

/// Something that happens between one counter and those who hold of it.
#[derive(Clone, Debug)]
enum Step {
    /// A strict decision.
    Consume(i64),
    /// A holder takes some, having asked a little before.
    Ask { holder: usize, amount: i64, ago_ms: i64 },
    /// A holder spends from one of its leases.
    Spend { holder: usize, which: prop::sample::Index, amount: i64 },
    /// A holder tells what it spent and goes on.
    Tell { holder: usize, which: prop::sample::Index },
    /// A holder gives a lease back.
    GiveBack { holder: usize, which: prop::sample::Index },
    /// A holder is gone.
    Crash { holder: usize },
    /// The last moment in which a lease may be spent.
    ToTheEnd { holder: usize, which: prop::sample::Index, beside_ms: i64 },
    /// Stores forget what is idle.
    Sweep,
}

fn any_lease_step() -> impl Strategy<Value = Step> {
    let which = any::<prop::sample::Index>;
    let holder = || 0..HOLDERS;
    prop_oneof![
        4 => (1_i64..20).prop_map(Step::Consume),
        6 => (holder(), 1_i64..40, 0_i64..90)
            .prop_map(|(holder, amount, ago_ms)| Step::Ask { holder, amount, ago_ms }),
        8 => (holder(), which(), 1_i64..20)
            .prop_map(|(holder, which, amount)| Step::Spend { holder, which, amount }),
        2 => (holder(), which()).prop_map(|(holder, which)| Step::Tell { holder, which }),
        2 => (holder(), which()).prop_map(|(holder, which)| Step::GiveBack { holder, which }),
        1 => holder().prop_map(|holder| Step::Crash { holder }),
        2 => (holder(), which(), -30_i64..30)
            .prop_map(|(holder, which, beside_ms)| Step::ToTheEnd { holder, which, beside_ms }),
        1 => Just(Step::Sweep),
    ]
}

#[derive(Clone, Debug)]
struct Held {
    mark: Mark,
    open: i64,
    left: i64,
    dies_at: Millis,
}

struct Run {
    limit: AnyLimit,
    counters: MemoryCounters,
    now: Millis,
    log: Vec<Admitted>,
    holders: [Vec<Held>; HOLDERS],
}

impl Run {
    fn new(limit: AnyLimit) -> Self {
        let (counters, now) = (MemoryCounters::default(), Millis::new(NOON));
        Self { limit, counters, now, log: Vec::new(), holders: Default::default() }
    }

    fn admit(&mut self, amount: i64) {
        self.log.push(Admitted { at: self.now, counted: amount });
        assert_never_over(&self.limit, &self.log);
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Consume(amount) => {
                let asked = charge(COUNTER.0, self.limit.at(self.now), amount);
                if decide(&mut self.counters, &[asked], Mode::Consume, self.now).allowed {
                    self.admit(amount);
                }
            }
            Step::Ask { holder, amount, ago_ms } => self.ask(holder, amount, ago_ms),
            Step::Spend { holder, which, amount } => self.spend(holder, which, amount),
            Step::Tell { holder, which } => self.end(holder, which, false),
            Step::GiveBack { holder, which } => self.end(holder, which, true),
            Step::Crash { holder } => self.holders[holder].clear(),
            Step::ToTheEnd { holder, which, beside_ms } => {
                if let Some(held) = pick(&mut self.holders[holder], which) {
                    self.now = self.now.max(held.dies_at.plus(beside_ms));
                }
            }
            Step::Sweep => self.counters.sweep(self.now),
        }
    }

    /// As much as there is may be lent: how much had better be is another question.
    fn ask(&mut self, holder: usize, amount: i64, ago_ms: i64) {
        let (limit, now) = (self.limit.at(self.now), self.now);
        let asked_at = self.log.last().map_or(now, |last| last.at).max(now.plus(-ago_ms));
        let counter = &mut self.counters.get_or_insert(COUNTER, &limit, now).counter;
        if counter.read(&limit, amount, now).denied.is_some() {
            return;
        }
        let mark = counter.lend(&limit, amount, now);
        let dies_at = asked_at.plus(life_ms(mark, now));
        self.holders[holder].push(Held { mark, open: amount, left: amount, dies_at });
    }

    fn spend(&mut self, holder: usize, which: prop::sample::Index, amount: i64) {
        let now = self.now;
        let Some(held) = pick(&mut self.holders[holder], which) else { return };
        if now < held.dies_at && amount <= held.left {
            held.left -= amount;
            self.admit(amount);
        }
    }

    fn end(&mut self, holder: usize, which: prop::sample::Index, gives_back: bool) {
        let now = self.now;
        let Some(held) = pick(&mut self.holders[holder], which) else { return };
        let unused = if gives_back { held.left } else { 0 };
        let closed = held.open - held.left + unused;
        let Held { mark, .. } = *held;
        (held.open, held.left) = (held.open - closed, held.left - unused);
        let returned = LeaseReturn { counter: COUNTER, mark, closed, unused };
        exchange(&mut self.counters, &[returned], &[], now);
    }
}

fn pick(held: &mut [Held], which: prop::sample::Index) -> Option<&mut Held> {
    let count = held.len();
    if count == 0 { None } else { held.get_mut(which.index(count)) }
}

proptest! {
    #![proptest_config(cases(3_000))]

    #[test]
    fn leases_and_strict_decisions_together_are_never_over(
        limit in any_renewing_limit(),
        steps in prop::collection::vec((any_step_ms(), any_lease_step()), 1..60),
    ) {
        let mut run = Run::new(limit);
        for (step_ms, step) in steps {
            run.now = run.now.plus(step_ms);
            run.step(step);
        }
    }

    #[test]
    fn what_comes_back_unused_was_as_good_as_never_lent(
        limit in any_renewing_limit(), used in 0_i64..20, lent in 1_i64..20, after_ms in 0_i64..900,
    ) {
        let now = Millis::new(NOON);
        let limit = limit.at(now);
        let mut lending = Counter::fresh(&limit, now);
        lending.take(&limit, used, now);
        let mut other = lending.clone();
        let mark = lending.lend(&limit, lent, now);
        let later = now.plus(after_ms);
        lending.end_lease(mark, lent, lent, later);
        // A bucket that would have been full by then begins to refill only now.
        other.take(&limit, 0, later);
        prop_assert_eq!(lending.read(&limit, 0, later).used, other.read(&limit, 0, later).used);
        lending.end_lease(mark, lent, lent, later);
        prop_assert!(lending.read(&limit, 0, later).used <= other.read(&limit, 0, later).used);
    }

    #[test]
    fn a_bucket_says_when_a_call_passes_also_while_it_lends(
        capacity in 1_i64..40, units in 1_i64..20, period_ms in 1_i64..500,
        lent in prop::collection::vec((1_i64..20, 0_i64..1_500), 1..6), need in 1_i64..40,
    ) {
        let refill = Refill::new(units, period_ms, capacity).unwrap();
        let limit = Limit::TokenBucket { capacity, refill };
        let (mut now, mut counter) = (Millis::new(NOON), Counter::fresh(&limit, Millis::new(NOON)));
        for (amount, after_ms) in lent {
            counter.lend(&limit, amount, now);
            now = now.plus(after_ms);
        }
        match counter.read(&limit, need, now).denied {
            Some(RetryAfter::Millis(wait_ms)) => {
                prop_assert!(counter.read(&limit, need, now.plus(wait_ms)).denied.is_none());
                prop_assert!(counter.read(&limit, need, now.plus(wait_ms - 1)).denied.is_some());
            }
            Some(RetryAfter::Never) => prop_assert!(need > capacity),
            None => {}
        }
        let Counter::TokenBucket(TokenBucket { idle_at, .. }) = &counter else { panic!("a bucket stays one") };
        prop_assert_eq!(counter.read(&limit, 0, *idle_at).used, 0);
        prop_assert!(counter.read(&limit, 0, idle_at.plus(-1)).used > 0);
    }

    #[test]
    fn a_grant_is_within_its_bounds(
        limit in any_renewing_limit(), used in 0_i64..40, asked in 1_i64..1_000, least in 1_i64..10,
    ) {
        let now = Millis::new(NOON);
        let limit = limit.at(now);
        let mut counters = MemoryCounters::default();
        counters.get_or_insert(COUNTER, &limit, now).counter.take(&limit, used, now);
        let left = limit.size() - used.min(limit.size());
        let LeaseOutcome { lease, reading } = exchange(&mut counters, &[], &[request(limit, asked, least)], now)[0];
        if let Some(lease) = lease {
            prop_assert!(lease.amount >= least && lease.amount <= asked);
            prop_assert!(lease.amount <= left / LEASE_PARTS);
            prop_assert_eq!(reading.remaining, left - lease.amount);
        } else {
            prop_assert_eq!(reading.remaining, left);
        }
    }
}

fn request(limit: Limit, asked: i64, least: i64) -> LeaseRequest {
    LeaseRequest { counter: COUNTER, overflow: CounterId(2), limit, asked, least }
}

fn a_minute(limit: i64) -> Limit {
    Limit::FixedWindow { limit, window_ms: 60_000 }
}

#[test]
fn near_the_limit_nothing_is_lent() {
    let (limit, now) = (a_minute(32_000), Millis::new(NOON));
    let mut counters = MemoryCounters::default();
    counters.get_or_insert(COUNTER, &limit, now).counter.take(&limit, 31_800, now);
    assert_eq!(exchange(&mut counters, &[], &[request(limit, 10, 1)], now)[0].lease, None);
    assert_eq!(lent_max(&a_minute(10)), 0);
    assert_eq!(lent_max(&Limit::Budget { nanos: 1_000_000, bounds: None }), 0);
    assert_eq!(lent_max(&limit), 31_750 / 16);
}

#[test]
fn a_lease_dies_before_its_window_and_its_sub_window() {
    let (limit, now) = (a_minute(32_000), Millis::new(60_000 * 1_000 + 10_000));
    let lease = exchange(&mut MemoryCounters::default(), &[], &[request(limit, 10, 1)], now)[0].lease;
    assert_eq!(lease.map(|lease| lease.life_ms), Some(50_000 - 50 - 1));
    let sliding = Limit::SlidingWindow { limit: 32_000, window_ms: 60_000 };
    let lease =
        exchange(&mut MemoryCounters::default(), &[], &[request(sliding, 10, 1)], now.plus(300))[0].lease;
    assert_eq!(lease.map(|lease| lease.life_ms), Some(700 - 1));
    let last = Millis::new(60_000 * 1_001 - 1);
    assert_eq!(exchange(&mut MemoryCounters::default(), &[], &[request(limit, 10, 1)], last)[0].lease, None);
}

#[test]
fn what_a_bucket_has_lent_is_not_refilled_until_it_has_expired() {
    let refill = Refill::new(1_000, 1_000, 1_000).unwrap();
    let limit = Limit::TokenBucket { capacity: 1_000, refill };
    // The beginning of a generation.
    let now = Millis::new(1_100 * 1_600_000_000);
    let mut counter = Counter::fresh(&limit, now);
    counter.lend(&limit, 1_000, now);
    assert_eq!(counter.read(&limit, 0, now.plus(2_199)).remaining, 0, "its holder may spend it until then");
    assert_eq!(counter.read(&limit, 0, now.plus(2_700)).remaining, 500, "a generation later it refills");
}
