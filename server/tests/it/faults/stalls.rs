//! How long the machine kept everybody waiting: on one that is shared, others may take the cores away, and what nobody
//! ran nobody can have admitted.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::callers::now_ms;
use super::tally::window_of;

/// How often it is looked at.
const STEP: Duration = Duration::from_millis(5);
/// A part of a lease's life: whoever waits longer for a core loses units that it holds.
const STALL_MAX: Duration = Duration::from_millis(50);

type Worst = Arc<Mutex<BTreeMap<i64, Duration>>>;

/// A thread that does nothing but wake up in time, and notes when it did not.
pub struct Stalls {
    worst: Worst,
    is_over: Arc<AtomicBool>,
}

impl Stalls {
    /// Begins to look.
    pub fn watch() -> Self {
        let (worst, is_over) = (Worst::default(), Arc::<AtomicBool>::default());
        let (noted, ends) = (worst.clone(), is_over.clone());
        thread::spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                let slept = Instant::now();
                thread::sleep(STEP);
                let late = slept.elapsed().saturating_sub(STEP);
                let mut noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
                let worst = noted.entry(window_of(now_ms())).or_default();
                *worst = late.max(*worst);
            }
        });
        Self { worst, is_over }
    }

    /// The longest wait in a window.
    pub fn worst_of(&self, window: i64) -> Duration {
        let worst = self.worst.lock().unwrap_or_else(PoisonError::into_inner);
        worst.get(&window).copied().unwrap_or_default()
    }

    /// Whether a window says nothing of how much is admitted.
    pub fn spoiled(&self, window: i64) -> bool {
        self.worst_of(window) > STALL_MAX
    }
}

impl Drop for Stalls {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}
