//! Parts of a limit: what the shared counters admit of one, and what each replica admits while these
//! are away.

use super::Limit;
use super::sliding_window::sub_window_ms;
use crate::time::Millis;

/// What a whole is in percent.
const WHOLE_PERCENT: i64 = 100;

impl Limit {
    /// What is left of the limit when `share_percent` of it is kept back, rounded down. A limit in
    /// money has no parts and stays whole.
    #[must_use]
    pub fn without_share(self, share_percent: u8) -> Self {
        self.part(WHOLE_PERCENT - i64::from(share_percent), WHOLE_PERCENT)
    }

    /// What each of `replicas_max` has of `share_percent` of the limit, rounded down.
    #[must_use]
    pub fn local_share(self, share_percent: u8, replicas_max: u16) -> Self {
        self.part(i64::from(share_percent), WHOLE_PERCENT * i64::from(replicas_max.max(1)))
    }

    /// Whether the part of a bucket refills at a rate that can be kept exactly, so that it has one.
    pub fn has_local_share(&self, share_percent: u8, replicas_max: u16) -> bool {
        let Self::TokenBucket { refill, capacity } = *self else { return true };
        let has_part = |parts, of| refill.part(parts, of, scaled(capacity, parts, of)).is_some();
        has_part(WHOLE_PERCENT - i64::from(share_percent), WHOLE_PERCENT)
            && has_part(i64::from(share_percent), WHOLE_PERCENT * i64::from(replicas_max.max(1)))
    }

    /// From when on a fresh counter of this limit tells all that counts, when what was taken up to `since`
    /// is not in it. A limit in money tells it never.
    pub fn tells_all_from(&self, since: Millis) -> Millis {
        match *self {
            Self::TokenBucket { capacity, refill } => since.plus(refill.ms_to_give_back(capacity)),
            Self::FixedWindow { window_ms, .. } => match since.get() % window_ms.max(1) {
                0 => since,
                begun_ms => since.plus(window_ms.saturating_sub(begun_ms)),
            },
            // What was taken at its beginning leaves with the whole of its sub-window.
            Self::SlidingWindow { window_ms, .. } => {
                since.plus(window_ms.saturating_add(sub_window_ms(window_ms)))
            }
            Self::CalendarWindow { bounds, .. } if since <= bounds.start => bounds.start,
            Self::CalendarWindow { bounds, .. } => bounds.end.max(since),
            Self::Budget { .. } => Millis::new(i64::MAX),
        }
    }

    fn part(self, parts: i64, of: i64) -> Self {
        let size = |size| scaled(size, parts, of);
        match self {
            Self::TokenBucket { capacity, refill } => {
                let capacity = size(capacity);
                match refill.part(parts, of, capacity) {
                    Some(refill) => Self::TokenBucket { capacity, refill },
                    // Rules are checked to have one: whatever has none admits nothing.
                    None => Self::TokenBucket { capacity: 0, refill },
                }
            }
            Self::FixedWindow { limit, window_ms } => Self::FixedWindow { limit: size(limit), window_ms },
            Self::SlidingWindow { limit, window_ms } => Self::SlidingWindow { limit: size(limit), window_ms },
            Self::CalendarWindow { limit, bounds } => Self::CalendarWindow { limit: size(limit), bounds },
            Self::Budget { .. } => self,
        }
    }
}

fn scaled(size: i64, parts: i64, of: i64) -> i64 {
    let part = i128::from(size) * i128::from(parts) / i128::from(of);
    i64::try_from(part).unwrap_or(size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counter::Refill;
    use crate::time::Bounds;

    fn fixed(limit: i64) -> Limit {
        Limit::FixedWindow { limit, window_ms: 1_000 }
    }

    #[test]
    fn what_is_kept_back_and_what_is_left_of_it_never_come_to_more_than_the_limit() {
        for limit in [0, 1, 2, 3, 7, 99, 100, 101, 1_000_003] {
            for share in [1, 10, 33, 50, 99] {
                for replicas in [1, 2, 3, 7, 1_000] {
                    let local = fixed(limit).local_share(share, replicas).size() * i64::from(replicas);
                    let sum = fixed(limit).without_share(share).size() + local;
                    assert!(sum <= limit, "{share} % of {limit} for {replicas} comes to {sum}");
                }
            }
        }
        assert_eq!(fixed(10).without_share(25), fixed(7));
        assert_eq!(fixed(100).local_share(25, 5), fixed(5));
    }

    #[test]
    fn a_part_of_a_bucket_refills_at_its_part_of_the_rate() {
        let refill = Refill::new(10, 1_000, 200).expect("within bounds");
        let bucket = Limit::TokenBucket { capacity: 200, refill };
        let Limit::TokenBucket { capacity, refill } = bucket.local_share(50, 10) else {
            panic!("a bucket stays one");
        };
        assert_eq!((capacity, refill.units(), refill.period_ms()), (10, 1, 2_000));
    }

    #[test]
    fn a_fresh_counter_tells_all_once_what_was_before_it_is_over() {
        let at = Millis::new;
        assert_eq!(fixed(1).tells_all_from(at(2_000)), at(2_000));
        assert_eq!(fixed(1).tells_all_from(at(2_001)), at(3_000));
        let sliding = Limit::SlidingWindow { limit: 1, window_ms: 60_000 };
        assert_eq!(sliding.tells_all_from(at(5)), at(61_005));
        let refill = Refill::new(1, 100, 10).expect("within bounds");
        assert_eq!(Limit::TokenBucket { capacity: 10, refill }.tells_all_from(at(5)), at(1_005));
        let bounds = Bounds { start: at(100), end: at(200), next_end: at(300) };
        let calendar = Limit::CalendarWindow { limit: 1, bounds };
        assert_eq!(calendar.tells_all_from(at(100)), at(100));
        assert_eq!(calendar.tells_all_from(at(101)), at(200));
        assert_eq!(Limit::Budget { nanos: 1, bounds: None }.tells_all_from(at(0)), Millis::new(i64::MAX));
    }

    #[test]
    fn a_bucket_whose_parts_have_no_exact_rate_is_known() {
        let capacity = crate::limits::LIMIT_MAX / 7;
        let refill = Refill::new(1, 7, capacity).expect("within bounds");
        let bucket = Limit::TokenBucket { capacity, refill };
        assert!(!bucket.has_local_share(33, 10));
        assert_eq!(bucket.without_share(33).size(), 0);
        assert!(fixed(10).has_local_share(50, 10));
    }
}
