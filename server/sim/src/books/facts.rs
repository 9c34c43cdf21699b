//! What is to be judged about one step.

use rateguard_core::counter::CounterId;
use rateguard_core::decision::Charge;
use rateguard_core::ids::ReservationId;

use super::counter::Range;
use super::decided::{Foretold, Remembered};

/// What kind of step it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A check was allowed for the first time.
    Allowed,
    /// A check was denied.
    Denied,
    /// A decision was given again.
    Replayed,
    /// Records were settled.
    Settled,
    /// Records were settled that had been settled before.
    SettledAgain,
    /// Leases were ended and made.
    Leased,
    /// A check was refused, since it had been cancelled.
    Refused,
    /// A check was cancelled.
    Cancelled,
    /// A reservation was to expire later.
    Renewed,
    /// Counters were set back.
    Reset,
    /// Something that changes nothing.
    Noted,
    /// A reservation was given back.
    Released,
    /// What was due was looked after.
    Tended,
    /// A replica answered a check.
    Answered,
    /// A replica accepted a record.
    Accepted,
    /// The log took events in.
    Appended,
    /// Events were rolled up.
    RolledUp,
    /// The run is over.
    Ended,
}

/// A counter that does not stand as it must.
#[derive(Clone, Debug, PartialEq)]
pub struct Wrong {
    /// Which, and whether it is a budget's.
    pub counter: (CounterId, bool),
    /// How it stands.
    pub used: i128,
    /// How it must stand.
    pub range: Range,
}

/// What a check asked of one limit, and how its counter stood.
#[derive(Clone, Debug)]
pub struct Asked {
    /// What it asked.
    pub charge: Charge,
    /// How the counter stood before.
    pub range: Range,
}

/// A decision, with what was known when it was taken.
#[derive(Clone, Debug)]
pub struct Decision {
    /// What it asked.
    pub asked: Vec<Asked>,
    /// Hash of what was asked, where it has an id.
    pub content: Option<u64>,
    /// Whether it was allowed.
    pub allowed: bool,
    /// Whether it was given before.
    pub replayed: bool,
    /// Whether it was refused because its id has other content.
    pub content_differs: bool,
    /// Its reservation.
    pub reservation: Option<ReservationId>,
    /// What its id stands for.
    pub remembered: Option<Remembered>,
    /// What an earlier denial said of it, if nothing changed in between.
    pub foretold: Option<Foretold>,
    /// Whether its attempt had been cancelled before.
    pub was_cancelled: bool,
}

/// What a step must not do in itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breach {
    /// It refused a check that nobody had cancelled.
    RefusedUncancelled,
    /// It cancelled an attempt whose replica knew how it had ended.
    CancelledHeard,
    /// It renewed a reservation that was over, or shortened it.
    RenewedWrongly,
}

/// What is to be judged about one step.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Its kind.
    pub kind: Kind,
    /// The decision, where it was one.
    pub decision: Option<Decision>,
    /// Counters of which something was lent.
    pub lent: Vec<CounterId>,
    /// What it must not do in itself.
    pub breach: Option<Breach>,
    /// How many reservations had expired with it.
    pub expired: usize,
    /// Counters that do not stand as they must after it.
    pub wrong: Vec<Wrong>,
}

impl Facts {
    /// A step of which nothing else is known yet.
    pub fn of(kind: Kind) -> Self {
        Self { kind, decision: None, lent: Vec::new(), breach: None, expired: 0, wrong: Vec::new() }
    }
}
