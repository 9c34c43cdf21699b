//! A checkpoint store in memory, for tests, that can fail and be held up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use parking_lot::Mutex;
use rateguard_core::counter::{Counter, CounterFamily, CounterId, Position};
use rateguard_core::ids::WorkspaceId;
use rateguard_core::reservation::Reservation;
use rateguard_core::time::Millis;
use rateguard_engine::ports::{
    Checkpoint, CheckpointBatch, CheckpointStore, CounterRow, CounterStore, LeadRow, StoreError,
};
use rateguard_store_suite::counter_store::CounterBackend;
use tokio::sync::Semaphore;

use crate::{MemoryCounterStore, MemoryCounterStoreConfig};

/// Saves that pass before the store is held up.
const UNBOUNDED: usize = 1 << 20;

#[derive(Default)]
struct Kept {
    position: Position,
    rows: BTreeMap<(WorkspaceId, CounterId), CounterRow>,
    order: Vec<CounterId>,
    leads: BTreeMap<(WorkspaceId, CounterFamily), LeadRow>,
    clean: bool,
    crashes: u32,
    reservations: Vec<(WorkspaceId, Reservation)>,
}

/// Keeps what a checkpoint wrote.
pub(crate) struct FakeCheckpointStore {
    kept: Mutex<Kept>,
    pub(crate) fails: AtomicBool,
    pub(crate) saves: AtomicUsize,
    /// A save takes one; without any it waits.
    pub(crate) passes: Semaphore,
    /// What a process sent that is over does not arrive after the next one has loaded.
    loads: AtomicUsize,
}

impl Default for FakeCheckpointStore {
    fn default() -> Self {
        Self {
            kept: Mutex::default(),
            fails: AtomicBool::new(false),
            saves: AtomicUsize::new(0),
            passes: Semaphore::new(UNBOUNDED),
            loads: AtomicUsize::new(0),
        }
    }
}

impl FakeCheckpointStore {
    /// The counter as it stands on disk.
    pub(crate) fn counter(&self, workspace: &WorkspaceId, id: CounterId) -> Option<Counter> {
        self.kept.lock().rows.get(&(workspace.clone(), id)).map(|row| row.counter.clone())
    }

    /// The ceiling of a budget on disk.
    pub(crate) fn ceiling(&self, workspace: &WorkspaceId, id: CounterId) -> i128 {
        match self.counter(workspace, id) {
            Some(Counter::Budget(budget)) => budget.ceiling,
            _ => 0,
        }
    }

    pub(crate) fn rows(&self) -> usize {
        self.kept.lock().rows.len()
    }

    /// The counters in the order in which they were written.
    pub(crate) fn order(&self) -> Vec<CounterId> {
        self.kept.lock().order.clone()
    }

    pub(crate) fn position(&self) -> Position {
        self.kept.lock().position
    }

    /// Lets no further save pass.
    pub(crate) fn hold_up(&self) {
        self.passes.forget_permits(UNBOUNDED);
    }

    async fn pass(&self) -> Result<(), StoreError> {
        let process = self.loads.load(Ordering::SeqCst);
        let pass = self.passes.acquire().await.expect("the gate is never closed");
        pass.forget();
        if self.fails.load(Ordering::SeqCst) || process != self.loads.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable {
                store: "checkpoint",
                detail: "the disk is full".to_owned(),
            });
        }
        Ok(())
    }
}

#[async_trait]
impl CheckpointStore for FakeCheckpointStore {
    async fn save(&self, batch: CheckpointBatch) -> Result<(), StoreError> {
        self.pass().await?;
        self.saves.fetch_add(1, Ordering::SeqCst);
        let mut kept = self.kept.lock();
        for removed in batch.removed {
            kept.rows.remove(&removed);
        }
        for row in batch.rows {
            kept.order.push(row.id);
            kept.rows.insert((row.workspace.clone(), row.id), row);
        }
        for row in batch.leads {
            kept.leads.insert((row.workspace.clone(), row.family), row);
        }
        kept.leads.retain(|_, row| row.units > 0 || !row.losses.is_empty());
        kept.position = batch.position.unwrap_or(kept.position);
        kept.clean = false;
        kept.reservations.clear();
        Ok(())
    }

    async fn load(&self) -> Result<Checkpoint, StoreError> {
        self.loads.fetch_add(1, Ordering::SeqCst);
        let mut kept = self.kept.lock();
        let (clean, reservations) = (std::mem::take(&mut kept.clean), std::mem::take(&mut kept.reservations));
        kept.crashes += u32::from(!clean);
        let (rows, leads) = (kept.rows.values().cloned(), kept.leads.values().cloned());
        let (rows, leads) = (rows.collect(), leads.collect());
        let Kept { position, crashes, .. } = *kept;
        Ok(Checkpoint { position, rows, leads, clean, crashes, reservations })
    }

    async fn save_reservations(
        &self,
        reservations: Vec<(WorkspaceId, Reservation)>,
    ) -> Result<(), StoreError> {
        self.pass().await?;
        let mut kept = self.kept.lock();
        kept.clean = true;
        kept.reservations = reservations;
        Ok(())
    }
}

/// Bounds small enough for a test to reach.
pub(crate) fn small() -> MemoryCounterStoreConfig {
    MemoryCounterStoreConfig { live_counters_max: 100, reservations_max: 500, request_ids_bytes_max: 1 << 16 }
}

/// Memory stores on one fake disk.
#[derive(Default)]
pub(crate) struct MemoryBackend {
    pub(crate) disk: Arc<FakeCheckpointStore>,
}

impl MemoryBackend {
    pub(crate) async fn load(&self, now: Millis) -> Arc<MemoryCounterStore> {
        let loaded = MemoryCounterStore::load(self.disk.clone(), small(), now).await;
        Arc::new(loaded.expect("the fake disk is read"))
    }
}

#[async_trait]
impl CounterBackend for MemoryBackend {
    async fn open(&self, now: Millis) -> Arc<dyn CounterStore> {
        self.load(now).await
    }

    fn live_counters_max(&self) -> usize {
        small().live_counters_max
    }

    fn reservations_max(&self) -> usize {
        small().reservations_max
    }
}
