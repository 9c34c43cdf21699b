//! The store: workspaces, and the port over them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use hashbrown::HashMap;
use parking_lot::RwLock;
use rateguard_core::counter::{Position, Reading};
use rateguard_core::ids::{ReservationId, WorkspaceId};
use rateguard_core::lease::LeaseOutcome;
use rateguard_core::reservation::Reservation;
use rateguard_core::time::Millis;
use rateguard_engine::ports::{
    BudgetOpening, CancelOutcome, CheckCommand, CheckOutcome, CheckpointBatch, CheckpointStore,
    CounterHealth, CounterQuery, CounterStore, ExpiredReservation, LeaseCommand, LiveBudgets, Overflowed,
    Principal, Prompt, ReleaseOutcome, RenewOutcome, ResetCounters, SettleCharge, SettleCommand, Slot,
    SlotClaim, SlotHolder, StoreError,
};

use crate::checkpointing::{BATCH_COUNTERS_MAX, Disk, Haste};
use crate::config::MemoryCounterStoreConfig;
use crate::leads::Leads;
use crate::load;
use crate::slots::Slots;
use crate::workspace::{Lent, Outcome, Renewal, Shared, Step, Workspace};
use crate::writes::Writes;
use rateguard_engine::request_ids::RequestIds;

/// The name by which errors know the store.
pub(crate) const STORE: &str = "counter";
/// How often a check may find that others took the ceiling that it had raised.
const RAISE_ROUNDS_MAX: usize = 8;
/// Records settled before other tasks have their turn.
const SETTLED_PER_TURN: usize = 256;
/// Reservations of one workspace expired under one lock.
const EXPIRED_PER_LOCK: usize = 256;
/// Parts of one workspace swept at once: the whole of it in 16 rounds.
const SWEPT_PARTS: usize = 16;
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
    /// Crashes so far.
    crashes: u32,
    /// Whether leads are suspended, in new workspaces too.
    suspended: AtomicBool,
    pub(crate) writes: Arc<Writes>,
    /// Held by engines that share the store.
    slots: Slots,
    /// Keeps checkpoints apart.
    pub(crate) rounds: Arc<tokio::sync::Mutex<()>>,
    pub(crate) haste: Haste,
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
        // whatever starts come after this one. What it lost is there with its instant.
        for leads in load::lose_leads(&mut checkpoint, now).chunks(BATCH_COUNTERS_MAX) {
            disk.save(CheckpointBatch { leads: leads.to_vec(), ..CheckpointBatch::default() }).await?;
        }
        for rows in load::forget_holders(&mut checkpoint, now).chunks(BATCH_COUNTERS_MAX) {
            disk.save(CheckpointBatch { rows: rows.to_vec(), ..CheckpointBatch::default() }).await?;
        }
        let crashes = checkpoint.crashes;
        let workspaces = load::workspaces(checkpoint, now);
        Ok(Self {
            shared: Shared { config, ids: RequestIds::new(config.request_ids_bytes_max) },
            workspaces: RwLock::new(workspaces.into_iter().map(|(id, w)| (id, Arc::new(w))).collect()),
            settled_through: AtomicU64::new(position.0),
            written_through: AtomicU64::new(position.0),
            recovered_through: position,
            loaded_at: now,
            crashes,
            suspended: AtomicBool::new(false),
            writes: Writes::new(disk),
            slots: Slots::default(),
            rounds: Arc::default(),
            haste: Haste::default(),
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
        let mut workspaces = self.workspaces.write();
        let fresh = || {
            let mut leads = Leads::new(self.crashes);
            if self.suspended.load(Ordering::Acquire) {
                leads.suspend();
            }
            Arc::new(Workspace::new(id.clone(), self.recovered_through, leads, self.loaded_at))
        };
        workspaces.entry(id.clone()).or_insert_with(fresh).clone()
    }

    /// Takes the leads of all workspaces out of force for good, of those included that are to come.
    pub(crate) fn suspend_leads(&self) {
        self.suspended.store(true, Ordering::Release);
        for workspace in self.all_workspaces() {
            workspace.lock().counters.leads.suspend();
        }
    }

    /// Goes on with a check that has to wait for the disk.
    async fn finish(
        &self,
        workspace: Arc<Workspace>,
        command: CheckCommand,
        mut step: Step,
    ) -> Result<CheckOutcome, StoreError> {
        for _ in 0..RAISE_ROUNDS_MAX {
            match step {
                Step::Break(outcome) => return self.tell(&workspace, outcome).await,
                Step::Continue(wants) => self.writes.raise(&workspace, wants).await?,
            }
            step = workspace.check(&command, &self.shared)?;
        }
        match step {
            Step::Break(outcome) => self.tell(&workspace, outcome).await,
            Step::Continue(_) => {
                let detail = "others took what a budget's ceiling was raised by".to_owned();
                Err(StoreError::Unavailable { store: STORE, detail })
            }
        }
    }

    /// Tells the end of a check, once what it took is on disk as far as it has to be.
    async fn tell(&self, workspace: &Arc<Workspace>, outcome: Outcome) -> Result<CheckOutcome, StoreError> {
        if !outcome.uncovered.is_empty() {
            self.writes.cover(workspace, outcome.uncovered).await?;
        }
        Ok(outcome.outcome)
    }
}

#[async_trait]
impl CounterStore for MemoryCounterStore {
    async fn check(&self, command: &CheckCommand) -> Result<CheckOutcome, StoreError> {
        self.check_promptly(command).answer().await
    }

    fn check_promptly<'a>(&'a self, command: &CheckCommand) -> Prompt<'a> {
        let workspace = self.workspace(&command.workspace);
        match workspace.check(command, &self.shared) {
            Err(error) => Prompt::Answered(Err(error)),
            Ok(Step::Break(told)) if told.uncovered.is_empty() => Prompt::Answered(Ok(told.outcome)),
            Ok(step) => Prompt::Waiting(Box::pin(self.finish(workspace, command.clone(), step))),
        }
    }

    async fn recall(&self, command: &CheckCommand) -> Result<Option<CheckOutcome>, StoreError> {
        let workspace = self.workspace(&command.workspace);
        match workspace.recall(command, &self.shared)? {
            Some(outcome) => self.tell(&workspace, outcome).await.map(Some),
            None => Ok(None),
        }
    }

    async fn cancel(&self, command: &CheckCommand, now: Millis) -> Result<CancelOutcome, StoreError> {
        Ok(self.workspace(&command.workspace).cancel(command, now, &self.shared))
    }

    async fn hold_slot(&self, claim: &SlotClaim) -> Result<Option<Slot>, StoreError> {
        Ok(self.slots.hold(claim))
    }

    async fn free_slot(&self, holder: SlotHolder, number: u16) -> Result<(), StoreError> {
        self.slots.free(holder, number);
        Ok(())
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
        let workspace = self.workspace(&command.workspace);
        let Lent { outcomes, uncovered, buckets } = workspace.lease(command, &self.shared);
        if !buckets.is_empty() {
            self.writes.write_through(&workspace, buckets).await?;
        }
        if !uncovered.is_empty() {
            self.writes.cover(&workspace, uncovered).await?;
        }
        Ok(outcomes)
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

    async fn renew(
        &self,
        workspace: &WorkspaceId,
        id: &ReservationId,
        principal: &Principal,
        expires_at: Millis,
        now: Millis,
    ) -> Result<RenewOutcome, StoreError> {
        let Some(workspace) = self.known(workspace) else { return Ok(RenewOutcome::Unknown) };
        Ok(workspace.renew(&Renewal { id, principal, expires_at, now }, &self.shared))
    }

    async fn reset(
        &self,
        workspace: &WorkspaceId,
        counters: ResetCounters,
        now: Millis,
    ) -> Result<u64, StoreError> {
        let set_back = self.workspace(workspace).reset(&counters, now, &self.shared);
        // Or a crash would bring back what was used.
        self.write_now().await?;
        Ok(set_back)
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
    ) -> Result<BudgetOpening, StoreError> {
        self.open(&self.workspace(workspace), &openings, through, now).await?;
        Ok(BudgetOpening::Opened)
    }

    async fn sweep(&self, now: Millis, budgets: &dyn LiveBudgets) -> Result<(), StoreError> {
        let written_through = Position(self.written_through.load(Ordering::Acquire));
        for workspace in self.all_workspaces() {
            let live = budgets.families(&workspace.id);
            for _ in 0..SWEPT_PARTS {
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
