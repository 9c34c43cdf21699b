//! One run of one seed, from its beginning to an end at which everything has to be well.

use std::sync::Arc;

use rateguard_core::invalid::Invalid;
use rateguard_engine::caller::Caller;
use rateguard_engine::ports::{ResetCounters, StoreError};
use thiserror::Error;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::client::Client;
use crate::clocks::{SkewedClock, TrueTime};
use crate::dice::Dice;
use crate::history::{Coverage, History};
use crate::invariants::Violation;
use crate::network::{Place, World, millis};
use crate::replica::{Replica, Servers};
use crate::scenario::Scenario;
use crate::steps::Step;
use crate::stores::counters::CounterServer;
use crate::stores::flaws::Flaw;
use crate::stores::log::LogServer;
use crate::stores::usage::UsageServer;
use crate::trace::Trace;

/// How long a run goes on after its callers while nothing goes wrong: longer than any reservation
/// lives, any replica is down and any task waits, together.
const QUIET_MS: i64 = 6_000;
/// How wrong a clock is at most.
const SKEW_MS_MAX: i64 = 2_500;
/// Longest pause between two outages, or between two steps of clocks.
const PAUSE_MS_MAX: i64 = 2_500;
/// Longest outage.
const OUTAGE_MS_MAX: i64 = 1_500;
/// Who sets counters back, as a trace names it: no replica has this number.
const OPERATOR: usize = 9;

/// How a seed is run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// A bug that is planted.
    pub flaw: Option<Flaw>,
    /// Whether the trace is kept.
    pub traced: bool,
}

/// What a run showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// What was found; empty where all invariants held.
    pub violations: Vec<Violation>,
    /// How often what happened.
    pub coverage: Coverage,
    /// The trace, where it was kept.
    pub lines: Vec<String>,
}

/// Why a run could not be made.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RunError {
    /// What was drawn is out of bounds.
    #[error("the scenario is not valid: {0}")]
    Scenario(#[from] Invalid),
    /// The store of counters could not be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A caller or a replica failed instead of its store.
    #[error("a task of the run ended by a panic")]
    Panicked,
}

/// Runs a seed on a fresh runtime of one thread whose clock moves only while everybody waits, so that
/// the same seed gives the same run.
///
/// # Errors
/// [`RunError`]; no invariant is one.
pub fn run(seed: u64, options: Options, runtime: Runtime) -> Result<Outcome, RunError> {
    runtime.block_on(live(seed, options))
}

async fn live(seed: u64, options: Options) -> Result<Outcome, RunError> {
    let dice = Dice::of(seed);
    let scenario = Scenario::draw(&dice)?;
    let history = History::new(scenario.terms.clone(), Trace::new(options.traced));
    let world = World::new(dice, TrueTime::begin(), scenario.faults, history);
    world.note(|| format!("seed {seed}: {scenario:?}"));
    let stage = Stage::set(world.clone(), &scenario, options.flaw).await?;
    let ended = stage.play(&scenario).await;
    drop(stage);
    ended?;
    let mut history = world.history.lock();
    let (violations, coverage) = (std::mem::take(&mut history.violations), history.coverage.clone());
    Ok(Outcome { seed, violations, coverage, lines: history.take_lines() })
}

/// Everybody who takes part.
struct Stage {
    world: Arc<World>,
    servers: Servers,
    store_clock: Arc<SkewedClock>,
    replicas: Vec<Arc<Replica>>,
}

impl Stage {
    async fn set(world: Arc<World>, scenario: &Scenario, flaw: Option<Flaw>) -> Result<Self, RunError> {
        let workspaces = &scenario.snapshot.workspaces;
        let workspace = workspaces.first().ok_or_else(|| Invalid::new("workspace", "is missing"))?.id.clone();
        let skew_ms =
            || if scenario.faults.clocks { world.dice.within(-SKEW_MS_MAX..=SKEW_MS_MAX) } else { 0 };
        let store_clock = Arc::new(SkewedClock::new(world.time, skew_ms()));
        let log = LogServer::new(world.clone());
        let counters =
            CounterServer::open(world.clone(), workspace.clone(), store_clock.clone(), flaw).await?;
        let usage = UsageServer::new(world.clone(), log.clone());
        let snapshot = Arc::new(scenario.snapshot.clone());
        let servers = Servers { counters, log, usage, snapshot };
        let caller = Caller::new(workspace, Arc::new(scenario.key.clone()));
        let replica = |n| Replica::new(n, world.clone(), servers.clone(), caller.clone(), skew_ms());
        let replicas = (0..scenario.replicas).map(replica).collect();
        Ok(Self { world, servers, store_clock, replicas })
    }

    async fn play(&self, scenario: &Scenario) -> Result<(), RunError> {
        let mut lives: JoinSet<()> = self.replicas.iter().cloned().map(Replica::live).collect();
        let mut troubles = JoinSet::new();
        if scenario.faults.outages {
            troubles.spawn(outages(self.world.clone(), self.replicas.clone()));
        }
        if scenario.resets {
            troubles.spawn(resets(self.world.clone(), self.servers.clone()));
        }
        if scenario.faults.clocks {
            self.clocks(scenario.leases).iter().for_each(|clock| clock.will_be_set());
            troubles.spawn(steps(self.world.clone(), self.clocks(scenario.leases)));
        }
        let mut clients = self.clients(scenario);
        while let Some(ended) = clients.join_next().await {
            ended.map_err(|_| RunError::Panicked)?;
        }
        drop(troubles);
        self.rest(scenario.leases).await;
        match lives.try_join_next() {
            Some(_) => Err(RunError::Panicked),
            None => Ok(()),
        }
    }

    /// Clocks that are set while they run. A store's whose clock leaps forward ends windows before the
    /// leases that it gave for them: nothing keeps a limit then.
    fn clocks(&self, leases: bool) -> Vec<Arc<SkewedClock>> {
        let of_replicas = self.replicas.iter().map(|replica| replica.clock.clone());
        of_replicas.chain((!leases).then(|| self.store_clock.clone())).collect()
    }

    fn clients(&self, scenario: &Scenario) -> JoinSet<()> {
        let client = |number| Client {
            number,
            world: self.world.clone(),
            servers: self.servers.clone(),
            replicas: self.replicas.clone(),
            pause_ms_max: scenario.pause_ms_max,
            tokens_max: scenario.tokens_max,
            named: 0,
        };
        (0..scenario.clients).map(|number| client(number).live(scenario.lasts_ms)).collect()
    }

    /// Lets everything come to its end, and judges that.
    async fn rest(&self, leases: bool) {
        self.world.heal();
        if !leases {
            // A clock that was set back would hold the store still for longer than the run lasts.
            self.store_clock.set_skew_ms(SKEW_MS_MAX);
        }
        self.replicas.iter().for_each(|replica| replica.spare());
        sleep(millis(QUIET_MS)).await;
        self.world.history.lock().record(self.world.time.elapsed_ms(), &Step::Ended);
    }
}

/// Takes stores away and cuts replicas off, one at a time.
async fn outages(world: Arc<World>, replicas: Vec<Arc<Replica>>) {
    loop {
        sleep(millis(world.dice.within(0..=PAUSE_MS_MAX))).await;
        let lasts = millis(world.dice.within(0..=OUTAGE_MS_MAX));
        if world.dice.happens(500) {
            let replica = &replicas[world.dice.below(replicas.len())];
            replica.set_cut_off(true);
            sleep(lasts).await;
            replica.set_cut_off(false);
        } else {
            let place = Place::ALL[world.dice.below(Place::ALL.len())];
            world.set_away(place, true);
            sleep(lasts).await;
            world.set_away(place, false);
        }
    }
}

/// Sets the counters of rules back, as their operator.
async fn resets(world: Arc<World>, servers: Servers) {
    loop {
        sleep(millis(world.dice.within(0..=PAUSE_MS_MAX))).await;
        let families = servers.counters.families().await;
        let Some(family) = families.get(world.dice.below(families.len())) else { continue };
        let all = ResetCounters::All { family: *family, is_spread: false };
        let reset = servers.counters.reset(OPERATOR, all).await;
        if let Err(error) = reset {
            world.note(|| format!("counters could not be set back: {error}"));
        }
    }
}

/// Sets clocks, also back.
async fn steps(world: Arc<World>, clocks: Vec<Arc<SkewedClock>>) {
    loop {
        sleep(millis(world.dice.within(0..=PAUSE_MS_MAX))).await;
        let which = world.dice.below(clocks.len());
        let skew_ms = world.dice.within(-SKEW_MS_MAX..=SKEW_MS_MAX);
        world.note(|| format!("clock {which} is set to be {skew_ms} ms ahead"));
        clocks[which].set_skew_ms(skew_ms);
    }
}
