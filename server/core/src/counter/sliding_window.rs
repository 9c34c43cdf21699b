//! The sliding window that is never over: 60 whole sub-windows and the one of now.
//!
//! A sub-window counts whole until its last instant is a full window ago, so any window of the
//! rule's length lies inside the 61 sub-windows that are summed. The price is that an amount may
//! count longer than it must: up to one sub-window, and the 60 parts of a millisecond by which the
//! sub-windows are rounded up.

use std::collections::VecDeque;

use super::{Reading, add};
use crate::time::Millis;

/// Whole sub-windows in a window.
pub const SUB_WINDOWS: i64 = 60;

/// The length of a sub-window: a sixtieth, rounded up to whole milliseconds.
pub fn sub_window_ms(window_ms: i64) -> i64 {
    ((window_ms + SUB_WINDOWS - 1) / SUB_WINDOWS).max(1)
}

/// What is used, by sub-window.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlidingWindow {
    /// The sum over the slots.
    pub sum: i64,
    /// The length of a sub-window when the counter was last changed.
    pub sub_window_ms: i64,
    /// The sub-windows with use in them, oldest first: number since the epoch, units.
    pub slots: VecDeque<(i64, i64)>,
}

/// When a sub-window of a window of `window_ms` counts no more.
pub(super) fn counts_until(slot: i64, window_ms: i64) -> Millis {
    leaves_at(slot, sub_window_ms(window_ms))
}

impl SlidingWindow {
    /// Nothing used in a window of `window_ms`.
    pub(super) fn fresh(window_ms: i64) -> Self {
        Self { sub_window_ms: sub_window_ms(window_ms), ..Self::default() }
    }

    pub(super) fn read(&self, limit: i64, window_ms: i64, need: i64, now: Millis) -> Reading {
        let step_ms = sub_window_ms(window_ms);
        let gone: i64 = self.expired(now.get() / step_ms).map(|(_, amount)| *amount).sum();
        let used = self.sum - gone;
        let newest = self.slots.back().filter(|_| used > 0);
        let reset_at = newest.map_or(now, |(slot, _)| leaves_at(*slot, step_ms));
        Reading::new(i128::from(used), limit, need, Some(reset_at))
            .wait_ms(need, limit, || self.wait_ms(used - (limit - need), step_ms, now))
    }

    pub(super) fn take(&mut self, window_ms: i64, amount: i64, now: Millis) -> i64 {
        let slot = self.slide(window_ms, now);
        if amount < 0 {
            self.give_back(amount.saturating_neg());
        } else {
            self.add_to(slot, amount);
        }
        slot
    }

    /// Gives back what was taken last, so that what is left leaves the window no later.
    fn give_back(&mut self, amount: i64) {
        let mut left = amount.min(self.sum);
        while let Some((_, taken)) = self.slots.back_mut().filter(|_| left > 0) {
            let given = left.min(*taken);
            *taken -= given;
            self.sum -= given;
            left -= given;
            if *taken == 0 {
                self.slots.pop_back();
            }
        }
    }

    pub(super) fn charge(&mut self, window_ms: i64, amount: i64, accounted_at: Millis, now: Millis) {
        let current = self.slide(window_ms, now);
        let slot = (accounted_at.get() / self.sub_window_ms).min(current);
        if slot + SUB_WINDOWS >= current {
            self.add_to(slot, amount);
        }
    }

    /// Corrects a sub-window that still counts; one that has left is corrected in the books alone.
    pub(super) fn correct(&mut self, slot: i64, delta: i64) {
        let newest = self.slots.back().map_or(slot, |(newest, _)| *newest);
        if slot + SUB_WINDOWS >= newest {
            self.add_to(slot, delta);
        }
    }

    pub(super) fn is_idle(&self, now: Millis) -> bool {
        self.slots.back().is_none_or(|(slot, _)| now >= leaves_at(*slot, self.sub_window_ms))
    }

    fn expired(&self, current: i64) -> impl Iterator<Item = &(i64, i64)> {
        self.slots.iter().take_while(move |(slot, _)| slot + SUB_WINDOWS < current)
    }

    /// Until the oldest sub-windows that hold `excess` units have left.
    fn wait_ms(&self, excess: i64, step_ms: i64, now: Millis) -> i64 {
        let mut freed = 0;
        let current = now.get() / step_ms;
        for (slot, amount) in self.slots.iter().skip_while(|(slot, _)| slot + SUB_WINDOWS < current) {
            freed = add(freed, *amount);
            if freed >= excess {
                return leaves_at(*slot, step_ms).since(now);
            }
        }
        0
    }

    fn slide(&mut self, window_ms: i64, now: Millis) -> i64 {
        self.sub_window_ms = sub_window_ms(window_ms);
        let current = now.get() / self.sub_window_ms;
        while let Some((_, amount)) = self.slots.pop_front_if(|(slot, _)| *slot + SUB_WINDOWS < current) {
            self.sum -= amount;
        }
        self.slot_at(window_ms, now)
    }

    /// The sub-window that an amount is taken in at `now`.
    pub(super) fn slot_at(&self, window_ms: i64, now: Millis) -> i64 {
        let current = now.get() / sub_window_ms(window_ms);
        // A clock that stepped back stays in the newest sub-window: it renews nothing.
        self.slots.back().map_or(current, |(newest, _)| current.max(*newest))
    }

    fn add_to(&mut self, slot: i64, delta: i64) {
        if delta == 0 {
            return;
        }
        let place = self.slots.partition_point(|(other, _)| *other < slot);
        if self.slots.get(place).is_none_or(|(other, _)| *other != slot) {
            self.slots.insert(place, (slot, 0));
        }
        let Some((_, amount)) = self.slots.get_mut(place) else { return };
        let before = *amount;
        *amount = add(before, delta.min(i64::MAX - self.sum));
        self.sum += *amount - before;
        if *amount == 0 {
            self.slots.remove(place);
        }
    }
}

fn leaves_at(slot: i64, step_ms: i64) -> Millis {
    Millis::new((slot + SUB_WINDOWS + 1) * step_ms)
}
