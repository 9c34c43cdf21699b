//! The behaviour suite of checkpoint stores, on SQLite.

#[path = "sqlite/held_write.rs"]
mod held_write;

use async_trait::async_trait;
use rateguard_store_sql::{DataFolder, SqlCheckpointStore};
use rateguard_store_suite::{Backend, HeldWriter, checkpoint_store_suite};
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
    type Store = SqlCheckpointStore;

    async fn open(&self) -> SqlCheckpointStore {
        SqlCheckpointStore::open(&DataFolder::open(self.0.path()).expect("the folder is free"))
            .await
            .expect("the store opens")
    }

    async fn close(&self, store: SqlCheckpointStore) {
        store.close().await;
    }

    async fn hold_writer(&self) -> Option<Box<dyn HeldWriter>> {
        Some(Box::new(HeldWrite::begin(&self.0.path().join("counters.db")).await))
    }
}

checkpoint_store_suite!(Sqlite::fresh());
