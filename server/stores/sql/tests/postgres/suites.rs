//! What every store promises, on PostgreSQL.

use async_trait::async_trait;
use rateguard_store_sql::{SqlConfigStore, SqlEventLog, SqlPeopleStore, SqlUsageStore};
use rateguard_store_suite::{Backend, HeldWriter};

use super::on_server::OnServer;

struct Config(OnServer);

#[async_trait]
impl Backend for Config {
    type Store = SqlConfigStore;

    async fn open(&self) -> SqlConfigStore {
        SqlConfigStore::open_on_server(&self.0.database()).await.expect("the store opens")
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
        SqlConfigStore::open_on_server(&self.0.database()).await.expect("the store opens").people()
    }

    async fn close(&self, store: SqlPeopleStore) {
        store.close().await;
    }

    async fn hold_writer(&self) -> Option<Box<dyn HeldWriter>> {
        Some(self.0.hold("rateguard_config.people_revisions").await)
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

mod events {
    use super::{Events, OnServer};

    rateguard_store_suite::event_log_suite!(Events(OnServer::fresh().await));
}

mod usage {
    use super::{OnServer, Usage};

    rateguard_store_suite::usage_store_suite!(Usage(OnServer::fresh().await));
}
