//! The only place that names concrete stores.

use std::sync::Arc;

use anyhow::Context;
use rateguard_engine::catalogue;
use rateguard_engine::clock::{Clock, SystemClock};
use rateguard_engine::engine::{Background, Engine, Setup, Stores};
use rateguard_engine::people::{People, PeopleBackground, PeopleSetup};
use rateguard_engine::ports::{AuditStore, ConfigStore, PeopleStore};
use rateguard_store_memory::{MemoryCounterStore, MemoryCounterStoreConfig};
use rateguard_store_sql::{
    DataFolder, SqlAuditStore, SqlCheckpointStore, SqlConfigStore, SqlEventLog, SqlUsageStore,
};

use crate::config::Config;
use crate::{keyfile, mail};

/// The audit trail of the data folder, only to read it. A server may be at work there.
///
/// # Errors
/// When there is no installation.
pub async fn audit_trail(config: &Config) -> anyhow::Result<Arc<dyn AuditStore>> {
    let folder = &config.data.folder;
    let trail = SqlAuditStore::open_to_read(folder).await;
    Ok(Arc::new(trail.with_context(|| format!("{} holds no audit trail", folder.display()))?))
}

/// The embedded stores, open.
pub struct Embedded {
    config: Arc<SqlConfigStore>,
    events: Arc<SqlEventLog>,
    usage: Arc<SqlUsageStore>,
    checkpoints: Arc<SqlCheckpointStore>,
}

impl Embedded {
    /// Opens the four files of a data folder, making them where they are missing.
    ///
    /// # Errors
    /// When another process has the folder, or a file is damaged or newer than this program.
    pub async fn open(config: &Config) -> anyhow::Result<Self> {
        let folder = DataFolder::open(&config.data.folder)?;
        let events = Arc::new(SqlEventLog::open(&folder).await?);
        Ok(Self {
            config: Arc::new(SqlConfigStore::open(&folder, &events).await?),
            usage: Arc::new(SqlUsageStore::open(&folder, &events).await?),
            checkpoints: Arc::new(SqlCheckpointStore::open(&folder).await?),
            events,
        })
    }

    /// The management store, for set-up before the engine runs.
    pub fn config_store(&self) -> Arc<dyn ConfigStore> {
        self.config.clone()
    }

    /// The store of people, for set-up before the engine runs.
    pub fn people_store(&self) -> Arc<dyn PeopleStore> {
        Arc::new(self.config.people())
    }

    /// Lets people in, to what this engine serves.
    ///
    /// # Errors
    /// When the store cannot be read, the encryption key is missing or another one than before, or
    /// mail cannot be sent as configured.
    pub async fn start_people(
        &self,
        config: &Config,
        engine: &Engine,
    ) -> anyhow::Result<(Arc<People>, PeopleBackground)> {
        let setup = PeopleSetup {
            clock: Arc::new(SystemClock::default()),
            directory: engine.directory().clone(),
            cipher: keyfile::read_encryption_key(&config.encryption_key_file())?,
            policy: config.people.policy(),
            mailer: mail::mailer(config)?,
        };
        People::start(self.people_store(), setup).await.context("people cannot be let in")
    }

    /// Finishes what is under way and closes the files.
    pub async fn close(&self) {
        self.config.close().await;
        self.usage.close().await;
        self.events.close().await;
        self.checkpoints.close().await;
    }

    /// Starts the engine on these stores.
    ///
    /// # Errors
    /// When the counters cannot be recovered, or the encryption key is missing.
    pub async fn start_engine(
        &self,
        config: &Config,
        gateway_token: Option<String>,
    ) -> anyhow::Result<(Arc<Engine>, Background)> {
        let clock = Arc::new(SystemClock::default());
        let bounds = MemoryCounterStoreConfig {
            live_counters_max: config.counters.live_counters_max,
            request_ids_bytes_max: config.counters.request_ids_bytes_max,
            reservations_max: config.counters.reservations_max,
        };
        let counters = MemoryCounterStore::load(self.checkpoints.clone(), bounds, clock.now())
            .await
            .context("the counters cannot be loaded")?;
        let stores = Stores {
            audit: Arc::new(self.config.audit()),
            config: self.config.clone(),
            counters: Arc::new(counters),
            log: self.events.clone(),
            usage: self.usage.clone(),
        };
        let setup = Setup {
            clock,
            catalogue: Arc::new(catalogue::load().context("the price catalogue is damaged")?),
            cipher: keyfile::read_encryption_key(&config.encryption_key_file())?,
            gateway_token,
        };
        Engine::start(stores, setup).await.context("the engine cannot recover")
    }
}
