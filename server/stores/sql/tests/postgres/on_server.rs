//! Stores in a database of their own, on the server that all tests of this program share.

use async_trait::async_trait;
use rateguard_store_sql::{Migrations, PostgresDatabase};
use rateguard_store_suite::HeldWriter;
use rateguard_test_servers::PostgresServer;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};

/// Connections of one process: few, so that those of many tests fit the server.
pub const CONNECTIONS_MAX: u32 = 14;

/// An empty database.
pub struct OnServer {
    /// Its URL.
    pub url: String,
}

impl OnServer {
    /// Makes one.
    pub async fn fresh() -> Self {
        let server = PostgresServer::shared().await.expect("a server starts");
        Self { url: server.new_database().await.expect("a database is made") }
    }

    /// The database as a process knows it.
    pub fn database(&self) -> PostgresDatabase {
        PostgresDatabase::new(&self.url, CONNECTIONS_MAX, Migrations::Apply).expect("the URL is one")
    }

    /// Runs statements as somebody else.
    pub async fn connect(&self) -> PgConnection {
        let options: PgConnectOptions = self.url.parse().expect("the URL is one");
        options.connect().await.expect("the server is there")
    }

    /// Begins a transaction that holds a row which every writer of a store needs.
    pub async fn hold(&self, table: &str) -> Box<dyn HeldWriter> {
        let mut connection = self.connect().await;
        let lock = format!("BEGIN; SELECT * FROM {table} FOR UPDATE");
        sqlx::raw_sql(AssertSqlSafe(lock)).execute(&mut connection).await.expect("nobody writes");
        Box::new(HeldRow(connection))
    }
}

struct HeldRow(PgConnection);

#[async_trait]
impl HeldWriter for HeldRow {
    async fn release(mut self: Box<Self>) {
        sqlx::raw_sql("ROLLBACK").execute(&mut self.0).await.expect("it is still open");
        self.0.close().await.expect("it closes");
    }
}
