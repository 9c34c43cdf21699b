//! Two replicas that decide by leases, on one real server and its own clock.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use rateguard_core::counter::{CounterId, Demand, Limit};
use rateguard_core::decision::{Charge, Mode};
use rateguard_core::ids::WorkspaceId;
use rateguard_core::rule::Enforcement;
use rateguard_core::time::Millis;
use rateguard_engine::clock::{Clock, SystemClock};
use rateguard_engine::leases::Leases;
use rateguard_engine::ports::{CheckCommand, CheckOutcome, CounterQuery, CounterStore};
use rateguard_store_redis::{RedisCounterStore, RedisCounterStoreConfig, ScriptClock, Topology};
use rateguard_test_servers::RedisServer;
use smallvec::SmallVec;

use crate::backend::{config, new_prefix};

/// Long enough that no test sees it end.
const WINDOW_MS: i64 = 366 * 86_400_000;
const CALLERS: usize = 64;
/// Longer than a machine that does other things as well keeps an answer back: here nothing may be unknown.
const DEADLINE: Duration = Duration::from_secs(30);

struct Replica {
    store: Arc<RedisCounterStore>,
    leases: Arc<Leases>,
    clock: Arc<SystemClock>,
}

impl Replica {
    async fn start(prefix: &str) -> Self {
        let server = RedisServer::shared().await.expect("a Redis can be started");
        let of_tests = config(Topology::Single { url: server.url() }, prefix);
        let config = RedisCounterStoreConfig { clock: ScriptClock::Server, ..of_tests };
        let store = Arc::new(RedisCounterStore::new(config).expect("the address is well formed"));
        let clock = Arc::new(SystemClock::default());
        let leases = Leases::new(store.clone(), clock.clone(), DEADLINE);
        Self { store, leases, clock }
    }

    async fn consumes(&self, charges: &[Charge]) -> bool {
        let command = CheckCommand {
            workspace: workspace(),
            now: self.clock.now(),
            mode: Mode::Consume,
            charges: charges.iter().copied().collect(),
            units: SmallVec::new(),
            request: None,
            reservation: None,
        };
        let outcome = self.leases.check(&command, &SmallVec::from_elem(true, charges.len())).await;
        matches!(outcome.expect("the server answers"), CheckOutcome::Decided(decided) if decided.verdict.allowed)
    }

    async fn used(&self, charges: &[Charge]) -> Vec<i128> {
        let query = |charge: &Charge| {
            let Charge { counter, overflow, limit, .. } = *charge;
            CounterQuery { counter, overflow, limit }
        };
        let queries: Vec<CounterQuery> = charges.iter().map(query).collect();
        let read = self.store.read(&workspace(), &queries, Millis::ZERO).await;
        read.expect("the server answers").iter().map(|reading| reading.used).collect()
    }
}

fn workspace() -> WorkspaceId {
    WorkspaceId::from_random([7; 16])
}

fn charge(counter: u128, limit: i64) -> Charge {
    Charge {
        counter: CounterId(counter),
        overflow: CounterId(u128::MAX - counter),
        limit: Limit::FixedWindow { limit, window_ms: WINDOW_MS },
        demand: Demand::take(1),
        enforcement: Enforcement::Enforced,
        counts_denied: false,
    }
}

/// What both replicas admit of so many calls by as many callers.
async fn admitted(replicas: &[Arc<Replica>], charges: &[Charge], calls_each: usize) -> i128 {
    let callers = (0..CALLERS).map(|caller| {
        let (replica, charges) = (replicas[caller % replicas.len()].clone(), charges.to_vec());
        tokio::spawn(async move {
            let mut admitted = 0;
            for _ in 0..calls_each {
                admitted += i128::from(replica.consumes(&charges).await);
            }
            admitted
        })
    });
    join_all(callers).await.into_iter().map(|admitted| admitted.expect("no caller panics")).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_admit_a_limit_and_burn_nothing_of_the_other() {
    let prefix = new_prefix();
    let replicas = [Arc::new(Replica::start(&prefix).await), Arc::new(Replica::start(&prefix).await)];
    let both = [charge(1, 1_000), charge(2, 500)];
    let first = admitted(&replicas, &both, 20).await;
    for replica in &replicas {
        replica.leases.close().await;
    }
    assert_eq!(replicas[0].used(&both).await, [first, first], "what was not spent went back");
    let rest = admitted(&replicas, &both, 20).await;
    assert_eq!(first + rest, 500);
    assert!((400..=500).contains(&first), "{first} of 500 before anything went back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_under_load_seldom_ask_the_server() {
    let prefix = new_prefix();
    let replicas = [Arc::new(Replica::start(&prefix).await), Arc::new(Replica::start(&prefix).await)];
    let limited = [charge(1, 1_000_000)];
    let calls = 300;
    let all = admitted(&replicas, &limited, calls).await;
    assert_eq!(all, (CALLERS * calls) as i128);
    let asked: u64 = replicas
        .iter()
        .map(|replica| {
            let figures = replica.leases.figures();
            figures.exchanges + figures.decided_by_store
        })
        .sum();
    assert!(asked * 20 < (CALLERS * calls) as u64, "{asked} calls of the server for {all} checks");
    for replica in &replicas {
        replica.leases.close().await;
    }
    assert_eq!(replicas[0].used(&limited).await, [all], "what was not spent went back");
}
