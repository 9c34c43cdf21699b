//! The turn of whoever opens an installation on a server, of which one has it at a time.

use sqlx::postgres::PgConnection;

use super::super::OpenError;
use super::PostgresDatabase;

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
        let mut connection = self.connect("public").await?;
        self.lock(&mut connection, OPENING_LOCK, "opens the installation").await?;
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
        let asking = sqlx::query_scalar(sql).bind(schema.to_owned()).fetch_one(&mut self.connection);
        self.server.answer(asking).await
    }

    /// Lets the next one open.
    pub async fn end(self) {
        PostgresDatabase::part(self.connection).await;
    }
}
