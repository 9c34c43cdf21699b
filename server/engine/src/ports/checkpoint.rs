//! Where counters in memory are kept across restarts.

use async_trait::async_trait;
use rateguard_core::counter::{Counter, CounterId, Position};
use rateguard_core::ids::WorkspaceId;
use rateguard_core::reservation::Reservation;

use super::StoreError;

/// One counter as it stands on disk.
#[derive(Clone, Debug, PartialEq)]
pub struct CounterRow {
    /// The tenant.
    pub workspace: WorkspaceId,
    /// Which counter.
    pub id: CounterId,
    /// Records at or before this position are in it.
    pub included: Position,
    /// The state.
    pub counter: Counter,
}

/// Counters that changed, to be written in one transaction.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CheckpointBatch {
    /// Counters to write.
    pub rows: Vec<CounterRow>,
    /// Counters that were dropped.
    pub removed: Vec<(WorkspaceId, CounterId)>,
    /// With the last batch of a round: every counter includes the log up to here.
    pub position: Option<Position>,
}

/// All that a checkpoint holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Checkpoint {
    /// Every counter includes the log up to here; those after it say so themselves.
    pub position: Position,
    /// The counters.
    pub rows: Vec<CounterRow>,
    /// Reservations of a clean stop; empty after a crash.
    pub reservations: Vec<(WorkspaceId, Reservation)>,
}

/// Keeps the state of counters on disk.
#[async_trait]
pub trait CheckpointStore: Send + Sync + 'static {
    /// Writes a batch, durable when it returns.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when nothing was written.
    async fn save(&self, batch: CheckpointBatch) -> Result<(), StoreError>;

    /// Reads everything, once, at start.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when a row cannot be understood.
    async fn load(&self) -> Result<Checkpoint, StoreError>;

    /// Writes the reservations of a clean stop, in place of any others.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when nothing was written.
    async fn save_reservations(
        &self,
        reservations: Vec<(WorkspaceId, Reservation)>,
    ) -> Result<(), StoreError>;
}
