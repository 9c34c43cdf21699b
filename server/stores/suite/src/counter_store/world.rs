//! A workspace with its callers and its log, so that the promises read like sentences.

mod asked;
mod limits;

use std::collections::HashSet;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rateguard_core::amounts::Amounts;
use rateguard_core::counter::{CounterFamily, Demand, Limit, Position, Reading, RetryAfter, Shard};
use rateguard_core::decision::{Charge, Mode};
use rateguard_core::ids::{KeyId, ReservationId, WorkspaceId};
use rateguard_core::money::Nanos;
use rateguard_core::reservation::Reservation;
use rateguard_core::rule::Enforcement;
use rateguard_core::time::Millis;
use rateguard_core::unit::Unit;
use rateguard_core::usage::CallIdentity;
use rateguard_engine::ports::{
    CheckCommand, CheckOutcome, CounterQuery, CounterStore, Decided, LiveBudgets, Principal,
    RESERVATION_RANDOM_BYTES, ReleaseOutcome, RenewOutcome, RequestFingerprint, ReservationRequest,
    ResetCounters, SettleCharge, SettleCommand, SettleReservation, Standing,
};
use smallvec::SmallVec;
use tokio::sync::Mutex;

use self::asked::spread;
pub use self::asked::{Ask, ask};
use super::{CounterBackend, Stop};
pub use limits::*;

/// A minute.
pub const MINUTE_MS: i64 = 60_000;
/// How long the suite's reservations live.
pub const RESERVATION_MS: i64 = 10 * MINUTE_MS;
/// Sweeps after which a store has looked at everything.
const SWEEPS: usize = 64;
/// Whose calls the suite's are, where nobody else is named.
const SUBJECT: &str = "alice";
/// Reservations named at once.
const EXPIRED: usize = 100;
/// Records of one turn after a start.
const REPLAY_RECORDS: usize = 100;

/// The suite's first instant and `ms` more.
pub fn at(ms: i64) -> Millis {
    // 2027-01-15T08:00:00Z.
    Millis::new(1_800_000_000_000).plus(ms)
}

/// A hash of a request id with one of its content, standing for a minute from the first instant.
pub fn request(id: u128, content: u64) -> RequestFingerprint {
    RequestFingerprint { id: spread(id), content, expires_at: at(MINUTE_MS), attempt: None }
}

/// What a record says.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The reservation that it settles.
    pub reservation: Option<SettleReservation>,
    /// Amounts by unit.
    pub amounts: Amounts,
    /// The cost.
    pub cost: i64,
    /// What it charges each matching limit.
    pub charges: Vec<SettleCharge>,
    /// When its cost counts; `None` for the instant of the settlement.
    pub accounted_at: Option<Millis>,
}

impl Report {
    /// One of a call without a reservation, at a cost.
    pub fn of_cost(cost: i64) -> Self {
        Self { cost, ..Self::default() }
    }

    /// One that settles a reservation for good, with exact figures.
    pub fn settling(reservation: &Reservation, cost: i64) -> Self {
        let captured = reservation.captured.iter().filter(|c| c.is_budget()).map(|c| c.counter);
        let settles = SettleReservation {
            id: reservation.id.clone(),
            is_final: true,
            refund: true,
            standing: Standing::Known,
            captured_budgets: captured.collect(),
        };
        let accounted_at = Some(reservation.decided_at);
        Self { reservation: Some(settles), cost, accounted_at, ..Self::default() }
    }

    /// The same on a reservation that nobody knew when the record was taken.
    #[must_use]
    pub fn lost(self) -> Self {
        self.standing(Standing::Unknown)
    }

    /// The same that found its reservation so when it was taken.
    #[must_use]
    pub fn standing(mut self, standing: Standing) -> Self {
        if let Some(reservation) = &mut self.reservation {
            reservation.standing = standing;
            reservation.captured_budgets.clear();
        }
        self
    }

    /// The same of an attempt after which others may come.
    #[must_use]
    pub fn not_final(mut self) -> Self {
        if let Some(reservation) = &mut self.reservation {
            reservation.is_final = false;
        }
        self
    }

    /// The same with figures that give nothing back.
    #[must_use]
    pub fn guessed(mut self) -> Self {
        if let Some(reservation) = &mut self.reservation {
            reservation.refund = false;
        }
        self
    }

    /// The same with an amount.
    #[must_use]
    pub fn used(mut self, unit: Unit, amount: i64) -> Self {
        self.amounts.insert("amount", unit, amount).expect("the suite's amounts are within bounds");
        self
    }

    /// The same where this limit matches and is charged `amount`.
    #[must_use]
    pub fn charging(mut self, ask: &Ask, amount: i64) -> Self {
        self.charges.push(ask.charged(amount));
        self
    }
}

/// One workspace of a store, with its callers and its log.
#[derive(Clone)]
pub struct Caller {
    /// The store of now.
    pub store: Arc<dyn CounterStore>,
    /// The tenant.
    pub workspace: WorkspaceId,
    /// Who calls.
    pub principal: Principal,
    /// Whether limits with odd numbers are spread.
    spreads: bool,
    /// For whom, which tells the shard.
    subject: &'static str,
    log: Arc<Mutex<Vec<SettleCommand>>>,
    reservations: Arc<AtomicU64>,
}

/// A workspace with the storage that it is on, so that it can be opened again.
pub struct World<'b> {
    backend: &'b dyn CounterBackend,
    caller: Caller,
}

impl Deref for World<'_> {
    type Target = Caller;

    fn deref(&self) -> &Caller {
        &self.caller
    }
}

impl<'b> World<'b> {
    /// A workspace on fresh storage.
    pub async fn open(backend: &'b dyn CounterBackend) -> Self {
        let caller = Caller::new(backend.open(at(0)).await, 1).spreading(backend.spreads());
        Self { backend, caller }
    }

    /// Another workspace of the same store. Only one of them may settle.
    pub fn in_workspace(&self, number: u8) -> World<'b> {
        let caller = Caller::new(self.store.clone(), number).spreading(self.spreads);
        World { backend: self.backend, caller }
    }

    /// Ends the store, opens it again and settles what the log has beyond it.
    pub async fn reopen(&mut self, stop: Stop, now: Millis) {
        if stop == Stop::Clean {
            self.store.checkpoint(true).await.expect("a store that is well writes everything down");
        }
        self.caller.store = self.backend.open(now).await;
        let from = self.store.recovered_through().await.expect("a store knows where it begins");
        let log = self.log.lock().await;
        let open = log.iter().filter(|record| record.position > from);
        let replayed: Vec<_> = open.map(|record| SettleCommand { now, ..record.clone() }).collect();
        for records in replayed.chunks(REPLAY_RECORDS) {
            self.store.settle(records.to_vec()).await.expect("a store that is well settles");
        }
    }
}

impl Caller {
    /// A caller in the workspace with this number.
    pub fn new(store: Arc<dyn CounterStore>, workspace: u8) -> Self {
        Self {
            store,
            workspace: WorkspaceId::from_random([workspace; 16]),
            principal: Principal { key: KeyId::from_random([workspace; 16]), by_gateway: false },
            spreads: false,
            subject: SUBJECT,
            log: Arc::default(),
            reservations: Arc::new(AtomicU64::new(1 + (u64::from(workspace) << 32))),
        }
    }

    /// The same where limits with odd numbers are spread.
    #[must_use]
    pub fn spreading(self, spreads: bool) -> Self {
        Self { spreads, ..self }
    }

    /// The same caller on behalf of somebody else, whose limits by subject have other values.
    #[must_use]
    pub fn on_behalf_of(&self, subject: &'static str) -> Self {
        Self { subject, ..self.clone() }
    }

    /// The command for a call.
    pub fn command(&self, mode: Mode, asks: &[Ask], now: Millis) -> CheckCommand {
        let charges: SmallVec<[Charge; 8]> = asks.iter().map(|ask| self.placed(ask.charge)).collect();
        let shard = charges.iter().find_map(|charge| charge.counter.shard());
        CheckCommand {
            workspace: self.workspace.clone(),
            now,
            mode,
            charges,
            units: asks.iter().map(|ask| ask.unit.clone()).collect(),
            request: None,
            reservation: (mode == Mode::Reserve).then(|| self.reservation_request(shard, now)),
        }
    }

    /// A limit's charge where it stands in this workspace. Money is never spread, and what somebody else has placed
    /// stays there.
    pub fn placed(&self, charge: Charge) -> Charge {
        let is_odd = charge.counter.family().0 % 2 == 1;
        let is_placed = charge.counter.shard().is_some();
        if is_placed || !self.spreads || !is_odd || matches!(charge.limit, Limit::Budget { .. }) {
            return charge;
        }
        let shard = Shard::of_subject(self.subject);
        let (counter, overflow) = (charge.counter.in_shard(shard), charge.overflow.in_shard(shard));
        Charge { counter, overflow, ..charge }
    }

    fn placed_record(&self, charge: SettleCharge) -> SettleCharge {
        let SettleCharge { counter, overflow, limit, amount } = charge;
        let demand = Demand::take(amount);
        let enforcement = Enforcement::Enforced;
        let charge = Charge { counter, overflow, limit, demand, enforcement, counts_denied: false };
        let Charge { counter, overflow, .. } = self.placed(charge);
        SettleCharge { counter, overflow, limit, amount }
    }

    fn reservation_request(&self, shard: Option<Shard>, now: Millis) -> ReservationRequest {
        let number = self.reservations.fetch_add(1, Ordering::Relaxed);
        let mut random = [0; RESERVATION_RANDOM_BYTES];
        random[RESERVATION_RANDOM_BYTES - size_of::<u64>()..].copy_from_slice(&number.to_be_bytes());
        ReservationRequest {
            id: self.principal.reservation_id(random, shard),
            principal: self.principal.clone(),
            expires_at: now.plus(RESERVATION_MS),
            cost: None,
            floor: Nanos::ZERO,
            call: Arc::new(call_of(&self.principal)),
            request_id: None,
        }
    }

    /// Sends a command.
    pub async fn send(&self, command: CheckCommand) -> CheckOutcome {
        self.store.check(&command).await.expect("a store that is well decides")
    }

    /// Sends a command whose id, if any, is used for the same content only.
    pub async fn decide(&self, command: CheckCommand) -> Decided {
        match self.send(command).await {
            CheckOutcome::Decided(decided) => decided,
            CheckOutcome::ContentDiffers => panic!("the id was used for other content before"),
        }
    }

    /// Takes for good. Says whether it was allowed.
    pub async fn consume(&self, asks: &[Ask], now: Millis) -> bool {
        self.decide(self.command(Mode::Consume, asks, now)).await.verdict.allowed
    }

    /// Tests without taking.
    pub async fn peek(&self, asks: &[Ask], now: Millis) -> bool {
        self.decide(self.command(Mode::Peek, asks, now)).await.verdict.allowed
    }

    /// Holds; `None` when denied.
    pub async fn reserve(&self, asks: &[Ask], now: Millis) -> Option<Reservation> {
        self.reserve_with_floor(asks, 0, now).await
    }

    /// Holds with a cost of input that its expiry is charged.
    pub async fn reserve_with_floor(&self, asks: &[Ask], floor: i64, now: Millis) -> Option<Reservation> {
        let mut command = self.command(Mode::Reserve, asks, now);
        if let Some(reservation) = &mut command.reservation {
            reservation.floor = Nanos::from_stored(floor);
        }
        let (id, _) = self.decide(command).await.reservation?;
        self.reservation(&id).await
    }

    /// How many calls in a row are allowed to hold, at most `count_max`.
    pub async fn reserve_until_denied(&self, asks: &[Ask], count_max: usize, now: Millis) -> usize {
        let mut admitted = 0;
        while admitted < count_max && self.reserve(asks, now).await.is_some() {
            admitted += 1;
        }
        admitted
    }

    /// A reservation as the store knows it.
    pub async fn reservation(&self, id: &ReservationId) -> Option<Reservation> {
        self.store.reservation(&self.workspace, id).await.expect("a store that is well reads")
    }

    /// Gives a reservation back.
    pub async fn release(&self, id: &ReservationId, now: Millis) -> ReleaseOutcome {
        let released = self.store.release(&self.workspace, id, &self.principal, now).await;
        released.expect("a store that is well releases")
    }

    /// Lets a reservation go on until an instant.
    pub async fn renew(&self, id: &ReservationId, until: Millis, now: Millis) -> RenewOutcome {
        let renewed = self.store.renew(&self.workspace, id, &self.principal, until, now).await;
        renewed.expect("a store that is well renews")
    }

    /// Sets one counter back and says how many there were.
    pub async fn reset(&self, ask: &Ask, now: Millis) -> u64 {
        let Charge { counter, limit, .. } = self.placed(ask.charge);
        self.reset_counters(ResetCounters::One(counter, limit), now).await
    }

    /// Sets all counters of a limit back and says how many there were.
    pub async fn reset_all(&self, ask: &Ask, now: Millis) -> u64 {
        let counter = self.placed(ask.charge).counter;
        let (family, is_spread) = (counter.family(), counter.shard().is_some());
        self.reset_counters(ResetCounters::All { family, is_spread }, now).await
    }

    async fn reset_counters(&self, counters: ResetCounters, now: Millis) -> u64 {
        let reset = self.store.reset(&self.workspace, counters, now).await;
        reset.expect("a store that is well sets back")
    }

    /// Logs a record and settles it.
    pub async fn report(&self, report: Report, now: Millis) -> SettleCommand {
        let mut log = self.log.lock().await;
        let command = self.append(&mut log, report, now);
        self.store.settle(vec![command.clone()]).await.expect("a store that is well settles");
        command
    }

    /// Logs a record that a crash keeps from being settled.
    pub async fn log_only(&self, report: Report, now: Millis) -> SettleCommand {
        self.append(&mut *self.log.lock().await, report, now)
    }

    fn append(&self, log: &mut Vec<SettleCommand>, report: Report, now: Millis) -> SettleCommand {
        let command = SettleCommand {
            workspace: self.workspace.clone(),
            position: Position(log.len() as u64 + 1),
            now,
            accounted_at: report.accounted_at.unwrap_or(now),
            reservation: report.reservation,
            amounts: report.amounts,
            cost: Nanos::from_stored(report.cost),
            charges: report.charges.into_iter().map(|charge| self.placed_record(charge)).collect(),
        };
        log.push(command.clone());
        command
    }

    /// How limits stand.
    pub async fn read(&self, asks: &[Ask], now: Millis) -> Vec<Reading> {
        let query = |ask: &Ask| {
            let Charge { counter, overflow, limit, .. } = self.placed(ask.charge);
            CounterQuery { counter, overflow, limit }
        };
        let queries: Vec<_> = asks.iter().map(query).collect();
        self.store.read(&self.workspace, &queries, now).await.expect("a store that is well reads")
    }

    /// What is used of one limit, held amounts included.
    pub async fn used(&self, ask: &Ask, now: Millis) -> i128 {
        self.read(std::slice::from_ref(ask), now).await.first().map_or(0, |reading| reading.used)
    }

    /// What is held of one limit.
    pub async fn held(&self, ask: &Ask, now: Millis) -> i128 {
        self.read(std::slice::from_ref(ask), now).await.first().map_or(0, |reading| reading.held)
    }

    /// Expires what is due.
    pub async fn expire(&self, now: Millis) {
        self.store.expire_due(now, EXPIRED).await.expect("a store that is well expires");
    }

    /// Drops what can be dropped while all the suite's budgets exist.
    pub async fn sweep(&self, now: Millis) {
        let families = (0..=u8::MAX).map(|number| CounterFamily(number.into()));
        self.sweep_beside(Living(Arc::new(families.collect())), now).await;
    }

    /// Drops what can be dropped when no budget exists.
    pub async fn sweep_without_budgets(&self, now: Millis) {
        self.sweep_beside(Living::default(), now).await;
    }

    /// As often as a store needs that drops a part at a time.
    async fn sweep_beside(&self, budgets: Living, now: Millis) {
        for _ in 0..SWEEPS {
            self.store.sweep(now, &budgets).await.expect("a store that is well sweeps");
        }
    }

    /// Writes down what changed.
    pub async fn checkpoint(&self) {
        self.store.checkpoint(false).await.expect("a store that is well writes everything down");
    }

    /// How long a denied call has to wait; `None` when it is allowed.
    pub async fn wait_of(&self, asks: &[Ask], now: Millis) -> Option<RetryAfter> {
        let command = self.command(Mode::Peek, asks, now);
        let charges = command.charges.clone();
        let verdict = self.decide(command).await.verdict;
        verdict.limiting(&charges).map(|(_, wait)| wait).filter(|_| !verdict.allowed)
    }
}

fn call_of(principal: &Principal) -> CallIdentity {
    CallIdentity {
        key: principal.key.clone(),
        api: None,
        api_name: "chat".to_owned(),
        endpoint: "/v1/messages".to_owned(),
        method: "POST".to_owned(),
        model: "small".to_owned(),
        service_tier: String::new(),
        subject: String::new(),
    }
}

/// The same budgets in every workspace.
#[derive(Default)]
struct Living(Arc<HashSet<CounterFamily>>);

impl LiveBudgets for Living {
    fn families(&self, _: &WorkspaceId) -> Option<Arc<HashSet<CounterFamily>>> {
        Some(self.0.clone())
    }
}
