//! Never over: an oracle that knows only the log of what was admitted, and looks at every window
//! of it. Reservations count their estimate until they are settled, then the smaller of estimate
//! and use.

use super::*;
use crate::amounts::Amounts;
use crate::decision::tests::{MemoryCounters, charge};
use crate::decision::{Mode, decide};
use crate::money::Nanos;
use crate::reservation::tests::open_reservation;
use crate::reservation::{Reservation, Settlement, capture, charge_unreserved};
use crate::unit::Unit;

#[derive(Clone, Debug)]
enum Step {
    Consume(i64),
    Peek(i64),
    Reserve(i64),
    Settle {
        which: prop::sample::Index,
        used: i64,
    },
    Release(prop::sample::Index),
    Expire(prop::sample::Index),
    Report {
        amount: i64,
        ago_ms: i64,
    },
    Sweep,
    /// Goes to where an admission leaves its window, or a few milliseconds beside.
    ToEdge {
        which: prop::sample::Index,
        beside_ms: i64,
    },
}

fn any_step() -> impl Strategy<Value = Step> {
    let which = any::<prop::sample::Index>;
    prop_oneof![
        4 => (1_i64..20).prop_map(Step::Consume),
        1 => (1_i64..20).prop_map(Step::Peek),
        6 => (1_i64..20).prop_map(Step::Reserve),
        4 => (which(), 0_i64..25).prop_map(|(which, used)| Step::Settle { which, used }),
        1 => which().prop_map(Step::Release),
        1 => which().prop_map(Step::Expire),
        1 => (1_i64..20, 0_i64..3_000).prop_map(|(amount, ago_ms)| Step::Report { amount, ago_ms }),
        1 => Just(Step::Sweep),
        2 => (which(), -40_i64..40).prop_map(|(which, beside_ms)| Step::ToEdge { which, beside_ms }),
    ]
}

/// Calls under a clock that also steps back.
fn any_jumpy_step() -> impl Strategy<Value = (i64, Step)> {
    let step_ms = prop_oneof![3 => any_step_ms(), 1 => -5_000_i64..0];
    (step_ms, prop_oneof![(1_i64..20).prop_map(Step::Consume), (1_i64..20).prop_map(Step::Reserve)])
}

fn any_steps() -> impl Strategy<Value = Vec<(i64, Step)>> {
    prop::collection::vec((any_step_ms(), any_step()), 1..60)
}

/// An admitted call, as the oracle sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Admitted {
    pub(crate) at: Millis,
    pub(crate) counted: i64,
}

/// A run of one counter with its log.
struct Run {
    limit: AnyLimit,
    counters: MemoryCounters,
    now: Millis,
    log: Vec<Admitted>,
    /// Open reservations with their place in the log.
    open: Vec<(Reservation, usize)>,
    position: u64,
}

impl Run {
    fn new(limit: AnyLimit) -> Self {
        let (counters, now) = (MemoryCounters::default(), Millis::new(NOON));
        Self { limit, counters, now, log: Vec::new(), open: Vec::new(), position: 0 }
    }

    fn ask(&mut self, amount: i64, mode: Mode) {
        let asked = charge(1, self.limit.at(self.now), amount);
        let verdict = decide(&mut self.counters, &[asked], mode, self.now);
        if !verdict.allowed || mode == Mode::Peek {
            return;
        }
        // The counter's clock never goes back, so neither does the log's.
        let at = self.log.last().map_or(self.now, |last| last.at.max(self.now));
        if mode == Mode::Reserve {
            let captured = capture(&[asked], [Unit::Tokens].iter(), &verdict);
            self.open.push((open_reservation(captured, Nanos::ZERO), self.log.len()));
        }
        self.log.push(Admitted { at, counted: amount });
        assert_never_over(&self.limit, &self.log);
    }

    fn close(&mut self, which: prop::sample::Index) -> Option<(Reservation, usize)> {
        (!self.open.is_empty()).then(|| self.open.remove(which.index(self.open.len())))
    }

    fn settle(&mut self, which: prop::sample::Index, used: i64) {
        let Some((mut reservation, place)) = self.close(which) else { return };
        let mut amounts = Amounts::default();
        amounts.insert("tokens", Unit::Tokens, used).unwrap();
        self.position += 1;
        let position = Position(self.position);
        let (cost, is_final, refund, now) = (Nanos::ZERO, true, true, self.now);
        let settlement = Settlement { position, amounts: &amounts, cost, is_final, refund, now };
        reservation.settle(&mut self.counters, &settlement);
        self.log[place].counted = self.log[place].counted.min(used);
    }

    fn give_back(
        &mut self,
        which: prop::sample::Index,
        end: fn(&mut Reservation, &mut MemoryCounters, Millis),
    ) {
        if let Some((mut reservation, place)) = self.close(which) {
            end(&mut reservation, &mut self.counters, self.now);
            self.log[place].counted = 0;
        }
    }

    fn report(&mut self, amount: i64, ago_ms: i64) {
        let (limit, at) = (self.limit.at(self.now), self.now.plus(-ago_ms));
        self.position += 1;
        let position = Position(self.position);
        charge_unreserved(&mut self.counters, CounterId(1), &limit, amount, position, at, self.now);
    }

    fn go_to_edge(&mut self, which: prop::sample::Index, beside_ms: i64) {
        if self.log.is_empty() {
            return;
        }
        let at = which.get(&self.log).at;
        let edge = match self.limit.at(at) {
            Limit::TokenBucket { capacity, refill } => {
                at.plus(capacity * refill.period_ms() / refill.units())
            }
            Limit::FixedWindow { window_ms, .. } => Millis::new((at.get() / window_ms + 1) * window_ms),
            Limit::SlidingWindow { window_ms, .. } => at.plus(window_ms),
            Limit::CalendarWindow { bounds, .. } => bounds.end,
            Limit::Budget { bounds, .. } => bounds.map_or(at, |bounds| bounds.end),
        };
        self.now = self.now.max(edge.plus(beside_ms));
    }

    fn step(&mut self, step_ms: i64, step: &Step) {
        self.now = self.now.plus(step_ms);
        match step {
            Step::Consume(amount) => self.ask(*amount, Mode::Consume),
            Step::Peek(amount) => self.ask(*amount, Mode::Peek),
            Step::Reserve(amount) => self.ask(*amount, Mode::Reserve),
            Step::Settle { which, used } => self.settle(*which, *used),
            Step::Release(which) => self.give_back(*which, |r, counters, now| r.release(counters, now)),
            Step::Expire(which) => self.give_back(*which, |r, counters, now| r.expire(counters, now)),
            Step::Report { amount, ago_ms } => self.report(*amount, *ago_ms),
            Step::Sweep => self.counters.sweep(self.now),
            Step::ToEdge { which, beside_ms } => self.go_to_edge(*which, *beside_ms),
        }
    }
}

pub(crate) fn assert_never_over(limit: &AnyLimit, log: &[Admitted]) {
    let Some(last) = log.last() else { return };
    match limit {
        AnyLimit::Bucket { capacity, refill } => assert_bucket(*capacity, *refill, log),
        AnyLimit::Fixed { limit, window_ms } => {
            let window = |at: Millis| at.get() / window_ms;
            assert_sum(*limit, log, |at| window(at) == window(last.at));
        }
        // The window's both ends are counted, which is more than any half-open window holds.
        AnyLimit::Sliding { limit, window_ms } => {
            assert_sum(*limit, log, |at| last.at.since(at) <= *window_ms);
        }
        AnyLimit::Calendar { limit, zone } => {
            let bounds = CalendarPeriod::Hour.bounds(zone, last.at);
            assert_sum(*limit, log, |at| bounds.contain(at));
        }
        AnyLimit::Budget { nanos, zone } => {
            let bounds = CalendarPeriod::Day.bounds(zone, last.at);
            assert_sum(*nanos, log, |at| bounds.contain(at));
        }
        AnyLimit::Prepaid { nanos } => assert_sum(*nanos, log, |_| true),
    }
}

fn assert_sum(limit: i64, log: &[Admitted], inside: impl Fn(Millis) -> bool) {
    let sum: i64 = log.iter().filter(|entry| inside(entry.at)).map(|entry| entry.counted).sum();
    assert!(sum <= limit, "{sum} of {limit} admitted: {log:?}");
}

/// Every window that ends with the last admission: admitted <= capacity + rate x elapsed, over the
/// common denominator.
fn assert_bucket(capacity: i64, refill: Refill, log: &[Admitted]) {
    let Some(last) = log.last() else { return };
    let (units, period) = (i128::from(refill.units()), i128::from(refill.period_ms()));
    let mut sum = 0;
    for first in log.iter().rev() {
        sum += i128::from(first.counted);
        let elapsed = i128::from(last.at.since(first.at));
        assert!((sum - i128::from(capacity)) * period <= units * elapsed, "{sum} since {first:?}: {log:?}");
    }
}

proptest! {
    #![proptest_config(cases(800))]

    #[test]
    fn no_window_of_a_limit_ever_admits_more_than_the_limit(limit in any_renewing_limit(), steps in any_steps()) {
        let mut run = Run::new(limit);
        for (step_ms, step) in &steps {
            run.step(*step_ms, step);
        }
    }

    #[test]
    fn no_bucket_ever_admits_more_than_its_capacity_and_refill(limit in any_bucket(), steps in any_steps()) {
        let mut run = Run::new(limit);
        for (step_ms, step) in &steps {
            run.step(*step_ms, step);
        }
    }

    #[test]
    fn no_clock_that_steps_back_makes_a_limit_admit_more(
        limit in any_limit(), steps in prop::collection::vec(any_jumpy_step(), 1..60),
    ) {
        let mut run = Run::new(limit);
        for (step_ms, step) in &steps {
            run.step(*step_ms, step);
        }
    }

    #[test]
    fn a_limit_admits_all_of_its_size_and_no_more_at_one_instant(limit in any_limit()) {
        // The other half of never over: it is not met by admitting too little.
        let mut run = Run::new(limit);
        let size = run.limit.at(run.now).size();
        for _ in 0..size + 3 {
            run.step(0, &Step::Consume(1));
        }
        prop_assert_eq!(run.log.len(), usize::try_from(size).unwrap());
    }

    #[test]
    fn a_limit_admits_all_of_its_size_again_once_it_has_renewed(
        limit in any_renewing_limit(), steps in any_steps(),
    ) {
        let mut run = Run::new(limit);
        for (step_ms, step) in &steps {
            run.step(*step_ms, step);
        }
        let (limit, size) = (run.limit.at(run.now), run.limit.at(run.now).size());
        let Some(entry) = run.counters.0.get(&CounterId(1)) else { return Ok(()) };
        let reset_at = entry.counter.read(&limit, 0, run.now).reset_at.unwrap();
        run.step(reset_at.since(run.now), &Step::Consume(size));
        prop_assert_eq!(run.log.last().map(|last| last.counted), Some(size));
    }
}

#[test]
fn released_amounts_are_free_at_once() {
    for limit in [
        AnyLimit::Bucket { capacity: 10, refill: Refill::new(1, 1_000, 10).unwrap() },
        AnyLimit::Fixed { limit: 10, window_ms: 60_000 },
        AnyLimit::Sliding { limit: 10, window_ms: 60_000 },
        AnyLimit::Calendar { limit: 10, zone: Zone::UTC },
        AnyLimit::Budget { nanos: 10, zone: Zone::UTC },
        AnyLimit::Prepaid { nanos: 10 },
    ] {
        let mut run = Run::new(limit);
        for _ in 0..3 {
            run.step(0, &Step::Reserve(10));
            let (mut reservation, _) = run.open.pop().expect("a free limit admits its whole size");
            reservation.release(&mut run.counters, run.now);
            run.log.clear();
        }
    }
}

fn windows_of_100() -> [AnyLimit; 2] {
    [AnyLimit::Fixed { limit: 100, window_ms: 60_000 }, AnyLimit::Sliding { limit: 100, window_ms: 60_000 }]
}

#[test]
fn an_amount_is_corrected_where_it_was_taken_also_after_others_were() {
    for limit in windows_of_100() {
        let mut driven = Driven::new(limit);
        let limit = driven.limit.at(driven.now);
        let start = Millis::new(NOON - NOON % 60_000);
        let mark = driven.counter.take(&limit, 50, start);
        driven.counter.take(&limit, 50, start.plus(20_000));
        driven.counter.correct(mark, 50, -30, start.plus(30_000));
        assert_eq!(driven.used(start.plus(30_000)), 70, "{limit:?}");
        driven.counter.correct(mark, 20, 50, start.plus(30_000));
        assert_eq!(driven.used(start.plus(30_000)), 120, "{limit:?}");
        // What was added left with the window in which it was taken.
        assert_eq!(driven.used(start.plus(61_000)) % 50, 0, "{limit:?}");
    }
}

#[test]
fn a_report_of_a_window_that_has_closed_does_not_weigh_on_the_next_one() {
    for limit in windows_of_100() {
        let mut driven = Driven::new(limit);
        let limit = driven.limit.at(driven.now);
        let start = Millis::new(NOON - NOON % 60_000);
        driven.counter.take(&limit, 10, start.plus(120_000));
        driven.counter.charge(&limit, 50, start.plus(10_000), start.plus(120_000));
        assert_eq!(driven.used(start.plus(120_000)), 10, "{limit:?}");
        driven.counter.charge(&limit, 50, start.plus(120_000), start.plus(121_000));
        assert_eq!(driven.used(start.plus(121_000)), 60, "{limit:?}");
    }
}

#[test]
fn the_sub_window_that_is_60_behind_still_counts_whole() {
    let mut driven = Driven::new(AnyLimit::Sliding { limit: 100, window_ms: 60_000 });
    let limit = driven.limit.at(driven.now);
    let start = Millis::new(NOON - NOON % 60_000);
    driven.counter.take(&limit, 50, start);
    for (after_ms, used) in [(60_000, 51), (60_999, 52), (61_000, 3)] {
        driven.counter.take(&limit, 1, start.plus(after_ms));
        assert_eq!(driven.used(start.plus(after_ms)), used);
    }
}
