//! The durable log of events: what is in it counts, what is not does not.

use async_trait::async_trait;
use rateguard_core::counter::Position;
use rateguard_core::ids::{EventId, WorkspaceId};
use rateguard_core::money::Nanos;
use rateguard_core::usage::{EventFlags, LoggedEvent, UsageEvent};

use super::StoreError;

/// What became of one event of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppendOutcome {
    /// It is in the log, durable.
    Appended(Position),
    /// Its id is in the log already; the first copy's figures.
    Duplicate {
        /// The first copy's place.
        position: Position,
        /// The first copy's cost.
        cost: Nanos,
        /// The first copy's flags.
        flags: EventFlags,
    },
    /// Another event has settled the same attempt of the same reservation.
    AttemptTaken {
        /// That event.
        first: EventId,
    },
}

/// What became of one append.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Appended {
    /// The log's last position when the append began: all that is in the log before the append's own
    /// events is at or below it, and nothing of others comes between it and them. Zero for an append
    /// of no events.
    pub before: Position,
    /// What became of each event, in order.
    pub outcomes: Vec<AppendOutcome>,
}

/// The log. An append is durable when it returns; one sync covers the whole batch.
#[async_trait]
pub trait EventLog: Send + Sync + 'static {
    /// Appends events in order, all in one transaction, and answers each. Ids are unique within a
    /// workspace, also within the batch.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when surely nothing was appended, [`StoreError::OutcomeUnknown`]
    /// when it may have been.
    async fn append(&self, events: &[UsageEvent]) -> Result<Appended, StoreError>;

    /// Reads at most `limit` events after a position, in order. Never skips an event that is
    /// committed later at a lower position.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Corrupt`].
    async fn read_after(&self, position: Position, limit: usize) -> Result<Vec<LoggedEvent>, StoreError>;

    /// The last position.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    async fn end(&self) -> Result<Position, StoreError>;

    /// One event by its id.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Corrupt`].
    async fn find(&self, workspace: &WorkspaceId, id: &EventId) -> Result<Option<LoggedEvent>, StoreError>;
}
