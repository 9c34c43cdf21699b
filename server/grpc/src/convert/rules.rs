//! Rules.

mod overrides;

use rateguard_core::counter::Refill;
use rateguard_core::ids::{DisplayName, RuleId};
use rateguard_core::limits::{LIMIT_MAX, PRIORITY_MAX};
use rateguard_core::rule::{Algorithm, Consistency, Enforcement, FailurePolicy, Rule, RulePolicies};
use rateguard_core::unit::Unit;
use rateguard_engine::error::{EngineError, Reason};
use rateguard_engine::ports::Stored;
use rateguard_proto::v1;
use rateguard_proto::v1::rule::Algorithm as Message;

use super::limits::{
    calendar_period, calendar_period_message, call_match, call_match_message, on_missing, on_missing_message,
    scope, scope_message,
};
use super::usage::non_empty;
use super::{enumeration, etag, missing, name, out_of_bounds, timestamp, unit, within, zone};
use overrides::{override_message, overrides};

/// A rule under an id.
///
/// # Errors
/// Those of its fields.
pub fn rule(message: v1::Rule, id: RuleId) -> Result<Rule, EngineError> {
    let rule = Rule {
        id,
        name: DisplayName::parse("display_name", &message.display_name)?,
        matches: call_match(message.r#match)?,
        scope: scope(message.scope, on_missing("on_missing", message.on_missing)?)?,
        unit: if message.unit.is_empty() { Unit::Requests } else { unit("unit", &message.unit)? },
        algorithm: algorithm(message.algorithm)?,
        enforcement: enforcement(message.mode)?,
        priority: priority(message.priority)?,
        override_group: non_empty(name("override_group", message.override_group)?),
        policies: RulePolicies {
            consistency: consistency(message.consistency)?,
            failure: failure_policy(message.failure_policy)?,
            counts_denied: message.counts_denied,
            spread_by_subject: message.spread_by_subject,
        },
        overrides: overrides(message.overrides)?,
        // No message says so.
        last_reset_at: None,
        active: message.active.unwrap_or(true),
    };
    rule.check()?;
    Ok(rule)
}

fn algorithm(message: Option<Message>) -> Result<Algorithm, EngineError> {
    let (field, algorithm) = match message {
        None => return Err(missing("algorithm")),
        Some(Message::TokenBucket(bucket)) => {
            let bucket = token_bucket(&bucket);
            ("token_bucket", bucket.map(|(capacity, refill)| Algorithm::TokenBucket { capacity, refill }))
        }
        Some(Message::FixedWindow(v1::FixedWindow { limit, window_ms })) => {
            ("fixed_window", Ok(Algorithm::FixedWindow { limit, window_ms }))
        }
        Some(Message::SlidingWindow(v1::SlidingWindow { limit, window_ms })) => {
            ("sliding_window", Ok(Algorithm::SlidingWindow { limit, window_ms }))
        }
        Some(Message::CalendarWindow(window)) => ("calendar_window", calendar_window(window)),
        Some(Message::Concurrency(v1::Concurrency { limit })) => {
            ("concurrency", Ok(Algorithm::Concurrency { limit }))
        }
    };
    let checked = algorithm.and_then(|algorithm| Ok(algorithm.check().map(|()| algorithm)?));
    checked.map_err(|error| within(field, error))
}

fn token_bucket(bucket: &v1::TokenBucket) -> Result<(i64, Refill), EngineError> {
    let capacity = bucket.capacity;
    if !(1..=LIMIT_MAX).contains(&capacity) {
        return Err(out_of_bounds("capacity", format!("must be 1 to {LIMIT_MAX}")));
    }
    Ok((capacity, Refill::new(bucket.refill_amount, bucket.refill_period_ms, capacity)?))
}

fn bucket_message(capacity: i64, refill: &Refill) -> v1::TokenBucket {
    v1::TokenBucket { capacity, refill_amount: refill.units(), refill_period_ms: refill.period_ms() }
}

fn calendar_window(window: v1::CalendarWindow) -> Result<Algorithm, EngineError> {
    Ok(Algorithm::CalendarWindow {
        limit: window.limit,
        period: calendar_period("period", window.period)?,
        zone: zone("time_zone", window.time_zone)?,
    })
}

fn enforcement(mode: i32) -> Result<Enforcement, EngineError> {
    Ok(match enumeration("mode", mode)? {
        v1::RuleMode::Unspecified | v1::RuleMode::Enforced => Enforcement::Enforced,
        v1::RuleMode::Shadow => Enforcement::Shadow,
    })
}

fn consistency(consistency: i32) -> Result<Consistency, EngineError> {
    Ok(match enumeration("consistency", consistency)? {
        v1::RuleConsistency::Unspecified | v1::RuleConsistency::Strict => Consistency::Strict,
        v1::RuleConsistency::Leased => Consistency::Leased,
    })
}

fn failure_policy(message: Option<v1::FailurePolicy>) -> Result<FailurePolicy, EngineError> {
    let message = message.unwrap_or_default();
    let local = || {
        Ok(FailurePolicy::Local {
            share_percent: small("failure_policy.local_share_percent", message.local_share_percent)?,
            replicas_max: small("failure_policy.local_replicas_max", message.local_replicas_max)?,
        })
    };
    let policy = match enumeration("failure_policy.mode", message.mode)? {
        v1::FailureMode::Unspecified | v1::FailureMode::Open => FailurePolicy::Open,
        v1::FailureMode::Closed => FailurePolicy::Closed,
        v1::FailureMode::Local => return local(),
    };
    let share = ("failure_policy.local_share_percent", message.local_share_percent);
    for (field, value) in [share, ("failure_policy.local_replicas_max", message.local_replicas_max)] {
        if value != 0 {
            return Err(EngineError::field(Reason::FieldConflict, field, "goes with the mode LOCAL alone"));
        }
    }
    Ok(policy)
}

/// A number that its type bounds more closely than the wire does; the rule's own check says how.
fn small<T: TryFrom<i32>>(field: &'static str, value: i32) -> Result<T, EngineError> {
    T::try_from(value).map_err(|_| out_of_bounds(field, "is out of its range".to_owned()))
}

fn priority(priority: i32) -> Result<i32, EngineError> {
    if (-PRIORITY_MAX..=PRIORITY_MAX).contains(&priority) {
        return Ok(priority);
    }
    Err(out_of_bounds("priority", format!("must be -{PRIORITY_MAX} to {PRIORITY_MAX}")))
}

/// A rule for the wire.
pub fn rule_message(stored: &Stored<Rule>) -> v1::Rule {
    let rule = &stored.value;
    v1::Rule {
        id: rule.id.to_string(),
        display_name: rule.name.to_string(),
        r#match: call_match_message(&rule.matches),
        scope: scope_message(&rule.scope),
        unit: rule.unit.to_string(),
        algorithm: Some(algorithm_message(&rule.algorithm)),
        mode: mode_message(rule.enforcement).into(),
        on_missing: on_missing_message(rule.scope.on_missing).into(),
        priority: rule.priority,
        override_group: rule.override_group.clone().unwrap_or_default(),
        consistency: consistency_message(rule.policies.consistency).into(),
        failure_policy: Some(failure_policy_message(rule.policies.failure)),
        counts_denied: rule.policies.counts_denied,
        spread_by_subject: rule.policies.spread_by_subject,
        overrides: rule.overrides.iter().map(override_message).collect(),
        last_reset_time: rule.last_reset_at.map(timestamp),
        active: Some(rule.active),
        etag: etag(stored.version),
        create_time: Some(timestamp(stored.created_at)),
        update_time: Some(timestamp(stored.updated_at)),
    }
}

fn algorithm_message(algorithm: &Algorithm) -> Message {
    match algorithm {
        Algorithm::TokenBucket { capacity, refill } => {
            Message::TokenBucket(bucket_message(*capacity, refill))
        }
        Algorithm::FixedWindow { limit, window_ms } => {
            Message::FixedWindow(v1::FixedWindow { limit: *limit, window_ms: *window_ms })
        }
        Algorithm::SlidingWindow { limit, window_ms } => {
            Message::SlidingWindow(v1::SlidingWindow { limit: *limit, window_ms: *window_ms })
        }
        Algorithm::CalendarWindow { limit, period, zone } => Message::CalendarWindow(v1::CalendarWindow {
            limit: *limit,
            period: calendar_period_message(*period).into(),
            time_zone: zone.as_ref().map(|zone| zone.name().to_owned()).unwrap_or_default(),
        }),
        Algorithm::Concurrency { limit } => Message::Concurrency(v1::Concurrency { limit: *limit }),
    }
}

fn consistency_message(consistency: Consistency) -> v1::RuleConsistency {
    match consistency {
        Consistency::Strict => v1::RuleConsistency::Strict,
        Consistency::Leased => v1::RuleConsistency::Leased,
    }
}

fn failure_policy_message(policy: FailurePolicy) -> v1::FailurePolicy {
    let plain = |mode: v1::FailureMode| v1::FailurePolicy { mode: mode.into(), ..Default::default() };
    match policy {
        FailurePolicy::Open => plain(v1::FailureMode::Open),
        FailurePolicy::Closed => plain(v1::FailureMode::Closed),
        FailurePolicy::Local { share_percent, replicas_max } => v1::FailurePolicy {
            local_share_percent: share_percent.into(),
            local_replicas_max: replicas_max.into(),
            ..plain(v1::FailureMode::Local)
        },
    }
}

/// A rule that only watches is in shadow, whatever else a limit can be.
fn mode_message(enforcement: Enforcement) -> v1::RuleMode {
    match enforcement {
        Enforcement::Enforced => v1::RuleMode::Enforced,
        Enforcement::Soft | Enforcement::Shadow => v1::RuleMode::Shadow,
    }
}
