//! A server without an interface, which can be stopped in order, or crash.

use std::sync::Arc;
use std::time::Duration;

use rateguard_core::ids::{DisplayName, WorkspaceId};
use rateguard_core::money::Currency;
use rateguard_core::time::{Millis, Zone};
use rateguard_engine::audit::Deed;
use rateguard_engine::caller::{Caller, Identity};
use rateguard_engine::catalogue;
use rateguard_engine::clock::{Clock, ManualClock};
use rateguard_engine::engine::{Background, CONFIG_STALE_MS_MAX, Engine, Setup, Stores};
use rateguard_engine::gate::COUNTERS_DEADLINE;
use rateguard_engine::manage::{KEYS_PER_WORKSPACE_MAX, equip};
use rateguard_engine::ports::{ConfigStore, CounterStore, Resource};
use rateguard_engine::resources::{Scope, Workspace};
use rateguard_engine::secrets::CredentialCipher;
use rateguard_server::setup::plain_key;
use rateguard_store_memory::{MemoryCounterStore, MemoryCounterStoreConfig};
use rateguard_store_sql::{DataFolder, SqlCheckpointStore, SqlConfigStore, SqlEventLog, SqlUsageStore};
use tempfile::TempDir;

/// 2026-03-04T12:00:00Z.
const START_MS: i64 = 1_772_625_600_000;
/// Longest wait for the tasks of a crashed server to let go of its folder.
const LET_GO_TIMEOUT: Duration = Duration::from_secs(10);
/// Sweeps that look at every counter.
const SWEEPS: usize = 16;
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// An installation and the server that runs on it.
pub struct World {
    clock: Arc<ManualClock>,
    secret: String,
    server: Option<Server>,
    home: TempDir,
}

/// A server that runs.
struct Server {
    engine: Arc<Engine>,
    counters: Arc<MemoryCounterStore>,
    caller: Caller,
    background: Background,
    files: Files,
}

struct Files {
    config: Arc<SqlConfigStore>,
    log: Arc<SqlEventLog>,
    usage: Arc<SqlUsageStore>,
    checkpoints: Arc<SqlCheckpointStore>,
}

impl Files {
    async fn open(home: &TempDir) -> Self {
        let folder = tokio::time::timeout(LET_GO_TIMEOUT, locked(home)).await.unwrap();
        let log = Arc::new(SqlEventLog::open(&folder).await.unwrap());
        Self {
            config: Arc::new(SqlConfigStore::open(&folder, &log).await.unwrap()),
            usage: Arc::new(SqlUsageStore::open(&folder, &log).await.unwrap()),
            checkpoints: Arc::new(SqlCheckpointStore::open(&folder).await.unwrap()),
            log,
        }
    }

    async fn close(&self) {
        self.config.close().await;
        self.usage.close().await;
        self.log.close().await;
        self.checkpoints.close().await;
    }
}

async fn locked(home: &TempDir) -> DataFolder {
    loop {
        match DataFolder::open(home.path()) {
            Ok(folder) => return folder,
            Err(_) => tokio::time::sleep(POLL_INTERVAL).await,
        }
    }
}

impl World {
    /// A fresh installation with one workspace in dollars, running.
    pub async fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let files = Files::open(&home).await;
        let secret = first_workspace(&files.config).await;
        files.close().await;
        drop(files);
        let clock = Arc::new(ManualClock::at(Millis::new(START_MS)));
        let mut world = Self { clock, secret, server: None, home };
        world.start().await;
        world
    }

    pub fn engine(&self) -> &Arc<Engine> {
        &self.server.as_ref().unwrap().engine
    }

    pub fn caller(&self) -> &Caller {
        &self.server.as_ref().unwrap().caller
    }

    /// The same, as management knows them.
    pub fn identity(&self) -> Identity {
        self.caller().clone().into()
    }

    pub fn counters(&self) -> &MemoryCounterStore {
        &self.server.as_ref().unwrap().counters
    }

    pub fn now(&self) -> Millis {
        self.clock.now()
    }

    /// Lets time pass, in which the configuration was confirmed, and counters were written down and
    /// dropped where they may be.
    pub async fn advance(&self, ms: i64) {
        self.clock.advance_ms(ms);
        let directory = self.engine().directory();
        directory.refresh(self.now()).await.unwrap();
        self.counters().checkpoint(false).await.unwrap();
        for _ in 0..SWEEPS {
            self.counters().sweep(self.now(), directory.as_ref()).await.unwrap();
        }
    }

    /// Stops in order and starts again.
    pub async fn restart(&mut self) {
        let Server { background, files, .. } = self.server.take().unwrap();
        background.stop().await.unwrap();
        files.close().await;
        drop(files);
        self.start().await;
    }

    /// Drops every task where it stands. What `after` waits for, it gets from a server that is gone.
    pub async fn crash<T>(&mut self, after: impl Future<Output = T>) -> T {
        let Server { background, files, .. } = self.server.take().unwrap();
        drop(background);
        let value = after.await;
        files.close().await;
        drop(files);
        self.start().await;
        value
    }

    async fn start(&mut self) {
        let files = Files::open(&self.home).await;
        let bounds = MemoryCounterStoreConfig::default();
        let counters =
            Arc::new(MemoryCounterStore::load(files.checkpoints.clone(), bounds, self.now()).await.unwrap());
        let stores = Stores {
            audit: Arc::new(files.config.audit()),
            config: files.config.clone(),
            counters: counters.clone() as Arc<dyn CounterStore>,
            log: files.log.clone(),
            usage: files.usage.clone(),
            shared: false,
        };
        let setup = Setup {
            clock: self.clock.clone(),
            catalogue: Arc::new(catalogue::load().unwrap()),
            cipher: CredentialCipher::new(&[7; 32]).unwrap(),
            gateway_token: None,
            config_stale_ms_max: CONFIG_STALE_MS_MAX,
            counters_deadline: COUNTERS_DEADLINE,
        };
        let (engine, background) = Engine::start(stores, setup).await.unwrap();
        let caller = engine.authenticator().by_key(&self.secret, self.now()).unwrap();
        self.server = Some(Server { engine, counters, caller, background, files });
    }
}

async fn first_workspace(config: &Arc<SqlConfigStore>) -> String {
    let id = WorkspaceId::from_random([1; 16]);
    let name = DisplayName::parse("name", "first").unwrap();
    let workspace = Workspace { id: id.clone(), name, zone: Zone::UTC, currency: Currency::USD };
    let deed = Deed::of_server("Test", Millis::ZERO);
    config.create_workspace(workspace, &deed).await.unwrap();
    let scopes = [Scope::Quota, Scope::Usage, Scope::Manage, Scope::Read];
    let (key, secret) = equip(plain_key("a key", scopes.into_iter().collect()).unwrap()).unwrap();
    config.insert(&id, Resource::Key(key), KEYS_PER_WORKSPACE_MAX, &deed).await.unwrap();
    secret.expose().to_owned()
}
