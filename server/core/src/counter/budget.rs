//! The budget's counter: money spent and held in the period of now and the one before.
//!
//! Spending is what the event log says; a hold stands for a call whose cost is not known yet. The
//! period before stays, because a call reserved in it may be settled in this one.

use super::Reading;
use crate::limits::OCCURRED_BEFORE_MS_MAX;
use crate::time::{Bounds, Millis};

/// Money of one period, in nano-units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeriodMoney {
    /// When the period began; zero for a prepaid budget.
    pub start: Millis,
    /// When it ends; zero for a prepaid budget.
    pub end: Millis,
    /// The sum of the events accounted in it.
    pub spent: i128,
    /// What open reservations hold.
    pub held: i128,
}

/// Money that reservations held when the process was killed. Nobody knows any more which, so it
/// stays held until the longest of them must be over, or their reports draw it down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AnonymousHold {
    /// Nano-units.
    pub nanos: i128,
    /// When it is freed.
    pub until: Millis,
}

/// The state of one budget's counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BudgetCounter {
    /// The period of now.
    pub current: PeriodMoney,
    /// The period before, when there was one.
    pub previous: Option<PeriodMoney>,
    /// What a crash left held.
    pub anonymous: AnonymousHold,
    /// How much may be held before the ceiling on disk has to be raised.
    pub ceiling: i128,
}

impl PeriodMoney {
    fn fresh(bounds: Option<Bounds>, now: Millis) -> Self {
        let (start, end) = span(bounds, now).unwrap_or_default();
        Self { start, end, spent: 0, held: 0 }
    }
}

fn span(bounds: Option<Bounds>, now: Millis) -> Option<(Millis, Millis)> {
    let bounds = bounds?;
    Some(if now < bounds.end { (bounds.start, bounds.end) } else { (bounds.end, bounds.next_end) })
}

impl BudgetCounter {
    /// Nothing spent in the period of `now`.
    pub fn fresh(bounds: Option<Bounds>, now: Millis) -> Self {
        Self { current: PeriodMoney::fresh(bounds, now), ..Self::default() }
    }

    /// Money held over both periods, without what a crash left.
    pub fn held(&self) -> i128 {
        self.current.held + self.previous.map_or(0, |period| period.held)
    }

    /// Whether no reservation has money in it, and no crash has left any.
    pub(super) fn holds_nothing(&self, now: Millis) -> bool {
        self.held() == 0 && self.anonymous_at(now) == 0
    }

    /// Whether it counts like a fresh one: there is nothing in it, or nothing that could still be
    /// asked for. Its money stays as long after its period as records of that period are accepted,
    /// so that a clock that is set back meanwhile renews nothing.
    pub(super) fn is_idle(&self, now: Millis) -> bool {
        self.holds_nothing(now) && (self.has_spent_nothing() || self.is_long_over(now))
    }

    fn has_spent_nothing(&self) -> bool {
        self.current.spent == 0 && self.previous.is_none_or(|period| period.spent == 0)
    }

    fn is_long_over(&self, now: Millis) -> bool {
        let is_prepaid = self.current.end == Millis::ZERO;
        !is_prepaid && now >= self.current.end.plus(OCCURRED_BEFORE_MS_MAX)
    }

    pub(super) fn read(&self, nanos: i64, bounds: Option<Bounds>, need: i64, now: Millis) -> Reading {
        let money = self.money_at(bounds, now);
        let held = money.held + self.anonymous_at(now);
        let end = bounds.map(|_| money.end);
        let reading = Reading { held, ..Reading::new(money.spent + held, nanos, need, end) };
        match end {
            Some(end) => reading.wait_ms(need, nanos, || self.renewed_at(end, nanos - need).since(now)),
            None => reading,
        }
    }

    /// When no more than `free` is used: at the period's end, unless what a crash left held is more
    /// than that and stays longer.
    fn renewed_at(&self, end: Millis, free: i64) -> Millis {
        if self.anonymous_at(end) > i128::from(free) { self.anonymous.until } else { end }
    }

    pub(super) fn hold(&mut self, bounds: Option<Bounds>, amount: i64, now: Millis) -> PeriodMoney {
        self.roll(bounds, now);
        self.current.held += i128::from(amount);
        self.current
    }

    /// Adds a cost (negative for a correction) to the period that holds `accounted_at`. Money of a
    /// period before the last one is corrected in the books alone.
    pub fn spend(&mut self, bounds: Option<Bounds>, nanos: i64, accounted_at: Millis, now: Millis) {
        self.roll(bounds, now);
        if let Some(period) = self.period_of(bounds, accounted_at) {
            period.spent += i128::from(nanos);
        }
    }

    /// Turns `freed` of what the period that began at `start` holds into `cost` spent in it.
    pub fn settle(&mut self, start: Millis, freed: i64, cost: i64) {
        if let Some(period) = self.period_begun(start) {
            period.held = (period.held - i128::from(freed)).max(0);
            period.spent += i128::from(cost);
        }
    }

    /// A report on a reservation that a crash forgot draws the anonymous hold down by its cost.
    pub fn draw_down(&mut self, nanos: i64) {
        self.anonymous.nanos = (self.anonymous.nanos - i128::from(nanos.max(0))).max(0);
    }

    pub(super) fn correct_hold(&mut self, start: Millis, delta: i64) {
        if let Some(period) = self.period_begun(start) {
            period.held = (period.held + i128::from(delta)).max(0);
        }
    }

    fn period_begun(&mut self, start: Millis) -> Option<&mut PeriodMoney> {
        if self.current.start == start {
            return Some(&mut self.current);
        }
        self.previous.as_mut().filter(|period| period.start == start)
    }

    fn anonymous_at(&self, now: Millis) -> i128 {
        if now < self.anonymous.until { self.anonymous.nanos } else { 0 }
    }

    /// The period of `now`, as it stands.
    pub(super) fn money_at(&self, bounds: Option<Bounds>, now: Millis) -> PeriodMoney {
        let fresh = PeriodMoney::fresh(bounds, now);
        // A clock that stepped back stays in the stored period: it renews nothing.
        if fresh.start > self.current.start { fresh } else { self.current }
    }

    fn period_of(&mut self, bounds: Option<Bounds>, at: Millis) -> Option<&mut PeriodMoney> {
        if bounds.is_none() || at >= self.current.start {
            return Some(&mut self.current);
        }
        self.previous.as_mut().filter(|period| period.start <= at && at < period.end)
    }

    fn roll(&mut self, bounds: Option<Bounds>, now: Millis) {
        self.roll_to(PeriodMoney::fresh(bounds, now));
    }

    /// Begins the period from `start` to `end` if it is later than the counter's: one in which
    /// money was only asked for before.
    pub(crate) fn begin(&mut self, start: Millis, end: Millis) {
        self.roll_to(PeriodMoney { start, end, ..PeriodMoney::default() });
    }

    fn roll_to(&mut self, fresh: PeriodMoney) {
        if fresh.start > self.current.start {
            self.previous = Some(std::mem::replace(&mut self.current, fresh));
        }
    }
}
