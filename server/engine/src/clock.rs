//! The one place where time comes from.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rateguard_core::time::Millis;

use crate::secrets::random;

/// What a wait is spread over, in percent of it.
const SPREAD_PERCENT: std::ops::RangeInclusive<u32> = 75..=125;

/// Gives the instant. Tests give their own.
pub trait Clock: Send + Sync + 'static {
    /// Now. Never earlier than what was given before.
    fn now(&self) -> Millis;

    /// A wait that is about this long, by chance: so that replicas do not all do the same at one instant.
    /// Whoever has to repeat a run draws it from a chance of its own.
    fn spread(&self, wait: Duration) -> Duration {
        let width = SPREAD_PERCENT.end() - SPREAD_PERCENT.start() + 1;
        // Without randomness nothing is spread, and nothing else is lost.
        let drawn = random().map_or(width / 2, |bytes| u32::from_be_bytes(bytes) % width);
        wait * (SPREAD_PERCENT.start() + drawn) / 100
    }
}

/// The system's clock, held still while the system steps it back: a window is never renewed twice.
#[derive(Debug, Default)]
pub struct SystemClock {
    last_ms: AtomicI64,
}

impl Clock for SystemClock {
    fn now(&self) -> Millis {
        let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now_ms = i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX);
        let last_ms = self.last_ms.fetch_max(now_ms, Ordering::Relaxed);
        Millis::new(last_ms.max(now_ms))
    }
}

/// A clock that a test sets.
#[derive(Debug, Default)]
pub struct ManualClock {
    now_ms: AtomicI64,
}

impl ManualClock {
    /// A clock that stands at `now`.
    pub fn at(now: Millis) -> Self {
        Self { now_ms: AtomicI64::new(now.get()) }
    }

    /// Moves the clock on.
    pub fn advance_ms(&self, ms: i64) {
        self.now_ms.fetch_add(ms, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Millis {
        Millis::new(self.now_ms.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_spread_about_what_they_are() {
        let clock = SystemClock::default();
        let drawn: Vec<Duration> = (0..100).map(|_| clock.spread(Duration::from_millis(1_000))).collect();
        let (least, most) = (Duration::from_millis(750), Duration::from_millis(1_250));
        assert!(drawn.iter().all(|drawn| (least..=most).contains(drawn)));
        assert!(drawn.iter().any(|one| *one != drawn[0]));
    }
}
