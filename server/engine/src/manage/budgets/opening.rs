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
    BudgetOpening, ConfigStore, CounterStore, EventLog, LostCounters, Resource, ResourceKind, SettleCharge,
    StoreError, Stored,
};

/// Times that an opening begins anew because its period ended or its budget was changed meanwhile.
const OPENING_ROUNDS_MAX: usize = 8;
/// Times that an opening takes in what others have settled meanwhile: each takes as long as reading a few
/// records.
const CATCH_UP_ROUNDS_MAX: usize = 64;

/// The budgets that the counters of this process have taken in, as they were then. One that was put in
/// force anew opens here again.
#[derive(Debug, Default)]
pub(crate) struct OpenedHere {
    known: HashMap<(WorkspaceId, BudgetId), Budget>,
    /// Of each loss that is being mended, the budgets that are counted again already.
    rebuilt: HashMap<WorkspaceId, Rebuilt>,
}

/// How far the mending of one loss has come.
#[derive(Debug)]
struct Rebuilt {
    loss: u128,
    budgets: HashMap<BudgetId, Budget>,
}

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
        self.known.insert((workspace.clone(), budget.id.clone()), budget.clone());
    }

    /// Forgets budgets that are gone. One that is only switched off stays.
    fn forget_all_but(&mut self, living: Vec<(WorkspaceId, Budget)>) {
        let living: HashSet<_> =
            living.into_iter().map(|(workspace, budget)| (workspace, budget.id)).collect();
        self.known.retain(|place, _| living.contains(place));
    }

    fn has(&self, workspace: &WorkspaceId, budget: &Budget) -> bool {
        let known = self.known.get(&(workspace.clone(), budget.id.clone()));
        budget.opened_after.is_none() || known.is_some_and(|known| has_seen_the_same(known, budget))
    }
}

impl OpenedHere {
    /// Whether a budget, as it is now, is counted again after a loss.
    fn was_rebuilt(&self, lost: &LostCounters, budget: &Budget) -> bool {
        let rebuilt = self.rebuilt.get(&lost.workspace).filter(|rebuilt| rebuilt.loss == lost.loss);
        let known = rebuilt.and_then(|rebuilt| rebuilt.budgets.get(&budget.id));
        known.is_some_and(|known| has_seen_the_same(known, budget))
    }

    fn note_rebuilt(&mut self, lost: &LostCounters, budget: &Budget) {
        let fresh = || Rebuilt { loss: lost.loss, budgets: HashMap::new() };
        let rebuilt = self.rebuilt.entry(lost.workspace.clone()).or_insert_with(fresh);
        if rebuilt.loss != lost.loss {
            *rebuilt = fresh();
        }
        rebuilt.budgets.insert(budget.id.clone(), budget.clone());
    }

    fn forget_rebuilt(&mut self, lost: &LostCounters) {
        self.rebuilt.remove(&lost.workspace);
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

    /// Opens what a stop in the middle left closed, and here what another process has opened. What is
    /// lost of counters that others have too comes in turns: until then it denies.
    ///
    /// # Errors
    /// Those of the stores.
    pub(crate) async fn open_budgets_at_start(&self) -> Result<(), EngineError> {
        let closed = self.open_closed_budgets().await;
        if !self.shared || self.counters.is_shared() {
            return closed;
        }
        closed.and(self.open_budgets_here().await)
    }

    /// The same, and counts lost budgets again.
    ///
    /// # Errors
    /// Those of the stores; what could not be opened has its next turn.
    pub(crate) async fn open_budgets_left(&self) -> Result<(), EngineError> {
        let opened = self.open_budgets_at_start().await;
        opened.and(self.rebuild_lost_budgets().await)
    }

    async fn open_closed_budgets(&self) -> Result<(), EngineError> {
        let mut outcome = Ok(());
        for (workspace, id) in self.directory.closed_budgets().await {
            // One that cannot be opened now keeps no other one from it.
            outcome = outcome.and(self.open_closed(&workspace, &id).await);
        }
        outcome
    }

    async fn open_closed(&self, workspace: &WorkspaceId, id: &BudgetId) -> Result<(), EngineError> {
        match self.config.get(workspace, ResourceKind::Budget, id.as_str()).await? {
            Some(stored) => self.open_budget(&stored).await.map(drop),
            None => Ok(()),
        }
    }

    /// Counts budgets again from the log whose counters their store has lost, in calendars' periods and
    /// since prepaid ones began. Several processes may do it at once: what is set is the same. Until
    /// it is done they deny, so that a workspace in which it fails only waits for its next turn.
    async fn rebuild_lost_budgets(&self) -> Result<(), EngineError> {
        let mut outcome = Ok(());
        for lost in self.counters.lost().await? {
            outcome = outcome.and(self.rebuild(&lost).await);
        }
        outcome
    }

    async fn rebuild(&self, lost: &LostCounters) -> Result<(), EngineError> {
        let mut opened_here = self.openings.lock().await;
        let workspace = &lost.workspace;
        let of_it = |id: &WorkspaceId, budget: &Budget| id == workspace && budget.opened_after.is_some();
        for (_, budget) in self.directory.budgets(of_it).await {
            if !opened_here.was_rebuilt(lost, &budget) {
                self.open_here(workspace, &budget).await?;
                opened_here.note_rebuilt(lost, &budget);
            }
        }
        self.counters.rebuilt(lost).await?;
        opened_here.forget_rebuilt(lost);
        self.counter_counts.note_rebuilt();
        tracing::warn!(%workspace, "budgets whose counters were lost are counted again from the event log");
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
            if set.await??.is_some() {
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
    /// comes from this process until this ends. Where others have settled further meanwhile, the records
    /// up to there are taken in too, fewer each time. Says through which position the counters are; `None`
    /// when the period that was summed is over or others were too fast: it is to be done anew.
    async fn set(&mut self, settled: Position) -> Result<Option<Position>, EngineError> {
        let mut through = settled;
        for _ in 0..CATCH_UP_ROUNDS_MAX {
            let now = self.clock.now();
            if self.planned.limit_at(now) != self.limit {
                return Ok(None);
            }
            if let Some(since) = self.since {
                self.spent.add_from_log(&*self.log, &self.workspace, &self.planned, since, through).await?;
            }
            match self.counters.open_budget(&self.workspace, self.charges(), through, now).await? {
                BudgetOpening::Opened => return Ok(Some(through)),
                BudgetOpening::Behind(settled) => through = through.max(settled),
            }
        }
        Ok(None)
    }

    fn charges(&self) -> Vec<SettleCharge> {
        let charge = |(counter, amount): (&CounterId, &i64)| SettleCharge {
            counter: *counter,
            overflow: self.planned.overflow_beside(*counter),
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
        let Some(through) = self.sum.set(settled).await? else { return Ok(None) };
        let now = self.sum.clock.now();
        let Stored { workspace, value, version, .. } = self.stored;
        let Resource::Budget(budget) = value else {
            return Err(EngineError::internal("only a budget can be opened"));
        };
        let opened = Resource::Budget(Budget { opened_after: Some(through), ..budget });
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
