//! The store of counters as one replica reaches it.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use parking_lot::Mutex;
use rateguard_core::counter::{CounterFamily, Position, Reading};
use rateguard_core::ids::{ReservationId, WorkspaceId};
use rateguard_core::lease::LeaseOutcome;
use rateguard_core::reservation::Reservation;
use rateguard_core::time::Millis;
use rateguard_engine::ports::{
    BudgetOpening, CancelOutcome, CheckCommand, CheckOutcome, CounterHealth, CounterQuery, CounterStore,
    ExpiredReservation, LeaseCommand, LiveBudgets, Principal, ReleaseOutcome, RenewOutcome, ResetCounters,
    SettleCharge, SettleCommand, Slot, SlotClaim, SlotHolder, StoreError,
};

use super::CounterServer;
use crate::network::{Link, Nature, Work};
use crate::steps::Step;

/// The store as one replica reaches it.
pub struct LinkedCounters {
    link: Link,
    server: Arc<CounterServer>,
    /// Records that were sent, and of which nothing was heard.
    unheard: Mutex<BTreeSet<Position>>,
}

impl LinkedCounters {
    /// The store over a way.
    pub fn over(link: Link, server: Arc<CounterServer>) -> Self {
        Self { link, server, unheard: Mutex::default() }
    }

    fn replica(&self) -> usize {
        self.link.life.replica
    }

    /// The same command with an id of the run's own chance, so that the same seed gives the same ids.
    fn with_drawn_id(&self, command: &CheckCommand) -> CheckCommand {
        let mut command = command.clone();
        if let Some(reservation) = &mut command.reservation {
            let bytes = self.link.life.world().dice.bytes();
            reservation.id = reservation.principal.reservation_id(bytes, None);
        }
        command
    }

    async fn ask<T, F>(
        &self,
        nature: Nature,
        work: impl Fn(Arc<CounterServer>) -> F + Send + Sync + 'static,
    ) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        let server = self.server.clone();
        let work: Work<T> = Arc::new(move || Box::pin(work(server.clone())));
        self.link.ask(nature, work).await
    }

    fn tell(&self, step: Option<Step>) {
        step.iter().for_each(|step| self.link.life.world().record(step));
    }

    /// Notes which records were heard of, and which not.
    fn note(&self, positions: &[Position], heard: bool) {
        let mut unheard = self.unheard.lock();
        for position in positions {
            if heard {
                unheard.remove(position);
            } else {
                unheard.insert(*position);
            }
        }
    }
}

#[async_trait]
impl CounterStore for LinkedCounters {
    async fn check(&self, command: &CheckCommand) -> Result<CheckOutcome, StoreError> {
        let (replica, command) = (self.replica(), self.with_drawn_id(command));
        let nature = if command.request.is_some() { Nature::Repeatable } else { Nature::Single };
        let attempt = command.request.and_then(|request| Some((request.id, request.attempt?)));
        self.tell(attempt.map(|attempt| Step::Sent(attempt, self.link.life.number)));
        let work = move |server: Arc<CounterServer>| {
            let command = command.clone();
            async move { server.check(replica, command).await }
        };
        let outcome = self.ask(nature, work).await;
        self.tell(attempt.filter(|_| outcome.is_ok()).map(Step::Heard));
        outcome
    }

    async fn cancel(&self, command: &CheckCommand, _: Millis) -> Result<CancelOutcome, StoreError> {
        let (replica, command) = (self.replica(), command.clone());
        let work = move |server: Arc<CounterServer>| {
            let command = command.clone();
            async move { server.cancel(replica, command).await }
        };
        self.ask(Nature::Repeatable, work).await
    }

    async fn recall(&self, command: &CheckCommand) -> Result<Option<CheckOutcome>, StoreError> {
        let (replica, command) = (self.replica(), command.clone());
        let work = move |server: Arc<CounterServer>| {
            let command = command.clone();
            async move { server.recall(replica, command).await }
        };
        self.ask(Nature::Read, work).await
    }

    async fn read(
        &self,
        _: &WorkspaceId,
        counters: &[CounterQuery],
        _: Millis,
    ) -> Result<Vec<Reading>, StoreError> {
        let queries = Arc::new(counters.to_vec());
        let work = move |server: Arc<CounterServer>| {
            let queries = queries.clone();
            async move { server.read(&queries).await }
        };
        self.ask(Nature::Read, work).await
    }

    async fn lease(&self, command: &LeaseCommand) -> Result<Vec<LeaseOutcome>, StoreError> {
        let (replica, command) = (self.replica(), Arc::new(command.clone()));
        let work = move |server: Arc<CounterServer>| {
            let command = command.clone();
            async move { server.lease(replica, &command).await }
        };
        self.ask(Nature::Single, work).await
    }

    async fn reservation(
        &self,
        _: &WorkspaceId,
        id: &ReservationId,
    ) -> Result<Option<Reservation>, StoreError> {
        let id = id.clone();
        let work = move |server: Arc<CounterServer>| {
            let id = id.clone();
            async move { server.reservation(&id).await }
        };
        self.ask(Nature::Read, work).await
    }

    async fn settle(&self, commands: Vec<SettleCommand>) -> Result<(), StoreError> {
        let positions: Vec<Position> = commands.iter().map(|command| command.position).collect();
        let sent_before = positions.iter().any(|position| self.unheard.lock().contains(position));
        let (replica, arrived) = (self.replica(), Arc::new(AtomicBool::new(sent_before)));
        let work = move |server: Arc<CounterServer>| {
            let (commands, again) = (commands.clone(), arrived.swap(true, Ordering::SeqCst));
            async move { server.settle(replica, commands, again).await }
        };
        let settled = self.ask(Nature::Repeatable, work).await;
        self.note(&positions, settled.is_ok());
        settled
    }

    async fn release(
        &self,
        _: &WorkspaceId,
        id: &ReservationId,
        principal: &Principal,
        _: Millis,
    ) -> Result<ReleaseOutcome, StoreError> {
        let (replica, id, principal) = (self.replica(), id.clone(), principal.clone());
        let work = move |server: Arc<CounterServer>| {
            let (id, principal) = (id.clone(), principal.clone());
            async move { server.release(replica, id, &principal).await }
        };
        self.ask(Nature::Repeatable, work).await
    }

    async fn renew(
        &self,
        _: &WorkspaceId,
        id: &ReservationId,
        principal: &Principal,
        expires_at: Millis,
        now: Millis,
    ) -> Result<RenewOutcome, StoreError> {
        let (replica, id, principal) = (self.replica(), id.clone(), principal.clone());
        let ttl_ms = expires_at.since(now);
        let work = move |server: Arc<CounterServer>| {
            let (id, principal) = (id.clone(), principal.clone());
            async move { server.renew(replica, id, &principal, ttl_ms).await }
        };
        self.ask(Nature::Repeatable, work).await
    }

    async fn reset(&self, _: &WorkspaceId, counters: ResetCounters, _: Millis) -> Result<u64, StoreError> {
        let replica = self.replica();
        let work = move |server: Arc<CounterServer>| async move { server.reset(replica, counters).await };
        self.ask(Nature::Repeatable, work).await
    }

    async fn hold_slot(&self, claim: &SlotClaim) -> Result<Option<Slot>, StoreError> {
        let claim = *claim;
        let work = move |server: Arc<CounterServer>| async move { server.hold_slot(&claim).await };
        self.ask(Nature::Repeatable, work).await
    }

    async fn free_slot(&self, holder: SlotHolder, number: u16) -> Result<(), StoreError> {
        let work = move |server: Arc<CounterServer>| async move { server.free_slot(holder, number).await };
        self.ask(Nature::Repeatable, work).await
    }

    async fn expire_due(&self, _: Millis, limit: usize) -> Result<Vec<ExpiredReservation>, StoreError> {
        let replica = self.replica();
        let work = move |server: Arc<CounterServer>| async move { server.expire_due(replica, limit).await };
        self.ask(Nature::Repeatable, work).await
    }

    async fn open_budget(
        &self,
        _: &WorkspaceId,
        openings: Vec<SettleCharge>,
        through: Position,
        _: Millis,
    ) -> Result<BudgetOpening, StoreError> {
        let work = move |server: Arc<CounterServer>| {
            let openings = openings.clone();
            async move { server.open_budget(openings, through).await }
        };
        self.ask(Nature::Repeatable, work).await
    }

    async fn sweep(&self, _: Millis, budgets: &dyn LiveBudgets) -> Result<(), StoreError> {
        let (replica, living) = (self.replica(), Living(budgets.families(self.server.workspace())));
        let living = Arc::new(living);
        let work = move |server: Arc<CounterServer>| {
            let living = living.clone();
            async move { server.sweep(replica, living.as_ref()).await }
        };
        self.ask(Nature::Repeatable, work).await
    }

    async fn health(&self) -> Result<CounterHealth, StoreError> {
        Ok(CounterHealth::default())
    }

    async fn checkpoint(&self, _: bool) -> Result<(), StoreError> {
        Ok(())
    }

    async fn recovered_through(&self) -> Result<Position, StoreError> {
        let work = |server: Arc<CounterServer>| async move { Ok(server.settled_through().await) };
        self.ask(Nature::Read, work).await
    }

    fn is_shared(&self) -> bool {
        true
    }
}

/// The budgets that there were when a sweep was sent.
struct Living(Option<Arc<HashSet<CounterFamily>>>);

impl LiveBudgets for Living {
    fn families(&self, _: &WorkspaceId) -> Option<Arc<HashSet<CounterFamily>>> {
        self.0.clone()
    }
}
