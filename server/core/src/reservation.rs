//! Reservations: amounts held for one call, and how they are settled, released and expired.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::amounts::Amounts;
use crate::counter::{Counter, CounterId, Limit, Mark, Position};
use crate::decision::{Charge, Counters, Entry, Verdict};
use crate::ids::{KeyId, RequestId, ReservationId};
use crate::limits::RESERVATION_LIFE_MS_MAX;
use crate::money::Nanos;
use crate::time::Millis;
use crate::unit::Unit;
use crate::usage::CallIdentity;

/// An amount that a reservation took from one counter, or zero where the amount is known only from
/// its reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    /// The counter.
    pub counter: CounterId,
    /// What it counts.
    pub unit: Unit,
    /// What stands in it for this reservation.
    pub taken: i64,
    /// What its reports have used so far; `None` while none named the unit.
    pub used: Option<i64>,
    /// Where it was taken, and where its reports charge what they used beyond it.
    pub mark: Mark,
}

impl Captured {
    /// Whether it is money held by a budget.
    pub fn is_budget(&self) -> bool {
        matches!(self.mark, Mark::Budget { .. })
    }

    /// Whether it is held only as long as the call runs.
    fn is_concurrency(&self) -> bool {
        self.mark == Mark::Concurrency
    }
}

/// Where a reservation is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReservationState {
    /// Its amounts are held.
    Open,
    /// Its final report came.
    Settled,
    /// Its holder gave it back.
    Released,
    /// Nobody settled it in time; its floor may still be waiting for its event.
    Expired,
}

/// A reservation as its store keeps it. It outlives its end, so that a late report finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// Which.
    pub id: ReservationId,
    /// The key whose call it is; only the same may settle, renew or release it.
    pub key: KeyId,
    /// Whether a gateway holds it on the key's behalf; then the key itself may not touch it.
    pub by_gateway: bool,
    /// Where it is in its life.
    pub state: ReservationState,
    /// When it was decided: what it costs is accounted at this instant.
    pub decided_at: Millis,
    /// When it expires unless it is settled.
    pub expires_at: Millis,
    /// What is left to charge of the input's cost if nobody settles it: its reports count against it,
    /// and the final one ends it.
    pub floor: Nanos,
    /// The position of the last record that the state and the floor include.
    pub included: Position,
    /// The call, for the event that its expiry becomes.
    pub call: Arc<CallIdentity>,
    /// The id of the check that took it.
    pub request_id: Option<RequestId>,
    /// What it took.
    pub captured: SmallVec<[Captured; 4]>,
}

/// What a report says that a reserved call used.
#[derive(Clone, Copy, Debug)]
pub struct Settlement<'a> {
    /// Its position in the log.
    pub position: Position,
    /// Amounts by unit, without money.
    pub amounts: &'a Amounts,
    /// The cost.
    pub cost: Nanos,
    /// Whether the call is over, so that what is left of its holds is freed.
    pub is_final: bool,
    /// Whether less than the estimate may be given back: only exact figures refund.
    pub refund: bool,
    /// The instant of the settlement.
    pub now: Millis,
}

impl Settlement<'_> {
    fn amount(&self, unit: &Unit) -> Option<i64> {
        match unit {
            Unit::Cost => Some(self.cost.get().max(0)),
            unit => self.amounts.get(unit),
        }
    }
}

/// What a decision took, and what it only tested, for the reservation to remember. `units` are the charges' units.
pub fn capture<'a>(
    charges: &[Charge],
    units: impl Iterator<Item = &'a Unit>,
    verdict: &Verdict,
) -> SmallVec<[Captured; 4]> {
    charges
        .iter()
        .zip(units)
        .zip(&verdict.marks)
        .filter_map(|((charge, unit), mark)| {
            let (counter, taken) = (charge.counter, charge.demand.take);
            Some(Captured { counter, unit: unit.clone(), taken, used: None, mark: (*mark)? })
        })
        .collect()
}

impl Reservation {
    /// Replaces what the call was thought to use by what it did use.
    pub fn settle(&mut self, counters: &mut impl Counters, settlement: &Settlement<'_>) {
        for captured in &mut self.captured {
            let entry = captured.entry(counters, settlement.now);
            let Some(entry) = entry.filter(|e| e.included < settlement.position) else { continue };
            captured.settle(&mut entry.counter, settlement);
            entry.included = settlement.position;
        }
        if self.included < settlement.position {
            self.included = settlement.position;
            self.take_in(settlement);
        }
    }

    /// The same for a report that another process took, which did not know of the reservation: what it
    /// used is corrected where it was taken, but its cost is not spent here. The caller charges it as
    /// a record that no reservation stands for, so that it is the same in every process.
    pub fn settle_from_elsewhere(&mut self, counters: &mut impl Counters, settlement: &Settlement<'_>) {
        if self.included >= settlement.position {
            return;
        }
        for captured in &mut self.captured {
            if captured.is_budget() {
                captured.free(counters, settlement);
                continue;
            }
            let entry = captured.entry(counters, settlement.now);
            let Some(entry) = entry.filter(|e| e.included < settlement.position) else { continue };
            captured.settle(&mut entry.counter, settlement);
            entry.included = settlement.position;
        }
        self.included = settlement.position;
        self.take_in(settlement);
    }

    fn take_in(&mut self, settlement: &Settlement<'_>) {
        let left = self.floor.get().saturating_sub(settlement.cost.get().max(0)).max(0);
        self.floor = if settlement.is_final { Nanos::ZERO } else { Nanos::from_stored(left) };
        if settlement.is_final && self.state == ReservationState::Open {
            self.state = ReservationState::Settled;
        }
    }

    /// Gives everything back: the call never reached its upstream. Does nothing unless it is open.
    pub fn release(&mut self, counters: &mut impl Counters, now: Millis) {
        if self.state == ReservationState::Open {
            self.give_back(counters, 0, now);
            self.state = ReservationState::Released;
        }
    }

    /// Gives everything back but the floor, which stays held until its event is settled. Does nothing
    /// unless it is open.
    pub fn expire(&mut self, counters: &mut impl Counters, now: Millis) {
        if self.state == ReservationState::Open {
            self.give_back(counters, self.floor.get(), now);
            self.state = ReservationState::Expired;
        }
    }

    /// Lets it expire at `expires_at`, but never before it would have, and at most
    /// [`RESERVATION_LIFE_MS_MAX`] after its decision. Does nothing unless it is open.
    pub fn renew(&mut self, expires_at: Millis) {
        if self.state == ReservationState::Open {
            let last = self.decided_at.plus(RESERVATION_LIFE_MS_MAX);
            self.expires_at = self.expires_at.max(expires_at.min(last));
        }
    }

    /// Forgets what it took of counters that were set back since: neither does that count in them any
    /// more, nor may it be given back.
    pub fn forget(&mut self, is_set_back: impl Fn(CounterId) -> bool) {
        self.captured.retain(|captured| captured.is_budget() || !is_set_back(captured.counter));
    }

    /// Whether it has expired and its floor is no event yet.
    pub fn awaits_floor_event(&self) -> bool {
        self.state == ReservationState::Expired && self.floor > Nanos::ZERO
    }

    /// Whether reports still correct what it took. One that is over counts no further: its reports
    /// are charged in full.
    pub fn takes_reports(&self) -> bool {
        match self.state {
            ReservationState::Open | ReservationState::Settled => true,
            ReservationState::Expired => self.awaits_floor_event(),
            ReservationState::Released => false,
        }
    }

    /// The budgets in which it holds or held money.
    pub fn captured_budgets(&self) -> Vec<CounterId> {
        self.captured.iter().filter(|c| c.is_budget()).map(|c| c.counter).collect()
    }

    fn give_back(&mut self, counters: &mut impl Counters, money_kept: i64, now: Millis) {
        for captured in &mut self.captured {
            let kept = if captured.is_budget() { captured.taken.min(money_kept) } else { captured.spent() };
            if kept == captured.taken {
                continue;
            }
            if let Some(Entry { counter, .. }) = counters.get_mut(captured.counter) {
                counter.correct(captured.mark, captured.taken, kept - captured.taken, now);
            }
            captured.taken = kept;
        }
    }
}

impl Captured {
    /// What partial reports have used of the amount already.
    fn spent(&self) -> i64 {
        self.used.unwrap_or(0).min(self.taken)
    }

    /// The counter to correct. One that was only tested may never have been made, and one that ran
    /// dry may have been forgotten since; what the call used beyond its estimate counts all the
    /// same, unless its window is over.
    fn entry<'c>(&self, counters: &'c mut impl Counters, now: Millis) -> Option<&'c mut Entry> {
        if self.mark.is_over(now) || self.is_concurrency() {
            return counters.get_mut(self.counter);
        }
        let (limit, at) = self.mark.place();
        Some(counters.get_or_insert(self.counter, &limit, at))
    }

    fn settle(&mut self, counter: &mut Counter, settlement: &Settlement<'_>) {
        match (counter, self.mark) {
            (Counter::Budget(budget), Mark::Budget { start, end }) => {
                budget.begin(start, end);
                let cost = settlement.cost.get();
                self.used = Some(self.used.unwrap_or(0).saturating_add(cost.max(0)));
                let freed = if settlement.is_final { self.taken } else { self.taken.min(cost.max(0)) };
                budget.settle(start, freed, cost);
                self.taken -= freed;
            }
            (counter, Mark::Concurrency) => {
                // It is held until the call is over, and then whole, whatever the call has used.
                if settlement.is_final {
                    counter.correct(self.mark, self.taken, -self.taken, settlement.now);
                    self.taken = 0;
                }
            }
            (counter, mark) => self.settle_units(counter, mark, settlement),
        }
    }

    /// Frees held money as a report does, and leaves the counter's position where it was, for the
    /// charge that follows.
    fn free(&mut self, counters: &mut impl Counters, settlement: &Settlement<'_>) {
        let cost = settlement.cost.get().max(0);
        self.used = Some(self.used.unwrap_or(0).saturating_add(cost));
        let freed = if settlement.is_final { self.taken } else { self.taken.min(cost) };
        if let Some(Entry { counter, .. }) = counters.get_mut(self.counter) {
            counter.correct(self.mark, self.taken, -freed, settlement.now);
        }
        self.taken -= freed;
    }

    fn settle_units(&mut self, counter: &mut Counter, mark: Mark, settlement: &Settlement<'_>) {
        if let Some(amount) = settlement.amount(&self.unit) {
            self.used = Some(self.used.unwrap_or(0).saturating_add(amount));
        }
        let Some(used) = self.used else { return };
        let delta = used - self.taken;
        if delta > 0 || (settlement.is_final && settlement.refund) {
            counter.correct(mark, self.taken, delta, settlement.now);
            self.taken = used;
        }
    }
}

/// Charges one counter for a record that no reservation stands for: never asking, into debt if
/// need be. Does nothing when the counter has the record's position already.
pub fn charge_unreserved(
    counters: &mut impl Counters,
    id: CounterId,
    limit: &Limit,
    amount: i64,
    position: Position,
    accounted_at: Millis,
    now: Millis,
) {
    let entry = counters.get_or_insert(id, limit, now);
    if entry.included < position {
        entry.counter.charge(limit, amount, accounted_at, now);
        entry.included = position;
    }
}

#[cfg(test)]
pub(crate) mod tests;
