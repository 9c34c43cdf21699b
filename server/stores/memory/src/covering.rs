//! Checks that took more than a lead covers: they are answered when what they took is on disk.
//!
//! Whoever comes first writes for all who wait, in all workspaces, and raises the leads with it.

use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use rateguard_core::counter::{CounterId, Limit};
use rateguard_core::ids::WorkspaceId;
use rateguard_engine::ports::{CheckpointBatch, LeadRow, StoreError};
use smallvec::SmallVec;

use crate::checkpointing::{Changes, Disk, LOCKED_COUNTERS_MAX};
use crate::store::STORE;
use crate::workspace::Workspace;
use crate::writes::{Writes, apart};

/// Longest wait for the disk, with the writes before.
const COVER_TIMEOUT: Duration = Duration::from_secs(5);

/// A counter of which more was taken than its lead covers, with the limit that it was taken under.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Uncovered {
    pub(crate) counter: CounterId,
    pub(crate) limit: Limit,
}

/// The counters of one check that its leads do not cover.
pub(crate) type UncoveredCounters = SmallVec<[Uncovered; 4]>;

/// Workspaces in which checks wait, with what they took.
pub(crate) type Waiting = HashMap<WorkspaceId, (Arc<Workspace>, Vec<Uncovered>)>;

/// What is written of one workspace.
struct Cover {
    changes: Changes,
    leads: Vec<LeadRow>,
}

impl Cover {
    fn of(workspace: Arc<Workspace>, mut uncovered: Vec<Uncovered>) -> Self {
        uncovered.sort_unstable_by_key(|uncovered| uncovered.counter);
        uncovered.dedup_by_key(|uncovered| uncovered.counter);
        let leads = workspace.lock().counters.raise_leads(&workspace.id, &uncovered);
        let ids = uncovered.iter().map(|uncovered| uncovered.counter).collect();
        Self { changes: Changes::new(workspace, ids), leads }
    }

    fn send(&mut self, batch: &mut CheckpointBatch) {
        while self.changes.send(LOCKED_COUNTERS_MAX, batch) > 0 {}
        batch.leads.extend(self.leads.iter().cloned());
    }

    /// First what is on disk is taken off, then the leads that are there cover the rest.
    fn arrived(mut self) {
        self.changes.arrive();
        self.changes.workspace.lock().counters.leads.arrived(&self.leads);
    }
}

/// Waits for the disk no longer than it may take.
async fn in_time(writing: impl Future<Output = Result<(), StoreError>>) -> Result<(), StoreError> {
    let unknown = |detail| StoreError::OutcomeUnknown { store: STORE, detail };
    match tokio::time::timeout(COVER_TIMEOUT, writing).await {
        Ok(written) => written.map_err(|error| unknown(error.to_string())),
        Err(_) => Err(unknown("what was taken could not be written in time".to_owned())),
    }
}

impl Writes {
    /// Waits until what a check took is on disk.
    ///
    /// # Errors
    /// [`StoreError::OutcomeUnknown`]: the amounts are taken, and the disk may have them or not.
    pub(crate) async fn cover(
        self: &Arc<Self>,
        workspace: &Arc<Workspace>,
        uncovered: UncoveredCounters,
    ) -> Result<(), StoreError> {
        self.wait_with(workspace, &uncovered);
        let (writes, workspace) = (self.clone(), workspace.clone());
        apart(async move { in_time(writes.cover_waiting(&workspace, &uncovered)).await }).await
    }

    /// Waits until counters are on disk as they stand, whatever their leads cover.
    ///
    /// # Errors
    /// As [`Writes::cover`].
    pub(crate) async fn write_through(
        self: &Arc<Self>,
        workspace: &Arc<Workspace>,
        counters: UncoveredCounters,
    ) -> Result<(), StoreError> {
        let (writes, workspace) = (self.clone(), workspace.clone());
        let writing = async move {
            let mut disk = writes.disk.lock().await;
            writes.wait_with(&workspace, &counters);
            writes.write_covers(&mut disk).await
        };
        apart(async move { in_time(writing).await }).await
    }

    fn wait_with(&self, workspace: &Arc<Workspace>, uncovered: &[Uncovered]) {
        let mut waiting = self.waiting.lock();
        let (_, all) = waiting.entry(workspace.id.clone()).or_insert_with(|| (workspace.clone(), Vec::new()));
        all.extend_from_slice(uncovered);
    }

    async fn cover_waiting(
        &self,
        workspace: &Arc<Workspace>,
        uncovered: &[Uncovered],
    ) -> Result<(), StoreError> {
        let mut disk = self.disk.lock().await;
        if workspace.lock().counters.are_covered(uncovered) {
            return Ok(());
        }
        // Where a write failed for somebody else, this check is in the list no more.
        self.wait_with(workspace, uncovered);
        self.write_covers(&mut disk).await
    }

    async fn write_covers(&self, disk: &mut Disk) -> Result<(), StoreError> {
        let waiting = std::mem::take(&mut *self.waiting.lock());
        let mut covers: Vec<Cover> =
            waiting.into_values().map(|(workspace, uncovered)| Cover::of(workspace, uncovered)).collect();
        let mut batch = CheckpointBatch::default();
        covers.iter_mut().for_each(|cover| cover.send(&mut batch));
        disk.save(batch).await?;
        covers.into_iter().for_each(Cover::arrived);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
