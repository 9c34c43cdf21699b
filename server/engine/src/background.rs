//! The tasks beside the use cases: rolling up, expiring, sweeping, checkpointing, refreshing.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use rateguard_core::usage::UsageEvent;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::engine::Engine;
use crate::error::EngineError;
use crate::floor;
use crate::health::tell_losses;
use crate::ports::CounterHealth;
use crate::telling::Telling;
use crate::wake::Wake;

/// How often the consumer looks by itself, besides being told; and how often another process tries
/// to take its place.
const ROLL_UP_INTERVAL: Duration = Duration::from_secs(1);
/// How often counters are written down: a call waits for the disk only where more is taken of a
/// counter in between than its lead covers.
const CHECKPOINT_INTERVAL: Duration = Duration::from_millis(600);
/// How often reservations that nobody touches are expired.
const EXPIRE_INTERVAL: Duration = Duration::from_millis(500);
/// Reservations expired at once.
const EXPIRE_RESERVATIONS: usize = 256;
/// How often what is idle is dropped.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// How often it is told what the counters' store had to give up for want of room.
const HEALTH_INTERVAL: Duration = Duration::from_secs(60);
/// How often the configuration is looked at for changes of other processes, besides being woken.
const REFRESH_INTERVAL: Duration = Duration::from_millis(400);
/// How often budgets are opened that could not be when they were made, besides after each change.
const OPEN_INTERVAL: Duration = Duration::from_secs(1);
/// How often the last uses of keys are written down: with the time that it takes, a use is known to
/// everybody within a minute.
const KEY_USES_INTERVAL: Duration = Duration::from_secs(30);
/// How often half of the counters is looked through that are held in advance and wanted, and a part of the others.
const TEND_LEASES_INTERVAL: Duration = Duration::from_millis(100);

const TASKS: [(Task, Duration); 7] = [
    (Task::Checkpoint, CHECKPOINT_INTERVAL),
    (Task::Expire, EXPIRE_INTERVAL),
    (Task::Sweep, SWEEP_INTERVAL),
    (Task::Refresh, REFRESH_INTERVAL),
    (Task::OpenBudgets, OPEN_INTERVAL),
    (Task::KeyUses, KEY_USES_INTERVAL),
    (Task::TendLeases, TEND_LEASES_INTERVAL),
];

pub(crate) fn start(engine: &Arc<Engine>, stop: &CancellationToken) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for (task, period) in TASKS {
        tasks.spawn(repeat(engine.clone(), stop.clone(), period, task));
    }
    tasks.spawn(consume(engine.clone(), stop.clone()));
    tasks.spawn(watch_health(engine.clone(), stop.clone()));
    if engine.gate.is_guarded() {
        tasks.spawn(undo(engine.clone(), stop.clone()));
        tasks.spawn(keep_slot(engine.clone(), stop.clone()));
    }
    tasks
}

#[derive(Clone, Copy, Debug)]
enum Task {
    Checkpoint,
    Expire,
    Sweep,
    Refresh,
    OpenBudgets,
    KeyUses,
    TendLeases,
}

impl Task {
    /// The task as the log names it.
    fn as_str(self) -> &'static str {
        match self {
            Self::Checkpoint => "writing counters down",
            Self::Expire => "expiring reservations",
            Self::Sweep => "dropping what is idle",
            Self::Refresh => "refreshing the configuration",
            Self::OpenBudgets => "opening budgets",
            Self::KeyUses => "writing the last uses of keys down",
            Self::TendLeases => "giving leases back",
        }
    }

    fn wake(self, engine: &Engine) -> Wake {
        Wake::by(match self {
            Self::Refresh => engine.config.wake(),
            Self::OpenBudgets => Some(engine.directory.watch()),
            Self::Checkpoint | Self::Expire | Self::Sweep | Self::KeyUses | Self::TendLeases => None,
        })
    }
}

/// Does one thing again and again.
async fn repeat(engine: Arc<Engine>, stop: CancellationToken, period: Duration, task: Task) {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut wake, mut telling) = (task.wake(&engine), Telling::of(task.as_str()));
    while until_stopped(&stop, wake.turn(&mut ticks)).await.is_some() {
        telling.tell(&engine.turn(task).await);
    }
}

/// Undoes checks whose outcome is not known.
async fn undo(engine: Arc<Engine>, stop: CancellationToken) {
    engine.gate.undo(&stop).await;
}

/// Keeps the right to decide alone while the counters are away.
async fn keep_slot(engine: Arc<Engine>, stop: CancellationToken) {
    engine.slot.keep(&stop).await;
}

async fn until_stopped<T>(stop: &CancellationToken, event: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        () = stop.cancelled() => None,
        value = event => Some(value),
    }
}

/// Rolls the log up whenever it grows, while no other process does. Whoever fails does not lead: it
/// tries again with the next tick, like everybody.
async fn consume(engine: Arc<Engine>, stop: CancellationToken) {
    let mut settled = engine.recorder.settled();
    let mut ticks = interval(ROLL_UP_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut telling = Telling::of("rolling events up");
    loop {
        let turn = engine.roll_up().await;
        telling.tell(&turn);
        let leads = matches!(turn, Ok(true));
        let due = async {
            tokio::select! {
                biased;
                changed = settled.changed(), if leads => drop(changed),
                _ = ticks.tick() => {}
            }
        };
        if until_stopped(&stop, due).await.is_none() {
            return;
        }
    }
}

/// Tells what the counters' store had to give up since the last time.
async fn watch_health(engine: Arc<Engine>, stop: CancellationToken) {
    let mut told = CounterHealth::default();
    let mut ticks = interval(HEALTH_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut telling = Telling::of("asking the counters' store how it is");
    while until_stopped(&stop, ticks.tick()).await.is_some() {
        let health = engine.counters.health().await;
        telling.tell(&health);
        if let Ok(health) = health {
            tell_losses(&told, &health);
            engine.counter_counts.note(&health);
            told = health;
        }
    }
}

impl Engine {
    async fn turn(&self, task: Task) -> Result<(), EngineError> {
        match task {
            Task::Checkpoint => Ok(self.counters.checkpoint(false).await?),
            Task::Expire => self.expire_reservations().await,
            Task::Sweep => Ok(self.counters.sweep(self.now(), self.directory.as_ref()).await?),
            Task::Refresh => Ok(self.directory.refresh(self.now()).await?),
            Task::OpenBudgets => self.open_budgets_left().await,
            Task::KeyUses => Ok(self.write_key_uses().await?),
            Task::TendLeases => {
                self.leases.tend(self.now());
                self.callers_leases.tend(self.now());
                Ok(())
            }
        }
    }

    /// Turns the floors of expired reservations into events.
    ///
    /// # Errors
    /// Those of the stores; what was not recorded is named again.
    pub async fn expire_reservations(&self) -> Result<(), EngineError> {
        loop {
            let now = self.now();
            let expired = self.counters.expire_due(now, EXPIRE_RESERVATIONS).await;
            self.counters_pulse.note(now, &expired);
            let expired = expired?;
            let events: Vec<UsageEvent> =
                expired.iter().map(|expired| floor::expired(expired, now)).collect();
            let full = events.len() == EXPIRE_RESERVATIONS;
            self.recorder.record(events).await?;
            if !full {
                return Ok(());
            }
        }
    }
}
