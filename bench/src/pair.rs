//! A subject and a baseline that take turns under the same load.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::figures::{Comparison, Series, Unit, per_second};
use crate::load::{Calls, Target, Throughput, closed, open};
use crate::table::say;

/// How often subject and baseline take turns.
pub const ROUNDS: usize = 5;
/// Before each turn, unmeasured.
pub const WARM_UP: Duration = Duration::from_millis(300);
/// A turn of calls that follow each other at once.
pub const CLOSED: Duration = Duration::from_millis(1_500);
const OPEN: Duration = Duration::from_millis(2_000);

/// What is measured beside what.
pub struct Pair<'a> {
    /// The benchmark.
    pub id: &'static str,
    /// What is counted.
    pub what: &'static str,
    /// What a call of the subject counts for, and one of the baseline.
    pub each: [u64; 2],
    /// RateGuard.
    pub subject: Target<'a>,
    /// What it is measured against.
    pub baseline: Target<'a>,
}

impl Pair<'_> {
    /// Calls a second and a second of processor time, with so many in flight. Each side makes its own calls.
    ///
    /// # Errors
    /// When a call fails.
    pub fn throughput(
        &self,
        of_subject: &mut impl Calls,
        of_baseline: &mut impl Calls,
        in_flight: usize,
    ) -> anyhow::Result<[Comparison; 2]> {
        let Self { id, what, .. } = self;
        let mut rate = Comparison::new(format!("{id} {what}, {in_flight} in flight"), Unit::PerSecond);
        let mut per_busy_second =
            Comparison::new(format!("{id} {what} a CPU second, {in_flight} in flight"), Unit::PerSecond);
        for _ in 0..ROUNDS {
            let found = closed(&self.subject, of_subject, in_flight, WARM_UP, CLOSED)?;
            note(&found, self.each[0], &mut rate.subject, &mut per_busy_second.subject)?;
            let found = closed(&self.baseline, of_baseline, in_flight, WARM_UP, CLOSED)?;
            note(&found, self.each[1], &mut rate.baseline, &mut per_busy_second.baseline)?;
        }
        Ok([rate, per_busy_second])
    }

    /// Latencies at so many calls a second, the same calls to both.
    ///
    /// # Errors
    /// When a call fails.
    pub fn latency(&self, calls: &mut impl Calls, calls_per_second: u64) -> anyhow::Result<[Comparison; 2]> {
        say(&format!("open loop at {calls_per_second} calls a second"))?;
        let mut p50 = Comparison::new(format!("{} p50 at half load", self.id), Unit::Nanos);
        let mut p99 = Comparison::new(format!("{} p99 at half load", self.id), Unit::Nanos);
        for _ in 0..ROUNDS {
            let parts = [
                (&self.subject, &mut p50.subject, &mut p99.subject),
                (&self.baseline, &mut p50.baseline, &mut p99.baseline),
            ];
            for (target, p50, p99) in parts {
                let latencies = open(target, calls, calls_per_second, OPEN)?;
                note_latencies(&latencies, p50, p99);
            }
        }
        Ok([p50, p99])
    }
}

/// Adds what was found, where each call counts for so many.
///
/// # Errors
/// When nobody reads any more.
pub fn note(
    found: &Throughput,
    each: u64,
    rates: &mut Series,
    per_busy_second: &mut Series,
) -> anyhow::Result<()> {
    let counted = found.calls * each;
    let rate = per_second(counted, found.elapsed);
    let busy_percent = found.busy.as_nanos() * 100 / found.elapsed.as_nanos().max(1);
    say(&format!("  {rate} a second, server busy {busy_percent} %"))?;
    rates.push(rate);
    per_busy_second.push(per_second(counted, found.busy));
    Ok(())
}

fn note_latencies(latencies: &Histogram<u64>, p50: &mut Series, p99: &mut Series) {
    p50.push(latencies.value_at_quantile(0.50));
    p99.push(latencies.value_at_quantile(0.99));
}
