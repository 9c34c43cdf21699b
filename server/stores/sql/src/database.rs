//! What the stores need of a database: a locked folder, writing connections and reading ones,
//! statements and their values, deadlines, and errors by their codes. Everything that is SQLite's
//! own or PostgreSQL's is here.

mod builder;
mod connection;
mod failure;
mod folder;
mod months;
mod notices;
mod open;
mod pages;
mod postgres;
mod query;
mod row;
mod scope;
mod sqlite;
mod value;

use std::future::Future;
use std::time::Duration;

use rateguard_engine::ports::StoreError;
use tokio::sync::watch;

pub(crate) use builder::QueryBuilder;
pub(crate) use connection::{Connection, Kind, Reader, Transaction};
pub(crate) use failure::failure;
pub use folder::DataFolder;
pub(crate) use months::make_months;
pub(crate) use notices::{Feed, notify};
pub use open::OpenError;
pub(crate) use open::{Content, Durability, Schema, Writing, refusal};
pub(crate) use pages::{push_page, push_part};
pub(crate) use postgres::{Leadership, ServerSchema};
use postgres::{Listener, PostgresPools};
pub use postgres::{Migrations, PostgresDatabase};
pub(crate) use query::{Query, query, query_as, query_scalar};
pub(crate) use row::{Column, Row};
pub(crate) use scope::Scope;
use sqlite::SqlitePools;

/// Longest wait for a connection and for the statements of one call. Statements take milliseconds;
/// the bound is for a disk that hangs.
pub(crate) const CALL_MS_MAX: u64 = 10_000;
/// Longest wait for a read of a whole store at the start.
pub(crate) const LOAD_MS_MAX: u64 = 120_000;

/// The last migration before one that began and did not end, where there is such a one: whoever opens the
/// store refuses it.
pub(crate) const LAST_APPLIED: &str = "SELECT max(version) FROM _sqlx_migrations WHERE version < \
    COALESCE((SELECT min(version) FROM _sqlx_migrations WHERE NOT success), 9223372036854775807)";

/// One opened database.
#[derive(Clone, Debug)]
pub struct Database {
    store: &'static str,
    pools: Pools,
}

#[derive(Clone, Debug)]
enum Pools {
    Sqlite(SqlitePools),
    Postgres(PostgresPools),
}

impl Database {
    /// The store, as errors name it.
    pub(crate) fn store(&self) -> &'static str {
        self.store
    }

    /// Begins the one transaction that may write now; another writer waits. Its statements see and
    /// change the rows of the scope.
    pub(crate) async fn begin(&self, scope: Scope<'_>) -> Result<Transaction, StoreError> {
        let begun = match &self.pools {
            Pools::Sqlite(pools) => pools.begin().await,
            Pools::Postgres(pools) => pools.begin(scope).await,
        };
        begun.map(Transaction).map_err(failure(self.store))
    }

    /// A connection that only reads.
    pub(crate) async fn reader(&self, scope: Scope<'_>) -> Result<Reader, StoreError> {
        let reader = match &self.pools {
            Pools::Sqlite(pools) => pools.reader().await,
            Pools::Postgres(pools) => pools.reader(scope).await,
        };
        reader.map(Reader).map_err(failure(self.store))
    }

    /// Begins a transaction that only reads, in which every statement sees the same state.
    pub(crate) async fn begin_read(&self, scope: Scope<'_>) -> Result<Transaction, StoreError> {
        let begun = match &self.pools {
            Pools::Sqlite(pools) => pools.begin_read().await,
            Pools::Postgres(pools) => pools.begin_read(scope).await,
        };
        begun.map(Transaction).map_err(failure(self.store))
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

    /// What changes whenever a feed may have grown; `None` where no other process makes it grow, or
    /// nobody listens.
    pub(crate) fn wake(&self, feed: Feed) -> Option<watch::Receiver<u64>> {
        match &self.pools {
            Pools::Sqlite(_) => None,
            Pools::Postgres(pools) => pools.listener.as_ref().map(|listener| listener.of(feed)),
        }
    }

    /// Whether notices of other processes are heard now; `None` where nobody listens.
    pub(crate) fn hears(&self) -> Option<watch::Receiver<bool>> {
        match &self.pools {
            Pools::Sqlite(_) => None,
            Pools::Postgres(pools) => pools.listener.as_ref().map(Listener::heard),
        }
    }

    /// Finishes what is under way and closes the files. Calls afterwards are unavailable.
    pub async fn close(&self) {
        match &self.pools {
            Pools::Sqlite(pools) => pools.close().await,
            Pools::Postgres(pools) => pools.close().await,
        }
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
