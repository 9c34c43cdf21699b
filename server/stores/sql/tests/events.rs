//! The behaviour suite of event logs, on SQLite.

use std::path::Path;

use async_trait::async_trait;
use rateguard_store_sql::{DataFolder, SqlEventLog};
use rateguard_store_suite::{Backend, HeldWriter, event_log_suite};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};
use tempfile::TempDir;

struct Sqlite(TempDir);

impl Sqlite {
    fn fresh() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
}

#[async_trait]
impl Backend for Sqlite {
    type Store = SqlEventLog;

    async fn open(&self) -> SqlEventLog {
        SqlEventLog::open(&DataFolder::open(self.0.path()).unwrap()).await.unwrap()
    }

    async fn close(&self, store: SqlEventLog) {
        store.close().await;
    }

    async fn hold_writer(&self) -> Option<Box<dyn HeldWriter>> {
        Some(Box::new(OpenWrite::begin(&self.0.path().join("events.db")).await))
    }
}

struct OpenWrite(SqliteConnection);

impl OpenWrite {
    async fn begin(file: &Path) -> Self {
        let mut connection = SqliteConnectOptions::new().filename(file).connect().await.unwrap();
        sqlx::query("BEGIN IMMEDIATE").execute(&mut connection).await.unwrap();
        Self(connection)
    }
}

#[async_trait]
impl HeldWriter for OpenWrite {
    async fn release(mut self: Box<Self>) {
        sqlx::query("ROLLBACK").execute(&mut self.0).await.unwrap();
        self.0.close().await.unwrap();
    }
}

event_log_suite!(Sqlite::fresh());
