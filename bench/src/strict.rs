//! P3: decisions by counters in Redis, each one script, beside a bare script that updates as many keys.
//!
//! Both are asked from this process, over one connection of the same client: what differs is the engine
//! with its store here, and the script there.

use std::time::{Duration, Instant};

use anyhow::ensure;
use futures::{StreamExt, TryStreamExt, stream};
use rateguard_engine::check::CheckRequest;
use rateguard_engine::engine::Engine;
use redis::aio::MultiplexedConnection;
use redis::{Client, Script};

use crate::figures::{Comparison, Unit, per_second};
use crate::in_process::{Kept, request, start};
use crate::load::runtime;
use crate::machine::Machine;
use crate::process::data_folder;
use crate::quota::IN_FLIGHT;
use crate::redis_server::Redis;
use crate::seed::{Limits, install};
use crate::table::say;

/// How often subject and baseline take turns.
const ROUNDS: usize = 5;
/// Decisions of one turn.
const DECISIONS: u64 = 60_000;
/// Scripts beside decisions that may be the store's own: what expires, who is there. Of a thousand.
const OWN_SCRIPTS_PERMILLE_MAX: u64 = 5;

/// A token bucket, a counter of a minute, and a look at a third: what a check does where a budget is only
/// looked at. It knows no rules, no ids and no workspaces.
const BARE: &str = "
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local full_at = tonumber(redis.call('GET', KEYS[1]) or '0')
if full_at < now then full_at = now end
local used = tonumber(redis.call('GET', KEYS[2]) or '0')
local spent = tonumber(redis.call('GET', KEYS[3]) or '0')
if full_at - now > 60000 or used >= 1e9 or spent >= 1e15 then return {0, used, spent} end
redis.call('SET', KEYS[1], full_at + 0.001, 'PX', 60000)
redis.call('SET', KEYS[2], used + 1, 'PX', 60000)
return {1, used + 1, spent}
";
const BARE_KEYS: [&str; 3] = ["{bare}bucket", "{bare}minute", "{bare}month"];

/// Measures decisions a second, and that each is one round trip.
///
/// # Errors
/// When Redis or a decision fails, or takes more than one script.
pub fn measure(machine: &Machine) -> anyhow::Result<Vec<Comparison>> {
    let redis = Redis::start(machine)?;
    let folder = data_folder()?;
    let key = install(folder.path(), Limits::Strict)?;
    let runtime = runtime()?;
    let (engine, background) = runtime.block_on(start(folder.path(), Kept::Redis(redis.url())))?;
    let bare = Bare { script: Script::new(BARE), connection: runtime.block_on(connect(&redis.url()))? };
    let mut measured = Vec::new();
    let mut made = 0;
    for in_flight in IN_FLIGHT {
        let name = format!("P3 strict decisions in Redis, {in_flight} in flight");
        let mut comparison = Comparison::new(name, Unit::PerSecond);
        for _ in 0..ROUNDS {
            let requests = requests(made)?;
            made += DECISIONS;
            let before = redis.scripts_run()?;
            let elapsed = runtime.block_on(decisions(&engine, &key, &requests, in_flight))?;
            check_scripts(redis.scripts_run()? - before)?;
            comparison.subject.push(per_second(DECISIONS, elapsed));
            let elapsed = runtime.block_on(bare.updates(in_flight))?;
            comparison.baseline.push(per_second(DECISIONS, elapsed));
        }
        measured.push(comparison);
    }
    runtime.block_on(background.stop())?;
    Ok(measured)
}

async fn connect(url: &str) -> anyhow::Result<MultiplexedConnection> {
    Ok(Client::open(url)?.get_multiplexed_async_connection().await?)
}

/// Without ids of their own, which the bare script does not remember either.
fn requests(made: u64) -> anyhow::Result<Vec<CheckRequest>> {
    let anonymous = |n| Ok(CheckRequest { request_id: None, ..request(n, 0)? });
    (made..made + DECISIONS).map(anonymous).collect()
}

fn check_scripts(run: u64) -> anyhow::Result<()> {
    say(&format!("  {run} scripts for {DECISIONS} decisions"))?;
    let most = DECISIONS + DECISIONS * OWN_SCRIPTS_PERMILLE_MAX / 1_000;
    ensure!((DECISIONS..=most).contains(&run), "{run} scripts were run for {DECISIONS} decisions");
    Ok(())
}

async fn decisions(
    engine: &Engine,
    key: &str,
    requests: &[CheckRequest],
    in_flight: usize,
) -> anyhow::Result<Duration> {
    let started = Instant::now();
    stream::iter(requests.iter().map(|request| async move {
        let caller = engine.authenticator().by_key(key, engine.now())?;
        let answer = engine.check(&caller, request).await?;
        ensure!(answer.allowed && answer.degraded.is_none(), "a check was not allowed by its counters");
        Ok(())
    }))
    .buffer_unordered(in_flight)
    .try_collect::<()>()
    .await?;
    Ok(started.elapsed())
}

/// The baseline.
struct Bare {
    script: Script,
    connection: MultiplexedConnection,
}

impl Bare {
    async fn updates(&self, in_flight: usize) -> anyhow::Result<Duration> {
        let started = Instant::now();
        stream::iter((0..DECISIONS).map(|_| async {
            let mut run = self.script.prepare_invoke();
            for key in BARE_KEYS {
                run.key(key);
            }
            let (allowed, _, _): (i64, i64, i64) = run.invoke_async(&mut self.connection.clone()).await?;
            ensure!(allowed == 1, "the bare script denied");
            Ok(())
        }))
        .buffer_unordered(in_flight)
        .try_collect::<()>()
        .await?;
        Ok(started.elapsed())
    }
}
