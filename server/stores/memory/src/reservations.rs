//! The reservations of one workspace: open ones in the order of their expiry, expired ones whose
//! floor has no event yet, and the records of those that are over.

use std::collections::{BTreeSet, VecDeque};

use hashbrown::HashMap;
use rateguard_core::counter::CounterId;
use rateguard_core::ids::ReservationId;
use rateguard_core::limits::RESERVATION_RECORD_MS;
use rateguard_core::money::Nanos;
use rateguard_core::reservation::{Reservation, ReservationState};
use rateguard_core::time::Millis;

use crate::counters::CounterTable;

/// Where a reservation is kept besides the map.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    AwaitsFloorEvent,
    Over,
}

impl Stage {
    fn of(reservation: &Reservation) -> Self {
        match reservation.state {
            ReservationState::Open => Self::Open,
            ReservationState::Expired if reservation.awaits_floor_event() => Self::AwaitsFloorEvent,
            _ => Self::Over,
        }
    }
}

/// A reservation as it is kept here.
pub(crate) struct Kept {
    pub(crate) reservation: Reservation,
    /// The cost for which it was made, for repetitions of its check. These end with the process, and
    /// so does this.
    pub(crate) cost: Option<Nanos>,
    /// Under which its check is remembered; the same.
    pub(crate) request: Option<u128>,
}

#[derive(Default)]
pub(crate) struct ReservationTable {
    /// By the bits of the id; boxed, so that growth moves little.
    by_id: HashMap<u128, Box<Kept>>,
    due: BTreeSet<(Millis, u128)>,
    floors: BTreeSet<u128>,
    /// In the order in which they ended.
    over: VecDeque<u128>,
}

impl ReservationTable {
    pub(crate) fn get(&self, id: &ReservationId) -> Option<&Reservation> {
        // Text that is no number has the bits of zero, so the id itself is compared too.
        self.by_bits(id.to_bits()).filter(|reservation| reservation.id == *id)
    }

    /// By the bits of an id that is known to be one.
    pub(crate) fn kept(&self, bits: u128) -> Option<&Kept> {
        self.by_id.get(&bits).map(Box::as_ref)
    }

    fn by_bits(&self, bits: u128) -> Option<&Reservation> {
        self.kept(bits).map(|kept| &kept.reservation)
    }

    /// Whether the bits of an id are taken.
    pub(crate) fn is_taken(&self, id: &ReservationId) -> bool {
        self.by_id.contains_key(&id.to_bits())
    }

    pub(crate) fn insert(&mut self, kept: Kept) {
        let reservation = &kept.reservation;
        let bits = reservation.id.to_bits();
        self.enter(Stage::of(reservation), reservation.expires_at, bits);
        self.by_id.insert(bits, Box::new(kept));
    }

    /// Whether there is no room for one more, unless another is dropped.
    pub(crate) fn is_full(&self, count_max: usize) -> bool {
        self.by_id.len() >= count_max
    }

    /// Makes room for one more, dropping the record that ended first. False when all are open.
    pub(crate) fn make_room(&mut self, count_max: usize) -> bool {
        while self.is_full(count_max) {
            let Some(oldest) = self.over.pop_front() else { return false };
            self.by_id.remove(&oldest);
        }
        true
    }

    /// Changes a reservation and keeps the order true.
    pub(crate) fn change(
        &mut self,
        id: &ReservationId,
        change: impl FnOnce(&mut Reservation),
    ) -> Option<&Reservation> {
        let bits = id.to_bits();
        let kept = self.by_id.get_mut(&bits).filter(|kept| kept.reservation.id == *id)?;
        let reservation = &mut kept.reservation;
        let (before, due_before) = (Stage::of(reservation), reservation.expires_at);
        change(reservation);
        let (after, expires_at) = (Stage::of(reservation), reservation.expires_at);
        if (before, due_before) != (after, expires_at) {
            self.leave(before, due_before, bits);
            self.enter(after, expires_at, bits);
        }
        self.by_bits(bits)
    }

    /// Forgets what they all took of counters that were set back.
    pub(crate) fn forget(&mut self, is_set_back: impl Fn(CounterId) -> bool) {
        self.by_id.values_mut().for_each(|kept| kept.reservation.forget(&is_set_back));
    }

    /// Expires at most `limit` of those that are due; says whether that were all.
    pub(crate) fn expire_due(&mut self, counters: &mut CounterTable, now: Millis, limit: usize) -> bool {
        for _ in 0..limit {
            let Some((_, bits)) = self.due.first().copied().filter(|(at, _)| *at <= now) else { return true };
            self.due.pop_first();
            if let Some(Kept { reservation, .. }) = self.by_id.get_mut(&bits).map(Box::as_mut) {
                reservation.expire(counters, now);
                let (stage, expires_at) = (Stage::of(reservation), reservation.expires_at);
                self.enter(stage, expires_at, bits);
            }
        }
        self.due.first().is_none_or(|(at, _)| *at > now)
    }

    /// Expired ones whose floor has no event yet.
    pub(crate) fn awaiting_floor_event(&self) -> impl Iterator<Item = &Reservation> {
        self.floors.iter().filter_map(|bits| self.by_bits(*bits))
    }

    /// Drops at most `limit` records that have stood for their time.
    pub(crate) fn drop_old(&mut self, now: Millis, limit: usize) {
        for _ in 0..limit {
            let Some(oldest) = self.over.front().copied() else { return };
            let stands = |reservation: &Reservation| now < reservation.expires_at.plus(RESERVATION_RECORD_MS);
            if self.by_bits(oldest).is_some_and(stands) {
                return;
            }
            self.over.pop_front();
            self.by_id.remove(&oldest);
        }
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Reservation> {
        self.by_id.values().map(|kept| &kept.reservation)
    }

    fn enter(&mut self, stage: Stage, expires_at: Millis, bits: u128) {
        match stage {
            Stage::Open => drop(self.due.insert((expires_at, bits))),
            Stage::AwaitsFloorEvent => drop(self.floors.insert(bits)),
            Stage::Over => self.over.push_back(bits),
        }
    }

    fn leave(&mut self, stage: Stage, expires_at: Millis, bits: u128) {
        match stage {
            Stage::Open => drop(self.due.remove(&(expires_at, bits))),
            Stage::AwaitsFloorEvent => drop(self.floors.remove(&bits)),
            // What is over stays over: a further attempt changes its figures alone.
            Stage::Over => {}
        }
    }
}

#[cfg(test)]
mod tests;
