//! What a fleet's run comes to, as a table.

use std::fmt;

use super::{Fleet, LOADS_PERCENT, Shared};

/// Sums over the limits of one load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Sizes of the limits, once for each window.
    pub size: i64,
    /// What was wanted.
    pub wanted: i64,
    /// What was admitted.
    pub admitted: i64,
    /// What was admitted beyond a limit, summed over limits and windows.
    pub over: i64,
    /// What lay unspent while somebody was denied for it.
    pub stranded: i64,
}

/// What a fleet's run comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Seconds of the run, in milliseconds.
    pub length_ms: i64,
    /// Questions for leases.
    pub questions: i64,
    /// Commands that these went in: a replica sends what it asks within a few milliseconds together.
    pub commands: i64,
    /// Decisions of the shared store that allowed.
    pub strict: i64,
    /// Decisions of the shared store that denied: each holder asks again after a while.
    pub denied: i64,
    /// By load, in the order of [`LOADS_PERCENT`].
    pub loads: [Sums; LOADS_PERCENT.len()],
}

impl Report {
    /// Nothing happened yet.
    pub fn of(fleet: &Fleet) -> Self {
        let length_ms = fleet.window_ms * fleet.windows;
        Self { length_ms, questions: 0, commands: 0, strict: 0, denied: 0, loads: Default::default() }
    }

    /// Takes a window of one limit in.
    pub(super) fn take_in(&mut self, limit: &Shared) {
        let sums = &mut self.loads[limit.load];
        sums.size += limit.size;
        sums.wanted += limit.wanted;
        sums.admitted += limit.admitted;
        sums.over += (limit.admitted - limit.size).max(0);
        let denied = (limit.wanted - limit.admitted).max(0);
        sums.stranded += limit.unspent.min(denied);
    }

    /// Operations of the shared store a second.
    pub fn operations_per_second(&self) -> i64 {
        (self.commands + self.strict + self.denied) * 1_000 / self.length_ms.max(1)
    }

    /// What was admitted beyond limits.
    pub fn over(&self) -> i64 {
        self.loads.iter().map(|sums| sums.over).sum()
    }

    fn per_second(&self, count: i64) -> i64 {
        count * 1_000 / self.length_ms.max(1)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wanted: i64 = self.loads.iter().map(|sums| sums.wanted).sum();
        let operations = self.operations_per_second().max(1);
        writeln!(f, "checks a second: {}", self.per_second(wanted))?;
        writeln!(f, "operations of the shared store a second: {operations}")?;
        writeln!(f, "  commands for leases: {}", self.per_second(self.commands))?;
        writeln!(f, "  calls allowed one by one near the limit: {}", self.per_second(self.strict))?;
        writeln!(f, "  denials, of each replica for itself: {}", self.per_second(self.denied))?;
        writeln!(f, "leases asked for a second: {}", self.per_second(self.questions))?;
        writeln!(f, "checks for each operation: {}\n", self.per_second(wanted) / operations)?;
        f.write_str(
            "| wanted of the limit | admitted of the limit | stranded | over |\n|---|---|---|---|\n",
        )?;
        let rows = LOADS_PERCENT.iter().zip(&self.loads);
        rows.into_iter().try_for_each(|(percent, sums)| writeln!(f, "{}", row(*percent, sums)))
    }
}

fn row(percent: i64, sums: &Sums) -> String {
    let (admitted, stranded) = (parts(sums.admitted, sums.size), parts(sums.stranded, sums.size));
    format!("| {percent} % | {admitted} | {stranded} | {} |", sums.over)
}

/// A share in percent with two decimals.
fn parts(part: i64, whole: i64) -> String {
    let hundredths = i128::from(part) * 10_000 / i128::from(whole.max(1));
    format!("{}.{:02} %", hundredths / 100, hundredths % 100)
}
