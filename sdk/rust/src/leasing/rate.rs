//! How fast units are wanted.

use tokio::time::Instant;

const SECOND_MS: u128 = 1_000;
/// Shortest time that a rate is measured over: a few calls that come together are no rate.
const MEASURED_MS_MIN: u128 = 20;

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

    pub(super) fn note(&mut self, amount: i64) {
        self.wanted = self.wanted.saturating_add(amount);
    }

    /// Measures until now, and begins anew. It follows a rise at once and a fall by halves.
    pub(super) fn measure(&mut self, now: Instant) {
        let elapsed_ms = now.saturating_duration_since(self.since).as_millis().max(MEASURED_MS_MIN);
        let seen = u128::from(self.wanted.unsigned_abs()) * SECOND_MS / elapsed_ms;
        let seen = i64::try_from(seen).unwrap_or(i64::MAX);
        self.per_second = if seen > self.per_second { seen } else { seen.midpoint(self.per_second) };
        (self.wanted, self.since) = (0, now);
    }

    /// Units that are wanted in so many milliseconds, by the last measurement.
    pub(super) fn in_ms(&self, ms: i64) -> i64 {
        self.per_second.saturating_mul(ms) / 1_000
    }
}
