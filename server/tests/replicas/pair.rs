//! Two engines on the same stores.

use std::sync::Arc;
use std::time::Duration;

use rateguard_core::amounts::Amounts;
use rateguard_core::decision::Mode;
use rateguard_core::ids::{BudgetId, DisplayName, EventId, WorkspaceId};
use rateguard_core::matching::{Match, Scope as CallScope};
use rateguard_core::money::{Currency, Nanos};
use rateguard_core::rule::{Budget, BudgetPeriod, Enforcement};
use rateguard_core::time::{CalendarPeriod, Millis, Zone};
use rateguard_core::usage::{CallOutcome, Exactness, TokenCounts};
use rateguard_engine::audit::Deed;
use rateguard_engine::caller::Caller;
use rateguard_engine::catalogue;
use rateguard_engine::check::{Call, CheckRequest, CheckResponse};
use rateguard_engine::clock::{Clock, SystemClock};
use rateguard_engine::costing::Estimate;
use rateguard_engine::engine::{Background, CONFIG_STALE_MS_MAX, Engine, Setup, Stores};
use rateguard_engine::gate::COUNTERS_DEADLINE;
use rateguard_engine::manage::{KEYS_PER_WORKSPACE_MAX, equip};
use rateguard_engine::ports::{ConfigStore, CounterStore, Resource, UsageFilter, UsageStore};
use rateguard_engine::report::UsageRecord;
use rateguard_engine::resources::{Scope, Workspace};
use rateguard_engine::secrets::CredentialCipher;
use rateguard_server::setup::plain_key;
use rateguard_store_memory::{MemoryCounterStore, MemoryCounterStoreConfig};
use rateguard_store_sql::{DataFolder, SqlCheckpointStore, SqlConfigStore, SqlEventLog, SqlUsageStore};
use tempfile::TempDir;

use crate::PATIENCE;

/// How long the reservations of these tests live.
const RESERVATION_MS: i64 = 60_000;
/// A moment after all of these tests: 2096.
const DISTANT_MS: i64 = 4_000_000_000_000;

/// The stores that both work on.
struct Shared {
    config: Arc<SqlConfigStore>,
    log: Arc<SqlEventLog>,
    usage: Arc<SqlUsageStore>,
    _home: TempDir,
}

/// One of the two.
pub struct Replica {
    pub engine: Arc<Engine>,
    pub caller: Caller,
    background: Background,
    checkpoints: Arc<SqlCheckpointStore>,
    _home: TempDir,
}

pub struct Pair {
    shared: Shared,
    pub replicas: [Replica; 2],
}

impl Shared {
    async fn open() -> Self {
        let home = tempfile::tempdir().unwrap();
        let folder = DataFolder::open(home.path()).unwrap();
        let log = Arc::new(SqlEventLog::open(&folder).await.unwrap());
        let usage = Arc::new(SqlUsageStore::open(&folder, &log).await.unwrap());
        let config = Arc::new(SqlConfigStore::open(&folder, &log).await.unwrap());
        Self { config, log, usage, _home: home }
    }

    /// An engine with counters of its own.
    async fn replica(&self, secret: &str) -> Replica {
        let home = tempfile::tempdir().unwrap();
        let folder = DataFolder::open(home.path()).unwrap();
        let checkpoints = Arc::new(SqlCheckpointStore::open(&folder).await.unwrap());
        let (clock, bounds) = (Arc::new(SystemClock::default()), MemoryCounterStoreConfig::default());
        let counters = MemoryCounterStore::load(checkpoints.clone(), bounds, clock.now()).await.unwrap();
        let (engine, background) = self.engine(Arc::new(counters), clock.clone(), COUNTERS_DEADLINE).await;
        let caller = engine.authenticator().by_key(secret, clock.now()).unwrap();
        Replica { engine, caller, background, checkpoints, _home: home }
    }

    /// An engine on these counters.
    async fn engine(
        &self,
        counters: Arc<dyn CounterStore>,
        clock: Arc<SystemClock>,
        counters_deadline: Duration,
    ) -> (Arc<Engine>, Background) {
        let stores = Stores {
            config: self.config.clone(),
            counters,
            log: self.log.clone(),
            usage: self.usage.clone(),
            audit: Arc::new(self.config.audit()),
            shared: true,
        };
        let setup = Setup {
            clock,
            catalogue: Arc::new(catalogue::load().unwrap()),
            cipher: CredentialCipher::new(&[7; 32]).unwrap(),
            gateway_token: None,
            config_stale_ms_max: CONFIG_STALE_MS_MAX,
            counters_deadline,
        };
        Engine::start(stores, setup).await.unwrap()
    }

    async fn close(&self) {
        self.config.close().await;
        self.usage.close().await;
        self.log.close().await;
    }
}

/// An engine with counters that are elsewhere.
pub struct Remote {
    shared: Shared,
    pub engine: Arc<Engine>,
    pub caller: Caller,
    background: Background,
}

impl Remote {
    /// A fresh installation with one workspace, and an engine that waits so long for its counters.
    pub async fn start(counters: Arc<dyn CounterStore>, deadline: Duration) -> Self {
        let shared = Shared::open().await;
        let secret = first_workspace(&shared.config).await;
        let clock = Arc::new(SystemClock::default());
        let (engine, background) = shared.engine(counters, clock.clone(), deadline).await;
        let caller = engine.authenticator().by_key(&secret, clock.now()).unwrap();
        Self { shared, engine, caller, background }
    }

    pub async fn stop(self) {
        self.background.stop().await.unwrap();
        self.shared.close().await;
    }
}

impl Pair {
    /// A fresh installation with one workspace, and two engines on it.
    pub async fn start() -> Self {
        let shared = Shared::open().await;
        let secret = first_workspace(&shared.config).await;
        let replicas = [shared.replica(&secret).await, shared.replica(&secret).await];
        Self { shared, replicas }
    }

    /// Makes a budget by way of one of the two.
    pub async fn create(&self, at: usize, budget: Budget) -> Budget {
        let Replica { engine, caller, .. } = &self.replicas[at];
        let stored = engine.create(&caller.clone().into(), Resource::Budget(budget)).await.unwrap();
        let Resource::Budget(budget) = stored.value else { panic!("{stored:?} is no budget") };
        budget
    }

    pub async fn check(&self, at: usize, request: &CheckRequest) -> CheckResponse {
        let Replica { engine, caller, .. } = &self.replicas[at];
        engine.check(caller, request).await.unwrap()
    }

    /// What a budget holds on one of the two.
    pub async fn held(&self, at: usize, budget: &Budget) -> i128 {
        self.used_and_held(at, budget).await.1
    }

    /// What is spent and held of a budget, and of that what is held; nothing where it is not known yet.
    async fn used_and_held(&self, at: usize, budget: &Budget) -> (i128, i128) {
        let Replica { engine, caller, .. } = &self.replicas[at];
        let standing = engine.budget_standing(&caller.clone().into(), budget).await.unwrap();
        standing.map_or((0, 0), |standing| (standing.reading.used, standing.reading.held))
    }

    /// Waits until both have spent as much, with nothing held.
    pub async fn both_have_spent(&self, budget: &Budget, nanos: i64) {
        for at in 0..2 {
            let spent = async {
                while self.used_and_held(at, budget).await != (nanos.into(), 0) {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            if tokio::time::timeout(PATIENCE, spent).await.is_err() {
                panic!("replica {at} has {:?}, not {nanos}", self.used_and_held(at, budget).await);
            }
        }
    }

    /// What the rollups say that all calls have cost.
    pub async fn summed(&self) -> i128 {
        for replica in &self.replicas {
            replica.engine.roll_up().await.unwrap();
        }
        let all = UsageFilter {
            accounted: Millis::ZERO..Millis::new(DISTANT_MS),
            api: None,
            key: None,
            subject: None,
            model: None,
        };
        self.shared.usage.summary(&self.replicas[0].caller.workspace, &all).await.unwrap().cost_nanos
    }

    pub async fn stop(self) {
        for Replica { background, checkpoints, .. } in self.replicas {
            background.stop().await.unwrap();
            checkpoints.close().await;
        }
        self.shared.close().await;
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

/// A budget of the month for all calls.
pub fn budget(nanos: i64) -> Budget {
    Budget {
        id: BudgetId::from_random([3; 16]),
        name: DisplayName::parse("display_name", "a budget").unwrap(),
        matches: Match::default(),
        scope: CallScope::default(),
        amount: Nanos::from_stored(nanos),
        topped_up: Nanos::ZERO,
        period: BudgetPeriod::Calendar { period: CalendarPeriod::Month, zone: None },
        enforcement: Enforcement::Enforced,
        active: true,
        opened_after: None,
    }
}

/// A call; one that reserves is thought to cost so much.
pub fn check(mode: Mode, nanos: i64) -> CheckRequest {
    let cost = (mode == Mode::Reserve).then(|| Nanos::from_stored(nanos));
    CheckRequest {
        request_id: None,
        call: Call::default(),
        amounts: Amounts::default(),
        estimate: Estimate { cost, ..Estimate::default() },
        mode,
        reservation_ttl_ms: RESERVATION_MS,
        explain: false,
    }
}

/// A call of a known cost.
pub fn record(id: &str, nanos: i64) -> UsageRecord {
    UsageRecord {
        event_id: EventId::parse("event_id", id).unwrap(),
        occurred_at: None,
        request_id: None,
        reservation: None,
        attempt: 1,
        is_final: true,
        api: String::new(),
        endpoint: String::new(),
        method: String::new(),
        subject: String::new(),
        model: String::new(),
        service_tier: String::new(),
        outcome: CallOutcome::default(),
        tokens: TokenCounts::default(),
        amounts: Amounts::default(),
        cost: Some(Nanos::from_stored(nanos)),
        price: None,
        dimensions: Vec::new(),
        exactness: Exactness::Exact,
        already_consumed: Vec::new(),
        ip: None,
    }
}
