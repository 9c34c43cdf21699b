//! Opening a store on a server: its schema, and the refusal of what this version cannot read.

use std::time::Duration;

use sqlx::postgres::PgConnection;
use sqlx::{ConnectOptions as _, Connection as _, Error};

use super::super::{Database, OpenError, Pools};
use super::migration;
use super::{Listener, PostgresDatabase, PostgresPools, ServerSchema};

/// Longest wait for a server at the start, for example behind a network that drops packets.
const CONNECT_MS_MAX: u64 = 10_000;

impl Database {
    /// Opens a store on a server and, where that is asked for, brings its schema up to date.
    ///
    /// # Errors
    /// [`OpenError`]; the schema is as it was, but for migrations that this version knows.
    pub(crate) async fn open_on_server(
        server: &PostgresDatabase,
        schema: &ServerSchema,
    ) -> Result<Self, OpenError> {
        let mut connection = connect(server, schema).await?;
        let prepared = migration::prepare(&mut connection, server, schema).await;
        // An ended session gives back its locks, whatever it has come to.
        let closed = connection.close().await;
        prepared?;
        closed.map_err(|error| server.refusal(&error))?;
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

async fn connect(server: &PostgresDatabase, schema: &ServerSchema) -> Result<PgConnection, OpenError> {
    let options = server.connecting_to_migrate(schema.name);
    let late = |_| server.away(format!("no answer within {CONNECT_MS_MAX} ms"));
    let connecting = tokio::time::timeout(Duration::from_millis(CONNECT_MS_MAX), options.connect());
    connecting.await.map_err(late)?.map_err(|error| server.refusal(&error))
}

impl PostgresDatabase {
    /// Whether the role of the URL passes row-level security by, as a superuser does: the second wall
    /// between workspaces does not stand then.
    ///
    /// # Errors
    /// [`OpenError::Server`].
    pub async fn role_passes_row_security(&self) -> Result<bool, OpenError> {
        let mut connection = self.connecting_to_migrate("pg_catalog").connect().await;
        let asked = match &mut connection {
            Ok(connection) => {
                let sql = "SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user";
                sqlx::query_scalar(sql).fetch_one(connection).await
            }
            Err(error) => return Err(self.refusal(error)),
        };
        asked.map_err(|error| self.refusal(&error))
    }

    /// Why a store was not opened.
    pub(super) fn refusal(&self, error: &Error) -> OpenError {
        self.away(error.to_string())
    }

    pub(super) fn away(&self, detail: String) -> OpenError {
        OpenError::Server { database: self.name().to_owned(), detail }
    }
}
