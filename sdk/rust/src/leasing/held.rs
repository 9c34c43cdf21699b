//! What is held for calls of one kind. Time is an argument.

use std::time::Duration;

use rateguard_proto::v1;
use tokio::time::Instant;

use super::Amounts;
use super::rate::Rate;
use crate::call::unit_amount;

/// Leases that are held at once: each lives for seconds, and one is asked for at a time.
const LEASES_MAX: usize = 16;
/// A lease is for what is wanted in one part in so many of its life.
const HORIZON_PARTS: u32 = 4;
/// But for no less time than this: the question takes some.
const HORIZON_MS_MIN: i64 = 50;
/// And no more: what is taken in advance for long is missed by others.
const HORIZON_MS_MAX: i64 = 1_000;
/// How long a lease lives before one was seen.
const LIFE_FIRST: Duration = Duration::from_secs(1);
/// A lease is for so many calls at least, or there would be a question every few calls.
const CALLS_MIN: i64 = 10;
/// More is asked for when one part in so many of the last lease is left.
const LOW_PARTS: i64 = 4;
/// Or what is wanted in so many milliseconds: a question with its answer takes less.
const LOW_MS: i64 = 50;
/// What is held goes back when nobody has wanted any for so long.
const IDLE: Duration = Duration::from_secs(2);
/// The most that can be asked for, by the contract (`AMOUNT_MAX`).
const AMOUNT_MAX: i64 = 1_000_000_000_000;
/// Leases that end with one question, by the contract (`ENDED_LEASES_MAX`).
const ENDED_MAX: usize = 16;
/// Shortest pause after nothing was lent.
const PAUSE_MIN: Duration = Duration::from_millis(100);

/// What is held, and what is wanted.
pub(super) struct Held {
    wanted: Vec<Wanted>,
    /// Oldest first.
    leases: Vec<Lease>,
    /// Spent, and not told yet.
    spent: Vec<String>,
    life: Duration,
    calls: u64,
    is_asking: bool,
    server_until: Instant,
    touched: Instant,
}

/// One unit that calls of the kind take.
struct Wanted {
    unit: String,
    rate: Rate,
    /// What the last call took.
    by_call: i64,
    /// What the last lease had.
    last: i64,
    /// What calls that wait for the next lease take together, and the smallest of them.
    waiting: i64,
    waiting_least: Option<i64>,
}

struct Lease {
    id: String,
    /// What is left, in the order of the units.
    left: Vec<i64>,
    dies_at: Instant,
}

/// What becomes of a call here.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It passes.
    Served {
        /// Whether the caller is to ask for more.
        asks_more: bool,
    },
    /// It waits for the next lease.
    Waits {
        /// Whether the caller is to ask for it.
        asks: bool,
    },
    /// The server decides it.
    Strict,
}

/// A question for a lease.
pub(super) struct Question {
    pub(super) wishes: Vec<v1::LeaseWish>,
    pub(super) ended: Vec<v1::ReturnLeaseRequest>,
}

impl Held {
    /// Nothing, for calls that take these units.
    pub(super) fn new(units: Vec<String>, now: Instant) -> Self {
        let wanted = |unit| Wanted {
            unit,
            rate: Rate::new(now),
            by_call: 0,
            last: 0,
            waiting: 0,
            waiting_least: None,
        };
        Self {
            wanted: units.into_iter().map(wanted).collect(),
            leases: Vec::new(),
            spent: Vec::new(),
            life: LIFE_FIRST,
            calls: 0,
            is_asking: false,
            server_until: now,
            touched: now,
        }
    }

    /// Spends for a call, all of it or nothing. A call that `waits` may be told to wait for a lease.
    pub(super) fn take(&mut self, amounts: &Amounts, waits: bool, now: Instant) -> Taken {
        // Of other units nothing is held, and a negative amount is the server's to refuse.
        if !self.wanted.iter().map(|wanted| &wanted.unit).eq(amounts.keys())
            || amounts.values().any(|amount| *amount < 0)
        {
            return Taken::Strict;
        }
        // A call of nothing has no need of a lease, but only the server knows whether it may be made.
        if amounts.values().all(|amount| *amount == 0) {
            return Taken::Strict;
        }
        self.note(amounts, waits, now);
        if self.suffices(now) {
            self.spend(now);
            let asks_more = self.is_low(now);
            self.is_asking |= asks_more;
            return Taken::Served { asks_more };
        }
        // The first call of a kind may be the only one.
        if !waits || self.calls < 2 || !self.is_asking && !self.may_ask(now) {
            return Taken::Strict;
        }
        for wanted in &mut self.wanted {
            wanted.waiting = wanted.waiting.saturating_add(wanted.by_call);
            let least = wanted.waiting_least.map_or(wanted.by_call, |least| least.min(wanted.by_call));
            wanted.waiting_least = Some(least);
        }
        Taken::Waits { asks: !std::mem::replace(&mut self.is_asking, true) }
    }

    fn note(&mut self, amounts: &Amounts, is_new: bool, now: Instant) {
        self.touched = now;
        self.calls = self.calls.saturating_add(u64::from(is_new));
        for (wanted, amount) in self.wanted.iter_mut().zip(amounts.values()) {
            wanted.by_call = *amount;
            wanted.rate.note(if is_new { *amount } else { 0 });
        }
    }

    fn spend(&mut self, now: Instant) {
        for (unit, wanted) in self.wanted.iter().enumerate() {
            let mut due = wanted.by_call;
            for lease in self.leases.iter_mut().filter(|lease| lease.dies_at > now) {
                let part = due.min(lease.left[unit]);
                lease.left[unit] -= part;
                due -= part;
            }
        }
        let spent = &mut self.spent;
        self.leases.retain_mut(|lease| {
            let is_spent = lease.left.iter().all(|left| *left == 0);
            if is_spent && spent.len() < ENDED_MAX {
                spent.push(std::mem::take(&mut lease.id));
            }
            !is_spent
        });
    }

    /// Whether the last call can be served. Where it takes something, that takes a lease that is alive.
    fn suffices(&self, now: Instant) -> bool {
        (0..self.wanted.len()).all(|unit| self.left(unit, now) >= self.wanted[unit].by_call)
    }

    fn left(&self, unit: usize, now: Instant) -> i64 {
        self.leases.iter().filter(|lease| lease.dies_at > now).map(|lease| lease.left[unit]).sum()
    }

    fn may_ask(&self, now: Instant) -> bool {
        now >= self.server_until && self.leases.len() < LEASES_MAX
    }

    /// Whether more should be asked for, which nobody does yet.
    fn is_low(&self, now: Instant) -> bool {
        let is_low = |(unit, wanted): (usize, &Wanted)| {
            self.left(unit, now) < (wanted.last / LOW_PARTS).max(wanted.rate.in_ms(LOW_MS))
        };
        !self.is_asking && self.may_ask(now) && self.wanted.iter().enumerate().any(is_low)
    }

    /// What to ask for, and what has ended.
    pub(super) fn ask(&mut self, now: Instant) -> Question {
        let horizon_ms = i64::try_from((self.life / HORIZON_PARTS).as_millis()).unwrap_or(HORIZON_MS_MAX);
        let horizon_ms = horizon_ms.clamp(HORIZON_MS_MIN, HORIZON_MS_MAX);
        let wishes = self.wanted.iter_mut().map(|wanted| wanted.wish(horizon_ms, now)).collect();
        let mut ended = self.end_over(now);
        let room = ENDED_MAX.saturating_sub(ended.len());
        let told = self.spent.drain(..).take(room);
        ended.extend(told.map(|lease_id| v1::ReturnLeaseRequest { lease_id, unspent: Vec::new() }));
        Question { wishes, ended }
    }

    /// Takes in an answer to a question that was asked at an instant.
    pub(super) fn answer(&mut self, answer: &v1::LeaseQuotaResponse, asked_at: Instant, now: Instant) {
        self.is_asking = false;
        let amount_of = |wanted: &Wanted| {
            let granted = answer.granted.iter().find(|granted| granted.unit == wanted.unit);
            granted.map_or(0, |granted| granted.amount.max(0))
        };
        if answer.lease_id.is_empty() {
            let wait = answer.retry_after_ms.and_then(|ms| u64::try_from(ms).ok());
            return self.pause(wait.map_or(PAUSE_MIN, Duration::from_millis).max(PAUSE_MIN), now);
        }
        for wanted in &mut self.wanted {
            wanted.last = amount_of(wanted);
        }
        self.life = Duration::from_millis(u64::try_from(answer.life_ms).unwrap_or(0));
        self.leases.push(Lease {
            id: answer.lease_id.clone(),
            left: self.wanted.iter().map(amount_of).collect(),
            dies_at: asked_at + self.life,
        });
    }

    /// Nothing is asked for meanwhile.
    pub(super) fn pause(&mut self, pause: Duration, now: Instant) {
        (self.is_asking, self.server_until) = (false, now + pause);
        for wanted in &mut self.wanted {
            (wanted.waiting, wanted.waiting_least) = (0, None);
        }
    }

    /// Ends what is over, and everything where nobody wants any.
    pub(super) fn end_over(&mut self, now: Instant) -> Vec<v1::ReturnLeaseRequest> {
        if now.saturating_duration_since(self.touched) >= IDLE {
            return self.end_all();
        }
        let (over, alive) = std::mem::take(&mut self.leases).into_iter().partition(|l| l.dies_at <= now);
        self.leases = alive;
        self.ended(over)
    }

    /// Ends everything.
    pub(super) fn end_all(&mut self) -> Vec<v1::ReturnLeaseRequest> {
        let all = std::mem::take(&mut self.leases);
        self.ended(all)
    }

    fn ended(&self, leases: Vec<Lease>) -> Vec<v1::ReturnLeaseRequest> {
        let unspent = |lease: &Lease| {
            let parts = self.wanted.iter().zip(&lease.left);
            parts.map(|(wanted, left)| unit_amount(&wanted.unit, *left)).collect()
        };
        let of = |lease: Lease| v1::ReturnLeaseRequest { unspent: unspent(&lease), lease_id: lease.id };
        leases.into_iter().map(of).collect()
    }

    /// Whether the kind can be forgotten.
    pub(super) fn is_idle(&self, now: Instant) -> bool {
        let is_untouched = now.saturating_duration_since(self.touched) >= IDLE;
        is_untouched && self.leases.is_empty() && !self.is_asking && now >= self.server_until
    }
}

impl Wanted {
    fn wish(&mut self, horizon_ms: i64, now: Instant) -> v1::LeaseWish {
        self.rate.measure(now);
        let soon = self.rate.in_ms(horizon_ms).max(self.by_call.saturating_mul(CALLS_MIN));
        let amount = soon.saturating_add(std::mem::take(&mut self.waiting)).clamp(1, AMOUNT_MAX);
        let least = self.waiting_least.take().unwrap_or(self.by_call).clamp(1, amount);
        v1::LeaseWish { unit: self.unit.clone(), amount, least }
    }
}

#[cfg(test)]
mod tests;
