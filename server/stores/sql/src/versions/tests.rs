//! What is told of schemas, and what a migration makes of them.

use rateguard_test_servers::PostgresServer;

use super::*;
use crate::{Migrations, Opening, SqlStores};

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
