//! The counters of one workspace, and which of them changed since they were written down.

mod maps;

use std::ops::Range;

use hashbrown::hash_map::Entry as Place;
use rateguard_core::counter::{Counter, CounterFamily, CounterId, Limit, Position};
use rateguard_core::decision::{Charge, Counters, Entry};
use rateguard_core::ids::WorkspaceId;
use rateguard_core::lease::LeaseRequest;
use rateguard_core::time::Millis;
use rateguard_engine::ports::{CheckpointBatch, CounterQuery, CounterRow, LeadRow, ResetCounters};
use smallvec::SmallVec;

use self::maps::{Maps, PARTS, part_of};
use crate::covering::{Uncovered, UncoveredCounters};
use crate::leads::Leads;

struct Slot {
    entry: Entry,
    /// Whether it changed since it was last written down; then its id is among the changes, here or
    /// with the checkpoint that took them.
    dirty: bool,
    /// Units that calls took since it was last on disk; never what reports charged, which the log has.
    taken: i64,
    /// How much of that is in the write under way.
    sent: i64,
    /// The number of the last crash whose loss is in it.
    crashes: u32,
    /// Whether it may have been set back since a crash: were it dropped, it would owe again what that lost.
    stays: bool,
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
        if !matches!(counter, Counter::Budget(_) | Counter::Concurrency(_)) {
            return counter.is_idle(self.now);
        }
        entry.included <= self.written_through
            && (counter.is_idle(self.now) || counter.is_free(self.now) && (self.is_retired)(id.family()))
    }
}

/// The counters, and what is told of them all.
struct Slots {
    maps: Maps<Slot>,
    live: usize,
    /// What changed or was dropped. An id may stand here twice; the slot's flag says whether there
    /// is still something to write.
    changed: Vec<CounterId>,
    /// Counters that do not include the loss of every crash yet.
    owing: usize,
}

impl Slots {
    fn get(&self, id: CounterId) -> Option<&Slot> {
        self.maps.get(id)
    }

    fn get_mut(&mut self, id: CounterId) -> Option<&mut Slot> {
        self.maps.get_mut(id)
    }

    /// A counter that stands as changed from now on, made where it does not exist.
    fn changing(&mut self, id: CounterId, leads: &Leads, fresh: impl FnOnce() -> Slot) -> &mut Slot {
        let slot = match self.maps.entry(id) {
            Place::Occupied(place) => place.into_mut(),
            Place::Vacant(place) => {
                let slot = place.insert(fresh());
                self.live += 1;
                self.owing += usize::from(slot.crashes < leads.crashes());
                slot
            }
        };
        if !std::mem::replace(&mut slot.dirty, true) {
            self.changed.push(id);
        }
        slot
    }
}

/// A reset on its way.
pub(crate) struct Reset<'a> {
    pub(crate) which: &'a ResetCounters,
    /// The instant.
    pub(crate) now: Millis,
    /// Counters that there may be.
    pub(crate) live_max: usize,
}

/// Parts whose counters are set back at once.
const SET_BACK_PARTS: usize = 16;

/// The parts in which counters are set back, others having their turn in between: those that may have any, a few
/// at a time.
pub(crate) fn parts_of(which: &ResetCounters) -> impl Iterator<Item = Range<usize>> {
    let (first, last) = match which {
        ResetCounters::One(id, _) => (part_of(*id), part_of(*id)),
        ResetCounters::All { .. } => (0, PARTS - 1),
    };
    (first..=last).step_by(SET_BACK_PARTS).map(move |from| from..(from + SET_BACK_PARTS).min(last + 1))
}

/// Whether a counter is in one of these parts.
pub(crate) fn is_in(id: CounterId, parts: &Range<usize>) -> bool {
    parts.contains(&part_of(id))
}

pub(crate) struct CounterTable {
    slots: Slots,
    swept: u8,
    pub(crate) leads: Leads,
    /// What the decision of now took beyond the leads.
    uncovered: UncoveredCounters,
    /// Every record of the workspace at or before it is in the counters.
    pub(crate) settled_through: Position,
}

impl CounterTable {
    pub(crate) fn new(settled_through: Position, leads: Leads) -> Self {
        let slots = Slots { maps: Maps::new(), live: 0, changed: Vec::new(), owing: 0 };
        Self { slots, swept: 0, leads, uncovered: UncoveredCounters::new(), settled_through }
    }

    /// How many counters there are.
    pub(crate) fn live(&self) -> usize {
        self.slots.live
    }

    /// A counter as it was written down, which included so many crashes.
    pub(crate) fn load(&mut self, id: CounterId, entry: Entry, included: u32) {
        let is_plain = !matches!(entry.counter, Counter::Budget(_) | Counter::Concurrency(_));
        let owes = is_plain && self.leads.owes(id.family(), included);
        let crashes = if owes { included } else { self.leads.crashes() };
        let stays = is_plain && !owes && self.leads.owes(id.family(), 0);
        let slot = Slot { entry, dirty: false, taken: 0, sent: 0, crashes, stays };
        if self.slots.maps.insert(id, slot).is_none() {
            self.slots.live += 1;
            self.slots.owing += usize::from(owes);
        }
    }

    /// Takes what crashes have lost of counters into them, before anybody reads them.
    pub(crate) fn settle_losses<'l>(
        &mut self,
        counters: impl Iterator<Item = (CounterId, &'l Limit)>,
        now: Millis,
    ) {
        if self.slots.owing == 0 {
            return;
        }
        for (id, limit) in counters {
            let slot = self.slots.get_mut(id);
            let Some(slot) = slot.filter(|slot| slot.crashes < self.leads.crashes()) else { continue };
            self.leads.settle(id.family(), slot.crashes, &mut slot.entry.counter, limit, now);
            slot.crashes = self.leads.crashes();
            self.slots.owing -= 1;
        }
    }

    /// What was taken beyond the leads since the last call of this.
    pub(crate) fn take_uncovered(&mut self) -> UncoveredCounters {
        std::mem::take(&mut self.uncovered)
    }

    /// Those of the charges' counters that are ahead of the disk by more than their leads.
    pub(crate) fn uncovered_of(&self, charges: &[Charge]) -> UncoveredCounters {
        let takes = charges.iter().filter(|charge| charge.demand.take > 0);
        let of = |charge: &Charge| Uncovered { counter: charge.counter, limit: charge.limit };
        takes.map(of).filter(|uncovered| !self.is_covered(uncovered)).collect()
    }

    /// Whether the leads cover what was taken.
    pub(crate) fn are_covered(&self, uncovered: &[Uncovered]) -> bool {
        uncovered.iter().all(|uncovered| self.is_covered(uncovered))
    }

    fn is_covered(&self, Uncovered { counter, limit }: &Uncovered) -> bool {
        // A counter that is gone counts like a fresh one.
        let slot = self.slots.get(*counter);
        slot.is_none_or(|slot| self.leads.covers(counter.family(), limit, slot.taken))
    }

    /// The leads that would have covered what was taken.
    pub(crate) fn raise_leads(&mut self, workspace: &WorkspaceId, uncovered: &[Uncovered]) -> Vec<LeadRow> {
        let Self { slots, leads, .. } = self;
        let mut rows: Vec<LeadRow> = Vec::new();
        for Uncovered { counter, limit } in uncovered {
            let Some(slot) = slots.get(*counter) else { continue };
            let Some(row) = leads.raise(workspace, counter.family(), limit, slot.taken) else { continue };
            match rows.iter_mut().find(|other| other.family == row.family) {
                Some(other) => other.units = other.units.max(row.units),
                None => rows.push(row),
            }
        }
        rows
    }

    /// The counter that a charge falls on: its own, or the overflow counter when its own would be
    /// one too many.
    pub(crate) fn fallen(&self, own: CounterId, overflow: CounterId, live_max: usize) -> CounterId {
        if self.slots.live < live_max || self.get(own).is_some() { own } else { overflow }
    }

    /// Whether `more` counters might pass the bound.
    pub(crate) fn is_nearly_full(&self, more: usize, live_max: usize) -> bool {
        self.slots.live + more > live_max
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
        let mut free = live_max.saturating_sub(self.slots.live);
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
        std::mem::take(&mut self.slots.changed)
    }

    /// Puts changes into a batch as they stand now.
    ///
    /// What holds nothing gets a ceiling of zero: from here on a hold raises it first.
    pub(crate) fn write_down(
        &mut self,
        workspace: &WorkspaceId,
        ids: &[CounterId],
        batch: &mut CheckpointBatch,
    ) {
        for id in ids {
            match self.slots.get_mut(*id) {
                Some(slot) if slot.dirty => {
                    batch.rows.push(slot.write_down(workspace, *id));
                    self.leads.note(id.family(), slot.taken);
                }
                Some(_) => {}
                None => batch.removed.push((workspace.clone(), *id)),
            }
        }
    }

    /// Notes that what was written down is on disk.
    pub(crate) fn arrived(&mut self, ids: &[CounterId]) {
        for id in ids {
            if let Some(slot) = self.slots.get_mut(*id) {
                slot.taken -= std::mem::take(&mut slot.sent);
            }
        }
    }

    /// Makes changes again of what was written down in a batch that did not arrive.
    pub(crate) fn put_back(&mut self, ids: &[CounterId]) {
        self.leads.round_failed();
        for id in ids {
            let unknown = match self.slots.get_mut(*id) {
                Some(slot) => {
                    slot.sent = 0;
                    !std::mem::replace(&mut slot.dirty, true)
                }
                None => true,
            };
            if unknown {
                self.slots.changed.push(*id);
            }
        }
    }

    /// Gives changes back that were taken and never written down.
    pub(crate) fn give_back(&mut self, ids: &[CounterId]) {
        self.slots.changed.extend_from_slice(ids);
    }

    /// Sets counters of some parts back and says how many there were. What crashes have lost of them before
    /// is not owed any more.
    pub(crate) fn set_back(&mut self, reset: &Reset<'_>, parts: &Range<usize>) -> u64 {
        match reset.which {
            ResetCounters::One(id, limit) => {
                self.begin_set_back(*id, limit, reset);
                u64::from(self.set_one_back(*id))
            }
            ResetCounters::All { family, .. } => {
                self.leads.forgive(*family);
                let ids = self.slots.maps.ids_in(parts).into_iter().filter(|id| reset.which.holds(*id));
                ids.map(|id| u64::from(self.set_one_back(id))).sum()
            }
        }
    }

    /// Makes a counter that does not exist where it would owe something when it is made later.
    fn begin_set_back(&mut self, id: CounterId, limit: &Limit, reset: &Reset<'_>) {
        let Self { slots, leads, settled_through, .. } = self;
        let is_full = slots.live >= reset.live_max;
        if is_full || slots.get(id).is_some() || !leads.may_owe(id.family(), reset.now) {
            return;
        }
        let entry = Entry { counter: Counter::fresh(limit, reset.now), included: *settled_through };
        let crashes = leads.crashes();
        let fresh = || Slot { entry, dirty: false, taken: 0, sent: 0, crashes, stays: true };
        slots.changing(id, leads, fresh);
    }

    fn set_one_back(&mut self, id: CounterId) -> bool {
        let Self { slots, leads, .. } = self;
        let is_plain = |slot: &&mut Slot| !matches!(slot.entry.counter, Counter::Budget(_));
        let Some(slot) = slots.get_mut(id).filter(is_plain) else { return false };
        slot.stays = true;
        let owed = std::mem::replace(&mut slot.crashes, leads.crashes()) < leads.crashes();
        slots.owing -= usize::from(owed);
        self.get_mut(id).is_some_and(|entry| entry.counter.set_back())
    }

    /// Drops what the sweep may drop of the next part.
    pub(crate) fn sweep_next(&mut self, mut sweep: Sweep<'_>) {
        let (leads, now) = (&self.leads, sweep.now);
        let Slots { maps, live, changed, owing } = &mut self.slots;
        *live -= maps.sweep(self.swept, |id, slot| {
            let stays = slot.stays && leads.may_owe(id.family(), now);
            let drops = !stays && sweep.drops(*id, &slot.entry);
            if drops && !slot.dirty {
                changed.push(*id);
            }
            // What is in no row owes as much.
            *owing -= usize::from(drops && slot.crashes < leads.crashes());
            !drops
        });
        self.swept = self.swept.wrapping_add(1);
    }
}

impl Slot {
    /// A counter that is in no row. The place of a mark is a limit of nothing, of which it cannot be
    /// said what crashes have lost of it: that waits for the next charge.
    fn fresh(id: CounterId, limit: &Limit, leads: &Leads, included: Position, now: Millis) -> Self {
        let is_plain = !matches!(limit, Limit::Budget { .. } | Limit::Concurrency { .. });
        let owes = is_plain && limit.size() == 0 && leads.owes(id.family(), 0);
        let entry = Entry { counter: leads.fresh(id.family(), limit, now), included };
        let crashes = if owes { 0 } else { leads.crashes() };
        Self { entry, dirty: false, taken: 0, sent: 0, crashes, stays: false }
    }

    fn write_down(&mut self, workspace: &WorkspaceId, id: CounterId) -> CounterRow {
        self.dirty = false;
        self.sent = self.taken;
        match &mut self.entry.counter {
            Counter::Budget(budget) if budget.held() == 0 => budget.ceiling = 0,
            Counter::Concurrency(concurrency) if concurrency.held == 0 => concurrency.ceiling = 0,
            _ => {}
        }
        let Entry { counter, included } = self.entry.clone();
        CounterRow { workspace: workspace.clone(), id, included, counter, crashes: self.crashes }
    }
}

impl Counters for CounterTable {
    fn get(&self, id: CounterId) -> Option<&Entry> {
        self.slots.get(id).map(|slot| &slot.entry)
    }

    fn get_mut(&mut self, id: CounterId) -> Option<&mut Entry> {
        let Slots { maps, changed, .. } = &mut self.slots;
        let slot = maps.get_mut(id)?;
        if !std::mem::replace(&mut slot.dirty, true) {
            changed.push(id);
        }
        Some(&mut slot.entry)
    }

    fn get_or_insert(&mut self, id: CounterId, limit: &Limit, now: Millis) -> &mut Entry {
        let Self { slots, leads, settled_through, .. } = self;
        let fresh = || Slot::fresh(id, limit, leads, *settled_through, now);
        &mut slots.changing(id, leads, fresh).entry
    }

    fn fresh(&self, id: CounterId, limit: &Limit, now: Millis) -> Counter {
        self.leads.fresh(id.family(), limit, now)
    }

    fn take_from(&mut self, charge: &Charge, now: Millis) -> &mut Entry {
        let Self { slots, leads, uncovered, settled_through, .. } = self;
        let Charge { counter, ref limit, demand, .. } = *charge;
        let fresh = || Slot::fresh(counter, limit, leads, *settled_through, now);
        let slot = slots.changing(counter, leads, fresh);
        if !matches!(limit, Limit::Budget { .. } | Limit::Concurrency { .. }) {
            // What is given back may be more than the counter has: it makes no room for later calls.
            slot.taken = slot.taken.saturating_add(demand.take.max(0));
            if !leads.covers(counter.family(), limit, slot.taken) {
                uncovered.push(Uncovered { counter, limit: *limit });
            }
        }
        &mut slot.entry
    }
}

#[cfg(test)]
mod tests;
