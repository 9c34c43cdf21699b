//! One decision over every limit that applies: all pass and all are taken, or nothing changes.

use smallvec::SmallVec;

use crate::counter::{Counter, CounterId, Demand, Limit, Mark, Position, Reading, RetryAfter};
use crate::rule::Enforcement;
use crate::time::Millis;

/// A counter with the log position up to which settlements are in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The state.
    pub counter: Counter,
    /// Records at or before this position are in it already.
    pub included: Position,
}

/// The counters of one workspace, as their store keeps them. One decision or settlement has them
/// for itself.
pub trait Counters {
    /// A counter that exists.
    fn get(&self, id: CounterId) -> Option<&Entry>;
    /// A counter that exists, to change it.
    fn get_mut(&mut self, id: CounterId) -> Option<&mut Entry>;
    /// A counter, made fresh where it does not exist.
    fn get_or_insert(&mut self, id: CounterId, limit: &Limit, now: Millis) -> &mut Entry;
    /// A counter that does not exist, as it would be made.
    fn fresh(&self, _id: CounterId, limit: &Limit, now: Millis) -> Counter {
        Counter::fresh(limit, now)
    }
    /// The counter of a charge whose amount is about to be taken, made where it does not exist.
    fn take_from(&mut self, charge: &Charge, now: Millis) -> &mut Entry {
        self.get_or_insert(charge.counter, &charge.limit, now)
    }
}

/// What one limit is asked by a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charge {
    /// Which counter.
    pub counter: CounterId,
    /// Which counter instead, when this one is new and the workspace has too many.
    pub overflow: CounterId,
    /// What it is held against.
    pub limit: Limit,
    /// How much.
    pub demand: Demand,
    /// Whether it decides.
    pub enforcement: Enforcement,
    /// Whether a denied CONSUME takes the amount all the same, as debt.
    pub counts_denied: bool,
}

impl Charge {
    /// Units that must be free for the call to pass, where `before` are the charges of the same call in
    /// front of this one: those on the same counter come first.
    ///
    /// A limit that counts denied amounts may be in debt, and an amount of nothing does not pass it while
    /// nothing is left: callers ask so before a call whose true amount they charge afterwards. Of any other
    /// limit nothing can be had at any time, and giving back always passes.
    pub fn need(&self, before: &[Self]) -> i64 {
        let own = match self.demand {
            Demand { need: 0, take: 0 } if self.counts_denied => Demand::PROBE.need,
            Demand { need, .. } => need,
        };
        if own == 0 {
            return 0;
        }
        let same = before.iter().filter(|other| other.counter == self.counter);
        same.fold(own, |sum, other| sum.saturating_add(other.demand.take.max(0)))
    }

    /// Whether the amount is taken where the call is denied.
    fn is_taken_denied(&self, mode: Mode) -> bool {
        self.counts_denied && mode == Mode::Consume
    }
}

/// Whether a decision takes what it allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Takes for good.
    Consume,
    /// Takes nothing.
    Peek,
    /// Holds until settled.
    Reserve,
}

/// The answer to a call, limit by limit in the order of the charges.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// Whether the call may go ahead.
    pub allowed: bool,
    /// How each limit stands after the decision.
    pub readings: SmallVec<[Reading; 8]>,
    /// Where each limit's amount was taken or, in a reservation that only tests a limit, would have
    /// been; `None` where nothing was.
    pub marks: SmallVec<[Option<Mark>; 8]>,
}

impl Verdict {
    /// The limit that a denied caller waits longest for, and how long.
    pub fn limiting(&self, charges: &[Charge]) -> Option<(usize, RetryAfter)> {
        let denials =
            charges.iter().zip(&self.readings).enumerate().filter_map(|(place, (charge, reading))| {
                let denied = reading.denied.filter(|_| charge.enforcement == Enforcement::Enforced)?;
                Some((place, denied))
            });
        denials.max_by_key(|(place, wait)| {
            let wait_ms = match wait {
                RetryAfter::Millis(ms) => *ms,
                RetryAfter::Never => i64::MAX,
            };
            // Of equal waits the first, which has the higher priority.
            (wait_ms, std::cmp::Reverse(*place))
        })
    }
}

/// What one limit gave to a decision that took for good, so that it can be taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The counter that it fell on.
    pub counter: CounterId,
    /// How much.
    pub amount: i64,
    /// Where.
    pub mark: Mark,
}

/// What a verdict took; `charges` are those that it was given.
pub fn taken(charges: &[Charge], verdict: &Verdict) -> SmallVec<[Taken; 4]> {
    let taken = |(charge, mark): (&Charge, &Option<Mark>)| {
        let amount = Some(charge.demand.take).filter(|amount| *amount != 0)?;
        Some(Taken { counter: charge.counter, amount, mark: (*mark)? })
    };
    charges.iter().zip(&verdict.marks).filter_map(taken).collect()
}

/// Takes back what a decision took, as far as it still counts where it was taken.
pub fn take_back(counters: &mut impl Counters, taken: &[Taken], now: Millis) {
    for Taken { counter, amount, mark } in taken {
        if let Some(entry) = counters.get_mut(*counter) {
            entry.counter.correct(*mark, *amount, -amount, now);
        }
    }
}

/// Decides a call over all its limits, and takes from them if it passes and the mode takes. Of a CONSUME
/// that is denied, only limits that count denied amounts take theirs.
pub fn decide(counters: &mut impl Counters, charges: &[Charge], mode: Mode, now: Millis) -> Verdict {
    let readings: SmallVec<[Reading; 8]> = charges
        .iter()
        .enumerate()
        .map(|(place, charge)| read(counters, charge, charge.need(&charges[..place]), now))
        .collect();
    let allowed = charges
        .iter()
        .zip(&readings)
        .all(|(charge, reading)| reading.denied.is_none() || charge.enforcement != Enforcement::Enforced);
    let mut verdict = Verdict { allowed, readings, marks: SmallVec::from_elem(None, charges.len()) };
    if mode != Mode::Peek {
        take_all(counters, charges, &mut verdict, mode, now);
    }
    verdict
}

fn read(counters: &impl Counters, charge: &Charge, need: i64, now: Millis) -> Reading {
    match counters.get(charge.counter) {
        Some(entry) => entry.counter.read(&charge.limit, need, now),
        None => counters.fresh(charge.counter, &charge.limit, now).read(&charge.limit, need, now),
    }
}

/// Where an amount of the charge would be taken.
fn place(counters: &impl Counters, charge: &Charge, now: Millis) -> Mark {
    match counters.get(charge.counter) {
        Some(entry) => entry.counter.mark(&charge.limit, now),
        None => Counter::fresh(&charge.limit, now).mark(&charge.limit, now),
    }
}

fn take_all(
    counters: &mut impl Counters,
    charges: &[Charge],
    verdict: &mut Verdict,
    mode: Mode,
    now: Millis,
) {
    let parts = charges.iter().zip(&mut verdict.readings).zip(&mut verdict.marks);
    for ((charge, reading), mark) in parts {
        // A shadow moves only when it would have allowed.
        let refused = charge.enforcement == Enforcement::Shadow && reading.denied.is_some();
        if (refused || !verdict.allowed) && !charge.is_taken_denied(mode) {
            continue;
        }
        // Nothing is given back to a counter that has nothing.
        let gives_back = charge.demand.take < 0;
        if gives_back && counters.get(charge.counter).is_none() {
            continue;
        }
        if charge.demand.take == 0 {
            // No counter is made for what only tests: its reports make it when they charge it.
            *mark = (mode == Mode::Reserve).then(|| place(counters, charge, now));
            continue;
        }
        let entry = counters.take_from(charge, now);
        let (counter, amount) = (&mut entry.counter, charge.demand.take);
        *mark = Some(match mode {
            Mode::Reserve => counter.reserve(&charge.limit, amount, now),
            _ => counter.take(&charge.limit, amount, now),
        });
        let after = entry.counter.read(&charge.limit, 0, now);
        *reading = Reading { denied: reading.denied, ..after };
    }
}

#[cfg(test)]
pub(crate) mod tests;
