//! The ids of decisions that stand: hashes of id and content, the expiry and the reservation.
//!
//! They are packed into generations of one fixed size. Room is made by dropping the oldest
//! generation whole; what in it had not expired is counted as forgotten early. Ids of consumed
//! calls, which live for a minute, cannot push out those of reservations, which live longer.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::HashMap;
use parking_lot::Mutex;
use rateguard_core::time::Millis;

/// Parts that the ids are split into, by the id's first bits, each with a lock of its own.
const PARTS: usize = 16;
/// Kinds that have generations of their own in each part: consumed and reserved.
const KINDS: usize = 2;
/// Generations of one kind in one part: a lookup asks each of them.
const GENERATIONS_MAX: usize = 5;
/// An entry with its key, and the one byte by which a map finds it.
const ENTRY_BYTES: usize = size_of::<(u128, Remembered)>() + 1;
/// Entries below which a generation is not worth its own memory.
const BUCKETS_MIN: usize = 8;
/// The reservation of a decision that made none.
const NO_RESERVATION: u128 = 0;

/// An allowed decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remembered {
    reservation: u128,
    /// Hash of what was asked.
    pub content: u64,
    expires_at: Millis,
}

// The contract's bound: an id costs at most 48 bytes in memory.
const _: () = assert!(size_of::<(u128, Remembered)>() <= 48);

impl Remembered {
    /// A decision on content with this hash, that stands until an instant, with the bits of the reservation
    /// that it made.
    pub fn new(content: u64, expires_at: Millis, reservation: Option<u128>) -> Self {
        Self { reservation: reservation.unwrap_or(NO_RESERVATION), content, expires_at }
    }

    /// The bits of the reservation that the decision made.
    pub fn reservation(&self) -> Option<u128> {
        (self.reservation != NO_RESERVATION).then_some(self.reservation)
    }
}

/// The ids of allowed decisions, in bounded memory.
pub struct RequestIds {
    parts: Box<[Mutex<[Generations; KINDS]>; PARTS]>,
    generation_entries: usize,
    forgotten_early: AtomicU64,
}

#[derive(Default)]
struct Generations(VecDeque<Generation>);

struct Generation {
    entries: HashMap<u128, Remembered>,
    expires_last: Millis,
}

impl RequestIds {
    /// None yet, and never more than fit into so many bytes.
    pub fn new(bytes_max: usize) -> Self {
        let entries = bytes_max / (PARTS * KINDS * GENERATIONS_MAX * ENTRY_BYTES);
        // Maps have a power of two of buckets and fill seven eighths of them.
        let buckets = 1_usize << entries.max(BUCKETS_MIN).ilog2();
        Self {
            parts: Box::new(std::array::from_fn(|_| Mutex::default())),
            generation_entries: buckets / 8 * 7,
            forgotten_early: AtomicU64::new(0),
        }
    }

    /// The decision that was taken for an id, while it stands.
    pub fn recall(&self, id: u128, now: Millis) -> Option<Remembered> {
        let part = self.part(id).lock();
        part.iter().find_map(|kind| kind.find(id, now))
    }

    /// Remembers a decision.
    pub fn remember(&self, id: u128, decision: Remembered, now: Millis) {
        let kind = usize::from(decision.reservation != NO_RESERVATION);
        let mut part = self.part(id).lock();
        // One decision stands for an id: what a reservation left, which lives longer, is not to come back.
        part[1 - kind].forget(id);
        let forgotten = part[kind].remember(id, decision, now, self.generation_entries);
        if forgotten > 0 {
            self.forgotten_early.fetch_add(forgotten, Ordering::Relaxed);
        }
    }

    /// Forgets a decision that was undone.
    pub fn forget(&self, id: u128) {
        self.part(id).lock().iter_mut().for_each(|kind| kind.forget(id));
    }

    /// Lets the id of a reservation stand as long as that does now. Says whether that is longer.
    pub fn extend(&self, id: u128, reservation: u128, expires_at: Millis, now: Millis) -> bool {
        let known = self.recall(id, now).filter(|known| known.reservation() == Some(reservation));
        let known = known.filter(|known| known.expires_at < expires_at);
        if let Some(known) = known {
            self.remember(id, Remembered { expires_at, ..known }, now);
        }
        known.is_some()
    }

    /// Drops generations in which every id has expired.
    pub fn sweep(&self, now: Millis) {
        for part in self.parts.iter() {
            for kind in part.lock().iter_mut() {
                kind.0.retain(|generation| generation.expires_last > now);
            }
        }
    }

    /// Ids that were forgotten before their time, so far.
    pub fn forgotten_early(&self) -> u64 {
        self.forgotten_early.load(Ordering::Relaxed)
    }

    fn part(&self, id: u128) -> &Mutex<[Generations; KINDS]> {
        &self.parts[usize::from(id.to_be_bytes()[0]) % PARTS]
    }
}

impl Generations {
    fn find(&self, id: u128, now: Millis) -> Option<Remembered> {
        // The last one counts, also where it is over: an earlier one may have had longer.
        let last = self.0.iter().rev().find_map(|generation| generation.entries.get(&id));
        last.filter(|decision| decision.expires_at > now).copied()
    }

    fn forget(&mut self, id: u128) {
        for generation in &mut self.0 {
            generation.entries.remove(&id);
        }
    }

    /// Says how many ids were forgotten early to make room.
    fn remember(&mut self, id: u128, decision: Remembered, now: Millis, entries_max: usize) -> u64 {
        let full = |generation: &Generation| generation.entries.len() >= entries_max;
        let mut forgotten = 0;
        if self.0.back().is_none_or(full) {
            forgotten = self.make_room(now);
            self.0.push_back(Generation::new(entries_max));
        }
        if let Some(current) = self.0.back_mut() {
            current.entries.insert(id, decision);
            current.expires_last = current.expires_last.max(decision.expires_at);
        }
        forgotten
    }

    fn make_room(&mut self, now: Millis) -> u64 {
        self.0.retain(|generation| generation.expires_last > now);
        if self.0.len() < GENERATIONS_MAX {
            return 0;
        }
        let oldest = self.0.pop_front();
        let standing = |generation: Generation| {
            generation.entries.values().filter(|decision| decision.expires_at > now).count()
        };
        oldest.map_or(0, |generation| standing(generation) as u64)
    }
}

impl Generation {
    fn new(entries_max: usize) -> Self {
        Self { entries: HashMap::with_capacity(entries_max), expires_last: Millis::ZERO }
    }
}

#[cfg(test)]
mod tests;
