//! What is asked of a server before its stores are open: each step under a deadline of its own, so that
//! a server that takes connections and answers nothing is told of in good time.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use sqlx::postgres::PgConnection;
use sqlx::{ConnectOptions as _, Connection as _, Error};
use tokio::time::{Instant, interval_at, timeout};

use super::super::{CALL_MS_MAX, OpenError};
use super::{PING_MS_MAX, PostgresDatabase};

/// Longest wait for a server at the start, for example behind a network that drops packets.
const CONNECT_MS_MAX: u64 = 10_000;
/// Longest wait for a migration, or for another process's.
pub(super) const MIGRATE_MS_MAX: u64 = 3_600_000;
/// How often the log says that another process is waited for.
const WAIT_TOLD_EVERY: Duration = Duration::from_secs(10);

impl PostgresDatabase {
    /// A connection that looks into one schema and may take its time over a migration.
    ///
    /// # Errors
    /// [`OpenError::Server`].
    pub(super) async fn connect(&self, schema: &str) -> Result<PgConnection, OpenError> {
        let options = self.connecting_to_migrate(schema);
        self.within(CONNECT_MS_MAX, options.connect()).await
    }

    /// The answer to a question that takes milliseconds.
    ///
    /// # Errors
    /// [`OpenError::Server`].
    pub(super) async fn answer<T>(
        &self,
        asking: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, OpenError> {
        self.within(CALL_MS_MAX, asking).await
    }

    /// Takes an advisory lock for the session, and says in the log for what it waits.
    ///
    /// # Errors
    /// [`OpenError::Server`], also when another process keeps it for longer than any migration may take.
    pub(super) async fn lock(
        &self,
        connection: &mut PgConnection,
        lock: i64,
        other: &'static str,
    ) -> Result<(), OpenError> {
        let taking = sqlx::query("SELECT pg_advisory_lock($1)").bind(lock).execute(connection);
        let mut taking = pin!(self.within(MIGRATE_MS_MAX, taking));
        let mut ticks = interval_at(Instant::now() + WAIT_TOLD_EVERY, WAIT_TOLD_EVERY);
        loop {
            tokio::select! {
                biased;
                taken = &mut taking => return taken.map(drop),
                _ = ticks.tick() => tracing::info!(database = self.name(), "waiting for another process, which {other}"),
            }
        }
    }

    /// Ends a session. The server does it by itself where the connection is gone already, and a lock goes
    /// with it however it ends.
    pub(super) async fn part(connection: PgConnection) {
        let farewell = timeout(Duration::from_millis(PING_MS_MAX), connection.close()).await;
        if let Err(error) = farewell.unwrap_or(Err(Error::PoolTimedOut)) {
            tracing::debug!(%error, "a session was left to the server to end");
        }
    }

    /// Why a store was not opened.
    pub(super) fn refusal(&self, error: &Error) -> OpenError {
        self.away(error.to_string())
    }

    pub(super) fn away(&self, detail: String) -> OpenError {
        OpenError::Server { database: self.name().to_owned(), detail }
    }

    async fn within<T>(
        &self,
        ms_max: u64,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, OpenError> {
        let late = |_| self.away(format!("no answer within {ms_max} ms"));
        let done = timeout(Duration::from_millis(ms_max), work).await.map_err(late)?;
        done.map_err(|error| self.refusal(&error))
    }
}

#[cfg(test)]
mod tests;
