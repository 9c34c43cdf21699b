//! Tests of what is made in a database, what joins it, and what is refused with which words.

use rateguard_core::counter::Position;
use rateguard_core::time::Millis;
use rateguard_engine::audit::Deed;
use rateguard_engine::ports::ConfigStore as _;
use rateguard_store_suite::config_store::samples::workspace;
use rateguard_test_servers::PostgresServer;
use tempfile::TempDir;

use super::*;
use crate::database::Migrations;

const CONNECTIONS: u32 = 8;

/// A database, empty at first.
struct Place {
    postgres: &'static PostgresServer,
    url: String,
}

impl Place {
    async fn new() -> Self {
        let postgres = PostgresServer::shared().await.unwrap();
        Self { postgres, url: postgres.new_database().await.unwrap() }
    }

    fn server(&self) -> PostgresDatabase {
        PostgresDatabase::new(&self.url, CONNECTIONS, Migrations::Apply).unwrap()
    }

    async fn open(&self, folder: &TempDir, opening: Opening) -> Result<SqlStores, OpenError> {
        let folder = DataFolder::open(folder.path()).unwrap();
        SqlStores::open_on_server(&self.server(), &folder, opening).await
    }

    async fn ask(&self, sql: &str) -> String {
        self.postgres.run(&self.url, sql).await.unwrap().trim().to_owned()
    }

    /// A database with an installation and a workspace in it, and the folder that made it.
    async fn filled() -> (Self, TempDir) {
        let (place, folder) = (Self::new().await, tempfile::tempdir().unwrap());
        let stores = place.open(&folder, Opening::ExistingOrNew).await.unwrap();
        stores
            .config
            .create_workspace(workspace("ws_a"), &Deed::of_server("Test", Millis::ZERO))
            .await
            .unwrap();
        stores.close().await;
        (place, folder)
    }
}

#[tokio::test]
async fn a_database_without_an_installation_is_refused_and_left_empty() {
    let (place, folder) = (Place::new().await, tempfile::tempdir().unwrap());
    let refused = place.open(&folder, Opening::Existing).await.unwrap_err();
    assert!(matches!(refused, OpenError::ServerEmpty { .. }), "{refused}");
    assert!(refused.to_string().contains("rateguard init"), "{refused}");
    let schemas = "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'rateguard%'";
    assert_eq!(place.ask(schemas).await, "0");
    // As `rateguard migrate` leaves it.
    crate::migrate_on_server(&place.server()).await.unwrap();
    let refused = place.open(&folder, Opening::Existing).await.unwrap_err();
    assert!(matches!(refused, OpenError::ServerEmpty { .. }), "{refused}");
    place.open(&folder, Opening::ExistingOrNew).await.unwrap();
}

#[tokio::test]
async fn a_new_folder_joins_with_counters_that_begin_again_and_an_old_one_goes_on() {
    let (place, first) = Place::filled().await;
    let again = place.open(&first, Opening::Existing).await.unwrap();
    assert!(!again.counters_are_lost());
    let second = tempfile::tempdir().unwrap();
    let mut joined = place.open(&second, Opening::Existing).await.unwrap();
    assert!(joined.counters_are_lost());
    assert_eq!(joined.id, again.id);
    assert_eq!(joined.config.snapshot().await.unwrap().workspaces.len(), 1);
    joined.begin_counters(Position(0)).await.unwrap();
    joined.close().await;
    drop(joined);
    assert!(!place.open(&second, Opening::Existing).await.unwrap().counters_are_lost());
}

#[tokio::test]
async fn two_that_make_an_installation_at_once_make_one() {
    let place = Place::new().await;
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (one, other) =
        tokio::join!(place.open(&one, Opening::ExistingOrNew), place.open(&other, Opening::ExistingOrNew));
    assert_eq!(one.unwrap().id, other.unwrap().id);
}

#[tokio::test]
async fn a_folder_of_another_installation_is_refused_by_its_name() {
    let ((_, folder), (other, _)) = (Place::filled().await, Place::filled().await);
    let refused = other.open(&folder, Opening::Existing).await.unwrap_err();
    assert!(matches!(refused, OpenError::ForeignCounters { .. }), "{refused}");
    let text = refused.to_string();
    assert!(text.contains("/counters.db") && !text.contains("for-tests-only"), "{text}");
}

#[tokio::test]
async fn a_dropped_schema_of_rollups_begins_anew_and_one_of_events_is_refused() {
    let (place, folder) = Place::filled().await;
    place.ask("DROP SCHEMA rateguard_usage CASCADE").await;
    let stores = place.open(&folder, Opening::Existing).await.unwrap();
    assert!(stores.usage_was_lost);
    stores.close().await;
    drop(stores);
    assert!(!place.open(&folder, Opening::Existing).await.unwrap().usage_was_lost);
    place.ask("DROP SCHEMA rateguard_events CASCADE").await;
    let refused = place.open(&folder, Opening::Existing).await.unwrap_err();
    assert!(matches!(refused, OpenError::ServerForeign { schema: "rateguard_events", .. }), "{refused}");
}
