//! What is told of schemas, and what a migration makes of them.

use rateguard_test_servers::PostgresServer;
use sqlx::{AssertSqlSafe, PgConnection};

use super::*;
use crate::{Migrations, Opening, SqlStores};

/// What a process leaves that ends in the middle of a migration.
const LEAVE_LAST_UNFINISHED: &str = "UPDATE _sqlx_migrations SET success = false WHERE version = \
                                     (SELECT max(version) FROM _sqlx_migrations)";

fn is_current(version: &SchemaVersion) -> bool {
    version.applied == Some(version.known)
}

#[tokio::test]
async fn a_folder_without_an_installation_is_told_of_and_not_migrated() {
    let folder = tempfile::tempdir().unwrap();
    assert!(versions(folder.path()).await.unwrap().iter().all(|version| version.applied.is_none()));
    let refused = migrate(folder.path()).await.unwrap_err();
    assert!(matches!(refused, OpenError::NoInstallation { .. }), "{refused}");
}

#[tokio::test]
async fn the_files_of_an_installation_are_current_after_a_migration() {
    let folder = tempfile::tempdir().unwrap();
    let held = DataFolder::open(folder.path()).unwrap();
    SqlStores::open(&held, Opening::ExistingOrNew).await.unwrap().close().await;
    drop(held);
    migrate(folder.path()).await.unwrap();
    let told = versions(folder.path()).await.unwrap();
    assert_eq!(
        told.iter().map(|version| version.store).collect::<Vec<_>>(),
        ["config", "event", "usage", "counters"]
    );
    assert!(told.iter().all(is_current), "{told:?}");
}

#[tokio::test]
async fn a_migration_that_did_not_end_is_not_counted_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let held = DataFolder::open(folder.path()).unwrap();
    SqlStores::open(&held, Opening::ExistingOrNew).await.unwrap().close().await;
    let path = folder.path().join(config::SCHEMA.file);
    let mut connection = SqliteConnectOptions::new().filename(&path).connect().await.unwrap();
    sqlx::query(LEAVE_LAST_UNFINISHED).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    let told = versions(folder.path()).await.unwrap();
    assert!(!is_current(&told[0]), "{told:?}");
    assert!(told[1..].iter().all(is_current), "{told:?}");
}

#[tokio::test]
async fn a_migration_that_did_not_end_is_not_counted_in_a_database() {
    let url = PostgresServer::shared().await.unwrap().new_database().await.unwrap();
    let server = PostgresDatabase::new(&url, 8, Migrations::Apply).unwrap();
    migrate_on_server(&server).await.unwrap();
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let set = format!("SET search_path = {}", config::SERVER_SCHEMA.name);
    sqlx::query(AssertSqlSafe(set)).execute(&mut connection).await.unwrap();
    sqlx::query(LEAVE_LAST_UNFINISHED).execute(&mut connection).await.unwrap();
    let told = versions_on_server(&server).await.unwrap();
    assert!(!is_current(&told[0]), "{told:?}");
    assert!(told[1..].iter().all(is_current), "{told:?}");
}

#[tokio::test]
async fn an_empty_database_is_migrated_once_by_two_at_once() {
    let url = PostgresServer::shared().await.unwrap().new_database().await.unwrap();
    let server = PostgresDatabase::new(&url, 8, Migrations::Apply).unwrap();
    let told = versions_on_server(&server).await.unwrap();
    assert!(told.iter().all(|version| version.applied.is_none() && version.known > 0), "{told:?}");
    let (one, other) = tokio::join!(migrate_on_server(&server), migrate_on_server(&server));
    one.unwrap();
    other.unwrap();
    assert!(versions_on_server(&server).await.unwrap().iter().all(is_current));
}
