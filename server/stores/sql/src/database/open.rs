//! Opening a database: its file, its schema, and the refusal of what this version cannot read.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteSynchronous,
};
use sqlx::{Connection as _, Error};
use thiserror::Error;

use super::sqlite::SqlitePools;
use super::{CALL_MS_MAX, DataFolder, Database, Pools, failure};

/// SQLite has one writer at a time; more connections would only wait for each other.
const WRITERS: u32 = 1;
/// Reading connections: queries of a few people at once, each with a thread of its own.
const READERS_MAX: u32 = 4;
/// How long SQLite itself waits for a lock, for example of a backup tool.
const BUSY_MS_MAX: u64 = 5_000;
/// Files up to this size are checked whole when they are opened, in some tens of milliseconds;
/// larger ones are checked as they are read.
const CHECKED_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// The write-ahead log is cut back to this after a checkpoint.
const WAL_BYTES_KEPT_MAX: u64 = 64 * 1024 * 1024;
/// The cache of a connection that writes heavily, in KiB: the upper levels of the log's indexes stay
/// in memory, where the 2 MiB of SQLite's own would have them read again with each append.
const WRITER_CACHE_KIB: u32 = 64 * 1024;
/// Pages of 4 KiB after which a file that is written heavily has its write-ahead log carried over:
/// 62 MiB, so that a page that changes with every append is carried once for hundreds of them. A
/// start after a crash reads that much again, in some tenths of a second.
const WAL_PAGES_MAX: u32 = 16_000;
/// What a sound file answers to a check.
const CHECK_OK: &str = "ok";

/// What survives a loss of power. A killed process loses nothing either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    /// Every commit is synced before it returns.
    EveryCommit,
    /// The last commits may be lost, in order; for what can be built again.
    Checkpoints,
}

/// One store's database.
#[derive(Debug)]
pub(crate) struct Schema {
    /// The store, as errors name it.
    pub store: &'static str,
    /// The file's name.
    pub file: &'static str,
    /// Its tables.
    pub migrator: &'static Migrator,
    /// What survives a loss of power.
    pub durability: Durability,
    /// By what a file is known that holds something.
    pub content: Content,
    /// How it is written.
    pub writing: Writing,
    /// What to do when it is damaged.
    pub remedy: &'static str,
}

/// By what a file is known that holds something.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Content {
    /// A table of the first migration.
    pub table: &'static str,
    /// A query that has rows when anything was ever written.
    pub rows: &'static str,
}

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Writing {
    /// A few rows at a time: SQLite's own figures.
    Seldom,
    /// Thousands of rows a second, spread over indexes that are larger than SQLite's own cache.
    Heavily,
}

/// Why a data folder or a database was not opened. Each says what to do.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Another process has the folder.
    #[error("{} is in use by another process; stop that one or name another data folder", path.display())]
    Locked {
        /// The folder.
        path: PathBuf,
    },
    /// The folder or a file in it cannot be made or written.
    #[error("{} cannot be opened; make it writable or name another data folder: {source}", path.display())]
    Folder {
        /// The folder or file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A newer version has written the file.
    #[error(
        "{} has the schema {version}, which this version does not know; start the version that wrote it, \
         or restore a backup from before the upgrade",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// The first migration that is not known.
        version: i64,
    },
    /// The file is no database, or a damaged one.
    #[error("{} is damaged; {remedy}: {detail}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What to do.
        remedy: &'static str,
        /// What is wrong.
        detail: String,
    },
    /// The folder holds nothing.
    #[error(
        "{} holds no installation; make one with `rateguard init`, or name the right data folder",
        path.display()
    )]
    NoInstallation {
        /// The folder.
        path: PathBuf,
    },
    /// A file of the installation is gone, and the others are there.
    #[error("{} is missing or empty, while other files of its installation are there; {remedy}", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// What to do.
        remedy: &'static str,
    },
    /// Some files do not belong to the others. Which of them are the right ones, only people know.
    #[error(
        "{} holds files that are not of one installation: {} on one side, {} on the other; {remedy}",
        path.display(), these.join(", "), those.join(", ")
    )]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// The configuration, and what belongs to it.
        these: Vec<&'static str>,
        /// The files that do not.
        those: Vec<&'static str>,
        /// What to do.
        remedy: &'static str,
    },
    /// A file includes more of the log than there is.
    #[error(
        "{} includes the events up to position {position}, and events.db ends at {end}: it is newer than events.db; \
         restore all files from one backup, or, if events.db is right, move this one away: it is then built again",
        path.display()
    )]
    AheadOfLog {
        /// The file.
        path: PathBuf,
        /// The position that it includes.
        position: u64,
        /// Where the log ends.
        end: u64,
    },
    /// A URL that names no database.
    #[error("the URL of the database cannot be read: {detail}")]
    Url {
        /// What is wrong, without the URL.
        detail: String,
    },
    /// A database on a server cannot be used now.
    #[error("{database} cannot be opened now: {detail}")]
    Server {
        /// The database and its server.
        database: String,
        /// What the server said.
        detail: String,
    },
    /// A database holds nothing.
    #[error("{database} holds no installation; make one with `rateguard init`, or name the right database")]
    ServerEmpty {
        /// The database and its server.
        database: String,
    },
    /// The schemas of a database do not belong together.
    #[error(
        "{schema} of {database} does not belong to its rateguard_config, or lacks what belongs to it; restore \
         all schemas from one backup, or name another database"
    )]
    ServerForeign {
        /// The database and its server.
        database: String,
        /// The schema that does not fit.
        schema: &'static str,
    },
    /// The counters of a folder are of another installation than a database.
    #[error(
        "{} belongs to another installation than {database}; name the data folder that belongs to it, or a new \
         one, in which the counters begin again",
        path.display()
    )]
    ForeignCounters {
        /// The file.
        path: PathBuf,
        /// The database and its server.
        database: String,
    },
    /// A newer version has been at a database.
    #[error(
        "{database} has the version {version} of {schema}, which this version of the program does not know; \
         start the one that made it, or restore a backup from before the upgrade"
    )]
    ServerNewer {
        /// The database and its server.
        database: String,
        /// The schema.
        schema: &'static str,
        /// The first migration that is not known.
        version: i64,
    },
    /// A database lacks migrations that may not be applied now.
    #[error(
        "{database} has not the {schema} of this version yet; bring it up to date with `rateguard migrate`"
    )]
    ServerOlder {
        /// The database and its server.
        database: String,
        /// The schema.
        schema: &'static str,
    },
    /// The rollups of a database include more of the log than there is.
    #[error(
        "the rollups of {database} include the events up to position {position}, and its log ends at {end}: \
         restore both schemas from one backup, or, if the log is right, drop the schema rateguard_usage: it \
         is then built again"
    )]
    ServerAheadOfLog {
        /// The database and its server.
        database: String,
        /// The position that the rollups include.
        position: u64,
        /// Where the log ends.
        end: u64,
    },
    /// What a database holds is not what its migrations made.
    #[error("{schema} of {database} is not what its migrations make; restore it from a backup: {detail}")]
    ServerSchema {
        /// The database and its server.
        database: String,
        /// The schema.
        schema: &'static str,
        /// What is wrong.
        detail: String,
    },
    /// The file cannot be read or written now.
    #[error("{} cannot be opened now: {detail}", path.display())]
    Unavailable {
        /// The file.
        path: PathBuf,
        /// What the database said.
        detail: String,
    },
}

impl Database {
    /// Opens a store's file in the folder, making it where it is missing, and brings its schema up
    /// to date.
    ///
    /// # Errors
    /// [`OpenError`]; the file is as it was, but for migrations that this version knows.
    pub(crate) async fn open(folder: &DataFolder, schema: &Schema) -> Result<Self, OpenError> {
        let path = folder.file(schema.file)?;
        let options = connect_options(&path, schema.durability);
        let writer = writer_pool(writing(options.clone(), schema.writing))
            .await
            .map_err(|error| refusal(&path, schema, &error))?;
        let readers = pool_options(READERS_MAX).connect_lazy_with(options.pragma("query_only", "ON"));
        let pools = SqlitePools { writer, readers, _folder: Some(folder.clone()) };
        if let Err(error) = prepare(&pools.writer, &path, schema).await {
            pools.close().await;
            return Err(error);
        }
        Ok(Self { store: schema.store, pools: Pools::Sqlite(pools) })
    }

    /// Opens a file that is there already, only to read it, whoever else is at work in it.
    ///
    /// # Errors
    /// [`OpenError::Unavailable`], [`OpenError::Corrupt`].
    pub(crate) async fn open_to_read(folder: &Path, schema: &Schema) -> Result<Self, OpenError> {
        let path = folder.join(schema.file);
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(false)
            .busy_timeout(Duration::from_millis(BUSY_MS_MAX))
            .pragma("query_only", "ON");
        let readers = pool_options(READERS_MAX).connect_with(options).await;
        let readers = readers.map_err(|error| refusal(&path, schema, &error))?;
        let pools = SqlitePools { writer: readers.clone(), readers, _folder: None };
        Ok(Self { store: schema.store, pools: Pools::Sqlite(pools) })
    }
}

async fn prepare(writer: &SqlitePool, path: &Path, schema: &Schema) -> Result<(), OpenError> {
    let mut writer = writer.acquire().await.map_err(|error| refusal(path, schema, &error))?;
    check_file(path, schema, &mut writer).await?;
    let migrated = schema.migrator.run_direct(None, &mut *writer, false).await;
    migrated.map_err(|error| migration_refusal(path, schema, &error))
}

fn connect_options(path: &Path, durability: Durability) -> SqliteConnectOptions {
    let synchronous = match durability {
        Durability::EveryCommit => SqliteSynchronous::Full,
        Durability::Checkpoints => SqliteSynchronous::Normal,
    };
    SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(synchronous)
        .foreign_keys(true)
        .busy_timeout(Duration::from_millis(BUSY_MS_MAX))
        .pragma("journal_size_limit", WAL_BYTES_KEPT_MAX.to_string())
        .pragma("temp_store", "MEMORY")
}

fn writing(options: SqliteConnectOptions, writing: Writing) -> SqliteConnectOptions {
    match writing {
        Writing::Seldom => options,
        Writing::Heavily => options
            .pragma("cache_size", format!("-{WRITER_CACHE_KIB}"))
            .pragma("wal_autocheckpoint", WAL_PAGES_MAX.to_string()),
    }
}

/// Connections are never retired: there is no server that would forget them.
fn pool_options(connections_max: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(connections_max)
        .acquire_timeout(Duration::from_millis(CALL_MS_MAX))
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
}

async fn writer_pool(options: SqliteConnectOptions) -> Result<SqlitePool, Error> {
    pool_options(WRITERS)
        .after_release(|connection, _| Box::pin(is_reusable(connection)))
        .connect_with(options)
        .await
}

/// SQLite ends a transaction by itself when the disk is full, and refuses the rollback that
/// follows; the driver then believes that it is still inside. Such a connection is replaced.
async fn is_reusable(connection: &mut SqliteConnection) -> Result<bool, Error> {
    connection.ping().await?;
    Ok(!connection.is_in_transaction())
}

async fn check_file(
    path: &Path,
    schema: &Schema,
    connection: &mut SqliteConnection,
) -> Result<(), OpenError> {
    let size = std::fs::metadata(path).map(|metadata| metadata.len());
    let size = size.map_err(|source| OpenError::Folder { path: path.to_owned(), source })?;
    if size > CHECKED_BYTES_MAX {
        return Ok(());
    }
    let found = sqlx::query_scalar::<_, String>("PRAGMA quick_check(1)").fetch_one(connection).await;
    match found.map_err(|error| refusal(path, schema, &error))? {
        found if found == CHECK_OK => Ok(()),
        detail => Err(OpenError::Corrupt { path: path.to_owned(), remedy: schema.remedy, detail }),
    }
}

/// Why a file was not opened.
pub(crate) fn refusal(path: &Path, schema: &Schema, error: &Error) -> OpenError {
    let (path, detail) = (path.to_owned(), error.to_string());
    if failure::is_corruption(error) {
        return OpenError::Corrupt { path, remedy: schema.remedy, detail };
    }
    OpenError::Unavailable { path, detail }
}

fn migration_refusal(path: &Path, schema: &Schema, error: &MigrateError) -> OpenError {
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
            refusal(path, schema, error)
        }
        MigrateError::VersionMissing(version) => {
            OpenError::Newer { path: path.to_owned(), version: *version }
        }
        _ => {
            let detail = error.to_string();
            OpenError::Corrupt { path: path.to_owned(), remedy: schema.remedy, detail }
        }
    }
}
