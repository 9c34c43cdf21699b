//! Leases: amounts taken from a counter in advance, which their holder spends for many calls without
//! asking again.
//!
//! What is lent is taken from the counter like any amount, so that leases, strict decisions and other
//! holders together never pass the limit. What differs is only when it may be spent: within the window,
//! sub-window or, for a bucket, the second in which it was taken. A holder that is gone has spent all of
//! its lease, as far as the counter knows.

pub mod sizing;

use smallvec::SmallVec;

use crate::counter::{Counter, CounterId, Demand, Limit, Mark, Reading, sliding_window};
use crate::decision::{Charge, Counters};
use crate::rule::Enforcement;
use crate::time::Millis;
use sizing::lent_of;
pub use sizing::{LEASE_PARTS, STRICT_PARTS};

/// How long a holder spends a bucket's lease, counted from when it asked. Until then the bucket does not
/// refill what is lent, so it is short.
pub const BUCKET_LEASE_LIFE_MS: i64 = 1_000;
/// A bucket's lease counts as lent for so much longer than its holder spends it: for the way of the
/// question, and for clocks that run at different rates.
pub const LEASE_MARGIN_MS: i64 = 100;
/// Smallest limit of which anything is lent: of less a lease would be for so few calls that each may as well
/// ask the counter.
pub const LENT_LIMIT_MIN: i64 = 128;
/// Of a window that is left, one part in so many milliseconds is a margin for clocks that run at different
/// rates.
const DRIFT_PARTS: i64 = 1_000;
/// And this much for what a clock in whole milliseconds does not show.
const CLOCK_GRAIN_MS: i64 = 1;

/// What a holder asks of one counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseRequest {
    /// Which counter.
    pub counter: CounterId,
    /// Which counter instead, when this one is new and the workspace has too many.
    pub overflow: CounterId,
    /// What it is held against; money is never lent.
    pub limit: Limit,
    /// Units that the holder would like.
    pub asked: i64,
    /// Units below which a lease is of no use to it, at least one.
    pub least: i64,
}

impl LeaseRequest {
    /// The same as what a call takes.
    fn charge(&self, amount: i64) -> Charge {
        Charge {
            counter: self.counter,
            overflow: self.overflow,
            limit: self.limit,
            demand: Demand::take(amount),
            enforcement: Enforcement::Enforced,
            counts_denied: false,
        }
    }
}

/// Units that a holder has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The counter that they were taken from.
    pub counter: CounterId,
    /// How many.
    pub amount: i64,
    /// Where they were taken.
    pub mark: Mark,
    /// For how long they may be spent, counted by the holder from the instant at which it asked.
    pub life_ms: i64,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseOutcome {
    /// The lease; `None` near the limit.
    pub lease: Option<Lease>,
    /// How the counter stands after it.
    pub reading: Reading,
}

/// What a holder says of units that it had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseReturn {
    /// The counter that they were taken from.
    pub counter: CounterId,
    /// Where they were taken.
    pub mark: Mark,
    /// Units that it does not hold any more.
    pub closed: i64,
    /// How many of these it has not spent.
    pub unused: i64,
}

/// The most that a limit ever lends at once; nothing where it is so small that every decision had better be
/// the counter's own.
pub fn lent_max(limit: &Limit) -> i64 {
    match limit {
        Limit::Budget { .. } | Limit::Concurrency { .. } => 0,
        limit if limit.size() < LENT_LIMIT_MIN => 0,
        limit => lent_of(limit.size(), limit.size()),
    }
}

/// How long what was taken at `mark` may be spent.
pub fn life_ms(mark: Mark, now: Millis) -> i64 {
    let end = match mark {
        Mark::TokenBucket { .. } => return BUCKET_LEASE_LIFE_MS,
        Mark::Concurrency => return 0,
        Mark::Window { end, .. } | Mark::Budget { end, .. } => end,
        Mark::SlidingWindow { slot, window_ms } => {
            let step_ms = sliding_window::sub_window_ms(window_ms);
            Millis::new((slot + 1).saturating_mul(step_ms))
        }
    };
    let left_ms = end.since(now);
    (left_ms - left_ms / DRIFT_PARTS - CLOCK_GRAIN_MS).max(0)
}

/// Ends what is returned, then lends what is asked for, in order.
pub fn exchange(
    counters: &mut impl Counters,
    returns: &[LeaseReturn],
    requests: &[LeaseRequest],
    now: Millis,
) -> SmallVec<[LeaseOutcome; 8]> {
    for LeaseReturn { counter, mark, closed, unused } in returns {
        if let Some(entry) = counters.get_mut(*counter) {
            entry.counter.end_lease(*mark, *closed, *unused, now);
        }
    }
    requests.iter().map(|request| lend(counters, request, now)).collect()
}

fn lend(counters: &mut impl Counters, request: &LeaseRequest, now: Millis) -> LeaseOutcome {
    let LeaseRequest { counter, limit, asked, least, .. } = *request;
    let fresh: Counter;
    let standing = match counters.get(counter) {
        Some(entry) => &entry.counter,
        None => {
            fresh = counters.fresh(counter, &limit, now);
            &fresh
        }
    };
    let reading = standing.read(&limit, 0, now);
    let life_ms = life_ms(standing.mark(&limit, now), now);
    let amount = match limit {
        Limit::Budget { .. } | Limit::Concurrency { .. } => 0,
        _ => asked.min(lent_of(limit.size(), reading.remaining)),
    };
    if amount < least.max(1) || life_ms == 0 {
        return LeaseOutcome { lease: None, reading };
    }
    let state = &mut counters.take_from(&request.charge(amount), now).counter;
    let mark = state.lend(&limit, amount, now);
    let reading = state.read(&limit, 0, now);
    LeaseOutcome { lease: Some(Lease { counter, amount, mark, life_ms }), reading }
}

#[cfg(test)]
mod tests;
