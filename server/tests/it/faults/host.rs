//! What the host of this machine gave to others: work that nobody let run says nothing of how much is admitted.

use std::fs;

/// More of the cores' time than this, and a window is held to the upper bounds alone. Work of our own does not count.
const STOLEN_PERCENT_MAX: u64 = 10;
/// Where `/proc/stat` has the time that the host gave to others, among those of all cores.
const STOLEN: usize = 7;

/// The time of all cores since the start, in the system's ticks.
#[derive(Clone, Copy, Debug)]
pub struct Cores {
    stolen: u64,
    all: u64,
}

impl Cores {
    /// As of now.
    pub fn now() -> Self {
        let told = fs::read_to_string("/proc/stat").unwrap();
        let of_all_cores = told.lines().next().unwrap().split_whitespace().skip(1);
        // What follows is counted among these already.
        let ticks: Vec<u64> = of_all_cores.take(STOLEN + 1).map(|ticks| ticks.parse().unwrap()).collect();
        Self { stolen: ticks[STOLEN], all: ticks.iter().sum() }
    }

    /// What was given to others since then, in percent.
    pub fn stolen_percent_since(self, then: Self) -> u64 {
        (self.stolen - then.stolen) * 100 / (self.all - then.all).max(1)
    }
}

/// Whether so much was given to others that a window says nothing of how much is admitted.
pub fn is_spoiled(stolen_percent: u64) -> bool {
    stolen_percent > STOLEN_PERCENT_MAX
}
