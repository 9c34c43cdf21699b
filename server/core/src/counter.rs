//! Counters: the state behind every limit, one file per algorithm.
//!
//! A [`Limit`] says what a counter is held against and comes anew with every call, since limits
//! change while counters stay; a [`Counter`] is what was used. Reading never changes a counter;
//! taking, holding and correcting do. Instants given to one counter must not go back: the store
//! that owns it keeps the last one.

pub mod budget;
pub mod concurrency;
mod id;
mod lead;
pub mod lent;
pub mod lows;
mod share;
pub mod sliding_window;
pub mod token_bucket;
pub mod window;

use crate::time::{Bounds, Millis};
pub use budget::{BudgetCounter, PeriodMoney};
pub use concurrency::ConcurrencyCounter;
pub use id::{CounterFamily, CounterId, SHARDS, Shard};
pub use lent::Lent;
pub use lows::{Low, Lows};
pub use sliding_window::SlidingWindow;
pub use token_bucket::{Pending, Refill, TokenBucket};
pub use window::WindowCounter;

/// A position in the event log. The first event has position 1; zero is before all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position(pub u64);

/// What a counter is held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// At most `capacity` at once, refilled steadily.
    TokenBucket {
        /// Units that may be taken at once.
        capacity: i64,
        /// How fast what was used is given back.
        refill: Refill,
    },
    /// At most `limit` in each window of `window_ms`, counted from the epoch.
    FixedWindow {
        /// Units a window.
        limit: i64,
        /// The window's length.
        window_ms: i64,
    },
    /// At most `limit` in any window of `window_ms`.
    SlidingWindow {
        /// Units a window.
        limit: i64,
        /// The window's length.
        window_ms: i64,
    },
    /// At most `limit` in each window of a calendar.
    CalendarWindow {
        /// Units a window.
        limit: i64,
        /// The window of now, and the end of the next one.
        bounds: Bounds,
    },
    /// At most `nanos` of money in a calendar's period, or in all when prepaid.
    Budget {
        /// Nano-units.
        nanos: i64,
        /// The period of now; `None` for a prepaid budget.
        bounds: Option<Bounds>,
    },
    /// At most `limit` at the same time.
    Concurrency {
        /// What may be held at once.
        limit: i64,
    },
}

impl Limit {
    /// Whether what is used is given back by itself.
    pub fn resets(&self) -> bool {
        !matches!(self, Self::Budget { bounds: None, .. } | Self::Concurrency { .. })
    }

    /// The same of another size. A bucket keeps its rate.
    #[must_use]
    pub fn sized(self, size: i64) -> Self {
        match self {
            Self::TokenBucket { refill, .. } => Self::TokenBucket { capacity: size, refill },
            Self::FixedWindow { window_ms, .. } => Self::FixedWindow { limit: size, window_ms },
            Self::SlidingWindow { window_ms, .. } => Self::SlidingWindow { limit: size, window_ms },
            Self::CalendarWindow { bounds, .. } => Self::CalendarWindow { limit: size, bounds },
            Self::Budget { bounds, .. } => Self::Budget { nanos: size, bounds },
            Self::Concurrency { .. } => Self::Concurrency { limit: size },
        }
    }

    /// The limit's size in its unit.
    pub fn size(&self) -> i64 {
        match *self {
            Self::TokenBucket { capacity, .. } => capacity,
            Self::FixedWindow { limit, .. }
            | Self::SlidingWindow { limit, .. }
            | Self::CalendarWindow { limit, .. }
            | Self::Concurrency { limit } => limit,
            Self::Budget { nanos, .. } => nanos,
        }
    }
}

/// What a call asks of one limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand {
    /// Units that must be free for the call to pass.
    pub need: i64,
    /// Units taken when it passes; at most `need`. Below zero: units given back of what stands in the
    /// window of now, down to nothing used.
    pub take: i64,
}

impl Demand {
    /// Takes `amount`.
    pub fn take(amount: i64) -> Self {
        Self { need: amount, take: amount }
    }

    /// Gives `amount` back, which always passes.
    pub fn give_back(amount: i64) -> Self {
        Self { need: 0, take: amount.saturating_neg() }
    }

    /// Takes nothing, and passes unless the limit is exhausted: for amounts known only later.
    pub const PROBE: Self = Self { need: 1, take: 0 };
}

/// When a denied demand passes, alone on the counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryAfter {
    /// After this many milliseconds, and not one earlier when nothing is reserved.
    Millis(i64),
    /// Never by waiting: there is no reset, or the amount is above the whole limit.
    Never,
}

/// How a counter stands against a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// What is used, held amounts and debt included.
    pub used: i128,
    /// Of that, what a budget holds for calls whose cost is not known yet.
    pub held: i128,
    /// What is left, zero in debt.
    pub remaining: i64,
    /// When all that is used now has been given back; `None` without a reset.
    pub reset_at: Option<Millis>,
    /// `None` when the demand passes.
    pub denied: Option<RetryAfter>,
}

impl Reading {
    /// The same with so much more used of a limit, and never more left than the whole of it.
    #[must_use]
    pub fn shifted(self, limit: &Limit, used: i64) -> Self {
        let used = (self.used + i128::from(used)).max(0);
        let left = (i128::from(limit.size()) - used).max(0);
        Self { used, remaining: i64::try_from(left).unwrap_or(limit.size()), ..self }
    }

    /// A reading from what is used, before the wait is known.
    fn new(used: i128, limit: i64, need: i64, reset_at: Option<Millis>) -> Self {
        let left = (i128::from(limit) - used).max(0);
        let remaining = i64::try_from(left).unwrap_or(limit);
        let denied = (i128::from(need) > left).then_some(RetryAfter::Never);
        Self { used, held: 0, remaining, reset_at, denied }
    }

    fn wait_ms(mut self, need: i64, limit: i64, wait_ms: impl FnOnce() -> i64) -> Self {
        if self.denied.is_some() && need <= limit {
            self.denied = Some(RetryAfter::Millis(wait_ms()));
        }
        self
    }
}

/// The state of one counter.
#[derive(Clone, Debug, PartialEq)]
pub enum Counter {
    /// A token bucket.
    TokenBucket(TokenBucket),
    /// A fixed or calendar window.
    Window(WindowCounter),
    /// A sliding window.
    SlidingWindow(Box<SlidingWindow>),
    /// A budget.
    Budget(Box<BudgetCounter>),
    /// What is held at the same time.
    Concurrency(Box<ConcurrencyCounter>),
}

/// Where in a counter an amount was taken, so that it can be corrected there, also when the counter
/// was forgotten meanwhile or was never made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// In a bucket, at an instant, while it refilled like this.
    TokenBucket {
        /// When.
        at: Millis,
        /// The refill then.
        refill: Refill,
    },
    /// In the window that began then.
    Window {
        /// The window's start.
        start: Millis,
        /// The window's end.
        end: Millis,
    },
    /// In this sub-window.
    SlidingWindow {
        /// The sub-window's number since the epoch.
        slot: i64,
        /// The length of the whole window.
        window_ms: i64,
    },
    /// In the budget period that began then; zero for a prepaid budget.
    Budget {
        /// The period's start.
        start: Millis,
        /// The period's end; zero for a prepaid budget.
        end: Millis,
    },
    /// Held as long as its reservation is open.
    Concurrency,
}

impl Mark {
    /// The place of the mark: a limit of nothing of the same kind and an instant in its window, of
    /// which [`Counter::fresh`] makes the counter that the mark stands in.
    pub fn place(self) -> (Limit, Millis) {
        match self {
            Self::TokenBucket { at, refill } => (Limit::TokenBucket { capacity: 0, refill }, at),
            Self::Window { start, end } => {
                let bounds = Bounds { start, end, next_end: end };
                (Limit::CalendarWindow { limit: 0, bounds }, start)
            }
            Self::SlidingWindow { slot, window_ms } => {
                let start = Millis::new(slot.saturating_mul(sliding_window::sub_window_ms(window_ms)));
                (Limit::SlidingWindow { limit: 0, window_ms }, start)
            }
            Self::Budget { start, end } => {
                let bounds = Bounds { start, end, next_end: end };
                (Limit::Budget { nanos: 0, bounds: (end > Millis::ZERO).then_some(bounds) }, start)
            }
            Self::Concurrency => (Limit::Concurrency { limit: 0 }, Millis::ZERO),
        }
    }

    /// Whether what stands there counts no more. A bucket's amount may have grown since, and what a
    /// budget's period has spent is what the books say.
    pub fn is_over(self, now: Millis) -> bool {
        match self {
            Self::Window { end, .. } => now >= end,
            Self::SlidingWindow { slot, window_ms } => now >= sliding_window::counts_until(slot, window_ms),
            Self::TokenBucket { .. } | Self::Budget { .. } | Self::Concurrency => false,
        }
    }
}

impl Counter {
    /// A counter of the limit's kind with nothing used.
    pub fn fresh(limit: &Limit, now: Millis) -> Self {
        match limit {
            Limit::TokenBucket { .. } => Self::TokenBucket(TokenBucket::FRESH),
            Limit::FixedWindow { .. } | Limit::CalendarWindow { .. } => {
                Self::Window(WindowCounter::fresh(limit, now))
            }
            Limit::SlidingWindow { window_ms, .. } => {
                Self::SlidingWindow(Box::new(SlidingWindow::fresh(*window_ms)))
            }
            Limit::Budget { bounds, .. } => Self::Budget(Box::new(BudgetCounter::fresh(*bounds, now))),
            Limit::Concurrency { .. } => Self::Concurrency(Box::default()),
        }
    }

    /// How the counter stands, and whether `need` passes now.
    pub fn read(&self, limit: &Limit, need: i64, now: Millis) -> Reading {
        match (self, *limit) {
            (Self::TokenBucket(state), Limit::TokenBucket { capacity, refill }) => {
                state.read(capacity, refill, need, now)
            }
            (Self::Window(state), Limit::FixedWindow { .. } | Limit::CalendarWindow { .. }) => {
                state.read(limit, need, now)
            }
            (Self::SlidingWindow(state), Limit::SlidingWindow { limit, window_ms }) => {
                state.read(limit, window_ms, need, now)
            }
            (Self::Budget(state), Limit::Budget { nanos, bounds }) => state.read(nanos, bounds, need, now),
            (Self::Concurrency(state), Limit::Concurrency { limit }) => state.read(limit, need, now),
            // The id hashes the shape, so a counter never meets a limit of another kind; were it
            // to happen, it counts as new.
            _ => Self::fresh(limit, now).read(limit, need, now),
        }
    }

    /// Takes `amount` (a budget holds it) and says where. The caller has read the counter first. Below zero
    /// it gives back, newest first, never more than stands there; no demand on a budget is below zero.
    pub fn take(&mut self, limit: &Limit, amount: i64, now: Millis) -> Mark {
        match (&mut *self, *limit) {
            (Self::TokenBucket(state), Limit::TokenBucket { refill, .. }) => {
                state.take(refill, amount, now);
                Mark::TokenBucket { at: now, refill }
            }
            (Self::Window(state), Limit::FixedWindow { .. } | Limit::CalendarWindow { .. }) => {
                let WindowCounter { start, end, .. } = state.take(limit, amount, now);
                Mark::Window { start, end }
            }
            (Self::SlidingWindow(state), Limit::SlidingWindow { window_ms, .. }) => {
                Mark::SlidingWindow { slot: state.take(window_ms, amount, now), window_ms }
            }
            (Self::Budget(state), Limit::Budget { bounds, .. }) => {
                let PeriodMoney { start, end, .. } = state.hold(bounds, amount, now);
                Mark::Budget { start, end }
            }
            (Self::Concurrency(state), Limit::Concurrency { .. }) => {
                state.hold(amount);
                Mark::Concurrency
            }
            _ => {
                *self = Self::fresh(limit, now);
                self.take(limit, amount, now)
            }
        }
    }

    /// As [`Counter::take`], of what may be given back later as if it had never been taken.
    pub fn reserve(&mut self, limit: &Limit, amount: i64, now: Millis) -> Mark {
        let mark = self.take(limit, amount, now);
        if let Self::TokenBucket(state) = self {
            state.note_reserved();
        }
        mark
    }

    /// Where an amount would be taken now.
    pub fn mark(&self, limit: &Limit, now: Millis) -> Mark {
        match (self, *limit) {
            (Self::TokenBucket(_), Limit::TokenBucket { refill, .. }) => {
                Mark::TokenBucket { at: now, refill }
            }
            (Self::Window(state), Limit::FixedWindow { .. } | Limit::CalendarWindow { .. }) => {
                let WindowCounter { start, end, .. } = state.window_at(limit, now);
                Mark::Window { start, end }
            }
            (Self::SlidingWindow(state), Limit::SlidingWindow { window_ms, .. }) => {
                Mark::SlidingWindow { slot: state.slot_at(window_ms, now), window_ms }
            }
            (Self::Budget(state), Limit::Budget { bounds, .. }) => {
                let PeriodMoney { start, end, .. } = state.money_at(bounds, now);
                Mark::Budget { start, end }
            }
            (Self::Concurrency(_), Limit::Concurrency { .. }) => Mark::Concurrency,
            _ => Self::fresh(limit, now).mark(limit, now),
        }
    }

    /// Charges what was used at `accounted_at`, never asking. A window that has closed by `now`
    /// stays as it is: it is corrected in the books alone.
    pub fn charge(&mut self, limit: &Limit, amount: i64, accounted_at: Millis, now: Millis) {
        match (&mut *self, *limit) {
            (Self::TokenBucket(state), Limit::TokenBucket { capacity, refill }) => {
                state.charge(capacity, refill, amount, accounted_at, now);
            }
            (Self::Window(state), Limit::FixedWindow { .. } | Limit::CalendarWindow { .. }) => {
                state.charge(limit, amount, accounted_at, now);
            }
            (Self::SlidingWindow(state), Limit::SlidingWindow { window_ms, .. }) => {
                state.charge(window_ms, amount, accounted_at, now);
            }
            (Self::Budget(state), Limit::Budget { bounds, .. }) => {
                state.spend(bounds, amount, accounted_at, now);
            }
            // A report tells of a call that is over: there is nothing to hold.
            (Self::Concurrency(_), Limit::Concurrency { .. }) => {}
            _ => {
                *self = Self::fresh(limit, now);
                self.charge(limit, amount, accounted_at, now);
            }
        }
    }

    /// Corrects an amount taken at `mark` by `delta`: more where the mark still counts, or less,
    /// never giving back what the limit has given back already. Budgets settle through
    /// [`BudgetCounter::settle`].
    pub fn correct(&mut self, mark: Mark, taken: i64, delta: i64, now: Millis) {
        match (self, mark) {
            (Self::TokenBucket(state), Mark::TokenBucket { at, refill }) => {
                state.correct(refill, taken, delta, at, now);
            }
            (Self::Window(state), Mark::Window { start, end }) => state.correct(start, end, delta),
            (Self::SlidingWindow(state), Mark::SlidingWindow { slot, .. }) => state.correct(slot, delta),
            (Self::Budget(state), Mark::Budget { start, .. }) => state.correct_hold(start, delta),
            (Self::Concurrency(state), Mark::Concurrency) => state.hold(delta),
            // The counter was dropped or replaced in the meantime: its window is over.
            _ => {}
        }
    }

    /// Takes `amount` for a holder that spends it within the life that [`Lease`](crate::lease::Lease)
    /// names, and says where. The caller has read the counter first.
    pub fn lend(&mut self, limit: &Limit, amount: i64, now: Millis) -> Mark {
        match (&mut *self, *limit) {
            (Self::TokenBucket(state), Limit::TokenBucket { refill, .. }) => {
                Mark::TokenBucket { at: state.lend(refill, amount, now), refill }
            }
            (_, Limit::TokenBucket { .. }) => {
                *self = Self::fresh(limit, now);
                self.lend(limit, amount, now)
            }
            _ => self.take(limit, amount, now),
        }
    }

    /// Ends `closed` units of a lease taken at `mark`, of which `unused` were not spent and are free
    /// again where the mark still counts.
    pub fn end_lease(&mut self, mark: Mark, closed: i64, unused: i64, now: Millis) {
        match (self, mark) {
            (Self::TokenBucket(state), Mark::TokenBucket { at, .. }) => {
                state.end_lease(at, closed, unused, now);
            }
            (state, _) => state.correct(mark, closed, -unused.clamp(0, closed.max(0)), now),
        }
    }

    /// Sets it back to nothing used and says whether it was. A budget stays: its money stands in the books.
    pub fn set_back(&mut self) -> bool {
        match self {
            // What is lent may still be spent.
            Self::TokenBucket(state) => {
                state.reset();
            }
            Self::Window(state) => state.used = 0,
            Self::SlidingWindow(state) => {
                state.sum = 0;
                state.slots.clear();
            }
            Self::Concurrency(state) => {
                **state = ConcurrencyCounter { ceiling: state.ceiling, ..ConcurrencyCounter::default() };
            }
            Self::Budget(_) => return false,
        }
        true
    }

    /// Whether the counter counts like a fresh one from `now` on, so that it may be forgotten.
    pub fn is_idle(&self, now: Millis) -> bool {
        match self {
            Self::TokenBucket(state) => state.is_idle(now),
            Self::Window(state) => state.is_idle(now),
            Self::SlidingWindow(state) => state.is_idle(now),
            Self::Budget(state) => state.is_idle(now),
            Self::Concurrency(state) => state.is_idle(now),
        }
    }

    /// Whether the counter may be forgotten once its limit is gone: nobody has anything in it.
    pub fn is_free(&self, now: Millis) -> bool {
        match self {
            Self::Budget(state) => state.holds_nothing(now),
            other => other.is_idle(now),
        }
    }
}

/// Adds with a bound instead of wrapping: a counter so full stays full.
fn add(used: i64, amount: i64) -> i64 {
    used.saturating_add(amount).max(0)
}

#[cfg(test)]
pub(crate) mod tests;
