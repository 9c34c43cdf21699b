//! The recorder: the one task through which every event goes into the log.
//!
//! Many callers share one append and so one sync. What was appended is settled in the order of
//! positions before anyone is answered, so that an answered record counts here. Being the only one,
//! the task also decides in order: whether a reservation is still open, and from which record on a
//! new budget counts.
//!
//! Other processes may write to the same log. Each append tells where the log ended before it: what
//! others have written up to there is read and settled first. And while nothing is reported here the
//! task follows the log, so that budgets include what is spent anywhere.

mod batch;
mod task;

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use rateguard_core::counter::Position;
use rateguard_core::usage::{EventKind, UsageEvent};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::clock::Clock;
use crate::directory::Directory;
use crate::error::{EngineError, Reason};
use crate::ports::{CounterStore, EventLog, StoreError};
use crate::pulse::{Pulse, StoreFailure};
use crate::report::Recorded;

pub use task::RecorderTask;

/// Calls that may wait for the recorder. A full queue answers at once.
const QUEUE_CALLS_MAX: usize = 8_192;
/// Events that may wait for the recorder, over all calls: some hundreds of megabytes at most.
const QUEUE_EVENTS_MAX: usize = 131_072;
/// Longest wait for an answer; past it the outcome is unknown.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a failed append is believed while no other is tried: whoever is told that nothing can be
/// written sends nothing, and so would never learn that it can be again.
pub const APPEND_FAILURE_BELIEVED_FOR: Duration = Duration::from_secs(60);

/// The last append failed.
#[derive(Clone, Debug)]
struct AppendFailure {
    at: Instant,
    what: StoreFailure,
}

/// What is sent to the task.
enum Job {
    /// Events to append and settle, all of one call.
    Record {
        events: Vec<UsageEvent>,
        reply: oneshot::Sender<Result<Vec<Recorded>, StoreError>>,
        /// Their places in the queue, free again once they are answered.
        places: OwnedSemaphorePermit,
    },
    /// Something to do between two appends, with the position up to which everything is settled.
    Between(Work),
}

/// What is done between two appends, given the position up to which everything is settled.
type Work = Box<dyn FnOnce(Position) -> BoxFuture<'static, ()> + Send>;

impl Job {
    fn events(&self) -> usize {
        match self {
            Self::Record { events, .. } => events.len(),
            Self::Between(_) => 0,
        }
    }

    /// Whether a reservation's expiry is among its events.
    fn charges_floors(&self) -> bool {
        match self {
            Self::Record { events, .. } => events.iter().any(|event| event.kind == EventKind::Expired),
            Self::Between(_) => false,
        }
    }
}

/// What a recorder works with.
pub struct RecorderSetup {
    /// The log.
    pub log: Arc<dyn EventLog>,
    /// What is settled in.
    pub counters: Arc<dyn CounterStore>,
    /// The limits that records are charged to.
    pub directory: Arc<Directory>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Whether other processes write to the log.
    pub shared: bool,
}

/// The callers' end.
#[derive(Clone)]
pub struct Recorder {
    jobs: mpsc::Sender<Job>,
    places: Arc<Semaphore>,
    settled: watch::Receiver<Position>,
    failure: watch::Receiver<Option<AppendFailure>>,
    pulse: Arc<Pulse>,
}

/// The two ends of a recorder.
pub fn recorder(setup: RecorderSetup) -> (Recorder, RecorderTask) {
    let (sender, jobs) = mpsc::channel(QUEUE_CALLS_MAX);
    let (settled, settled_seen) = watch::channel(Position::default());
    let (failure, failure_seen) = watch::channel(None);
    let pulse = Arc::new(Pulse::new(setup.clock.now()));
    let task = RecorderTask::new(setup, jobs, settled, failure, pulse.clone());
    let places = Arc::new(Semaphore::new(QUEUE_EVENTS_MAX));
    (Recorder { jobs: sender, places, settled: settled_seen, failure: failure_seen, pulse }, task)
}

impl Recorder {
    /// Appends and settles events; durable and settled when it returns. In order, one answer each.
    ///
    /// # Errors
    /// [`Reason::QueueFull`] and [`Reason::StoreUnavailable`] when nothing was appended,
    /// [`Reason::OutcomeUnknown`] when something may have been.
    pub async fn record(&self, events: Vec<UsageEvent>) -> Result<Vec<Recorded>, EngineError> {
        if events.is_empty() {
            return Ok(Vec::new());
        }
        let wanted = u32::try_from(events.len()).unwrap_or(u32::MAX);
        let places = self.places.clone().try_acquire_many_owned(wanted).map_err(|_| queue_full())?;
        let (reply, answer) = oneshot::channel();
        self.send(Job::Record { events, reply, places })?;
        Ok(answer_of(answer).await??)
    }

    /// The same for events of the server's own, by tasks that try again by themselves.
    ///
    /// # Errors
    /// [`StoreError`] when they may not have been appended.
    pub async fn append(&self, events: Vec<UsageEvent>) -> Result<(), StoreError> {
        let recorded = self.record(events).await;
        recorded
            .map(drop)
            .map_err(|error| StoreError::OutcomeUnknown { store: "event", detail: error.message })
    }

    /// Waits until everything that was sent before is settled, and says up to where.
    ///
    /// # Errors
    /// As [`Recorder::record`].
    pub async fn barrier(&self) -> Result<Position, EngineError> {
        self.between(|settled| async move { settled }).await
    }

    /// Does something between two appends: what is settled before it and what after is divided
    /// exactly. Nobody is answered meanwhile, so it should be short.
    ///
    /// # Errors
    /// As [`Recorder::record`].
    pub async fn between<T, F>(
        &self,
        work: impl FnOnce(Position) -> F + Send + 'static,
    ) -> Result<T, EngineError>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let work = move |settled| -> BoxFuture<'static, ()> {
            let work = work(settled);
            Box::pin(async move {
                // Whoever asked may have gone away; what was done is done.
                drop(reply.send(work.await));
            })
        };
        self.send(Job::Between(Box::new(work)))?;
        answer_of(answer).await
    }

    /// The position up to which records are settled, and whenever it moves.
    pub fn settled(&self) -> watch::Receiver<Position> {
        self.settled.clone()
    }

    /// Why the log takes no records: what the last append failed with, unless that is longer ago than
    /// [`APPEND_FAILURE_BELIEVED_FOR`].
    pub fn append_failure(&self) -> Option<StoreFailure> {
        let failure = self.failure.borrow();
        let fresh = failure.as_ref().filter(|failure| failure.at.elapsed() < APPEND_FAILURE_BELIEVED_FOR);
        fresh.map(|failure| failure.what)
    }

    /// How the log answers reads and writes of this process.
    pub(crate) fn log_pulse(&self) -> &Arc<Pulse> {
        &self.pulse
    }

    fn send(&self, job: Job) -> Result<(), EngineError> {
        self.jobs.try_send(job).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => queue_full(),
            mpsc::error::TrySendError::Closed(_) => {
                EngineError::new(Reason::Draining, "the server is stopping")
            }
        })
    }
}

fn queue_full() -> EngineError {
    EngineError::new(Reason::QueueFull, "the queue of usage reports is full")
}

async fn answer_of<T>(answer: oneshot::Receiver<T>) -> Result<T, EngineError> {
    match tokio::time::timeout(ANSWER_TIMEOUT, answer).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) | Err(_) => Err(EngineError::new(
            Reason::OutcomeUnknown,
            "the event log did not answer in time; send the same again",
        )),
    }
}

#[cfg(test)]
mod tests;
