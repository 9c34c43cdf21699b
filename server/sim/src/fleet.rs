//! A model by events of a fleet that shares its counters: what a thousand replicas ask of the shared
//! store for ten million checks a second, how much of a limit lies where nobody wants it, and whether
//! ever too much is admitted.
//!
//! A check is no event here: between two events a replica spends its lease at its own steady rate.
//! Time is in whole microseconds, and everything is counted in whole units.

pub mod holder;
pub mod report;

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use self::holder::{Holder, Next};
use self::report::Report;
use crate::dice::Dice;

/// Microseconds of a second.
pub const SECOND_US: i64 = 1_000_000;
/// Microseconds of a millisecond.
pub const MS_US: i64 = 1_000;
/// What a limit's callers want of it, in percent: two kinds of limits that are enough, two that are not.
pub const LOADS_PERCENT: [i64; 4] = [50, 90, 110, 300];
/// Questions of one replica within so long go together, as the holder sends them.
const GATHERED_US: i64 = 5_000;
/// How much more one replica may want of a limit than another, at most.
const SKEW: i64 = 100;

/// A fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fleet {
    /// Replicas.
    pub replicas: usize,
    /// Limits.
    pub limits: usize,
    /// Checks a second, over all replicas and limits.
    pub checks_per_second: i64,
    /// Length of the limits' windows, in milliseconds.
    pub window_ms: i64,
    /// Windows to look at.
    pub windows: i64,
    /// How long a question to the shared store takes with its answer, in microseconds.
    pub round_trip_us: i64,
    /// What chance begins with.
    pub seed: u64,
    /// Plants the bug of a lease that is spent past its window.
    pub outlives_window: bool,
}

impl Default for Fleet {
    fn default() -> Self {
        Self {
            replicas: 1_000,
            limits: 100,
            checks_per_second: 10_000_000,
            window_ms: 10_000,
            windows: 3,
            round_trip_us: 1_000,
            seed: 1,
            outlives_window: false,
        }
    }
}

/// One limit with its shared counter.
#[derive(Clone, Debug, Default)]
pub struct Shared {
    /// Units a window.
    pub size: i64,
    /// Percent of the size that is wanted.
    pub load: usize,
    /// What the counter has given out in this window.
    pub used: i64,
    /// What was admitted in this window.
    pub admitted: i64,
    /// What was wanted in this window.
    pub wanted: i64,
    /// Units that lay unspent with their holders when the window ended.
    pub unspent: i64,
}

impl Shared {
    /// What is left.
    pub fn left(&self) -> i64 {
        (self.size - self.used).max(0)
    }
}

/// The model while it runs.
struct Model {
    fleet: Fleet,
    limits: Vec<Shared>,
    holders: Vec<Holder>,
    /// When each replica asked last, in parts of the time that it gathers.
    asked: Vec<i64>,
    events: BinaryHeap<Reverse<(i64, usize, u64)>>,
    report: Report,
    window_ends_us: i64,
}

/// Runs a fleet.
pub fn run(fleet: Fleet) -> Report {
    let mut model = Model::new(fleet);
    for window in 0..fleet.windows {
        model.begin(window);
        while model.step() {}
        model.end();
    }
    model.report
}

impl Model {
    fn new(fleet: Fleet) -> Self {
        let dice = Dice::of(fleet.seed);
        let rates =
            shares(fleet.checks_per_second, (1..=fleet.limits).map(|rank| SKEW * SKEW / ranked(rank)));
        let mut limits = Vec::with_capacity(fleet.limits);
        let mut holders = Vec::new();
        for (number, rate) in rates.into_iter().enumerate() {
            let load = number % LOADS_PERCENT.len();
            let size = rate * fleet.window_ms / 1_000 * 100 / LOADS_PERCENT[load];
            limits.push(Shared { size, load, ..Shared::default() });
            let skews: Vec<i64> = (0..fleet.replicas).map(|_| dice.within(1..=SKEW)).collect();
            for (replica, rate) in shares(rate, skews.into_iter()).into_iter().enumerate() {
                holders.push(Holder::new(replica, number, rate));
            }
        }
        Self {
            limits,
            holders,
            asked: vec![-1; fleet.replicas],
            events: BinaryHeap::new(),
            report: Report::of(&fleet),
            window_ends_us: 0,
            fleet,
        }
    }

    fn begin(&mut self, window: i64) {
        let length_us = self.fleet.window_ms * MS_US;
        let begins_us = window * length_us;
        self.window_ends_us = begins_us + length_us;
        self.limits.iter_mut().for_each(|limit| (limit.used, limit.admitted, limit.wanted) = (0, 0, 0));
        for place in 0..self.holders.len() {
            let next = self.holders[place].begin(begins_us, self.fleet.outlives_window);
            self.plan(place, next);
        }
    }

    /// Plans what a holder does next, unless its window is over by then.
    fn plan(&mut self, place: usize, next: Option<Next>) {
        if let Some(next) = next.filter(|next| next.at_us < self.window_ends_us) {
            let holder = &mut self.holders[place];
            holder.next = Some(next);
            holder.turn += 1;
            self.events.push(Reverse((next.at_us, place, holder.turn)));
        }
    }

    /// The next event of the window; false when there is none.
    fn step(&mut self) -> bool {
        let Some(Reverse((at_us, place, turn))) = self.events.pop() else { return false };
        let Some(next) = self.holders[place].next.filter(|_| self.holders[place].turn == turn) else {
            return true;
        };
        let holder = &mut self.holders[place];
        let limit = &mut self.limits[holder.limit];
        let (following, cost) = holder.act(next, limit, self.window_ends_us, self.fleet.round_trip_us);
        self.report.questions += cost.questions;
        self.report.strict += cost.strict;
        self.report.denied += cost.denied;
        if cost.questions > 0 {
            let gathered = at_us / GATHERED_US;
            let asked = &mut self.asked[self.holders[place].replica];
            self.report.commands += i64::from(*asked != gathered);
            *asked = gathered;
        }
        self.plan(place, following);
        true
    }

    /// The window is over: what lies unspent is lost, and everything is summed up.
    fn end(&mut self) {
        for holder in &mut self.holders {
            let limit = &mut self.limits[holder.limit];
            holder.spend_until(self.window_ends_us, limit);
            limit.unspent += holder.end();
        }
        for limit in &mut self.limits {
            self.report.take_in(limit);
            limit.unspent = 0;
        }
    }
}

/// The square root of a rank, so that the first limits are wanted more than the last.
fn ranked(rank: usize) -> i64 {
    i64::try_from(rank.isqrt()).unwrap_or(1).max(1)
}

/// A total in proportion to weights, at least one each.
fn shares(total: i64, weights: impl Iterator<Item = i64>) -> Vec<i64> {
    let weights: Vec<i64> = weights.collect();
    let sum = i128::from(weights.iter().sum::<i64>().max(1));
    let share = |weight: i64| i64::try_from(i128::from(total) * i128::from(weight) / sum).unwrap_or(total);
    weights.into_iter().map(|weight| share(weight).max(1)).collect()
}

#[cfg(test)]
mod tests;
