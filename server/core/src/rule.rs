//! Rules and budgets as people define them.

mod overrides;

use crate::counter::{Limit, Position, Refill};
use crate::ids::{BudgetId, DisplayName, RuleId};
use crate::invalid::Invalid;
use crate::limits::{
    LEASED_SLIDING_WINDOW_MS_MIN, LIMIT_MAX, LOCAL_REPLICAS_MAX, MONEY_NANOS_MAX, NAME_BYTES_MAX,
    PRIORITY_MAX, WINDOW_MS_MAX, WINDOW_MS_MIN,
};
use crate::matching::{Dimension, Match, Scope};
use crate::money::Nanos;
use crate::time::{CalendarPeriod, Millis, Zone};
use crate::unit::Unit;
pub use overrides::{Override, OverrideAmount, OverrideOf};

/// How a rule counts.
#[derive(Clone, Debug, PartialEq)]
pub enum Algorithm {
    /// At most `capacity` at once, refilled steadily.
    TokenBucket {
        /// Units that may be taken at once.
        capacity: i64,
        /// The rate at which use is given back.
        refill: Refill,
    },
    /// At most `limit` in each window from the epoch.
    FixedWindow {
        /// Units a window.
        limit: i64,
        /// Length, 100 ms to 366 days.
        window_ms: i64,
    },
    /// At most `limit` in any window.
    SlidingWindow {
        /// Units a window.
        limit: i64,
        /// Length, 100 ms to 366 days.
        window_ms: i64,
    },
    /// At most `limit` in each window of the calendar.
    CalendarWindow {
        /// Units a window.
        limit: i64,
        /// The window's length.
        period: CalendarPeriod,
        /// Whose calendar; `None` takes the workspace's zone.
        zone: Option<Zone>,
    },
    /// At most `limit` at the same time: each call holds its amount from its reservation on until that
    /// ends.
    Concurrency {
        /// Units held at once.
        limit: i64,
    },
}

impl Algorithm {
    /// Checks the bounds.
    ///
    /// # Errors
    /// [`Invalid`] naming the field and its bound.
    pub fn check(&self) -> Result<(), Invalid> {
        match self {
            Self::TokenBucket { capacity, refill } => {
                check_limit("capacity", *capacity)?;
                Refill::new(refill.units(), refill.period_ms(), *capacity).map(drop)
            }
            Self::FixedWindow { limit, window_ms } | Self::SlidingWindow { limit, window_ms } => {
                check_limit("limit", *limit)?;
                check_window(*window_ms)
            }
            Self::CalendarWindow { limit, .. } | Self::Concurrency { limit } => check_limit("limit", *limit),
        }
    }

    fn has_local_share(&self, share_percent: u8, replicas_max: u16) -> bool {
        let Self::TokenBucket { capacity, refill } = *self else { return true };
        Limit::TokenBucket { capacity, refill }.has_local_share(share_percent, replicas_max)
    }
}

fn check_limit(field: &'static str, limit: i64) -> Result<(), Invalid> {
    if (0..=LIMIT_MAX).contains(&limit) {
        return Ok(());
    }
    Err(Invalid::new(field, format!("must be 0 to {LIMIT_MAX}")))
}

fn check_window(window_ms: i64) -> Result<(), Invalid> {
    if (WINDOW_MS_MIN..=WINDOW_MS_MAX).contains(&window_ms) {
        return Ok(());
    }
    Err(Invalid::new("window_ms", format!("must be {WINDOW_MS_MIN} to {WINDOW_MS_MAX}")))
}

/// Whether a limit decides or only watches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Enforcement {
    /// It denies.
    #[default]
    Enforced,
    /// It counts and tells, and never denies.
    Soft,
    /// It is tried on live traffic: its counter moves as if it decided alone.
    Shadow,
}

/// Where a rule's decisions are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Consistency {
    /// Each by the shared counter.
    #[default]
    Strict,
    /// By units that a replica has taken in advance, so that most need no round trip.
    Leased,
}

/// What a rule answers while the shared counters do not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum FailurePolicy {
    /// It allows.
    #[default]
    Open,
    /// It denies.
    Closed,
    /// A part of the limit is never given out by the shared counter. While that is away each of at most
    /// `replicas_max` replicas allows an equal share of this part a window.
    Local {
        /// The part, 1 to 99 percent of the limit.
        share_percent: u8,
        /// Replicas that share it, 1 to [`LOCAL_REPLICAS_MAX`].
        replicas_max: u16,
    },
}

/// How a rule decides, beside what it counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RulePolicies {
    /// Where decisions are taken.
    pub consistency: Consistency,
    /// What it answers while the shared counters do not.
    pub failure: FailurePolicy,
    /// Whether the amounts of CONSUME checks that are denied, by whichever limit, are counted all the same,
    /// as debt.
    pub counts_denied: bool,
    /// Whether the counters of different subjects may stand on different servers of a cluster: then those of one
    /// subject are in a [`Shard`](crate::counter::Shard) of their own, apart from the workspace's others.
    pub spread_by_subject: bool,
}

impl RulePolicies {
    /// Checks the bounds, and that the policies fit the algorithm.
    ///
    /// # Errors
    /// [`Invalid`] naming the field and its bound.
    fn check(&self, algorithm: &Algorithm) -> Result<(), Invalid> {
        if matches!(algorithm, Algorithm::Concurrency { .. }) {
            return self.check_of_concurrency();
        }
        if let FailurePolicy::Local { share_percent, replicas_max } = self.failure {
            if !(1..=99).contains(&share_percent) {
                return Err(Invalid::new("failure_policy.local_share_percent", "must be 1 to 99"));
            }
            if !(1..=LOCAL_REPLICAS_MAX).contains(&replicas_max) {
                let bound = format!("must be 1 to {LOCAL_REPLICAS_MAX}");
                return Err(Invalid::new("failure_policy.local_replicas_max", bound));
            }
            if !algorithm.has_local_share(share_percent, replicas_max) {
                let message = "divides the bucket's rate into parts that cannot be kept exactly: choose a smaller \
                               capacity or a rate of rounder figures";
                return Err(Invalid::new("failure_policy.local_share_percent", message));
            }
        }
        if self.consistency == Consistency::Strict {
            return Ok(());
        }
        if self.counts_denied {
            return Err(Invalid::new("consistency", "must be STRICT where denied amounts are counted"));
        }
        match algorithm {
            Algorithm::SlidingWindow { window_ms, .. } if *window_ms < LEASED_SLIDING_WINDOW_MS_MIN => {
                let bound =
                    format!("must be STRICT for sliding windows under {LEASED_SLIDING_WINDOW_MS_MIN} ms");
                Err(Invalid::new("consistency", bound))
            }
            _ => Ok(()),
        }
    }

    /// What runs at the same time is known to the shared counters alone, by its reservations: nothing of
    /// it can be taken in advance, given out without them, or owed.
    fn check_of_concurrency(&self) -> Result<(), Invalid> {
        if self.consistency == Consistency::Leased {
            return Err(Invalid::new("consistency", "must be STRICT for concurrency"));
        }
        if matches!(self.failure, FailurePolicy::Local { .. }) {
            return Err(Invalid::new("failure_policy.mode", "must be OPEN or CLOSED for concurrency"));
        }
        if self.counts_denied {
            return Err(Invalid::new("counts_denied", "must be false for concurrency"));
        }
        Ok(())
    }
}

/// One limit on units.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Its id.
    pub id: RuleId,
    /// Its name.
    pub name: DisplayName,
    /// The calls it applies to.
    pub matches: Match,
    /// What makes its counters different.
    pub scope: Scope,
    /// What it counts.
    pub unit: Unit,
    /// How it counts.
    pub algorithm: Algorithm,
    /// Enforced or shadow.
    pub enforcement: Enforcement,
    /// Higher comes first; it picks the winner within an override group.
    pub priority: i32,
    /// Of the matching rules in one group only the one of highest priority applies.
    pub override_group: Option<String>,
    /// Where and how it decides.
    pub policies: RulePolicies,
    /// Other amounts for single keys and subjects.
    pub overrides: Vec<Override>,
    /// When one of its counters, or all, were last set back to nothing used.
    pub last_reset_at: Option<Millis>,
    /// Whether it applies at all.
    pub active: bool,
}

impl Rule {
    /// Checks every bound that the parts alone do not.
    ///
    /// # Errors
    /// [`Invalid`] naming the field and its bound.
    pub fn check(&self) -> Result<(), Invalid> {
        self.matches.check()?;
        self.scope.check()?;
        self.algorithm.check()?;
        self.policies.check(&self.algorithm)?;
        if self.policies.spread_by_subject && !self.scope.dimensions.contains(&Dimension::Subject) {
            return Err(Invalid::new("spread_by_subject", "must be false unless the scope has the subject"));
        }
        if matches!(self.algorithm, Algorithm::Concurrency { .. }) && self.unit != Unit::Requests {
            return Err(Invalid::new("unit", "must be requests for concurrency"));
        }
        if self.enforcement == Enforcement::Soft {
            return Err(Invalid::new("mode", "must be ENFORCED or SHADOW"));
        }
        if self.priority.unsigned_abs() > PRIORITY_MAX.unsigned_abs() {
            return Err(Invalid::new("priority", format!("must be within {PRIORITY_MAX}")));
        }
        if self.override_group.as_ref().is_some_and(|group| group.len() > NAME_BYTES_MAX) {
            return Err(Invalid::new("override_group", format!("must be at most {NAME_BYTES_MAX} bytes")));
        }
        overrides::check(self)
    }
}

/// How long a budget's money lasts.
#[derive(Clone, Debug, PartialEq)]
pub enum BudgetPeriod {
    /// Anew with each period of the calendar.
    Calendar {
        /// The period's length.
        period: CalendarPeriod,
        /// Whose calendar; `None` takes the workspace's zone.
        zone: Option<Zone>,
    },
    /// Once, without reset.
    Prepaid,
}

/// Why a budget cannot be topped up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopUpRefusal {
    /// It begins anew with each period of a calendar.
    NotPrepaid,
    /// Its amount and top-ups would come to less than nothing, or to more than 10^18 nano-units.
    OutOfBounds,
}

/// A limit in money.
#[derive(Clone, Debug, PartialEq)]
pub struct Budget {
    /// Its id.
    pub id: BudgetId,
    /// Its name.
    pub name: DisplayName,
    /// The calls it applies to.
    pub matches: Match,
    /// What makes its counters different.
    pub scope: Scope,
    /// How much, without what was topped up.
    pub amount: Nanos,
    /// The sum of its top-ups, which its ledger explains; below zero where corrections took more than
    /// was added. Counts for a prepaid budget alone.
    pub topped_up: Nanos,
    /// For how long.
    pub period: BudgetPeriod,
    /// Hard (enforced), soft or shadow.
    pub enforcement: Enforcement,
    /// Whether it applies at all.
    pub active: bool,
    /// Records after this place in the log are charged as they come; those before it were summed
    /// when the budget opened. `None`: it has not opened yet, and is not in force.
    pub opened_after: Option<Position>,
}

impl Budget {
    /// Checks every bound that the parts alone do not.
    ///
    /// # Errors
    /// [`Invalid`] naming the field and its bound.
    pub fn check(&self) -> Result<(), Invalid> {
        self.matches.check()?;
        self.scope.check()?;
        if !(0..=MONEY_NANOS_MAX).contains(&self.amount.get()) {
            return Err(Invalid::new("amount", format!("must be 0 to {MONEY_NANOS_MAX} nano-units")));
        }
        match &self.period {
            BudgetPeriod::Calendar { period: CalendarPeriod::Hour, .. } => {
                Err(Invalid::new("period", "must be DAY, WEEK or MONTH"))
            }
            BudgetPeriod::Calendar { .. } => Ok(()),
            BudgetPeriod::Prepaid => match self.amount.get().checked_add(self.topped_up.get()) {
                Some(0..=MONEY_NANOS_MAX) => Ok(()),
                _ => {
                    let bound = format!("must with its top-ups be 0 to {MONEY_NANOS_MAX} nano-units");
                    Err(Invalid::new("amount", bound))
                }
            },
        }
    }

    /// What may be spent: the amount, and with a prepaid budget what was topped up.
    pub fn total(&self) -> Nanos {
        match self.period {
            BudgetPeriod::Calendar { .. } => self.amount,
            BudgetPeriod::Prepaid => {
                Nanos::from_stored(self.amount.get().saturating_add(self.topped_up.get()).max(0))
            }
        }
    }

    /// The budget with one more top-up; a negative one is a correction.
    ///
    /// # Errors
    /// [`TopUpRefusal`].
    pub fn topped_up_by(&self, amount: Nanos) -> Result<Self, TopUpRefusal> {
        if !matches!(self.period, BudgetPeriod::Prepaid) {
            return Err(TopUpRefusal::NotPrepaid);
        }
        let sum = self.topped_up.get().checked_add(amount.get()).ok_or(TopUpRefusal::OutOfBounds)?;
        let after = Self { topped_up: Nanos::from_stored(sum), ..self.clone() };
        match self.amount.get().checked_add(sum) {
            Some(0..=MONEY_NANOS_MAX) => Ok(after),
            _ => Err(TopUpRefusal::OutOfBounds),
        }
    }
}

#[cfg(test)]
mod tests;
