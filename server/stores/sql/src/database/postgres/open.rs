//! Opening a store on a server: its schema, and the refusal of what this version cannot read.

use super::super::{Database, OpenError, Pools};
use super::migration;
use super::{Listener, PostgresDatabase, PostgresPools, ServerSchema};

impl Database {
    /// Opens a store on a server and, where that is asked for, brings its schema up to date.
    ///
    /// # Errors
    /// [`OpenError`]; the schema is as it was, but for migrations that this version knows.
    pub(crate) async fn open_on_server(
        server: &PostgresDatabase,
        schema: &ServerSchema,
    ) -> Result<Self, OpenError> {
        let mut connection = server.connect(schema.name).await?;
        let prepared = migration::prepare(&mut connection, server, schema).await;
        // An ended session gives back its locks, whatever it has come to.
        PostgresDatabase::part(connection).await;
        prepared?;
        let pools = PostgresPools {
            writers: server.writers(schema.name),
            readers: server.readers(schema.name),
            writer_lock: schema.writer_lock,
            listener: None,
        };
        Ok(Self { store: schema.store, pools: Pools::Postgres(pools) })
    }

    /// The same database, which hears from now on what other processes tell of.
    pub(crate) fn listening(mut self, server: &PostgresDatabase, schema: &ServerSchema) -> Self {
        if let Pools::Postgres(pools) = &mut self.pools {
            pools.listener = Some(Listener::start(server, schema.name));
        }
        self
    }
}

impl PostgresDatabase {
    /// Whether the role of the URL passes row-level security by, as a superuser does: the second wall
    /// between workspaces does not stand then.
    ///
    /// # Errors
    /// [`OpenError::Server`].
    pub async fn role_passes_row_security(&self) -> Result<bool, OpenError> {
        let mut connection = self.connect("pg_catalog").await?;
        let sql = "SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user";
        let passes = self.answer(sqlx::query_scalar(sql).fetch_one(&mut connection)).await;
        Self::part(connection).await;
        passes
    }
}
