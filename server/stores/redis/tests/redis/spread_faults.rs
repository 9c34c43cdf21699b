//! Rules that are spread, on roads on which calls and answers get lost: never is more than a limit admitted,
//! what was answered as allowed stands, and what was not leaves nothing behind.
//!
//! A seed decides everything. A failure names it, and `RATEGUARD_SPREAD_SEED` replays it; `RATEGUARD_SPREAD_SEEDS` says
//! how many there are.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures::future::join_all;
use parking_lot::Mutex;
use rateguard_core::counter::{CounterId, Demand};
use rateguard_core::decision::{Charge, Mode};
use rateguard_core::ids::ReservationId;
use rateguard_core::lease::{Lease, LeaseRequest, LeaseReturn};
use rateguard_core::reservation::ReservationState;
use rateguard_core::time::Millis;
use rateguard_engine::ports::{
    Attempt, CancelOutcome, CheckCommand, CheckOutcome, CounterQuery, Decided, LeaseCommand, ReleaseOutcome,
    RenewOutcome, RequestFingerprint, StoreError,
};
use rateguard_store_memory::{MemoryCounterStore, MemoryCounterStoreConfig};
use rateguard_store_redis::SpreadCounterStore;
use rateguard_store_suite::counter_store::world::{
    Ask, Caller, RESERVATION_MS, Report, a_minute, any_minute, ask, at, request,
};
use smallvec::SmallVec;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::error::Elapsed;
use tokio::time::{Instant, sleep, timeout};

use crate::differential::number_of;
use crate::dump::Rows;
use crate::roads::{Fate, LATE_MS_MAX, Roads};
use crate::wishes::Dice;

/// Runs of each kind, where nobody asks for more.
const SEEDS: u64 = 150;
/// As long as a replica waits for its counters.
const DEADLINE: Duration = Duration::from_millis(20);
/// Between two tries of what has to be done in the end.
const PAUSE: Duration = Duration::from_millis(10);
/// Callers at once.
const CALLERS: u64 = 4;
/// Calls of each of them.
const CALLS: u64 = 25;
/// Most attempts of a caller at one call.
const ATTEMPTS_MAX: u64 = 3;
/// The most that one call takes of a limit.
const AMOUNT_MAX: u64 = 3;
const SUBJECTS: [&str; 2] = ["alice", "bob"];
/// Exchanges of leases of one run, all within one window.
const EXCHANGES: u64 = 60;
/// What leases are taken of.
const LENT_LIMIT: i64 = 300;
/// The most that is asked for at once.
const LEASED_MAX: u64 = 40;

fn seeds() -> Range<u64> {
    match number_of("RATEGUARD_SPREAD_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number_of("RATEGUARD_SPREAD_SEEDS").unwrap_or(SEEDS),
    }
}

/// Whether there were so many runs that all of them together must have seen everything.
fn are_many(seeds: &Range<u64>) -> bool {
    seeds.end - seeds.start >= SEEDS
}

/// A store behind bad roads, and who calls it.
struct Scene {
    seed: u64,
    began: Instant,
    roads: Roads,
    /// One for each subject.
    callers: [Caller; 2],
    dice: Mutex<Dice>,
}

impl Scene {
    async fn set(seed: u64) -> Self {
        let bounds = MemoryCounterStoreConfig::default();
        let memory = MemoryCounterStore::load(Arc::new(Rows::default()), bounds, at(0)).await;
        let roads = Roads::new(memory.expect("an empty checkpoint is read"), seed);
        let caller = Caller::new(Arc::new(SpreadCounterStore::new(roads.clone())), 1).spreading(true);
        let callers = SUBJECTS.map(|subject| caller.on_behalf_of(subject));
        Self { seed, began: Instant::now(), roads, callers, dice: Mutex::new(Dice(!seed)) }
    }

    /// A subject's caller to whom nothing happens.
    fn looking(&self, subject: usize) -> Caller {
        let mut caller = self.callers[subject].clone();
        caller.store = Arc::new(SpreadCounterStore::new(self.roads.fine()));
        caller
    }

    fn now(&self) -> Millis {
        at(i64::try_from(self.began.elapsed().as_millis()).expect("a run takes seconds"))
    }

    fn below(&self, sides: u64) -> u64 {
        self.dice.lock().below(sides)
    }

    /// What is asked again until it is answered.
    async fn insist<T>(&self, call: impl AsyncFn() -> Result<T, StoreError>) -> T {
        loop {
            match timeout(DEADLINE, call()).await {
                Ok(Ok(answer)) => return answer,
                Ok(Err(error)) => assert!(error.is_undecided(), "seed {}: {error}", self.seed),
                Err(_) => {}
            }
            sleep(PAUSE).await;
        }
    }
}

/// A subject's limits, which are spread, and those of all: `amount` of each.
fn limits(subject: usize, amount: i64) -> [Ask; 4] {
    let value = subject as u128;
    [
        ask(1, a_minute(30), amount).scoped(value),
        ask(3, any_minute(40), amount).scoped(value),
        ask(2, a_minute(50), amount),
        ask(4, any_minute(60), amount),
    ]
}

/// How often callers have heard what.
type Heard = Mutex<BTreeMap<&'static str, u64>>;
/// What they can hear.
const HEARD: usize = 8;

/// Checks and what comes of them.
struct Run {
    scene: Scene,
    attempts: AtomicU32,
    /// What was answered as allowed and not given back.
    standing: Mutex<BTreeMap<CounterId, i64>>,
    heard: Arc<Heard>,
    /// Attempts whose outcome nobody knows, until they are undone.
    cancels: Mutex<JoinSet<()>>,
    /// Whoever has it settles a record.
    turn: tokio::sync::Mutex<()>,
}

/// One call: its id, for whom, how, and what of.
#[derive(Clone)]
struct Call {
    id: u128,
    subject: usize,
    mode: Mode,
    asks: Vec<Ask>,
}

impl Run {
    async fn begin(seed: u64, heard: &Arc<Heard>) -> Arc<Self> {
        Arc::new(Self {
            scene: Scene::set(seed).await,
            attempts: AtomicU32::new(0),
            standing: Mutex::default(),
            heard: heard.clone(),
            cancels: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
        })
    }

    fn hear(&self, what: &'static str) {
        *self.heard.lock().entry(what).or_default() += 1;
    }

    fn caller(&self, call: &Call) -> &Caller {
        &self.scene.callers[call.subject]
    }

    fn draw(&self, id: u128) -> Call {
        let amount = 1 + self.scene.below(AMOUNT_MAX);
        let subject = usize::from(self.scene.below(2) == 0);
        let [spread, slid, beside, all] = limits(subject, i64::try_from(amount).expect("it is small"));
        let asks = match self.scene.below(5) {
            0 => vec![spread],
            1 => vec![beside],
            2 => vec![spread, slid],
            3 => vec![beside, spread],
            _ => vec![spread, slid, beside, all],
        };
        let mode = [Mode::Consume, Mode::Reserve][usize::from(self.scene.below(2) == 0)];
        Call { id, subject, mode, asks }
    }

    fn attempt(&self, call: &Call) -> CheckCommand {
        // A store may use the number behind one's own for itself.
        let attempt = Attempt(self.attempts.fetch_add(2, Ordering::Relaxed));
        let expires_at = at(RESERVATION_MS);
        let request = RequestFingerprint { expires_at, attempt: Some(attempt), ..request(call.id, 1) };
        let command = self.caller(call).command(call.mode, &call.asks, self.scene.now());
        CheckCommand { request: Some(request), ..command }
    }

    /// Asks once.
    async fn ask(self: &Arc<Self>, call: &Call) -> Option<Decided> {
        let command = self.attempt(call);
        let store = &self.caller(call).store;
        let answer = timeout(DEADLINE, async { store.check(&command).await.map(Some) }).await;
        self.heard(answer, call, &command)
    }

    /// Asks for what was decided before, as a check that is refused meanwhile: it names no amounts.
    async fn recall(self: &Arc<Self>, call: &Call) -> Option<Decided> {
        let mut command = self.attempt(call);
        command.charges.iter_mut().for_each(|charge| charge.demand = Demand::PROBE);
        (command.units, command.reservation) = (SmallVec::new(), None);
        let answer = timeout(DEADLINE, self.caller(call).store.recall(&command)).await;
        let decided = self.heard(answer, call, &command)?;
        self.hear("recalled");
        Some(decided)
    }

    /// The decision, if one was heard. What nobody knows is undone, whenever that is.
    fn heard(
        self: &Arc<Self>,
        answer: Result<Result<Option<CheckOutcome>, StoreError>, Elapsed>,
        call: &Call,
        command: &CheckCommand,
    ) -> Option<Decided> {
        match answer {
            Ok(Ok(Some(CheckOutcome::Decided(decided)))) => return Some(decided),
            Ok(Ok(None) | Err(StoreError::Unavailable { .. } | StoreError::AttemptRefused { .. })) => {
                return None;
            }
            Ok(Err(StoreError::OutcomeUnknown { .. })) | Err(_) => {}
            Ok(other) => panic!("seed {}: {other:?}", self.scene.seed),
        }
        self.hear("unknown");
        let (run, call, command) = (self.clone(), call.clone(), command.clone());
        self.cancels.lock().spawn_local(async move {
            let cancel = async || run.caller(&call).store.cancel(&command, run.scene.now()).await;
            assert_eq!(run.scene.insist(cancel).await, CancelOutcome::Undone, "seed {}", run.scene.seed);
        });
        None
    }

    /// Calls as callers do: again where nothing was heard, and now and then again after an answer.
    async fn call(self: &Arc<Self>, call: Call) {
        let mut decided = None;
        for _ in 0..ATTEMPTS_MAX {
            // What a CONSUME took cannot be undone by a recall that is the last to be cancelled.
            let is_recall = call.mode == Mode::Reserve && self.scene.below(4) == 0;
            decided = if is_recall { self.recall(&call).await } else { self.ask(&call).await };
            if decided.is_some() || self.scene.below(2) == 0 {
                break;
            }
        }
        let Some(decided) = decided else { return };
        if !decided.verdict.allowed {
            self.hear("denied");
            return;
        }
        self.hear("allowed");
        self.stand(&call, |ask| ask.charge.demand.take);
        let again = match self.scene.below(6) {
            0 => self.ask(&call).await,
            1 => self.recall(&call).await,
            _ => None,
        };
        if let Some(again) = again {
            self.hear("repeated");
            let seed = self.scene.seed;
            assert!(
                again.verdict.allowed && again.replayed,
                "seed {seed}: {call_id} changed",
                call_id = call.id
            );
            assert_eq!(again.reservation, decided.reservation, "seed {seed}");
        }
        if let Some((id, _)) = decided.reservation {
            self.end(&call, &id).await;
        }
    }

    /// Adds to what stands, and finds it within every limit.
    fn stand(&self, call: &Call, amount: impl Fn(&Ask) -> i64) {
        let mut standing = self.standing.lock();
        for ask in &call.asks {
            let stands = standing.entry(self.caller(call).placed(ask.charge).counter).or_default();
            *stands += amount(ask);
            assert!(*stands <= ask.charge.limit.size(), "seed {}: {stands} of {ask:?}", self.scene.seed);
        }
    }

    /// What becomes of a reservation.
    async fn end(&self, call: &Call, id: &ReservationId) {
        let Caller { store, workspace, principal, .. } = self.caller(call);
        match self.scene.below(4) {
            0 => {
                self.stand(call, |ask| -ask.charge.demand.take);
                let release = async || store.release(workspace, id, principal, self.scene.now()).await;
                let released = self.scene.insist(release).await;
                assert_eq!(
                    released,
                    ReleaseOutcome::State(ReservationState::Released),
                    "seed {}",
                    self.scene.seed
                );
                self.hear("released");
            }
            1 => {
                let renew = async || {
                    let (until, now) = (at(2 * RESERVATION_MS), self.scene.now());
                    store.renew(workspace, id, principal, until, now).await
                };
                let renewed = self.scene.insist(renew).await;
                // The store's time may be ahead.
                let is_open = matches!(renewed, RenewOutcome::Open(until) if until >= at(2 * RESERVATION_MS));
                assert!(is_open, "seed {}: {renewed:?}", self.scene.seed);
                self.hear("renewed");
            }
            2 => self.report(call, id).await,
            _ => {}
        }
    }

    /// Settles a reservation with less than it holds, or with all of it.
    async fn report(&self, call: &Call, id: &ReservationId) {
        let caller = self.caller(call);
        let reservation = caller.reservation(id).await.expect("it is open");
        let amount = call.asks[0].charge.demand.take;
        let used = amount - i64::try_from(self.scene.below(AMOUNT_MAX)).expect("it is small").min(amount);
        self.stand(call, |_| used - amount);
        let mut report = Report::settling(&reservation, 0).used(call.asks[0].unit.clone(), used);
        for ask in &call.asks {
            report = report.charging(ask, used);
        }
        let _turn = self.turn.lock().await;
        let record = caller.log_only(report, self.scene.now()).await;
        self.scene.insist(async || caller.store.settle(vec![record.clone()]).await).await;
        self.hear("reported");
    }

    /// Lets everybody call, until everything has come to its end.
    async fn play(self: &Arc<Self>) {
        let callers = (0..CALLERS).map(|caller| async move {
            for number in 0..CALLS {
                self.call(self.draw(u128::from(caller * CALLS + number))).await;
            }
        });
        join_all(callers).await;
        self.rest().await;
    }

    /// Waits for what is under way, and looks at all counters.
    async fn rest(&self) {
        let cancels = std::mem::take(&mut *self.cancels.lock());
        cancels.join_all().await;
        sleep(Duration::from_millis(LATE_MS_MAX)).await;
        for subject in 0..SUBJECTS.len() {
            let looking = self.scene.looking(subject);
            for ask in limits(subject, 1) {
                let stands = self.standing.lock().get(&looking.placed(ask.charge).counter).copied();
                let used = looking.used(&ask, self.scene.now()).await;
                assert_eq!(used, stands.unwrap_or_default().into(), "seed {}: {ask:?}", self.scene.seed);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_answered_stands_and_nothing_else() {
    let (heard, mut fates) = (Arc::<Heard>::default(), BTreeMap::<Fate, u64>::new());
    for seed in seeds() {
        let run = Run::begin(seed, &heard).await;
        LocalSet::new().run_until(run.play()).await;
        for (fate, count) in run.scene.roads.seen() {
            *fates.entry(fate).or_default() += count;
        }
    }
    if are_many(&seeds()) {
        let heard = heard.lock();
        assert!(heard.len() == HEARD && heard.values().all(|count| *count > SEEDS), "{heard:?}");
        assert!(fates.len() == Fate::COUNT && fates.values().all(|count| *count > SEEDS), "{fates:?}");
    }
}

/// One who takes leases in several places at once.
struct Holder {
    scene: Scene,
    held: Vec<Lease>,
    /// What was spent of leases that are over.
    spent: BTreeMap<CounterId, i64>,
    /// What may have been taken, or not freed, without anybody's knowing.
    unsure: BTreeMap<CounterId, i64>,
    heard: BTreeMap<&'static str, u64>,
}

impl Holder {
    /// Of every lease chance says whether it ends, and how much of it is spent.
    fn returns(&self) -> Vec<LeaseReturn> {
        let ended = self.held.iter().filter(|_| self.scene.below(2) == 0);
        let returned = ended.map(|lease| {
            let unused = self.scene.below(1 + lease.amount.unsigned_abs()).cast_signed();
            LeaseReturn { counter: lease.counter, mark: lease.mark, closed: lease.amount, unused }
        });
        returned.collect()
    }

    fn requests(&self) -> Vec<LeaseRequest> {
        let limits = self.limits().into_iter().filter(|_| self.scene.below(2) == 0);
        let asked = limits.map(|charge| {
            let asked = 1 + self.scene.below(LEASED_MAX).cast_signed();
            LeaseRequest {
                counter: charge.counter,
                overflow: charge.overflow,
                limit: charge.limit,
                asked,
                least: asked,
            }
        });
        asked.collect()
    }

    /// Of both subjects, and of all.
    fn limits(&self) -> [Charge; 3] {
        let [alice, bob] = &self.scene.callers;
        let spread = |subject: u128| ask(1, a_minute(LENT_LIMIT), 1).scoped(subject).charge;
        [alice.placed(spread(0)), bob.placed(spread(1)), alice.placed(ask(2, a_minute(LENT_LIMIT), 1).charge)]
    }

    async fn exchange(&mut self) {
        let Caller { store, workspace, .. } = &self.scene.callers[0];
        let (returns, requests) = (self.returns(), self.requests());
        let command = LeaseCommand { workspace: workspace.clone(), now: self.scene.now(), returns, requests };
        let answer = timeout(DEADLINE, store.lease(&command)).await;
        let what = match &answer {
            Ok(Ok(outcomes)) if outcomes.iter().any(|outcome| outcome.lease.is_none()) => "denied",
            Ok(Ok(_)) => "lent",
            Ok(Err(StoreError::Unavailable { .. })) => "not done",
            Ok(Err(StoreError::OutcomeUnknown { .. })) | Err(_) => "unknown",
            Ok(Err(error)) => panic!("seed {}: {error}", self.scene.seed),
        };
        *self.heard.entry(what).or_default() += 1;
        let is_answered = matches!(answer, Ok(Ok(_)));
        if !is_answered {
            // Also where nothing was done: one place may have lent, and what was given back may have been lost.
            for request in &command.requests {
                *self.unsure.entry(request.counter).or_default() += request.asked;
            }
        }
        let lent = match answer {
            Ok(Ok(outcomes)) => outcomes.into_iter().filter_map(|outcome| outcome.lease).collect(),
            // What was to end is still held.
            Ok(Err(StoreError::Unavailable { .. })) => return,
            _ => Vec::new(),
        };
        for LeaseReturn { counter, mark, closed, unused } in command.returns {
            let is_it = |lease: &Lease| (lease.counter, lease.mark, lease.amount) == (counter, mark, closed);
            let place = self.held.iter().position(is_it).expect("it was held");
            self.held.swap_remove(place);
            *self.spent.entry(counter).or_default() += closed - unused;
            if !is_answered {
                *self.unsure.entry(counter).or_default() += unused;
            }
        }
        self.held.extend(lent);
    }

    /// What is held and what was spent stands in every counter, with no more than what nobody is sure of, and never more
    /// than the limit.
    async fn look(&self) {
        let queries = self.limits().map(|Charge { counter, overflow, limit, .. }| CounterQuery {
            counter,
            overflow,
            limit,
        });
        let looking = self.scene.looking(0);
        let readings = looking.store.read(&looking.workspace, &queries, self.scene.now()).await;
        for (query, reading) in queries.iter().zip(readings.expect("the way is fine")) {
            let held = self.held.iter().filter(|lease| lease.counter == query.counter);
            let held = held.map(|lease| lease.amount).sum::<i64>();
            let least = held + self.spent.get(&query.counter).copied().unwrap_or_default();
            let unsure = self.unsure.get(&query.counter).copied().unwrap_or_default();
            let stands = i128::from(least)..=i128::from(LENT_LIMIT.min(least + unsure));
            assert!(
                stands.contains(&reading.used),
                "seed {}: {} of {stands:?}",
                self.scene.seed,
                reading.used
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn units_that_are_lent_are_freed_once() {
    let mut heard: BTreeMap<&'static str, u64> = BTreeMap::new();
    for seed in seeds() {
        let scene = Scene::set(seed).await;
        let (spent, unsure) = (BTreeMap::new(), BTreeMap::new());
        let mut holder = Holder { scene, held: Vec::new(), spent, unsure, heard: BTreeMap::new() };
        for _ in 0..EXCHANGES {
            holder.exchange().await;
            sleep(Duration::from_millis(LATE_MS_MAX)).await;
            holder.look().await;
        }
        for (what, count) in holder.heard {
            *heard.entry(what).or_default() += count;
        }
    }
    if are_many(&seeds()) {
        assert!(heard.len() == 4 && heard.values().all(|count| *count > SEEDS), "{heard:?}");
    }
}
