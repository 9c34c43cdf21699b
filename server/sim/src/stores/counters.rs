//! The shared store of counters: the real one in memory, with a clock of its own, behind links. It
//! does one thing after the other, as a server of scripts does, and tells the history of each.

mod linked;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use rateguard_core::counter::{CounterFamily, CounterId, Limit, Position, Reading};
use rateguard_core::ids::{ReservationId, WorkspaceId};
use rateguard_core::lease::LeaseOutcome;
use rateguard_core::reservation::{Reservation, ReservationState};
use rateguard_core::time::Millis;
use rateguard_engine::ports::{
    BudgetOpening, CancelOutcome, CheckCommand, CheckOutcome, Checkpoint, CheckpointBatch, CheckpointStore,
    CounterQuery, CounterStore, ExpiredReservation, LeaseCommand, LiveBudgets, Principal, ReleaseOutcome,
    RenewOutcome, ResetCounters, SettleCharge, SettleCommand, Slot, SlotClaim, SlotHolder, StoreError,
};
use rateguard_store_memory::{MemoryCounterStore, MemoryCounterStoreConfig};
use tokio::sync::{Mutex, MutexGuard};

use super::flaws::{Flaw, Plant, outlive};
use crate::clocks::{BEGINS, SkewedClock};
use crate::network::World;
use crate::steps::{Step, StoreDeed, StoreStep};

pub use linked::LinkedCounters;

/// For how long the store has known of slots when a run begins.
const KNOWN_MS: i64 = 60_000;
/// Room for everything that a run makes, and little more.
const CONFIG: MemoryCounterStoreConfig = MemoryCounterStoreConfig {
    live_counters_max: 10_000,
    reservations_max: 10_000,
    request_ids_bytes_max: 512 * 1024,
};

/// The store has known of slots for long: it has not lost its memory just now.
fn first_claim() -> SlotClaim {
    let now = Millis::new(BEGINS).plus(-KNOWN_MS);
    SlotClaim { holder: SlotHolder(0), last: None, life_ms: 0, settling_ms: 0, slots_max: 1, now }
}

/// A store that survives by itself writes nothing down.
struct NoCheckpoints;

#[async_trait]
impl CheckpointStore for NoCheckpoints {
    async fn save(&self, _: CheckpointBatch) -> Result<(), StoreError> {
        Ok(())
    }

    async fn load(&self) -> Result<Checkpoint, StoreError> {
        Ok(Checkpoint::default())
    }

    async fn save_reservations(&self, _: Vec<(WorkspaceId, Reservation)>) -> Result<(), StoreError> {
        Ok(())
    }
}

/// The store itself.
pub struct CounterServer {
    world: Arc<World>,
    inner: MemoryCounterStore,
    workspace: WorkspaceId,
    clock: Arc<SkewedClock>,
    flaw: Option<Flaw>,
    /// Whoever has it does one thing.
    turn: Mutex<Turn>,
}

/// What the store knows from one thing to the next.
#[derive(Default)]
pub(super) struct Turn {
    /// The latest instant that was shown.
    now: Millis,
    /// Every counter that was ever asked for, with its limit.
    pub(super) limits: BTreeMap<CounterId, Limit>,
    settled_through: Position,
    pub(super) plant: Plant,
}

impl CounterServer {
    /// A store in which nothing stands.
    ///
    /// # Errors
    /// None: its storage is empty.
    pub async fn open(
        world: Arc<World>,
        workspace: WorkspaceId,
        clock: Arc<SkewedClock>,
        flaw: Option<Flaw>,
    ) -> Result<Arc<Self>, StoreError> {
        let inner = MemoryCounterStore::load(Arc::new(NoCheckpoints), CONFIG, Millis::ZERO).await?;
        inner.hold_slot(&first_claim()).await?;
        Ok(Arc::new(Self { world, inner, workspace, clock, flaw, turn: Mutex::default() }))
    }

    /// The store's instant: that of its clock, held still while that is set back.
    pub async fn now(&self) -> Millis {
        self.turn.lock().await.now.max(self.clock.shows())
    }

    /// The earliest instant at which it can decide what comes from now on. Where its clock may be set back
    /// before that, the last one that it has decided by.
    pub async fn earliest(&self) -> Millis {
        let last = self.turn.lock().await.now;
        if self.clock.is_set() { last } else { last.max(self.clock.shows()) }
    }

    pub(super) fn inner(&self) -> &MemoryCounterStore {
        &self.inner
    }

    pub(super) fn workspace(&self) -> &WorkspaceId {
        &self.workspace
    }

    /// Takes its turn, for something that the store within learns the time by. Says what the clock shows, which may be
    /// earlier than before: the store itself has to hold still then.
    async fn begin(&self) -> (MutexGuard<'_, Turn>, Millis) {
        let mut turn = self.turn.lock().await;
        let shown = self.clock.shows();
        turn.now = turn.now.max(shown);
        (turn, shown)
    }

    /// Tells the history what was done.
    async fn tell(&self, turn: &mut Turn, replica: usize, deed: StoreDeed) -> Result<(), StoreError> {
        let expired = self.newly_expired(turn.now).await?;
        if self.flaw == Some(Flaw::ExpiryFreesTwice) {
            turn.free_again(self, &expired).await?;
        }
        let readings = self.readings(turn).await?;
        let step = StoreStep { replica, now: turn.now, deed, expired, readings };
        let at_ms = self.world.time.elapsed_ms();
        self.world.history.lock().record(at_ms, &Step::Store(Box::new(step)));
        Ok(())
    }

    /// Reservations that are due, and that the store calls expired by now.
    async fn newly_expired(&self, now: Millis) -> Result<Vec<ReservationId>, StoreError> {
        let due = self.due(now);
        let mut expired = Vec::new();
        for id in due {
            let kept = self.inner.reservation(&self.workspace, &id).await?;
            if kept.is_some_and(|kept| kept.state == ReservationState::Expired) {
                expired.push(id);
            }
        }
        Ok(expired)
    }

    fn due(&self, now: Millis) -> Vec<ReservationId> {
        let history = self.world.history.lock();
        let open = history
            .books()
            .reservations
            .iter()
            .filter(|(_, book)| book.state == ReservationState::Open && book.expires_at <= now);
        open.map(|(id, _)| id.clone()).collect()
    }

    async fn readings(&self, turn: &Turn) -> Result<Vec<(CounterId, Limit, Reading)>, StoreError> {
        let query = |(counter, limit): (&CounterId, &Limit)| CounterQuery {
            counter: *counter,
            overflow: *counter,
            limit: *limit,
        };
        let queries: Vec<CounterQuery> = turn.limits.iter().map(query).collect();
        let readings = self.inner.read(&self.workspace, &queries, turn.now).await?;
        Ok(queries
            .iter()
            .zip(readings)
            .map(|(query, reading)| (query.counter, query.limit, reading))
            .collect())
    }

    /// Decides a check.
    ///
    /// # Errors
    /// Those of the store within.
    pub async fn check(&self, replica: usize, command: CheckCommand) -> Result<CheckOutcome, StoreError> {
        let (mut turn, shown) = self.begin().await;
        turn.limits.extend(command.charges.iter().map(|charge| (charge.counter, charge.limit)));
        let Some(outcome) = self.decide(&mut turn, replica, &at(&command, shown)).await? else {
            let detail = "the attempt was cancelled before it arrived";
            return Err(StoreError::AttemptRefused { store: "counter", detail });
        };
        match self.flaw {
            Some(Flaw::DenialKeepsFirst) => turn.keep_first(self, &command, &outcome).await?,
            Some(Flaw::ExpiryFreesTwice) => turn.watch(self, &outcome).await?,
            _ => {}
        }
        let told = StoreDeed::Checked(Box::new(at(&command, turn.now)), Box::new(outcome.clone()));
        self.tell(&mut turn, replica, told).await?;
        Ok(outcome)
    }

    /// Lets the store within decide; `None` where it refuses what was cancelled before.
    async fn decide(
        &self,
        turn: &mut Turn,
        replica: usize,
        command: &CheckCommand,
    ) -> Result<Option<CheckOutcome>, StoreError> {
        match self.inner.check(command).await {
            Ok(outcome) => Ok(Some(outcome)),
            Err(StoreError::AttemptRefused { .. }) => {
                let told = StoreDeed::Refused(Box::new(at(command, turn.now)));
                self.tell(turn, replica, told).await?;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Undoes an attempt.
    ///
    /// # Errors
    /// Those of the store within.
    pub async fn cancel(&self, replica: usize, command: CheckCommand) -> Result<CancelOutcome, StoreError> {
        let (mut turn, shown) = self.begin().await;
        let outcome = self.inner.cancel(&at(&command, shown), shown).await?;
        let told = StoreDeed::Cancelled(Box::new(at(&command, turn.now)));
        self.tell(&mut turn, replica, told).await.map(|()| outcome)
    }

    /// Lets a reservation go on for so long.
    ///
    /// # Errors
    /// Those of the store within.
    pub async fn renew(
        &self,
        replica: usize,
        id: ReservationId,
        principal: &Principal,
        ttl_ms: i64,
    ) -> Result<RenewOutcome, StoreError> {
        let (mut turn, shown) = self.begin().await;
        let outcome = self.inner.renew(&self.workspace, &id, principal, shown.plus(ttl_ms), shown).await?;
        self.tell(&mut turn, replica, StoreDeed::Renewed(id, outcome)).await?;
        Ok(outcome)
    }

    /// Sets counters back. The store's time steps on with it.
    ///
    /// # Errors
    /// Those of the store within.
    pub async fn reset(&self, replica: usize, counters: ResetCounters) -> Result<u64, StoreError> {
        let (mut turn, shown) = self.begin().await;
        let set_back = self.inner.reset(&self.workspace, counters, shown).await?;
        turn.now = turn.now.plus(1);
        self.tell(&mut turn, replica, StoreDeed::Reset(counters)).await?;
        Ok(set_back)
    }

    /// The rules' counters that were ever asked for, by their families.
    pub async fn families(&self) -> Vec<CounterFamily> {
        let turn = self.turn.lock().await;
        let rules = turn.limits.iter().filter(|(_, limit)| !matches!(limit, Limit::Budget { .. }));
        let families: BTreeSet<CounterFamily> = rules.map(|(id, _)| id.family()).collect();
        families.into_iter().collect()
    }

    /// Claims a slot.
    ///
    /// # Errors
    /// Those of the store within.
    pub async fn hold_slot(&self, claim: &SlotClaim) -> Result<Option<Slot>, StoreError> {
        let turn = self.turn.lock().await;
        let now = turn.now.max(self.clock.shows());
        self.inner.hold_slot(&SlotClaim { now, ..*claim }).await
    }

    /// Gives a slot up.
    ///
    /// # Errors
    /// Those of the store within.
    pub async fn free_slot(&self, holder: SlotHolder, number: u16) -> Result<(), StoreError> {
        let _turn = self.turn.lock().await;
        self.inner.free_slot(holder, number).await
    }

    /// What an id stands for.
    ///
    /// # Errors
    /// Those of the store within.
    pub async fn recall(
        &self,
        replica: usize,
        command: CheckCommand,
    ) -> Result<Option<CheckOutcome>, StoreError> {
        let (mut turn, shown) = self.begin().await;
        let outcome = self.inner.recall(&at(&command, shown)).await?;
        self.tell(&mut turn, replica, StoreDeed::Tended).await?;
        Ok(outcome)
    }

    /// Reads counters.
    ///
    /// # Errors
    /// Those of the store within.
    pub async fn read(&self, queries: &[CounterQuery]) -> Result<Vec<Reading>, StoreError> {
        let (_turn, shown) = self.begin().await;
        self.inner.read(&self.workspace, queries, shown).await
    }

    /// Ends leases and makes new ones.
    ///
    /// # Errors
    /// Those of the store within.
    pub async fn lease(
        &self,
        replica: usize,
        command: &LeaseCommand,
    ) -> Result<Vec<LeaseOutcome>, StoreError> {
        let (mut turn, shown) = self.begin().await;
        turn.limits.extend(command.requests.iter().map(|request| (request.counter, request.limit)));
        let sent = LeaseCommand { now: shown, ..command.clone() };
        let mut outcomes = self.inner.lease(&sent).await?;
        if self.flaw == Some(Flaw::LeaseOutlivesWindow) {
            outlive(&mut outcomes);
        }
        self.tell(&mut turn, replica, StoreDeed::Leased(sent, outcomes.clone())).await?;
        Ok(outcomes)
    }

    /// Reads a reservation.
    ///
    /// # Errors
    /// Those of the store within.
    pub async fn reservation(&self, id: &ReservationId) -> Result<Option<Reservation>, StoreError> {
        let _turn = self.turn.lock().await;
        self.inner.reservation(&self.workspace, id).await
    }

    /// Settles records; `again` says that they were sent before and nothing was heard.
    ///
    /// # Errors
    /// Those of the store within.
    pub async fn settle(
        &self,
        replica: usize,
        commands: Vec<SettleCommand>,
        again: bool,
    ) -> Result<(), StoreError> {
        let (mut turn, shown) = self.begin().await;
        for charge in commands.iter().flat_map(|command| &command.charges) {
            turn.limits.insert(charge.counter, charge.limit);
        }
        let before = turn.before_settling(self, &commands).await?;
        let last = commands.last().map(|command| command.position).unwrap_or_default();
        let is_double = again && last <= turn.settled_through;
        let sent = commands.iter().map(|command| SettleCommand { now: shown, ..command.clone() });
        self.inner.settle(sent.collect()).await?;
        match self.flaw {
            Some(Flaw::DoubleSettle) if is_double => turn.charge_again(self, &commands).await?,
            Some(Flaw::RefundIntoNextWindow) => turn.refund(self, before).await?,
            _ => {}
        }
        turn.settled_through = turn.settled_through.max(last);
        self.tell(&mut turn, replica, StoreDeed::Settled(commands)).await
    }

    /// Gives a reservation back.
    ///
    /// # Errors
    /// Those of the store within.
    pub async fn release(
        &self,
        replica: usize,
        id: ReservationId,
        principal: &Principal,
    ) -> Result<ReleaseOutcome, StoreError> {
        let (mut turn, shown) = self.begin().await;
        let before = self.inner.reservation(&self.workspace, &id).await?;
        let outcome = self.inner.release(&self.workspace, &id, principal, shown).await?;
        if self.flaw == Some(Flaw::RefundIntoNextWindow) {
            turn.refund(self, before.into_iter().collect()).await?;
        }
        self.tell(&mut turn, replica, StoreDeed::Released(id, outcome)).await?;
        Ok(outcome)
    }

    /// Expires what is due.
    ///
    /// # Errors
    /// Those of the store within.
    pub async fn expire_due(
        &self,
        replica: usize,
        limit: usize,
    ) -> Result<Vec<ExpiredReservation>, StoreError> {
        let (mut turn, shown) = self.begin().await;
        let expired = self.inner.expire_due(shown, limit).await?;
        self.tell(&mut turn, replica, StoreDeed::Tended).await?;
        Ok(expired)
    }

    /// Opens a budget.
    ///
    /// # Errors
    /// Those of the store within.
    pub async fn open_budget(
        &self,
        openings: Vec<SettleCharge>,
        through: Position,
    ) -> Result<BudgetOpening, StoreError> {
        let (_turn, shown) = self.begin().await;
        self.inner.open_budget(&self.workspace, openings, through, shown).await
    }

    /// Drops what is idle.
    ///
    /// # Errors
    /// Those of the store within.
    pub async fn sweep(&self, replica: usize, budgets: &dyn LiveBudgets) -> Result<(), StoreError> {
        let (mut turn, shown) = self.begin().await;
        self.inner.sweep(shown, budgets).await?;
        self.tell(&mut turn, replica, StoreDeed::Tended).await
    }

    /// Up to where the counters include the log.
    pub async fn settled_through(&self) -> Position {
        self.turn.lock().await.settled_through
    }
}

impl Turn {
    pub(super) fn now(&self) -> Millis {
        self.now
    }
}

/// A command at the store's own instant, with the lengths of its lives as they were asked for.
fn at(command: &CheckCommand, now: Millis) -> CheckCommand {
    let moved = |at: Millis| at.plus(now.get() - command.now.get());
    let mut command = CheckCommand { now, ..command.clone() };
    if let Some(request) = &mut command.request {
        request.expires_at = moved(request.expires_at);
    }
    if let Some(reservation) = &mut command.reservation {
        reservation.expires_at = moved(reservation.expires_at);
    }
    command
}
