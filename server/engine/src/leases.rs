//! Leases: decisions by units that this replica has taken in advance from the shared counters.
//!
//! A call that takes of rules marked LEASED finds their units here, without a round trip. What is not here
//! goes, with everything that is STRICT, into the one decision of the shared store. Units are asked for
//! ahead of use, as many as the rate seen needs for a short while, and go back when nobody wants them. What
//! they may be spent for, and until when, is the core's ([`rateguard_core::lease`]).

mod attempt;
mod exchange;
mod local;
mod rate;
mod table;

use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::join_all;
use hashbrown::{DefaultHashBuilder, HashMap};
use rateguard_core::counter::{Demand, Reading};
use rateguard_core::decision::{Charge, Mode, Verdict};
use rateguard_core::ids::WorkspaceId;
use rateguard_core::lease::LeaseReturn;
use rateguard_core::rule::Enforcement;
use rateguard_core::time::Millis;
use smallvec::SmallVec;
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;

use self::attempt::Attempt;
use self::exchange::{Queues, by_place};
use self::local::Local;
use self::table::{PARTS, Table};
use crate::clock::Clock;
use crate::gate::Gate;
use crate::ports::{
    CheckCommand, CheckOutcome, CounterQuery, CounterStore, Decided, RequestFingerprint, StoreError,
};
use crate::request_ids::{Remembered, RequestIds};

/// Memory for the ids of calls that were decided here.
const REQUEST_IDS_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Memory for the ids of calls of which nobody knows whether they were decided.
const UNSURE_IDS_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Parts of the table in which what is wanted is looked through at once: the whole of it in two turns.
const TENDED_PARTS: usize = PARTS / 2;
/// Parts in which everything else is: it only waits for its end, and there may be a hundred thousand of it.
const TENDED_AT_REST_PARTS: usize = 2;
/// Longest wait at the stop for what is given back.
const CLOSE_MAX: Duration = Duration::from_secs(2);

/// Which of a command's charges are leased.
pub type Leased = SmallVec<[bool; 8]>;

/// What leases have done since the process began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaseFigures {
    /// Checks decided here, denials included.
    pub decided_here: u64,
    /// Of these, denials by what the shared counter had denied a moment before.
    pub denied_here: u64,
    /// Checks with a leased rule that the shared store had to decide.
    pub decided_by_store: u64,
    /// Questions to the shared store for leases, each for many counters.
    pub exchanges: u64,
    /// Units that were taken in advance.
    pub units_lent: u64,
    /// Units that went back unused.
    pub units_returned: u64,
    /// Unused units that could not be given back.
    pub units_forfeited: u64,
    /// Counters that something may be held of.
    pub counters: u64,
}

#[derive(Default)]
struct Counts {
    here: AtomicU64,
    denied: AtomicU64,
    by_store: AtomicU64,
    calls: AtomicU64,
    lent: AtomicU64,
    returned: AtomicU64,
    forfeited: AtomicU64,
}

/// The holder of leases of one replica.
pub struct Leases {
    gate: Arc<Gate>,
    clock: Arc<dyn Clock>,
    table: Table,
    queues: Queues,
    workers: TaskTracker,
    ids: RequestIds,
    unsure: RequestIds,
    /// Keeps the ids of one workspace apart from those of another.
    salt: DefaultHashBuilder,
    counts: Counts,
    tended: AtomicUsize,
    is_closed: AtomicBool,
}

impl Leases {
    /// A holder that has nothing yet, over shared counters whose every call has this deadline.
    pub fn new(store: Arc<dyn CounterStore>, clock: Arc<dyn Clock>, deadline: Duration) -> Arc<Self> {
        Self::through(Arc::new(Gate::new(store, clock.clone(), deadline)), clock)
    }

    /// The same by a way to the counters that is there already.
    pub(crate) fn through(gate: Arc<Gate>, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            gate,
            clock,
            table: Table::default(),
            queues: Queues::default(),
            workers: TaskTracker::new(),
            ids: RequestIds::new(REQUEST_IDS_BYTES_MAX),
            unsure: RequestIds::new(UNSURE_IDS_BYTES_MAX),
            salt: DefaultHashBuilder::default(),
            counts: Counts::default(),
            tended: AtomicUsize::new(0),
            is_closed: AtomicBool::new(false),
        })
    }

    /// Decides a check of which some charges are leased. Where counters are this process's own, a lease
    /// would be a detour.
    ///
    /// # Errors
    /// Those of the store. After [`StoreError::OutcomeUnknown`] what was spent here stays spent.
    pub async fn check(
        self: &Arc<Self>,
        command: &CheckCommand,
        leased: &Leased,
    ) -> Result<CheckOutcome, StoreError> {
        if !leased.contains(&true) || self.is_closed() || !self.gate.is_guarded() {
            return self.gate.check(command).await;
        }
        // On the heap, since every check's own state would be as large as this otherwise, and is moved.
        match command.mode {
            Mode::Consume => Box::pin(self.consume(command, leased)).await,
            Mode::Peek => Box::pin(self.peek(command, leased)).await,
            Mode::Reserve => Box::pin(self.by_store(command, leased)).await,
        }
    }

    /// What was decided here for the same id, in the terms of [`CounterStore::recall`].
    ///
    /// # Errors
    /// Those of the store, which is asked how limits stand that nothing is held of.
    pub async fn recall(&self, command: &CheckCommand) -> Result<Option<CheckOutcome>, StoreError> {
        let Some(request) = self.fingerprint(command) else { return Ok(None) };
        let Some(known) = self.ids.recall(request.id, command.now) else { return Ok(None) };
        if known.content != request.content {
            return Ok(Some(CheckOutcome::ContentDiffers));
        }
        let now = Instant::now();
        let here = |charge: &Charge| self.table.get(charge.counter)?.peek(Demand::take(0), now);
        let readings: Option<SmallVec<[Reading; 8]>> = command.charges.iter().map(here).collect();
        let readings = match readings {
            Some(readings) => readings,
            None => self.read_shared(command).await?,
        };
        Ok(Some(decided(true, readings, true)))
    }

    async fn read_shared(&self, command: &CheckCommand) -> Result<SmallVec<[Reading; 8]>, StoreError> {
        let query = |charge: &Charge| {
            let Charge { counter, overflow, limit, .. } = *charge;
            CounterQuery { counter, overflow, limit }
        };
        let queries: Vec<CounterQuery> = command.charges.iter().map(query).collect();
        let mut readings = self.gate.read(&command.workspace, &queries, command.now).await?;
        self.add_held(&queries, &SmallVec::from_elem(true, queries.len()), &mut readings);
        Ok(readings.into())
    }

    /// Counts what is held here as left, in readings of the shared counters.
    pub fn add_held(&self, queries: &[CounterQuery], leased: &Leased, readings: &mut [Reading]) {
        let now = Instant::now();
        for ((query, reading), _) in queries.iter().zip(readings).zip(leased).filter(|(_, leased)| **leased) {
            if let Some(local) = self.table.get(query.counter) {
                *reading = reading.shifted(&query.limit, -local.units_held(now));
            }
        }
    }

    /// Gives back what is held in vain, a part of all at a time.
    pub fn tend(self: &Arc<Self>, now: Millis) {
        let from = self.tended.fetch_add(TENDED_PARTS, Ordering::Relaxed);
        let mut returns: HashMap<WorkspaceId, Vec<LeaseReturn>> = HashMap::new();
        let instant = Instant::now();
        let mut tend = |local: &Local| {
            let mut ended = Vec::new();
            let is_idle = local.tend(instant, &mut ended);
            if !ended.is_empty() {
                returns.entry(local.workspace.clone()).or_default().append(&mut ended);
            }
            is_idle
        };
        for part in from..from + TENDED_PARTS {
            self.table.tend_wanted(part, |local| {
                tend(local);
            });
        }
        let at_rest = from / TENDED_PARTS * TENDED_AT_REST_PARTS;
        for part in at_rest..at_rest + TENDED_AT_REST_PARTS {
            self.table.tend(part, &mut tend);
        }
        for (workspace, ended) in returns {
            self.give_back(&workspace, ended);
        }
        self.ids.sweep(now);
        self.unsure.sweep(now);
    }

    /// Gives everything back. From here on the shared store decides.
    pub async fn close(self: &Arc<Self>) {
        self.is_closed.store(true, Ordering::Release);
        let ending = async {
            // What is on its way arrives first, to go back with the rest.
            self.workers.close();
            self.workers.wait().await;
            let now = Instant::now();
            for part in 0..PARTS {
                self.table.tend(part, |local| {
                    let mut ended = Vec::new();
                    local.give_all_back(now, &mut ended);
                    self.give_back(&local.workspace, ended);
                    false
                });
            }
            self.workers.wait().await;
        };
        if timeout(CLOSE_MAX, ending).await.is_err() {
            tracing::warn!("leases could not be given back in time: they count as spent until they end");
        }
    }

    /// What leases have done so far.
    pub fn figures(&self) -> LeaseFigures {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        LeaseFigures {
            decided_here: of(&self.counts.here),
            denied_here: of(&self.counts.denied),
            decided_by_store: of(&self.counts.by_store),
            exchanges: of(&self.counts.calls),
            units_lent: of(&self.counts.lent),
            units_returned: of(&self.counts.returned),
            units_forfeited: of(&self.counts.forfeited),
            counters: self.table.len() as u64,
        }
    }

    fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    async fn consume(
        self: &Arc<Self>,
        command: &CheckCommand,
        leased: &Leased,
    ) -> Result<CheckOutcome, StoreError> {
        let is_whole = !leased.contains(&false);
        if is_whole && let Some(repeated) = self.recall(command).await? {
            return Ok(repeated);
        }
        if is_whole && self.is_unsure(command) {
            return self.by_store(command, leased).await;
        }
        let mut attempt = Attempt::begin(self, command, leased);
        if is_whole && attempt.wait_for_leases(self).await {
            attempt = Attempt::begin(self, command, leased);
        }
        if is_whole && let Some(outcome) = attempt.decided_here() {
            self.count_here(&outcome);
            self.remember(command, &outcome);
            return Ok(outcome);
        }
        let outcome = attempt.decide_with_rest(self, command).await;
        match &outcome {
            Ok(outcome) if is_whole => self.remember(command, outcome),
            Err(StoreError::OutcomeUnknown { .. }) if is_whole => self.remember_unsure(command),
            _ => {}
        }
        outcome
    }

    /// What nobody takes is decided by what is here and by what the shared counters say.
    async fn peek(&self, command: &CheckCommand, leased: &Leased) -> Result<CheckOutcome, StoreError> {
        let now = Instant::now();
        let here = |charge: &Charge| self.table.get(charge.counter)?.peek(charge.demand, now);
        let readings: Option<SmallVec<[Reading; 8]>> = command
            .charges
            .iter()
            .zip(leased)
            .map(|(charge, leased)| here(charge).filter(|_| *leased))
            .collect();
        if let Some(readings) = readings {
            self.counts.here.fetch_add(1, Ordering::Relaxed);
            return Ok(decided(true, readings, false));
        }
        let mut outcome = self.gate.check(command).await?;
        if let CheckOutcome::Decided(decided) = &mut outcome {
            self.add_held_to(&mut decided.verdict, command, leased, now);
        }
        Ok(outcome)
    }

    /// The shared store decides all of it. It is not denied for what is held here in vain.
    pub(super) async fn by_store(
        self: &Arc<Self>,
        command: &CheckCommand,
        leased: &Leased,
    ) -> Result<CheckOutcome, StoreError> {
        self.counts.by_store.fetch_add(1, Ordering::Relaxed);
        let mut outcome = self.gate.check(command).await?;
        if self.free_for(command, leased, &outcome).await {
            // The denial may have taken several steps, and undone the attempt in some.
            outcome = self.gate.check(&command.next_attempt()).await?;
        }
        let now = Instant::now();
        if let CheckOutcome::Decided(decided) = &mut outcome {
            let parts = command.charges.iter().zip(leased).zip(&decided.verdict.readings);
            for ((charge, _), reading) in parts.filter(|((_, leased), _)| **leased) {
                if let Some(local) = self.table.get(charge.counter) {
                    local.see(reading, charge.demand.need, now);
                }
            }
            self.add_held_to(&mut decided.verdict, command, leased, now);
        }
        Ok(outcome)
    }

    /// Gives back what is held of limits that denied, where the call would pass with it. Says whether that
    /// was done.
    async fn free_for(
        self: &Arc<Self>,
        command: &CheckCommand,
        leased: &Leased,
        outcome: &CheckOutcome,
    ) -> bool {
        let CheckOutcome::Decided(Decided { verdict, .. }) = outcome else { return false };
        if verdict.allowed {
            return false;
        }
        let now = Instant::now();
        let mut held: SmallVec<[Arc<Local>; 2]> = SmallVec::new();
        let parts = command.charges.iter().zip(leased).zip(&verdict.readings);
        for ((charge, leased), reading) in parts {
            if reading.denied.is_none() || charge.enforcement != Enforcement::Enforced {
                continue;
            }
            let Some(local) = self.table.get(charge.counter).filter(|_| *leased) else { return false };
            if reading.remaining.saturating_add(local.units_held(now)) < charge.demand.need {
                return false;
            }
            held.push(local);
        }
        let mut returns = Vec::new();
        for local in held {
            local.give_all_back(now, &mut returns);
        }
        if returns.is_empty() {
            return false;
        }
        // In a task of its own: what was taken out here must arrive there, also where the caller is gone.
        let (leases, workspace) = (self.clone(), command.workspace.clone());
        let giving_back = async move {
            let told = by_place(&workspace, returns).into_iter().map(|(place, returns)| {
                let leases = leases.clone();
                async move { leases.exchange(&place, &[], returns).await }
            });
            join_all(told).await.into_iter().all(|is_told| is_told)
        };
        self.workers.spawn(giving_back).await.unwrap_or(false)
    }

    /// A reading of the shared counter leaves out what is held here. Whoever was denied for that is not
    /// denied.
    fn add_held_to(&self, verdict: &mut Verdict, command: &CheckCommand, leased: &Leased, now: Instant) {
        let parts = command.charges.iter().zip(leased).zip(&mut verdict.readings);
        for ((charge, _), reading) in parts.filter(|((_, leased), _)| **leased) {
            let Some(local) = self.table.get(charge.counter) else { continue };
            *reading = reading.shifted(&charge.limit, -local.units_held(now));
            if command.mode == Mode::Peek && reading.remaining >= charge.demand.need {
                reading.denied = None;
            }
        }
        if command.mode == Mode::Peek {
            verdict.allowed = allows(&command.charges, &verdict.readings);
        }
    }

    fn count_here(&self, outcome: &CheckOutcome) {
        self.counts.here.fetch_add(1, Ordering::Relaxed);
        if matches!(outcome, CheckOutcome::Decided(decided) if !decided.verdict.allowed) {
            self.counts.denied.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn remember(&self, command: &CheckCommand, outcome: &CheckOutcome) {
        let allowed = matches!(outcome, CheckOutcome::Decided(decided) if decided.verdict.allowed);
        if let Some(request) = self.fingerprint(command).filter(|_| allowed) {
            let decision = Remembered::new(request.content, request.expires_at, None);
            self.ids.remember(request.id, decision, command.now);
        }
    }

    /// A call that may have been decided is the shared store's from then on, which knows.
    fn remember_unsure(&self, command: &CheckCommand) {
        if let Some(request) = self.fingerprint(command) {
            let decision = Remembered::new(request.content, request.expires_at, None);
            self.unsure.remember(request.id, decision, command.now);
        }
    }

    fn is_unsure(&self, command: &CheckCommand) -> bool {
        let known = |request: RequestFingerprint| self.unsure.recall(request.id, command.now);
        self.fingerprint(command).and_then(known).is_some()
    }

    fn fingerprint(&self, command: &CheckCommand) -> Option<RequestFingerprint> {
        let request = command.request.filter(|_| command.mode == Mode::Consume)?;
        let half = |n: u8| u128::from(self.salt.hash_one((n, &command.workspace)));
        Some(RequestFingerprint { id: request.id ^ (half(0) << 64 | half(1)), ..request })
    }
}

fn decided(allowed: bool, readings: SmallVec<[Reading; 8]>, replayed: bool) -> CheckOutcome {
    let marks = SmallVec::from_elem(None, readings.len());
    let verdict = Verdict { allowed, readings, marks };
    CheckOutcome::Decided(Decided { verdict, reservation: None, reserved: None, replayed })
}

fn allows(charges: &[Charge], readings: &[Reading]) -> bool {
    let denies = |(charge, reading): (&Charge, &Reading)| {
        reading.denied.is_some() && charge.enforcement == Enforcement::Enforced
    };
    !charges.iter().zip(readings).any(denies)
}

#[cfg(test)]
mod tests;
