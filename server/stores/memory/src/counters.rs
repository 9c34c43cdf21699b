//! The counters of one workspace, and which of them changed since they were written down.

use hashbrown::HashMap;
use hashbrown::hash_map::Entry as Place;
use rateguard_core::counter::{Counter, CounterFamily, CounterId, Limit, Position};
use rateguard_core::decision::{Charge, Counters, Entry};
use rateguard_core::ids::WorkspaceId;
use rateguard_core::lease::LeaseRequest;
use rateguard_core::time::Millis;
use rateguard_engine::ports::{CheckpointBatch, CounterQuery, CounterRow};
use smallvec::SmallVec;

/// Maps that the counters are split into, by the first byte of the id: a map that grows stalls
/// everybody, and a 256th of a million grows within microseconds.
const MAPS: usize = 256;
/// A map keeps its memory until this many times fewer counters are left in it.
const SPARSE: usize = 4;

struct Slot {
    entry: Entry,
    /// Whether it changed since it was last written down; then its id is among the changes, here or
    /// with the checkpoint that took them.
    dirty: bool,
}

/// What a sweep may drop besides counters that are idle by themselves.
pub(crate) struct Sweep<'a> {
    /// The instant.
    pub(crate) now: Millis,
    /// The position from which recovery would begin. A budget that includes a later record has to
    /// stay: settled again, the record would count in a fresh counter.
    pub(crate) written_through: Position,
    /// Whether the limit with such counters is gone for good.
    pub(crate) is_retired: &'a mut dyn FnMut(CounterFamily) -> bool,
}

impl Sweep<'_> {
    fn drops(&mut self, id: CounterId, entry: &Entry) -> bool {
        let counter = &entry.counter;
        if !matches!(counter, Counter::Budget(_)) {
            return counter.is_idle(self.now);
        }
        entry.included <= self.written_through
            && (counter.is_idle(self.now) || counter.is_free(self.now) && (self.is_retired)(id.family()))
    }
}

pub(crate) struct CounterTable {
    maps: Box<[HashMap<CounterId, Slot>; MAPS]>,
    live: usize,
    /// What changed or was dropped. An id may stand here twice; the slot's flag says whether there
    /// is still something to write.
    changed: Vec<CounterId>,
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
        Self { maps, live: 0, changed: Vec::new(), swept: 0, settled_through }
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
        let mut falling = self.falling(live_max);
        let fall = |charge: &Charge| Charge { counter: falling(charge.counter, charge.overflow), ..*charge };
        charges.iter().map(fall).collect()
    }

    /// The counters on which charges of these would fall.
    pub(crate) fn fallen_on(&self, queries: &[CounterQuery], live_max: usize) -> SmallVec<[CounterId; 8]> {
        let mut falling = self.falling(live_max);
        queries.iter().map(|query| falling(query.counter, query.overflow)).collect()
    }

    /// Requests for leases with the counters that they fall on.
    pub(crate) fn fall_requests(&self, requests: &[LeaseRequest], live_max: usize) -> Vec<LeaseRequest> {
        let mut falling = self.falling(live_max);
        let fall = |request: &LeaseRequest| LeaseRequest {
            counter: falling(request.counter, request.overflow),
            ..*request
        };
        requests.iter().map(fall).collect()
    }

    /// Where several charges fall, one after the other: each new counter takes one of the places
    /// that are left.
    fn falling(&self, live_max: usize) -> impl FnMut(CounterId, CounterId) -> CounterId {
        let mut free = live_max.saturating_sub(self.live);
        move |own, overflow| {
            if self.get(own).is_some() {
                return own;
            }
            let has_place = free > 0;
            free = free.saturating_sub(1);
            if has_place { own } else { overflow }
        }
    }

    /// Takes the ids of all that changed, in no order, for a checkpoint to write down.
    pub(crate) fn take_changed(&mut self) -> Vec<CounterId> {
        std::mem::take(&mut self.changed)
    }

    /// Puts changes into a batch as they stand now.
    ///
    /// A budget that holds nothing gets a ceiling of zero: from here on a hold raises it first.
    pub(crate) fn write_down(
        &mut self,
        workspace: &WorkspaceId,
        ids: &[CounterId],
        batch: &mut CheckpointBatch,
    ) {
        for id in ids {
            match self.maps[map_of(*id)].get_mut(id) {
                Some(slot) if slot.dirty => batch.rows.push(slot.write_down(workspace, *id)),
                Some(_) => {}
                None => batch.removed.push((workspace.clone(), *id)),
            }
        }
    }

    /// Makes changes again of what was written down in a batch that did not arrive.
    pub(crate) fn put_back(&mut self, ids: &[CounterId]) {
        for id in ids {
            let unknown = match self.maps[map_of(*id)].get_mut(id) {
                Some(slot) => !std::mem::replace(&mut slot.dirty, true),
                None => true,
            };
            if unknown {
                self.changed.push(*id);
            }
        }
    }

    /// Gives changes back that were taken and never written down.
    pub(crate) fn give_back(&mut self, ids: &[CounterId]) {
        self.changed.extend_from_slice(ids);
    }

    /// Drops what the sweep may drop of the next map.
    pub(crate) fn sweep_next(&mut self, mut sweep: Sweep<'_>) {
        let map = &mut self.maps[usize::from(self.swept)];
        self.swept = self.swept.wrapping_add(1);
        let before = map.len();
        map.retain(|id, slot| {
            let drops = sweep.drops(*id, &slot.entry);
            if drops && !slot.dirty {
                self.changed.push(*id);
            }
            !drops
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
            self.changed.push(id);
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
            self.changed.push(id);
        }
        &mut slot.entry
    }
}

#[cfg(test)]
mod tests;
