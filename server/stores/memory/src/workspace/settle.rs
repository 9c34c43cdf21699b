//! Settling one logged record: what a reservation stands for, what it does not, and what a crash
//! has forgotten.

use rateguard_core::counter::{Counter, CounterId};
use rateguard_core::decision::{Counters, Entry};
use rateguard_core::reservation::{Reservation, Settlement, charge_unreserved};
use rateguard_core::time::Millis;
use rateguard_engine::ports::{SettleCharge, SettleCommand, SettleReservation, Standing};
use smallvec::SmallVec;

use super::{Shared, State, Workspace};

/// What a record does to money that a crash left held.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Anonymous {
    /// The record's reservation may be part of it, so its cost takes the place of as much.
    DrawnDown,
    /// It has nothing to do with it.
    Untouched,
}

impl Workspace {
    /// Settles a record, unless the counters have it.
    pub(crate) fn settle(&self, command: &SettleCommand, shared: &Shared) {
        let mut state = self.lock();
        if command.position <= state.counters.settled_through {
            return;
        }
        let now = state.tick(command.now);
        Settling { state: &mut state, command, shared, now }.settle();
        state.counters.settled_through = command.position;
        state.expire_some(now);
    }
}

struct Settling<'a> {
    state: &'a mut State,
    command: &'a SettleCommand,
    shared: &'a Shared,
    now: Millis,
}

impl<'a> Settling<'a> {
    fn settle(&mut self) {
        let Some(reservation) = &self.command.reservation else {
            return self.charge_all(Anonymous::Untouched);
        };
        let known = self.state.reservations.get(&reservation.id).is_some();
        match (reservation.standing, known) {
            (Standing::Known, true) => self.settle_reserved(reservation),
            (Standing::Known, false) => self.charge_forgotten(reservation),
            (Standing::Unknown, false) => self.charge_all(Anonymous::DrawnDown),
            (Standing::Elsewhere, true) => self.settle_from_elsewhere(reservation),
            (Standing::Unknown, true) | (Standing::Elsewhere, false) | (Standing::Ended, _) => {
                self.charge_all(Anonymous::Untouched);
            }
        }
    }

    /// Another process took the record and did not know the reservation. What it holds is freed, and
    /// limits that count by units get what was used; the cost is charged as everywhere.
    fn settle_from_elsewhere(&mut self, reservation: &SettleReservation) {
        let takes = self.state.reservations.get(&reservation.id).is_some_and(Reservation::takes_reports);
        if !takes {
            return self.charge_all(Anonymous::Untouched);
        }
        let settlement = self.settlement(reservation);
        let State { counters, reservations, .. } = &mut *self.state;
        reservations.change(&reservation.id, |r| r.settle_from_elsewhere(counters, &settlement));
        for charge in self.command.charges.iter().filter(|charge| charge.is_budget()) {
            self.charge(charge, Anonymous::Untouched);
        }
    }

    fn settlement(&self, reservation: &SettleReservation) -> Settlement<'a> {
        let command = self.command;
        Settlement {
            position: command.position,
            amounts: &command.amounts,
            cost: command.cost,
            is_final: reservation.is_final,
            refund: reservation.refund,
            now: self.now,
        }
    }

    fn charge_all(&mut self, anonymous: Anonymous) {
        for charge in &self.command.charges {
            self.charge(charge, anonymous);
        }
    }

    /// What was captured is corrected; budgets that match now and were not captured are charged.
    fn settle_reserved(&mut self, reservation: &SettleReservation) {
        let command = self.command;
        let settlement = self.settlement(reservation);
        let State { counters, reservations, .. } = &mut *self.state;
        let settled = reservations.change(&reservation.id, |r| r.settle(counters, &settlement));
        let captured: SmallVec<[CounterId; 8]> =
            settled.into_iter().flat_map(|r| &r.captured).map(|captured| captured.counter).collect();
        let was_captured =
            |charge: &SettleCharge| captured.contains(&charge.counter) || captured.contains(&charge.overflow);
        for charge in command.charges.iter().filter(|charge| charge.is_budget() && !was_captured(charge)) {
            self.charge(charge, Anonymous::Untouched);
        }
    }

    /// The reservation stood when the record was taken, and a crash has forgotten it since. What
    /// it took of plain limits is in their counters, as far as these were written down. What the
    /// crash left held is not its own: it had given that back before.
    fn charge_forgotten(&mut self, reservation: &SettleReservation) {
        let command = self.command;
        for charge in command.charges.iter().filter(|charge| charge.is_budget()) {
            self.charge(charge, Anonymous::Untouched);
        }
        for id in &reservation.captured_budgets {
            if !command.charges.iter().any(|charge| charge.counter == *id || charge.overflow == *id) {
                self.spend_unmatched(*id);
            }
        }
    }

    fn charge(&mut self, charge: &SettleCharge, anonymous: Anonymous) {
        let counters = &mut self.state.counters;
        let live_max = self.shared.config.live_counters_max;
        let id = counters.fallen(charge.counter, charge.overflow, live_max);
        counters.settle_losses([(id, &charge.limit)].into_iter(), self.now);
        let known = counters.get(id).map(|entry| entry.included);
        if known.is_none() && charge.amount == 0 {
            // Nothing to add, and no counter to make for it.
            return;
        }
        let SettleCommand { position, accounted_at, .. } = *self.command;
        charge_unreserved(counters, id, &charge.limit, charge.amount, position, accounted_at, self.now);
        if anonymous == Anonymous::DrawnDown && known.is_none_or(|included| included < position) {
            self.draw_down(id);
        }
        self.state.overflowed += u64::from(id != charge.counter);
    }

    fn draw_down(&mut self, id: CounterId) {
        if let Some(Entry { counter: Counter::Budget(budget), .. }) = self.state.counters.get_mut(id) {
            budget.draw_down(self.command.cost.get());
        }
    }

    /// A budget that the reservation had captured and that does not match any more: the cost goes
    /// to the period that the counter knows.
    fn spend_unmatched(&mut self, id: CounterId) {
        let SettleCommand { position, accounted_at, cost, .. } = *self.command;
        let entry = self.state.counters.get_mut(id).filter(|entry| entry.included < position);
        let Some(Entry { counter: Counter::Budget(budget), included }) = entry else { return };
        let periods = [Some(budget.current), budget.previous];
        // A prepaid budget's only period ends at zero.
        let holds =
            |start: Millis, end: Millis| end == Millis::ZERO || (start <= accounted_at && accounted_at < end);
        if let Some(period) = periods.into_iter().flatten().find(|period| holds(period.start, period.end)) {
            budget.settle(period.start, 0, cost.get());
        }
        *included = position;
    }
}
