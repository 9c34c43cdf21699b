//! The lowest levels of a bucket since amounts were reserved of it.
//!
//! Had a reserved amount never been taken, the bucket would stand lower by it for as long as it does not run dry:
//! from then on refills would have been wasted that it got. So of an amount that was not used there is free again
//! what the bucket stood at its lowest since the amount was taken, and at most the amount.
//!
//! The lowest level is known from each of some instants on. Few are enough: what is between two of them goes by
//! the earlier one, which says less and never more.

use crate::time::Millis;

/// Instants from which on the lowest level is known. Many more reservations at the same time may leave about one part
/// in so many of what they held in the bucket, until that is refilled; more does not add up, since the bucket then
/// never stands as low as that.
pub const LOWS_MAX: usize = 16;

/// A lowest level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Low {
    /// From when on.
    pub since: Millis,
    /// What was used at the least, beyond what was lent: parts of a unit, of which the bucket's period has one for each
    /// millisecond; more than zero.
    pub ticks: i128,
}

/// Lowest levels, the older the lower.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lows(Vec<Low>);

impl Lows {
    /// Those of a list in order, as it was kept.
    pub fn from_stored(lows: Vec<Low>) -> Self {
        Self(lows)
    }

    /// In order.
    pub fn as_slice(&self) -> &[Low] {
        &self.0
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What was used at the least since an instant, as far as that is known.
    pub(super) fn since(&self, at: Millis) -> i128 {
        self.0.iter().rfind(|low| low.since <= at).map_or(0, |low| low.ticks)
    }

    /// The bucket stands at so much: none has been higher since.
    pub(super) fn fall_to(&mut self, ticks: i128) {
        self.change(|low| low.ticks.min(ticks));
    }

    /// Parts of a unit are others now.
    pub(super) fn rescale(&mut self, in_others: impl Fn(i128) -> i128) {
        self.change(|low| in_others(low.ticks));
    }

    /// Begins one at an instant, at which the bucket stands at so much with all that was taken then.
    pub(super) fn begin(&mut self, since: Millis, ticks: i128) {
        self.0.retain(|low| low.since < since);
        if ticks > self.0.last().map_or(0, |low| low.ticks) {
            self.0.push(Low { since, ticks });
        }
        if self.0.len() > LOWS_MAX {
            self.forget_one();
        }
    }

    /// So much was freed of what had been taken at an instant.
    pub(super) fn free(&mut self, at: Millis, ticks: i128) {
        let known = self.0.iter().rfind(|low| low.since <= at).copied();
        let (begun, left) = known.map_or((Millis::ZERO, 0), |known| (known.since, known.ticks - ticks));
        self.change(|low| if low.since < begun { low.ticks.min(left) } else { low.ticks - ticks });
    }

    /// The one whose neighbours differ least; what was reserved last needs its own.
    fn forget_one(&mut self) {
        let ticks = |place: usize| self.0[place].ticks;
        let between = |place: usize| ticks(place + 1) - place.checked_sub(1).map_or(0, ticks);
        if let Some(place) = (0..LOWS_MAX).min_by_key(|place| between(*place)) {
            self.0.remove(place);
        }
    }

    /// Changes each, and drops those that say nothing then, or the same as an older one.
    fn change(&mut self, ticks: impl Fn(&Low) -> i128) {
        let mut before = 0;
        self.0.retain_mut(|low| {
            low.ticks = ticks(low);
            let says_more = low.ticks > before;
            before = before.max(low.ticks);
            says_more
        });
    }
}
