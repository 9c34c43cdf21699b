//! Counts of latencies in buckets that grow with the value: each is at most a sixteenth as wide as
//! the values in it, and those up to 31 ms are exact. Histograms add up without a loss.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Buckets for each doubling of the value, as a power of two.
const SUB_BUCKET_BITS: u32 = 4;
const SUB_BUCKETS: u64 = 1 << SUB_BUCKET_BITS;
/// The bucket of the largest latency that 63 bits hold.
const BUCKET_MAX: u16 = 959;

/// A histogram. As text it is `bucket:count;` for each bucket that is not empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Histogram(BTreeMap<u16, u64>);

impl Histogram {
    /// Counts one latency.
    pub fn record(&mut self, latency_ms: i64) {
        self.add_to(bucket_of(latency_ms), 1);
    }

    /// Adds another one.
    pub fn add(&mut self, other: &Self) {
        for (bucket, count) in &other.0 {
            self.add_to(*bucket, *count);
        }
    }

    /// Adds histograms from their texts, one after the other. `None` when it is no such text.
    pub fn add_text(&mut self, text: &str) -> Option<()> {
        for entry in text.split_terminator(';') {
            let (bucket, count) = entry.split_once(':')?;
            let bucket = bucket.parse().ok().filter(|bucket| *bucket <= BUCKET_MAX)?;
            self.add_to(bucket, count.parse().ok()?);
        }
        Some(())
    }

    /// Counts latencies from a list of numbers. `None` when it is no such list.
    pub fn record_text(&mut self, text: &str) -> Option<()> {
        for latency_ms in text.split_terminator(';') {
            self.record(latency_ms.parse().ok()?);
        }
        Some(())
    }

    /// The text.
    pub fn to_text(&self) -> String {
        self.0.iter().fold(String::new(), |mut text, (bucket, count)| {
            // Writing into a string cannot fail.
            let _infallible = write!(text, "{bucket}:{count};");
            text
        })
    }

    /// The latency that `percent` of all do not pass, to the middle of its bucket; `None` when
    /// nothing was counted.
    pub fn percentile(&self, percent: u64) -> Option<i64> {
        let total: u128 = self.0.values().map(|count| u128::from(*count)).sum();
        let rank = (total * u128::from(percent)).div_ceil(100).max(1);
        let mut seen = 0;
        let mut reached = self.0.iter().filter(|(_, count)| {
            seen += u128::from(**count);
            seen >= rank
        });
        reached.next().map(|(bucket, _)| middle(*bucket))
    }

    fn add_to(&mut self, bucket: u16, count: u64) {
        let counted = self.0.entry(bucket).or_default();
        *counted = counted.saturating_add(count);
    }
}

fn bucket_of(latency_ms: i64) -> u16 {
    let value = u64::try_from(latency_ms).unwrap_or(0);
    let doublings = value.max(SUB_BUCKETS).ilog2() - SUB_BUCKET_BITS;
    let bucket = u64::from(doublings) * SUB_BUCKETS + (value >> doublings);
    u16::try_from(bucket).unwrap_or(BUCKET_MAX)
}

fn middle(bucket: u16) -> i64 {
    let bucket = u64::from(bucket);
    let doublings = (bucket / SUB_BUCKETS).saturating_sub(1);
    let lowest = (bucket - doublings * SUB_BUCKETS) << doublings;
    i64::try_from(lowest + (1 << doublings) / 2).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
