//! Small stores in memory that can fail, be held up and be looked into.

mod config;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use parking_lot::Mutex;
use rateguard_core::counter::{CounterId, Position, Reading};
use rateguard_core::ids::{EventId, ReservationId, WorkspaceId};
use rateguard_core::lease::LeaseOutcome;
use rateguard_core::money::Nanos;
use rateguard_core::reservation::{Reservation, ReservationState};
use rateguard_core::time::Millis;
use rateguard_core::usage::{LoggedEvent, UsageEvent};
use tokio::sync::Semaphore;

pub(crate) use config::FakeConfig;

use super::workspace;
use crate::ports::{
    AppendOutcome, Appended, BudgetOpening, CancelOutcome, CheckCommand, CheckOutcome, CounterHealth,
    CounterQuery, CounterStore, EventLog, EventPage, EventQuery, ExpiredReservation, LeaseCommand,
    LiveBudgets, Principal, ReleaseOutcome, RenewOutcome, ResetCounters, SeriesPoint, SeriesQuery,
    SettleCharge, SettleCommand, Standing, StoreError, Summary, UsageFilter, UsageStore,
};

/// Appends that pass before the log is held up.
const UNBOUNDED: usize = 1 << 20;
/// What becomes of an append that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing is appended, and the log says so.
    Unavailable,
    /// Everything is appended, and the log says nothing.
    UnknownAndDone,
    /// Nothing is appended, and the log says nothing.
    UnknownAndLost,
}

pub(crate) fn unavailable(store: &'static str) -> StoreError {
    StoreError::Unavailable { store, detail: "away".to_owned() }
}

/// A log.
pub(crate) struct FakeLog {
    events: Mutex<Vec<LoggedEvent>>,
    batches: Mutex<Vec<usize>>,
    faults: Mutex<VecDeque<Fault>>,
    reads: AtomicUsize,
    /// Whether reading fails.
    pub(crate) unreadable: AtomicBool,
    /// An append takes one; without any it waits.
    passes: Semaphore,
}

impl Default for FakeLog {
    fn default() -> Self {
        Self {
            events: Mutex::default(),
            batches: Mutex::default(),
            faults: Mutex::default(),
            reads: AtomicUsize::new(0),
            unreadable: AtomicBool::new(false),
            passes: Semaphore::new(UNBOUNDED),
        }
    }
}

impl FakeLog {
    /// The next append fails.
    pub(crate) fn fail_next(&self, fault: Fault) {
        self.faults.lock().push_back(fault);
    }

    /// Lets no append pass until it is let go.
    pub(crate) fn hold_up(&self) {
        self.passes.forget_permits(UNBOUNDED);
    }

    pub(crate) fn let_go(&self) {
        self.passes.add_permits(UNBOUNDED);
    }

    /// How many events each append had.
    pub(crate) fn batches(&self) -> Vec<usize> {
        self.batches.lock().clone()
    }

    /// How often it was read on from a position.
    pub(crate) fn reads(&self) -> usize {
        self.reads.load(Ordering::SeqCst)
    }

    pub(crate) fn events(&self) -> Vec<LoggedEvent> {
        self.events.lock().clone()
    }

    /// The ids in the log, in order.
    pub(crate) fn ids(&self) -> Vec<String> {
        self.events().iter().map(|logged| logged.event.event_id.to_string()).collect()
    }

    fn append_one(events: &mut Vec<LoggedEvent>, event: &UsageEvent) -> AppendOutcome {
        if let Some(first) = events.iter().find(|logged| logged.event.event_id == event.event_id) {
            let UsageEvent { cost, flags, .. } = first.event;
            return AppendOutcome::Duplicate { position: first.position, cost, flags };
        }
        let attempt = |event: &UsageEvent| {
            let reservation = event.reservation.clone().filter(|_| event.attempt > 0);
            reservation.map(|reservation| (reservation, event.attempt))
        };
        let taken = events.iter().find(|l| attempt(event).is_some() && attempt(&l.event) == attempt(event));
        if let Some(taken) = taken {
            return AppendOutcome::AttemptTaken { first: taken.event.event_id.clone() };
        }
        let position = Position(events.len() as u64 + 1);
        events.push(LoggedEvent { position, event: event.clone() });
        AppendOutcome::Appended(position)
    }
}

#[async_trait]
impl EventLog for FakeLog {
    async fn append(&self, batch: &[UsageEvent]) -> Result<Appended, StoreError> {
        self.passes.acquire().await.expect("the gate is never closed").forget();
        let fault = self.faults.lock().pop_front();
        let unknown = StoreError::OutcomeUnknown { store: "event", detail: "silent".to_owned() };
        match fault {
            Some(Fault::Unavailable) => return Err(unavailable("event")),
            Some(Fault::UnknownAndLost) => return Err(unknown),
            _ => self.batches.lock().push(batch.len()),
        }
        let mut events = self.events.lock();
        let before = events.last().map(|logged| logged.position).unwrap_or_default();
        let outcomes = batch.iter().map(|event| Self::append_one(&mut events, event)).collect();
        if fault.is_some() { Err(unknown) } else { Ok(Appended { before, outcomes }) }
    }

    async fn read_after(&self, position: Position, limit: usize) -> Result<Vec<LoggedEvent>, StoreError> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        if self.unreadable.load(Ordering::SeqCst) {
            return Err(unavailable("event"));
        }
        let after = self.events().into_iter().filter(|logged| logged.position > position);
        Ok(after.take(limit).collect())
    }

    async fn end(&self) -> Result<Position, StoreError> {
        Ok(self.events.lock().last().map(|logged| logged.position).unwrap_or_default())
    }

    async fn find(&self, _: &WorkspaceId, id: &EventId) -> Result<Option<LoggedEvent>, StoreError> {
        Ok(self.events().into_iter().find(|logged| logged.event.event_id == *id))
    }
}

/// Counters: reservations, and what was settled.
#[derive(Default)]
pub(crate) struct FakeCounters {
    reservations: Mutex<BTreeMap<ReservationId, Reservation>>,
    settled: Mutex<Vec<SettleCommand>>,
    /// What budgets have spent: their openings and what was charged since.
    spent: Mutex<BTreeMap<CounterId, i64>>,
    /// Whether settling fails.
    pub(crate) away: AtomicBool,
    /// What a checkpoint included.
    pub(crate) recovered_through: Mutex<Position>,
}

impl FakeCounters {
    /// Makes a reservation known, as it is.
    pub(crate) fn keep(&self, reservation: Reservation) {
        self.reservations.lock().insert(reservation.id.clone(), reservation);
    }

    /// Every settlement, in order.
    pub(crate) fn settled(&self) -> Vec<SettleCommand> {
        self.settled.lock().clone()
    }

    /// The positions that were settled, in order.
    pub(crate) fn positions(&self) -> Vec<u64> {
        self.settled.lock().iter().map(|command| command.position.0).collect()
    }

    /// What all budgets together have spent.
    pub(crate) fn spent(&self) -> i64 {
        self.spent.lock().values().sum()
    }

    fn settle_one(&self, command: SettleCommand) {
        let mut settled = self.settled.lock();
        if settled.last().is_some_and(|last| command.position <= last.position) {
            return;
        }
        for charge in command.charges.iter().filter(|charge| charge.is_budget()) {
            *self.spent.lock().entry(charge.counter).or_default() += charge.amount;
        }
        let known = command.reservation.as_ref().filter(|settled| settles_own(settled.standing));
        if let Some(reservation) = known.and_then(|known| self.reservations.lock().get(&known.id).cloned()) {
            self.keep(after_its_report(reservation));
        }
        settled.push(command);
    }
}

fn settles_own(standing: Standing) -> bool {
    matches!(standing, Standing::Known | Standing::Elsewhere)
}

fn after_its_report(mut reservation: Reservation) -> Reservation {
    reservation.captured.iter_mut().for_each(|captured| captured.taken = 0);
    reservation.floor = Nanos::ZERO;
    if reservation.state == ReservationState::Open {
        reservation.state = ReservationState::Settled;
    }
    reservation
}

#[async_trait]
impl CounterStore for FakeCounters {
    async fn check(&self, _: &CheckCommand) -> Result<CheckOutcome, StoreError> {
        Err(unavailable("counter"))
    }

    async fn recall(&self, _: &CheckCommand) -> Result<Option<CheckOutcome>, StoreError> {
        Err(unavailable("counter"))
    }

    async fn cancel(&self, _: &CheckCommand, _: Millis) -> Result<CancelOutcome, StoreError> {
        Err(unavailable("counter"))
    }

    async fn read(&self, _: &WorkspaceId, _: &[CounterQuery], _: Millis) -> Result<Vec<Reading>, StoreError> {
        Ok(Vec::new())
    }

    async fn lease(&self, _: &LeaseCommand) -> Result<Vec<LeaseOutcome>, StoreError> {
        Err(unavailable("counter"))
    }

    async fn reservation(
        &self,
        _: &WorkspaceId,
        id: &ReservationId,
    ) -> Result<Option<Reservation>, StoreError> {
        Ok(self.reservations.lock().get(id).cloned())
    }

    async fn settle(&self, commands: Vec<SettleCommand>) -> Result<(), StoreError> {
        if self.away.load(Ordering::SeqCst) {
            return Err(unavailable("counter"));
        }
        commands.into_iter().for_each(|command| self.settle_one(command));
        Ok(())
    }

    async fn release(
        &self,
        _: &WorkspaceId,
        _: &ReservationId,
        _: &Principal,
        _: Millis,
    ) -> Result<ReleaseOutcome, StoreError> {
        Ok(ReleaseOutcome::Unknown)
    }

    async fn renew(
        &self,
        _: &WorkspaceId,
        _: &ReservationId,
        _: &Principal,
        _: Millis,
        _: Millis,
    ) -> Result<RenewOutcome, StoreError> {
        Ok(RenewOutcome::Unknown)
    }

    async fn reset(&self, _: &WorkspaceId, _: ResetCounters, _: Millis) -> Result<u64, StoreError> {
        Ok(0)
    }

    async fn expire_due(&self, _: Millis, limit: usize) -> Result<Vec<ExpiredReservation>, StoreError> {
        let reservations = self.reservations.lock();
        let due = reservations.values().filter(|reservation| reservation.awaits_floor_event());
        let expired = |reservation: &Reservation| ExpiredReservation {
            workspace: workspace(),
            reservation: reservation.clone(),
        };
        Ok(due.take(limit).map(expired).collect())
    }

    async fn open_budget(
        &self,
        _: &WorkspaceId,
        openings: Vec<SettleCharge>,
        _: Position,
        _: Millis,
    ) -> Result<BudgetOpening, StoreError> {
        self.spent.lock().extend(openings.iter().map(|opening| (opening.counter, opening.amount)));
        Ok(BudgetOpening::Opened)
    }

    async fn sweep(&self, _: Millis, _: &dyn LiveBudgets) -> Result<(), StoreError> {
        Ok(())
    }

    async fn health(&self) -> Result<CounterHealth, StoreError> {
        Ok(CounterHealth::default())
    }

    async fn checkpoint(&self, _: bool) -> Result<(), StoreError> {
        Ok(())
    }

    async fn recovered_through(&self) -> Result<Position, StoreError> {
        Ok(*self.recovered_through.lock())
    }
}

/// Usage: a cursor, and the log's own events.
#[derive(Default)]
pub(crate) struct FakeUsage {
    log: Arc<FakeLog>,
    cursor: Mutex<Position>,
    /// Whether rolling up fails.
    pub(crate) away: AtomicBool,
    /// Whether another process rolls up.
    pub(crate) follows: AtomicBool,
}

impl FakeUsage {
    pub(crate) fn of(log: Arc<FakeLog>) -> Self {
        Self { log, ..Self::default() }
    }
}

#[async_trait]
impl UsageStore for FakeUsage {
    async fn apply(&self, events: &[LoggedEvent]) -> Result<(), StoreError> {
        if self.away.load(Ordering::SeqCst) {
            return Err(unavailable("usage"));
        }
        *self.cursor.lock() = events.last().map(|logged| logged.position).unwrap_or_default();
        Ok(())
    }

    async fn cursor(&self) -> Result<Position, StoreError> {
        Ok(*self.cursor.lock())
    }

    async fn try_lead(&self) -> Result<bool, StoreError> {
        Ok(!self.follows.load(Ordering::SeqCst))
    }

    async fn events(&self, _: &WorkspaceId, query: &EventQuery) -> Result<EventPage, StoreError> {
        let before = query.before.unwrap_or(Position(u64::MAX));
        let mut events = self.log.events();
        events.retain(|logged| logged.position < before);
        events.reverse();
        events.truncate(query.limit);
        let next_before = events.last().map(|logged| logged.position).filter(|last| last.0 > 1);
        Ok(EventPage { events, next_before })
    }

    async fn accounted_after(
        &self,
        _: &WorkspaceId,
        after: (Millis, Position),
        through: Position,
        limit: usize,
    ) -> Result<Vec<LoggedEvent>, StoreError> {
        let place = |logged: &LoggedEvent| (logged.event.accounted_at, logged.position);
        let mut events = self.log.events();
        events.retain(|logged| logged.position <= through && place(logged) > after);
        events.sort_by_key(place);
        events.truncate(limit);
        Ok(events)
    }

    async fn summary(&self, _: &WorkspaceId, filter: &UsageFilter) -> Result<Summary, StoreError> {
        let through = *self.cursor.lock();
        let events = self.log.events();
        let summed = events.iter().filter(|logged| {
            logged.position <= through && filter.accounted.contains(&logged.event.accounted_at)
        });
        let cost_nanos = summed.map(|logged| i128::from(logged.event.cost.get())).sum();
        Ok(Summary { cost_nanos, through, ..Summary::default() })
    }

    async fn series(&self, _: &WorkspaceId, _: &SeriesQuery) -> Result<Vec<SeriesPoint>, StoreError> {
        Err(unavailable("usage"))
    }
}
