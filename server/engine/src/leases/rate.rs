//! How fast a counter's units are wanted here.

use std::time::Duration;

use tokio::time::Instant;

/// Shortest time that a rate is measured over.
const MEASURED_MS_MIN: i64 = 1;
const SECOND_MS: i64 = 1_000;

/// Units wanted over time, spent here or not.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    per_second: i64,
    wanted: i64,
    since: Instant,
}

impl Rate {
    pub(super) fn new(now: Instant) -> Self {
        Self { per_second: 0, wanted: 0, since: now }
    }

    /// Notes what is wanted. After a rest, which nobody measures, it counts as wanted within `measured_ms`.
    pub(super) fn note(&mut self, amount: i64, now: Instant, measured_ms: i64) {
        if !self.is_wanted() && ms_between(self.since, now) > measured_ms {
            let rested = Duration::from_millis(measured_ms.unsigned_abs());
            self.since = now.checked_sub(rested).unwrap_or(now);
        }
        self.wanted = self.wanted.saturating_add(amount);
    }

    /// The rate until now, from which a new measurement begins. It follows a rise at once and a fall by
    /// halves.
    pub(super) fn measure(&mut self, now: Instant) -> i64 {
        let seen = self.seen(now);
        self.per_second = if seen > self.per_second { seen } else { seen.midpoint(self.per_second) };
        (self.wanted, self.since) = (0, now);
        self.per_second
    }

    /// The rate as it was measured last.
    pub(super) fn last(&self) -> i64 {
        self.per_second
    }

    /// Whether anything was wanted lately.
    pub(super) fn is_wanted(&self) -> bool {
        self.wanted != 0 || self.per_second != 0
    }

    /// Measures anew where the last time is so long ago.
    pub(super) fn keep_up(&mut self, now: Instant, long_ms: i64) {
        if ms_between(self.since, now) >= long_ms {
            self.measure(now);
        }
    }

    fn seen(&self, now: Instant) -> i64 {
        self.wanted.saturating_mul(SECOND_MS) / ms_between(self.since, now).max(MEASURED_MS_MIN)
    }
}

/// Whole milliseconds from one instant to another; none where it is not later.
pub(super) fn ms_between(earlier: Instant, later: Instant) -> i64 {
    i64::try_from(later.saturating_duration_since(earlier).as_millis()).unwrap_or(i64::MAX)
}
