//! Top-ups of prepaid budgets: what a store keeps of each.

use rateguard_core::ids::{BudgetId, TopUpId};
use rateguard_core::money::Nanos;
use rateguard_core::rule::TopUpRefusal;
use rateguard_core::time::Millis;

use super::{Resource, Stored};

/// The bound that a budget's ledger is full at, as errors name it.
pub const TOP_UPS_FULL: &str = "the budget's list of top-ups";

/// A top-up to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTopUp {
    /// Its id, if it is made now.
    pub id: TopUpId,
    /// Which budget.
    pub budget: BudgetId,
    /// By what it is known again: unique for the budget.
    pub request_id: String,
    /// How much; below zero for a correction.
    pub amount: Nanos,
    /// What for.
    pub note: String,
}

/// One entry of a budget's ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopUp {
    /// Its place in the ledger, from 1.
    pub sequence: u64,
    /// What was asked for.
    pub what: NewTopUp,
    /// Who did it, as the audit trail says it: the kind of actor.
    pub actor_kind: String,
    /// Its id.
    pub actor_id: String,
    /// When.
    pub created_at: Millis,
}

/// What became of a top-up.
#[derive(Clone, Debug, PartialEq)]
pub enum TopUpOutcome {
    /// It stands in the ledger, now or since an earlier call with the same request id.
    Done {
        /// The entry.
        top_up: Box<TopUp>,
        /// The budget as it is now.
        budget: Box<Stored<Resource>>,
    },
    /// Nothing was done.
    Refused(TopUpRefusal),
}
