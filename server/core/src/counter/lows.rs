//! The lowest levels of a bucket since amounts were reserved of it.
//!
//! Had a reserved amount never been taken, the bucket would stand lower by it for as long as it does not run dry:
//! from then on refills would have been wasted that it got. So of an amount that was not used there is free again
//! what the bucket stood at its lowest since the amount was taken, and at most the amount.
//!
//! The lowest level is known from each of some instants on. Few are enough: what is between two of them goes by
//! the earlier one, which says less and never more.

use crate::time::Millis;

/// Instants from which on the lowest level is known. Many reservations at the same time may leave about one part in
/// so many of what they held in the bucket, until that is refilled; more does not add up, since the bucket then never
/// stands as low as that.
pub const LOWS_MAX: usize = 16;

/// A lowest level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Low {
    /// From when on.
    pub since: Millis,
    /// Whole units that were used at the least, beyond what was lent; more than zero.
    pub used: i64,
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
    pub(super) fn since(&self, at: Millis) -> i64 {
        self.0.iter().rfind(|low| low.since <= at).map_or(0, |low| low.used)
    }

    /// The bucket stands at so much: none has been higher since.
    pub(super) fn fall_to(&mut self, used: i64) {
        self.limit_by(|_| used);
    }

    /// Begins one at an instant, at which the bucket stands at so much with all that was taken then.
    pub(super) fn begin(&mut self, since: Millis, used: i64) {
        self.0.retain(|low| low.since < since);
        if used > self.0.last().map_or(0, |low| low.used) {
            self.0.push(Low { since, used });
        }
        if self.0.len() > LOWS_MAX {
            self.forget_one();
        }
    }

    /// So much was freed of what had been taken at an instant.
    pub(super) fn free(&mut self, at: Millis, units: i64) {
        let known = self.since(at);
        let begun = self.0.iter().rfind(|low| low.since <= at).map_or(Millis::ZERO, |low| low.since);
        self.limit_by(|low| if low.since < begun { known - units } else { low.used - units });
    }

    /// The one whose neighbours differ least; what was reserved last needs its own.
    fn forget_one(&mut self) {
        let used = |place: usize| self.0[place].used;
        let between = |place: usize| used(place + 1) - place.checked_sub(1).map_or(0, used);
        if let Some(place) = (0..LOWS_MAX).min_by_key(|place| between(*place)) {
            self.0.remove(place);
        }
    }

    /// Lowers each, and drops those that say nothing or the same as an older one.
    fn limit_by(&mut self, most: impl Fn(&Low) -> i64) {
        let mut before = 0;
        self.0.retain_mut(|low| {
            low.used = low.used.min(most(low));
            let says_more = low.used > before;
            before = before.max(low.used);
            says_more
        });
    }
}
