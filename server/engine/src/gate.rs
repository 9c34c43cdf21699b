//! The way of a check to the counters. Counters that other processes share are elsewhere and may be away:
//! every call of them has a deadline, calls are refused while they do not answer, and a check whose outcome
//! nobody knows is undone. Counters in this process are called as they are.

mod breaker;
mod cancels;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use rateguard_core::counter::{CounterId, Reading, Shard};
use rateguard_core::decision::Mode;
use rateguard_core::ids::{ReservationId, WorkspaceId};
use rateguard_core::lease::LeaseOutcome;
use rateguard_core::time::Millis;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use self::breaker::{Breaker, Change};
pub use self::cancels::CancelFigures;
use self::cancels::{Cancels, Due};
use crate::clock::Clock;
use crate::deadline;
use crate::ports::{
    CheckCommand, CheckOutcome, CounterQuery, CounterStore, LeaseCommand, Principal, ReleaseOutcome,
    RenewOutcome, StoreError,
};

/// Longest wait for shared counters, by default: a multiple of what they take, and little for a caller.
pub const COUNTERS_DEADLINE: Duration = Duration::from_millis(20);
/// By how much the gate waits longer than a store with a deadline of its own, which knows better what was
/// done and what was not.
/// The store's own wait may go on for [`LATE_MAX`](deadline::LATE_MAX).
pub const COUNTERS_DEADLINE_GRACE: Duration = Duration::from_millis(15);
/// The name by which errors know the store.
const STORE: &str = "counter";
/// Cancels that are under way at once.
const CANCELS_AT_ONCE: usize = 16;
/// Cancels that are tried between two pauses, where a part of the store is away: refused calls cost little, and what
/// waits for another part is not to wait behind them.
const CANCELS_A_TURN: usize = 1_024;
/// Between two tries of cancels while the counters do not answer.
const CANCEL_PAUSE: Duration = Duration::from_millis(100);
/// Longest wait at the stop for cancels that are left.
const LAST_CANCELS_MAX: Duration = Duration::from_secs(1);

/// The way to the counters.
pub(crate) struct Gate {
    counters: Arc<dyn CounterStore>,
    clock: Arc<dyn Clock>,
    /// `None` where counters are in this process.
    guard: Option<Guard>,
}

/// A workspace, and the shard of it that a call asks first.
type Place<'w> = (&'w WorkspaceId, Option<Shard>);

fn place_of(command: &CheckCommand) -> Place<'_> {
    (&command.workspace, command.charges.iter().find_map(|charge| charge.counter.shard()))
}

/// What stands before shared counters.
struct Guard {
    deadline: Duration,
    /// One for each part of the store, so that one that is away closes nobody else's.
    breakers: Box<[Breaker]>,
    cancels: Cancels,
}

/// An answer is due after this part of the deadline: a caller that leaves later has waited in vain. One that leaves
/// before says nothing of the counters, or whoever hangs up at once could let them count as away.
const DUE_PART: u32 = 2;

/// Whether an error means that nothing was done.
pub(crate) fn is_surely_not_done(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::Unavailable { .. } | StoreError::AttemptRefused { .. } | StoreError::Full { .. }
    )
}

impl Gate {
    pub(crate) fn new(counters: Arc<dyn CounterStore>, clock: Arc<dyn Clock>, deadline: Duration) -> Self {
        let guard = || Guard::new(deadline, counters.parts(), &clock);
        let guard = counters.is_shared().then(guard);
        Self { counters, clock, guard }
    }

    /// Whether counters are elsewhere, so that rules decide by their failure policies while they are away.
    pub(crate) fn is_guarded(&self) -> bool {
        self.guard.is_some()
    }

    /// The counters where they are this process's own, and need no guard.
    pub(crate) fn own_counters(&self) -> Option<&dyn CounterStore> {
        self.guard.is_none().then_some(&*self.counters)
    }

    /// As [`CounterStore::check`]. One whose outcome is not known is undone.
    pub(crate) async fn check(&self, command: &CheckCommand) -> Result<CheckOutcome, StoreError> {
        self.attempt(command, self.counters.check(command)).await
    }

    /// As [`CounterStore::recall`]. One whose outcome is not known is undone, too: an attempt that counts as answered
    /// would keep others from being undone.
    pub(crate) async fn recall(&self, command: &CheckCommand) -> Result<Option<CheckOutcome>, StoreError> {
        self.attempt(command, self.counters.recall(command)).await
    }

    async fn attempt<T>(
        &self,
        command: &CheckCommand,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let Some(guard) = &self.guard else { return call.await };
        let mut unheard = Unheard { cancels: &guard.cancels, command, is_unknown: true };
        let outcome = guard.pass(self.part_of(place_of(command)), call).await;
        unheard.is_unknown = matches!(outcome, Err(StoreError::OutcomeUnknown { .. }));
        outcome
    }

    /// As [`CounterStore::read`].
    pub(crate) async fn read(
        &self,
        workspace: &WorkspaceId,
        queries: &[CounterQuery],
        now: Millis,
    ) -> Result<Vec<Reading>, StoreError> {
        let shard = queries.first().and_then(|query| query.counter.shard());
        self.pass((workspace, shard), self.counters.read(workspace, queries, now)).await
    }

    /// As [`CounterStore::release`]; again gives the same answer.
    pub(crate) async fn release(
        &self,
        workspace: &WorkspaceId,
        id: &ReservationId,
        principal: &Principal,
        now: Millis,
    ) -> Result<ReleaseOutcome, StoreError> {
        self.pass((workspace, None), self.counters.release(workspace, id, principal, now)).await
    }

    /// As [`CounterStore::renew`]; again gives the same answer.
    pub(crate) async fn renew(
        &self,
        workspace: &WorkspaceId,
        id: &ReservationId,
        principal: &Principal,
        expires_at: Millis,
        now: Millis,
    ) -> Result<RenewOutcome, StoreError> {
        let renewal = self.counters.renew(workspace, id, principal, expires_at, now);
        self.pass((workspace, None), renewal).await
    }

    /// As [`CounterStore::lease`].
    pub(crate) async fn lease(&self, command: &LeaseCommand) -> Result<Vec<LeaseOutcome>, StoreError> {
        let asked = command.requests.iter().map(|request| request.counter);
        let counter = asked.chain(command.returns.iter().map(|returned| returned.counter)).next();
        let shard = counter.and_then(CounterId::shard);
        self.pass((&command.workspace, shard), self.counters.lease(command)).await
    }

    /// After how long it may be tried again whether the counters answer.
    pub(crate) fn refuses_for(&self, command: &CheckCommand) -> Duration {
        let part = self.part_of(place_of(command));
        self.guard.as_ref().map_or(Duration::ZERO, |guard| guard.breakers[part].refuses_for())
    }

    /// Checks that were to be undone so far.
    pub(crate) fn cancel_figures(&self) -> CancelFigures {
        self.guard.as_ref().map(|guard| guard.cancels.figures()).unwrap_or_default()
    }

    /// Undoes checks whose outcome is not known, until it is stopped; then what is left for a while.
    pub(crate) async fn undo(&self, stop: &CancellationToken) {
        let Some(guard) = &self.guard else { return };
        let endless = async {
            loop {
                guard.cancels.arrived.notified().await;
                self.undo_waiting(guard).await;
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = endless => {}
        }
        if timeout(LAST_CANCELS_MAX, self.undo_waiting(guard)).await.is_err() {
            guard.cancels.give_all_up();
        }
    }

    /// Tries all that wait until they are done.
    async fn undo_waiting(&self, guard: &Guard) {
        while !guard.cancels.is_empty() {
            if !self.undo_turn(guard).await {
                sleep(self.clock.spread(CANCEL_PAUSE)).await;
            }
        }
    }

    /// Tries each that waits now once, or many of them; says whether all of these were done.
    async fn undo_turn(&self, guard: &Guard) -> bool {
        let (mut left, mut all_done) = (guard.cancels.len().min(CANCELS_A_TURN), true);
        while left > 0 {
            let count = left.min(CANCELS_AT_ONCE);
            all_done &= self.undo_some(guard, count).await;
            left -= count;
        }
        all_done
    }

    /// Tries so many of them; says whether all of these were done, or cannot be.
    async fn undo_some(&self, guard: &Guard, count: usize) -> bool {
        let now = self.clock.now();
        // Dropped in the middle it loses none.
        let mut taken = Taken { cancels: &guard.cancels, due: guard.cancels.take(count) };
        let tries = taken
            .due
            .iter()
            .map(|due| (self.part_of(place_of(&due.command)), self.counters.cancel(&due.command, now)))
            .map(|(part, cancel)| guard.pass(part, cancel));
        let mut outcomes = join_all(tries).await.into_iter();
        taken.due.retain(|_| match outcomes.next() {
            None => true,
            Some(Err(error)) if error.is_away() => true,
            Some(outcome) => {
                guard.cancels.end(outcome);
                false
            }
        });
        taken.due.is_empty()
    }

    async fn pass<T>(
        &self,
        place: Place<'_>,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        match &self.guard {
            Some(guard) => guard.pass(self.part_of(place), call).await,
            None => call.await,
        }
    }

    fn part_of(&self, (workspace, shard): Place<'_>) -> usize {
        self.counters.part_of(workspace, shard)
    }
}

/// A check under way, to be undone where its outcome is not heard: also where whoever asked is gone before.
struct Unheard<'c> {
    cancels: &'c Cancels,
    command: &'c CheckCommand,
    is_unknown: bool,
}

impl Drop for Unheard<'_> {
    fn drop(&mut self) {
        if self.is_unknown && self.command.mode != Mode::Peek {
            self.cancels.queue(self.command);
        }
    }
}

/// Cancels under way; those that are left go back to the others.
struct Taken<'c> {
    cancels: &'c Cancels,
    due: Vec<Due>,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.cancels.put_back(std::mem::take(&mut self.due));
    }
}

impl Guard {
    fn new(deadline: Duration, parts: usize, clock: &Arc<dyn Clock>) -> Self {
        Self {
            deadline,
            breakers: (0..parts.max(1)).map(|_| Breaker::new(clock.clone())).collect(),
            cancels: Cancels::default(),
        }
    }

    /// Makes a call of a part under the deadline, or refuses it while this part's calls are not answered.
    async fn pass<T>(
        &self,
        part: usize,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let Some(pass) = self.breakers[part].enter(self.deadline / DUE_PART) else {
            let detail = "calls are refused while it does not answer".to_owned();
            return Err(StoreError::Unavailable { store: STORE, detail });
        };
        let outcome = deadline::by(Instant::now() + self.deadline, call).await.unwrap_or_else(|| {
            let detail = format!("no answer within {} ms", self.deadline.as_millis());
            Err(StoreError::OutcomeUnknown { store: STORE, detail })
        });
        let failure = outcome.as_ref().err().filter(|error| error.is_away());
        tell(pass.end(failure.is_none()), failure);
        outcome
    }
}

fn tell(change: Change, failure: Option<&StoreError>) {
    match (change, failure) {
        (Change::Opened, Some(error)) => {
            tracing::warn!(%error, "the counters do not answer: rules decide by their failure policies");
        }
        (Change::Closed, _) => tracing::info!("the counters answer again"),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::cancels::tests::command;
    use super::*;
    use crate::clock::ManualClock;
    use crate::testing::SharedCounters;

    /// More than open a breaker.
    const CALLS: usize = 8;

    fn workspace(number: u8) -> WorkspaceId {
        WorkspaceId::from_random([number; 16])
    }

    fn gate_of(counters: Arc<SharedCounters>) -> Gate {
        Gate::new(counters, Arc::new(ManualClock::at(Millis::ZERO)), COUNTERS_DEADLINE)
    }

    /// Workspaces that are in other parts than this one.
    fn elsewhere(gate: &Gate, hurt: &WorkspaceId) -> impl Iterator<Item = WorkspaceId> {
        let is_elsewhere = |other: &WorkspaceId| gate.part_of((other, None)) != gate.part_of((hurt, None));
        (1..=u8::MAX).map(workspace).filter(is_elsewhere)
    }

    #[tokio::test]
    async fn a_part_that_is_away_closes_no_other() {
        let gate = gate_of(Arc::default());
        let hurt = workspace(0);
        for _ in 0..CALLS {
            let away =
                async { Err::<(), _>(StoreError::Unavailable { store: STORE, detail: String::new() }) };
            assert!(gate.pass((&hurt, None), away).await.is_err());
        }
        let refused = gate.pass((&hurt, None), async { Ok(()) }).await;
        assert!(refused.is_err(), "it is refused without being asked");
        let others: Vec<WorkspaceId> = elsewhere(&gate, &hurt).collect();
        assert!(others.len() > usize::from(u8::MAX) / 2, "only {} are elsewhere", others.len());
        for other in &others {
            assert!(gate.pass((other, None), async { Ok(()) }).await.is_ok());
        }
        let hurt_part = gate.part_of((&hurt, None));
        let open = Shard::all().filter(|shard| gate.part_of((&hurt, Some(*shard))) != hurt_part);
        assert!(open.count() > Shard::all().count() / 2, "its shards have ways of their own");
    }

    #[tokio::test(start_paused = true)]
    async fn cancels_of_a_part_that_is_away_keep_no_others_waiting() {
        let counters = Arc::new(SharedCounters::default());
        let gate = gate_of(counters.clone());
        let guard = gate.guard.as_ref().unwrap();
        let hurt = workspace(0);
        counters.take_away(hurt.clone());
        let other = elsewhere(&gate, &hurt).next().expect("they are not all in one part");
        let waiting = 4 * CANCELS_AT_ONCE;
        for id in 0..waiting {
            guard.cancels.queue(&command(hurt.clone(), id as u128));
        }
        guard.cancels.queue(&command(other, waiting as u128));
        assert!(!gate.undo_turn(guard).await, "it is not all done");
        let queued = waiting as u64 + 1;
        assert_eq!(gate.cancel_figures(), CancelFigures { queued, done: 1, dropped: 0 });
        assert_eq!(guard.cancels.len(), waiting);
    }
}
