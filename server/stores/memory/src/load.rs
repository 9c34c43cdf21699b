//! Starting from what was written down.

use std::collections::BTreeMap;

use rateguard_core::counter::{BudgetCounter, Counter, Position};
use rateguard_core::decision::Entry;
use rateguard_core::ids::WorkspaceId;
use rateguard_core::limits::RESERVATION_TTL_MS_MAX;
use rateguard_core::reservation::Reservation;
use rateguard_core::time::Millis;
use rateguard_engine::ports::{Checkpoint, CounterRow};

use crate::reservations::Kept;
use crate::workspace::Workspace;

/// The workspaces of a checkpoint.
pub(crate) fn workspaces(checkpoint: Checkpoint, now: Millis) -> BTreeMap<WorkspaceId, Workspace> {
    let Checkpoint { position, rows, reservations, .. } = checkpoint;
    let mut loading = Loading { workspaces: BTreeMap::new(), position, now };
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
    now: Millis,
}

impl Loading {
    fn workspace(&mut self, id: WorkspaceId) -> &Workspace {
        let (position, now) = (self.position, self.now);
        self.workspaces.entry(id).or_insert_with_key(|id| Workspace::new(id.clone(), position, now))
    }

    fn counter(&mut self, row: CounterRow) {
        let CounterRow { workspace, id, included, counter } = row;
        self.workspace(workspace).lock().counters.load(id, Entry { counter, included });
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
