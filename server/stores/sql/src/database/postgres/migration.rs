//! Bringing a schema up to date: by one process at a time, and never past what this version knows.

use std::time::Duration;

use sqlx::AssertSqlSafe;
use sqlx::migrate::{Migrate as _, MigrateError};
use sqlx::postgres::PgConnection;
use tokio::time::timeout;

use super::super::{CALL_MS_MAX, LAST_APPLIED, OpenError};
use super::asking::MIGRATE_MS_MAX;
use super::{Migrations, PostgresDatabase, ServerSchema};

/// The advisory lock of whoever migrates. Any number will do that no store has for its writers.
const MIGRATION_LOCK: i64 = 0x7261_7465_6d69_6772;
/// Where a schema keeps which migrations were applied, and whether it does.
const TABLE: &str = "_sqlx_migrations";
const HAS_ANY: &str = "SELECT to_regclass('_sqlx_migrations') IS NOT NULL";

/// Makes sure that a schema is the one of this version.
pub(super) async fn prepare(
    connection: &mut PgConnection,
    server: &PostgresDatabase,
    schema: &ServerSchema,
) -> Result<(), OpenError> {
    match server.migrations() {
        Migrations::Apply => apply(connection, server, schema).await,
        Migrations::Require => require(connection, server, schema).await,
    }
}

/// The lock is the session's, so that it is held over the migrations' own transactions.
async fn apply(
    connection: &mut PgConnection,
    server: &PostgresDatabase,
    schema: &ServerSchema,
) -> Result<(), OpenError> {
    server.lock(connection, MIGRATION_LOCK, "migrates a schema").await?;
    // To make a schema that is there already would need the right to make one.
    if !server.answer(exists(connection, schema)).await? {
        let create = format!("CREATE SCHEMA {}", schema.name);
        server.answer(sqlx::raw_sql(AssertSqlSafe(create)).execute(&mut *connection)).await?;
    }
    let migrating = schema.migrator.run_direct(None, connection, false);
    let late = |_| server.away(format!("no migration within {MIGRATE_MS_MAX} ms"));
    let migrated = timeout(Duration::from_millis(MIGRATE_MS_MAX), migrating).await.map_err(late)?;
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
    let has_any: bool = server.answer(sqlx::query_scalar(HAS_ANY).fetch_one(&mut *connection)).await?;
    if !has_any {
        return Err(older());
    }
    let listing = timeout(Duration::from_millis(CALL_MS_MAX), connection.list_applied_migrations(TABLE));
    let late = |_| server.away(format!("no answer within {CALL_MS_MAX} ms"));
    let applied = listing.await.map_err(late)?.map_err(|error| refusal(server, schema, &error))?;
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
        let mut connection = self.connect(schema.name).await?;
        let applied = self.answer(last_applied(&mut connection)).await;
        Self::part(connection).await;
        applied
    }
}

async fn last_applied(connection: &mut PgConnection) -> Result<Option<i64>, sqlx::Error> {
    if !sqlx::query_scalar(HAS_ANY).fetch_one(&mut *connection).await? {
        return Ok(None);
    }
    sqlx::query_scalar(LAST_APPLIED).fetch_one(connection).await
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
