//! Ceilings: what a budget or a concurrency limit may hold before more is promised on disk.
//!
//! A crash forgets the reservations. What they held is bounded by the ceiling that was on disk
//! before, so a RESERVE that would pass it raises it first. Raising happens without the
//! workspace's lock: checks that pass no ceiling go on meanwhile, and those that wait share one
//! write.

use std::sync::Arc;
use std::time::Duration;

use rateguard_core::counter::{Counter, CounterId, Limit};
use rateguard_core::decision::{Charge, Counters, Entry, Verdict};
use rateguard_core::ids::WorkspaceId;
use rateguard_core::rule::Enforcement;
use rateguard_engine::ports::{CheckpointBatch, CounterRow, StoreError};
use smallvec::SmallVec;

use crate::counters::CounterTable;
use crate::store::STORE;
use crate::workspace::{State, Workspace};
use crate::writes::{Writes, apart};

/// Longest wait for a ceiling, with the writes before it.
const RAISE_TIMEOUT: Duration = Duration::from_secs(5);
/// A step of the ceiling: at least this part of the limit.
const STEP_OF_LIMIT: i128 = 100;
/// A step of the ceiling: at least this many times what is held.
const STEP_OF_HELD: i128 = 2;

/// A hold that passes a ceiling.
#[derive(Clone, Debug)]
pub(crate) struct Want {
    /// The charge's place in its check.
    place: usize,
    counter: CounterId,
    limit: Limit,
    amount: i64,
}

/// The holds of one check that pass ceilings.
pub(crate) type Wants = SmallVec<[Want; 2]>;

impl Want {
    /// What a charge wants of its ceiling, when it would pass it.
    pub(crate) fn of(counters: &CounterTable, place: usize, charge: &Charge) -> Option<Self> {
        let is_held = matches!(charge.limit, Limit::Budget { .. } | Limit::Concurrency { .. });
        let is_hold = is_held && charge.demand.take > 0;
        let want =
            || Self { place, counter: charge.counter, limit: charge.limit, amount: charge.demand.take };
        is_hold.then(want).filter(|want| want.is_open(counters))
    }

    /// Whether the hold is made if the check is allowed: a shadow that would deny takes nothing.
    pub(crate) fn is_taken(&self, charges: &[Charge], verdict: &Verdict) -> bool {
        let shadow = charges.get(self.place).is_some_and(|c| c.enforcement == Enforcement::Shadow);
        let denied = verdict.readings.get(self.place).is_some_and(|reading| reading.denied.is_some());
        !(shadow && denied)
    }

    fn is_open(&self, counters: &CounterTable) -> bool {
        let (held, ceiling) = counters
            .get(self.counter)
            .map_or((0, 0), |Entry { counter, .. }| (held(counter), ceiling(counter)));
        held + i128::from(self.amount) > ceiling
    }
}

/// What reservations hold in a counter.
fn held(counter: &Counter) -> i128 {
    match counter {
        Counter::Budget(budget) => budget.held(),
        Counter::Concurrency(concurrency) => concurrency.held.into(),
        _ => 0,
    }
}

fn ceiling(counter: &Counter) -> i128 {
    match counter {
        Counter::Budget(budget) => budget.ceiling,
        Counter::Concurrency(concurrency) => concurrency.ceiling.into(),
        _ => 0,
    }
}

fn set_ceiling(counter: &mut Counter, ceiling: i128) {
    match counter {
        Counter::Budget(budget) => budget.ceiling = ceiling,
        Counter::Concurrency(concurrency) => {
            concurrency.ceiling = i64::try_from(ceiling).unwrap_or(i64::MAX);
        }
        _ => {}
    }
}

/// The ceiling for `held` and a step ahead of it.
fn ceiling_for(held: i128, limit: &Limit) -> i128 {
    let size = i128::from(limit.size());
    let ahead = held + (size / STEP_OF_LIMIT).max(held * STEP_OF_HELD);
    match limit {
        // No more calls run at once than may, so a crash need not leave room for more.
        Limit::Concurrency { .. } => ahead.min(size.max(held)),
        _ => ahead,
    }
}

/// All that is wanted of one counter.
pub(crate) struct Raise {
    workspace: Arc<Workspace>,
    counter: CounterId,
    limit: Limit,
    amount: i128,
}

impl Raise {
    fn is_for(&self, workspace: &WorkspaceId, counter: CounterId) -> bool {
        self.workspace.id == *workspace && self.counter == counter
    }

    /// The counter as it stands, under its new ceiling. Its row carries the position that it
    /// includes, so that it may be written at any time.
    fn row(&self) -> CounterRow {
        let state = self.workspace.lock();
        let Entry { mut counter, included } = state.entry_or_fresh(self.counter, &self.limit);
        let raised = ceiling(&counter).max(ceiling_for(held(&counter) + self.amount, &self.limit));
        set_ceiling(&mut counter, raised);
        CounterRow { workspace: self.workspace.id.clone(), id: self.counter, included, counter, crashes: 0 }
    }

    /// Puts a ceiling that is on disk in force.
    fn apply(&self, row: &CounterRow) {
        let mut state = self.workspace.lock();
        let entry = state.entry_or_insert(self.counter, &self.limit);
        set_ceiling(&mut entry.counter, ceiling(&row.counter));
    }
}

/// Puts what is wanted of the same counter together.
fn enqueue(pending: &mut Vec<Raise>, workspace: &Arc<Workspace>, wants: &Wants) {
    for want in wants {
        let amount = i128::from(want.amount);
        match pending.iter_mut().find(|raise| raise.is_for(&workspace.id, want.counter)) {
            Some(raise) => raise.amount += amount,
            None => {
                let Want { counter, limit, .. } = *want;
                pending.push(Raise { workspace: workspace.clone(), counter, limit, amount });
            }
        }
    }
}

impl Writes {
    /// Raises ceilings until the holds fit, unless others take what was raised meanwhile.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when nothing could be written; nothing is held then.
    pub(crate) async fn raise(
        self: &Arc<Self>,
        workspace: &Arc<Workspace>,
        wants: Wants,
    ) -> Result<(), StoreError> {
        enqueue(&mut self.raises.lock(), workspace, &wants);
        // Whatever became of the write, nothing was decided.
        let unavailable =
            |error: StoreError| StoreError::Unavailable { store: STORE, detail: error.to_string() };
        apart(self.clone().raised_in_time(workspace.clone(), wants)).await.map_err(unavailable)
    }

    async fn raised_in_time(
        self: Arc<Self>,
        workspace: Arc<Workspace>,
        wants: Wants,
    ) -> Result<(), StoreError> {
        tokio::time::timeout(RAISE_TIMEOUT, self.raise_pending(&workspace, &wants)).await.unwrap_or_else(
            |_| {
                let detail = "a budget's ceiling could not be written in time".to_owned();
                Err(StoreError::OutcomeUnknown { store: STORE, detail })
            },
        )
    }

    /// Whoever comes first writes for all who wait.
    async fn raise_pending(&self, workspace: &Arc<Workspace>, wants: &Wants) -> Result<(), StoreError> {
        let mut disk = self.disk.lock().await;
        let open: Wants = open(&workspace.lock(), wants);
        if open.is_empty() {
            return Ok(());
        }
        let raises = self.take_raises(workspace, &open);
        let rows: Vec<CounterRow> = raises.iter().map(Raise::row).collect();
        disk.save(CheckpointBatch { rows: rows.clone(), ..CheckpointBatch::default() }).await?;
        for (raise, row) in raises.iter().zip(&rows) {
            raise.apply(row);
        }
        Ok(())
    }

    /// What all who wait want. One whose write failed for somebody else is in it no more and comes
    /// in again.
    fn take_raises(&self, workspace: &Arc<Workspace>, open: &Wants) -> Vec<Raise> {
        let mut raises = std::mem::take(&mut *self.raises.lock());
        let known = |want: &Want| raises.iter().any(|raise| raise.is_for(&workspace.id, want.counter));
        let missing: Wants = open.iter().filter(|want| !known(want)).cloned().collect();
        enqueue(&mut raises, workspace, &missing);
        raises
    }
}

fn open(state: &State, wants: &Wants) -> Wants {
    wants.iter().filter(|want| want.is_open(&state.counters)).cloned().collect()
}

#[cfg(test)]
mod tests;
