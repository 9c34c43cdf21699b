//! What holders of leases have of a bucket and may still spend.
//!
//! A holder may spend at the end of its lease what it took at the beginning. Were the bucket to
//! refill meanwhile, both the refill and the lease could be spent at one moment, which is more than
//! the capacity. So what is lent is a floor under what is used: the bucket refills only to its
//! capacity less what is lent.
//!
//! Two generations bound the memory. A lease counts as lent until the generation after its own is
//! over, which is later than its holder spends the last of it.

use crate::lease::{BUCKET_LEASE_LIFE_MS, LEASE_MARGIN_MS};
use crate::time::Millis;

/// A generation's length: a holder's life and the margin, so that whoever was lent something in one is
/// done by the end of the next.
pub const GENERATION_MS: i64 = BUCKET_LEASE_LIFE_MS + LEASE_MARGIN_MS;

/// The generation of an instant.
pub(super) fn generation_of(at: Millis) -> i64 {
    at.get() / GENERATION_MS
}

/// Units that are lent, by the generation in which they were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lent {
    /// The newer generation's number since the epoch.
    pub generation: i64,
    /// Units lent in it.
    pub current: i64,
    /// Units lent in the one before.
    pub previous: i64,
}

impl Lent {
    /// As it stands in the generation of an instant; `None` where nothing is lent any more.
    pub(super) fn at(self, now: Millis) -> Option<Self> {
        let generation = generation_of(now).max(self.generation);
        let (current, previous) = match generation - self.generation {
            0 => (self.current, self.previous),
            1 => (0, self.current),
            _ => (0, 0),
        };
        (current > 0 || previous > 0).then_some(Self { generation, current, previous })
    }

    /// With more that was lent in the generation of now.
    pub(super) fn plus(self, amount: i64, now: Millis) -> Self {
        let fresh = Self { generation: generation_of(now).max(self.generation), ..Self::default() };
        let lent = self.at(now).unwrap_or(fresh);
        Self { current: lent.current.saturating_add(amount), ..lent }
    }

    /// Closes part of what was lent in a generation; says how much was open of it.
    pub(super) fn close(&mut self, generation: i64, amount: i64) -> i64 {
        let open = match self.generation - generation {
            0 => &mut self.current,
            1 => &mut self.previous,
            // It has expired, or was never lent.
            _ => return 0,
        };
        let closed = amount.clamp(0, *open);
        *open -= closed;
        closed
    }

    /// The floors under what is used, each with the instant at which it gives way to the next.
    pub(super) fn floors(self) -> [(Millis, i64); 2] {
        let end_of =
            |generation: i64| Millis::new(generation.saturating_add(1).saturating_mul(GENERATION_MS));
        let both = self.current.saturating_add(self.previous);
        [(end_of(self.generation), both), (end_of(self.generation.saturating_add(1)), self.current)]
    }
}
