//! The store: workspaces, and the port over them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use hashbrown::HashMap;
use parking_lot::RwLock;
use rateguard_core::counter::{Position, Reading};
use rateguard_core::ids::{ReservationId, WorkspaceId};
use rateguard_core::lease::LeaseOutcome;
use rateguard_core::reservation::Reservation;
use rateguard_core::time::Millis;
use rateguard_engine::ports::{
    CheckCommand, CheckOutcome, CheckpointBatch, CheckpointStore, CounterHealth, CounterQuery, CounterStore,
    ExpiredReservation, LeaseCommand, LiveBudgets, Overflowed, Principal, ReleaseOutcome, SettleCharge,
    SettleCommand, StoreError,
};

use crate::ceilings::Raise;
use crate::checkpointing::{BATCH_COUNTERS_MAX, Disk};
use crate::config::MemoryCounterStoreConfig;
use crate::load;
use crate::workspace::{Shared, Step, Workspace};
use rateguard_engine::request_ids::RequestIds;

/// The name by which errors know the store.
pub(crate) const STORE: &str = "counter";
/// How often a check may find that others took the ceiling that it had raised.
const RAISE_ROUNDS_MAX: usize = 8;
/// Records settled before other tasks have their turn.
const SETTLED_PER_TURN: usize = 256;
/// Reservations of one workspace expired under one lock.
const EXPIRED_PER_LOCK: usize = 256;
/// Maps of one workspace swept at once: the whole of it in 16 rounds.
const SWEPT_MAPS: usize = 16;
/// Records of old reservations dropped under one lock.
const DROPPED_RESERVATIONS: usize = 1_024;

/// Counters in memory, with checkpoints.
pub struct MemoryCounterStore {
    pub(crate) shared: Shared,
    workspaces: RwLock<HashMap<WorkspaceId, Arc<Workspace>>>,
    /// Over all workspaces: every record up to here is in the counters.
    settled_through: AtomicU64,
    /// Recovery would begin here.
    pub(crate) written_through: AtomicU64,
    recovered_through: Position,
    /// When it was loaded; no workspace's clock is before it.
    loaded_at: Millis,
    /// Ceilings that wait to be raised together.
    pub(crate) raises: parking_lot::Mutex<Vec<Raise>>,
    /// Whoever has it writes; everybody else waits.
    pub(crate) disk: tokio::sync::Mutex<Disk>,
    /// Keeps checkpoints apart.
    pub(crate) rounds: Arc<tokio::sync::Mutex<()>>,
}

impl MemoryCounterStore {
    /// Starts from a checkpoint. Records of the log after [`CounterStore::recovered_through`] have
    /// to be settled before the first decision.
    ///
    /// # Errors
    /// Those of the checkpoint's store.
    pub async fn load(
        store: Arc<dyn CheckpointStore>,
        config: MemoryCounterStoreConfig,
        now: Millis,
    ) -> Result<Self, StoreError> {
        let mut checkpoint = store.load().await?;
        let position = checkpoint.position;
        let mut disk = Disk::new(store, position);
        // What a crash left held is on disk with its end before anybody asks, so that it ends then
        // whatever starts come after this one.
        for rows in load::forget_holders(&mut checkpoint, now).chunks(BATCH_COUNTERS_MAX) {
            disk.save(CheckpointBatch { rows: rows.to_vec(), ..CheckpointBatch::default() }).await?;
        }
        let workspaces = load::workspaces(checkpoint, now);
        Ok(Self {
            shared: Shared { config, ids: RequestIds::new(config.request_ids_bytes_max) },
            workspaces: RwLock::new(workspaces.into_iter().map(|(id, w)| (id, Arc::new(w))).collect()),
            settled_through: AtomicU64::new(position.0),
            written_through: AtomicU64::new(position.0),
            recovered_through: position,
            loaded_at: now,
            raises: parking_lot::Mutex::default(),
            disk: tokio::sync::Mutex::new(disk),
            rounds: Arc::default(),
        })
    }

    pub(crate) fn settled_through(&self) -> Position {
        Position(self.settled_through.load(Ordering::Acquire))
    }

    pub(crate) fn all_workspaces(&self) -> Vec<Arc<Workspace>> {
        self.workspaces.read().values().cloned().collect()
    }

    fn known(&self, id: &WorkspaceId) -> Option<Arc<Workspace>> {
        self.workspaces.read().get(id).cloned()
    }

    pub(crate) fn workspace(&self, id: &WorkspaceId) -> Arc<Workspace> {
        if let Some(known) = self.known(id) {
            return known;
        }
        let fresh = || Arc::new(Workspace::new(id.clone(), self.recovered_through, self.loaded_at));
        self.workspaces.write().entry(id.clone()).or_insert_with(fresh).clone()
    }
}

#[async_trait]
impl CounterStore for MemoryCounterStore {
    async fn check(&self, command: &CheckCommand) -> Result<CheckOutcome, StoreError> {
        let workspace = self.workspace(&command.workspace);
        for _ in 0..RAISE_ROUNDS_MAX {
            match workspace.check(command, &self.shared)? {
                Step::Break(outcome) => return Ok(outcome),
                Step::Continue(wants) => self.raise(&workspace, wants).await?,
            }
        }
        let detail = "others took what a budget's ceiling was raised by".to_owned();
        Err(StoreError::Unavailable { store: STORE, detail })
    }

    async fn recall(&self, command: &CheckCommand) -> Result<Option<CheckOutcome>, StoreError> {
        Ok(self.workspace(&command.workspace).recall(command, &self.shared))
    }

    async fn read(
        &self,
        workspace: &WorkspaceId,
        counters: &[CounterQuery],
        now: Millis,
    ) -> Result<Vec<Reading>, StoreError> {
        Ok(self.workspace(workspace).read(counters, now, &self.shared))
    }

    async fn lease(&self, command: &LeaseCommand) -> Result<Vec<LeaseOutcome>, StoreError> {
        Ok(self.workspace(&command.workspace).lease(command, &self.shared))
    }

    async fn reservation(
        &self,
        workspace: &WorkspaceId,
        id: &ReservationId,
    ) -> Result<Option<Reservation>, StoreError> {
        Ok(self.known(workspace).and_then(|workspace| workspace.lock().reservations.get(id).cloned()))
    }

    async fn settle(&self, commands: Vec<SettleCommand>) -> Result<(), StoreError> {
        for turn in commands.chunks(SETTLED_PER_TURN) {
            for command in turn {
                self.workspace(&command.workspace).settle(command, &self.shared);
                self.settled_through.fetch_max(command.position.0, Ordering::AcqRel);
            }
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    async fn release(
        &self,
        workspace: &WorkspaceId,
        id: &ReservationId,
        principal: &Principal,
        now: Millis,
    ) -> Result<ReleaseOutcome, StoreError> {
        let released = self.known(workspace).map(|workspace| workspace.release(id, principal, now));
        Ok(released.unwrap_or(ReleaseOutcome::Unknown))
    }

    async fn expire_due(&self, now: Millis, limit: usize) -> Result<Vec<ExpiredReservation>, StoreError> {
        let mut expired = Vec::new();
        for workspace in self.all_workspaces() {
            while !workspace.expire_due(now, EXPIRED_PER_LOCK) {
                tokio::task::yield_now().await;
            }
            workspace.name_floors(limit, &mut expired);
        }
        Ok(expired)
    }

    async fn open_budget(
        &self,
        workspace: &WorkspaceId,
        openings: Vec<SettleCharge>,
        through: Position,
        now: Millis,
    ) -> Result<(), StoreError> {
        self.open(&self.workspace(workspace), &openings, through, now).await
    }

    async fn sweep(&self, now: Millis, budgets: &dyn LiveBudgets) -> Result<(), StoreError> {
        let written_through = Position(self.written_through.load(Ordering::Acquire));
        for workspace in self.all_workspaces() {
            let live = budgets.families(&workspace.id);
            for _ in 0..SWEPT_MAPS {
                workspace.sweep_counters(now, written_through, live.as_deref());
            }
            workspace.sweep_reservations(now, DROPPED_RESERVATIONS);
            tokio::task::yield_now().await;
        }
        self.shared.ids.sweep(now);
        Ok(())
    }

    async fn health(&self) -> Result<CounterHealth, StoreError> {
        let forgotten = self.shared.ids.forgotten_early();
        let mut health = CounterHealth { request_ids_forgotten_early: forgotten, ..CounterHealth::default() };
        for workspace in self.all_workspaces() {
            let (live, charges) = workspace.size();
            health.live_counters += live as u64;
            if charges > 0 {
                health.overflowed.push(Overflowed { workspace: workspace.id.clone(), charges });
            }
        }
        Ok(health)
    }

    async fn checkpoint(&self, clean: bool) -> Result<(), StoreError> {
        self.write_down(clean).await
    }

    async fn recovered_through(&self) -> Result<Position, StoreError> {
        Ok(self.recovered_through)
    }
}

#[cfg(test)]
mod tests;
