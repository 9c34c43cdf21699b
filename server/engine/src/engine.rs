//! The engine: the use cases over the ports, and the tasks that run beside them.

use std::sync::Arc;

use rateguard_core::ids::WorkspaceId;
use rateguard_core::pricing::PriceBook;
use rateguard_core::time::Millis;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::background;
use crate::caller::Authenticator;
use crate::clock::Clock;
use crate::directory::{Directory, WorkspaceView};
use crate::error::{EngineError, Reason};
use crate::ports::{AuditStore, ConfigStore, CounterStore, EventLog, StoreError, UsageStore};
use crate::recorder::{Recorder, recorder};
use crate::secrets::CredentialCipher;

/// How long decisions go on while the configuration's store is away. Keys may have been revoked
/// since.
pub const CONFIGURATION_AGE_MS_MAX: i64 = 60 * 60 * 1_000;

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
}

/// The use cases. One for all callers of the process.
pub struct Engine {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) directory: Arc<Directory>,
    pub(crate) config: Arc<dyn ConfigStore>,
    pub(crate) counters: Arc<dyn CounterStore>,
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) usage: Arc<dyn UsageStore>,
    pub(crate) audit: Arc<dyn AuditStore>,
    pub(crate) recorder: Recorder,
    pub(crate) cipher: CredentialCipher,
    /// Budgets open one at a time.
    pub(crate) openings: tokio::sync::Mutex<()>,
    authenticator: Authenticator,
}

/// The tasks beside the use cases.
pub struct Background {
    stop: CancellationToken,
    recorder_stop: CancellationToken,
    tasks: JoinSet<()>,
    recorder: JoinSet<()>,
    counters: Arc<dyn CounterStore>,
}

impl Engine {
    /// Recovers the counters from the log and starts the background tasks. Decisions are true from
    /// the moment it returns.
    ///
    /// # Errors
    /// Those of the stores.
    pub async fn start(stores: Stores, setup: Setup) -> Result<(Arc<Self>, Background), EngineError> {
        let Stores { config, counters, log, usage, audit } = stores;
        let now = setup.clock.now();
        let directory = Arc::new(Directory::load(config.clone(), setup.catalogue, now).await?);
        let (recorder, mut recorder_task) =
            recorder(log.clone(), counters.clone(), directory.clone(), setup.clock.clone());
        recorder_task.recover().await?;
        let engine = Arc::new(Self {
            clock: setup.clock,
            authenticator: Authenticator::new(directory.clone(), setup.gateway_token.as_deref()),
            directory,
            config,
            counters: counters.clone(),
            log,
            usage,
            audit,
            recorder,
            cipher: setup.cipher,
            openings: tokio::sync::Mutex::default(),
        });
        let (stop, recorder_stop) = (CancellationToken::new(), CancellationToken::new());
        let mut recorder = JoinSet::new();
        recorder.spawn(recorder_task.run(recorder_stop.clone()));
        engine.open_budgets_left().await?;
        let tasks = background::start(&engine, &stop);
        Ok((engine, Background { stop, recorder_stop, tasks, recorder, counters }))
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

    /// Why the event log takes no records at present, if it does not: see
    /// [`Recorder::append_failure`].
    pub fn event_log_failure(&self) -> Option<String> {
        self.recorder.append_failure()
    }

    /// A workspace to decide by, unless what is in memory is too old for that.
    pub(crate) fn view(&self, workspace: &WorkspaceId) -> Result<Arc<WorkspaceView>, EngineError> {
        if self.configuration_age_ms() > CONFIGURATION_AGE_MS_MAX {
            let message = "the configuration in memory is too old to decide by: its store is away";
            return Err(EngineError::new(Reason::ConfigStale, message));
        }
        let missing = || EngineError::internal("a caller's workspace is not in memory");
        self.directory.view(workspace).ok_or_else(missing)
    }
}

impl Background {
    /// Completes when a task has ended by itself. None should: without one of them the process no
    /// longer does what it promises, and had better stop.
    pub async fn failed(&mut self) {
        tokio::select! {
            _ = self.tasks.join_next(), if !self.tasks.is_empty() => {}
            _ = self.recorder.join_next(), if !self.recorder.is_empty() => {}
            else => {}
        }
    }

    /// Stops in order: first what makes new events, then the recorder with all that it holds, then
    /// the counters are written down for a start that forgets nothing.
    ///
    /// # Errors
    /// Those of the checkpoint; the log has everything that was accepted all the same.
    pub async fn stop(mut self) -> Result<(), StoreError> {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
        self.recorder_stop.cancel();
        while self.recorder.join_next().await.is_some() {}
        self.counters.checkpoint(true).await
    }
}
