//! Calls that run at the same time: an amount is held from its reservation on until that ends.
//!
//! Nothing is given back by time. What a crash made the store forget stays held until the longest of
//! the reservations must be over. No report draws it down before: nobody knows any more whose it was,
//! and whoever claimed it would let calls in beside others that may still run.

use super::{Reading, add};
use crate::limits::RESERVATION_TTL_MS_MAX;
use crate::time::Millis;

/// The state of one concurrency limit's counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConcurrencyCounter {
    /// What open reservations hold.
    pub held: i64,
    /// What reservations may have held that a crash has made the store forget.
    pub lost: i64,
    /// Until when that counts.
    pub lost_until: Millis,
    /// How much may be held before the ceiling on disk has to be raised.
    pub ceiling: i64,
}

impl ConcurrencyCounter {
    pub(super) fn read(&self, limit: i64, need: i64, now: Millis) -> Reading {
        Reading::new(i128::from(self.held) + i128::from(self.lost_at(now)), limit, need, None)
    }

    /// Holds more, or less where `delta` is negative.
    pub(super) fn hold(&mut self, delta: i64) {
        self.held = add(self.held, delta);
    }

    pub(super) fn is_idle(&self, now: Millis) -> bool {
        self.held == 0 && self.lost_at(now) == 0
    }

    /// What a crash leaves: all that may have been held, by nobody knows whom.
    pub fn forget_holders(&mut self, now: Millis) {
        self.held = 0;
        self.lost = self.lost_at(now);
        if self.ceiling > 0 {
            self.lost = add(self.lost, std::mem::take(&mut self.ceiling));
            self.lost_until = now.plus(RESERVATION_TTL_MS_MAX);
        }
    }

    fn lost_at(&self, now: Millis) -> i64 {
        if now < self.lost_until { self.lost } else { 0 }
    }
}
