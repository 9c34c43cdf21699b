//! Budgets: a new one begins with what its period has seen already.

mod recount;
mod spent;
mod top_ups;

use std::sync::Arc;

use rateguard_core::counter::{CounterId, Limit, Position, Reading};
use rateguard_core::plan::{LimitId, PlannedLimit, plan_budget};
use rateguard_core::rule::{Budget, BudgetPeriod};

use crate::audit::Deed;
use crate::caller::Identity;
use crate::clock::Clock;
use crate::directory::Directory;
use crate::engine::Engine;
use crate::error::{EngineError, Reason};
use crate::ports::{
    ConfigStore, CounterQuery, CounterStore, EventLog, Resource, ResourceKind, SettleCharge, StoreError,
    Stored,
};
use spent::Spent;

pub use recount::{Recount, RecountError, prepare_recount};
pub use top_ups::{TOP_UPS_PER_BUDGET_MAX, TopUpDraft, TopUpPage};

/// Times that an opening begins anew because its period ended or its budget was changed meanwhile.
const OPENING_ROUNDS_MAX: usize = 8;

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
        let query = CounterQuery { counter, overflow: planned.overflow_counter(), limit };
        let readings = self.counters.read(identity.workspace()?, &[query], now).await?;
        Ok(readings.first().map(|reading| BudgetStanding { limit, reading: *reading }))
    }

    /// Opens a budget: sums what its period has seen, sets its counters, and only then puts it in
    /// force. The last records are summed and the plan is changed between two appends, so that each
    /// record is either in the sum or charged as it comes. A prepaid budget begins with nothing.
    pub(super) async fn open_budget(
        &self,
        stored: &Stored<Resource>,
    ) -> Result<Stored<Resource>, EngineError> {
        // One at a time: whoever waited finds it open.
        let _turn = self.openings.lock().await;
        let id = stored.value.id().to_owned();
        for _ in 0..OPENING_ROUNDS_MAX {
            let found = self.config.get(&stored.workspace, ResourceKind::Budget, &id).await?;
            let found = found.ok_or_else(|| EngineError::not_found("budget", &id))?;
            if matches!(&found.value, Resource::Budget(budget) if budget.opened_after.is_some()) {
                return Ok(found);
            }
            let opening = self.summed_opening(found).await?;
            let opened = self.recorder.between(move |settled| opening.finish(settled)).await??;
            if let Some(opened) = opened {
                return Ok(opened);
            }
        }
        Err(EngineError::new(Reason::StoreUnavailable, "the budget changed each time that it was to open"))
    }

    /// Opens what a stop in the middle left closed.
    ///
    /// # Errors
    /// Those of the stores.
    pub(crate) async fn open_budgets_left(&self) -> Result<(), EngineError> {
        for (workspace, id) in self.directory.closed_budgets().await {
            if let Some(stored) = self.config.get(&workspace, ResourceKind::Budget, id.as_str()).await? {
                self.open_budget(&stored).await?;
            }
        }
        Ok(())
    }

    /// The bulk of the sum, while records go on.
    async fn summed_opening(&self, stored: Stored<Resource>) -> Result<Opening, EngineError> {
        let view = self.view(&stored.workspace)?;
        let Resource::Budget(budget) = &stored.value else {
            return Err(EngineError::internal("only a budget can be opened"));
        };
        let now = self.now();
        let planned = plan_budget(&stored.workspace, &view.workspace.zone, budget, now);
        let limit = planned.limit_at(now);
        let mut spent = Spent::default();
        if let Limit::Budget { bounds: Some(bounds), .. } = limit {
            let barrier = self.recorder.barrier().await?;
            spent = Spent::sum(&*self.usage, &stored.workspace, &planned, bounds, barrier).await?;
            // What the sums have not got yet, as long as nobody waits for it.
            spent.add_from_log(&*self.log, &stored.workspace, &planned, bounds, barrier).await?;
        }
        Ok(Opening {
            planned,
            limit,
            spent,
            clock: self.clock.clone(),
            config: self.config.clone(),
            counters: self.counters.clone(),
            directory: self.directory.clone(),
            log: self.log.clone(),
            stored,
        })
    }
}

/// A budget about to begin.
struct Opening {
    stored: Stored<Resource>,
    planned: PlannedLimit,
    limit: Limit,
    spent: Spent,
    clock: Arc<dyn Clock>,
    config: Arc<dyn ConfigStore>,
    counters: Arc<dyn CounterStore>,
    directory: Arc<Directory>,
    log: Arc<dyn EventLog>,
}

impl Opening {
    /// Everything up to `settled` is in the log and settled, and nothing more comes until this ends.
    /// `None` when it is to be done anew: the period that was summed is over, or the budget has been
    /// changed meanwhile.
    async fn finish(mut self, settled: Position) -> Result<Option<Stored<Resource>>, EngineError> {
        let now = self.clock.now();
        if self.planned.limit_at(now) != self.limit {
            return Ok(None);
        }
        let workspace = self.stored.workspace.clone();
        if let Limit::Budget { bounds: Some(bounds), .. } = self.limit {
            self.spent.add_from_log(&*self.log, &workspace, &self.planned, bounds, settled).await?;
        }
        self.counters.open_budget(&workspace, self.charges(), settled, now).await?;
        let Stored { value, version, .. } = self.stored;
        let Resource::Budget(budget) = value else {
            return Err(EngineError::internal("only a budget can be opened"));
        };
        let opened = Resource::Budget(Budget { opened_after: Some(settled), ..budget });
        let deed = Deed::of_server(OPENING, now);
        let stored = match self.config.replace(&workspace, opened, version, &deed).await {
            Err(StoreError::VersionMismatch) => return Ok(None),
            replaced => replaced?,
        };
        // Not by way of the store, which may fail: the next record has to find it in force.
        self.directory.put_in_force(stored.clone(), now).await;
        Ok(Some(stored))
    }

    fn charges(&self) -> Vec<SettleCharge> {
        let overflow = self.planned.overflow_counter();
        let charge = |(counter, amount): (&CounterId, &i64)| SettleCharge {
            counter: *counter,
            overflow,
            limit: self.limit,
            amount: *amount,
        };
        self.spent.by_counter.iter().map(charge).collect()
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
