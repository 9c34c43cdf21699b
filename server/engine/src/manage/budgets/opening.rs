//! How budgets open: once in the configuration, and in each process for the counters that it has in
//! memory.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use rateguard_core::counter::{CounterId, Limit, Position};
use rateguard_core::ids::{BudgetId, WorkspaceId};
use rateguard_core::plan::{PlannedLimit, plan_budget};
use rateguard_core::rule::{Budget, BudgetPeriod};
use rateguard_core::time::Millis;

use super::OPENING;
use super::spent::Spent;
use crate::audit::Deed;
use crate::clock::Clock;
use crate::directory::Directory;
use crate::engine::Engine;
use crate::error::{EngineError, Reason};
use crate::ports::{
    ConfigStore, CounterStore, EventLog, Resource, ResourceKind, SettleCharge, StoreError, Stored,
};

/// Times that an opening begins anew because its period ended or its budget was changed meanwhile.
const OPENING_ROUNDS_MAX: usize = 8;

/// The budgets that the counters of this process have taken in, as they were then. One that was put in
/// force anew opens here again.
#[derive(Debug, Default)]
pub(crate) struct OpenedHere(HashMap<(WorkspaceId, BudgetId), Budget>);

impl OpenedHere {
    /// Prepaid budgets that were known before the log was read on: every record was charged to them.
    pub(crate) async fn at_start(directory: &Directory) -> Self {
        let mut opened = Self::default();
        for (workspace, budget) in directory.budgets(|_, budget| is_prepaid(budget)).await {
            opened.note(&workspace, &budget);
        }
        opened
    }

    fn note(&mut self, workspace: &WorkspaceId, budget: &Budget) {
        self.0.insert((workspace.clone(), budget.id.clone()), budget.clone());
    }

    /// Forgets budgets that are gone. One that is only switched off stays.
    fn forget_all_but(&mut self, living: Vec<(WorkspaceId, Budget)>) {
        let living: HashSet<_> =
            living.into_iter().map(|(workspace, budget)| (workspace, budget.id)).collect();
        self.0.retain(|place, _| living.contains(place));
    }

    fn has(&self, workspace: &WorkspaceId, budget: &Budget) -> bool {
        let known = self.0.get(&(workspace.clone(), budget.id.clone()));
        budget.opened_after.is_none() || known.is_some_and(|known| has_seen_the_same(known, budget))
    }
}

/// Whether counters that have taken a budget in need nothing for it as it is now. One of a calendar may
/// have been put in force anew at the same position, for other calls. A prepaid one only goes on.
fn has_seen_the_same(known: &Budget, now: &Budget) -> bool {
    let sums_the_same =
        known.matches == now.matches && known.scope == now.scope && known.period == now.period;
    known.opened_after == now.opened_after && (is_prepaid(now) || sums_the_same)
}

fn is_prepaid(budget: &Budget) -> bool {
    matches!(budget.period, BudgetPeriod::Prepaid)
}

impl Engine {
    /// Opens a budget: sums what its period has seen, sets its counters, and only then puts it in
    /// force. The last records are summed and the plan is changed between two appends, so that each
    /// record is either in the sum or charged as it comes. A prepaid budget begins with nothing.
    pub(in crate::manage) async fn open_budget(
        &self,
        stored: &Stored<Resource>,
    ) -> Result<Stored<Resource>, EngineError> {
        // One at a time: whoever waited finds it open.
        let mut opened_here = self.openings.lock().await;
        let id = stored.value.id().to_owned();
        for _ in 0..OPENING_ROUNDS_MAX {
            let found = self.config.get(&stored.workspace, ResourceKind::Budget, &id).await?;
            let found = found.ok_or_else(|| EngineError::not_found("budget", &id))?;
            if matches!(&found.value, Resource::Budget(budget) if budget.opened_after.is_some()) {
                return Ok(found);
            }
            let opening = self.opening(found).await?;
            let opened = self.recorder.between(move |settled| opening.finish(settled)).await??;
            if let Some(opened) = opened {
                if let Resource::Budget(budget) = &opened.value {
                    opened_here.note(&opened.workspace, budget);
                }
                return Ok(opened);
            }
        }
        Err(changed_each_time())
    }

    /// Opens what a stop in the middle left closed, and here what another process has opened.
    ///
    /// # Errors
    /// Those of the stores.
    pub(crate) async fn open_budgets_left(&self) -> Result<(), EngineError> {
        for (workspace, id) in self.directory.closed_budgets().await {
            if let Some(stored) = self.config.get(&workspace, ResourceKind::Budget, id.as_str()).await? {
                self.open_budget(&stored).await?;
            }
        }
        if self.counters.is_shared() {
            return self.rebuild_lost_budgets().await;
        }
        if self.shared { self.open_budgets_here().await } else { Ok(()) }
    }

    /// Counts budgets again from the log whose counters their store has lost, in calendars' periods and
    /// since prepaid ones began. Several processes may do it at once: what is set is the same.
    async fn rebuild_lost_budgets(&self) -> Result<(), EngineError> {
        for workspace in self.counters.lost().await? {
            let _one_at_a_time = self.openings.lock().await;
            let of_it = |id: &WorkspaceId, budget: &Budget| *id == workspace && budget.opened_after.is_some();
            for (_, budget) in self.directory.budgets(of_it).await {
                self.open_here(&workspace, &budget).await?;
            }
            self.counters.rebuilt(&workspace).await?;
            tracing::warn!(%workspace, "budgets whose counters were lost are counted again from the event log");
        }
        Ok(())
    }

    /// Takes into the counters of this process what others have put in force.
    async fn open_budgets_here(&self) -> Result<(), EngineError> {
        let mut opened_here = self.openings.lock().await;
        let is_new =
            |workspace: &WorkspaceId, budget: &Budget| budget.active && !opened_here.has(workspace, budget);
        let new = self.directory.budgets(is_new).await;
        for (workspace, budget) in &new {
            self.open_here(workspace, budget).await?;
            opened_here.note(workspace, budget);
        }
        if !new.is_empty() {
            opened_here.forget_all_but(self.directory.budgets(|_, _| true).await);
        }
        Ok(())
    }

    async fn open_here(&self, workspace: &WorkspaceId, budget: &Budget) -> Result<(), EngineError> {
        for _ in 0..OPENING_ROUNDS_MAX {
            let mut sum = self.summed(workspace, budget).await?;
            let set = self.recorder.between(move |settled| async move { sum.set(settled).await });
            if set.await?? {
                return Ok(());
            }
        }
        Err(changed_each_time())
    }

    pub(super) async fn opening(&self, stored: Stored<Resource>) -> Result<Opening, EngineError> {
        let Resource::Budget(budget) = &stored.value else {
            return Err(EngineError::internal("only a budget can be opened"));
        };
        let sum = self.summed(&stored.workspace, budget).await?;
        Ok(Opening { sum, config: self.config.clone(), directory: self.directory.clone(), stored })
    }

    /// The bulk of the sum, while records go on.
    async fn summed(&self, workspace: &WorkspaceId, budget: &Budget) -> Result<Sum, EngineError> {
        let view = self.view(workspace)?;
        let now = self.now();
        let planned = plan_budget(workspace, &view.workspace.zone, budget, now);
        let limit = planned.limit_at(now);
        let barrier = self.recorder.barrier().await?;
        let (mut spent, since) = match (limit, budget.opened_after) {
            (Limit::Budget { bounds: Some(bounds), .. }, _) => {
                let spent = Spent::sum(&*self.usage, workspace, &planned, bounds, barrier).await?;
                (spent, Some(bounds.start))
            }
            // A prepaid one counts what came since it was put in force, whenever that is accounted.
            (_, Some(after)) => (Spent::nothing_through(after), Some(Millis::ZERO)),
            (_, None) => (Spent::default(), None),
        };
        if let Some(since) = since {
            // What the sums have not got yet, as long as nobody waits for it.
            spent.add_from_log(&*self.log, workspace, &planned, since, barrier).await?;
        }
        Ok(Sum {
            workspace: workspace.clone(),
            planned,
            limit,
            spent,
            since,
            clock: self.clock.clone(),
            counters: self.counters.clone(),
            log: self.log.clone(),
        })
    }
}

fn changed_each_time() -> EngineError {
    EngineError::new(Reason::StoreUnavailable, "the budget changed each time that it was to open")
}

/// What a budget has seen, for counters that are about to begin with it.
struct Sum {
    workspace: WorkspaceId,
    planned: PlannedLimit,
    limit: Limit,
    spent: Spent,
    /// From when on what is accounted counts; `None` for nothing.
    since: Option<Millis>,
    clock: Arc<dyn Clock>,
    counters: Arc<dyn CounterStore>,
    log: Arc<dyn EventLog>,
}

impl Sum {
    /// Sets the counters to everything up to `settled`, which is in the log and settled; nothing more
    /// comes until this ends. False when the period that was summed is over: it is to be done anew.
    async fn set(&mut self, settled: Position) -> Result<bool, EngineError> {
        let now = self.clock.now();
        if self.planned.limit_at(now) != self.limit {
            return Ok(false);
        }
        if let Some(since) = self.since {
            self.spent.add_from_log(&*self.log, &self.workspace, &self.planned, since, settled).await?;
        }
        self.counters.open_budget(&self.workspace, self.charges(), settled, now).await?;
        Ok(true)
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

/// A budget about to begin.
pub(super) struct Opening {
    sum: Sum,
    stored: Stored<Resource>,
    config: Arc<dyn ConfigStore>,
    directory: Arc<Directory>,
}

impl Opening {
    /// As [`Sum::set`], and puts the budget in force after `settled`. `None` when it is to be done
    /// anew: the period that was summed is over, or the budget has been changed meanwhile.
    pub(super) async fn finish(mut self, settled: Position) -> Result<Option<Stored<Resource>>, EngineError> {
        if !self.sum.set(settled).await? {
            return Ok(None);
        }
        let now = self.sum.clock.now();
        let Stored { workspace, value, version, .. } = self.stored;
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
}
