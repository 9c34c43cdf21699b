//! A write to a SQLite file by somebody else, as a backup tool or a second process would begin it.

use std::path::Path;

use async_trait::async_trait;
use rateguard_store_suite::HeldWriter;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};

/// A transaction that has the file's one place for writers.
pub struct HeldWrite(SqliteConnection);

impl HeldWrite {
    /// Begins it.
    pub async fn begin(file: &Path) -> Self {
        let mut connection =
            SqliteConnectOptions::new().filename(file).connect().await.expect("the file opens");
        sqlx::query("BEGIN IMMEDIATE").execute(&mut connection).await.expect("nobody writes");
        Self(connection)
    }
}

#[async_trait]
impl HeldWriter for HeldWrite {
    async fn release(mut self: Box<Self>) {
        sqlx::query("ROLLBACK").execute(&mut self.0).await.expect("it is still open");
        self.0.close().await.expect("it closes");
    }
}
