//! The answer to a check.

use std::sync::Arc;

use rateguard_core::counter::{Counter, Limit, Reading, RetryAfter};
use rateguard_core::decision::Charge;
use rateguard_core::matching::CallFacts;
use rateguard_core::plan::{LimitId, Plan, PlannedLimit, Selection, Unselected};
use rateguard_core::time::Millis;

use super::{CheckResponse, Denial, LimitStatus};
use crate::ports::Decided;

pub(super) fn respond(selection: &Selection<'_>, charges: &[Charge], decided: Decided) -> CheckResponse {
    let Decided { verdict, reservation, reserved, replayed } = decided;
    let limiting = verdict.limiting(charges).filter(|_| !verdict.allowed);
    let limits =
        selection.selected.iter().zip(&verdict.readings).zip(charges).map(|((selected, reading), charge)| {
            status(selected.planned, selected.limit, *reading, charge.demand.need)
        });
    CheckResponse {
        allowed: verdict.allowed,
        reservation,
        limits: limits.collect(),
        limiting: limiting.and_then(|(place, _)| selection.selected.get(place)).map(|s| s.planned.id.clone()),
        retry_after_ms: limiting.and_then(|(_, wait)| match wait {
            RetryAfter::Millis(ms) => Some(ms),
            RetryAfter::Never => None,
        }),
        replayed,
        reserved,
        degraded: None,
        explanation: Vec::new(),
    }
}

pub(super) fn status(planned: &PlannedLimit, limit: Limit, reading: Reading, need: i64) -> LimitStatus {
    let never_fits = match limit {
        Limit::Concurrency { limit } => need > limit,
        limit => limit.resets(),
    };
    let denial = reading.denied.map(|wait| match wait {
        RetryAfter::Never if never_fits => Denial::AboveLimit,
        wait => Denial::Exhausted(wait),
    });
    LimitStatus {
        id: planned.id.clone(),
        name: planned.name.clone(),
        unit: planned.unit.clone(),
        limit,
        enforcement: planned.enforcement,
        reading,
        denial,
    }
}

/// A limit that denies calls without a value of its scope needs no counter to say so.
pub(super) fn lacks_value(planned: &PlannedLimit, now: Millis) -> LimitStatus {
    let limit = planned.limit_at(now);
    let reading = Counter::fresh(&limit, now).read(&limit, 0, now);
    LimitStatus { denial: Some(Denial::ScopeValueMissing), ..status(planned, limit, reading, 0) }
}

pub(super) fn denied_by_missing(planned: &PlannedLimit, now: Millis) -> CheckResponse {
    let status = lacks_value(planned, now);
    CheckResponse {
        allowed: false,
        reservation: None,
        limiting: Some(status.id.clone()),
        limits: vec![status],
        retry_after_ms: None,
        replayed: false,
        reserved: None,
        degraded: None,
        explanation: Vec::new(),
    }
}

/// The limits that did not apply, each with its reason.
pub(super) fn explain(
    plan: &Plan,
    facts: &CallFacts<'_>,
    now: Millis,
) -> Vec<(LimitId, Arc<str>, Unselected)> {
    plan.explain(facts, now)
        .into_iter()
        .map(|(limit, reason)| (limit.id.clone(), limit.name.clone(), reason))
        .collect()
}
