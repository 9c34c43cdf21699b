//! What all answers of a run have to keep, by its rules alone.

use std::collections::BTreeMap;

use rateguard_core::counter::{CounterId, Limit};
use rateguard_core::ids::{KeyId, WorkspaceId};
use rateguard_core::matching::CallFacts;
use rateguard_core::plan::plan_rule;
use rateguard_core::rule::{Algorithm, Enforcement, FailurePolicy, Rule};
use rateguard_core::time::{Millis, Zone};
use rateguard_engine::degraded::Degraded;

use crate::books::answers::{Terms, Whole};
use crate::client::SUBJECTS;
use crate::clocks::BEGINS;

/// What the rules say, whoever decides by them. A budget denies while nobody counts.
pub(super) fn terms(workspace: &WorkspaceId, key: &KeyId, rules: &[Rule], has_budget: bool) -> Terms {
    let enforced = || rules.iter().filter(|rule| rule.enforcement == Enforcement::Enforced);
    let whole = |rule: &Rule| {
        let (limit, by_subject) = (whole(&rule.algorithm)?, !rule.scope.dimensions.is_empty());
        let counters = counters(workspace, key, rule, by_subject);
        Some((rule.id.as_str().to_owned(), Whole { limit, by_subject, counters }))
    };
    let is_closed = has_budget || enforced().any(|rule| rule.policies.failure == FailurePolicy::Closed);
    let without_counters = if is_closed {
        Degraded::Closed
    } else if enforced().any(|rule| matches!(rule.policies.failure, FailurePolicy::Local { .. })) {
        Degraded::Local
    } else {
        Degraded::Open
    };
    Terms { limits: enforced().filter_map(whole).collect(), without_counters: Some(without_counters) }
}

/// What a rule admits, where that does not depend on a calendar.
fn whole(algorithm: &Algorithm) -> Option<Limit> {
    match *algorithm {
        Algorithm::FixedWindow { limit, window_ms } => Some(Limit::FixedWindow { limit, window_ms }),
        Algorithm::SlidingWindow { limit, window_ms } => Some(Limit::SlidingWindow { limit, window_ms }),
        Algorithm::TokenBucket { capacity, refill } => Some(Limit::TokenBucket { capacity, refill }),
        Algorithm::CalendarWindow { .. } | Algorithm::Concurrency { .. } => None,
    }
}

fn counters(
    workspace: &WorkspaceId,
    key: &KeyId,
    rule: &Rule,
    by_subject: bool,
) -> BTreeMap<String, CounterId> {
    let planned = plan_rule(workspace, &Zone::UTC, rule, Millis::new(BEGINS));
    let subjects = SUBJECTS.iter().filter(|subject| by_subject || subject.is_empty());
    let counter = |subject: &&str| {
        let facts = CallFacts {
            key,
            api: None,
            endpoint: "",
            method: "",
            model: "",
            subject,
            ip: None,
            attributes: &[],
        };
        Some(((*subject).to_owned(), planned.counter(&facts)?))
    };
    subjects.filter_map(counter).collect()
}
