//! The recorded ratios, `bench/baseline.json`, and how a run is held against them.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::PathBuf;

use anyhow::Context;

use crate::figures::{Comparison, Unit};
use crate::table::decimal;

/// What is left of a recorded ratio at least.
const KEPT_PERCENT: u64 = 85;

/// Ratios in thousandths by the name of what was measured. Those of rates fail a check when they
/// fall; those of times are recorded to be read, since on a shared machine a percentile of a few
/// thousand calls says more about the neighbours.
type Ratios = BTreeMap<String, u64>;

/// A ratio that has fallen too far.
#[derive(Debug, PartialEq, Eq)]
pub struct Fall {
    /// What was measured.
    pub name: String,
    now_permille: u64,
    recorded_permille: u64,
}

impl Fall {
    /// The benchmark that measured it: its name's first word.
    pub fn benchmark(&self) -> &str {
        self.name.split(' ').next().unwrap_or_default()
    }
}

impl fmt::Display for Fall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (now, recorded) = (decimal(self.now_permille), decimal(self.recorded_permille));
        write!(f, "{}: {now}, recorded {recorded}", self.name)
    }
}

/// Records the ratios of a run; what the run left out stays as it was.
///
/// # Errors
/// When the file cannot be read or written.
pub fn write(measured: &[Comparison]) -> anyhow::Result<()> {
    let mut ratios = read().unwrap_or_default();
    ratios.extend(measured.iter().map(|comparison| (comparison.name.clone(), comparison.ratio_permille())));
    let text = serde_json::to_string_pretty(&ratios)? + "\n";
    fs::write(path(), text).context("the ratios could not be recorded")
}

/// The ratios of rates that have fallen too far.
///
/// # Errors
/// When nothing is recorded.
pub fn fallen(measured: &[Comparison]) -> anyhow::Result<Vec<Fall>> {
    Ok(below(measured, &read()?))
}

fn read() -> anyhow::Result<Ratios> {
    let text = fs::read_to_string(path()).context("no ratios are recorded")?;
    Ok(serde_json::from_str(&text)?)
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("baseline.json")
}

fn below(measured: &[Comparison], recorded: &Ratios) -> Vec<Fall> {
    let rates = measured.iter().filter(|comparison| comparison.unit == Unit::PerSecond);
    let falls = rates.filter_map(|comparison| {
        let recorded_permille = *recorded.get(&comparison.name)?;
        let (name, now_permille) = (comparison.name.clone(), comparison.ratio_permille());
        let fell = now_permille * 100 < recorded_permille * KEPT_PERCENT;
        fell.then_some(Fall { name, now_permille, recorded_permille })
    });
    falls.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(unit: Unit, permille: u64) -> Vec<Comparison> {
        let mut comparison = Comparison::new("P1 checks", unit);
        comparison.subject.push(permille);
        comparison.baseline.push(1_000);
        vec![comparison]
    }

    fn recorded(permille: u64) -> Ratios {
        [("P1 checks".to_owned(), permille)].into()
    }

    #[test]
    fn a_ratio_may_fall_by_fifteen_hundredths_and_no_further() {
        assert!(below(&measured(Unit::PerSecond, 850), &recorded(1_000)).is_empty());
        let falls = below(&measured(Unit::PerSecond, 849), &recorded(1_000));
        let lines: Vec<String> = falls.iter().map(ToString::to_string).collect();
        assert_eq!(lines, ["P1 checks: 0.849, recorded 1.000"]);
        assert_eq!(falls[0].benchmark(), "P1");
    }

    #[test]
    fn a_rise_a_time_and_a_new_benchmark_pass() {
        assert!(below(&measured(Unit::PerSecond, 2_000), &recorded(1_000)).is_empty());
        assert!(below(&measured(Unit::Nanos, 10), &recorded(1_000)).is_empty());
        assert!(below(&measured(Unit::PerSecond, 10), &Ratios::new()).is_empty());
    }
}
