//! Windows that begin and end at fixed instants: every N milliseconds from the epoch, or by the
//! calendar.

use super::{Limit, Reading, add};
use crate::time::Millis;

/// What is used in one window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowCounter {
    /// When the window began.
    pub start: Millis,
    /// When it ends.
    pub end: Millis,
    /// Units used; above the limit in debt.
    pub used: i64,
}

/// The window of `now` under a fixed or calendar limit. When the clock has just passed the end of
/// a calendar window it is the next one.
fn span(limit: &Limit, now: Millis) -> (Millis, Millis) {
    match *limit {
        Limit::CalendarWindow { bounds, .. } if now < bounds.end => (bounds.start, bounds.end),
        Limit::CalendarWindow { bounds, .. } => (bounds.end, bounds.next_end),
        Limit::FixedWindow { window_ms, .. } => {
            let start = now.get() - now.get() % window_ms.max(1);
            (Millis::new(start), Millis::new(start).plus(window_ms))
        }
        _ => (now, now),
    }
}

impl WindowCounter {
    /// Nothing used in the window of `now`.
    pub(super) fn fresh(limit: &Limit, now: Millis) -> Self {
        let (start, end) = span(limit, now);
        Self { start, end, used: 0 }
    }

    pub(super) fn read(&self, limit: &Limit, need: i64, now: Millis) -> Reading {
        let (start, end) = span(limit, now);
        // A window that begins before the stored one means a clock that stepped back: nothing is
        // renewed by it.
        let used = if start > self.start { 0 } else { self.used };
        let end = if start < self.start { self.end } else { end };
        Reading::new(i128::from(used), limit.size(), need, Some(end))
            .wait_ms(need, limit.size(), || end.since(now))
    }

    pub(super) fn take(&mut self, limit: &Limit, amount: i64, now: Millis) -> Self {
        self.roll(limit, now);
        self.used = add(self.used, amount);
        *self
    }

    pub(super) fn charge(&mut self, limit: &Limit, amount: i64, accounted_at: Millis, now: Millis) {
        self.roll(limit, now);
        if accounted_at >= self.start {
            self.used = add(self.used, amount);
        }
    }

    /// Corrects the window from `start` to `end`. It is a later one than the counter's when it was
    /// only tested before.
    pub(super) fn correct(&mut self, start: Millis, end: Millis, delta: i64) {
        if start > self.start {
            *self = Self { start, end, used: 0 };
        }
        if start == self.start {
            self.used = add(self.used, delta);
        }
    }

    pub(super) fn is_idle(&self, now: Millis) -> bool {
        self.used == 0 || now >= self.end
    }

    /// The window that an amount is taken in at `now`, as it stands.
    pub(super) fn window_at(self, limit: &Limit, now: Millis) -> Self {
        let fresh = Self::fresh(limit, now);
        if fresh.start > self.start { fresh } else { self }
    }

    fn roll(&mut self, limit: &Limit, now: Millis) {
        *self = self.window_at(limit, now);
    }
}
