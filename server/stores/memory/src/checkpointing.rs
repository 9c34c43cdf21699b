//! Checkpoints: what changed is written down in batches, each taken under the lock for a moment.
//!
//! All writes go through [`Disk`], one after another, each with the state of its own moment: so a
//! counter on disk never goes back, and its ceiling there is never lower than in memory.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use rateguard_core::counter::{CounterId, Position};
use rateguard_core::ids::WorkspaceId;
use rateguard_core::reservation::Reservation;
use rateguard_engine::ports::{CheckpointBatch, CheckpointStore, StoreError};

use crate::store::{MemoryCounterStore, STORE};
use crate::workspace::Workspace;

/// Counters of one batch: the most that a lock is held for, and that a raised ceiling waits for.
pub(crate) const BATCH_COUNTERS_MAX: usize = 512;
/// Longest wait for one write.
const SAVE_TIMEOUT: Duration = Duration::from_secs(60);

/// The way to the disk, and what is known of what stands there.
pub(crate) struct Disk {
    store: Arc<dyn CheckpointStore>,
    position: Position,
}

impl Disk {
    pub(crate) fn new(store: Arc<dyn CheckpointStore>, position: Position) -> Self {
        Self { store, position }
    }

    /// Writes a batch, durable when it returns.
    pub(crate) async fn save(&mut self, batch: CheckpointBatch) -> Result<(), StoreError> {
        let position = batch.position;
        in_time(self.store.save(batch)).await?;
        self.position = position.unwrap_or(self.position);
        Ok(())
    }

    async fn save_reservations(
        &self,
        reservations: Vec<(WorkspaceId, Reservation)>,
    ) -> Result<(), StoreError> {
        in_time(self.store.save_reservations(reservations)).await
    }
}

async fn in_time(work: impl Future<Output = Result<(), StoreError>>) -> Result<(), StoreError> {
    tokio::time::timeout(SAVE_TIMEOUT, work).await.unwrap_or_else(|_| {
        let detail = "the checkpoint was not written in time".to_owned();
        Err(StoreError::OutcomeUnknown { store: STORE, detail })
    })
}

/// Changes of one workspace that are on their way to the disk. Unless they arrive, they stand as
/// changes again, also when whoever writes them is given up in the middle.
struct Taken {
    workspace: Arc<Workspace>,
    ids: Vec<CounterId>,
}

impl Drop for Taken {
    fn drop(&mut self) {
        if !self.ids.is_empty() {
            self.workspace.lock().counters.put_back(&self.ids);
        }
    }
}

/// What was changed when a checkpoint began: workspaces with the number of their changes.
struct Round(VecDeque<(Arc<Workspace>, usize)>);

impl Round {
    fn of(workspaces: Vec<Arc<Workspace>>) -> Self {
        let changed = workspaces.into_iter().map(|workspace| {
            let changes = workspace.lock().counters.changes();
            (workspace, changes)
        });
        Self(changed.filter(|(_, changes)| *changes > 0).collect())
    }

    fn next(&mut self) -> (CheckpointBatch, Vec<Taken>) {
        let (mut batch, mut taken, mut room) = (CheckpointBatch::default(), Vec::new(), BATCH_COUNTERS_MAX);
        while room > 0 {
            let Some((workspace, changes)) = self.0.pop_front() else { break };
            let count = changes.min(room);
            let ids = workspace.lock().counters.take_changes(&workspace.id, count, &mut batch);
            taken.push(Taken { workspace: workspace.clone(), ids });
            room -= count;
            // The batch is full then: a workspace gives to it once, and no counter is in it twice.
            if changes > count {
                self.0.push_front((workspace, changes - count));
            }
        }
        (batch, taken)
    }
}

impl MemoryCounterStore {
    pub(crate) async fn write_down(&self, clean: bool) -> Result<(), StoreError> {
        let _alone = self.rounds.lock().await;
        self.write_counters().await?;
        if clean {
            self.disk.lock().await.save_reservations(self.all_reservations()).await?;
        }
        Ok(())
    }

    /// Every counter that a record up to here has changed is among the changes of the round, so
    /// with its last batch all counters on disk include that position.
    async fn write_counters(&self) -> Result<(), StoreError> {
        let through = self.settled_through();
        let mut round = Round::of(self.all_workspaces());
        loop {
            let mut disk = self.disk.lock().await;
            let (mut batch, taken) = round.next();
            let is_last = round.0.is_empty();
            batch.position = Some(through).filter(|through| is_last && *through > disk.position);
            if batch != CheckpointBatch::default() {
                disk.save(batch).await?;
            }
            taken.into_iter().for_each(|mut taken| taken.ids.clear());
            if is_last {
                return Ok(());
            }
        }
    }

    fn all_reservations(&self) -> Vec<(WorkspaceId, Reservation)> {
        let mut all = Vec::new();
        for workspace in self.all_workspaces() {
            all.extend(workspace.lock().reservations.all().map(|r| (workspace.id.clone(), r.clone())));
        }
        all
    }
}

#[cfg(test)]
mod tests;
