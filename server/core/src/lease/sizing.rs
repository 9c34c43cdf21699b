//! How large a lease is: what a counter lends, what a holder asks for and when, and for how long it
//! believes a denial. In whole units and milliseconds.

/// A lease has at most one part in so many of what is left, so that several holders who ask at once leave
/// something for the others.
pub const LEASE_PARTS: i64 = 16;
/// The last part in so many of a limit is not lent: near the limit every decision is the counter's own, and
/// nobody is denied for what others hold and do not use.
pub const STRICT_PARTS: i64 = 128;
/// A lease is for what is wanted in one part in so many of its life.
const HORIZON_PARTS: i64 = 8;
/// But never for less time than this, or every few calls would need another one.
const HORIZON_MS_MIN: i64 = 20;
/// Nor for more: what is taken in advance for long is missed by others, and lost where its holder is killed.
const HORIZON_MS_MAX: i64 = 200;
/// One part in so many of a limit is held whatever the rate. Ten replicas that hold so much in vain strand
/// a hundredth.
const FLOOR_PARTS: i64 = 1_000;
/// Others starve when less than one part in so many of the limit is left: then nothing is held whatever
/// the rate.
const STARVING_PARTS: i64 = 8;
/// More is asked for when one part in so many of the last lease is left.
const LOW_PARTS: i64 = 4;
/// Or what is wanted in so many milliseconds: a question with its answer takes less.
const LOW_MS: i64 = 20;
/// A denial stands without asking again for one part in so many of its wait, since others may give back what
/// they do not need.
const DENIAL_PARTS: i64 = 16;
/// But for no less than this, unless its wait is over before.
const DENIAL_MS_MIN: i64 = 10;
/// And no more.
const DENIAL_MS_MAX: i64 = 250;
const SECOND_MS: i64 = 1_000;

/// The most that is lent at once of a limit of `size` units with `left` of them left.
pub fn lent_of(size: i64, left: i64) -> i64 {
    (left - size / STRICT_PARTS).max(0) / LEASE_PARTS
}

/// Units of so many a second in so many milliseconds.
pub fn units_in(per_second: i64, ms: i64) -> i64 {
    per_second.saturating_mul(ms) / SECOND_MS
}

/// Units that a holder keeps of a limit of `size` whatever the rate; `left` is what it has seen left, if it
/// has seen it. One where others starve.
pub fn floor_of(size: i64, left: Option<i64>) -> i64 {
    let starving = left.is_some_and(|left| left < size / STARVING_PARTS);
    if starving { 1 } else { (size / FLOOR_PARTS).max(1) }
}

/// Units that a holder asks for, by the rate seen and the time that its lease has to live; at least `floor`.
pub fn asked(per_second: i64, life_ms: i64, floor: i64) -> i64 {
    let horizon_ms = (life_ms / HORIZON_PARTS).clamp(HORIZON_MS_MIN, HORIZON_MS_MAX);
    units_in(per_second, horizon_ms).max(floor)
}

/// Units below which a holder asks for more, by the rate seen and the lease that it had last.
pub fn low(per_second: i64, last: i64) -> i64 {
    (last / LOW_PARTS).max(units_in(per_second, LOW_MS))
}

/// For how long a denial with a wait of so long is believed, in milliseconds.
pub fn denial_ms(wait_ms: i64) -> i64 {
    (wait_ms / DENIAL_PARTS).clamp(DENIAL_MS_MIN, DENIAL_MS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixteen_holders_who_ask_one_after_the_other_leave_the_last_part_of_a_limit() {
        let (size, mut left) = (12_800, 12_800);
        for _ in 0..16 {
            left -= lent_of(size, left);
        }
        assert!(left > size / STRICT_PARTS, "{left}");
        assert_eq!(lent_of(size, size / STRICT_PARTS), 0);
        assert_eq!(lent_of(size, 0), 0);
    }

    #[test]
    fn a_holder_asks_for_an_eighth_of_its_life_within_bounds_and_keeps_a_thousandth() {
        assert_eq!(asked(1_000, 1_200, 1), 150);
        assert_eq!(asked(1_000, 0, 1), 20);
        assert_eq!(asked(1_000, i64::MAX, 1), 200);
        assert_eq!(asked(0, 1_000, floor_of(100_000, None)), 100);
        assert_eq!(floor_of(100_000, Some(12_499)), 1, "others starve");
    }

    #[test]
    fn more_is_asked_for_in_time_by_the_rate_and_by_the_last_lease() {
        assert_eq!((low(1_000, 40), low(1_000, 400)), (20, 100));
        assert_eq!((denial_ms(80), denial_ms(1_600), denial_ms(60_000)), (10, 100, 250));
    }
}
