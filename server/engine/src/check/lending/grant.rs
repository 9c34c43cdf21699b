//! What a caller gets of what several limits lend.

use rateguard_core::amounts::Amounts;
use rateguard_core::lease::{Lease, LeaseOutcome, LeaseReturn};
use rateguard_core::limits::CALLER_LEASE_LIFE_MS_MAX;
use rateguard_core::unit::Unit;
use smallvec::SmallVec;

use super::{Wanted, Wish};

/// What one lease of a caller's is made of.
#[derive(Debug)]
pub(super) struct Grant {
    /// How much may be spent of each unit.
    pub(super) granted: Amounts,
    /// What was taken for that, counter by counter.
    pub(super) parts: SmallVec<[(Unit, Lease); 2]>,
    /// For how long it may be spent.
    pub(super) life_ms: i64,
}

/// The grant, and what goes back at once: each limit of a unit lends as much as the one that lends least.
pub(super) struct Granted {
    /// `None` where some limit lends too little.
    pub(super) grant: Option<Grant>,
    pub(super) surplus: Vec<LeaseReturn>,
}

impl Granted {
    pub(super) fn of(wishes: &[Wish], wanted: &[Wanted<'_>], outcomes: &[LeaseOutcome]) -> Self {
        let parts = wanted.iter().zip(outcomes);
        let lent = |wish: &Wish| {
            let of_wish = parts.clone().filter(|(wanted, _)| wanted.wish.unit == wish.unit);
            let amounts = of_wish.map(|(_, outcome)| outcome.lease.map_or(0, |lease| lease.amount));
            amounts.fold(wish.amount, i64::min)
        };
        let enough = wishes.iter().all(|wish| lent(wish) >= wish.least);
        let mut granted = Self { grant: None, surplus: Vec::new() };
        let mut kept = SmallVec::new();
        for (wanted, outcome) in parts.clone() {
            let Some(lease) = outcome.lease else { continue };
            let amount = if enough { lent(wanted.wish) } else { 0 };
            granted.surplus.extend(part_back(&lease, lease.amount - amount));
            kept.push((wanted.wish.unit.clone(), Lease { amount, ..lease }));
        }
        granted.grant = enough.then(|| Grant::of(wishes, lent, kept)).flatten();
        granted
    }
}

impl Grant {
    /// `None` for units that nobody can wish for, which the edge has refused before.
    fn of(wishes: &[Wish], lent: impl Fn(&Wish) -> i64, parts: SmallVec<[(Unit, Lease); 2]>) -> Option<Self> {
        let mut granted = Amounts::default();
        for wish in wishes {
            granted.insert("wishes", wish.unit.clone(), lent(wish)).ok()?;
        }
        let lives = parts.iter().map(|(_, lease)| lease.life_ms);
        let life_ms = lives.fold(CALLER_LEASE_LIFE_MS_MAX, i64::min);
        Some(Self { granted, parts, life_ms })
    }
}

fn part_back(lease: &Lease, unused: i64) -> Option<LeaseReturn> {
    let Lease { counter, mark, .. } = *lease;
    (unused > 0).then_some(LeaseReturn { counter, mark, closed: unused, unused })
}
