//! Slots: small numbers that replicas hold, so that few enough of them decide alone while the counters
//! are away.

use rateguard_core::time::Millis;

/// Who holds a slot: a random number of one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SlotHolder(pub u64);

/// A wish for a slot, or to keep the one that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotClaim {
    /// Who asks.
    pub holder: SlotHolder,
    /// The slot that it has or had last; it gets this one again where nobody else has it.
    pub last: Option<u16>,
    /// How long the claim lasts unless it is renewed, in milliseconds.
    pub life_ms: i64,
    /// How long the store has to have known of slots before a new one may be used, in milliseconds: a
    /// store that lost its memory may have lost a slot whose holder still uses it.
    pub settling_ms: i64,
    /// Numbers that there are, from zero.
    pub slots_max: u16,
    /// The instant, where the store has no clock of its own.
    pub now: Millis,
}

/// A slot that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Its number; the smallest that was free.
    pub number: u16,
    /// After how many milliseconds it may be used first.
    pub usable_in_ms: i64,
}

/// A store keeps a claim by this much longer than its holder counts on, for clocks that run unlike.
pub const SLOT_MARGIN_MS: i64 = 1_000;
