//! Tests of what opening refuses, what errors mean, and what a full or read-only disk leaves.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use rateguard_core::ids::{DisplayName, WorkspaceId};
use rateguard_core::money::Currency;
use rateguard_core::time::{Millis, Zone};
use rateguard_engine::audit::Deed;
use rateguard_engine::ports::ConfigStore;
use rateguard_engine::resources::Workspace;
use sqlx::migrate::Migrator;
use sqlx::sqlite::SqlitePool;
use tempfile::TempDir;

use super::*;
use crate::{SqlConfigStore, SqlEventLog};

static MIGRATOR: Migrator = sqlx::migrate!("../../../migrations/config/sqlite");
const SCHEMA: Schema = Schema {
    store: "test",
    file: "config.db",
    migrator: &MIGRATOR,
    durability: Durability::EveryCommit,
    content: Content { table: "workspaces", rows: "SELECT 1 FROM workspaces" },
    writing: Writing::Seldom,
    remedy: "restore it from a backup",
};

fn temporary() -> TempDir {
    tempfile::tempdir().unwrap()
}

async fn opened(folder: &TempDir) -> Database {
    Database::open(&DataFolder::open(folder.path()).unwrap(), &SCHEMA).await.unwrap()
}

async fn refusal(folder: &TempDir) -> OpenError {
    Database::open(&DataFolder::open(folder.path()).unwrap(), &SCHEMA).await.unwrap_err()
}

async fn insert_workspace(database: &Database, id: &str) -> Result<(), StoreError> {
    let work = async {
        let mut transaction = database.begin(Scope::Installation).await?;
        query(
            "INSERT INTO workspaces (id, name, zone, currency, created_at) VALUES ($1, 'w', 'UTC', 'USD', 0)",
        )
        .bind(id)
        .execute(&mut transaction)
        .await
        .map_err(failure(database.store))?;
        Ok((transaction, ()))
    };
    database.write(work).await
}

async fn workspaces(database: &Database) -> i64 {
    let mut reader = database.reader(Scope::Installation).await.unwrap();
    query_scalar("SELECT count(*) FROM workspaces").fetch_one(&mut reader).await.unwrap()
}

fn writer(database: &Database) -> &SqlitePool {
    match &database.pools {
        Pools::Sqlite(pools) => &pools.writer,
        Pools::Postgres(_) => panic!("not a file"),
    }
}

/// Runs a statement on the connection that writes, which is always the same one.
async fn on_writer(database: &Database, statement: &'static str) {
    sqlx::query(statement).execute(writer(database)).await.unwrap();
}

async fn pragma(pool: &SqlitePool, statement: &'static str) -> String {
    let mut connection = pool.acquire().await.unwrap();
    let row = sqlx::query(statement).fetch_one(&mut *connection).await.unwrap();
    sqlx::Row::try_get_unchecked(&row, 0).unwrap()
}

#[tokio::test]
async fn a_folder_and_its_files_belong_to_their_owner_alone() {
    let parent = temporary();
    let path = parent.path().join("deep/data");
    let folder = DataFolder::open(&path).unwrap();
    let database = Database::open(&folder, &SCHEMA).await.unwrap();
    insert_workspace(&database, "ws_1").await.unwrap();
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    let files: Vec<_> = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(files.len() >= 4, "lock, database, log and its index: {files:?}");
    assert!(files.iter().all(|file| mode(file) == 0o600), "{files:?}");
}

#[tokio::test]
async fn a_file_that_others_could_read_is_closed_to_them() {
    let folder = temporary();
    opened(&folder).await.close().await;
    let file = folder.path().join("config.db");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let _database = opened(&folder).await;
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn a_folder_is_opened_by_one_process_at_a_time() {
    let folder = temporary();
    let database = opened(&folder).await;
    let refused = DataFolder::open(folder.path()).unwrap_err();
    assert!(matches!(refused, OpenError::Locked { .. }), "{refused}");
    assert!(refused.to_string().contains("in use by another process"), "{refused}");
    database.close().await;
    assert!(DataFolder::open(folder.path()).is_err(), "a closed database still holds its folder");
    drop(database);
    DataFolder::open(folder.path()).unwrap();
}

#[tokio::test]
async fn a_folder_that_is_a_file_is_refused() {
    let parent = temporary();
    let path = parent.path().join("file");
    fs::write(&path, "x").unwrap();
    let refused = DataFolder::open(&path).unwrap_err();
    assert!(matches!(refused, OpenError::Folder { .. }), "{refused}");
}

#[tokio::test]
async fn every_commit_is_synced_unless_the_schema_says_otherwise() {
    let folder = temporary();
    let data_folder = DataFolder::open(folder.path()).unwrap();
    let synced = Database::open(&data_folder, &SCHEMA).await.unwrap();
    let (full, normal) = ("2", "1");
    assert_eq!(
        pragma(writer(&synced), "SELECT cast(synchronous AS text) FROM pragma_synchronous").await,
        full
    );
    assert_eq!(pragma(writer(&synced), "PRAGMA journal_mode").await, "wal");
    let relaxed = Schema { file: "other.db", durability: Durability::Checkpoints, ..SCHEMA };
    let relaxed = Database::open(&data_folder, &relaxed).await.unwrap();
    let found = pragma(writer(&relaxed), "SELECT cast(synchronous AS text) FROM pragma_synchronous").await;
    assert_eq!(found, normal);
}

/// Much is written between two checkpoints, and the write-ahead log still has an end; what stands in
/// it alone is found again after a crash.
#[tokio::test]
async fn a_file_that_is_written_heavily_keeps_its_log_bounded_and_survives_a_crash() {
    let schema = Schema { writing: Writing::Heavily, ..SCHEMA };
    let folder = temporary();
    let database = Database::open(&DataFolder::open(folder.path()).unwrap(), &schema).await.unwrap();
    let log = folder.path().join("config.db-wal");
    let (bytes_max, mut largest) = (80 * 1024 * 1024, 0);
    on_writer(
        &database,
        "INSERT INTO workspaces (id, name, zone, currency, created_at) VALUES ('ws_1', 'w', 'UTC', 'USD', 0)",
    )
    .await;
    for _ in 0..60 {
        on_writer(&database, "UPDATE workspaces SET name = hex(randomblob(1048576))").await;
        largest = largest.max(fs::metadata(&log).unwrap().len());
    }
    assert!((32 * 1024 * 1024..bytes_max).contains(&largest), "the log grew to {largest} bytes");
    let crashed = temporary();
    for file in ["config.db", "config.db-wal"] {
        fs::copy(folder.path().join(file), crashed.path().join(file)).unwrap();
    }
    let found = Database::open(&DataFolder::open(crashed.path()).unwrap(), &schema).await.unwrap();
    let name = "SELECT name FROM workspaces";
    assert_eq!(pragma(writer(&found), name).await, pragma(writer(&database), name).await);
}

#[tokio::test]
async fn a_newer_schema_is_refused_and_left_alone() {
    let folder = temporary();
    let database = opened(&folder).await;
    on_writer(&database, "CREATE TABLE from_the_future (id INTEGER)").await;
    on_writer(
        &database,
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (9999, 'from the future', 1, x'00', 0)",
    )
    .await;
    database.close().await;
    drop(database);
    let refused = refusal(&folder).await;
    assert!(matches!(refused, OpenError::Newer { version: 9999, .. }), "{refused}");
    assert!(refused.to_string().contains("start the version that wrote it"), "{refused}");
}

#[tokio::test]
async fn a_migration_that_was_changed_later_is_refused() {
    let folder = temporary();
    let database = opened(&folder).await;
    on_writer(&database, "UPDATE _sqlx_migrations SET checksum = x'00'").await;
    database.close().await;
    drop(database);
    let refused = refusal(&folder).await;
    assert!(matches!(refused, OpenError::Corrupt { .. }), "{refused}");
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused() {
    let folder = temporary();
    fs::write(folder.path().join("config.db"), "this is not a database, but a text. ".repeat(100)).unwrap();
    let refused = refusal(&folder).await;
    assert!(matches!(refused, OpenError::Corrupt { .. }), "{refused}");
    assert!(refused.to_string().contains("restore it from a backup"), "{refused}");
}

#[tokio::test]
async fn a_damaged_file_is_refused() {
    let folder = temporary();
    let database = opened(&folder).await;
    for number in 0..200 {
        insert_workspace(&database, &format!("ws_{number}")).await.unwrap();
    }
    database.close().await;
    drop(database);
    let file = folder.path().join("config.db");
    let mut bytes = fs::read(&file).unwrap();
    let page_bytes = 4_096;
    bytes[page_bytes..].fill(0x5a);
    fs::write(&file, bytes).unwrap();
    let refused = refusal(&folder).await;
    assert!(matches!(refused, OpenError::Corrupt { .. }), "{refused}");
}

#[tokio::test]
async fn a_file_that_lost_its_end_is_refused() {
    let folder = temporary();
    opened(&folder).await.close().await;
    let file = folder.path().join("config.db");
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    let refused = refusal(&folder).await;
    assert!(matches!(refused, OpenError::Corrupt { .. }), "{refused}");
}

#[tokio::test]
async fn a_full_disk_refuses_the_write_and_loses_nothing() {
    let folder = temporary();
    let database = opened(&folder).await;
    insert_workspace(&database, "ws_before").await.unwrap();
    on_writer(&database, "PRAGMA max_page_count = 1").await;
    let filling = async {
        for number in 0..10_000 {
            insert_workspace(&database, &format!("ws_{number}")).await?;
        }
        Ok(())
    };
    let refused: Result<(), StoreError> = filling.await;
    assert!(matches!(refused, Err(StoreError::Unavailable { store: "test", .. })), "{refused:?}");
    let kept = workspaces(&database).await;
    assert!(kept >= 1);

    // SQLite has ended the transaction by itself; the next writer does not inherit its state.
    on_writer(&database, "PRAGMA max_page_count = 1000000").await;
    insert_workspace(&database, "ws_after").await.unwrap();
    assert_eq!(workspaces(&database).await, kept + 1);
}

#[tokio::test]
async fn a_disk_that_may_only_be_read_refuses_the_write_and_still_reads() {
    let folder = temporary();
    let database = opened(&folder).await;
    insert_workspace(&database, "ws_before").await.unwrap();
    on_writer(&database, "PRAGMA query_only = ON").await;
    let refused = insert_workspace(&database, "ws_refused").await;
    assert!(matches!(refused, Err(StoreError::Unavailable { .. })), "{refused:?}");
    assert_eq!(workspaces(&database).await, 1);
    on_writer(&database, "PRAGMA query_only = OFF").await;
    insert_workspace(&database, "ws_after").await.unwrap();
}

#[tokio::test]
async fn a_store_says_that_it_is_unavailable_while_its_disk_is_full() {
    let folder = temporary();
    let home = DataFolder::open(folder.path()).unwrap();
    let log = SqlEventLog::open(&home).await.unwrap();
    let store = SqlConfigStore::open(&home, &log).await.unwrap();
    let by = Deed::of_server("Test", Millis::ZERO);
    on_writer(store.database(), "PRAGMA query_only = ON").await;
    let workspace = Workspace {
        id: WorkspaceId::parse("id", "ws_1").unwrap(),
        name: DisplayName::parse("name", "W").unwrap(),
        zone: Zone::UTC,
        currency: Currency::USD,
    };
    let refused = store.create_workspace(workspace.clone(), &by).await;
    assert!(matches!(refused, Err(StoreError::Unavailable { store: "config", .. })), "{refused:?}");
    on_writer(store.database(), "PRAGMA query_only = OFF").await;
    store.create_workspace(workspace, &by).await.unwrap();
}

#[tokio::test]
async fn a_write_that_fails_midway_leaves_nothing() {
    let folder = temporary();
    let database = opened(&folder).await;
    let work = async {
        let mut transaction = database.begin(Scope::Installation).await?;
        query("INSERT INTO workspaces (id, name, zone, currency, created_at) VALUES ('ws_1', 'w', 'UTC', 'USD', 0)")
            .execute(&mut transaction)
            .await
            .map_err(failure("test"))?;
        Err::<(Transaction, ()), _>(StoreError::NotFound)
    };
    assert_eq!(database.write(work).await, Err(StoreError::NotFound));
    assert_eq!(workspaces(&database).await, 0);
}

#[tokio::test]
async fn readers_cannot_write() {
    let folder = temporary();
    let database = opened(&folder).await;
    let mut reader = database.reader(Scope::Installation).await.unwrap();
    let refused = query("DELETE FROM workspaces").execute(&mut reader).await;
    let refused = failure("test")(refused.unwrap_err());
    assert!(matches!(refused, StoreError::Unavailable { .. }), "{refused}");
}

#[tokio::test]
async fn a_closed_database_is_unavailable() {
    let folder = temporary();
    let database = opened(&folder).await;
    database.close().await;
    let refused = insert_workspace(&database, "ws_1").await;
    assert!(matches!(refused, Err(StoreError::Unavailable { .. })), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_never_ends_is_given_up_at_its_deadline() {
    let folder = temporary();
    // Opening talks to threads, which paused time would outrun.
    tokio::time::resume();
    let database = opened(&folder).await;
    tokio::time::pause();
    let work = std::future::pending::<Result<(), StoreError>>();
    let late = database.within_deadline(work).await;
    assert!(matches!(late, Err(StoreError::Unavailable { .. })), "{late:?}");
}

#[tokio::test]
async fn a_commit_that_broke_a_promise_to_a_parent_is_surely_not_done() {
    let folder = temporary();
    let database = opened(&folder).await;
    let work = async {
        let mut transaction = database.begin(Scope::Installation).await?;
        for statement in [
            "PRAGMA defer_foreign_keys = ON",
            "INSERT INTO changes VALUES (1, 'ws_missing', 'rule', 'rule_1', 0)",
        ] {
            query(statement).execute(&mut transaction).await.map_err(failure("test"))?;
        }
        Ok((transaction, ()))
    };
    let refused = database.write(work).await;
    assert!(matches!(refused, Err(StoreError::Unavailable { .. })), "{refused:?}");
    insert_workspace(&database, "ws_1").await.unwrap();
}
