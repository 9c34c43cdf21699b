//! The recorder's task: appends, settles, and follows what other processes append.

use std::sync::Arc;
use std::time::Duration;

use rateguard_core::counter::Position;
use rateguard_core::limits::BATCH_RECORDS_MAX;
use rateguard_core::reservation::Reservation;
use rateguard_core::usage::{EventKind, LoggedEvent, UsageEvent};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::batch::{Call, Segment, refresh};
use super::{AppendFailure, Job, RecorderSetup, Work};
use crate::clock::Clock;
use crate::directory::Directory;
use crate::ports::{AppendOutcome, Appended, CounterStore, EventLog, SettleCommand, StoreError};
use crate::pulse::Pulse;
use crate::report::Recorded;
use crate::settlement::{Reach, Setting, command};
use crate::telling::Telling;

/// Events appended together: one sync covers them.
const BATCH_EVENTS_MAX: usize = 4 * BATCH_RECORDS_MAX;
/// Events read together when the log has more than was settled.
const CATCH_UP_EVENTS: usize = 1_000;
/// How often the log is read while nothing is reported here. What another process has accepted counts
/// here that much later.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(200);

/// The task's end.
pub struct RecorderTask {
    jobs: mpsc::Receiver<Job>,
    settled: watch::Sender<Position>,
    failure: watch::Sender<Option<AppendFailure>>,
    log: Arc<dyn EventLog>,
    counters: Arc<dyn CounterStore>,
    directory: Arc<Directory>,
    clock: Arc<dyn Clock>,
    reach: Reach,
    /// Whether the log may hold more than was settled, by an append that ended without a word or a
    /// settlement that failed.
    behind: bool,
    pulse: Arc<Pulse>,
    telling: Telling,
}

/// What the task does next.
enum Next {
    Serve(Job),
    Follow,
    End,
}

impl RecorderTask {
    pub(super) fn new(
        setup: RecorderSetup,
        jobs: mpsc::Receiver<Job>,
        settled: watch::Sender<Position>,
        failure: watch::Sender<Option<AppendFailure>>,
        pulse: Arc<Pulse>,
    ) -> Self {
        let RecorderSetup { log, counters, directory, clock, shared } = setup;
        let reach = if shared { Reach::Shared } else { Reach::Own };
        let telling = Telling::of("settling what is in the event log");
        Self { jobs, settled, failure, log, counters, directory, clock, reach, behind: true, pulse, telling }
    }

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
        let mut ticks = interval(FOLLOW_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            match self.next(&stop, &mut ticks).await {
                Next::Serve(first) => {
                    self.serve(first).await;
                    // An append settles what is before it.
                    ticks.reset();
                }
                Next::Follow if self.follow().await => {}
                // There is more to read, and whoever waits meanwhile has their turn.
                Next::Follow => ticks.reset_immediately(),
                Next::End => return,
            }
        }
    }

    async fn next(&mut self, stop: &CancellationToken, ticks: &mut Interval) -> Next {
        loop {
            let follows = self.behind || self.reach == Reach::Shared;
            // In this order, so that the same events lead to the same steps. Jobs that never end keep
            // nothing from being read: an append settles what is before it.
            tokio::select! {
                biased;
                () = stop.cancelled(), if !self.jobs.is_closed() => self.jobs.close(),
                job = self.jobs.recv() => return job.map_or(Next::End, Next::Serve),
                _ = ticks.tick(), if follows => return Next::Follow,
            }
        }
    }

    async fn serve(&mut self, first: Job) {
        let mut jobs = self.gather(first);
        // What is to be done between two appends was sent last of what was gathered.
        let between = jobs.pop_if(|job| matches!(job, Job::Between(_)));
        self.record(jobs).await;
        if let Some(Job::Between(work)) = between {
            self.step_between(work).await;
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

    /// What others have appended is settled before, so that what is done divides the log here at a
    /// position that no other process has passed.
    async fn step_between(&mut self, work: Work) {
        let follows = self.behind || self.reach == Reach::Shared;
        if follows && self.catch_up().await.is_err() {
            // Dropping the work tells its caller that nothing was done.
            return;
        }
        let settled = *self.settled.borrow();
        work(settled).await;
    }

    async fn record(&mut self, jobs: Vec<Job>) {
        if self.reach == Reach::Shared && jobs.iter().any(Job::charges_floors) {
            // Another process may have taken a reservation's report by now.
            self.behind |= self.catch_up().await.is_err();
        }
        let mut calls = Vec::with_capacity(jobs.len());
        let mut segment = Segment::default();
        for job in jobs {
            let Job::Record { events, reply, places } = job else { continue };
            calls.push(Call::new(reply, places, events.len()));
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
        calls.into_iter().for_each(Call::answer);
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
        let Appended { before, outcomes } = match self.append(&events).await {
            Ok(appended) => appended,
            Err(error) => {
                of_call.iter().for_each(|call| calls[*call].fail(error.clone()));
                return;
            }
        };
        let settled = self.settle(before, &events, &outcomes).await;
        self.telling.tell(&settled);
        // Where it failed, the records are in the log and count; what follows the log settles them.
        self.behind |= settled.is_err();
        for ((call, event), outcome) in of_call.into_iter().zip(events).zip(outcomes) {
            calls[call].take(Recorded { outcome, cost: event.cost, flags: event.flags });
        }
    }

    async fn append(&mut self, events: &[UsageEvent]) -> Result<Appended, StoreError> {
        if events.is_empty() {
            return Ok(Appended { before: *self.settled.borrow(), outcomes: Vec::new() });
        }
        let appended = self.try_append(events).await;
        let failure = appended.as_ref().err();
        let failure = failure.map(|error| AppendFailure { at: Instant::now(), what: error.into() });
        self.failure.send_replace(failure);
        self.pulse.note(self.clock.now(), &appended);
        appended
    }

    async fn try_append(&mut self, events: &[UsageEvent]) -> Result<Appended, StoreError> {
        if self.behind {
            self.catch_up().await?;
        }
        let appended = self.log.append(events).await;
        self.behind = matches!(appended, Err(StoreError::OutcomeUnknown { .. }));
        appended
    }

    /// Settles one's own events after all that is in the log before them.
    async fn settle(
        &mut self,
        before: Position,
        events: &[UsageEvent],
        outcomes: &[AppendOutcome],
    ) -> Result<(), StoreError> {
        self.settle_through(before).await?;
        let appended = events.iter().zip(outcomes).filter_map(|(event, outcome)| match outcome {
            AppendOutcome::Appended(position) => Some(self.command(event, *position)),
            AppendOutcome::Duplicate { .. } | AppendOutcome::AttemptTaken { .. } => None,
        });
        let commands: Vec<SettleCommand> = appended.collect();
        let Some(last) = commands.last().map(|command| command.position) else { return Ok(()) };
        self.counters.settle(commands).await?;
        self.move_on(last);
        Ok(())
    }

    /// Reads on in the log. Says whether that was all; a failure is told now and then.
    async fn follow(&mut self) -> bool {
        let read = self.read_on().await;
        self.pulse.note(self.clock.now(), &read);
        self.telling.tell(&read);
        match read {
            Ok(is_all) => {
                self.behind &= !is_all;
                is_all
            }
            Err(_) => true,
        }
    }

    /// Settles everything that the log holds.
    async fn catch_up(&mut self) -> Result<(), StoreError> {
        while !self.read_on().await? {}
        self.behind = false;
        Ok(())
    }

    /// Settles the next events of the log, and says whether these were all.
    async fn read_on(&mut self) -> Result<bool, StoreError> {
        let from = *self.settled.borrow();
        let logged = self.log.read_after(from, CATCH_UP_EVENTS).await?;
        self.settle_logged(&logged).await?;
        Ok(logged.len() < CATCH_UP_EVENTS)
    }

    /// Settles what the log holds up to a position, of whomever.
    async fn settle_through(&mut self, last: Position) -> Result<(), StoreError> {
        loop {
            let from = *self.settled.borrow();
            if from >= last {
                return Ok(());
            }
            let mut logged = self.log.read_after(from, CATCH_UP_EVENTS).await?;
            let goes_on = logged.len() == CATCH_UP_EVENTS;
            logged.retain(|logged| logged.position <= last);
            self.settle_logged(&logged).await?;
            if !goes_on || logged.len() < CATCH_UP_EVENTS {
                // Positions may be free: of duplicates, and of what was deleted.
                self.move_on(last);
            }
        }
    }

    async fn settle_logged(&self, logged: &[LoggedEvent]) -> Result<(), StoreError> {
        let Some(last) = logged.last().map(|logged| logged.position) else { return Ok(()) };
        let commands = logged.iter().map(|logged| self.command(&logged.event, logged.position)).collect();
        self.counters.settle(commands).await?;
        self.move_on(last);
        Ok(())
    }

    fn command(&self, event: &UsageEvent, position: Position) -> SettleCommand {
        let (reach, now) = (self.reach, self.clock.now());
        let setting = Setting { reach, keeps_shares_back: self.counters.is_shared(), now };
        command(&self.directory, setting, event, position)
    }

    fn move_on(&self, last: Position) {
        self.settled.send_if_modified(|settled| {
            let moves = last > *settled;
            *settled = last.max(*settled);
            moves
        });
    }
}
