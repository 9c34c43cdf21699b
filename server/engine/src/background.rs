//! The tasks beside the use cases: rolling up, expiring, sweeping, checkpointing, refreshing.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use rateguard_core::usage::{LoggedEvent, UsageEvent};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::engine::Engine;
use crate::error::EngineError;
use crate::floor;
use crate::health::tell_losses;
use crate::ports::{CounterHealth, StoreError};

/// Events rolled up in one transaction.
const ROLL_UP_EVENTS: usize = 2_000;
/// How often the consumer looks by itself, besides being told.
const ROLL_UP_INTERVAL: Duration = Duration::from_secs(1);
/// How often counters are written down. With the time over which a store spreads one round it stays
/// below the second that a crash may forget of plain limits.
const CHECKPOINT_INTERVAL: Duration = Duration::from_millis(600);
/// How often reservations that nobody touches are expired.
const EXPIRE_INTERVAL: Duration = Duration::from_millis(500);
/// Reservations expired at once.
const EXPIRE_RESERVATIONS: usize = 256;
/// How often what is idle is dropped.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// How often it is told what the counters' store had to give up for want of room.
const HEALTH_INTERVAL: Duration = Duration::from_secs(60);
/// How often the configuration is looked at for changes of other processes.
const REFRESH_INTERVAL: Duration = Duration::from_millis(400);
/// How often budgets are opened that could not be when they were made.
const OPEN_INTERVAL: Duration = Duration::from_secs(1);
/// How often the same failing task is told of.
const FAILURE_TOLD_INTERVAL: Duration = Duration::from_secs(30);

pub(crate) fn start(engine: &Arc<Engine>, stop: &CancellationToken) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let every = |tasks: &mut JoinSet<()>, period, task: Task| {
        tasks.spawn(repeat(engine.clone(), stop.clone(), period, task));
    };
    every(&mut tasks, CHECKPOINT_INTERVAL, Task::Checkpoint);
    every(&mut tasks, EXPIRE_INTERVAL, Task::Expire);
    every(&mut tasks, SWEEP_INTERVAL, Task::Sweep);
    every(&mut tasks, REFRESH_INTERVAL, Task::Refresh);
    every(&mut tasks, OPEN_INTERVAL, Task::OpenBudgets);
    tasks.spawn(consume(engine.clone(), stop.clone()));
    tasks.spawn(watch_health(engine.clone(), stop.clone()));
    tasks
}

#[derive(Clone, Copy, Debug)]
enum Task {
    Checkpoint,
    Expire,
    Sweep,
    Refresh,
    OpenBudgets,
}

/// Does one thing again and again. A failure is tried again with the next turn; it is told at once,
/// and then now and again while it lasts.
async fn repeat(engine: Arc<Engine>, stop: CancellationToken, period: Duration, task: Task) {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told: Option<Instant> = None;
    while until_stopped(&stop, ticks.tick()).await.is_some() {
        match engine.turn(task).await {
            Ok(()) if told.take().is_some() => tracing::info!(?task, "a background task works again"),
            Ok(()) => {}
            Err(error) if told.is_none_or(|at| at.elapsed() >= FAILURE_TOLD_INTERVAL) => {
                tracing::warn!(?task, %error, "a background task failed and will be tried again");
                told = Some(Instant::now());
            }
            Err(_) => {}
        }
    }
}

async fn until_stopped<T>(stop: &CancellationToken, event: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        () = stop.cancelled() => None,
        value = event => Some(value),
    }
}

/// Rolls the log up whenever it grows.
async fn consume(engine: Arc<Engine>, stop: CancellationToken) {
    let mut settled = engine.recorder.settled();
    let mut ticks = interval(ROLL_UP_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        if let Err(error) = engine.roll_up().await {
            tracing::warn!(%error, "events could not be rolled up and will be tried again");
            if until_stopped(&stop, ticks.tick()).await.is_none() {
                return;
            }
        }
        let grown = async {
            tokio::select! {
                changed = settled.changed() => drop(changed),
                _ = ticks.tick() => {}
            }
        };
        if until_stopped(&stop, grown).await.is_none() {
            return;
        }
    }
}

/// Tells what the counters' store had to give up since the last time.
async fn watch_health(engine: Arc<Engine>, stop: CancellationToken) {
    let mut told = CounterHealth::default();
    let mut ticks = interval(HEALTH_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while until_stopped(&stop, ticks.tick()).await.is_some() {
        match engine.counters.health().await {
            Ok(health) => {
                tell_losses(&told, &health);
                told = health;
            }
            Err(error) => tracing::warn!(%error, "the counters' store does not say how it is"),
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
        }
    }

    /// Turns the floors of expired reservations into events.
    ///
    /// # Errors
    /// Those of the stores; what was not recorded is named again.
    pub async fn expire_reservations(&self) -> Result<(), EngineError> {
        loop {
            let now = self.now();
            let expired = self.counters.expire_due(now, EXPIRE_RESERVATIONS).await?;
            let events: Vec<UsageEvent> =
                expired.iter().map(|expired| floor::expired(expired, now)).collect();
            let full = events.len() == EXPIRE_RESERVATIONS;
            self.recorder.record(events).await?;
            if !full {
                return Ok(());
            }
        }
    }

    /// Rolls up everything that the log holds.
    ///
    /// # Errors
    /// Those of the stores; the cursor then stays where it was.
    pub async fn roll_up(&self) -> Result<(), StoreError> {
        loop {
            let cursor = self.usage.cursor().await?;
            let events = self.log.read_after(cursor, ROLL_UP_EVENTS).await?;
            if events.is_empty() {
                return Ok(());
            }
            self.correct_floors(&events).await?;
            self.usage.apply(&events).await?;
        }
    }

    /// Takes floors back whose true reports came late. Reports are found in the log itself, so that
    /// only those that count do it, and the cursor repeats it until it is done.
    async fn correct_floors(&self, events: &[LoggedEvent]) -> Result<(), StoreError> {
        for late in events.iter().map(|logged| &logged.event).filter(|event| floor::came_late(event)) {
            let Some(reservation) = &late.reservation else { continue };
            let floor = self.log.find(&late.workspace, &floor::event_id(reservation)).await?;
            let Some(floor) = floor.filter(|floor| floor.event.call.key == late.call.key) else { continue };
            let correction = floor::correction(&floor.event, late.received_at);
            self.recorder.append(vec![correction]).await?;
        }
        Ok(())
    }
}
