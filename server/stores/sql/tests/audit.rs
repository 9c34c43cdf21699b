//! The behaviour suite of audit trails on SQLite, and what verification finds in files that somebody
//! has changed by hand.

#![cfg(test)]

#[path = "audit/tampering.rs"]
mod tampering;

use std::sync::Arc;

use async_trait::async_trait;
use rateguard_store_sql::{DataFolder, SqlConfigStore, SqlEventLog};
use rateguard_store_suite::audit_store::Audited;
use rateguard_store_suite::{Backend, HeldWriter, audit_store_suite};
use tempfile::TempDir;
use tokio::sync::Mutex;

/// What is open of a folder.
struct Opened {
    config: SqlConfigStore,
    log: SqlEventLog,
}

impl Opened {
    async fn open(home: &TempDir) -> Self {
        let folder = DataFolder::open(home.path()).expect("the folder is free");
        let log = SqlEventLog::open(&folder).await.expect("the log opens");
        Self { config: SqlConfigStore::open(&folder, &log).await.expect("the store opens"), log }
    }

    fn stores(&self) -> Audited {
        Audited {
            config: Arc::new(self.config.clone()),
            people: Arc::new(self.config.people()),
            audit: Arc::new(self.config.audit()),
        }
    }

    async fn close(self) {
        self.config.close().await;
        self.log.close().await;
    }
}

struct Sqlite {
    home: TempDir,
    opened: Mutex<Option<Opened>>,
}

impl Sqlite {
    fn fresh() -> Self {
        Self { home: tempfile::tempdir().expect("a temporary folder is made"), opened: Mutex::default() }
    }
}

#[async_trait]
impl Backend for Sqlite {
    type Store = Audited;

    async fn open(&self) -> Audited {
        let opened = Opened::open(&self.home).await;
        let stores = opened.stores();
        *self.opened.lock().await = Some(opened);
        stores
    }

    async fn close(&self, store: Audited) {
        drop(store);
        if let Some(opened) = self.opened.lock().await.take() {
            opened.close().await;
        }
    }

    async fn hold_writer(&self) -> Option<Box<dyn HeldWriter>> {
        None
    }
}

audit_store_suite!(Sqlite::fresh());
