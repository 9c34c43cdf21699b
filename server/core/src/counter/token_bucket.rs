//! The token bucket: at most a capacity at once, given back at a steady rate.
//!
//! It stores what is used, not what is left, so that a changed capacity applies at once. Use is
//! kept as whole units and a remainder over the reduced fraction of the rate, so that no part of a
//! unit is ever lost or won by rounding.

use super::lent::{Lent, generation_of};
use super::lows::Lows;
use super::{Reading, add};
use crate::invalid::Invalid;
use crate::limits::{LIMIT_MAX, WINDOW_MS_MAX};
use crate::time::Millis;

/// A steady rate: `units` in each `period_ms`, as a reduced fraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Refill {
    units: i64,
    period_ms: i64,
}

impl Refill {
    /// The rate of `units` in `period_ms` for a bucket of `capacity`.
    ///
    /// # Errors
    /// [`Invalid`] unless both are positive, the period is at most 366 days, and capacity × reduced
    /// period is at most 2^53.
    pub fn new(units: i64, period_ms: i64, capacity: i64) -> Result<Self, Invalid> {
        if !(1..=LIMIT_MAX).contains(&units) {
            return Err(Invalid::new("refill_amount", format!("must be 1 to {LIMIT_MAX}")));
        }
        if !(1..=WINDOW_MS_MAX).contains(&period_ms) {
            return Err(Invalid::new("refill_period_ms", format!("must be 1 to {WINDOW_MS_MAX}")));
        }
        let divisor = greatest_common_divisor(units, period_ms);
        let refill = Self { units: units / divisor, period_ms: period_ms / divisor };
        if capacity.checked_mul(refill.period_ms).is_none_or(|product| product > LIMIT_MAX) {
            return Err(Invalid::new(
                "capacity",
                format!("times the reduced refill period must be at most {LIMIT_MAX}"),
            ));
        }
        Ok(refill)
    }

    /// The rate of `parts` of `of` for a bucket of `capacity`, where it is within the bounds of
    /// [`Refill::new`].
    pub(super) fn part(&self, parts: i64, of: i64, capacity: i64) -> Option<Self> {
        let (units, period_ms) = (self.units.checked_mul(parts)?, self.period_ms.checked_mul(of)?);
        let divisor = greatest_common_divisor(units, period_ms).max(1);
        Self::new(units / divisor, period_ms / divisor, capacity).ok()
    }

    /// Units of the reduced fraction.
    pub fn units(&self) -> i64 {
        self.units
    }

    /// Milliseconds of the reduced fraction.
    pub fn period_ms(&self) -> i64 {
        self.period_ms
    }

    /// How long `amount` takes to be given back whole.
    pub fn ms_to_give_back(&self, amount: i64) -> i64 {
        self.ms_for(i128::from(amount) * i128::from(self.period_ms))
    }

    /// What is left of `amount` after it was given back for `elapsed_ms`, rounded up.
    pub fn left_of(&self, amount: i64, elapsed_ms: i64) -> i64 {
        whole_units_up(self.ticks_left_of(amount, elapsed_ms), self.period_ms)
    }

    fn ticks_left_of(&self, amount: i64, elapsed_ms: i64) -> i128 {
        (i128::from(amount) * i128::from(self.period_ms) - self.ticks_in(elapsed_ms)).max(0)
    }

    /// Ticks of another rate in those of this one, rounded down.
    fn ticks_of(&self, ticks: i128, other: Self) -> i128 {
        let (period, other_period) = (i128::from(self.period_ms), i128::from(other.period_ms));
        // The product of all three is beyond 128 bits.
        (ticks / other_period) * period + (ticks % other_period) * period / other_period
    }

    /// Ticks are parts of a unit: `period_ms` of them are one. Each millisecond gives back `units`.
    fn ticks_in(&self, elapsed_ms: i64) -> i128 {
        i128::from(self.units) * i128::from(elapsed_ms)
    }

    /// How long `ticks` take to be given back; none for what is below nothing.
    fn ms_for(&self, ticks: i128) -> i64 {
        let ticks = ticks.max(0);
        let units = i128::from(self.units);
        i64::try_from((ticks + units - 1) / units).unwrap_or(i64::MAX)
    }
}

fn greatest_common_divisor(mut a: i64, mut b: i64) -> i64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

fn whole_units_up(ticks: i128, period_ms: i64) -> i64 {
    let period = i128::from(period_ms);
    i64::try_from((ticks + period - 1) / period).unwrap_or(i64::MAX)
}

/// What is used of a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenBucket {
    /// Whole units used; above the capacity in debt.
    pub used: i64,
    /// A further part of a unit, in `remainder_of`-ths.
    pub remainder: i64,
    /// The reduced period under which the remainder was stored.
    pub remainder_of: i64,
    /// The units that were given back in each such period.
    pub refill_units: i64,
    /// When the above was true; zero while nothing was ever used.
    pub at: Millis,
    /// When the last of it will have been given back, at the rate of the last take.
    pub idle_at: Millis,
    /// What others may still spend or give back of what is used; boxed, since few buckets have any.
    pub pending: Option<Box<Pending>>,
}

/// What others may still spend, or give back, of a bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pending {
    /// What holders of leases may still spend.
    pub lent: Option<Lent>,
    /// How low it has stood since amounts were reserved.
    pub lows: Lows,
}

impl Pending {
    /// Whether nothing is.
    fn is_nothing(&self) -> bool {
        self.lent.is_none() && self.lows.is_empty()
    }
}

impl TokenBucket {
    /// Nothing used, at any time.
    pub const FRESH: Self = Self {
        used: 0,
        remainder: 0,
        remainder_of: 1,
        refill_units: 1,
        at: Millis::ZERO,
        idle_at: Millis::ZERO,
        pending: None,
    };

    pub(super) fn read(&self, capacity: i64, refill: Refill, need: i64, now: Millis) -> Reading {
        let used = whole_units_up(self.ticks(refill, now), refill.period_ms);
        let reset_at = now.plus(self.ms_until(0, refill, now));
        Reading::new(i128::from(used), capacity, need, Some(reset_at)).wait_ms(need, capacity, || {
            let free = i128::from(capacity - need) * i128::from(refill.period_ms);
            self.ms_until(free, refill, now)
        })
    }

    pub(super) fn take(&mut self, refill: Refill, amount: i64, now: Millis) {
        self.settle_to(refill, now);
        self.used = add(self.used, amount);
        self.note_level();
        self.set_idle_at(refill);
    }

    /// Takes an amount for a holder that spends it later; says when.
    pub(super) fn lend(&mut self, refill: Refill, amount: i64, now: Millis) -> Millis {
        self.settle_to(refill, now);
        self.used = add(self.used, amount);
        let pending = self.pending.get_or_insert_default();
        pending.lent = Some(pending.lent.unwrap_or_default().plus(amount, self.at));
        self.set_idle_at(refill);
        self.at
    }

    /// Notes that what was just taken may be given back.
    pub(super) fn note_reserved(&mut self) {
        let (at, ticks) = (self.at, self.ticks_beside_lent());
        self.pending.get_or_insert_default().lows.begin(at, ticks);
        self.drop_nothing();
    }

    /// Closes `closed` units of what was lent at an instant, of which `unused` were not spent. What was
    /// lent is a floor, so nothing of it was given back meanwhile, and the unused part is free again
    /// whole. Of a lease that has expired here nothing is given back.
    pub(super) fn end_lease(&mut self, at: Millis, closed: i64, unused: i64, now: Millis) {
        let refill = self.refill();
        self.settle_to(refill, now);
        if let Some(pending) = &mut self.pending
            && let Some(mut lent) = pending.lent
        {
            let closed = lent.close(generation_of(at), closed);
            self.used = add(self.used, -unused.clamp(0, closed));
            pending.lent = lent.at(self.at);
            self.drop_nothing();
        }
        self.set_idle_at(refill);
    }

    /// Charges what was used at `accounted_at`, as if it had been taken then or, where the bucket
    /// has changed since, at its last change. The bucket's window is the time in which it fills up
    /// from nothing: what is older is given back already.
    pub(super) fn charge(
        &mut self,
        capacity: i64,
        refill: Refill,
        amount: i64,
        accounted_at: Millis,
        now: Millis,
    ) {
        if refill.left_of(capacity.max(amount), now.since(accounted_at)) > 0 {
            self.take(refill, amount, accounted_at.min(now));
        }
    }

    /// Corrects an amount taken at `at`.
    ///
    /// More is added at the last change: that is no earlier than it was used, so the bucket never
    /// stands lower than if it had been taken with the rest. Of less, only what cannot have been
    /// given back since is freed: the bucket then stands no lower than if the difference had never been
    /// taken. That is what is known to have been used all the time since, or what is left of the amount itself,
    /// to the part of a unit, as if it had been used first.
    ///
    /// A bucket that ran dry may have been forgotten, and is fresh then. What was taken in it stands there
    /// again with what is added, or the same refill would give back both. What others took before it
    /// ran dry is not known any more.
    pub(super) fn correct(&mut self, refill: Refill, taken: i64, delta: i64, at: Millis, now: Millis) {
        // Only a bucket that was forgotten meanwhile is older than the amount.
        let last = if at > self.at { refill } else { self.refill() };
        if delta >= 0 {
            let forgotten = if at > self.at && delta > 0 { taken } else { 0 };
            return self.take(last, delta.saturating_add(forgotten), at);
        }
        let (elapsed_ms, period) = (now.max(self.at).since(at), i128::from(last.period_ms));
        // The rate may have been changed since: the faster one gave back more.
        let left = refill.ticks_left_of(taken, elapsed_ms);
        let left = last.ticks_of(left, refill).min(last.ticks_left_of(taken, elapsed_ms));
        // One that was forgotten knows nothing of before.
        let known = self.pending.as_deref().filter(|_| at <= self.at);
        let left = left.max(known.map_or(0, |pending| pending.lows.since(at)));
        let freed = left.min(i128::from(delta.unsigned_abs()) * period);
        self.settle_to(last, at);
        self.set_ticks((i128::from(self.used) * period + i128::from(self.remainder) - freed).max(0), last);
        if let Some(pending) = &mut self.pending {
            pending.lows.free(at, freed);
            self.drop_nothing();
        }
        self.set_idle_at(last);
    }

    /// Nothing used. What is lent stays lent, since its holders may still spend it.
    pub(super) fn reset(&mut self) {
        let lent = self.lent();
        let pending = lent.is_some().then(|| Box::new(Pending { lent, ..Pending::default() }));
        *self = Self { pending, ..Self::FRESH };
    }

    pub(super) fn is_idle(&self, now: Millis) -> bool {
        now >= self.idle_at
    }

    fn refill(&self) -> Refill {
        Refill { units: self.refill_units.max(1), period_ms: self.remainder_of.max(1) }
    }

    /// What is used at `now`, in the ticks of `refill`; a remainder of another rate is rounded up.
    fn ticks(&self, refill: Refill, now: Millis) -> i128 {
        let period = i128::from(refill.period_ms);
        let part = if self.remainder_of == refill.period_ms {
            i128::from(self.remainder)
        } else {
            let stored = i128::from(self.remainder_of.max(1));
            (i128::from(self.remainder) * period + stored - 1) / stored
        };
        let (mut ticks, mut from) = (i128::from(self.used) * period + part, self.at);
        for (until, floor) in self.floors() {
            ticks = refilled(ticks, refill, until.min(now).since(from), floor);
            from = from.max(until);
        }
        refilled(ticks, refill, now.since(from), 0)
    }

    /// How long after `now` no more than `ticks_max` are used.
    fn ms_until(&self, ticks_max: i128, refill: Refill, now: Millis) -> i64 {
        // Nothing is given back before the clock has reached the last take again.
        let mut from = now.max(self.at);
        let mut ticks = self.ticks(refill, from);
        for (until, floor) in self.floors() {
            let ms = refill.ms_for(ticks - ticks_max);
            if i128::from(floor) * i128::from(refill.period_ms) <= ticks_max && ms <= until.since(from) {
                return from.since(now).saturating_add(ms);
            }
            ticks = refilled(ticks, refill, until.since(from), floor);
            from = from.max(until);
        }
        from.since(now).saturating_add(refill.ms_for(ticks - ticks_max))
    }

    fn floors(&self) -> impl Iterator<Item = (Millis, i64)> + use<> {
        self.lent().map(Lent::floors).into_iter().flatten()
    }

    fn lent(&self) -> Option<Lent> {
        self.pending.as_deref().and_then(|pending| pending.lent)
    }

    /// What is used beyond what is lent, at the last change.
    fn ticks_beside_lent(&self) -> i128 {
        let lent = self.lent().map_or(0, |lent| lent.current.saturating_add(lent.previous));
        (i128::from(self.used) - i128::from(lent)) * i128::from(self.remainder_of)
            + i128::from(self.remainder)
    }

    fn drop_nothing(&mut self) {
        self.pending.take_if(|pending| pending.is_nothing());
    }

    fn set_idle_at(&mut self, refill: Refill) {
        self.idle_at = self.at.plus(self.ms_until(0, refill, self.at));
    }

    fn set_ticks(&mut self, ticks: i128, refill: Refill) {
        let period = i128::from(refill.period_ms);
        self.used = i64::try_from(ticks / period).unwrap_or(i64::MAX);
        self.remainder = i64::try_from(ticks % period).unwrap_or(0);
    }

    fn settle_to(&mut self, refill: Refill, now: Millis) {
        self.set_ticks(self.ticks(refill, now), refill);
        let before = self.refill();
        if let Some(pending) = self.pending.as_mut().filter(|_| refill.period_ms != before.period_ms) {
            pending.lows.rescale(|ticks| refill.ticks_of(ticks, before));
        }
        self.remainder_of = refill.period_ms;
        self.refill_units = refill.units;
        self.at = self.at.max(now);
        // Before anything that was lent is over: it was the floor until then.
        self.note_level();
        if let Some(pending) = &mut self.pending {
            pending.lent = pending.lent.and_then(|lent| lent.at(self.at));
            self.drop_nothing();
        }
    }

    fn note_level(&mut self) {
        if self.pending.is_none() {
            return;
        }
        let ticks = self.ticks_beside_lent();
        if let Some(pending) = &mut self.pending {
            pending.lows.fall_to(ticks);
            self.drop_nothing();
        }
    }
}

/// What is left of `ticks` after they were given back for `elapsed_ms`, down to a floor of whole units.
fn refilled(ticks: i128, refill: Refill, elapsed_ms: i64, floor: i64) -> i128 {
    let floor = i128::from(floor) * i128::from(refill.period_ms);
    (ticks - refill.ticks_in(elapsed_ms)).max(floor.min(ticks))
}
