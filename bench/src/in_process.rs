//! P1b: decisions without the wire, and the core's alone beside governor.

use std::hint::black_box;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use governor::{Quota, RateLimiter};
use hashbrown::HashMap;
use rateguard_core::counter::{Counter, CounterId, Demand, Limit, Position, Refill};
use rateguard_core::decision::{Charge, Counters, Entry, Mode, decide};
use rateguard_core::rule::Enforcement;
use rateguard_core::time::Millis;
use rateguard_engine::catalogue;
use rateguard_engine::check::{Call, CheckRequest};
use rateguard_engine::clock::{Clock, SystemClock};
use rateguard_engine::engine::{Background, CONFIG_STALE_MS_MAX, Engine, Setup, Stores};
use rateguard_engine::gate::COUNTERS_DEADLINE_GRACE;
use rateguard_engine::secrets::{CredentialCipher, random};
use rateguard_store_memory::{MemoryCounterStore, MemoryCounterStoreConfig};
use rateguard_store_redis::{RedisCounterStore, RedisCounterStoreConfig, Topology};
use rateguard_store_sql::{DataFolder, SqlCheckpointStore, SqlConfigStore, SqlEventLog, SqlUsageStore};

use crate::figures::{Comparison, Unit, nanos_each, per_second};
use crate::load::runtime;
use crate::machine::Machine;
use crate::process::data_folder;
use crate::redis_server::REDIS_DEADLINE;
use crate::seed::{API, Limits, MODEL, SUBJECTS, install};
use crate::table::say;

const ROUNDS: usize = 5;
/// Decisions of one round of the engine.
const ENGINE_DECISIONS: u64 = 300_000;
/// Decisions of one round of the core and of governor.
const CORE_DECISIONS: u64 = 3_000_000;
/// Far above what a run uses.
const REQUESTS_MAX: u32 = 1_000_000_000;
const BOUNDS: MemoryCounterStoreConfig = MemoryCounterStoreConfig {
    live_counters_max: 6_000_000,
    request_ids_bytes_max: 128 * 1024 * 1024,
    reservations_max: 250_000,
};

/// Measures both beside governor: one decision over three limits with a request id, and the core's
/// over one.
///
/// # Errors
/// When the stores fail.
pub fn measure(_: &Machine) -> anyhow::Result<Vec<Comparison>> {
    let folder = data_folder()?;
    let key = install(folder.path(), Limits::Usual)?;
    let runtime = runtime()?;
    let (engine, background) = runtime.block_on(start(folder.path(), Kept::Memory))?;
    let mut whole = Comparison::new("P1b engine, 3 limits and an id, beside governor", Unit::PerSecond);
    let mut core = Comparison::new("P1b core, 1 token bucket, beside governor", Unit::PerSecond);
    let mut bucket = Bucket::new()?;
    let quota = Quota::per_second(NonZeroU32::new(REQUESTS_MAX).unwrap_or(NonZeroU32::MAX));
    let governor = RateLimiter::keyed(quota);
    for round in 0..ROUNDS {
        let elapsed = runtime.block_on(engine_decisions(&engine, &key, round))?;
        say(&format!("  engine: {} ns a decision", nanos_each(ENGINE_DECISIONS, elapsed)))?;
        whole.subject.push(per_second(ENGINE_DECISIONS, elapsed));
        core.subject.push(per_second(CORE_DECISIONS, bucket.decisions()));
        let governed = timed(CORE_DECISIONS, |n| governor.check_key(&(n % SUBJECTS)).is_ok());
        for comparison in [&mut whole, &mut core] {
            comparison.baseline.push(per_second(CORE_DECISIONS, governed));
        }
    }
    runtime.block_on(background.stop())?;
    Ok(vec![whole, core])
}

/// Where counters are kept.
pub enum Kept {
    /// In this process.
    Memory,
    /// In the Redis at this URL.
    Redis(String),
}

/// An engine on a folder that was made and seeded before.
///
/// # Errors
/// When a store cannot be opened.
pub async fn start(folder: &Path, kept: Kept) -> anyhow::Result<(Arc<Engine>, Background)> {
    let folder = DataFolder::open(folder)?;
    let clock = Arc::new(SystemClock::default());
    let checkpoints = Arc::new(SqlCheckpointStore::open(&folder).await?);
    let log = Arc::new(SqlEventLog::open(&folder).await?);
    let config = SqlConfigStore::open(&folder, &log).await?;
    let stores = Stores {
        audit: Arc::new(config.audit()),
        config: Arc::new(config),
        counters: match kept {
            Kept::Memory => Arc::new(MemoryCounterStore::load(checkpoints, BOUNDS, clock.now()).await?),
            Kept::Redis(url) => {
                let config = RedisCounterStoreConfig::new(Topology::Single { url });
                Arc::new(RedisCounterStore::new(RedisCounterStoreConfig {
                    deadline: REDIS_DEADLINE,
                    ..config
                })?)
            }
        },
        usage: Arc::new(SqlUsageStore::open(&folder, &log).await?),
        log,
        shared: false,
    };
    let setup = Setup {
        clock,
        catalogue: Arc::new(catalogue::load()?),
        cipher: CredentialCipher::new(&random::<32>()?)?,
        gateway_token: None,
        config_stale_ms_max: CONFIG_STALE_MS_MAX,
        counters_deadline: REDIS_DEADLINE + COUNTERS_DEADLINE_GRACE,
    };
    Ok(Engine::start(stores, setup).await?)
}

/// Authenticates and decides, as a call over the wire does after it was decoded.
async fn engine_decisions(engine: &Engine, key: &String, round: usize) -> anyhow::Result<Duration> {
    let requests: Vec<CheckRequest> =
        (0..ENGINE_DECISIONS).map(|n| request(n, round)).collect::<anyhow::Result<_>>()?;
    decide_all(engine, std::slice::from_ref(key), &requests).await
}

/// Decides one check after the other, each by the next key, which is looked up.
///
/// # Errors
/// When one fails or is denied.
pub async fn decide_all(
    engine: &Engine,
    keys: &[String],
    requests: &[CheckRequest],
) -> anyhow::Result<Duration> {
    let started = Instant::now();
    for (request, key) in requests.iter().zip(keys.iter().cycle()) {
        let caller = engine.authenticator().by_key(key, engine.now())?;
        anyhow::ensure!(engine.check(&caller, request).await?.allowed, "a check was not allowed");
    }
    Ok(started.elapsed())
}

/// A check of one of the subjects, with an id that no other of the round has.
///
/// # Errors
/// None: the id is well formed.
pub fn request(n: u64, round: usize) -> anyhow::Result<CheckRequest> {
    let id = format!("check-{round}-{n}");
    let request_id = Some(rateguard_core::ids::RequestId::parse("request_id", &id)?);
    Ok(CheckRequest { request_id, ..request_of(n % SUBJECTS) })
}

/// A check of a subject, without an id.
pub fn request_of(subject: u64) -> CheckRequest {
    CheckRequest {
        request_id: None,
        call: Call {
            api: API.to_owned(),
            endpoint: "/v1/chat/completions".to_owned(),
            method: "POST".to_owned(),
            subject: format!("user-{subject}"),
            model: MODEL.to_owned(),
            ..Call::default()
        },
        amounts: Default::default(),
        estimate: Default::default(),
        mode: Mode::Consume,
        reservation_ttl_ms: 0,
        explain: false,
    }
}

/// Token buckets in a plain map.
struct Bucket {
    table: Table,
    limit: Limit,
    clock: SystemClock,
}

impl Bucket {
    fn new() -> anyhow::Result<Self> {
        let capacity = i64::from(REQUESTS_MAX);
        let limit = Limit::TokenBucket { capacity, refill: Refill::new(capacity, 1_000, capacity)? };
        Ok(Self { table: Table(HashMap::new()), limit, clock: SystemClock::default() })
    }

    fn decisions(&mut self) -> Duration {
        let Self { table, limit, clock } = self;
        timed(CORE_DECISIONS, |n| {
            let id = CounterId(u128::from(n % SUBJECTS));
            let charge = Charge {
                counter: id,
                overflow: id,
                limit: *limit,
                demand: Demand::take(1),
                enforcement: Enforcement::Enforced,
                counts_denied: false,
            };
            decide(table, &[charge], Mode::Consume, clock.now()).allowed
        })
    }
}

fn timed(times: u64, mut work: impl FnMut(u64) -> bool) -> Duration {
    let started = Instant::now();
    for n in 0..times {
        black_box(work(black_box(n)));
    }
    started.elapsed()
}

struct Table(HashMap<CounterId, Entry>);

impl Counters for Table {
    fn get(&self, id: CounterId) -> Option<&Entry> {
        self.0.get(&id)
    }

    fn get_mut(&mut self, id: CounterId) -> Option<&mut Entry> {
        self.0.get_mut(&id)
    }

    fn get_or_insert(&mut self, id: CounterId, limit: &Limit, now: Millis) -> &mut Entry {
        let fresh = || Entry { counter: Counter::fresh(limit, now), included: Position::default() };
        self.0.entry(id).or_insert_with(fresh)
    }
}
