//! Budgets: a new one begins with what its period has seen already.

mod opening;
mod recount;
mod spent;
mod top_ups;

use rateguard_core::counter::{Limit, Reading};
use rateguard_core::plan::LimitId;
use rateguard_core::rule::{Budget, BudgetPeriod};

use crate::caller::Identity;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::ports::{CounterQuery, Resource};

pub(crate) use opening::OpenedHere;
pub use recount::{Recount, RecountError, prepare_recount, recount_from};
pub use top_ups::{TOP_UPS_PER_BUDGET_MAX, TopUpDraft};

/// What the audit trail calls the opening of a budget.
const OPENING: &str = "OpenBudget";

/// How an unscoped budget stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BudgetStanding {
    /// Its size and the period of now.
    pub limit: Limit,
    /// What is spent, held and left.
    pub reading: Reading,
}

impl Engine {
    /// How a budget stands, when it has one counter for all: `None` for scoped and inactive ones.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn budget_standing(
        &self,
        identity: &Identity,
        budget: &Budget,
    ) -> Result<Option<BudgetStanding>, EngineError> {
        let (view, now) = (self.view(identity.workspace()?)?, self.now());
        let wanted = LimitId::Budget(budget.id.clone());
        let planned = view.plan.limits().iter().find(|l| l.id == wanted && l.scope.dimensions.is_empty());
        let Some((planned, counter)) = planned.and_then(|l| Some((l, l.only_counter()?))) else {
            return Ok(None);
        };
        let limit = planned.limit_at(now);
        let query = CounterQuery { counter, overflow: planned.overflow_beside(counter), limit };
        let readings = self.counters.read(identity.workspace()?, &[query], now).await?;
        Ok(readings.first().map(|reading| BudgetStanding { limit, reading: *reading }))
    }
}

/// A changed budget keeps what was topped up, whatever period it follows: the ledger's sum.
pub(super) fn keep_top_ups(before: &Resource, mut after: Resource) -> Resource {
    if let (Resource::Budget(before), Resource::Budget(after)) = (before, &mut after) {
        after.topped_up = before.topped_up;
    }
    after
}

/// A changed budget keeps its place in the log as long as its counters have seen every record: one
/// that is switched on again, or has new counters, opens anew. A prepaid budget that was switched
/// off has not seen what passed meanwhile, and goes on.
pub(super) fn succeed(before: &Resource, after: Resource, counters_reset: bool) -> Resource {
    let (Resource::Budget(before), Resource::Budget(after)) = (before, &after) else { return after };
    let is_prepaid = matches!(after.period, BudgetPeriod::Prepaid);
    let switched_on = after.active && !before.active && !is_prepaid;
    let other_calls = before.matches != after.matches && !is_prepaid;
    let opens = counters_reset || switched_on || other_calls;
    Resource::Budget(Budget { opened_after: before.opened_after.filter(|_| !opens), ..after.clone() })
}

#[cfg(test)]
mod tests;
