//! The scripts are a second implementation of the core's arithmetic. Here both get the same random
//! commands, and every answer and every counter that they leave behind has to be the same.
//!
//! A failure prints its seed: `RATEGUARD_DIFFERENTIAL_SEED` replays it, and
//! `RATEGUARD_DIFFERENTIAL_COMMANDS` says how many commands there are in all.

use std::collections::HashSet;
use std::fmt::Debug;
use std::sync::Arc;

use futures::future::join_all;
use rateguard_core::counter::CounterFamily;
use rateguard_core::ids::WorkspaceId;
use rateguard_core::time::Millis;
use rateguard_engine::ports::{CheckOutcome, CounterStore, LiveBudgets, StoreError};
use rateguard_store_memory::{MemoryCounterStore, MemoryCounterStoreConfig};
use rateguard_store_redis::{RedisCounterStore, RedisCounterStoreConfig, Topology};
use rateguard_test_servers::RedisServer;
use redis::AsyncConnectionConfig;
use redis::aio::MultiplexedConnection;

use crate::backend::{PATIENCE, config, new_prefix};
use crate::dump::{Rows, dump};
use crate::wishes::{Dice, Wishes};

const COMMANDS: u64 = 120_000;
/// Worlds at once, each a workspace of its own.
const WORLDS: u64 = 12;
/// Commands of one world before another begins in its place.
const COMMANDS_PER_WORLD: u64 = 1_000;
/// Commands between two looks at all counters.
const LOOK_EVERY: u64 = 50;
/// Few enough that some values fall on overflow counters, in every second world.
const CROWDED_COUNTERS_MAX: usize = 36;
const LIVE_COUNTERS_MAX: usize = 1_000;
const RESERVATIONS_MAX: usize = 10_000;
/// Of all reservations that are named.
const NAMED: usize = 50;
/// The store in memory sweeps a sixteenth of its maps at once.
const SWEEPS: usize = 16;

/// What an environment variable says, if it is set.
pub fn number_of(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_scripts_answer_and_count_as_the_core_does() {
    let commands = number_of("RATEGUARD_DIFFERENTIAL_COMMANDS").unwrap_or(COMMANDS);
    let seeds: Vec<u64> = match number_of("RATEGUARD_DIFFERENTIAL_SEED") {
        Some(seed) => vec![seed],
        None => {
            let mut random = [0; 8];
            getrandom::fill(&mut random).expect("the system has randomness");
            let first = u64::from_be_bytes(random) >> 16;
            (first..first + commands.div_ceil(COMMANDS_PER_WORLD)).collect()
        }
    };
    let server = RedisServer::shared().await.expect("a Redis can be started");
    let client = redis::Client::open(server.url()).expect("the address is well formed");
    let patient = AsyncConnectionConfig::new().set_response_timeout(Some(PATIENCE));
    let connection = client.get_multiplexed_async_connection_with_config(&patient).await;
    let connection = connection.expect("the server is there");
    for seeds in seeds.chunks(usize::try_from(WORLDS).unwrap_or(1)) {
        let worlds = seeds.iter().map(|seed| {
            let (seed, url, connection) = (*seed, server.url(), connection.clone());
            tokio::spawn(async move { World::new(seed, url, connection).await.live().await })
        });
        for world in join_all(worlds).await {
            world.expect("both answer the same");
        }
    }
}

struct World {
    seed: u64,
    step: u64,
    wishes: Wishes,
    memory: MemoryCounterStore,
    rows: Arc<Rows>,
    redis: RedisCounterStore,
    connection: MultiplexedConnection,
    prefix: String,
    /// What was done since all counters were the same.
    done: Vec<String>,
}

impl World {
    async fn new(seed: u64, url: String, connection: MultiplexedConnection) -> Self {
        let prefix = new_prefix();
        let is_crowded = seed.is_multiple_of(2);
        let live_counters_max = if is_crowded { CROWDED_COUNTERS_MAX } else { LIVE_COUNTERS_MAX };
        let config = RedisCounterStoreConfig {
            live_counters_max,
            reservations_max: RESERVATIONS_MAX,
            ..config(Topology::Single { url }, &prefix)
        };
        let redis = RedisCounterStore::new(config).expect("the address is well formed");
        let rows = Arc::new(Rows::default());
        let bounds = MemoryCounterStoreConfig {
            live_counters_max,
            reservations_max: RESERVATIONS_MAX,
            ..MemoryCounterStoreConfig::default()
        };
        let memory = MemoryCounterStore::load(rows.clone(), bounds, Millis::ZERO).await;
        let memory = memory.expect("an empty checkpoint is read");
        let workspace = WorkspaceId::from_random(u128::from(Dice(seed).roll()).to_be_bytes());
        let wishes = Wishes::new(seed, workspace, is_crowded);
        Self { seed, step: 0, wishes, memory, rows, redis, connection, prefix, done: Vec::new() }
    }

    async fn live(mut self) {
        // From here on both know the workspace and its time.
        self.read().await;
        while self.step < COMMANDS_PER_WORLD {
            self.step += 1;
            self.wishes.pass_time();
            if self.wishes.dice.below(20) == 0 {
                self.wishes.change_limit();
            }
            self.turn().await;
            if self.step.is_multiple_of(LOOK_EVERY) {
                self.look().await;
            }
        }
    }

    async fn turn(&mut self) {
        match self.wishes.dice.below(100) {
            0..34 => self.check().await,
            34..44 => self.lease().await,
            44..50 => self.cancel().await,
            50..54 => self.recall().await,
            54..59 => self.read().await,
            59 => self.reset().await,
            60..78 => self.settle().await,
            78..82 => self.renew().await,
            82..88 => self.release().await,
            88..92 => self.reservation().await,
            92..95 => self.expire().await,
            95..98 => self.open().await,
            _ => self.sweep().await,
        }
    }

    fn same<T: PartialEq + Debug>(&self, memory: &Result<T, StoreError>, redis: &Result<T, StoreError>) {
        let same = match (memory, redis) {
            (Ok(memory), Ok(redis)) => memory == redis,
            // Refusals are the same by their kind.
            (Err(StoreError::Full { .. }), Err(StoreError::Full { .. }))
            | (Err(StoreError::Unavailable { .. }), Err(StoreError::Unavailable { .. }))
            | (Err(StoreError::AttemptRefused { .. }), Err(StoreError::AttemptRefused { .. }))
            | (Err(StoreError::AlreadyExists { .. }), Err(StoreError::AlreadyExists { .. })) => true,
            _ => false,
        };
        let Self { seed, step, .. } = self;
        let done = self.done.join("\n");
        assert!(
            same,
            "RATEGUARD_DIFFERENTIAL_SEED={seed}, step {step}\n{done}\n memory: {memory:?}\n redis: {redis:?}"
        );
    }

    async fn check(&mut self) {
        let command = self.wishes.check();
        self.done.push(format!("{command:?}"));
        let (memory, redis) = (self.memory.check(&command).await, self.redis.check(&command).await);
        self.same(&memory, &redis);
        if let Ok(CheckOutcome::Decided(decided)) = memory {
            self.wishes.asked(command);
            self.wishes.taken.extend(decided.reservation.filter(|_| !decided.replayed).map(|(id, _)| id));
        }
    }

    async fn lease(&mut self) {
        let command = self.wishes.leases();
        self.done.push(format!("{command:?}"));
        let (memory, redis) = (self.memory.lease(&command).await, self.redis.lease(&command).await);
        self.same(&memory, &redis);
        let outcomes = memory.into_iter().flatten();
        self.wishes.lent.extend(outcomes.filter_map(|outcome| outcome.lease));
    }

    /// Mostly of a check that has arrived, sometimes of one that arrives afterwards or never.
    async fn cancel(&mut self) {
        let late = self.wishes.check();
        let arrives = self.wishes.dice.below(2) == 0;
        let command = if self.wishes.dice.below(3) == 0 { Some(late) } else { self.wishes.given_up() };
        let (Some(command), now) = (command, self.wishes.now) else { return };
        self.done.push(format!("cancelling {command:?} at {now:?}"));
        self.same(&self.memory.cancel(&command, now).await, &self.redis.cancel(&command, now).await);
        if arrives {
            self.done.push("which arrives once more".to_owned());
            self.same(&self.memory.check(&command).await, &self.redis.check(&command).await);
        }
    }

    async fn recall(&mut self) {
        let command = self.wishes.check();
        self.done.push(format!("recalling {command:?}"));
        self.same(&self.memory.recall(&command).await, &self.redis.recall(&command).await);
    }

    async fn read(&mut self) {
        let (queries, now) = (self.wishes.queries(), self.wishes.now);
        self.done.push(format!("reading {queries:?} at {now:?}"));
        let workspace = &self.wishes.workspace;
        let memory = self.memory.read(workspace, &queries, now).await;
        self.same(&memory, &self.redis.read(workspace, &queries, now).await);
    }

    async fn settle(&mut self) {
        let records = self.wishes.records();
        self.done.push(format!("settling {records:?}"));
        self.same(&self.memory.settle(records.clone()).await, &self.redis.settle(records).await);
    }

    async fn release(&mut self) {
        let (id, principal, now) = (self.wishes.some_reservation(), self.wishes.principal(), self.wishes.now);
        self.done.push(format!("releasing {id:?} of {principal:?} at {now:?}"));
        let workspace = &self.wishes.workspace;
        let memory = self.memory.release(workspace, &id, &principal, now).await;
        self.same(&memory, &self.redis.release(workspace, &id, &principal, now).await);
    }

    async fn renew(&mut self) {
        let (id, principal) = (self.wishes.some_reservation(), self.wishes.principal());
        let (until, now) = (self.wishes.renewal(), self.wishes.now);
        self.done.push(format!("renewing {id:?} of {principal:?} until {until:?} at {now:?}"));
        let workspace = &self.wishes.workspace;
        let memory = self.memory.renew(workspace, &id, &principal, until, now).await;
        self.same(&memory, &self.redis.renew(workspace, &id, &principal, until, now).await);
    }

    async fn reset(&mut self) {
        let (counters, now) = (self.wishes.reset(), self.wishes.now);
        self.done.push(format!("setting back {counters:?} at {now:?}"));
        let workspace = &self.wishes.workspace;
        let memory = self.memory.reset(workspace, counters, now).await;
        self.same(&memory, &self.redis.reset(workspace, counters, now).await);
    }

    async fn reservation(&mut self) {
        let id = self.wishes.some_reservation();
        self.done.push(format!("asking for {id:?}"));
        let workspace = &self.wishes.workspace;
        let memory = self.memory.reservation(workspace, &id).await;
        self.same(&memory, &self.redis.reservation(workspace, &id).await);
    }

    async fn expire(&mut self) {
        let now = self.wishes.now;
        self.done.push(format!("expiring at {now:?}"));
        let memory = self.memory.expire_due(now, NAMED).await;
        self.same(&memory, &self.redis.expire_due(now, NAMED).await);
    }

    async fn open(&mut self) {
        let (openings, through) = self.wishes.openings();
        let (workspace, now) = (&self.wishes.workspace, self.wishes.now);
        self.done.push(format!("opening {openings:?} through {through:?} at {now:?}"));
        let memory = self.memory.open_budget(workspace, openings.clone(), through, now).await;
        self.same(&memory, &self.redis.open_budget(workspace, openings, through, now).await);
    }

    async fn sweep(&mut self) {
        let (living, now) = (Living(Arc::new(self.wishes.families().into_iter().collect())), self.wishes.now);
        self.done.push(format!("sweeping at {now:?} with {:?}", living.0));
        self.memory.checkpoint(false).await.expect("the rows are kept");
        for _ in 0..SWEEPS {
            let memory = self.memory.sweep(now, &living).await;
            self.same(&memory, &self.redis.sweep(now, &living).await);
        }
        self.look().await;
    }

    async fn look(&mut self) {
        self.memory.checkpoint(false).await.expect("the rows are kept");
        let key = format!("{}:{{{}}}:c", self.prefix, self.wishes.workspace);
        let (memory, redis) = (self.rows.left(), dump(&mut self.connection, &key).await);
        self.same(&Ok(memory), &Ok(redis));
        self.done.clear();
    }
}

struct Living(Arc<HashSet<CounterFamily>>);

impl LiveBudgets for Living {
    fn families(&self, _: &WorkspaceId) -> Option<Arc<HashSet<CounterFamily>>> {
        Some(self.0.clone())
    }
}
