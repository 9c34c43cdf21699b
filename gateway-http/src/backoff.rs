//! Waits between attempts: doubling, bounded, and jittered so that many callers do not return at once.

use std::time::Duration;

/// The bounds of the waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The wait after the first attempt, before jitter.
    pub shortest: Duration,
    /// The longest wait.
    pub longest: Duration,
}

impl Backoff {
    /// The wait after `failed` attempts: between half and the whole of the doubled wait.
    pub fn wait(&self, failed: u32) -> Duration {
        // Without randomness the waits are merely not spread.
        self.wait_with(failed, getrandom::u32().unwrap_or(u32::MAX))
    }

    fn wait_with(&self, failed: u32, random: u32) -> Duration {
        let factor = 2_u32.saturating_pow(failed.saturating_sub(1));
        let whole = self.shortest.saturating_mul(factor).min(self.longest);
        let half_ms = u64::try_from(whole.as_millis() / 2).unwrap_or(u64::MAX);
        let spread_ms = u128::from(half_ms) * u128::from(random) / u128::from(u32::MAX);
        whole / 2 + Duration::from_millis(u64::try_from(spread_ms).unwrap_or(half_ms))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BACKOFF: Backoff =
        Backoff { shortest: Duration::from_millis(100), longest: Duration::from_secs(10) };

    #[test]
    fn waits_double_up_to_their_bound() {
        let whole = |failed| BACKOFF.wait_with(failed, u32::MAX).as_millis();
        assert_eq!([1, 2, 3, 7].map(whole), [100, 200, 400, 6_400]);
        assert_eq!([8, 40, u32::MAX].map(whole), [10_000; 3]);
    }

    proptest! {
        #[test]
        fn jitter_takes_off_at_most_half(failed in any::<u32>(), random in any::<u32>()) {
            let whole = BACKOFF.wait_with(failed, u32::MAX);
            let jittered = BACKOFF.wait_with(failed, random);
            prop_assert!(jittered >= whole / 2 && jittered <= whole);
        }
    }
}
