//! Leads: how much calls may take of a counter before it is written down again.
//!
//! A store that keeps counters in memory writes them down a little later. What may have been taken
//! in between is bounded beforehand, by the lead. After a crash the whole lead counts as taken, at
//! the last instant at which it can have been: so a counter never stands lower than it did.

use super::{Counter, Limit};
use crate::time::Millis;

/// What a limit gives back in this long may be lost by a crash: the restart alone takes about as
/// much. A shorter limit counts as used up.
const LEAD_MS: i64 = 10_000;
/// The part of a longer limit that may be lost by a crash: small enough to be forgiven once, and
/// so large that no limit of twenty or more waits for a disk with every call.
const LEAD_OF_LIMIT: i64 = 20;

impl Limit {
    /// How long the limit takes to be given back whole, in milliseconds; zero where it never is.
    pub fn span_ms(&self) -> i64 {
        match *self {
            Self::TokenBucket { capacity, refill } => refill.ms_to_give_back(capacity),
            Self::FixedWindow { window_ms, .. } | Self::SlidingWindow { window_ms, .. } => window_ms,
            Self::CalendarWindow { bounds, .. } => bounds.end.since(bounds.start),
            Self::Concurrency { .. } => 0,
            Self::Budget { bounds, .. } => bounds.map_or(0, |bounds| bounds.end.since(bounds.start)),
        }
    }

    /// The largest lead of the limit's counters, in units: a twentieth of it or what it gives back
    /// in ten seconds, whichever is more; all there is where it gives back everything in less.
    pub fn lead_units_max(&self) -> i64 {
        let span_ms = self.span_ms();
        if span_ms < LEAD_MS {
            return i64::MAX;
        }
        let given_back = i128::from(self.size()) * i128::from(LEAD_MS) / i128::from(span_ms);
        i64::try_from(given_back).unwrap_or(i64::MAX).max(self.size() / LEAD_OF_LIMIT)
    }

    /// Whether `units` are within the largest lead.
    pub fn leads_by(&self, units: i64) -> bool {
        units <= self.size() / LEAD_OF_LIMIT || units <= self.lead_units_max()
    }
}

impl Counter {
    /// Counts a lead of `units` as taken at `at`, when a crash lost what was: no more than fitted in
    /// then, since calls take no more. Nothing is added where that window is over by `now`.
    ///
    /// Taken later than it was, an amount is given back later too. So the counter stands no lower
    /// than before the crash, now and ever after.
    pub fn owe(&mut self, limit: &Limit, units: i64, at: Millis, now: Millis) {
        let free = i128::from(limit.size()) - self.read(limit, 0, at).used;
        let lost = i128::from(units.min(limit.lead_units_max())).min(free).max(0);
        self.charge(limit, i64::try_from(lost).unwrap_or(i64::MAX), at, now);
    }
}
