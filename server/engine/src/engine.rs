//! The engine: the use cases over the ports, and the tasks that run beside them.

use std::sync::Arc;
use std::time::Duration;

use rateguard_core::ids::WorkspaceId;
use rateguard_core::pricing::PriceBook;
use rateguard_core::time::Millis;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::background;
use crate::caller::Authenticator;
use crate::check::lending::CallersLeases;
use crate::clock::Clock;
use crate::degraded::{self, DegradedFigures, LocalCounters, SlotKeeper};
use crate::directory::{Directory, WorkspaceView};
use crate::error::{EngineError, Reason};
use crate::gate::{CancelFigures, Gate};
use crate::health::{CounterCounts, CounterFigures};
use crate::key_uses::KeyUses;
use crate::leases::{LeaseFigures, Leases};
use crate::manage::OpenedHere;
use crate::ports::{AuditStore, ConfigStore, CounterStore, EventLog, StoreError, UsageStore};
use crate::pulse::{Pulse, StoreFailure, StoreState};
use crate::recorder::{Recorder, RecorderSetup, RecorderTask, recorder};
use crate::secrets::CredentialCipher;

/// How long decisions go on by default while the configuration's store is away. Keys may have been
/// revoked since.
pub const CONFIG_STALE_MS_MAX: i64 = 60 * 60 * 1_000;
/// Longest wait at the stop for what need not be written: the last uses of keys.
const LAST_WRITES_MAX: Duration = Duration::from_secs(2);

/// The stores behind the ports. The program's wiring picks them.
#[derive(Clone)]
pub struct Stores {
    /// Managed resources.
    pub config: Arc<dyn ConfigStore>,
    /// Counters and reservations.
    pub counters: Arc<dyn CounterStore>,
    /// The log of events.
    pub log: Arc<dyn EventLog>,
    /// Raw events and rollups.
    pub usage: Arc<dyn UsageStore>,
    /// Whether other processes write to the same log: then it is followed also while nothing is
    /// reported here.
    pub shared: bool,
    /// Who changed what.
    pub audit: Arc<dyn AuditStore>,
}

/// What the engine needs besides stores.
pub struct Setup {
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The list prices.
    pub catalogue: Arc<PriceBook>,
    /// Seals upstream credentials.
    pub cipher: CredentialCipher,
    /// The token by which the gateway of this process is known.
    pub gateway_token: Option<String>,
    /// How long decisions go on while the configuration's store is away, in milliseconds.
    pub config_stale_ms_max: i64,
    /// Longest wait of a check for counters that other processes share; see
    /// [`COUNTERS_DEADLINE`](crate::gate::COUNTERS_DEADLINE).
    pub counters_deadline: Duration,
}

/// The use cases. One for all callers of the process.
pub struct Engine {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) directory: Arc<Directory>,
    pub(crate) config: Arc<dyn ConfigStore>,
    pub(crate) counters: Arc<dyn CounterStore>,
    pub(crate) leases: Arc<Leases>,
    pub(crate) callers_leases: CallersLeases,
    /// The way of checks to the counters.
    pub(crate) gate: Arc<Gate>,
    /// What decides while the counters do not answer.
    pub(crate) local: LocalCounters,
    pub(crate) slot: SlotKeeper,
    pub(crate) degraded: degraded::Counts,
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) usage: Arc<dyn UsageStore>,
    pub(crate) audit: Arc<dyn AuditStore>,
    pub(crate) recorder: Recorder,
    pub(crate) cipher: CredentialCipher,
    pub(crate) key_uses: Arc<KeyUses>,
    /// Whether other processes write to the same stores.
    pub(crate) shared: bool,
    pub(crate) usage_pulse: Pulse,
    pub(crate) counters_pulse: Pulse,
    pub(crate) counter_counts: CounterCounts,
    config_stale_ms_max: i64,
    /// Budgets open one at a time.
    pub(crate) openings: tokio::sync::Mutex<OpenedHere>,
    authenticator: Authenticator,
}

/// How the engine stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Whether checks are answered: what is in memory is new enough to decide by.
    pub checks: bool,
    /// Whether reports are taken, as far as is known.
    pub reports: bool,
    /// Whether the stores are those of other processes too, so that these fare no better.
    pub shared: bool,
    /// The stores.
    pub stores: Vec<StoreState>,
}

/// The tasks beside the use cases.
pub struct Background {
    stop: CancellationToken,
    recorder_stop: CancellationToken,
    tasks: JoinSet<()>,
    recorder: JoinSet<()>,
    engine: Arc<Engine>,
}

impl Engine {
    /// Recovers the counters from the log and starts the background tasks. Decisions are true from
    /// the moment it returns.
    ///
    /// # Errors
    /// Those of the stores.
    pub async fn start(stores: Stores, setup: Setup) -> Result<(Arc<Self>, Background), EngineError> {
        let Stores { config, counters, log, usage, audit, shared } = stores;
        let now = setup.clock.now();
        let directory = Arc::new(Directory::load(config.clone(), setup.catalogue, now).await?);
        let (recorder, mut recorder_task) = recorder(RecorderSetup {
            log: log.clone(),
            counters: counters.clone(),
            directory: directory.clone(),
            clock: setup.clock.clone(),
            shared,
        });
        recorder_task.recover().await?;
        let opened = OpenedHere::at_start(&directory).await;
        let key_uses = Arc::new(KeyUses::default());
        let token = setup.gateway_token.as_deref();
        let gate = Arc::new(Gate::new(counters.clone(), setup.clock.clone(), setup.counters_deadline));
        let engine = Arc::new(Self {
            leases: Leases::through(gate.clone(), setup.clock.clone()),
            gate,
            callers_leases: CallersLeases::default(),
            local: LocalCounters::default(),
            slot: SlotKeeper::new(counters.clone(), setup.clock.clone()),
            degraded: degraded::Counts::default(),
            counter_counts: CounterCounts::default(),
            clock: setup.clock,
            authenticator: Authenticator::new(directory.clone(), key_uses.clone(), token),
            directory,
            config,
            counters,
            log,
            usage,
            audit,
            recorder,
            cipher: setup.cipher,
            key_uses,
            shared,
            usage_pulse: Pulse::new(now),
            counters_pulse: Pulse::new(now),
            config_stale_ms_max: setup.config_stale_ms_max,
            openings: tokio::sync::Mutex::new(opened),
        });
        Ok((engine.clone(), Background::start(engine, recorder_task).await?))
    }

    /// Finds out who calls.
    pub fn authenticator(&self) -> &Authenticator {
        &self.authenticator
    }

    /// The configuration in memory.
    pub fn directory(&self) -> &Arc<Directory> {
        &self.directory
    }

    /// The instant of now.
    pub fn now(&self) -> Millis {
        self.clock.now()
    }

    /// How long the store has not confirmed the configuration in memory.
    pub fn configuration_age_ms(&self) -> i64 {
        self.directory.age_ms(self.now())
    }

    /// Decisions so far that were taken without the counters.
    pub fn degraded_figures(&self) -> DegradedFigures {
        self.degraded.figures()
    }

    /// How the counters were when they were asked last, and what has become of them until now.
    pub fn counter_figures(&self) -> CounterFigures {
        self.counter_counts.figures(self.counters.losses())
    }

    /// Checks so far whose outcome the counters did not tell, and what became of them.
    pub fn cancel_figures(&self) -> CancelFigures {
        self.gate.cancel_figures()
    }

    /// How the engine's stores stand, and what that means for its callers.
    pub fn standing(&self) -> Standing {
        let now = self.now();
        let config = self.directory.store_state(now);
        let mut log = self.recorder.log_pulse().state("event log", now);
        log.failure = self.event_log_failure().or(log.failure);
        let usage = self.usage_pulse.state("usage", now);
        // Counters in this process's own memory always answer.
        let counters = self.counters.is_shared().then(|| self.counters_pulse.state("counters", now));
        Standing {
            checks: config.age_ms <= self.config_stale_ms_max,
            reports: config.age_ms <= self.config_stale_ms_max && log.failure.is_none(),
            shared: self.shared,
            stores: [config, log, usage].into_iter().chain(counters).collect(),
        }
    }

    /// What decisions by units taken in advance have done so far.
    pub fn lease_figures(&self) -> LeaseFigures {
        self.leases.figures()
    }

    /// Why the event log takes no records at present, if it does not: see
    /// [`Recorder::append_failure`].
    pub fn event_log_failure(&self) -> Option<StoreFailure> {
        self.recorder.append_failure()
    }

    /// A workspace to decide by, unless what is in memory is too old for that.
    pub(crate) fn view(&self, workspace: &WorkspaceId) -> Result<Arc<WorkspaceView>, EngineError> {
        self.view_at(workspace, self.now())
    }

    /// The same for whoever has asked the clock already.
    pub(crate) fn view_at(
        &self,
        workspace: &WorkspaceId,
        now: Millis,
    ) -> Result<Arc<WorkspaceView>, EngineError> {
        if self.directory.age_ms(now) > self.config_stale_ms_max {
            let message = "the configuration in memory is too old to decide by: its store is away";
            return Err(EngineError::new(Reason::ConfigStale, message));
        }
        self.workspace(workspace)
    }

    /// A workspace as it is in memory, however old that is. A key may be known before its workspace: each has
    /// a feed of its own.
    ///
    /// # Errors
    /// [`Reason::StoreUnavailable`] while this process has not read of the workspace.
    pub fn workspace(&self, workspace: &WorkspaceId) -> Result<Arc<WorkspaceView>, EngineError> {
        self.directory.view(workspace).ok_or_else(|| {
            let message = "the workspace is so new that it is not known here yet; try again";
            EngineError::new(Reason::StoreUnavailable, message)
        })
    }
}

impl Background {
    /// Starts the recorder first: budgets open through it.
    async fn start(engine: Arc<Engine>, recorder_task: RecorderTask) -> Result<Self, EngineError> {
        let (stop, recorder_stop) = (CancellationToken::new(), CancellationToken::new());
        let mut recorder = JoinSet::new();
        recorder.spawn(recorder_task.run(recorder_stop.clone()));
        engine.open_budgets_at_start().await?;
        let tasks = background::start(&engine, &stop);
        Ok(Self { stop, recorder_stop, tasks, recorder, engine })
    }

    /// Completes when a task has ended by itself. None should: without one of them the process no
    /// longer does what it promises, and had better stop.
    pub async fn failed(&mut self) {
        tokio::select! {
            _ = self.tasks.join_next(), if !self.tasks.is_empty() => {}
            _ = self.recorder.join_next(), if !self.recorder.is_empty() => {}
            else => {}
        }
    }

    /// Stops in order: first what makes new events, then the recorder with all that it holds, then leases go
    /// back and the counters are written down for a start that forgets nothing. The last uses of keys are
    /// written as far as their store answers soon.
    ///
    /// # Errors
    /// Those of the checkpoint; the log has everything that was accepted all the same.
    pub async fn stop(mut self) -> Result<(), StoreError> {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
        self.recorder_stop.cancel();
        while self.recorder.join_next().await.is_some() {}
        self.engine.leases.close().await;
        let written = self.engine.write_key_uses();
        if !matches!(tokio::time::timeout(LAST_WRITES_MAX, written).await, Ok(Ok(()))) {
            tracing::warn!("the last uses of keys since the last half minute could not be written down");
        }
        self.engine.counters.checkpoint(true).await
    }
}

#[cfg(test)]
mod tests;
