//! How large a lease is: the one place that says so.

/// A lease has at most one part in so many of what is left.
const LEASE_PARTS: i64 = 16;
/// The last part in so many of a limit is not lent.
const STRICT_PARTS: i64 = 128;
/// A lease is for what is wanted in one part in so many of its life.
const HORIZON_PARTS: i64 = 8;
/// The shortest and the longest time for which a holder takes units in advance, in milliseconds.
const HORIZON_MS: std::ops::RangeInclusive<i64> = 20..=500;
/// More is asked for when one part in so many of the last lease is left.
const LOW_PARTS: i64 = 4;
/// Or what is wanted in so many milliseconds.
const LOW_MS: i64 = 20;

/// Units that a holder asks for, by the rate seen and the time that its lease has to live.
pub fn asked(per_second: i64, life_ms: i64) -> i64 {
    let horizon_ms = (life_ms / HORIZON_PARTS).clamp(*HORIZON_MS.start(), *HORIZON_MS.end());
    (per_second * horizon_ms / 1_000).max(1)
}

/// Units that the shared counter lends of a limit with so many left; nothing near its end.
pub fn lent(size: i64, left: i64, asked: i64) -> i64 {
    asked.min((left - size / STRICT_PARTS).max(0) / LEASE_PARTS)
}

/// Units below which a holder asks for more.
pub fn low(per_second: i64, last: i64) -> i64 {
    (last / LOW_PARTS).max(per_second * LOW_MS / 1_000).min(last)
}
