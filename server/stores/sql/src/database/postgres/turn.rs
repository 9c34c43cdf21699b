//! The turn of whoever opens an installation on a server, of which one has it at a time.

use std::time::Duration;

use sqlx::postgres::PgConnection;
use sqlx::{ConnectOptions as _, Connection as _, Error};

use super::super::OpenError;
use super::PostgresDatabase;
use super::migration::MIGRATE_MS_MAX;

/// The advisory lock of whoever opens. Any number will do that nothing else of the stores has.
const OPENING_LOCK: i64 = 0x7261_7465_6f70_656e;

/// That this process may open, until it ends its turn or is gone.
pub(crate) struct Turn {
    server: PostgresDatabase,
    connection: PgConnection,
}

impl PostgresDatabase {
    /// Waits until no other process opens the installation.
    ///
    /// # Errors
    /// [`OpenError::Server`], also when another takes longer than any migration may.
    pub(crate) async fn wait_for_turn(&self) -> Result<Turn, OpenError> {
        let waiting = async {
            let mut connection = self.connecting_to_migrate("public").connect().await?;
            let lock = sqlx::query("SELECT pg_advisory_lock($1)").bind(OPENING_LOCK);
            lock.execute(&mut connection).await?;
            Ok(connection)
        };
        let late = |_| self.away(format!("another process has been opening it for {MIGRATE_MS_MAX} ms"));
        let waited =
            tokio::time::timeout(Duration::from_millis(MIGRATE_MS_MAX), waiting).await.map_err(late)?;
        let connection = waited.map_err(|error: Error| self.refusal(&error))?;
        Ok(Turn { server: self.clone(), connection })
    }
}

impl Turn {
    /// Whether the database has a schema.
    ///
    /// # Errors
    /// [`OpenError::Server`].
    pub async fn finds(&mut self, schema: &str) -> Result<bool, OpenError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = $1)";
        let found = sqlx::query_scalar(sql).bind(schema.to_owned()).fetch_one(&mut self.connection).await;
        found.map_err(|error| self.server.refusal(&error))
    }

    /// Lets the next one open. The server does it by itself where the connection is gone already.
    pub async fn end(self) {
        drop(self.connection.close().await);
    }
}
