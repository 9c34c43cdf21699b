//! [`EventLog`] in SQL: one table of events, written by one transaction at a time.
//!
//! Each transaction takes its positions from one row, which it holds until it ends. So positions
//! become visible in their order, and a reader that has seen one has seen all before it.

mod append;
mod details;
mod hash;
mod row;

use async_trait::async_trait;
use rateguard_core::counter::Position;
use rateguard_core::ids::{EventId, WorkspaceId};
use rateguard_core::usage::{LoggedEvent, UsageEvent};
use rateguard_engine::ports::{Appended, EventLog, StoreError};
use sqlx::migrate::Migrator;
use sqlx::{AssertSqlSafe, Error};

use crate::database::{
    Content, DataFolder, Database, Durability, Kind, OpenError, PostgresDatabase, Row, Schema, Scope,
    ServerSchema, Writing, failure, query, query_scalar,
};
pub(crate) use hash::{id_hash, request_hash};
pub(crate) use row::{KIND_USAGE, SELECT, column, read};

/// The name by which errors know the store.
pub(crate) const STORE: &str = "event";
/// Events that one call reads: a caller that wants more asks again.
pub(crate) const READ_EVENTS_MAX: usize = 10_000;
static MIGRATOR: Migrator = sqlx::migrate!("../../../migrations/events/sqlite");
static SERVER_MIGRATOR: Migrator = sqlx::migrate!("../../../migrations/events/postgres");
pub(crate) const SCHEMA: Schema = Schema {
    store: STORE,
    file: "events.db",
    migrator: &MIGRATOR,
    durability: Durability::EveryCommit,
    content: Content { table: "head", rows: "SELECT 1 FROM head WHERE position > 0" },
    writing: Writing::Heavily,
    remedy: crate::installation::RESTORE_EVENTS,
};
pub(crate) const SERVER_SCHEMA: ServerSchema = ServerSchema {
    store: STORE,
    name: "rateguard_events",
    migrator: &SERVER_MIGRATOR,
    writer_lock: 0x7261_7465_6576_6e74,
};

/// The event log in `events.db`. Clones share its connections.
#[derive(Clone, Debug)]
pub struct SqlEventLog {
    database: Database,
}

impl SqlEventLog {
    /// Opens the log in a data folder.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(folder: &DataFolder) -> Result<Self, OpenError> {
        Ok(Self { database: Database::open(folder, &SCHEMA).await? })
    }

    /// Opens the log in a database on a server.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open_on_server(server: &PostgresDatabase) -> Result<Self, OpenError> {
        Ok(Self { database: Database::open_on_server(server, &SERVER_SCHEMA).await? })
    }

    /// Closes it; calls afterwards are unavailable.
    pub async fn close(&self) {
        self.database.close().await;
    }

    /// Its database, for queries of raw events.
    pub(crate) fn database(&self) -> &Database {
        &self.database
    }

    async fn read_rows(&self, from: i64, limit: i64) -> Result<Vec<Row>, StoreError> {
        let sql = format!("{SELECT} WHERE e.position > $1 ORDER BY e.position LIMIT $2");
        let mut reader = self.database.reader(Scope::Installation).await?;
        let query = query(AssertSqlSafe(sql)).bind(from).bind(limit);
        query.fetch_all(&mut reader).await.map_err(failure(STORE))
    }

    async fn find_row(&self, workspace: &WorkspaceId, id: &EventId) -> Result<Option<Row>, StoreError> {
        let mut reader = self.database.reader(Scope::Workspace(workspace)).await?;
        let [before, after] = named_by_event(reader.kind());
        let sql = format!("{SELECT} WHERE {before}$1{after}");
        let query = query(AssertSqlSafe(sql)).bind(id_hash(workspace, id.as_str()));
        query.fetch_optional(&mut reader).await.map_err(failure(STORE))
    }

    async fn last_position(&self) -> Result<i64, StoreError> {
        let mut reader = self.database.reader(Scope::Installation).await?;
        let query = query_scalar("SELECT position FROM head");
        query.fetch_one(&mut reader).await.map_err(failure(STORE))
    }
}

#[async_trait]
impl EventLog for SqlEventLog {
    async fn append(&self, events: &[UsageEvent]) -> Result<Appended, StoreError> {
        if events.is_empty() {
            return Ok(Appended::default());
        }
        let work = async {
            let mut transaction = self.database.begin(Scope::Installation).await?;
            let appended = append::append(&mut transaction, events).await?;
            Ok((transaction, appended))
        };
        self.database.write(work).await
    }

    async fn read_after(&self, position: Position, limit: usize) -> Result<Vec<LoggedEvent>, StoreError> {
        let limit = limit.min(READ_EVENTS_MAX);
        let from = to_position_column(position);
        let rows = self.database.within_deadline(self.read_rows(from, to_limit(limit))).await?;
        rows.iter().map(read).collect()
    }

    async fn end(&self) -> Result<Position, StoreError> {
        let last = self.database.within_deadline(self.last_position()).await?;
        Ok(from_position_column(last))
    }

    async fn find(&self, workspace: &WorkspaceId, id: &EventId) -> Result<Option<LoggedEvent>, StoreError> {
        let found = self.database.within_deadline(self.find_row(workspace, id)).await?;
        found.as_ref().map(read).transpose()
    }
}

/// The condition on an event, named `e`, by the hash of its id: what stands before the hash and after
/// it. In PostgreSQL the table of ids leads to the month and the place in it.
pub(crate) fn named_by_event(kind: Kind) -> [&'static str; 2] {
    match kind {
        Kind::Sqlite => ["e.event_hash = ", ""],
        Kind::Postgres => [
            "(e.position, e.received_at) = \
             (SELECT i.position, i.received_at FROM event_ids i WHERE i.event_hash = ",
            ")",
        ],
    }
}

/// A position as a column holds it. Positions count events, so they fit.
pub(crate) fn to_position_column(position: Position) -> i64 {
    i64::try_from(position.0).unwrap_or(i64::MAX)
}

/// The position that a column holds.
pub(crate) fn from_position_column(position: i64) -> Position {
    Position(u64::try_from(position).unwrap_or(0))
}

/// A bound on rows as a statement takes it.
pub(crate) fn to_limit(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}

/// The error of data that the log did not write like this.
pub(crate) fn corrupt(detail: impl Into<String>) -> StoreError {
    StoreError::Corrupt { store: STORE, detail: detail.into() }
}

/// The error of a column.
pub(crate) fn column_failure(error: Error) -> StoreError {
    failure(STORE)(error)
}

#[cfg(test)]
mod tests;
