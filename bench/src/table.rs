//! The table that is printed.

use std::io::Write as _;

use crate::figures::{Comparison, Series, Unit};

const HEAD: &str = "\
| what | unit | subject: min, median, max | baseline: min, median, max | ratio of medians |
|---|---|---|---|---|
";

/// Prints a line.
///
/// # Errors
/// When nobody reads any more.
pub fn say(line: &str) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stdout().lock(), "{line}")?)
}

/// The comparisons as a table in Markdown.
pub fn render(comparisons: &[Comparison]) -> String {
    comparisons.iter().fold(HEAD.to_owned(), |table, comparison| table + &row(comparison))
}

/// Thousandths as people write them.
pub fn decimal(thousandths: u64) -> String {
    format!("{}.{:03}", thousandths / 1_000, thousandths % 1_000)
}

fn row(comparison: &Comparison) -> String {
    let Comparison { name, unit, subject, baseline } = comparison;
    let label = match unit {
        Unit::PerSecond => "1/s",
        Unit::Nanos => "µs",
        Unit::Count => "count",
    };
    let (subject, baseline) = (cells(*unit, subject), cells(*unit, baseline));
    format!("| {name} | {label} | {subject} | {baseline} | {} |\n", decimal(comparison.ratio_permille()))
}

fn cells(unit: Unit, series: &Series) -> String {
    [series.min(), series.median(), series.max()].map(|value| cell(unit, value)).join(", ")
}

fn cell(unit: Unit, value: u64) -> String {
    match unit {
        Unit::PerSecond | Unit::Count => grouped(value),
        Unit::Nanos => decimal(value),
    }
}

/// With a space between thousands.
fn grouped(value: u64) -> String {
    match value / 1_000 {
        0 => value.to_string(),
        thousands => format!("{} {:03}", grouped(thousands), value % 1_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_234_005), "1 234 005");
        assert_eq!(cell(Unit::Nanos, 12_034), "12.034");
        assert_eq!(decimal(705), "0.705");
    }

    #[test]
    fn a_comparison_is_one_row() {
        let mut comparison = Comparison::new("P1", Unit::PerSecond);
        [7_000, 9_000, 8_000].into_iter().for_each(|rate| comparison.subject.push(rate));
        comparison.baseline.push(10_000);
        let expected = "| P1 | 1/s | 7 000, 8 000, 9 000 | 10 000, 10 000, 10 000 | 0.800 |\n";
        assert_eq!(render(&[comparison]), format!("{HEAD}{expected}"));
    }
}
