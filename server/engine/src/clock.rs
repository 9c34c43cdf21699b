//! The one place where time comes from.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use rateguard_core::time::Millis;

/// Gives the instant. Tests give their own.
pub trait Clock: Send + Sync + 'static {
    /// Now. Never earlier than what was given before.
    fn now(&self) -> Millis;
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
