//! Stores on servers of the tests, each with keys of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use rateguard_core::time::Millis;
use rateguard_engine::ports::CounterStore;
use rateguard_store_redis::{
    RedisCounterStore, RedisCounterStoreConfig, ScriptClock, SpreadCounterStore, Topology,
};
use rateguard_store_suite::counter_store::CounterBackend;
use rateguard_test_servers::{RedisCluster, RedisServer};
use tokio::sync::OnceCell;

/// Tests on a busy machine are about answers, not about how long they take.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Small enough for a test to reach.
pub const LIVE_COUNTERS_MAX: usize = 100;
/// So are these.
const RESERVATIONS_MAX: usize = 500;

/// Where the stores are.
#[derive(Clone, Copy, Debug)]
enum Place {
    Alone,
    Cluster,
}

/// Storage of one test: keys with a prefix that no other has.
#[derive(Debug)]
pub struct RedisBackend {
    place: Place,
    spreads: bool,
    prefix: String,
}

impl RedisBackend {
    /// On the one server that the tests share.
    pub fn alone() -> Self {
        Self { place: Place::Alone, spreads: false, prefix: new_prefix() }
    }

    /// On the cluster that the tests share.
    pub fn cluster() -> Self {
        Self { place: Place::Cluster, spreads: false, prefix: new_prefix() }
    }

    /// The same with every other limit spread.
    pub fn spread(self) -> Self {
        Self { spreads: true, ..self }
    }

    /// A store on the same keys that knows of no shards.
    pub async fn beneath(&self) -> RedisCounterStore {
        RedisCounterStore::new(config(self.topology().await, &self.prefix))
            .expect("the addresses are well formed")
    }

    /// What every key begins with.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    async fn topology(&self) -> Topology {
        match self.place {
            Place::Alone => {
                let server = RedisServer::shared().await.expect("a Redis can be started");
                Topology::Single { url: server.url() }
            }
            Place::Cluster => Topology::Cluster { urls: cluster().await.urls() },
        }
    }
}

/// A prefix that nobody else in this process has.
pub fn new_prefix() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("test{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The cluster that the tests share.
pub async fn cluster() -> &'static RedisCluster {
    static CLUSTER: OnceCell<RedisCluster> = OnceCell::const_new();
    CLUSTER.get_or_init(|| async { RedisCluster::start().await.expect("a cluster can be started") }).await
}

/// Patient, with the commands' own clock and small bounds.
pub fn config(topology: Topology, prefix: &str) -> RedisCounterStoreConfig {
    RedisCounterStoreConfig {
        key_prefix: prefix.to_owned(),
        deadline: PATIENCE,
        batch_deadline: PATIENCE,
        clock: ScriptClock::Command,
        live_counters_max: LIVE_COUNTERS_MAX,
        reservations_max: RESERVATIONS_MAX,
        ..RedisCounterStoreConfig::new(topology)
    }
}

#[async_trait]
impl CounterBackend for RedisBackend {
    async fn open(&self, _: Millis) -> Arc<dyn CounterStore> {
        let store = self.beneath().await;
        if self.spreads { Arc::new(SpreadCounterStore::new(store)) } else { Arc::new(store) }
    }

    fn spreads(&self) -> bool {
        self.spreads
    }

    fn live_counters_max(&self) -> usize {
        LIVE_COUNTERS_MAX
    }

    fn reservations_max(&self) -> usize {
        RESERVATIONS_MAX
    }
}
