//! Budgets: a new one begins with what its period has seen already.

use std::collections::HashMap;
use std::sync::Arc;

use rateguard_core::counter::{CounterId, Limit, Position};
use rateguard_core::ids::WorkspaceId;
use rateguard_core::limits::{OCCURRED_AHEAD_MS_MAX, OCCURRED_BEFORE_MS_MAX, PAGE_SIZE_MAX};
use rateguard_core::plan::{LimitId, PlannedLimit, plan_budget};
use rateguard_core::rule::{Budget, BudgetPeriod};
use rateguard_core::time::Millis;
use rateguard_core::usage::LoggedEvent;
use thiserror::Error;

use crate::caller::Caller;
use crate::directory::Directory;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::ports::{
    ConfigStore, CounterStore, EventFilter, EventLog, EventQuery, Resource, ResourceKind, SettleCharge,
    StoreError, Stored,
};
use crate::settlement::facts;
use rateguard_core::counter::Reading;

/// Longest time between a call and the decision at which its cost is accounted: the longest a
/// reservation's record stands.
const ACCOUNTED_BEFORE_MS_MAX: i64 = rateguard_core::limits::RESERVATION_RECORD_MS;

/// The version of a budget that has opened and was not changed since: the second, by its opening.
const OPENED_VERSION: u64 = 2;

/// Which budgets may be counted again from the log when their counters are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recount {
    /// Those alone whose spending the log gives exactly.
    Exact,
    /// All, by what each matches today. A prepaid budget may have matched other calls before, or
    /// none for a time; and one that is switched off begins with nothing.
    AsTheyStand,
}

/// Why budgets are not counted again.
#[derive(Debug, Error)]
pub enum RecountError {
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Prepaid budgets were changed since they began.
    #[error("what is spent of prepaid budgets that were changed since they began is in no other file: {0}")]
    Changed(String),
}

/// Makes budgets ready to be counted again from the log after their counters were lost, and gives
/// the position to begin after. Those of a calendar open anew at the start, with what their period
/// has seen; prepaid ones are given every record since they began. It may be repeated.
///
/// # Errors
/// [`RecountError::Changed`] before anything is written.
pub async fn prepare_recount(
    config: &dyn ConfigStore,
    log_end: Position,
    recount: Recount,
    now: Millis,
) -> Result<Position, RecountError> {
    let resources = config.snapshot().await?.resources;
    let budgets: Vec<(&Stored<Resource>, &Budget)> = resources.iter().filter_map(opened_budget).collect();
    let prepaid = |budget: &Budget| matches!(budget.period, BudgetPeriod::Prepaid);
    let changed: Vec<String> = budgets
        .iter()
        .filter(|(stored, budget)| prepaid(budget) && (stored.version > OPENED_VERSION || !budget.active))
        .map(|(stored, budget)| format!("{} ({}) of {}", budget.id, budget.name, stored.workspace))
        .collect();
    if recount == Recount::Exact && !changed.is_empty() {
        return Err(RecountError::Changed(changed.join(", ")));
    }
    for (stored, budget) in budgets.iter().filter(|(_, budget)| !prepaid(budget)) {
        let closed = Resource::Budget(Budget { opened_after: None, ..(*budget).clone() });
        config.replace(&stored.workspace, closed, stored.version, now).await?;
    }
    let beginnings = budgets.iter().filter(|(_, budget)| prepaid(budget));
    Ok(beginnings.filter_map(|(_, budget)| budget.opened_after).min().unwrap_or(log_end).min(log_end))
}

fn opened_budget(stored: &Stored<Resource>) -> Option<(&Stored<Resource>, &Budget)> {
    match &stored.value {
        Resource::Budget(budget) if budget.opened_after.is_some() => Some((stored, budget)),
        _ => None,
    }
}

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
        caller: &Caller,
        budget: &Budget,
    ) -> Result<Option<BudgetStanding>, EngineError> {
        let (view, now) = (self.view(&caller.workspace)?, self.now());
        let wanted = LimitId::Budget(budget.id.clone());
        let planned = view.plan.limits().iter().find(|l| l.id == wanted && l.scope.dimensions.is_empty());
        let Some((planned, counter)) = planned.and_then(|l| Some((l, l.only_counter()?))) else {
            return Ok(None);
        };
        let limit = planned.limit_at(now);
        let readings = self.counters.read(&caller.workspace, &[(counter, limit)], now).await?;
        Ok(readings.first().map(|reading| BudgetStanding { limit, reading: *reading }))
    }

    /// Opens a budget: sums what its period has seen, sets its counters, and only then puts it in
    /// force. The last records are summed and the plan is changed between two appends, so that each
    /// record is either in the sum or charged as it comes. A prepaid budget begins with nothing.
    pub(super) async fn open_budget(
        &self,
        stored: Stored<Resource>,
    ) -> Result<Stored<Resource>, EngineError> {
        // One at a time: whoever waited finds it open.
        let _turn = self.openings.lock().await;
        let id = stored.value.id().to_owned();
        let stored = self.config.get(&stored.workspace, ResourceKind::Budget, &id).await?;
        let stored = stored.ok_or_else(|| EngineError::not_found("budget", &id))?;
        if matches!(&stored.value, Resource::Budget(budget) if budget.opened_after.is_some()) {
            return Ok(stored);
        }
        let opening = self.summed_opening(stored).await?;
        self.recorder.between(move |settled| opening.finish(settled)).await?
    }

    /// Opens what a stop in the middle left closed.
    ///
    /// # Errors
    /// Those of the stores.
    pub(crate) async fn open_budgets_left(&self) -> Result<(), EngineError> {
        for (workspace, id) in self.directory.closed_budgets().await {
            if let Some(stored) = self.config.get(&workspace, ResourceKind::Budget, id.as_str()).await? {
                self.open_budget(stored).await?;
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
        let (mut spent, mut through) = (HashMap::new(), Position::default());
        if let Limit::Budget { bounds: Some(bounds), .. } = limit {
            through = self.recorder.barrier().await?;
            spent = self.spent_since(&stored.workspace, &planned, bounds.start, through).await?;
        }
        Ok(Opening {
            planned,
            limit,
            spent,
            through,
            now,
            config: self.config.clone(),
            counters: self.counters.clone(),
            directory: self.directory.clone(),
            log: self.log.clone(),
            stored,
        })
    }

    async fn spent_since(
        &self,
        workspace: &WorkspaceId,
        planned: &PlannedLimit,
        start: Millis,
        through: Position,
    ) -> Result<HashMap<CounterId, i64>, EngineError> {
        // A call that is accounted in the period may be said to have happened long before it.
        let first = start.plus(-OCCURRED_BEFORE_MS_MAX);
        let last = self.now().plus(OCCURRED_AHEAD_MS_MAX + ACCOUNTED_BEFORE_MS_MAX);
        let filter = EventFilter { occurred: Some(first..last), ..EventFilter::default() };
        let mut before = Some(Position(through.0.saturating_add(1)));
        let mut spent = HashMap::new();
        while let Some(position) = before {
            let query = EventQuery { filter: filter.clone(), before: Some(position), limit: PAGE_SIZE_MAX };
            let page = self.usage.events(workspace, &query).await?;
            page.events.iter().for_each(|logged| add_spent(&mut spent, planned, start, logged));
            before = page.next_before;
        }
        Ok(spent)
    }
}

/// A budget about to begin.
struct Opening {
    stored: Stored<Resource>,
    planned: PlannedLimit,
    limit: Limit,
    /// What its counters have seen up to `through`.
    spent: HashMap<CounterId, i64>,
    through: Position,
    now: Millis,
    config: Arc<dyn ConfigStore>,
    counters: Arc<dyn CounterStore>,
    directory: Arc<Directory>,
    log: Arc<dyn EventLog>,
}

impl Opening {
    /// Everything up to `settled` is in the log and settled, and nothing more comes until this ends.
    async fn finish(mut self, settled: Position) -> Result<Stored<Resource>, EngineError> {
        self.sum_up_to(settled).await?;
        let workspace = self.stored.workspace.clone();
        self.counters.open_budget(&workspace, self.charges(), settled, self.now).await?;
        let Stored { value, version, .. } = self.stored;
        let Resource::Budget(budget) = value else {
            return Err(EngineError::internal("only a budget can be opened"));
        };
        let opened = Resource::Budget(Budget { opened_after: Some(settled), ..budget });
        let stored = self.config.replace(&workspace, opened, version, self.now).await?;
        self.directory.refresh(self.now).await?;
        Ok(stored)
    }

    async fn sum_up_to(&mut self, settled: Position) -> Result<(), EngineError> {
        let Limit::Budget { bounds: Some(bounds), .. } = self.limit else { return Ok(()) };
        while self.through < settled {
            let events = self.log.read_after(self.through, PAGE_SIZE_MAX).await?;
            let Some(last) = events.last() else { break };
            self.through = last.position;
            let own = events.iter().filter(|logged| logged.position <= settled);
            own.filter(|logged| logged.event.workspace == self.stored.workspace)
                .for_each(|logged| add_spent(&mut self.spent, &self.planned, bounds.start, logged));
        }
        Ok(())
    }

    fn charges(&self) -> Vec<SettleCharge> {
        let overflow = self.planned.overflow_counter();
        let charge = |(counter, amount): (&CounterId, &i64)| SettleCharge {
            counter: *counter,
            overflow,
            limit: self.limit,
            amount: *amount,
        };
        self.spent.iter().map(charge).collect()
    }
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

fn add_spent(
    spent: &mut HashMap<CounterId, i64>,
    planned: &PlannedLimit,
    start: Millis,
    logged: &LoggedEvent,
) {
    let facts = facts(&logged.event);
    if logged.event.accounted_at < start || planned.matches.test(&facts).is_err() {
        return;
    }
    if let Some(counter) = planned.counter(&facts) {
        let sum = spent.entry(counter).or_default();
        *sum = sum.saturating_add(logged.event.cost.get());
    }
}
