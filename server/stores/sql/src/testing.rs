//! What tests of several stores share.

use rateguard_test_servers::PostgresServer;
use sqlx::migrate::{Migration, Migrator};

use crate::database::{Migrations, PostgresDatabase};

/// Connections of a process to a server.
const CONNECTIONS_MAX: u32 = 14;

/// An empty database on the server that the tests of this program share.
pub(crate) async fn empty_database() -> PostgresDatabase {
    let url = PostgresServer::shared().await.unwrap().new_database().await.unwrap();
    PostgresDatabase::new(&url, CONNECTIONS_MAX, Migrations::Apply).unwrap()
}

/// Each history that an installation may have come to a halt in: the first migration alone, the first
/// two, and so on, all of them at last.
pub(crate) fn histories(whole: &'static Migrator) -> Vec<&'static Migrator> {
    let migrations: Vec<Migration> = whole.iter().cloned().collect();
    let beginning = |count: usize| -> &'static Migrator {
        Box::leak(Box::new(Migrator::with_migrations(migrations[..count].to_vec())))
    };
    (1..=migrations.len()).map(beginning).collect()
}
