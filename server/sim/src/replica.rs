//! Replicas: real engines that start, serve, crash, stop and start again.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use rateguard_core::pricing::PriceBook;
use rateguard_engine::caller::Caller;
use rateguard_engine::engine::{Background, CONFIG_STALE_MS_MAX, Engine, Setup, Stores};
use rateguard_engine::gate::COUNTERS_DEADLINE;
use rateguard_engine::ports::Snapshot;
use rateguard_engine::secrets::CredentialCipher;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::clocks::{ProcessClock, SkewedClock};
use crate::network::{Life, Link, Place, World, millis};
use crate::steps::Step;
use crate::stores::audit::NoTrail;
use crate::stores::config::LinkedConfig;
use crate::stores::counters::{CounterServer, LinkedCounters};
use crate::stores::log::{LinkedLog, LogServer};
use crate::stores::usage::{LinkedUsage, UsageServer};

/// Most waits of a life that ends by a crash.
const WAITS_MAX: i64 = 400;
/// Longest life that ends by a stop.
const LIFE_MS_MAX: i64 = 6_000;
/// Longest time between two lives.
const DOWN_MS_MAX: i64 = 1_200;
/// How long calls on their way may take at a stop.
const DRAIN: Duration = Duration::from_millis(500);
/// How long a start that failed waits for the next one.
const START_AGAIN_MS: i64 = 100;

/// The stores of a run.
#[derive(Clone)]
pub struct Servers {
    /// Counters.
    pub counters: Arc<CounterServer>,
    /// The log.
    pub log: Arc<LogServer>,
    /// Usage.
    pub usage: Arc<UsageServer>,
    /// The configuration.
    pub snapshot: Arc<Snapshot>,
}

impl Servers {
    fn linked(&self, life: &Arc<Life>) -> Stores {
        let link = |place| Link { life: life.clone(), place };
        Stores {
            config: Arc::new(LinkedConfig { link: link(Place::Config), snapshot: self.snapshot.clone() }),
            counters: Arc::new(LinkedCounters::over(link(Place::Counters), self.counters.clone())),
            log: Arc::new(LinkedLog { link: link(Place::Log), server: self.log.clone() }),
            usage: Arc::new(LinkedUsage { link: link(Place::Usage), server: self.usage.clone() }),
            shared: true,
            audit: Arc::new(NoTrail),
        }
    }
}

/// What serves a call.
#[derive(Clone)]
pub struct Serving {
    /// The engine.
    pub engine: Arc<Engine>,
    /// Its life.
    pub life: Arc<Life>,
    /// Who calls.
    pub caller: Caller,
}

struct Running {
    serving: Serving,
    background: Background,
    calls: JoinSet<()>,
}

/// One replica through all its lives.
pub struct Replica {
    number: usize,
    world: Arc<World>,
    servers: Servers,
    caller: Caller,
    /// Its machine's clock, which outlives it.
    pub clock: Arc<SkewedClock>,
    running: Mutex<Option<Running>>,
    life: Mutex<Option<Arc<Life>>>,
}

impl Replica {
    /// A replica that has not started yet.
    pub fn new(
        number: usize,
        world: Arc<World>,
        servers: Servers,
        caller: Caller,
        skew_ms: i64,
    ) -> Arc<Self> {
        let clock = Arc::new(SkewedClock::new(world.time, skew_ms));
        let (running, life) = (Mutex::default(), Mutex::default());
        Arc::new(Self { number, world, servers, caller, clock, running, life })
    }

    /// Calls it: what it does is done in its life, and ends with that. Nothing is heard of a call that
    /// never ended.
    pub async fn call<T: Send + 'static>(
        &self,
        serve: impl FnOnce(Serving) -> BoxFuture<'static, T> + Send + 'static,
    ) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        if let Some(running) = self.running.lock().as_mut() {
            let serving = running.serving.clone();
            running.calls.spawn(async move {
                serving.life.wait_point().await;
                // Whoever called may have given up.
                drop(reply.send(serve(serving).await));
            });
        } else {
            return None;
        }
        answer.await.ok()
    }

    /// Cuts the present life off from every store, or lets it reach them again.
    pub fn set_cut_off(&self, is_cut_off: bool) {
        self.world.note(|| format!("r{} cut off: {is_cut_off}", self.number));
        self.life.lock().iter().for_each(|life| life.set_cut_off(is_cut_off));
    }

    /// Lets the present life go on without end.
    pub fn spare(&self) {
        self.life.lock().iter().for_each(|life| life.spare());
    }

    /// Lives one life after the other.
    pub async fn live(self: Arc<Self>) {
        loop {
            let faults = self.world.faults();
            let dice = &self.world.dice;
            let crashes = faults.crashes && dice.happens(600);
            let waits = crashes.then(|| dice.within(0..=WAITS_MAX));
            let stops = faults.crashes && dice.happens(300);
            let stops_after_ms = stops.then(|| dice.within(0..=LIFE_MS_MAX));
            let life = Life::begin(self.world.clone(), self.number, waits);
            *self.life.lock() = Some(life.clone());
            tokio::select! {
                biased;
                () = life.crashed() => self.world.history.lock().coverage.crashes += 1,
                () = self.live_once(&life, stops_after_ms) => life.end(),
            }
            // Whatever runs in it is dropped where it waits.
            drop(self.running.lock().take());
            self.world.record(&Step::Gone(life.number));
            sleep(millis(self.world.dice.within(0..=DOWN_MS_MAX))).await;
        }
    }

    async fn live_once(&self, life: &Arc<Life>, stops_after_ms: Option<i64>) {
        let Some(running) = self.start(life).await else {
            return sleep(millis(START_AGAIN_MS)).await;
        };
        self.world.note(|| format!("r{} starts", self.number));
        *self.running.lock() = Some(running);
        match stops_after_ms {
            Some(ms) => sleep(millis(ms)).await,
            None => futures::future::pending().await,
        }
        self.stop().await;
    }

    async fn start(&self, life: &Arc<Life>) -> Option<Running> {
        let setup = Setup {
            clock: Arc::new(ProcessClock::on(self.clock.clone(), self.world.clone())),
            catalogue: Arc::new(PriceBook::default()),
            cipher: CredentialCipher::new(&[7; 32]).ok()?,
            gateway_token: None,
            config_stale_ms_max: CONFIG_STALE_MS_MAX,
            counters_deadline: COUNTERS_DEADLINE,
        };
        let (engine, background) = Engine::start(self.servers.linked(life), setup).await.ok()?;
        let serving = Serving { engine, life: life.clone(), caller: self.caller.clone() };
        Some(Running { serving, background, calls: JoinSet::new() })
    }

    /// Stops in order: no further calls, those on their way, then the engine.
    pub async fn stop(&self) {
        let Some(Running { background, mut calls, .. }) = self.running.lock().take() else { return };
        self.world.note(|| format!("r{} stops", self.number));
        let drained = async { while calls.join_next().await.is_some() {} };
        // What is not done by then is cut off, as at any stop.
        drop(timeout(DRAIN, drained).await);
        drop(calls);
        if let Err(error) = background.stop().await {
            self.world.note(|| format!("r{} could not stop well: {error}", self.number));
        }
    }
}
