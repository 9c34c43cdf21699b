//! How far the schemas of an installation have come, and bringing them up to this version without
//! opening the stores to anyone.

use std::path::Path;

use sqlx::migrate::Migrator;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, Error};

use crate::database::{
    DataFolder, Database, LAST_APPLIED, OpenError, PostgresDatabase, Schema, ServerSchema, refusal,
};
use crate::{config, counters, events, usage};

/// The stores of a data folder.
const IN_FILES: [&Schema; 4] = [&config::SCHEMA, &events::SCHEMA, &usage::SCHEMA, &counters::SCHEMA];
/// The stores of a database on a server.
const ON_SERVER: [&ServerSchema; 3] = [&config::SERVER_SCHEMA, &events::SERVER_SCHEMA, &usage::SERVER_SCHEMA];
/// How a database that was never migrated is known.
const IS_MIGRATED: &str = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = '_sqlx_migrations')";

/// How far the schema of one store has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SchemaVersion {
    /// The store.
    pub store: &'static str,
    /// The last migration that was applied to its end, and all before it; `None` where there is none yet.
    pub applied: Option<i64>,
    /// The last migration of this version.
    pub known: i64,
}

/// Says how far the files of a data folder have come. Nothing is made or changed.
///
/// # Errors
/// [`OpenError`] of a file that cannot be read.
pub async fn versions(folder: &Path) -> Result<Vec<SchemaVersion>, OpenError> {
    let mut versions = Vec::new();
    for schema in IN_FILES {
        let path = folder.join(schema.file);
        let applied = applied_in_file(&path).await.map_err(|error| refusal(&path, schema, &error))?;
        versions.push(SchemaVersion { store: schema.store, applied, known: last_of(schema.migrator) });
    }
    Ok(versions)
}

/// Brings the files of an installation up to this version.
///
/// # Errors
/// [`OpenError`]; the files before the one that it names are up to date.
pub async fn migrate(folder: &Path) -> Result<(), OpenError> {
    if !folder.join(config::SCHEMA.file).exists() {
        return Err(OpenError::NoInstallation { path: folder.to_owned() });
    }
    let folder = DataFolder::open(folder)?;
    for schema in IN_FILES {
        Database::open(&folder, schema).await?.close().await;
    }
    Ok(())
}

/// Says how far the schemas of a database have come. Nothing is made or changed.
///
/// # Errors
/// [`OpenError::Server`].
pub async fn versions_on_server(server: &PostgresDatabase) -> Result<Vec<SchemaVersion>, OpenError> {
    let mut versions = Vec::new();
    for schema in ON_SERVER {
        let applied = server.applied(schema).await?;
        versions.push(SchemaVersion { store: schema.store, applied, known: last_of(schema.migrator) });
    }
    Ok(versions)
}

/// Brings the schemas of a database up to this version, making them where there are none. Others who do
/// the same at once wait.
///
/// # Errors
/// [`OpenError`]; the schemas before the one that it names are up to date.
pub async fn migrate_on_server(server: &PostgresDatabase) -> Result<(), OpenError> {
    for schema in ON_SERVER {
        Database::open_on_server(server, schema).await?.close().await;
    }
    Ok(())
}

async fn applied_in_file(path: &Path) -> Result<Option<i64>, Error> {
    if std::fs::metadata(path).map_or(0, |metadata| metadata.len()) == 0 {
        return Ok(None);
    }
    let mut connection = SqliteConnectOptions::new().filename(path).read_only(true).connect().await?;
    let is_migrated: bool = sqlx::query_scalar(IS_MIGRATED).fetch_one(&mut connection).await?;
    let applied = match is_migrated {
        true => sqlx::query_scalar(LAST_APPLIED).fetch_one(&mut connection).await?,
        false => None,
    };
    connection.close().await?;
    Ok(applied)
}

fn last_of(migrator: &Migrator) -> i64 {
    migrator.iter().map(|migration| migration.version).max().unwrap_or(0)
}

#[cfg(test)]
mod tests;
