//! One reservation as its history says that it must stand.

use rateguard_core::counter::CounterId;
use rateguard_core::reservation::ReservationState;
use rateguard_core::time::Millis;
use rateguard_core::unit::Unit;
use rateguard_engine::ports::{SettleCommand, SettleReservation};

/// Where something stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// At this place of the counter's book.
    Entry(usize),
    /// It is money, which is held.
    Money,
    /// It is a call that runs, and is held as long.
    Running,
}

/// What a reservation took of one counter.
#[derive(Clone, Debug)]
pub struct Taking {
    /// The counter.
    pub counter: CounterId,
    /// What it counts.
    pub unit: Unit,
    /// Where.
    pub place: Place,
    /// What stands there, or is held.
    pub stands: i64,
    /// What its reports have used so far.
    pub used: Option<i64>,
}

/// What becomes of a taking.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Correction {
    /// What stands now, or is held.
    pub stands: i64,
    /// Money that is spent beside it.
    pub spent: i64,
}

/// The history of one reservation.
#[derive(Clone, Debug)]
pub struct ReservationBook {
    /// Where it is in its life.
    pub state: ReservationState,
    /// When it expires.
    pub expires_at: Millis,
    /// What is left of its floor.
    pub floor: i64,
    /// What it took.
    pub takings: Vec<Taking>,
}

impl Place {
    /// Whether it is held.
    pub fn is_held(self) -> bool {
        !matches!(self, Self::Entry(_))
    }
}

impl Taking {
    /// Where it stands in its counter's book, unless it is held.
    pub fn entry(&self) -> Option<(CounterId, usize)> {
        match self.place {
            Place::Entry(place) => Some((self.counter, place)),
            Place::Money | Place::Running => None,
        }
    }

    /// What a report makes of it. A call that runs is held whole until its last report.
    pub fn reported(&mut self, command: &SettleCommand, settles: &SettleReservation) -> Correction {
        match self.place {
            Place::Money => self.spend(command.cost.get(), settles),
            Place::Entry(_) => self.correct(command, settles),
            Place::Running => {
                self.stands = if settles.is_final { 0 } else { self.stands };
                Correction { stands: self.stands, spent: 0 }
            }
        }
    }

    fn spend(&mut self, cost: i64, settles: &SettleReservation) -> Correction {
        let freed = if settles.is_final { self.stands } else { self.stands.min(cost.max(0)) };
        self.stands -= freed;
        Correction { stands: self.stands, spent: cost }
    }

    /// More is added at once; less is given back only by the last report, and only by an exact one.
    fn correct(&mut self, command: &SettleCommand, settles: &SettleReservation) -> Correction {
        if let Some(amount) = command.amounts.get(&self.unit) {
            self.used = Some(self.used.unwrap_or(0) + amount);
        }
        if let Some(used) = self.used
            && (used > self.stands || (settles.is_final && settles.refund))
        {
            self.stands = used;
        }
        Correction { stands: self.stands, spent: 0 }
    }

    /// What is left where everything is given back but the money of a floor.
    pub fn given_back(&mut self, floor: i64) -> Correction {
        let kept = match self.place {
            Place::Money => floor,
            Place::Entry(_) => self.used.unwrap_or(0),
            Place::Running => 0,
        };
        self.stands = self.stands.min(kept);
        Correction { stands: self.stands, spent: 0 }
    }
}

impl ReservationBook {
    /// Whether it holds its id's decision: repeating the check gives it again.
    pub fn stands(&self) -> bool {
        matches!(self.state, ReservationState::Open | ReservationState::Settled)
    }

    /// Takes a report in, as far as its own state goes.
    pub fn end_by(&mut self, command: &SettleCommand, settles: &SettleReservation) {
        let left = (self.floor - command.cost.get().max(0)).max(0);
        self.floor = if settles.is_final { 0 } else { left };
        if settles.is_final && self.state == ReservationState::Open {
            self.state = ReservationState::Settled;
        }
    }
}
