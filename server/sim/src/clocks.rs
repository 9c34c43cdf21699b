//! Clocks of a run. All follow the runtime's clock, which only moves while everybody waits; each is
//! wrong in its own way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use rateguard_core::time::Millis;
use rateguard_engine::clock::Clock;
use tokio::time::Instant;

use crate::network::World;

/// When every run begins: some seconds before a full hour, so that windows of the calendar end in it.
/// 2027-01-15T07:59:53Z.
pub const BEGINS: i64 = 1_800_000_000_000 - 7_000;

/// What a wait is spread over, in percent of it.
const SPREAD_PERCENT: std::ops::RangeInclusive<i64> = 75..=125;

/// The true time of a run.
#[derive(Clone, Copy, Debug)]
pub struct TrueTime {
    began: Instant,
}

impl TrueTime {
    /// A run that begins now.
    pub fn begin() -> Self {
        Self { began: Instant::now() }
    }

    /// Milliseconds since the run began.
    pub fn elapsed_ms(&self) -> i64 {
        i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    /// The true instant.
    pub fn now(&self) -> Millis {
        Millis::new(BEGINS).plus(self.elapsed_ms())
    }
}

/// A clock that is ahead or behind, and that somebody sets while the run goes on.
#[derive(Debug)]
pub struct SkewedClock {
    time: TrueTime,
    skew_ms: AtomicI64,
    is_set: AtomicBool,
}

impl SkewedClock {
    /// A clock that is ahead by so much; behind where that is negative.
    pub fn new(time: TrueTime, skew_ms: i64) -> Self {
        Self { time, skew_ms: AtomicI64::new(skew_ms), is_set: AtomicBool::new(false) }
    }

    /// Says that somebody sets it while the run goes on.
    pub fn will_be_set(&self) {
        self.is_set.store(true, Ordering::Relaxed);
    }

    /// Whether somebody does.
    pub fn is_set(&self) -> bool {
        self.is_set.load(Ordering::Relaxed)
    }

    /// Sets it, perhaps back.
    pub fn set_skew_ms(&self, skew_ms: i64) {
        self.skew_ms.store(skew_ms, Ordering::Relaxed);
    }

    /// What it shows, which may be earlier than what it showed before.
    pub fn shows(&self) -> Millis {
        self.time.now().plus(self.skew_ms.load(Ordering::Relaxed))
    }
}

/// The clock of one process: the machine's, held still while that is set back. A restart begins anew.
/// It spreads waits by the run's own chance.
pub struct ProcessClock {
    machine: Arc<SkewedClock>,
    world: Arc<World>,
    last_ms: AtomicI64,
}

impl ProcessClock {
    /// The clock of a process on a machine.
    pub fn on(machine: Arc<SkewedClock>, world: Arc<World>) -> Self {
        Self { machine, world, last_ms: AtomicI64::new(0) }
    }
}

impl Clock for ProcessClock {
    fn now(&self) -> Millis {
        let shown_ms = self.machine.shows().get();
        let last_ms = self.last_ms.fetch_max(shown_ms, Ordering::Relaxed);
        Millis::new(last_ms.max(shown_ms))
    }

    fn spread(&self, wait: Duration) -> Duration {
        let percent = self.world.dice.within(SPREAD_PERCENT);
        wait * u32::try_from(percent).unwrap_or(100) / 100
    }
}
