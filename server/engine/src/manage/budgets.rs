//! Budgets: a new one begins with what its period has seen already.

use std::collections::HashMap;

use rateguard_core::counter::{CounterId, Limit, Position};
use rateguard_core::ids::WorkspaceId;
use rateguard_core::limits::{OCCURRED_AHEAD_MS_MAX, PAGE_SIZE_MAX};
use rateguard_core::plan::{LimitId, PlannedLimit};
use rateguard_core::rule::Budget;
use rateguard_core::time::Millis;
use rateguard_core::usage::LoggedEvent;

use crate::caller::Caller;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::ports::{EventFilter, EventQuery, SettleCharge};
use crate::settlement::facts;
use rateguard_core::counter::Reading;

/// Longest time between a call and the decision at which its cost is accounted: the longest a
/// reservation's record stands.
const ACCOUNTED_BEFORE_MS_MAX: i64 = rateguard_core::limits::RESERVATION_RECORD_MS;

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

    /// Adds to a new calendar budget what its period has seen before it existed: the plan has it
    /// already, so every record after the barrier is charged by itself. A prepaid budget begins
    /// with nothing spent.
    pub(super) async fn open_budget(
        &self,
        workspace: &WorkspaceId,
        budget: &Budget,
    ) -> Result<(), EngineError> {
        let (view, now) = (self.view(workspace)?, self.now());
        let wanted = LimitId::Budget(budget.id.clone());
        let Some(planned) = view.plan.limits().iter().find(|limit| limit.id == wanted) else {
            return Ok(());
        };
        let Limit::Budget { bounds: Some(bounds), .. } = planned.limit_at(now) else { return Ok(()) };
        let through = self.recorder.barrier().await?;
        let spent = self.spent_since(workspace, planned, bounds.start, through).await?;
        let limit = planned.limit_at(now);
        let overflow = planned.overflow_counter();
        let openings =
            spent.into_iter().map(|(counter, amount)| SettleCharge { counter, overflow, limit, amount });
        Ok(self.counters.open_budget(workspace, openings.collect(), through, now).await?)
    }

    async fn spent_since(
        &self,
        workspace: &WorkspaceId,
        planned: &PlannedLimit,
        start: Millis,
        through: Position,
    ) -> Result<HashMap<CounterId, i64>, EngineError> {
        let first = start.plus(-OCCURRED_AHEAD_MS_MAX);
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
