//! Shared counters for several holders: the core's arithmetic, with a way to them that takes time, loses
//! answers and is counted.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use rateguard_core::counter::{Counter, CounterId, Limit, Position, Reading};
use rateguard_core::decision::{Counters, Entry, Mode, decide};
use rateguard_core::ids::{ReservationId, WorkspaceId};
use rateguard_core::lease::{LeaseOutcome, exchange};
use rateguard_core::reservation::Reservation;
use rateguard_core::time::Millis;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::ports::{
    BudgetOpening, CancelOutcome, CheckCommand, CheckOutcome, CounterHealth, CounterQuery, CounterStore,
    Decided, ExpiredReservation, LeaseCommand, LiveBudgets, Principal, ReleaseOutcome, RenewOutcome,
    ResetCounters, SettleCharge, SettleCommand, StoreError,
};

/// A clock that goes with the paused time of the test.
pub struct TestClock(Instant);

impl TestClock {
    pub fn start() -> Arc<Self> {
        Arc::new(Self(Instant::now()))
    }
}

impl Clock for TestClock {
    fn now(&self) -> Millis {
        let elapsed = Instant::now().duration_since(self.0);
        // The beginning of a minute, and of a bucket's generation.
        Millis::new(1_800_000_000_000).plus(i64::try_from(elapsed.as_millis()).unwrap_or(0))
    }
}

/// What becomes of the next call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is done, and the store says so.
    Away,
    /// It is done, and the answer is lost.
    AnswerLost,
}

#[derive(Default)]
struct Table(BTreeMap<CounterId, Entry>);

impl Counters for Table {
    fn get(&self, id: CounterId) -> Option<&Entry> {
        self.0.get(&id)
    }

    fn get_mut(&mut self, id: CounterId) -> Option<&mut Entry> {
        self.0.get_mut(&id)
    }

    fn get_or_insert(&mut self, id: CounterId, limit: &Limit, now: Millis) -> &mut Entry {
        let fresh = || Entry { counter: Counter::fresh(limit, now), included: Position::default() };
        self.0.entry(id).or_insert_with(fresh)
    }
}

/// The store.
pub struct Shared {
    clock: Arc<TestClock>,
    table: Mutex<Table>,
    ids: Mutex<HashMap<u128, u64>>,
    /// What it admitted itself, and when.
    pub admitted: Mutex<Vec<(Millis, i64)>>,
    pub latency: Mutex<Duration>,
    pub faults: Mutex<VecDeque<Fault>>,
    pub checks: AtomicU64,
    pub exchanges: AtomicU64,
    pub at_once: AtomicU64,
    pub at_once_most: AtomicU64,
}

impl Shared {
    pub fn new(clock: Arc<TestClock>) -> Arc<Self> {
        Arc::new(Self {
            clock,
            table: Mutex::default(),
            ids: Mutex::default(),
            admitted: Mutex::default(),
            latency: Mutex::new(Duration::from_millis(1)),
            faults: Mutex::default(),
            checks: AtomicU64::new(0),
            exchanges: AtomicU64::new(0),
            at_once: AtomicU64::new(0),
            at_once_most: AtomicU64::new(0),
        })
    }

    /// What the counter has, of what its limit has.
    pub fn used(&self, id: CounterId, limit: &Limit) -> i128 {
        let (table, now) = (self.table.lock(), self.clock.now());
        table.get(id).map_or(0, |entry| entry.counter.read(limit, 0, now).used)
    }

    /// The way there, then what is to be done, then the way back.
    async fn call<T>(&self, act: impl FnOnce() -> T) -> Result<T, StoreError> {
        let way = *self.latency.lock() / 2;
        tokio::time::sleep(way).await;
        let fault = self.faults.lock().pop_front();
        if fault == Some(Fault::Away) {
            return Err(StoreError::Unavailable { store: "counter", detail: "away".to_owned() });
        }
        let answer = act();
        tokio::time::sleep(way).await;
        match fault {
            None => Ok(answer),
            Some(_) => Err(StoreError::OutcomeUnknown { store: "counter", detail: "silent".to_owned() }),
        }
    }

    fn decide(&self, command: &CheckCommand) -> CheckOutcome {
        let (mut table, now) = (self.table.lock(), self.clock.now());
        let request = command.request.filter(|_| command.mode != Mode::Peek);
        let known = request.and_then(|request| self.ids.lock().get(&request.id).copied());
        if let (Some(request), Some(known)) = (request, known) {
            if known != request.content {
                return CheckOutcome::ContentDiffers;
            }
            let verdict = decide(&mut *table, &command.charges, Mode::Peek, now);
            return CheckOutcome::Decided(Decided {
                verdict: rateguard_core::decision::Verdict { allowed: true, ..verdict },
                reservation: None,
                reserved: None,
                replayed: true,
            });
        }
        let verdict = decide(&mut *table, &command.charges, command.mode, now);
        if verdict.allowed && command.mode != Mode::Peek {
            let amount = command.charges.first().map_or(0, |charge| charge.demand.take);
            self.admitted.lock().push((now, amount));
            if let Some(request) = request {
                self.ids.lock().insert(request.id, request.content);
            }
        }
        CheckOutcome::Decided(Decided { verdict, reservation: None, reserved: None, replayed: false })
    }
}

#[async_trait]
impl CounterStore for Shared {
    async fn check(&self, command: &CheckCommand) -> Result<CheckOutcome, StoreError> {
        self.checks.fetch_add(1, Ordering::SeqCst);
        self.call(|| self.decide(command)).await
    }

    async fn recall(&self, _: &CheckCommand) -> Result<Option<CheckOutcome>, StoreError> {
        Ok(None)
    }

    async fn read(
        &self,
        _: &WorkspaceId,
        counters: &[CounterQuery],
        _: Millis,
    ) -> Result<Vec<Reading>, StoreError> {
        self.call(|| {
            let (table, now) = (self.table.lock(), self.clock.now());
            let read = |query: &CounterQuery| {
                let fresh = Counter::fresh(&query.limit, now);
                table.get(query.counter).map_or(&fresh, |entry| &entry.counter).read(&query.limit, 0, now)
            };
            counters.iter().map(read).collect()
        })
        .await
    }

    async fn cancel(&self, _: &CheckCommand, _: Millis) -> Result<CancelOutcome, StoreError> {
        Ok(CancelOutcome::Undone)
    }

    async fn lease(&self, command: &LeaseCommand) -> Result<Vec<LeaseOutcome>, StoreError> {
        self.exchanges.fetch_add(1, Ordering::SeqCst);
        let at_once = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
        self.at_once_most.fetch_max(at_once, Ordering::SeqCst);
        let act = || {
            let now = self.clock.now();
            exchange(&mut *self.table.lock(), &command.returns, &command.requests, now).into_vec()
        };
        let answer = self.call(act).await;
        self.at_once.fetch_sub(1, Ordering::SeqCst);
        answer
    }

    async fn reservation(
        &self,
        _: &WorkspaceId,
        _: &ReservationId,
    ) -> Result<Option<Reservation>, StoreError> {
        Ok(None)
    }

    async fn settle(&self, _: Vec<SettleCommand>) -> Result<(), StoreError> {
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
}
