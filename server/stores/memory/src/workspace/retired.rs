//! Budgets that are gone, with the counters that they left behind.

use std::collections::HashSet;

use hashbrown::HashMap;
use rateguard_core::counter::CounterFamily;
use rateguard_core::limits::RESERVATION_TTL_MS_MAX;
use rateguard_core::time::Millis;

/// How long a budget has to be unknown before its counters go: by then every reservation of it is over that
/// is not renewed, and one that was only not known yet has long been taken in. What still holds money stays.
const RETIRED_MS_MIN: i64 = RESERVATION_TTL_MS_MAX;
/// After this long nothing of such a budget is left to drop; what still holds money by then is found
/// again.
const REMEMBERED_MS: i64 = 2 * RETIRED_MS_MIN;

/// Since when budgets with counters are not known any more.
#[derive(Default)]
pub(super) struct Retired(HashMap<CounterFamily, Millis>);

impl Retired {
    /// Whether counters of this family may go, since their budget is none of the living for long
    /// enough.
    pub(super) fn may_go(
        &mut self,
        family: CounterFamily,
        live: &HashSet<CounterFamily>,
        now: Millis,
    ) -> bool {
        if live.contains(&family) {
            self.0.remove(&family);
            return false;
        }
        now >= self.0.entry(family).or_insert(now).plus(RETIRED_MS_MIN)
    }

    /// Forgets budgets that have been gone for long.
    pub(super) fn forget_old(&mut self, now: Millis) {
        self.0.retain(|_, since| now < since.plus(REMEMBERED_MS));
    }
}
