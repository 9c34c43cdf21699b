//! Settlements: what logged records charge the counters.

use rateguard_core::amounts::Amounts;
use rateguard_core::counter::{CounterId, Limit, Position};
use rateguard_core::ids::{ReservationId, WorkspaceId};
use rateguard_core::money::Nanos;
use rateguard_core::time::Millis;

/// What a record found of its reservation when it was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It stood, and the record settles it.
    Known,
    /// Nobody knew it: a crash may have forgotten it, so that the record counts in full and takes
    /// the place of money that the crash left held.
    Unknown,
    /// Nobody knew it where the record was taken, and another process may. Whoever has it frees what
    /// it holds and corrects what it took; the cost counts in full, by the record's own time, so that
    /// it is the same everywhere. Money that a crash left held is not touched.
    Elsewhere,
    /// It was released, or expired with its floor charged: the record counts in full, and nothing
    /// is held for it any more.
    Ended,
}

/// The reservation that a record settles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettleReservation {
    /// Which.
    pub id: ReservationId,
    /// Whether the call is over.
    pub is_final: bool,
    /// Whether exact figures allow giving back.
    pub refund: bool,
    /// What the record found of it.
    pub standing: Standing,
    /// Budgets' counters that it had captured, as the record remembers them.
    pub captured_budgets: Vec<CounterId>,
}

/// What a record charges one limit when no reservation stands for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettleCharge {
    /// Which counter.
    pub counter: CounterId,
    /// Which counter instead, when this one is new and the workspace has too many.
    pub overflow: CounterId,
    /// What it is held against.
    pub limit: Limit,
    /// How much; negative only for corrections of money.
    pub amount: i64,
}

impl SettleCharge {
    /// Whether it charges a budget.
    pub fn is_budget(&self) -> bool {
        matches!(self.limit, Limit::Budget { .. })
    }
}

/// One logged record, to be settled.
#[derive(Clone, Debug, PartialEq)]
pub struct SettleCommand {
    /// The tenant.
    pub workspace: WorkspaceId,
    /// The record's place in the log.
    pub position: Position,
    /// The instant of the settlement.
    pub now: Millis,
    /// When the cost counts.
    pub accounted_at: Millis,
    /// The reservation that stands for it.
    pub reservation: Option<SettleReservation>,
    /// Amounts by unit, without money.
    pub amounts: Amounts,
    /// The cost.
    pub cost: Nanos,
    /// What it charges every limit that matches it.
    pub charges: Vec<SettleCharge>,
}
