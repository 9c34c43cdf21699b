//! Counters that several engines share, on a road on which calls and answers get lost.

use std::collections::{HashMap, HashSet};
use std::future::pending;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use parking_lot::Mutex;
use rateguard_core::counter::{Counter, CounterId, Limit, Position, Reading, Shard};
use rateguard_core::decision::{Charge, Counters, Entry, Mode, Taken, decide, take_back, taken};
use rateguard_core::ids::{ReservationId, WorkspaceId};
use rateguard_core::lease::{LeaseOutcome, exchange};
use rateguard_core::reservation::Reservation;
use rateguard_core::time::Millis;
use smallvec::SmallVec;

use super::stores::unavailable;
use crate::ports::{
    Attempt, BudgetOpening, CancelOutcome, CheckCommand, CheckOutcome, CounterHealth, CounterQuery,
    CounterStore, Decided, ExpiredReservation, LeaseCommand, LiveBudgets, Principal, ReleaseOutcome,
    RenewOutcome, ResetCounters, SettleCharge, SettleCommand, Slot, SlotClaim, SlotHolder, StoreError,
};

/// Parts that may be away by themselves.
const PARTS: usize = 64;

/// What the road is like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Road {
    /// Calls arrive, and so do answers.
    #[default]
    Fine,
    /// There is none, and callers know it.
    Closed,
    /// Calls never arrive.
    LosesCalls,
    /// Calls arrive, answers do not.
    LosesAnswers,
    /// Calls arrive when [`SharedCounters::deliver`] is called, answers never.
    Holds,
    /// Every call arrives twice.
    Doubles,
    /// Calls arrive where the data are damaged.
    Damaged,
}

#[derive(Default)]
pub(crate) struct SharedCounters {
    state: Mutex<State>,
    road: Mutex<Road>,
    held: Mutex<Vec<CheckCommand>>,
    settled: Mutex<Vec<SettleCharge>>,
    /// A workspace in a part that is away.
    away: Mutex<Option<WorkspaceId>>,
    pub(crate) calls: AtomicUsize,
}

#[derive(Default)]
struct State {
    entries: HashMap<CounterId, Entry>,
    decided: HashMap<u128, Standing>,
    cancelled: HashSet<(u128, Attempt)>,
    slots: HashMap<u16, SlotHolder>,
}

/// A decision that stands for its id.
struct Standing {
    attempts: Vec<Attempt>,
    taken: SmallVec<[Taken; 4]>,
    /// By which a cancel of a CONSUME means the same amounts; what was reserved is known by itself.
    consumed: Option<SmallVec<[Charge; 8]>>,
    is_named: bool,
}

impl SharedCounters {
    pub(crate) fn set_road(&self, road: Road) {
        *self.road.lock() = road;
    }

    /// Lets the part of a workspace be away.
    pub(crate) fn take_away(&self, workspace: WorkspaceId) {
        *self.away.lock() = Some(workspace);
    }

    /// Lets the calls arrive that were held.
    pub(crate) fn deliver(&self) {
        for command in self.held.lock().drain(..) {
            // Nobody waits for these answers any more.
            drop(self.state.lock().check(&command));
        }
    }

    /// What records were charged to so far.
    pub(crate) fn settled_limits(&self) -> Vec<Limit> {
        self.settled.lock().iter().map(|charge| charge.limit).collect()
    }

    /// What all counters together have used.
    pub(crate) fn used(&self, limit: &Limit, now: Millis) -> i128 {
        let state = self.state.lock();
        state.entries.values().map(|entry| entry.counter.read(limit, 0, now).used).sum()
    }

    /// Lets a call through, at most twice, if the road has one.
    async fn arrive<T>(&self, call: impl Fn() -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let road = *self.road.lock();
        match road {
            Road::Fine => call(),
            Road::Closed => Err(unavailable("counter")),
            Road::Damaged => Err(StoreError::Corrupt { store: "counter", detail: "damaged".to_owned() }),
            Road::LosesCalls | Road::Holds => pending().await,
            Road::LosesAnswers => {
                drop(call());
                pending().await
            }
            Road::Doubles => {
                let answer = call();
                drop(call());
                answer
            }
        }
    }
}

impl State {
    fn check(&mut self, command: &CheckCommand) -> Result<CheckOutcome, StoreError> {
        let id = command.request.map(|request| request.id);
        let attempt = command.request.and_then(|request| request.attempt);
        if id.zip(attempt).is_some_and(|attempt| self.cancelled.contains(&attempt)) {
            return Err(StoreError::AttemptRefused { store: "counter", detail: "the attempt was cancelled" });
        }
        let replayed = id.is_some_and(|id| self.decided.contains_key(&id));
        let mode = if replayed { Mode::Peek } else { command.mode };
        let mut verdict = decide(self, &command.charges, mode, command.now);
        verdict.allowed |= replayed;
        if let (Some(id), true, true) = (id, verdict.allowed, command.mode != Mode::Peek) {
            let taken = taken(&command.charges, &verdict);
            let consumed = (command.mode == Mode::Consume).then(|| command.charges.clone());
            let fresh = || Standing { attempts: Vec::new(), taken, consumed, is_named: false };
            let attempts = &mut self.decided.entry(id).or_insert_with(fresh).attempts;
            attempts.extend(attempt.filter(|attempt| !attempts.contains(attempt)));
        }
        let made = command.reservation.as_ref().filter(|_| verdict.allowed);
        let reservation = made.map(|made| (made.id.clone(), made.expires_at));
        Ok(CheckOutcome::Decided(Decided { verdict, reservation, reserved: None, replayed }))
    }

    fn recall(&mut self, command: &CheckCommand) -> Result<Option<CheckOutcome>, StoreError> {
        let is_known = command.request.is_some_and(|request| self.decided.contains_key(&request.id));
        if is_known { self.check(command).map(Some) } else { Ok(None) }
    }

    fn cancel(&mut self, command: &CheckCommand, now: Millis) -> CancelOutcome {
        let request = command.request.expect("a check of shared counters has an id");
        let attempt = request.attempt.expect("and is an attempt");
        self.cancelled.insert((request.id, attempt));
        if request.expires_at <= now {
            return CancelOutcome::TooLate;
        }
        let Some(standing) = self.decided.get_mut(&request.id) else { return CancelOutcome::Undone };
        let Some(place) = standing.attempts.iter().position(|other| *other == attempt) else {
            return CancelOutcome::Undone;
        };
        standing.attempts.remove(place);
        standing.is_named |= standing.consumed.as_ref().is_none_or(|consumed| *consumed == command.charges);
        if !standing.attempts.is_empty() {
            return CancelOutcome::Undone;
        }
        if !standing.is_named {
            return CancelOutcome::Stands;
        }
        let Standing { taken, .. } = self.decided.remove(&request.id).expect("it is there");
        take_back(self, &taken, now);
        CancelOutcome::Undone
    }
}

impl Counters for State {
    fn get(&self, id: CounterId) -> Option<&Entry> {
        self.entries.get(&id)
    }

    fn get_mut(&mut self, id: CounterId) -> Option<&mut Entry> {
        self.entries.get_mut(&id)
    }

    fn get_or_insert(&mut self, id: CounterId, limit: &Limit, now: Millis) -> &mut Entry {
        let fresh = || Entry { counter: Counter::fresh(limit, now), included: Position::default() };
        self.entries.entry(id).or_insert_with(fresh)
    }
}

#[async_trait]
impl CounterStore for SharedCounters {
    async fn check(&self, command: &CheckCommand) -> Result<CheckOutcome, StoreError> {
        if *self.road.lock() == Road::Holds {
            self.held.lock().push(command.clone());
        }
        self.arrive(|| self.state.lock().check(command)).await
    }

    async fn recall(&self, command: &CheckCommand) -> Result<Option<CheckOutcome>, StoreError> {
        self.arrive(|| self.state.lock().recall(command)).await
    }

    async fn cancel(&self, command: &CheckCommand, now: Millis) -> Result<CancelOutcome, StoreError> {
        if self.away.lock().as_ref() == Some(&command.workspace) {
            return Err(unavailable("counter"));
        }
        self.arrive(|| Ok(self.state.lock().cancel(command, now))).await
    }

    async fn lease(&self, command: &LeaseCommand) -> Result<Vec<LeaseOutcome>, StoreError> {
        self.arrive(|| {
            let state = &mut *self.state.lock();
            Ok(exchange(state, &command.returns, &command.requests, command.now).into_vec())
        })
        .await
    }

    async fn hold_slot(&self, claim: &SlotClaim) -> Result<Option<Slot>, StoreError> {
        self.arrive(|| {
            let slots = &mut self.state.lock().slots;
            let is_free = |number: &u16| slots.get(number).is_none_or(|holder| *holder == claim.holder);
            let number = (0..claim.slots_max).find(is_free);
            slots.extend(number.map(|number| (number, claim.holder)));
            Ok(number.map(|number| Slot { number, usable_in_ms: 0 }))
        })
        .await
    }

    async fn free_slot(&self, holder: SlotHolder, number: u16) -> Result<(), StoreError> {
        self.arrive(|| {
            self.state.lock().slots.retain(|held, by| *held != number || *by != holder);
            Ok(())
        })
        .await
    }

    async fn read(
        &self,
        _: &WorkspaceId,
        queries: &[CounterQuery],
        now: Millis,
    ) -> Result<Vec<Reading>, StoreError> {
        self.arrive(|| {
            let state = self.state.lock();
            let read = |query: &CounterQuery| match state.get(query.counter) {
                Some(entry) => entry.counter.read(&query.limit, 0, now),
                None => Counter::fresh(&query.limit, now).read(&query.limit, 0, now),
            };
            Ok(queries.iter().map(read).collect())
        })
        .await
    }

    async fn reservation(
        &self,
        _: &WorkspaceId,
        _: &ReservationId,
    ) -> Result<Option<Reservation>, StoreError> {
        Ok(None)
    }

    async fn settle(&self, commands: Vec<SettleCommand>) -> Result<(), StoreError> {
        self.settled.lock().extend(commands.into_iter().flat_map(|command| command.charges));
        Ok(())
    }

    async fn release(
        &self,
        _: &WorkspaceId,
        _: &ReservationId,
        _: &Principal,
        _: Millis,
    ) -> Result<ReleaseOutcome, StoreError> {
        self.arrive(|| Ok(ReleaseOutcome::Unknown)).await
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

    async fn expire_due(&self, _: Millis, _: usize) -> Result<Vec<ExpiredReservation>, StoreError> {
        Ok(Vec::new())
    }

    async fn open_budget(
        &self,
        _: &WorkspaceId,
        _: Vec<SettleCharge>,
        _: Position,
        _: Millis,
    ) -> Result<BudgetOpening, StoreError> {
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
        Ok(Position::default())
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn parts(&self) -> usize {
        PARTS
    }

    fn part_of(&self, workspace: &WorkspaceId, shard: Option<Shard>) -> usize {
        let mut hasher = DefaultHasher::new();
        (workspace, shard).hash(&mut hasher);
        usize::try_from(hasher.finish() % PARTS as u64).expect("it is less than the parts")
    }
}
