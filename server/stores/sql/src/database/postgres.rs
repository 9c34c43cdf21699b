//! The connections to one store on a server, and how one that broke is replaced.

mod asking;
mod leader;
mod listener;
mod migration;
mod open;
mod server;
mod turn;

use std::time::Duration;

use sqlx::postgres::{PgConnection, PgPool};
use sqlx::{Connection as _, Error, Postgres};

use super::connection::{Connection, Held};
use super::failure::is_broken;
use super::scope::{SETTING, Scope};

pub(crate) use leader::Leadership;
pub(super) use listener::Listener;
pub use server::{Migrations, PostgresDatabase};

/// Longest wait for the answer to a sign of life.
const PING_MS_MAX: u64 = 2_000;
/// Begins a transaction in which every statement sees the same state.
const BEGIN_READ: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
/// How a writer begins. Each statement sees what was committed before it, whatever is the default of the role or
/// of the database: what the writer before has done is seen once its place is free.
const BEGIN_WRITE: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";

/// One store's tables on a server.
#[derive(Debug)]
pub(crate) struct ServerSchema {
    /// The store, as errors name it.
    pub store: &'static str,
    /// The schema.
    pub name: &'static str,
    /// Its tables.
    pub migrator: &'static sqlx::migrate::Migrator,
    /// The advisory lock of whoever writes. Any number will do that no other store has.
    pub writer_lock: i64,
}

/// Pools of a store: connections that write, one after the other, and such that only read.
#[derive(Clone, Debug)]
pub(super) struct PostgresPools {
    pub writers: PgPool,
    pub readers: PgPool,
    pub writer_lock: i64,
    /// What hears of other processes, where somebody wants to know.
    pub listener: Option<Listener>,
}

impl PostgresPools {
    /// Begins a transaction that has the store's one place for writers.
    pub async fn begin(&self, scope: Scope<'_>) -> Result<Connection, Error> {
        let mut transaction = begin(&self.writers, BEGIN_WRITE).await?;
        sqlx::query("SELECT set_config($1, $2, true), pg_advisory_xact_lock($3)")
            .bind(SETTING)
            .bind(scope.setting())
            .bind(self.writer_lock)
            .execute(&mut *transaction)
            .await?;
        Ok(Connection::Postgres(Held::Transaction(transaction)))
    }

    /// A connection that only reads.
    pub async fn reader(&self, scope: Scope<'_>) -> Result<Connection, Error> {
        let mut tries_left = self.readers.options().get_max_connections();
        loop {
            let mut connection = self.readers.acquire().await?;
            match state_scope(&mut connection, scope, false).await {
                Err(error) if is_broken(&error) && tries_left > 0 => connection.close_on_drop(),
                Err(error) => return Err(error),
                Ok(()) => return Ok(Connection::Postgres(Held::Plain(connection))),
            }
            tries_left -= 1;
        }
    }

    /// Begins a transaction that only reads, in which every statement sees the same state.
    pub async fn begin_read(&self, scope: Scope<'_>) -> Result<Connection, Error> {
        let mut transaction = begin(&self.readers, BEGIN_READ).await?;
        state_scope(&mut transaction, scope, true).await?;
        Ok(Connection::Postgres(Held::Transaction(transaction)))
    }

    pub async fn close(&self) {
        self.readers.close().await;
        self.writers.close().await;
    }
}

/// Begins a transaction. Connections that a server has left behind when it went down are found out
/// here, at most as many as the pool has, and the next one is tried.
async fn begin(
    pool: &PgPool,
    statement: &'static str,
) -> Result<sqlx::Transaction<'static, Postgres>, Error> {
    let mut tries_left = pool.options().get_max_connections();
    loop {
        match pool.begin_with(statement).await {
            Err(error) if is_broken(&error) && tries_left > 0 => tries_left -= 1,
            begun => return begun,
        }
    }
}

async fn state_scope(
    connection: &mut PgConnection,
    scope: Scope<'_>,
    in_transaction: bool,
) -> Result<(), Error> {
    sqlx::query("SELECT set_config($1, $2, $3)")
        .bind(SETTING)
        .bind(scope.setting())
        .bind(in_transaction)
        .execute(connection)
        .await
        .map(drop)
}

/// Whether a connection that comes back can be given out again. One over which nothing comes back,
/// because its statement still runs or its server is gone without a word, is not waited for.
async fn is_reusable(connection: &mut PgConnection) -> Result<bool, Error> {
    let alive = tokio::time::timeout(Duration::from_millis(PING_MS_MAX), connection.ping()).await;
    alive.map_err(|_| Error::PoolTimedOut)?.map(|()| true)
}

#[cfg(test)]
mod tests;
