//! Many runs, side by side: each on a runtime of its own.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use parking_lot::Mutex;
use tokio::runtime::Runtime;

use crate::history::Coverage;
use crate::run::{Options, Outcome, RunError, run};

/// Seeds with violations after which no further one is begun.
const FAILED_MAX: usize = 5;

/// What many runs showed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Runs that ended.
    pub runs: u64,
    /// What they saw.
    pub coverage: Coverage,
    /// Those with violations, by seed.
    pub failed: Vec<Outcome>,
}

impl Summary {
    fn take_in(&mut self, outcome: Outcome) {
        self.runs += 1;
        self.coverage.add(&outcome.coverage);
        if !outcome.violations.is_empty() {
            self.failed.push(outcome);
            self.failed.sort_by_key(|failed| failed.seed);
        }
    }
}

/// Runs the seeds of a range on as many threads as there are cores, until all have run or some have
/// failed.
///
/// # Errors
/// Those of a run that could not be made.
pub fn run_many(
    seeds: Range<u64>,
    options: Options,
    runtime: impl Fn() -> Runtime + Sync,
) -> Result<Summary, RunError> {
    let (next, summary) = (AtomicU64::new(seeds.start), Mutex::new(Summary::default()));
    let work = || {
        while summary.lock().failed.len() < FAILED_MAX {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                break;
            }
            let outcome = run(seed, options, runtime())?;
            summary.lock().take_in(outcome);
        }
        Ok(())
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let ended: Result<Vec<()>, RunError> = thread::scope(|scope| {
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        workers.into_iter().map(|worker| worker.join().unwrap_or(Err(RunError::Panicked))).collect()
    });
    ended?;
    Ok(summary.into_inner())
}
