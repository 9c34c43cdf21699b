//! The only place that names concrete stores.

use std::sync::Arc;

use anyhow::{Context, anyhow, ensure};
use rateguard_engine::catalogue;
use rateguard_engine::clock::{Clock, SystemClock};
use rateguard_engine::engine::{Background, Engine, Setup, Stores};
use rateguard_engine::manage::{Recount, RecountError, prepare_recount};
use rateguard_engine::people::{People, PeopleBackground, PeopleSetup};
use rateguard_engine::ports::{
    AuditStore, ConfigStore, EventLog as _, PeopleStore, Resource, SealedStore, SealedValues,
};
use rateguard_engine::secrets::{CredentialCipher, Purpose, SealedPlace};
use rateguard_store_memory::{MemoryCounterStore, MemoryCounterStoreConfig};
use rateguard_store_sql::{
    DataFolder, OpenError, Opening, SqlAuditStore, SqlCheckpointStore, SqlConfigStore, SqlEventLog,
    SqlSealedReader, SqlStores, SqlUsageStore,
};
use tokio::sync::OnceCell;

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
    /// One for all, so that its keys change everywhere at once.
    cipher: OnceCell<CredentialCipher>,
}

impl Embedded {
    /// Opens the four files of a data folder. Rollups and counters that were lost begin again.
    ///
    /// # Errors
    /// When another process has the folder, a file is missing, damaged, foreign or newer than this
    /// program, or lost counters cannot be counted again exactly and that was asked for.
    pub async fn open(config: &Config, opening: Opening, recount: Recount) -> anyhow::Result<Self> {
        let path = &config.data.folder;
        if opening == Opening::Existing && !path.exists() {
            // Not even the folder is made for somebody who named a wrong one.
            return Err(OpenError::NoInstallation { path: path.clone() }.into());
        }
        let mut stores = SqlStores::open(&DataFolder::open(path)?, opening).await?;
        if stores.usage_was_lost {
            tracing::warn!("usage.db was missing: its sums are being built again from events.db");
        }
        if stores.counters_are_lost()
            && let Err(error) = begin_counters(&mut stores, recount).await
        {
            stores.close().await;
            return Err(error.context(format!("{} is missing or empty", path.join("counters.db").display())));
        }
        let SqlStores { config, events, usage, checkpoints, .. } = stores;
        Ok(Self {
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
    /// As [`Embedded::open`].
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
            cipher,
            gateway_token,
        };
        Engine::start(stores, setup).await.context("the engine cannot recover")
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
pub fn sealed_values(config: &Config) -> anyhow::Result<Arc<dyn SealedValues>> {
    Ok(Arc::new(SqlSealedReader::new(&config.data.folder)?))
}

/// Lost counters: budgets are counted again from the log, plain limits begin anew.
async fn begin_counters(stores: &mut SqlStores, recount: Recount) -> anyhow::Result<()> {
    let end = stores.events.end().await?;
    let now = SystemClock::default().now();
    let position = prepare_recount(&stores.config, end, recount, now).await.map_err(|error| match error {
        RecountError::Changed(_) => anyhow!(
            "{error}; restore counters.db from a backup, or start once with --recount-budgets, which counts \
             by what these budgets match today"
        ),
        RecountError::Store(error) => error.into(),
    })?;
    stores.begin_counters(position).await?;
    tracing::warn!(
        from = position.0,
        "counters.db was missing: budgets are counted again from events.db; plain limits begin anew, and what \
         reservations held is free"
    );
    Ok(())
}

#[cfg(test)]
mod tests;
