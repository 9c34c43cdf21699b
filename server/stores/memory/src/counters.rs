//! The counters of one workspace, and which of them changed since they were written down.

use std::collections::VecDeque;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry as Place;
use rateguard_core::counter::{Counter, CounterId, Limit, Position};
use rateguard_core::decision::{Charge, Counters, Entry};
use rateguard_core::ids::WorkspaceId;
use rateguard_core::time::Millis;
use rateguard_engine::ports::{CheckpointBatch, CounterRow};
use smallvec::SmallVec;

/// Maps that the counters are split into, by the first byte of the id: a map that grows stalls
/// everybody, and a 256th of a million grows within microseconds.
const MAPS: usize = 256;
/// A map keeps its memory until this many times fewer counters are left in it.
const SPARSE: usize = 4;

struct Slot {
    entry: Entry,
    /// Whether the id stands in the queue of what changed.
    dirty: bool,
}

pub(crate) struct CounterTable {
    maps: Box<[HashMap<CounterId, Slot>; MAPS]>,
    live: usize,
    /// What changed or was dropped, oldest first. An id may stand here twice; the slot's flag says
    /// whether there is still something to write.
    dirty: VecDeque<CounterId>,
    swept: u8,
    /// Every record of the workspace at or before it is in the counters.
    pub(crate) settled_through: Position,
}

fn map_of(id: CounterId) -> usize {
    usize::from(id.0.to_be_bytes()[0])
}

impl CounterTable {
    pub(crate) fn new(settled_through: Position) -> Self {
        let maps = Box::new(std::array::from_fn(|_| HashMap::new()));
        Self { maps, live: 0, dirty: VecDeque::new(), swept: 0, settled_through }
    }

    /// How many counters there are.
    pub(crate) fn live(&self) -> usize {
        self.live
    }

    /// A counter as it was written down.
    pub(crate) fn load(&mut self, id: CounterId, entry: Entry) {
        if self.maps[map_of(id)].insert(id, Slot { entry, dirty: false }).is_none() {
            self.live += 1;
        }
    }

    /// The counter that a charge falls on: its own, or the overflow counter when its own would be
    /// one too many.
    pub(crate) fn fallen(&self, own: CounterId, overflow: CounterId, live_max: usize) -> CounterId {
        if self.live < live_max || self.get(own).is_some() { own } else { overflow }
    }

    /// Whether `more` counters might pass the bound.
    pub(crate) fn is_nearly_full(&self, more: usize, live_max: usize) -> bool {
        self.live + more > live_max
    }

    /// The charges with the counters that they fall on.
    pub(crate) fn fall(&self, charges: &[Charge], live_max: usize) -> SmallVec<[Charge; 8]> {
        let mut free = live_max.saturating_sub(self.live);
        let fall = |charge: &Charge| {
            if self.get(charge.counter).is_some() {
                return *charge;
            }
            let own = free > 0;
            free = free.saturating_sub(1);
            Charge { counter: if own { charge.counter } else { charge.overflow }, ..*charge }
        };
        charges.iter().map(fall).collect()
    }

    /// How many changes wait to be written.
    pub(crate) fn changes(&self) -> usize {
        self.dirty.len()
    }

    /// Takes the oldest changes into a batch and names them, so that they can be put back when the
    /// batch is not written.
    ///
    /// A budget that holds nothing gets a ceiling of zero: from here on a hold raises it first.
    pub(crate) fn take_changes(
        &mut self,
        workspace: &WorkspaceId,
        limit: usize,
        batch: &mut CheckpointBatch,
    ) -> Vec<CounterId> {
        let count = limit.min(self.dirty.len());
        let taken: Vec<CounterId> = self.dirty.drain(..count).collect();
        for id in &taken {
            match self.maps[map_of(*id)].get_mut(id) {
                Some(slot) if slot.dirty => batch.rows.push(slot.write_down(workspace, *id)),
                Some(_) => {}
                None => batch.removed.push((workspace.clone(), *id)),
            }
        }
        taken
    }

    /// Puts changes back that were taken and not written.
    pub(crate) fn put_back(&mut self, taken: &[CounterId]) {
        for id in taken {
            let written = match self.maps[map_of(*id)].get_mut(id) {
                Some(slot) => !std::mem::replace(&mut slot.dirty, true),
                None => true,
            };
            if written {
                self.dirty.push_back(*id);
            }
        }
    }

    /// Drops the counters of the next map that equal fresh ones.
    pub(crate) fn sweep_next(&mut self, now: Millis) {
        let map = &mut self.maps[usize::from(self.swept)];
        self.swept = self.swept.wrapping_add(1);
        let before = map.len();
        map.retain(|id, slot| {
            let idle = slot.entry.counter.is_idle(now);
            if idle && !slot.dirty {
                self.dirty.push_back(*id);
            }
            !idle
        });
        self.live -= before - map.len();
        if map.capacity() > SPARSE * map.len() {
            map.shrink_to(2 * map.len());
        }
    }
}

impl Slot {
    fn write_down(&mut self, workspace: &WorkspaceId, id: CounterId) -> CounterRow {
        self.dirty = false;
        if let Counter::Budget(budget) = &mut self.entry.counter
            && budget.held() == 0
        {
            budget.ceiling = 0;
        }
        let Entry { counter, included } = self.entry.clone();
        CounterRow { workspace: workspace.clone(), id, included, counter }
    }
}

impl Counters for CounterTable {
    fn get(&self, id: CounterId) -> Option<&Entry> {
        self.maps[map_of(id)].get(&id).map(|slot| &slot.entry)
    }

    fn get_mut(&mut self, id: CounterId) -> Option<&mut Entry> {
        let slot = self.maps[map_of(id)].get_mut(&id)?;
        if !std::mem::replace(&mut slot.dirty, true) {
            self.dirty.push_back(id);
        }
        Some(&mut slot.entry)
    }

    fn get_or_insert(&mut self, id: CounterId, limit: &Limit, now: Millis) -> &mut Entry {
        let slot = match self.maps[map_of(id)].entry(id) {
            Place::Occupied(place) => place.into_mut(),
            Place::Vacant(place) => {
                self.live += 1;
                let entry = Entry { counter: Counter::fresh(limit, now), included: self.settled_through };
                place.insert(Slot { entry, dirty: false })
            }
        };
        if !std::mem::replace(&mut slot.dirty, true) {
            self.dirty.push_back(id);
        }
        &mut slot.entry
    }
}

#[cfg(test)]
mod tests;
