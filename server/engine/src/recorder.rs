//! The recorder: the one task through which every event goes into the log.
//!
//! Many callers share one append and so one sync. What was appended is settled in the order of
//! positions before anyone is answered, so that an answered record counts everywhere. Being the
//! only one, the task also decides in order: whether a reservation is still open, and from which
//! record on a new budget counts.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use rateguard_core::counter::Position;
use rateguard_core::ids::ReservationId;
use rateguard_core::limits::BATCH_RECORDS_MAX;
use rateguard_core::reservation::Reservation;
use rateguard_core::usage::{EventKind, UsageEvent};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::directory::Directory;
use crate::error::{EngineError, Reason};
use crate::ports::{AppendOutcome, CounterStore, EventLog, SettleCommand, StoreError};
use crate::report::{Recorded, reservation_flag};
use crate::settlement::command;

/// Calls that may wait for the recorder. A full queue answers at once.
const QUEUE_CALLS_MAX: usize = 8_192;
/// Events that may wait for the recorder, over all calls: some hundreds of megabytes at most.
const QUEUE_EVENTS_MAX: usize = 131_072;
/// Events appended together: one sync covers them.
const BATCH_EVENTS_MAX: usize = 4 * BATCH_RECORDS_MAX;
/// Events read together when the log has more than was settled.
const CATCH_UP_EVENTS: usize = 1_000;
/// Longest wait for an answer; past it the outcome is unknown.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a failed append is believed while no other is tried: whoever is told that nothing can be
/// written sends nothing, and so would never learn that it can be again.
pub const APPEND_FAILURE_BELIEVED_FOR: Duration = Duration::from_secs(60);

/// The last append failed.
#[derive(Clone, Debug)]
struct AppendFailure {
    at: Instant,
    detail: String,
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
    Between(Box<dyn FnOnce(Position) -> BoxFuture<'static, ()> + Send>),
}

impl Job {
    fn events(&self) -> usize {
        match self {
            Self::Record { events, .. } => events.len(),
            Self::Between(_) => 0,
        }
    }
}

/// The callers' end.
#[derive(Clone)]
pub struct Recorder {
    jobs: mpsc::Sender<Job>,
    places: Arc<Semaphore>,
    settled: watch::Receiver<Position>,
    failure: watch::Receiver<Option<AppendFailure>>,
}

/// The task's end.
pub struct RecorderTask {
    jobs: mpsc::Receiver<Job>,
    settled: watch::Sender<Position>,
    failure: watch::Sender<Option<AppendFailure>>,
    log: Arc<dyn EventLog>,
    counters: Arc<dyn CounterStore>,
    directory: Arc<Directory>,
    clock: Arc<dyn Clock>,
    /// Whether an append ended without a word, so that the log may hold more than was settled.
    behind: bool,
}

/// The two ends of a recorder.
pub fn recorder(
    log: Arc<dyn EventLog>,
    counters: Arc<dyn CounterStore>,
    directory: Arc<Directory>,
    clock: Arc<dyn Clock>,
) -> (Recorder, RecorderTask) {
    let (sender, jobs) = mpsc::channel(QUEUE_CALLS_MAX);
    let (settled, settled_seen) = watch::channel(Position::default());
    let (failure, failure_seen) = watch::channel(None);
    let task = RecorderTask { jobs, settled, failure, log, counters, directory, clock, behind: true };
    let places = Arc::new(Semaphore::new(QUEUE_EVENTS_MAX));
    (Recorder { jobs: sender, places, settled: settled_seen, failure: failure_seen }, task)
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
    pub fn append_failure(&self) -> Option<String> {
        let failure = self.failure.borrow();
        let fresh = failure.as_ref().filter(|failure| failure.at.elapsed() < APPEND_FAILURE_BELIEVED_FOR);
        fresh.map(|failure| failure.detail.clone())
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

impl RecorderTask {
    /// Settles what the log holds beyond the counters' checkpoint. To be done before the first
    /// decision.
    ///
    /// # Errors
    /// Those of the stores.
    pub async fn recover(&mut self) -> Result<Position, StoreError> {
        let from = self.counters.recovered_through().await?;
        self.settled.send_replace(from);
        self.catch_up().await?;
        Ok(*self.settled.borrow())
    }

    /// Runs until it is told to stop, and ends with everything answered that was sent before.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let first = tokio::select! {
                job = self.jobs.recv() => job,
                () = stop.cancelled(), if !self.jobs.is_closed() => {
                    self.jobs.close();
                    continue;
                }
            };
            let Some(first) = first else { break };
            let mut jobs = self.gather(first);
            // What is to be done between two appends was sent last of what was gathered.
            let between = jobs.pop_if(|job| matches!(job, Job::Between(_)));
            self.record(jobs).await;
            if let Some(Job::Between(work)) = between {
                self.step_between(work).await;
            }
        }
    }

    /// What waits, up to the bound, or up to something to do between two appends.
    fn gather(&mut self, first: Job) -> Vec<Job> {
        let mut events = first.events();
        let mut jobs = vec![first];
        while events < BATCH_EVENTS_MAX && !matches!(jobs.last(), Some(Job::Between(_))) {
            let Ok(job) = self.jobs.try_recv() else { break };
            events += job.events();
            jobs.push(job);
        }
        jobs
    }

    async fn step_between(&mut self, work: Box<dyn FnOnce(Position) -> BoxFuture<'static, ()> + Send>) {
        if self.behind && self.catch_up().await.is_err() {
            // Dropping the work tells its caller that nothing was done.
            return;
        }
        let settled = *self.settled.borrow();
        work(settled).await;
    }

    async fn record(&mut self, jobs: Vec<Job>) {
        let mut calls = Vec::with_capacity(jobs.len());
        let mut segment = Segment::default();
        for job in jobs {
            let Job::Record { events, reply, places } = job else { continue };
            calls.push(Call { reply, _places: places, answer: Ok(Vec::with_capacity(events.len())) });
            for event in events {
                // Two events of one reservation are judged one after the other: what the first does
                // to it, the second sees.
                if segment.mentions(&event) {
                    self.flush(&mut segment, &mut calls).await;
                }
                self.assemble(event, &mut segment, &mut calls).await;
            }
        }
        self.flush(&mut segment, &mut calls).await;
        for call in calls {
            // A caller that has gone away has lost interest, not its records.
            drop(call.reply.send(call.answer));
        }
    }

    /// Looks at the event's reservation once more, in order: it may have been settled, expired or
    /// released since the record was priced.
    async fn assemble(&self, mut event: UsageEvent, segment: &mut Segment, calls: &mut [Call]) {
        let Some(call) = calls.len().checked_sub(1) else { return };
        let reservation = match &event.reservation {
            Some(id) => self.counters.reservation(&event.workspace, id).await,
            None => Ok(None),
        };
        match (event.kind, reservation) {
            (_, Err(error)) => calls[call].fail(error),
            (EventKind::Expired, Ok(reservation)) => {
                // A report came before its reservation's expiry was recorded: there is no floor, or less.
                if let Some(expired) = reservation.filter(Reservation::awaits_floor_event) {
                    event.cost = expired.floor;
                    segment.push(call, event);
                }
            }
            (EventKind::Usage, Ok(reservation)) => {
                refresh(&mut event, reservation.as_ref());
                segment.push(call, event);
            }
            (EventKind::Correction, Ok(_)) => segment.push(call, event),
        }
    }

    /// Appends and settles what was assembled.
    async fn flush(&mut self, segment: &mut Segment, calls: &mut [Call]) {
        let Segment { events, of_call, .. } = std::mem::take(segment);
        let outcomes = match self.append(&events).await {
            Ok(outcomes) => outcomes,
            Err(error) => {
                of_call.iter().for_each(|call| calls[*call].fail(error.clone()));
                return;
            }
        };
        self.settle(&events, &outcomes).await;
        for ((call, event), outcome) in of_call.into_iter().zip(events).zip(outcomes) {
            calls[call].take(Recorded { outcome, cost: event.cost, flags: event.flags });
        }
    }

    async fn append(&mut self, events: &[UsageEvent]) -> Result<Vec<AppendOutcome>, StoreError> {
        if events.is_empty() {
            return Ok(Vec::new());
        }
        let outcomes = self.try_append(events).await;
        let failure = outcomes.as_ref().err();
        let failure = failure.map(|error| AppendFailure { at: Instant::now(), detail: error.to_string() });
        self.failure.send_replace(failure);
        outcomes
    }

    async fn try_append(&mut self, events: &[UsageEvent]) -> Result<Vec<AppendOutcome>, StoreError> {
        if self.behind {
            self.catch_up().await?;
        }
        let outcomes = self.log.append(events).await.map(|appended| appended.outcomes);
        self.behind = matches!(outcomes, Err(StoreError::OutcomeUnknown { .. }));
        outcomes
    }

    async fn settle(&mut self, events: &[UsageEvent], outcomes: &[AppendOutcome]) {
        let now = self.clock.now();
        let appended = events.iter().zip(outcomes).filter_map(|(event, outcome)| match outcome {
            AppendOutcome::Appended(position) => Some(command(&self.directory, event, *position, now)),
            _ => None,
        });
        let commands: Vec<SettleCommand> = appended.collect();
        let Some(last) = commands.last().map(|command| command.position) else { return };
        match self.counters.settle(commands).await {
            Ok(()) => drop(self.settled.send_replace(last)),
            Err(error) => {
                // The records are in the log and count; the next append settles them first.
                tracing::warn!(%error, "the counters could not be settled");
                self.behind = true;
            }
        }
    }

    async fn catch_up(&mut self) -> Result<(), StoreError> {
        loop {
            let from = *self.settled.borrow();
            let logged = self.log.read_after(from, CATCH_UP_EVENTS).await?;
            let Some(last) = logged.last().map(|logged| logged.position) else { break };
            let now = self.clock.now();
            let commands =
                logged.iter().map(|l| command(&self.directory, &l.event, l.position, now)).collect();
            self.counters.settle(commands).await?;
            self.settled.send_replace(last);
        }
        self.behind = false;
        Ok(())
    }
}

fn refresh(event: &mut UsageEvent, reservation: Option<&Reservation>) {
    event.flags.insert(reservation_flag(event.reservation.is_some(), reservation));
    event.captured_budgets = match reservation.filter(|reservation| reservation.takes_reports()) {
        Some(reservation) => reservation.captured_budgets(),
        None => Vec::new(),
    };
}

/// A call that waits for its answer.
struct Call {
    _places: OwnedSemaphorePermit,
    reply: oneshot::Sender<Result<Vec<Recorded>, StoreError>>,
    answer: Result<Vec<Recorded>, StoreError>,
}

impl Call {
    fn take(&mut self, recorded: Recorded) {
        if let Ok(answer) = &mut self.answer {
            answer.push(recorded);
        }
    }

    /// Whatever else became of its events, its caller sends them all again: those that are in the
    /// log are duplicates then.
    fn fail(&mut self, error: StoreError) {
        self.answer = Err(error);
    }
}

/// Events that are appended together, each with the place of its call.
#[derive(Default)]
struct Segment {
    events: Vec<UsageEvent>,
    of_call: Vec<usize>,
    reservations: HashSet<ReservationId>,
}

impl Segment {
    fn push(&mut self, call: usize, event: UsageEvent) {
        self.reservations.extend(event.reservation.clone());
        self.events.push(event);
        self.of_call.push(call);
    }

    fn mentions(&self, event: &UsageEvent) -> bool {
        event.reservation.as_ref().is_some_and(|id| self.reservations.contains(id))
    }
}

#[cfg(test)]
mod tests;
