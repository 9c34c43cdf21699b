//! What this replica holds of one counter.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rateguard_core::counter::lent::GENERATION_MS;
use rateguard_core::counter::{CounterId, Demand, Limit, Mark, Reading, RetryAfter, sliding_window};
use rateguard_core::ids::WorkspaceId;
use rateguard_core::lease::{
    BUCKET_LEASE_LIFE_MS, Lease, LeaseOutcome, LeaseRequest, LeaseReturn, lent_max, sizing,
};
use smallvec::SmallVec;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::Instant;

use super::exchange::Place;
use super::rate::{Rate, ms_between};

/// A rate is measured anew after so long, also where nothing is asked for.
const MEASURED_MS: i64 = 200;
/// What is held beyond what is wanted in so many milliseconds goes back.
const KEPT_MS: i64 = 1_000;
/// What was not wanted for so long is held in vain.
const IDLE_MS: i64 = 60_000;
/// How long nothing is asked for after there was no lease.
const NO_LEASE_PAUSE: Duration = Duration::from_millis(100);

/// One counter, as it is held here.
pub(super) struct Local {
    pub(super) workspace: WorkspaceId,
    counter: CounterId,
    overflow: CounterId,
    state: Mutex<State>,
    refilled: Notify,
    /// Whether it stands among those that something is wanted of.
    is_wanted: AtomicBool,
}

struct State {
    limit: Limit,
    /// Oldest first.
    held: SmallVec<[Held; 2]>,
    /// The shared counter, as it was seen last.
    seen: Option<Reading>,
    rate: Rate,
    last_amount: i64,
    is_refilling: bool,
    /// What calls that wait for the next lease want.
    waiting: i64,
    waiting_least: Option<i64>,
    strict_until: Instant,
    denial: Option<Denial>,
    touched: Instant,
}

/// A lease, or several with the same mark.
struct Held {
    counter: CounterId,
    mark: Mark,
    /// Units that the shared counter knows to be out.
    open: i64,
    /// Units that are left to spend.
    units: i64,
    dies_at: Instant,
}

/// What the shared counter has denied a moment ago.
struct Denial {
    need: i64,
    reading: Reading,
    passes_at: Instant,
    asks_again_at: Instant,
}

/// Units spent by a call, so that they can be put back.
pub(super) type Spent = SmallVec<[(Mark, i64); 1]>;

/// What becomes of a demand here.
pub(super) enum Taken {
    /// It passes. `is_low` says that more should be asked for.
    Served { reading: Reading, spent: Spent, is_low: bool },
    /// The shared counter has denied the same just now.
    Denied(Reading),
    /// There is not enough here.
    Lacking,
}

/// How a call that lacks units goes on.
pub(super) enum Lack<'a> {
    /// With a lease that is on its way. `is_new` says that it is still to be asked for.
    Wait { refilled: Notified<'a>, is_new: bool },
    /// By the shared counter.
    Strict,
}

impl Local {
    /// Where its counter stands.
    pub(super) fn place(&self) -> Place {
        (self.workspace.clone(), self.counter.shard())
    }

    pub(super) fn new(
        workspace: WorkspaceId,
        counter: CounterId,
        overflow: CounterId,
        limit: Limit,
        now: Instant,
    ) -> Self {
        let state = State {
            limit,
            held: SmallVec::new(),
            seen: None,
            rate: Rate::new(now),
            last_amount: 0,
            is_refilling: false,
            waiting: 0,
            waiting_least: None,
            strict_until: now,
            denial: None,
            touched: now,
        };
        let (state, refilled) = (Mutex::new(state), Notify::new());
        Self { workspace, counter, overflow, state, refilled, is_wanted: AtomicBool::new(false) }
    }

    pub(super) fn id(&self) -> CounterId {
        self.counter
    }

    /// Spends for a demand, all of it or nothing.
    pub(super) fn take(&self, limit: &Limit, demand: Demand, now: Instant) -> Taken {
        let mut state = self.state.lock();
        (state.limit, state.touched) = (*limit, now);
        state.rate.note(demand.take, now, MEASURED_MS);
        if state.units(now) >= demand.need
            && let Some(reading) = state.view(now)
        {
            let spent = state.spend(demand.take, now);
            let is_low = state.is_low(now);
            state.is_refilling |= is_low;
            let reading = reading.shifted(limit, demand.take);
            return Taken::Served { reading, spent, is_low };
        }
        let units = state.units(now);
        let denied = state.denied(demand.need, now);
        denied.map_or(Taken::Lacking, |reading| Taken::Denied(reading.shifted(limit, -units)))
    }

    /// Puts back what a call spent that did not go ahead. What has ended meanwhile stays spent.
    pub(super) fn put_back(&self, spent: &Spent) {
        let mut state = self.state.lock();
        for (mark, amount) in spent {
            if let Some(held) = state.held.iter_mut().find(|held| held.mark == *mark) {
                held.units = (held.units + amount).min(held.open);
            }
        }
    }

    /// How a call goes on that has found too little.
    pub(super) fn lack(&self, need: i64, now: Instant) -> Lack<'_> {
        let mut state = self.state.lock();
        let is_new = !state.is_refilling;
        if is_new && (now < state.strict_until || lent_max(&state.limit) < need) {
            return Lack::Strict;
        }
        state.is_refilling = true;
        state.waiting = state.waiting.saturating_add(need);
        state.waiting_least = Some(state.waiting_least.map_or(need, |least| least.min(need)));
        Lack::Wait { refilled: self.refilled.notified(), is_new }
    }

    /// What to ask the shared counter for, and what to tell it first.
    pub(super) fn ask(&self, now: Instant, returns: &mut Vec<LeaseReturn>) -> LeaseRequest {
        let mut state = self.state.lock();
        state.end_dead(now, returns);
        for held in state.held.iter_mut().filter(|held| matches!(held.mark, Mark::TokenBucket { .. })) {
            // What is spent of a bucket's lease need not be kept from refilling any more.
            let closed = held.open - held.units;
            if closed > 0 {
                returns.push(LeaseReturn { counter: held.counter, mark: held.mark, closed, unused: 0 });
                held.open = held.units;
            }
        }
        let life_ms = state.life_ms(now);
        let wanted = sizing::asked(state.rate.measure(now), life_ms, state.floor());
        let asked = wanted.saturating_add(std::mem::take(&mut state.waiting));
        let least = state.waiting_least.take().unwrap_or(1);
        let (counter, overflow, limit) = (self.counter, self.overflow, state.limit);
        LeaseRequest { counter, overflow, limit, asked, least: least.max(1) }
    }

    /// Takes in an answer to [`Local::ask`]; calls that wait look again. Says how much was lent.
    pub(super) fn answer(&self, outcome: &LeaseOutcome, asked_at: Instant, now: Instant) -> i64 {
        let mut state = self.state.lock();
        state.is_refilling = false;
        state.seen = Some(outcome.reading);
        let left = outcome.reading.remaining;
        state.denial = state.denial.take().filter(|denial| left < denial.need);
        match &outcome.lease {
            Some(lease) => state.hold(lease, asked_at),
            None => state.strict_until = now + NO_LEASE_PAUSE,
        }
        drop(state);
        self.refilled.notify_waiters();
        outcome.lease.map_or(0, |lease| lease.amount)
    }

    /// The question was not answered: for a while every call asks for itself.
    pub(super) fn fail(&self, now: Instant) {
        let mut state = self.state.lock();
        (state.is_refilling, state.waiting, state.waiting_least) = (false, 0, None);
        state.strict_until = now + NO_LEASE_PAUSE;
        drop(state);
        self.refilled.notify_waiters();
    }

    /// Takes in what a strict decision saw of the shared counter, before `need` was taken of it or denied.
    pub(super) fn see(&self, reading: &Reading, need: i64, now: Instant) {
        let mut state = self.state.lock();
        state.seen = Some(Reading { denied: None, ..*reading });
        state.denial = match reading.denied {
            Some(RetryAfter::Millis(wait_ms)) => Some(Denial::new(reading, need, wait_ms, now)),
            _ => None,
        };
    }

    /// How much of the counter is held here: not used, though the shared counter says so.
    pub(super) fn units_held(&self, now: Instant) -> i64 {
        self.state.lock().units(now)
    }

    /// How the counter stands by what is known here, and whether a demand passes by it.
    pub(super) fn peek(&self, demand: Demand, now: Instant) -> Option<Reading> {
        let state = self.state.lock();
        if state.units(now) >= demand.need { state.view(now) } else { None }
    }

    /// Gives back all that is held, for a call that is denied without it. Says how much that is.
    pub(super) fn give_all_back(&self, now: Instant, returns: &mut Vec<LeaseReturn>) -> i64 {
        let mut state = self.state.lock();
        let units = state.units(now);
        state.end_all(returns);
        units
    }

    /// Whether it has to be put among those that something is wanted of.
    pub(super) fn is_first_wanted(&self) -> bool {
        !self.is_wanted.load(Ordering::Relaxed) && !self.is_wanted.swap(true, Ordering::AcqRel)
    }

    /// Whether it stays among them.
    pub(super) fn is_still_wanted(&self) -> bool {
        // First, so that whoever wants something from here on puts it there again.
        self.is_wanted.store(false, Ordering::Release);
        let now = Instant::now();
        let needs_looks = self.state.lock().needs_looks(now);
        needs_looks && self.is_first_wanted()
    }

    /// Gives back what is held in vain. Says whether the counter is of no more interest here.
    pub(super) fn tend(&self, now: Instant, returns: &mut Vec<LeaseReturn>) -> bool {
        let mut state = self.state.lock();
        state.rate.keep_up(now, MEASURED_MS);
        state.end_dead(now, returns);
        state.end_surplus(now, returns);
        state.held.is_empty() && !state.is_refilling && ms_between(state.touched, now) >= IDLE_MS
    }
}

impl Denial {
    fn new(reading: &Reading, need: i64, wait_ms: i64, now: Instant) -> Self {
        let wait = Duration::from_millis(wait_ms.unsigned_abs());
        let passes_at = now.checked_add(wait).unwrap_or(now);
        let mut denial = Self { need, reading: *reading, passes_at, asks_again_at: now };
        denial.stand(now);
        denial
    }

    /// Lets the denial stand for a while.
    fn stand(&mut self, now: Instant) {
        let stands_ms = sizing::denial_ms(ms_between(now, self.passes_at));
        let stands = Duration::from_millis(stands_ms.unsigned_abs());
        self.asks_again_at = self.passes_at.min(now + stands);
    }
}

impl State {
    fn units(&self, now: Instant) -> i64 {
        self.held.iter().filter(|held| held.dies_at > now).map(|held| held.units).sum()
    }

    /// The counter while something is held of it, with what is held here as what is left.
    fn view(&self, now: Instant) -> Option<Reading> {
        let holds = self.held.iter().any(|held| held.dies_at > now);
        self.seen.filter(|_| holds).map(|seen| seen.shifted(&self.limit, -self.units(now)))
    }

    fn spend(&mut self, amount: i64, now: Instant) -> Spent {
        let mut left = amount;
        let mut spent = Spent::new();
        for held in self.held.iter_mut().filter(|held| held.dies_at > now) {
            let part = left.min(held.units);
            if part > 0 {
                held.units -= part;
                left -= part;
                spent.push((held.mark, part));
            }
        }
        spent
    }

    /// Whether more should be asked for, which nobody does yet.
    fn is_low(&self, now: Instant) -> bool {
        let low = sizing::low(self.rate.last(), self.last_amount);
        self.units(now) < low && !self.is_refilling && now >= self.strict_until
    }

    /// The denial of a moment ago, if it is one of the same need. Of those who come when it is old, one
    /// asks again and the others wait for what it finds.
    fn denied(&mut self, need: i64, now: Instant) -> Option<Reading> {
        let denial = self.denial.as_mut().filter(|denial| denial.need == need && now < denial.passes_at)?;
        if now >= denial.asks_again_at {
            denial.stand(now);
            return None;
        }
        // Rounded up: a hint must not be too short.
        let wait_ms = ms_between(now, denial.passes_at).saturating_add(1);
        Some(Reading { denied: Some(RetryAfter::Millis(wait_ms)), ..denial.reading })
    }

    fn floor(&self) -> i64 {
        sizing::floor_of(self.limit.size(), self.seen.map(|seen| seen.remaining))
    }

    /// How long a lease that is taken now may live, as far as that is known.
    fn life_ms(&self, now: Instant) -> i64 {
        let whole_ms = match self.limit {
            Limit::TokenBucket { .. } => BUCKET_LEASE_LIFE_MS,
            Limit::FixedWindow { window_ms, .. } => window_ms,
            Limit::SlidingWindow { window_ms, .. } => sliding_window::sub_window_ms(window_ms),
            Limit::CalendarWindow { .. } | Limit::Budget { .. } | Limit::Concurrency { .. } => i64::MAX,
        };
        self.held.last().map_or(whole_ms, |held| ms_between(now, held.dies_at))
    }

    fn hold(&mut self, lease: &Lease, asked_at: Instant) {
        let Lease { counter, amount, mark, life_ms } = *lease;
        let life = Duration::from_millis(life_ms.unsigned_abs());
        let dies_at = asked_at.checked_add(life).unwrap_or(asked_at);
        (self.last_amount, self.denial) = (amount, None);
        match self.held.iter_mut().find(|held| held.counter == counter && is_same(held.mark, mark)) {
            Some(held) => {
                held.open = held.open.saturating_add(amount);
                held.units = held.units.saturating_add(amount);
                held.dies_at = held.dies_at.min(dies_at);
            }
            None => self.held.push(Held { counter, mark, open: amount, units: amount, dies_at }),
        }
    }

    fn end_dead(&mut self, now: Instant, returns: &mut Vec<LeaseReturn>) {
        self.held.retain(|held| {
            let lives = held.dies_at > now;
            if !lives {
                held.end(held.units, returns);
            }
            lives
        });
    }

    fn end_all(&mut self, returns: &mut Vec<LeaseReturn>) {
        for held in &mut self.held {
            held.end(held.units, returns);
        }
        self.held.clear();
    }

    /// A bucket's lease dies so soon that nothing of it need go back before.
    fn end_surplus(&mut self, now: Instant, returns: &mut Vec<LeaseReturn>) {
        let (units, kept) = (self.units(now), self.kept(now));
        if matches!(self.limit, Limit::TokenBucket { .. }) || units <= kept.saturating_mul(2) {
            return;
        }
        let mut surplus = units - kept;
        for held in self.held.iter_mut().rev() {
            let part = surplus.min(held.units);
            held.end(part, returns);
            surplus -= part;
        }
        self.held.retain(|held| held.units > 0);
    }

    /// Whether it may soon have something to give back: a bucket's lease, which has to be back within a second
    /// of its end, or more than is worth holding.
    fn needs_looks(&self, now: Instant) -> bool {
        let holds_of_bucket = matches!(self.limit, Limit::TokenBucket { .. }) && !self.held.is_empty();
        let holds_much = self.units(now) > self.kept(now).saturating_mul(2);
        self.rate.is_wanted() || self.is_refilling || holds_of_bucket || holds_much
    }

    /// What is worth holding.
    fn kept(&self, now: Instant) -> i64 {
        if ms_between(self.touched, now) >= IDLE_MS {
            return 0;
        }
        let floor = if self.floor() > 1 { self.floor() } else { 0 };
        sizing::units_in(self.rate.last(), KEPT_MS).max(floor)
    }
}

impl Held {
    /// Ends so many units that are not spent, and all that are.
    fn end(&mut self, unused: i64, returns: &mut Vec<LeaseReturn>) {
        let closed = self.open - self.units + unused;
        let tells = unused > 0 || matches!(self.mark, Mark::TokenBucket { .. }) && closed > 0;
        if tells {
            returns.push(LeaseReturn { counter: self.counter, mark: self.mark, closed, unused });
        }
        (self.open, self.units) = (self.open - closed, self.units - unused);
    }
}

/// Whether leases of two marks end together where they were taken.
fn is_same(one: Mark, other: Mark) -> bool {
    match (one, other) {
        (Mark::TokenBucket { at, .. }, Mark::TokenBucket { at: other, .. }) => {
            at.get() / GENERATION_MS == other.get() / GENERATION_MS
        }
        (one, other) => one == other,
    }
}
