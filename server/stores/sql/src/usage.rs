//! [`UsageStore`] in SQL: rollups in a database of their own, raw events in that of the log.
//!
//! A batch of events is folded in memory and added to each row that it touches, together with the
//! position that it reaches, in one transaction. A query takes its figures from the coarsest
//! rollup that has them, and from raw events for the ragged ends of its range.

mod apply;
mod histogram;
mod listing;
mod plan;
mod query;
mod rollup;
mod scan;
mod sums;

use std::sync::Arc;

use async_trait::async_trait;
use rateguard_core::counter::Position;
use rateguard_core::ids::WorkspaceId;
use rateguard_core::time::Millis;
use rateguard_core::usage::LoggedEvent;
use rateguard_engine::ports::{
    EventLog, EventPage, EventQuery, SeriesPoint, SeriesQuery, StoreError, Summary, UsageFilter, UsageStore,
};
use sqlx::migrate::Migrator;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::database::{
    Content, DataFolder, Database, Durability, Leadership, OpenError, PostgresDatabase, Schema, Scope,
    ServerSchema, Writing,
};
use crate::events::{SqlEventLog, from_position_column};
use query::Question;

/// The name by which errors know the store.
const STORE: &str = "usage";
/// Queries that may read raw events at once. The log has four reading connections; these leave
/// some to whoever follows it.
const RAW_READS_MAX: usize = 2;
const FILE: &str = "usage.db";
static MIGRATOR: Migrator = sqlx::migrate!("../../../migrations/usage/sqlite");
static SERVER_MIGRATOR: Migrator = sqlx::migrate!("../../../migrations/usage/postgres");
/// A loss of power may take the last rollups with their position; the log gives them again.
pub(crate) const SCHEMA: Schema = Schema {
    store: STORE,
    file: FILE,
    migrator: &MIGRATOR,
    durability: Durability::Checkpoints,
    content: Content { table: "progress", rows: "SELECT 1 FROM progress WHERE position > 0" },
    writing: Writing::Seldom,
    remedy: crate::installation::REBUILD_USAGE,
};
pub(crate) const SERVER_SCHEMA: ServerSchema = ServerSchema {
    store: STORE,
    name: "rateguard_usage",
    migrator: &SERVER_MIGRATOR,
    writer_lock: 0x7261_7465_7573_6765,
};

/// The advisory lock of the process that rolls up. Any number will do that nothing else of the stores
/// has.
const ROLLING_UP_LOCK: i64 = 0x7261_7465_6c65_6164;

/// Rollups in `usage.db`, and raw events out of the log's `events.db`.
#[derive(Clone, Debug)]
pub struct SqlUsageStore {
    rollups: Database,
    log: SqlEventLog,
    raw_reads: Arc<Semaphore>,
    /// Which process rolls up; `None` for a store that belongs to one process.
    leadership: Option<Arc<Leadership>>,
}

impl SqlUsageStore {
    /// Opens the store in a data folder, beside the log whose events it sums.
    ///
    /// # Errors
    /// [`OpenError`]; [`OpenError::AheadOfLog`] when the rollups hold more than the log.
    pub async fn open(folder: &DataFolder, log: &SqlEventLog) -> Result<Self, OpenError> {
        let path = folder.path().join(FILE);
        let store = Self::over(Database::open(folder, &SCHEMA).await?, log);
        let beyond = store.position_beyond_log().await;
        store
            .unless(match beyond {
                Ok(None) => None,
                Ok(Some((position, end))) => Some(OpenError::AheadOfLog { path, position, end }),
                Err(error) => Some(OpenError::Unavailable { path, detail: error.to_string() }),
            })
            .await
    }

    /// Opens the store in a database on a server, beside the log whose events it sums.
    ///
    /// # Errors
    /// [`OpenError`]; [`OpenError::ServerAheadOfLog`] when the rollups hold more than the log.
    pub async fn open_on_server(server: &PostgresDatabase, log: &SqlEventLog) -> Result<Self, OpenError> {
        let mut store = Self::over(Database::open_on_server(server, &SERVER_SCHEMA).await?, log);
        store.leadership = Some(Arc::new(Leadership::of(server, &SERVER_SCHEMA, ROLLING_UP_LOCK)));
        let database = server.name().to_owned();
        let beyond = store.position_beyond_log().await;
        store
            .unless(match beyond {
                Ok(None) => None,
                Ok(Some((position, end))) => Some(OpenError::ServerAheadOfLog { database, position, end }),
                Err(error) => Some(OpenError::Server { database, detail: error.to_string() }),
            })
            .await
    }

    fn over(rollups: Database, log: &SqlEventLog) -> Self {
        Self {
            rollups,
            log: log.clone(),
            raw_reads: Arc::new(Semaphore::new(RAW_READS_MAX)),
            leadership: None,
        }
    }

    async fn unless(self, refusal: Option<OpenError>) -> Result<Self, OpenError> {
        let Some(refusal) = refusal else { return Ok(self) };
        self.close().await;
        Err(refusal)
    }

    /// Closes the rollups; calls afterwards are unavailable. The log stays open.
    pub async fn close(&self) {
        if let Some(leadership) = &self.leadership {
            leadership.resign().await;
        }
        self.rollups.close().await;
    }

    /// The position of the rollups and the log's end, where the rollups hold more than the log.
    async fn position_beyond_log(&self) -> Result<Option<(u64, u64)>, StoreError> {
        let cursor = self.cursor().await?;
        let end = self.log.end().await?;
        Ok((cursor > end).then_some((cursor.0, end.0)))
    }

    /// Its database.
    pub(crate) fn database(&self) -> &Database {
        &self.rollups
    }

    /// Waits for a turn to read raw events.
    async fn raw_read(&self) -> Result<SemaphorePermit<'_>, StoreError> {
        self.raw_reads.acquire().await.map_err(|error| unavailable(error.to_string()))
    }

    async fn read_cursor(&self) -> Result<i64, StoreError> {
        let mut reader = self.rollups.reader(Scope::Installation).await?;
        apply::cursor(&mut reader).await
    }
}

#[async_trait]
impl UsageStore for SqlUsageStore {
    async fn apply(&self, events: &[LoggedEvent]) -> Result<(), StoreError> {
        if events.is_empty() {
            return Ok(());
        }
        let work = async {
            let mut transaction = self.rollups.begin(Scope::Installation).await?;
            apply::apply(&mut transaction, events).await?;
            Ok((transaction, ()))
        };
        self.rollups.write(work).await
    }

    async fn cursor(&self) -> Result<Position, StoreError> {
        self.rollups.within_deadline(self.read_cursor()).await.map(from_position_column)
    }

    async fn try_lead(&self) -> Result<bool, StoreError> {
        match &self.leadership {
            Some(leadership) => leadership.try_lead().await,
            // The folder's lock keeps every other process away.
            None => Ok(true),
        }
    }

    async fn events(&self, workspace: &WorkspaceId, query: &EventQuery) -> Result<EventPage, StoreError> {
        let page = async {
            let _turn = self.raw_read().await?;
            let mut reader = self.log.database().reader(Scope::Workspace(workspace)).await?;
            listing::page(&mut reader, workspace, query).await
        };
        self.rollups.within_deadline(page).await
    }

    async fn accounted_after(
        &self,
        workspace: &WorkspaceId,
        after: (Millis, Position),
        through: Position,
        limit: usize,
    ) -> Result<Vec<LoggedEvent>, StoreError> {
        let page = async {
            let _turn = self.raw_read().await?;
            let mut reader = self.log.database().reader(Scope::Workspace(workspace)).await?;
            listing::accounted_after(&mut reader, workspace, after, through, limit).await
        };
        self.rollups.within_deadline(page).await
    }

    async fn summary(&self, workspace: &WorkspaceId, filter: &UsageFilter) -> Result<Summary, StoreError> {
        let answer = self.rollups.within_deadline(self.answer(workspace, Question::whole(filter))).await?;
        let through = from_position_column(answer.through);
        let sums = answer.points.into_values().next().unwrap_or_default();
        Ok(sums.into_summary(through))
    }

    async fn series(
        &self,
        workspace: &WorkspaceId,
        query: &SeriesQuery,
    ) -> Result<Vec<SeriesPoint>, StoreError> {
        let question = Question::series(query)?;
        let answer = self.rollups.within_deadline(self.answer(workspace, question)).await?;
        Ok(answer.into_series())
    }
}

fn unavailable(detail: String) -> StoreError {
    StoreError::Unavailable { store: STORE, detail }
}

/// The error of data that this store did not write like this.
fn corrupt(detail: impl Into<String>) -> StoreError {
    StoreError::Corrupt { store: STORE, detail: detail.into() }
}

#[cfg(test)]
mod tests;
