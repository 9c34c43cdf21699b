//! Which stored figures make up a range of time: the coarsest that fit, and raw events for what is
//! shorter than the finest.

use super::rollup::MINUTE_MS;

/// Where the figures of a piece of time stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// In the rollup's rows of this length.
    Rollup {
        /// The length.
        grain_ms: i64,
    },
    /// In raw events alone.
    Raw,
}

/// A piece of a range, half-open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub source: Source,
    pub from: i64,
    pub to: i64,
}

/// Cuts a range into segments in the order of time. Grains are given coarsest first.
pub(super) fn segments(from: i64, to: i64, grains_ms: &[i64]) -> Vec<Segment> {
    let mut found = Vec::new();
    cut(from, to, grains_ms, &mut found);
    found
}

fn cut(from: i64, to: i64, grains_ms: &[i64], found: &mut Vec<Segment>) {
    if from >= to {
        return;
    }
    let Some((grain_ms, finer)) = grains_ms.split_first() else {
        found.push(Segment { source: Source::Raw, from, to });
        return;
    };
    let (first, last) = (ceiling(from, *grain_ms), to - to.rem_euclid(*grain_ms));
    if first >= last {
        return cut(from, to, finer, found);
    }
    cut(from, first, finer, found);
    found.push(Segment { source: Source::Rollup { grain_ms: *grain_ms }, from: first, to: last });
    cut(last, to, finer, found);
}

fn ceiling(at: i64, grain_ms: i64) -> i64 {
    at.saturating_add((grain_ms - at.rem_euclid(grain_ms)) % grain_ms)
}

/// Cuts buckets that follow each other, and joins what continues over their bounds. Raw events are
/// told apart by the minute, so that they are joined over whole minutes only.
pub(super) fn bucket_segments(buckets: impl Iterator<Item = (i64, i64)>, grains_ms: &[i64]) -> Vec<Segment> {
    let mut joined: Vec<Segment> = Vec::new();
    for segment in buckets.flat_map(|(from, to)| segments(from, to, grains_ms)) {
        match joined.last_mut() {
            Some(last) if continues(last, &segment) => last.to = segment.to,
            _ => joined.push(segment),
        }
    }
    joined
}

fn continues(last: &Segment, next: &Segment) -> bool {
    let tells_apart = next.source != Source::Raw || next.from.rem_euclid(MINUTE_MS) == 0;
    last.source == next.source && last.to == next.from && tells_apart
}

#[cfg(test)]
mod tests;
