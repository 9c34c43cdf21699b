//! What every store promises, on PostgreSQL.

use std::sync::Arc;

use async_trait::async_trait;
use rateguard_store_sql::{SqlConfigStore, SqlEventLog, SqlPeopleStore, SqlUsageStore};
use rateguard_store_suite::audit_store::Audited;
use rateguard_store_suite::{Backend, HeldWriter};

use super::on_server::OnServer;

async fn open_config(on: &OnServer) -> SqlConfigStore {
    let database = on.database();
    let log = SqlEventLog::open_on_server(&database).await.expect("the log opens");
    SqlConfigStore::open_on_server(&database, &log).await.expect("the store opens")
}

struct Config(OnServer);

#[async_trait]
impl Backend for Config {
    type Store = SqlConfigStore;

    async fn open(&self) -> SqlConfigStore {
        open_config(&self.0).await
    }

    async fn close(&self, store: SqlConfigStore) {
        store.close().await;
    }

    async fn hold_writer(&self) -> Option<Box<dyn HeldWriter>> {
        Some(self.0.hold("rateguard_config.revisions").await)
    }
}

struct People(OnServer);

#[async_trait]
impl Backend for People {
    type Store = SqlPeopleStore;

    async fn open(&self) -> SqlPeopleStore {
        open_config(&self.0).await.people()
    }

    async fn close(&self, store: SqlPeopleStore) {
        store.close().await;
    }

    /// Writers wait for each other by the database's one lock, which no row stands for.
    async fn hold_writer(&self) -> Option<Box<dyn HeldWriter>> {
        None
    }
}

struct Audit(OnServer);

#[async_trait]
impl Backend for Audit {
    type Store = Audited;

    async fn open(&self) -> Audited {
        let config = open_config(&self.0).await;
        Audited {
            people: Arc::new(config.people()),
            audit: Arc::new(config.audit()),
            config: Arc::new(config),
        }
    }

    /// The server keeps what was committed; the connections end with the stores.
    async fn close(&self, store: Audited) {
        drop(store);
    }

    async fn hold_writer(&self) -> Option<Box<dyn HeldWriter>> {
        None
    }
}

struct Events(OnServer);

#[async_trait]
impl Backend for Events {
    type Store = SqlEventLog;

    async fn open(&self) -> SqlEventLog {
        SqlEventLog::open_on_server(&self.0.database()).await.expect("the log opens")
    }

    async fn close(&self, store: SqlEventLog) {
        store.close().await;
    }

    async fn hold_writer(&self) -> Option<Box<dyn HeldWriter>> {
        Some(self.0.hold("rateguard_events.head").await)
    }
}

struct Usage(OnServer);

#[async_trait]
impl Backend for Usage {
    type Store = (SqlEventLog, SqlUsageStore);

    async fn open(&self) -> Self::Store {
        let database = self.0.database();
        let log = SqlEventLog::open_on_server(&database).await.expect("the log opens");
        let usage = SqlUsageStore::open_on_server(&database, &log).await.expect("the usage opens");
        (log, usage)
    }

    async fn close(&self, (log, usage): Self::Store) {
        usage.close().await;
        log.close().await;
    }

    async fn hold_writer(&self) -> Option<Box<dyn HeldWriter>> {
        None
    }
}

mod config {
    use super::{Config, OnServer};

    rateguard_store_suite::config_store_suite!(Config(OnServer::fresh().await));
}

mod people {
    use super::{OnServer, People};

    rateguard_store_suite::people_store_suite!(People(OnServer::fresh().await));
}

mod audit {
    use super::{Audit, OnServer};

    rateguard_store_suite::audit_store_suite!(Audit(OnServer::fresh().await));
}

mod events {
    use super::{Events, OnServer};

    rateguard_store_suite::event_log_suite!(Events(OnServer::fresh().await));
}

mod usage {
    use super::{OnServer, Usage};

    rateguard_store_suite::usage_store_suite!(Usage(OnServer::fresh().await));
}
