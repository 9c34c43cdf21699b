//! The behaviour suite of configuration stores, on SQLite.

#[path = "sqlite/held_write.rs"]
mod held_write;

use async_trait::async_trait;
use rateguard_store_sql::{DataFolder, SqlConfigStore, SqlEventLog};
use rateguard_store_suite::{Backend, HeldWriter, config_store_suite};
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
    type Store = SqlConfigStore;

    async fn open(&self) -> SqlConfigStore {
        let folder = DataFolder::open(self.0.path()).expect("the folder is free");
        let log = SqlEventLog::open(&folder).await.expect("the log opens");
        SqlConfigStore::open(&folder, &log).await.expect("the store opens")
    }

    async fn close(&self, store: SqlConfigStore) {
        store.close().await;
    }

    async fn hold_writer(&self) -> Option<Box<dyn HeldWriter>> {
        Some(Box::new(HeldWrite::begin(&self.0.path().join("config.db")).await))
    }
}

config_store_suite!(Sqlite::fresh());
