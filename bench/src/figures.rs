//! Figures: several of one thing, and two things side by side. Whole numbers throughout.

use std::time::Duration;

/// The same thing measured several times.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Series(Vec<u64>);

impl Series {
    /// Adds a measurement.
    pub fn push(&mut self, value: u64) {
        let place = self.0.partition_point(|known| *known <= value);
        self.0.insert(place, value);
    }

    /// The smallest; 0 of none.
    pub fn min(&self) -> u64 {
        self.0.first().copied().unwrap_or(0)
    }

    /// The one in the middle; 0 of none.
    pub fn median(&self) -> u64 {
        self.0.get(self.0.len() / 2).copied().unwrap_or(0)
    }

    /// The largest; 0 of none.
    pub fn max(&self) -> u64 {
        self.0.last().copied().unwrap_or(0)
    }
}

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// So many in a second: more is better.
    PerSecond,
    /// Nanoseconds: less is better.
    Nanos,
    /// So many of others.
    Count,
}

/// A subject beside its baseline.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// What was measured; the name under which its ratio is recorded.
    pub name: String,
    /// What the figures count.
    pub unit: Unit,
    /// RateGuard.
    pub subject: Series,
    /// What it is measured against.
    pub baseline: Series,
}

impl Comparison {
    /// Nothing measured yet.
    pub fn new(name: impl Into<String>, unit: Unit) -> Self {
        Self { name: name.into(), unit, subject: Series::default(), baseline: Series::default() }
    }

    /// Subject over baseline, of the medians, in thousandths.
    pub fn ratio_permille(&self) -> u64 {
        self.subject.median().saturating_mul(1_000) / self.baseline.median().max(1)
    }
}

/// How many of something in a second.
pub fn per_second(count: u64, elapsed: Duration) -> u64 {
    let nanos = elapsed.as_nanos().max(1);
    u64::try_from(u128::from(count) * 1_000_000_000 / nanos).unwrap_or(u64::MAX)
}

/// How many nanoseconds for each.
pub fn nanos_each(count: u64, elapsed: Duration) -> u64 {
    u64::try_from(elapsed.as_nanos() / u128::from(count.max(1))).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(values: &[u64]) -> Series {
        let mut series = Series::default();
        values.iter().for_each(|value| series.push(*value));
        series
    }

    #[test]
    fn a_series_tells_its_ends_and_its_middle_in_any_order() {
        let figures = series(&[30, 10, 20]);
        assert_eq!((figures.min(), figures.median(), figures.max()), (10, 20, 30));
    }

    #[test]
    fn an_outlier_does_not_move_the_ratio() {
        let (subject, baseline) = (series(&[70, 71, 5]), series(&[100, 100, 900]));
        let comparison = Comparison { subject, baseline, ..Comparison::new("x", Unit::PerSecond) };
        assert_eq!(comparison.ratio_permille(), 700);
    }

    #[test]
    fn rates_and_times_are_whole_numbers() {
        assert_eq!(per_second(3, Duration::from_millis(1_500)), 2);
        assert_eq!(nanos_each(4, Duration::from_nanos(1_002)), 250);
        assert_eq!(nanos_each(0, Duration::from_nanos(7)), 7);
    }
}
