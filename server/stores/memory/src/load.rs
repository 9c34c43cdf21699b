//! Starting from what was written down.

use std::collections::BTreeMap;

use rateguard_core::counter::{BudgetCounter, Counter, Position};
use rateguard_core::decision::Entry;
use rateguard_core::ids::WorkspaceId;
use rateguard_core::limits::RESERVATION_TTL_MS_MAX;
use rateguard_core::reservation::Reservation;
use rateguard_core::time::Millis;
use rateguard_engine::ports::{Checkpoint, CounterRow, LeadRow};

use crate::leads::{self, Leads};
use crate::reservations::Kept;
use crate::workspace::Workspace;

/// The workspaces of a checkpoint.
pub(crate) fn workspaces(checkpoint: Checkpoint, now: Millis) -> BTreeMap<WorkspaceId, Workspace> {
    let Checkpoint { position, rows, reservations, leads, crashes, .. } = checkpoint;
    let mut loading = Loading { workspaces: BTreeMap::new(), position, crashes, now };
    for lead in leads {
        loading.lead(lead);
    }
    for row in rows {
        loading.counter(row);
    }
    loading.reservations(reservations);
    loading.workspaces
}

/// After a crash, nobody knows who held what. All that may have been held stays held until the
/// longest of the reservations must be over. Gives the rows that this changes.
pub(crate) fn forget_holders(checkpoint: &mut Checkpoint, now: Millis) -> Vec<CounterRow> {
    let mut changed = Vec::new();
    let rows = if checkpoint.clean { &mut [][..] } else { &mut checkpoint.rows };
    for row in rows {
        let is_changed = match &mut row.counter {
            Counter::Budget(budget) => changes(budget.as_mut(), |budget| forget_holders_of(budget, now)),
            Counter::Concurrency(running) => changes(running.as_mut(), |running| running.forget_holders(now)),
            _ => false,
        };
        if is_changed {
            changed.push(row.clone());
        }
    }
    changed
}

/// After a crash, all that leads allowed may have been taken, up to now. After any start none is in
/// force. Gives the rows that this changes.
pub(crate) fn lose_leads(checkpoint: &mut Checkpoint, now: Millis) -> Vec<LeadRow> {
    // A clock that was set back during the crash would put what is lost before what it follows.
    let at = checkpoint.rows.iter().map(|row| last_instant(&row.counter)).fold(now, Millis::max);
    let crash = (!checkpoint.clean).then_some((checkpoint.crashes, at));
    let mut changed = Vec::new();
    for row in &mut checkpoint.leads {
        let before = row.clone();
        leads::at_start(row, crash, now);
        if *row != before {
            changed.push(row.clone());
        }
    }
    changed
}

/// An instant at which a counter was changed, as far as it tells.
fn last_instant(counter: &Counter) -> Millis {
    match counter {
        Counter::TokenBucket(bucket) => bucket.at,
        Counter::Window(window) => window.start,
        Counter::SlidingWindow(window) => {
            let newest = window.slots.back().map_or(0, |(slot, _)| *slot);
            Millis::new(newest.saturating_mul(window.sub_window_ms))
        }
        Counter::Budget(_) | Counter::Concurrency(_) => Millis::ZERO,
    }
}

fn changes<T: Copy + PartialEq>(state: &mut T, change: impl FnOnce(&mut T)) -> bool {
    let before = *state;
    change(state);
    *state != before
}

fn forget_holders_of(budget: &mut BudgetCounter, now: Millis) {
    budget.current.held = 0;
    if let Some(previous) = &mut budget.previous {
        previous.held = 0;
    }
    if now >= budget.anonymous.until {
        budget.anonymous.nanos = 0;
    }
    if budget.ceiling > 0 {
        budget.anonymous.nanos += std::mem::take(&mut budget.ceiling);
        budget.anonymous.until = now.plus(RESERVATION_TTL_MS_MAX);
    }
}

struct Loading {
    workspaces: BTreeMap<WorkspaceId, Workspace>,
    position: Position,
    crashes: u32,
    now: Millis,
}

impl Loading {
    fn workspace(&mut self, id: WorkspaceId) -> &Workspace {
        let (position, crashes, now) = (self.position, self.crashes, self.now);
        let fresh = |id: &WorkspaceId| Workspace::new(id.clone(), position, Leads::new(crashes), now);
        self.workspaces.entry(id).or_insert_with_key(fresh)
    }

    fn lead(&mut self, row: LeadRow) {
        self.workspace(row.workspace.clone()).lock().counters.leads.load(row);
    }

    fn counter(&mut self, row: CounterRow) {
        let CounterRow { workspace, id, included, counter, crashes } = row;
        self.workspace(workspace).lock().counters.load(id, Entry { counter, included }, crashes);
    }

    fn reservations(&mut self, mut reservations: Vec<(WorkspaceId, Reservation)>) {
        // Records of those that are over are dropped in the order in which they come in.
        reservations.sort_by_key(|(_, reservation)| reservation.expires_at);
        for (workspace, reservation) in reservations {
            let kept = Kept { reservation, cost: None, request: None };
            self.workspace(workspace).lock().reservations.insert(kept);
        }
    }
}

#[cfg(test)]
mod tests;
