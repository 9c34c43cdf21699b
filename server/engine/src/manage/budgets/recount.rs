//! Budgets whose counters were lost: which of them the log gives again exactly.

use rateguard_core::counter::Position;
use rateguard_core::rule::{Budget, BudgetPeriod};
use rateguard_core::time::Millis;
use thiserror::Error;

use crate::audit::Deed;
use crate::ports::{ConfigStore, Resource, StoreError, Stored};

/// What the audit trail calls the closing of a budget that is to be counted again.
const RECOUNTING: &str = "RecountBudgets";
/// The version of a budget that has opened and was not changed since: the second, by its opening.
const OPENED_VERSION: u64 = 2;

/// Which budgets may be counted again from the log when their counters are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recount {
    /// Those alone whose spending the log gives exactly.
    Exact,
    /// All, by what each matches today. A prepaid budget may have matched other calls before, or
    /// none for a time; and one that is switched off begins with nothing.
    AsTheyStand,
}

/// Why budgets are not counted again.
#[derive(Debug, Error)]
pub enum RecountError {
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Prepaid budgets were changed since they began.
    #[error("what is spent of prepaid budgets that were changed since they began is in no other file: {0}")]
    Changed(String),
}

/// Makes budgets ready to be counted again from the log after their counters were lost, and gives
/// the position to begin after. Those of a calendar open anew at the start, with what their period
/// has seen; prepaid ones are given every record since they began. It may be repeated.
///
/// # Errors
/// [`RecountError::Changed`] before anything is written.
pub async fn prepare_recount(
    config: &dyn ConfigStore,
    log_end: Position,
    recount: Recount,
    now: Millis,
) -> Result<Position, RecountError> {
    let resources = config.snapshot().await?.resources;
    let from = beginning(&resources, log_end, recount)?;
    let deed = Deed::of_server(RECOUNTING, now);
    for (stored, budget) in resources.iter().filter_map(opened_budget).filter(|(_, b)| !is_prepaid(b)) {
        let closed = Resource::Budget(Budget { opened_after: None, ..budget.clone() });
        config.replace(&stored.workspace, closed, stored.version, &deed).await?;
    }
    Ok(from)
}

/// The same for a process beside others on the same stores, whose counters are all right: nothing is
/// written. Budgets of a calendar open in each process at its start.
///
/// # Errors
/// [`RecountError`].
pub async fn recount_from(
    config: &dyn ConfigStore,
    log_end: Position,
    recount: Recount,
) -> Result<Position, RecountError> {
    beginning(&config.snapshot().await?.resources, log_end, recount)
}

/// The position after which the first of the prepaid budgets began.
fn beginning(
    resources: &[Stored<Resource>],
    log_end: Position,
    recount: Recount,
) -> Result<Position, RecountError> {
    let prepaid = || resources.iter().filter_map(opened_budget).filter(|(_, budget)| is_prepaid(budget));
    let changed: Vec<String> = prepaid()
        .filter(|(stored, budget)| stored.version > OPENED_VERSION || !budget.active)
        .map(|(stored, budget)| format!("{} ({}) of {}", budget.id, budget.name, stored.workspace))
        .collect();
    if recount == Recount::Exact && !changed.is_empty() {
        return Err(RecountError::Changed(changed.join(", ")));
    }
    Ok(prepaid().filter_map(|(_, budget)| budget.opened_after).min().unwrap_or(log_end).min(log_end))
}

fn is_prepaid(budget: &Budget) -> bool {
    matches!(budget.period, BudgetPeriod::Prepaid)
}

fn opened_budget(stored: &Stored<Resource>) -> Option<(&Stored<Resource>, &Budget)> {
    match &stored.value {
        Resource::Budget(budget) if budget.opened_after.is_some() => Some((stored, budget)),
        _ => None,
    }
}
