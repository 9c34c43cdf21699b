//! Bringing a schema up to date: by one process at a time, and never past what this version knows.

use std::time::Duration;

use sqlx::migrate::{Migrate as _, MigrateError};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};

use super::super::{CALL_MS_MAX, LAST_APPLIED, OpenError};
use super::{Migrations, PostgresDatabase, ServerSchema};

/// The advisory lock of whoever migrates. Any number will do that no store has for its writers.
const MIGRATION_LOCK: i64 = 0x7261_7465_6d69_6772;
/// Longest wait for a migration, or for another process's.
pub(super) const MIGRATE_MS_MAX: u64 = 3_600_000;

/// Makes sure that a schema is the one of this version.
pub(super) async fn prepare(
    connection: &mut PgConnection,
    server: &PostgresDatabase,
    schema: &ServerSchema,
) -> Result<(), OpenError> {
    let work = async {
        match server.migrations() {
            Migrations::Apply => apply(connection, server, schema).await,
            Migrations::Require => require(connection, server, schema).await,
        }
    };
    let late = |_| server.away(format!("no migration within {MIGRATE_MS_MAX} ms"));
    tokio::time::timeout(Duration::from_millis(MIGRATE_MS_MAX), work).await.map_err(late)?
}

/// The lock is the session's, so that it is held over the migrations' own transactions.
async fn apply(
    connection: &mut PgConnection,
    server: &PostgresDatabase,
    schema: &ServerSchema,
) -> Result<(), OpenError> {
    let refused = |error: sqlx::Error| server.refusal(&error);
    let lock = sqlx::query("SELECT pg_advisory_lock($1)").bind(MIGRATION_LOCK);
    lock.execute(&mut *connection).await.map_err(refused)?;
    // To make a schema that is there already would need the right to make one.
    if !exists(connection, schema).await.map_err(refused)? {
        let create = format!("CREATE SCHEMA {}", schema.name);
        sqlx::raw_sql(AssertSqlSafe(create)).execute(&mut *connection).await.map_err(refused)?;
    }
    let migrated = schema.migrator.run_direct(None, connection, false).await;
    migrated.map_err(|error| refusal(server, schema, &error))
}

async fn exists(connection: &mut PgConnection, schema: &ServerSchema) -> Result<bool, sqlx::Error> {
    let sql = "SELECT EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = $1)";
    sqlx::query_scalar(sql).bind(schema.name).fetch_one(connection).await
}

async fn require(
    connection: &mut PgConnection,
    server: &PostgresDatabase,
    schema: &ServerSchema,
) -> Result<(), OpenError> {
    let older = || OpenError::ServerOlder { database: server.name().to_owned(), schema: schema.name };
    let refused = |error: sqlx::Error| server.refusal(&error);
    let table = "SELECT to_regclass('_sqlx_migrations') IS NOT NULL";
    let has_any: bool = sqlx::query_scalar(table).fetch_one(&mut *connection).await.map_err(refused)?;
    if !has_any {
        return Err(older());
    }
    let applied = connection.list_applied_migrations("_sqlx_migrations").await;
    let applied = applied.map_err(|error| refusal(server, schema, &error))?;
    let known = |version: i64| schema.migrator.iter().any(|migration| migration.version == version);
    if let Some(newer) = applied.iter().find(|applied| !known(applied.version)) {
        return Err(newer_refusal(server, schema, newer.version));
    }
    match schema.migrator.iter().all(|known| applied.iter().any(|applied| applied.version == known.version)) {
        true => Ok(()),
        false => Err(older()),
    }
}

impl PostgresDatabase {
    /// The last migration that was applied to a schema, if any was. Nothing is made or changed.
    ///
    /// # Errors
    /// [`OpenError::Server`].
    pub(crate) async fn applied(&self, schema: &ServerSchema) -> Result<Option<i64>, OpenError> {
        let asking = async {
            let mut connection = self.connecting_to_migrate(schema.name).connect().await?;
            let table = "SELECT to_regclass('_sqlx_migrations') IS NOT NULL";
            let applied = match sqlx::query_scalar(table).fetch_one(&mut connection).await? {
                true => sqlx::query_scalar(LAST_APPLIED).fetch_one(&mut connection).await?,
                false => None,
            };
            connection.close().await?;
            Ok(applied)
        };
        let late = |_| self.away(format!("no answer within {CALL_MS_MAX} ms"));
        let asked = tokio::time::timeout(Duration::from_millis(CALL_MS_MAX), asking).await.map_err(late)?;
        asked.map_err(|error: sqlx::Error| self.refusal(&error))
    }
}

fn newer_refusal(server: &PostgresDatabase, schema: &ServerSchema, version: i64) -> OpenError {
    OpenError::ServerNewer { database: server.name().to_owned(), schema: schema.name, version }
}

fn refusal(server: &PostgresDatabase, schema: &ServerSchema, error: &MigrateError) -> OpenError {
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => server.refusal(error),
        MigrateError::VersionMissing(version) => newer_refusal(server, schema, *version),
        _ => OpenError::ServerSchema {
            database: server.name().to_owned(),
            schema: schema.name,
            detail: error.to_string(),
        },
    }
}
