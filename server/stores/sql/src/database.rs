//! What the stores need of a database: a locked folder, one writing connection and a few reading
//! ones, deadlines, and errors by their codes. Everything that is SQLite's own is here.

mod failure;
mod folder;
mod open;

use std::future::Future;
use std::time::Duration;

use rateguard_engine::ports::StoreError;
use sqlx::Sqlite;
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{SqliteConnection, SqlitePool, SqliteRow};

pub(crate) use failure::failure;
pub use folder::DataFolder;
pub use open::OpenError;
pub(crate) use open::{Content, Durability, Schema, Writing, refusal};

/// Longest wait for a connection and for the statements of one call. Statements take milliseconds;
/// the bound is for a disk that hangs.
const CALL_MS_MAX: u64 = 10_000;
/// Longest wait for a read of a whole store at the start.
pub(crate) const LOAD_MS_MAX: u64 = 120_000;

/// The kind of database behind the stores.
pub(crate) type Kind = Sqlite;
/// A connection to it.
pub(crate) type Connection = SqliteConnection;
/// One row of an answer.
pub(crate) type Row = SqliteRow;
/// A transaction; dropped without a commit, it is rolled back.
pub(crate) type Transaction = sqlx::Transaction<'static, Kind>;

/// One opened database.
#[derive(Clone, Debug)]
pub struct Database {
    store: &'static str,
    writer: SqlitePool,
    readers: SqlitePool,
    // Keeps the folder locked while any store of it is open.
    _folder: Option<DataFolder>,
}

impl Database {
    /// The store, as errors name it.
    pub(crate) fn store(&self) -> &'static str {
        self.store
    }

    /// Begins the one transaction that may write now; another writer waits.
    pub(crate) async fn begin(&self) -> Result<Transaction, StoreError> {
        self.writer.begin_with("BEGIN IMMEDIATE").await.map_err(failure(self.store))
    }

    /// A connection that only reads.
    pub(crate) async fn reader(&self) -> Result<PoolConnection<Kind>, StoreError> {
        self.readers.acquire().await.map_err(failure(self.store))
    }

    /// Begins a transaction that only reads, in which every statement sees the same state.
    pub(crate) async fn begin_read(&self) -> Result<Transaction, StoreError> {
        self.readers.begin().await.map_err(failure(self.store))
    }

    /// Runs the statements of `work`, which began a transaction and hands it back, and commits it.
    /// When `work` fails or its deadline passes, surely nothing was written.
    pub(crate) async fn write<T>(
        &self,
        work: impl Future<Output = Result<(Transaction, T), StoreError>> + Send,
    ) -> Result<T, StoreError> {
        self.write_within(CALL_MS_MAX, work).await
    }

    /// The same, under a deadline of its own.
    pub(crate) async fn write_within<T>(
        &self,
        deadline_ms: u64,
        work: impl Future<Output = Result<(Transaction, T), StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let (transaction, value) = self.within(deadline_ms, work).await?;
        self.commit(deadline_ms, transaction).await?;
        Ok(value)
    }

    /// Runs a read under the deadline of a call.
    pub(crate) async fn within_deadline<T>(
        &self,
        work: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        self.within(CALL_MS_MAX, work).await
    }

    /// Runs a read under a deadline of its own.
    pub(crate) async fn within<T>(
        &self,
        deadline_ms: u64,
        work: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let late = |_| StoreError::Unavailable {
            store: self.store,
            detail: format!("no answer within {deadline_ms} ms"),
        };
        tokio::time::timeout(Duration::from_millis(deadline_ms), work).await.map_err(late)?
    }

    /// Finishes what is under way and closes the files. Calls afterwards are unavailable.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }

    async fn commit(&self, deadline_ms: u64, transaction: Transaction) -> Result<(), StoreError> {
        let deadline = Duration::from_millis(deadline_ms);
        match tokio::time::timeout(deadline, transaction.commit()).await {
            Ok(committed) => committed.map_err(|error| failure::of_commit(self.store, &error)),
            Err(_) => Err(StoreError::OutcomeUnknown {
                store: self.store,
                detail: format!("a commit took more than {deadline_ms} ms"),
            }),
        }
    }
}

#[cfg(test)]
mod tests;
