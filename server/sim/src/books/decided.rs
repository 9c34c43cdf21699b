//! What is remembered of decisions: those that an id stands for, and those that gave a hint.

use std::collections::BTreeMap;

use rateguard_core::counter::{CounterId, RetryAfter};
use rateguard_core::decision::Charge;
use rateguard_core::ids::ReservationId;
use rateguard_core::rule::Enforcement;
use rateguard_core::time::Millis;
use smallvec::SmallVec;

/// What a check asked of everything that could deny it: counter, need and size of each limit.
pub type Question = SmallVec<[(CounterId, i64, i64); 4]>;

/// The question of some charges.
pub fn question(charges: &[Charge]) -> Question {
    let enforced = charges.iter().filter(|charge| charge.enforcement == Enforcement::Enforced);
    enforced.map(|charge| (charge.counter, charge.demand.need, charge.limit.size())).collect()
}

/// An allowed decision that its id stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// Hash of what was asked.
    pub content: u64,
    /// Until when.
    pub until: Millis,
    /// The reservation made.
    pub reservation: Option<ReservationId>,
}

/// A denial with its hint.
#[derive(Clone, Debug)]
pub struct Hint {
    /// When it was given.
    pub at: Millis,
    /// What it said.
    pub wait: RetryAfter,
    /// How the counters stood then.
    pub versions: Vec<u64>,
}

/// What a hint says of a later decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foretold {
    /// It passes.
    Passes,
    /// It is denied.
    Denied,
}

impl Hint {
    /// What it says of an instant, where nothing has changed since.
    pub fn foretells(&self, now: Millis) -> Foretold {
        match self.wait {
            RetryAfter::Millis(ms) if now >= self.at.plus(ms) => Foretold::Passes,
            RetryAfter::Millis(_) | RetryAfter::Never => Foretold::Denied,
        }
    }
}

/// Decisions that later ones are held against.
#[derive(Clone, Debug, Default)]
pub struct Decisions {
    /// By the hash of an id.
    pub ids: BTreeMap<u128, Remembered>,
    /// By what was asked.
    pub hints: BTreeMap<Question, Hint>,
}
