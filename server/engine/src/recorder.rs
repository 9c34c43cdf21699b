//! The recorder: the one task through which every event goes into the log.
//!
//! Many callers share one append and so one sync. What was appended is settled in the order of
//! positions before anyone is answered, so that an answered record counts everywhere. Being the
//! only one, the task also decides in order: whether a reservation is still open, and from which
//! record on a new budget counts.

use std::sync::Arc;
use std::time::Duration;

use rateguard_core::counter::Position;
use rateguard_core::limits::BATCH_RECORDS_MAX;
use rateguard_core::reservation::Reservation;
use rateguard_core::usage::{EventFlags, EventKind, UsageEvent};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::directory::Directory;
use crate::error::{EngineError, Reason};
use crate::floor;
use crate::ports::{AppendOutcome, CounterStore, EventLog, SettleCommand, StoreError};
use crate::report::{Recorded, captured_budgets, reservation_flag, settles};
use crate::settlement::command;

/// Calls that may wait for the recorder. A full queue answers at once.
const QUEUE_CALLS_MAX: usize = 8_192;
/// Events appended together: one sync covers them.
const BATCH_EVENTS_MAX: usize = 4 * BATCH_RECORDS_MAX;
/// Events read together when the log has more than was settled.
const CATCH_UP_EVENTS: usize = 1_000;
/// Longest wait for an answer; past it the outcome is unknown.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

struct Job {
    events: Vec<UsageEvent>,
    reply: oneshot::Sender<Result<Vec<Recorded>, StoreError>>,
}

/// The callers' end.
#[derive(Clone)]
pub struct Recorder {
    jobs: mpsc::Sender<Job>,
    settled: watch::Receiver<Position>,
}

/// The task's end.
pub struct RecorderTask {
    jobs: mpsc::Receiver<Job>,
    settled: watch::Sender<Position>,
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
    let task = RecorderTask { jobs, settled, log, counters, directory, clock, behind: true };
    (Recorder { jobs: sender, settled: settled_seen }, task)
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
        self.send(events).await
    }

    /// Waits until everything that was sent before is settled, and says up to where. Records after
    /// that position are settled under the configuration of now.
    ///
    /// # Errors
    /// As [`Recorder::record`].
    pub async fn barrier(&self) -> Result<Position, EngineError> {
        self.send(Vec::new()).await?;
        Ok(*self.settled.borrow())
    }

    /// The position up to which records are settled, and whenever it moves.
    pub fn settled(&self) -> watch::Receiver<Position> {
        self.settled.clone()
    }

    async fn send(&self, events: Vec<UsageEvent>) -> Result<Vec<Recorded>, EngineError> {
        let (reply, answer) = oneshot::channel();
        self.jobs.try_send(Job { events, reply }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => {
                EngineError::new(Reason::QueueFull, "the queue of usage reports is full")
            }
            mpsc::error::TrySendError::Closed(_) => {
                EngineError::new(Reason::Draining, "the server is stopping")
            }
        })?;
        match tokio::time::timeout(ANSWER_TIMEOUT, answer).await {
            Ok(Ok(outcome)) => Ok(outcome?),
            Ok(Err(_)) | Err(_) => Err(EngineError::new(
                Reason::OutcomeUnknown,
                "the event log did not answer in time; send the same again",
            )),
        }
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
            let jobs = self.gather(first);
            self.serve(jobs).await;
        }
    }

    fn gather(&mut self, first: Job) -> Vec<Job> {
        let mut events = first.events.len();
        let mut jobs = vec![first];
        while events < BATCH_EVENTS_MAX {
            let Ok(job) = self.jobs.try_recv() else { break };
            events += job.events.len();
            jobs.push(job);
        }
        jobs
    }

    async fn serve(&mut self, mut jobs: Vec<Job>) {
        let events = jobs.iter_mut().map(|job| std::mem::take(&mut job.events)).collect();
        match self.record(events).await {
            Ok(recorded) => {
                for (job, recorded) in jobs.into_iter().zip(recorded) {
                    // A caller that has gone away has lost interest, not its records.
                    drop(job.reply.send(Ok(recorded)));
                }
            }
            Err(error) => {
                for job in jobs {
                    drop(job.reply.send(Err(error.clone())));
                }
            }
        }
    }

    async fn record(&mut self, calls: Vec<Vec<UsageEvent>>) -> Result<Vec<Vec<Recorded>>, StoreError> {
        if self.behind {
            self.catch_up().await?;
        }
        let mut batch = Batch::default();
        for events in calls {
            batch.begin_call();
            for event in events {
                self.assemble(event, &mut batch).await?;
            }
        }
        let outcomes = self.append(&batch.events).await?;
        self.settle(&batch.events, &outcomes).await;
        Ok(batch.answers(outcomes))
    }

    /// Looks at the event's reservation once more, in order: it may have been settled, expired or
    /// released since the record was priced.
    async fn assemble(&self, mut event: UsageEvent, batch: &mut Batch) -> Result<(), StoreError> {
        let reservation = match &event.reservation {
            Some(id) => self.counters.reservation(&event.workspace, id).await?,
            None => None,
        };
        match event.kind {
            EventKind::Expired if !reservation.as_ref().is_some_and(Reservation::awaits_floor_event) => {
                batch.skip(&event);
            }
            EventKind::Usage => {
                refresh(&mut event, reservation.as_ref());
                let correction = self.correction(&event, reservation.as_ref()).await?;
                batch.push(event);
                batch.events.extend(correction);
            }
            EventKind::Expired | EventKind::Correction => batch.push(event),
        }
        Ok(())
    }

    /// A report that finds its reservation expired takes the floor back that stood for it.
    async fn correction(
        &self,
        event: &UsageEvent,
        reservation: Option<&Reservation>,
    ) -> Result<Option<UsageEvent>, StoreError> {
        let Some(expired) = reservation.filter(|_| event.flags.contains(EventFlags::RESERVATION_EXPIRED))
        else {
            return Ok(None);
        };
        let id = floor::event_id(&expired.id);
        let floor = self.log.find(&event.workspace, &id).await?;
        Ok(floor.map(|floor| floor::correction(&floor.event, event.received_at)))
    }

    async fn append(&mut self, events: &[UsageEvent]) -> Result<Vec<AppendOutcome>, StoreError> {
        if events.is_empty() {
            return Ok(Vec::new());
        }
        let outcomes = self.log.append(events).await;
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
    event.captured_budgets = match reservation.filter(|reservation| settles(reservation)) {
        Some(reservation) => captured_budgets(reservation),
        None => Vec::new(),
    };
}

/// Events to append, with the calls that they came from.
#[derive(Default)]
struct Batch {
    events: Vec<UsageEvent>,
    /// For each call, for each of its events: its place among the events, unless it was dropped.
    calls: Vec<Vec<Option<usize>>>,
}

impl Batch {
    fn begin_call(&mut self) {
        self.calls.push(Vec::new());
    }

    fn push(&mut self, event: UsageEvent) {
        let place = self.events.len();
        self.events.push(event);
        if let Some(call) = self.calls.last_mut() {
            call.push(Some(place));
        }
    }

    fn skip(&mut self, event: &UsageEvent) {
        tracing::debug!(event = %event.event_id, "the reservation was settled before its floor was recorded");
        if let Some(call) = self.calls.last_mut() {
            call.push(None);
        }
    }

    fn answers(self, outcomes: Vec<AppendOutcome>) -> Vec<Vec<Recorded>> {
        let recorded = |place: usize| {
            let (event, outcome) = (self.events.get(place)?, outcomes.get(place)?);
            Some(Recorded { outcome: outcome.clone(), cost: event.cost, flags: event.flags })
        };
        self.calls
            .iter()
            .map(|call| call.iter().flatten().filter_map(|place| recorded(*place)).collect())
            .collect()
    }
}
