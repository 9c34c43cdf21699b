//! What was used: raw events and sums over them.

use crate::caller::Identity;
use crate::engine::Engine;
use crate::error::{EngineError, Reason};
use crate::ports::{EventPage, EventQuery, SeriesPoint, SeriesQuery, StoreError, Summary, UsageFilter};

impl Engine {
    /// A page of raw events, newest first. What was accepted is in it at once.
    ///
    /// # Errors
    /// [`Reason::QueryTooLarge`], and those of the store.
    pub async fn events(&self, identity: &Identity, query: &EventQuery) -> Result<EventPage, EngineError> {
        self.usage.events(identity.workspace()?, query).await.map_err(too_large)
    }

    /// Sums over a range.
    ///
    /// # Errors
    /// As [`Engine::events`].
    pub async fn summary(&self, identity: &Identity, filter: &UsageFilter) -> Result<Summary, EngineError> {
        self.usage.summary(identity.workspace()?, filter).await.map_err(too_large)
    }

    /// Sums by time.
    ///
    /// # Errors
    /// As [`Engine::events`].
    pub async fn series(
        &self,
        identity: &Identity,
        query: &SeriesQuery,
    ) -> Result<Vec<SeriesPoint>, EngineError> {
        self.usage.series(identity.workspace()?, query).await.map_err(too_large)
    }
}

fn too_large(error: StoreError) -> EngineError {
    match error {
        StoreError::Full { what } => {
            EngineError::new(Reason::QueryTooLarge, format!("the query passes a bound: {what}"))
        }
        error => error.into(),
    }
}
