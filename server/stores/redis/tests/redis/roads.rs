//! Roads to a store on which calls and answers get lost, a road for each place that it keeps.

use std::collections::BTreeMap;
use std::future::{Future, pending};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use rateguard_core::counter::{Position, Reading};
use rateguard_core::ids::{ReservationId, WorkspaceId};
use rateguard_core::lease::LeaseOutcome;
use rateguard_core::reservation::Reservation;
use rateguard_core::time::Millis;
use rateguard_engine::ports::{
    BudgetOpening, CancelOutcome, CheckCommand, CheckOutcome, CounterHealth, CounterQuery, CounterStore,
    ExpiredReservation, LeaseCommand, LiveBudgets, Principal, ReleaseOutcome, RenewOutcome, ResetCounters,
    SettleCharge, SettleCommand, StoreError,
};
use rateguard_store_memory::MemoryCounterStore;
use tokio::time::sleep;

use crate::wishes::Dice;

const STORE: &str = "counter";
/// Longest time on a road.
const WAY_MS_MAX: u64 = 4;
/// Shortest and longest time on a road on which a call is late: no caller waits so long, and what it has asked is done.
const LATE_MS_MIN: u64 = 30;
pub const LATE_MS_MAX: u64 = 200;
/// Of so many calls each kind of trouble has one.
const TROUBLE_SIDES: u64 = 14;

/// What becomes of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// It arrives, and so does its answer.
    Fine,
    /// There is no road, and the caller knows it.
    Refused,
    /// It never arrives.
    LosesCall,
    /// It arrives, and its answer does not.
    LosesAnswer,
    /// It arrives, and the caller is told that nobody knows.
    BreaksDown,
    /// It arrives when nobody waits for it any more.
    Late,
}

/// The way to a store at the end of such roads, the same for all who have it.
#[derive(Clone)]
pub struct Roads {
    store: Arc<MemoryCounterStore>,
    dice: Arc<Mutex<Option<Dice>>>,
    /// How often what became of calls.
    seen: Arc<Mutex<BTreeMap<Fate, u64>>>,
}

impl Fate {
    /// How many there are.
    pub const COUNT: usize = 6;
}

impl Roads {
    /// Bad roads that a seed decides.
    pub fn new(store: MemoryCounterStore, seed: u64) -> Self {
        let dice = Arc::new(Mutex::new(Some(Dice(seed))));
        Self { store: Arc::new(store), dice, seen: Arc::default() }
    }

    /// A way to the same store on which all is well.
    pub fn fine(&self) -> Self {
        Self { store: self.store.clone(), dice: Arc::default(), seen: Arc::default() }
    }

    /// How often what became of calls.
    pub fn seen(&self) -> BTreeMap<Fate, u64> {
        self.seen.lock().clone()
    }

    fn draw(&self) -> (Fate, [Duration; 2]) {
        let Some(dice) = &mut *self.dice.lock() else { return (Fate::Fine, [Duration::ZERO; 2]) };
        let fate = match dice.below(TROUBLE_SIDES) {
            0 => Fate::Refused,
            1 => Fate::LosesCall,
            2 => Fate::LosesAnswer,
            3 => Fate::BreaksDown,
            4 => Fate::Late,
            _ => Fate::Fine,
        };
        let there = match fate {
            Fate::Late => LATE_MS_MIN + dice.below(LATE_MS_MAX - LATE_MS_MIN),
            _ => dice.below(WAY_MS_MAX),
        };
        let ways = [there, dice.below(WAY_MS_MAX)].map(Duration::from_millis);
        *self.seen.lock().entry(fate).or_default() += 1;
        (fate, ways)
    }

    async fn travel<T, F>(&self, call: impl FnOnce(Arc<MemoryCounterStore>) -> F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        let (fate, [there, back]) = self.draw();
        let detail = || format!("{fate:?}");
        match fate {
            Fate::Refused => return Err(StoreError::Unavailable { store: STORE, detail: detail() }),
            Fate::LosesCall => return pending().await,
            Fate::Late => {
                let call = call(self.store.clone());
                tokio::spawn(async move {
                    sleep(there).await;
                    drop(call.await);
                });
                return pending().await;
            }
            Fate::Fine | Fate::LosesAnswer | Fate::BreaksDown => {}
        }
        sleep(there).await;
        let answer = call(self.store.clone()).await;
        sleep(back).await;
        match fate {
            Fate::LosesAnswer => pending().await,
            Fate::BreaksDown => Err(StoreError::OutcomeUnknown { store: STORE, detail: detail() }),
            _ => answer,
        }
    }
}

#[async_trait]
impl CounterStore for Roads {
    async fn check(&self, command: &CheckCommand) -> Result<CheckOutcome, StoreError> {
        let command = command.clone();
        self.travel(|store| async move { store.check(&command).await }).await
    }

    async fn recall(&self, command: &CheckCommand) -> Result<Option<CheckOutcome>, StoreError> {
        let command = command.clone();
        self.travel(|store| async move { store.recall(&command).await }).await
    }

    async fn cancel(&self, command: &CheckCommand, now: Millis) -> Result<CancelOutcome, StoreError> {
        let command = command.clone();
        self.travel(|store| async move { store.cancel(&command, now).await }).await
    }

    async fn read(
        &self,
        workspace: &WorkspaceId,
        counters: &[CounterQuery],
        now: Millis,
    ) -> Result<Vec<Reading>, StoreError> {
        let (workspace, counters) = (workspace.clone(), counters.to_vec());
        self.travel(|store| async move { store.read(&workspace, &counters, now).await }).await
    }

    async fn lease(&self, command: &LeaseCommand) -> Result<Vec<LeaseOutcome>, StoreError> {
        let command = command.clone();
        self.travel(|store| async move { store.lease(&command).await }).await
    }

    async fn reservation(
        &self,
        workspace: &WorkspaceId,
        id: &ReservationId,
    ) -> Result<Option<Reservation>, StoreError> {
        self.store.reservation(workspace, id).await
    }

    /// Each place has a road of its own: some records may arrive, and others not.
    async fn settle(&self, commands: Vec<SettleCommand>) -> Result<(), StoreError> {
        let mut together = Ok(());
        for command in commands {
            together =
                together.and(self.travel(|store| async move { store.settle(vec![command]).await }).await);
        }
        together
    }

    async fn release(
        &self,
        workspace: &WorkspaceId,
        id: &ReservationId,
        principal: &Principal,
        now: Millis,
    ) -> Result<ReleaseOutcome, StoreError> {
        let (workspace, id, principal) = (workspace.clone(), id.clone(), principal.clone());
        self.travel(|store| async move { store.release(&workspace, &id, &principal, now).await }).await
    }

    async fn renew(
        &self,
        workspace: &WorkspaceId,
        id: &ReservationId,
        principal: &Principal,
        until: Millis,
        now: Millis,
    ) -> Result<RenewOutcome, StoreError> {
        let (workspace, id, principal) = (workspace.clone(), id.clone(), principal.clone());
        self.travel(|store| async move { store.renew(&workspace, &id, &principal, until, now).await }).await
    }

    async fn reset(
        &self,
        workspace: &WorkspaceId,
        counters: ResetCounters,
        now: Millis,
    ) -> Result<u64, StoreError> {
        self.store.reset(workspace, counters, now).await
    }

    async fn expire_due(&self, now: Millis, limit: usize) -> Result<Vec<ExpiredReservation>, StoreError> {
        self.store.expire_due(now, limit).await
    }

    async fn open_budget(
        &self,
        workspace: &WorkspaceId,
        openings: Vec<SettleCharge>,
        through: Position,
        now: Millis,
    ) -> Result<BudgetOpening, StoreError> {
        self.store.open_budget(workspace, openings, through, now).await
    }

    async fn sweep(&self, now: Millis, budgets: &dyn LiveBudgets) -> Result<(), StoreError> {
        self.store.sweep(now, budgets).await
    }

    async fn health(&self) -> Result<CounterHealth, StoreError> {
        self.store.health().await
    }

    fn losses(&self) -> u64 {
        self.store.losses()
    }

    async fn checkpoint(&self, clean: bool) -> Result<(), StoreError> {
        self.store.checkpoint(clean).await
    }

    async fn recovered_through(&self) -> Result<Position, StoreError> {
        self.store.recovered_through().await
    }
}
