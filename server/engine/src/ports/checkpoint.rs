//! Where counters in memory are kept across restarts.

use async_trait::async_trait;
use rateguard_core::counter::{Counter, CounterFamily, CounterId, Position};
use rateguard_core::ids::WorkspaceId;
use rateguard_core::reservation::Reservation;
use rateguard_core::time::Millis;

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
    /// The number of the last crash whose loss is in it.
    pub crashes: u32,
}

/// How far the counters of one limit may be ahead of what is on disk of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeadRow {
    /// The tenant.
    pub workspace: WorkspaceId,
    /// Whose counters, those included that are not on disk.
    pub family: CounterFamily,
    /// Units that calls may have taken of each since it was written down.
    pub units: i64,
    /// How long such a unit counts, in milliseconds.
    pub span_ms: i64,
    /// What crashes have lost before, the first crash first.
    pub losses: Vec<Loss>,
}

/// What one crash lost of each counter of a limit, at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The number of the crash, from 1.
    pub crash: u32,
    /// The instant after which nothing can have been taken any more.
    pub at: Millis,
    /// How much.
    pub units: i64,
}

/// Counters that changed, to be written in one transaction.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CheckpointBatch {
    /// Counters to write.
    pub rows: Vec<CounterRow>,
    /// Counters that were dropped.
    pub removed: Vec<(WorkspaceId, CounterId)>,
    /// Leads to write; one of nothing, after which nothing is owed, is dropped.
    pub leads: Vec<LeadRow>,
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
    /// The leads.
    pub leads: Vec<LeadRow>,
    /// Whether the last stop was clean, and nothing was written since.
    pub clean: bool,
    /// How many starts found no clean stop, this one included.
    pub crashes: u32,
    /// Reservations of a clean stop; empty after a crash.
    pub reservations: Vec<(WorkspaceId, Reservation)>,
}

/// Keeps the state of counters on disk.
#[async_trait]
pub trait CheckpointStore: Send + Sync + 'static {
    /// Writes a batch, durable when it returns. A clean stop that was written before is none any
    /// more: its mark and its reservations go with the batch.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when nothing was written.
    async fn save(&self, batch: CheckpointBatch) -> Result<(), StoreError>;

    /// Reads everything, once, at start, and takes the mark and the reservations of a clean stop
    /// away: from then on they are true in memory alone, and a crash must not find them again. Where
    /// there is no mark, one more crash is counted.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when a row cannot be understood.
    async fn load(&self) -> Result<Checkpoint, StoreError>;

    /// Marks the stop as clean, with its reservations in place of any others. They may be none.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when nothing was written.
    async fn save_reservations(
        &self,
        reservations: Vec<(WorkspaceId, Reservation)>,
    ) -> Result<(), StoreError>;
}
