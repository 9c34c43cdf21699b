//! What the host of this machine gave to others: less is admitted where callers and replicas cannot run.

use std::fs;

/// Where a quarter of the cores was gone, a calm window has admitted less than 95 percent by leases, whose
/// units last 200 ms. On a core of one's own work does not count; where the host caps what this machine may use, the
/// test's own may.
const STOLEN_PERCENT_MAX: u64 = 10;
/// Where `/proc/stat` has the time that the host gave to others, among those of all cores.
const STOLEN: usize = 7;

/// The time of all cores since the start, in the system's ticks; none where the system tells none.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cores {
    stolen: u64,
    all: u64,
}

impl Cores {
    /// As of now.
    pub fn now() -> Self {
        Self::told().unwrap_or_default()
    }

    fn told() -> Option<Self> {
        let told = fs::read_to_string("/proc/stat").ok()?;
        let of_all_cores = told.lines().next()?.split_whitespace().skip(1);
        // What follows is counted among these already.
        let ticks = of_all_cores.take(STOLEN + 1).map(|ticks| ticks.parse().ok());
        let ticks: Vec<u64> = ticks.collect::<Option<_>>()?;
        Some(Self { stolen: *ticks.get(STOLEN)?, all: ticks.iter().sum() })
    }

    /// What was given to others since then, in percent.
    pub fn stolen_percent_since(self, then: Self) -> u64 {
        // Some systems step these figures back.
        let (stolen, all) = (self.stolen.saturating_sub(then.stolen), self.all.saturating_sub(then.all));
        stolen * 100 / all.max(1)
    }
}

/// Whether so much was given to others that a window says little of how much is admitted.
pub fn is_spoiled(stolen_percent: u64) -> bool {
    stolen_percent > STOLEN_PERCENT_MAX
}
