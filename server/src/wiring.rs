//! The only place that names concrete stores.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use rateguard_core::time::Millis;
use rateguard_engine::catalogue;
use rateguard_engine::clock::{Clock, SystemClock};
use rateguard_engine::engine::{Background, Engine, Setup, Stores};
use rateguard_engine::gate::COUNTERS_DEADLINE_GRACE;
use rateguard_engine::manage::{Recount, RecountError, prepare_recount, recount_from};
use rateguard_engine::people::{People, PeopleBackground, PeopleSetup};
use rateguard_engine::ports::{
    AuditStore, ConfigStore, CounterStore, EventLog as _, PeopleStore, Resource, SealedStore, SealedValues,
    StoreError,
};
use rateguard_engine::secrets::{CredentialCipher, Purpose, SealedPlace};
use rateguard_store_memory::{MemoryCounterStore, MemoryCounterStoreConfig};
use rateguard_store_redis::{RedisCounterStore, RedisCounterStoreConfig, SpreadCounterStore, Topology};
use rateguard_store_sql::{
    DataFolder, Migrations, OpenError, Opening, PostgresDatabase, SqlAuditStore, SqlCheckpointStore,
    SqlConfigStore, SqlEventLog, SqlSealedReader, SqlStores, SqlUsageStore,
};
use tokio::sync::{OnceCell, watch};
use tokio::time::{Instant, sleep};

use crate::config::{Config, RedisTopology, StoresKind};
use crate::{keyfile, mail, production};

/// For how long a start waits, over all that it asks, for a Redis that does not answer: it may be starting as well, or
/// be busy.
const REDIS_WITHIN: Duration = Duration::from_secs(10);
/// Between two questions meanwhile.
const REDIS_PAUSE: Duration = Duration::from_millis(250);

/// The audit trail of an installation, to read it. A server may be at work there.
///
/// # Errors
/// When there is no installation.
pub async fn audit_trail(config: &Config) -> anyhow::Result<Arc<dyn AuditStore>> {
    let place = config.stores_place();
    let trail = match config.stores.kind {
        StoresKind::Sqlite => SqlAuditStore::open_to_read(&config.data.folder).await,
        StoresKind::Postgres => SqlAuditStore::open_on_server(&database_server(config)?).await,
    };
    Ok(Arc::new(trail.with_context(|| format!("the audit trail of {place} cannot be read"))?))
}

/// The stores of an installation, open: in files, or in a database that other replicas share.
pub struct OpenStores {
    kind: StoresKind,
    config: Arc<SqlConfigStore>,
    events: Arc<SqlEventLog>,
    usage: Arc<SqlUsageStore>,
    checkpoints: Arc<SqlCheckpointStore>,
    /// One for all, so that its keys change everywhere at once.
    cipher: OnceCell<CredentialCipher>,
}

impl OpenStores {
    /// Opens the stores that are configured. Rollups and counters that were lost begin again.
    ///
    /// # Errors
    /// When another process has the folder, a store is missing, damaged, foreign or newer than this
    /// program, the database is away, or lost counters cannot be counted again exactly and that was
    /// asked for.
    pub async fn open(config: &Config, opening: Opening, recount: Recount) -> anyhow::Result<Self> {
        let kind = config.stores.kind;
        let mut stores = match kind {
            // On the heap, for both hold the steps of many calls.
            StoresKind::Sqlite => Box::pin(open_files(config, opening)).await?,
            StoresKind::Postgres => Box::pin(open_on_server(config, opening)).await?,
        };
        if stores.usage_was_lost {
            tracing::warn!("the rollups were missing: they are being built again from the events");
        }
        if stores.counters_are_lost()
            && let Err(error) = begin_counters(&mut stores, config, recount).await
        {
            stores.close().await;
            let file = config.data.folder.join("counters.db");
            return Err(error.context(format!("{} is missing or empty", file.display())));
        }
        let SqlStores { config, events, usage, checkpoints, .. } = stores;
        Ok(Self {
            kind,
            config: Arc::new(config),
            events: Arc::new(events),
            usage: Arc::new(usage),
            checkpoints: Arc::new(checkpoints),
            cipher: OnceCell::new(),
        })
    }

    /// The same, of an installation that is there; `None` while another process has it.
    ///
    /// # Errors
    /// As [`OpenStores::open`].
    pub async fn open_unless_in_use(config: &Config) -> anyhow::Result<Option<Self>> {
        match Self::open(config, Opening::Existing, Recount::Exact).await {
            Ok(stores) => Ok(Some(stores)),
            Err(error) => match error.downcast_ref() {
                Some(OpenError::Locked { .. }) => Ok(None),
                _ => Err(error),
            },
        }
    }

    /// The management store, for set-up before the engine runs.
    pub fn config_store(&self) -> Arc<dyn ConfigStore> {
        self.config.clone()
    }

    /// The store of people, for set-up before the engine runs.
    pub fn people_store(&self) -> Arc<dyn PeopleStore> {
        Arc::new(self.config.people())
    }

    /// Whether changes of other replicas are heard of at once now; `None` where there are none.
    pub fn notices_heard(&self) -> Option<watch::Receiver<bool>> {
        self.config.notices_heard()
    }

    /// Everything sealed, to be sealed again.
    pub fn sealed_store(&self) -> Arc<dyn SealedStore> {
        self.config.clone()
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
            cipher: self.cipher(config).await?,
            policy: config.people.policy(),
            mailer: mail::mailer(config)?,
            external: config.people.oidc.external_login()?,
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
        let cipher = self.cipher(config).await?;
        let counters = self.counters(config, clock.now()).await?;
        let stores = Stores {
            audit: Arc::new(self.config.audit()),
            config: self.config.clone(),
            counters,
            log: self.events.clone(),
            usage: self.usage.clone(),
            shared: self.kind == StoresKind::Postgres,
        };
        let setup = Setup {
            clock,
            catalogue: Arc::new(catalogue::load().context("the price catalogue is damaged")?),
            cipher,
            gateway_token,
            config_stale_ms_max: config.config_stale_ms_max(),
            counters_deadline: config.stores.redis.deadline() + COUNTERS_DEADLINE_GRACE,
        };
        Engine::start(stores, setup).await.context("the engine cannot recover")
    }

    /// The counters: in Redis, where that is configured, else in this process.
    async fn counters(&self, config: &Config, now: Millis) -> anyhow::Result<Arc<dyn CounterStore>> {
        let counters = &config.counters;
        if let Some(redis) = config.stores.redis.store()? {
            production::check_counters(config, &redis.topology)?;
            let redis = RedisCounterStoreConfig {
                live_counters_max: counters.live_counters_max,
                request_ids_bytes_max: counters.request_ids_bytes_max,
                reservations_max: counters.reservations_max,
                ..redis
            };
            return self.counters_in_redis(redis).await.context("the counters in Redis cannot be used");
        }
        let bounds = MemoryCounterStoreConfig {
            live_counters_max: counters.live_counters_max,
            request_ids_bytes_max: counters.request_ids_bytes_max,
            reservations_max: counters.reservations_max,
        };
        let loaded = MemoryCounterStore::load(self.checkpoints.clone(), bounds, now).await;
        Ok(Arc::new(loaded.context("the counters cannot be loaded")?))
    }

    async fn counters_in_redis(
        &self,
        config: RedisCounterStoreConfig,
    ) -> anyhow::Result<Arc<dyn CounterStore>> {
        let is_cluster = matches!(config.topology, Topology::Cluster { .. });
        let store = RedisCounterStore::new(config)?;
        let workspaces = self.config.snapshot().await?.workspaces;
        let workspaces: Vec<_> = workspaces.into_iter().map(|workspace| workspace.id).collect();
        let log_end = self.events.end().await?;
        let until = Instant::now() + REDIS_WITHIN;
        if once_redis_answers(until, || store.is_new_to(log_end)).await? {
            once_redis_answers(until, || store.begin(&workspaces, log_end)).await?;
            tracing::warn!(
                "Redis knows nothing of this installation: budgets are counted again from the events; plain \
                 limits begin anew, and what reservations held is free"
            );
        }
        // On one server nothing is gained by it, and all is atomic with all.
        Ok(if is_cluster { Arc::new(SpreadCounterStore::new(store)) } else { Arc::new(store) })
    }

    /// The keys that seal credentials, when they are those of this installation.
    pub(crate) async fn cipher(&self, config: &Config) -> anyhow::Result<CredentialCipher> {
        self.cipher_for(config, Purpose::Own).await
    }

    /// The same; an installation without a key is for this purpose.
    pub(crate) async fn cipher_for(
        &self,
        config: &Config,
        purpose: Purpose,
    ) -> anyhow::Result<CredentialCipher> {
        self.cipher.get_or_try_init(|| self.open_cipher(config, purpose)).await.cloned()
    }

    async fn open_cipher(&self, config: &Config, purpose: Purpose) -> anyhow::Result<CredentialCipher> {
        let file = config.encryption_key_file();
        let cipher = keyfile::read_encryption_key(&file)?;
        let is_right = match self.config.encryption_check().await? {
            Some(check) => cipher.knows(&check),
            None => self.adopt_key(&cipher, purpose).await?,
        };
        ensure!(
            is_right,
            "{} holds another key ({}) than the one that this installation's credentials are sealed with; \
             put that one back, for example from a backup",
            file.display(),
            cipher.key_id()
        );
        Ok(cipher)
    }

    /// Takes a key as this installation's, unless something is sealed with another one.
    async fn adopt_key(&self, cipher: &CredentialCipher, purpose: Purpose) -> anyhow::Result<bool> {
        let sealed = self.config.snapshot().await?.resources.into_iter().any(|stored| {
            let Resource::Api(api) = &stored.value else { return false };
            let credential = api.credential.as_ref();
            credential.is_some_and(|sealed| cipher.open(&stored.workspace, &api.id, sealed).is_err())
        });
        if !sealed {
            self.config.keep_encryption_check(cipher.seal_check(purpose)?).await?;
        }
        Ok(!sealed)
    }

    /// What the installation is for.
    pub(crate) async fn purpose(&self, config: &Config) -> anyhow::Result<Option<Purpose>> {
        let cipher = self.cipher(config).await?;
        let check = self.config.encryption_check().await?;
        Ok(check.and_then(|check| cipher.purpose(&check)))
    }

    /// Says what the installation is for, where it was made by a version that did not.
    pub(crate) async fn mark(&self, config: &Config, purpose: Purpose) -> anyhow::Result<()> {
        if self.purpose(config).await? == Some(purpose) {
            return Ok(());
        }
        let sealed = self.cipher(config).await?.seal_check(purpose)?;
        let singly = self.config.sealed_singly().await?;
        let check = singly.iter().find(|value| value.place == SealedPlace::Check);
        let check = check.context("the installation has no check text")?;
        let is_marked = self.config.replace_sealed(check, sealed, SystemClock::default().now()).await?;
        ensure!(is_marked, "the installation's check text has changed meanwhile; start once more");
        Ok(())
    }
}

/// What an installation has sealed, also while another process has it.
///
/// # Errors
/// Where there is no installation.
pub async fn sealed_values(config: &Config) -> anyhow::Result<Arc<dyn SealedValues>> {
    let reader = match config.stores.kind {
        StoresKind::Sqlite => SqlSealedReader::open_to_read(&config.data.folder).await?,
        StoresKind::Postgres => SqlSealedReader::open_on_server(&database_server(config)?).await?,
    };
    Ok(Arc::new(reader))
}

async fn open_files(config: &Config, opening: Opening) -> anyhow::Result<SqlStores> {
    let path = &config.data.folder;
    if opening == Opening::Existing && !path.exists() {
        // Not even the folder is made for somebody who named a wrong one.
        return Err(OpenError::NoInstallation { path: path.clone() }.into());
    }
    Ok(SqlStores::open(&DataFolder::open(path)?, opening).await?)
}

async fn open_on_server(config: &Config, opening: Opening) -> anyhow::Result<SqlStores> {
    let server = database_server(config)?;
    let folder = DataFolder::open(&config.data.folder)?;
    let stores = SqlStores::open_on_server(&server, &folder, opening).await?;
    if server.role_passes_row_security().await? {
        tracing::warn!(
            database = server.name(),
            "the database's role is a superuser or has BYPASSRLS: row-level security, the second wall between \
             workspaces, does not hold for it; connect as a role without these"
        );
    }
    if config.stores.redis.topology == RedisTopology::Off {
        tracing::warn!(
            "several replicas may share this database: each counts plain limits by itself; budgets follow the \
             spending of all"
        );
    }
    Ok(stores)
}

/// The database that is configured, not connected to yet.
///
/// # Errors
/// When its URL cannot be read, or in production somebody on the way could read or answer in its place.
pub fn database_server(config: &Config) -> anyhow::Result<PostgresDatabase> {
    let postgres = &config.stores.postgres;
    let migrations = if postgres.migrate_at_start { Migrations::Apply } else { Migrations::Require };
    let url = postgres.url()?;
    // The driver's own type holds it from here on, and shows it to nobody.
    let server = PostgresDatabase::new(url.expose(), postgres.connections_max, migrations)?;
    production::check_database(config, &server)?;
    Ok(server)
}

/// Asks a Redis that does not answer again, until then. Each thing that it says instead is told once.
async fn once_redis_answers<T>(
    until: Instant,
    ask: impl AsyncFn() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let mut told = None;
    loop {
        match ask().await {
            Err(error) if error.is_away() && Instant::now() < until => {
                let said = error.to_string();
                if told.as_ref() != Some(&said) {
                    tracing::warn!(%error, "waiting for Redis");
                    told = Some(said);
                }
                sleep(SystemClock::default().spread(REDIS_PAUSE)).await;
            }
            outcome => return outcome,
        }
    }
}

/// Lost counters: budgets are counted again from the log, plain limits begin anew. While Redis counts they
/// stay lost.
async fn begin_counters(stores: &mut SqlStores, config: &Config, recount: Recount) -> anyhow::Result<()> {
    if config.stores.redis.topology != RedisTopology::Off {
        // Nothing is counted here. A later start that counts here finds them lost still, and counts again.
        return Ok(());
    }
    let end = stores.events.end().await?;
    let from = match config.stores.kind {
        StoresKind::Sqlite => {
            prepare_recount(&stores.config, end, recount, SystemClock::default().now()).await
        }
        // The counters of other replicas are right: nothing is written that would begin them again.
        StoresKind::Postgres => recount_from(&stores.config, end, recount).await,
    };
    let position = from.map_err(|error| match error {
        RecountError::Changed(_) => anyhow!(
            "{error}; restore counters.db from a backup, or start once with --recount-budgets, which counts \
             by what these budgets match today"
        ),
        RecountError::Store(error) => error.into(),
    })?;
    stores.begin_counters(position).await?;
    tracing::warn!(
        from = position.0,
        "counters.db was missing, as in a new data folder: budgets are counted again from the events; plain \
         limits begin anew, and what reservations held is free"
    );
    Ok(())
}

#[cfg(test)]
mod tests;
