//! The behaviour suite of event logs, on SQLite.

#[path = "sqlite/held_write.rs"]
mod held_write;

use async_trait::async_trait;
use rateguard_store_sql::{DataFolder, SqlEventLog};
use rateguard_store_suite::{Backend, HeldWriter, event_log_suite};
use tempfile::TempDir;

use held_write::HeldWrite;

struct Sqlite(TempDir);

impl Sqlite {
    fn fresh() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder is made"))
    }
}

#[async_trait]
impl Backend for Sqlite {
    type Store = SqlEventLog;

    async fn open(&self) -> SqlEventLog {
        let folder = DataFolder::open(self.0.path()).expect("the folder is free");
        SqlEventLog::open(&folder).await.expect("the log opens")
    }

    async fn close(&self, store: SqlEventLog) {
        store.close().await;
    }

    async fn hold_writer(&self) -> Option<Box<dyn HeldWriter>> {
        Some(Box::new(HeldWrite::begin(&self.0.path().join("events.db")).await))
    }
}

event_log_suite!(Sqlite::fresh());
