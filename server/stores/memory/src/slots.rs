//! The slots of replicas that share this store, as in tests of several engines.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use rateguard_core::time::Millis;
use rateguard_engine::ports::{SLOT_MARGIN_MS, Slot, SlotClaim, SlotHolder};

#[derive(Default)]
pub(crate) struct Slots(Mutex<State>);

#[derive(Default)]
struct State {
    known_since: Option<Millis>,
    held: BTreeMap<u16, (SlotHolder, Millis)>,
}

impl Slots {
    pub(crate) fn hold(&self, claim: &SlotClaim) -> Option<Slot> {
        let mut state = self.0.lock();
        let known_since = *state.known_since.get_or_insert(claim.now);
        let may_have = |number: &u16| {
            let held = state.held.get(number);
            held.is_none_or(|(holder, end)| *holder == claim.holder || *end <= claim.now)
        };
        let last = claim.last.filter(|number| *number < claim.slots_max && may_have(number));
        let number = last.or_else(|| (0..claim.slots_max).find(may_have))?;
        let end = claim.now.plus(claim.life_ms.saturating_add(SLOT_MARGIN_MS));
        state.held.insert(number, (claim.holder, end));
        Some(Slot { number, usable_in_ms: known_since.plus(claim.settling_ms).since(claim.now) })
    }

    pub(crate) fn free(&self, holder: SlotHolder, number: u16) {
        let mut state = self.0.lock();
        if state.held.get(&number).is_some_and(|(other, _)| *other == holder) {
            state.held.remove(&number);
        }
    }
}
