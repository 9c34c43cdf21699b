//! Checks.

use rateguard_core::counter::{Limit, Reading};
use rateguard_core::decision::Mode;
use rateguard_core::ids::{KeyId, RequestId};
use rateguard_core::limits::{
    ANSWERS_MAX, ATTRIBUTES_MAX, RESERVATION_TTL_MS_DEFAULT, RESERVATION_TTL_MS_MAX, RESERVATION_TTL_MS_MIN,
    TOKENS_MAX,
};
use rateguard_core::matching::Mismatch;
use rateguard_core::money::Currency;
use rateguard_core::plan::{LimitId, Unselected};
use rateguard_core::reservation::ReservationState;
use rateguard_core::rule::Enforcement;
use rateguard_engine::check::{Call, CheckRequest, CheckResponse, Denial, LimitStatus};
use rateguard_engine::costing::Estimate;
use rateguard_engine::degraded::Degraded;
use rateguard_engine::error::{EngineError, Reason};
use rateguard_engine::manage::{ResetDraft, ScopeValues};
use rateguard_proto::v1;

use super::{
    amounts, conflict, enumeration, ip, labels, missing, money, name, nano_money, out_of_bounds, standing,
    text, timestamp, within,
};

/// The call that a message asks about. Three messages have these fields, and none of their own for them.
macro_rules! call {
    ($message:expr) => {
        Call {
            api: name("api", $message.api)?,
            endpoint: text("endpoint", $message.endpoint)?,
            method: name("method", $message.method)?,
            ip: ip("ip", &$message.ip)?,
            subject: text("subject", $message.subject)?,
            attributes: labels("attributes", $message.attributes, ATTRIBUTES_MAX)?,
            model: text("model", $message.model)?,
        }
    };
}

pub(super) use call;

/// A check as it came.
///
/// # Errors
/// Those of its fields.
pub fn check_request(
    message: v1::CheckQuotaRequest,
    currency: Currency,
) -> Result<CheckRequest, EngineError> {
    let mode = mode(message.mode)?;
    Ok(CheckRequest {
        request_id: request_id(&message.request_id)?,
        amounts: amounts("amounts", message.amounts)?,
        estimate: estimate(message.estimate.unwrap_or_default(), currency)?,
        mode,
        reservation_ttl_ms: reservation_ttl_ms(message.reservation_ttl_ms, mode)?,
        explain: message.explain,
        call: call!(message),
    })
}

/// The id of a question; empty text is none.
///
/// # Errors
/// [`Reason::FieldOutOfBounds`].
pub fn request_id(id: &str) -> Result<Option<RequestId>, EngineError> {
    if id.is_empty() {
        return Ok(None);
    }
    Ok(Some(RequestId::parse("request_id", id)?))
}

/// The call of a `GetQuota`.
///
/// # Errors
/// Those of its fields.
pub fn quota_call(message: v1::GetQuotaRequest) -> Result<Call, EngineError> {
    Ok(call!(message))
}

fn mode(value: i32) -> Result<Mode, EngineError> {
    Ok(match enumeration("mode", value)? {
        v1::CheckMode::Unspecified | v1::CheckMode::Consume => Mode::Consume,
        v1::CheckMode::Peek => Mode::Peek,
        v1::CheckMode::Reserve => Mode::Reserve,
    })
}

fn estimate(message: v1::Estimate, currency: Currency) -> Result<Estimate, EngineError> {
    Ok(Estimate {
        input_tokens: message.input_tokens.map(|n| tokens("estimate.input_tokens", n)).transpose()?,
        output_tokens_max: message
            .max_output_tokens
            .map(|n| tokens("estimate.max_output_tokens", n))
            .transpose()?,
        answers: message.choices.map(answers).transpose()?,
        cost: message.cost.map(|cost| money("estimate.cost", &cost, currency)).transpose()?,
    })
}

fn answers(value: i32) -> Result<i64, EngineError> {
    let answers = i64::from(value);
    if (1..=ANSWERS_MAX).contains(&answers) {
        return Ok(answers);
    }
    Err(out_of_bounds("estimate.choices", format!("must be 1 to {ANSWERS_MAX}")))
}

/// A number of tokens.
///
/// # Errors
/// [`Reason::FieldOutOfBounds`].
pub fn tokens(field: &str, value: i64) -> Result<i64, EngineError> {
    if (0..=TOKENS_MAX).contains(&value) {
        return Ok(value);
    }
    Err(out_of_bounds(field, format!("must be 0 to {TOKENS_MAX}")))
}

fn reservation_ttl_ms(value: Option<i64>, mode: Mode) -> Result<i64, EngineError> {
    if value.is_some() && mode != Mode::Reserve {
        return Err(conflict("reservation_ttl_ms", "needs the mode RESERVE"));
    }
    ttl_ms("reservation_ttl_ms", value)
}

/// How long a reservation lasts from now on.
///
/// # Errors
/// [`Reason::FieldOutOfBounds`].
pub fn ttl_ms(field: &str, value: Option<i64>) -> Result<i64, EngineError> {
    let ttl_ms = value.unwrap_or(RESERVATION_TTL_MS_DEFAULT);
    if (RESERVATION_TTL_MS_MIN..=RESERVATION_TTL_MS_MAX).contains(&ttl_ms) {
        return Ok(ttl_ms);
    }
    let message = format!("must be {RESERVATION_TTL_MS_MIN} to {RESERVATION_TTL_MS_MAX}");
    Err(out_of_bounds(field, message))
}

/// Which counters of a rule are set back.
///
/// # Errors
/// Those of its fields.
pub fn reset_draft(counters: Option<v1::reset_quota_request::Counters>) -> Result<ResetDraft, EngineError> {
    use v1::reset_quota_request::Counters;
    match counters.ok_or_else(|| missing("counters"))? {
        Counters::All(v1::AllCounters {}) => Ok(ResetDraft::All),
        Counters::Values(values) => {
            scope_values(values).map(ResetDraft::Of).map_err(|error| within("values", error))
        }
    }
}

fn scope_values(values: v1::ScopeValues) -> Result<ScopeValues, EngineError> {
    let key = Some(&values.key_id).filter(|id| !id.is_empty());
    Ok(ScopeValues {
        key: key.map(|id| KeyId::parse("key_id", id)).transpose()?,
        api: name("api", values.api)?,
        endpoint: text("endpoint", values.endpoint)?,
        model: text("model", values.model)?,
        subject: text("subject", values.subject)?,
        ip: ip("ip", &values.ip)?,
        attributes: labels("attributes", values.attributes, ATTRIBUTES_MAX)?,
    })
}

/// A decision for the wire, on request with every limit and whether it applied.
pub fn check_response(response: CheckResponse, explain: bool, currency: Currency) -> v1::CheckQuotaResponse {
    let decision = if response.allowed { v1::Decision::Allowed } else { v1::Decision::Denied };
    let explanation = if explain { explanation(&response) } else { Vec::new() };
    let limiting = response.limiting.or_else(|| tightest(&response.limits));
    let status = |status: &LimitStatus| limit_status(status, limiting.as_ref(), currency);
    let limits = response.limits.iter().map(status).collect();
    let (reservation_id, expire_time) = match &response.reservation {
        Some((id, expires_at)) => (id.to_string(), Some(timestamp(*expires_at))),
        None => (String::new(), None),
    };
    v1::CheckQuotaResponse {
        decision: decision.into(),
        reservation_id,
        reservation_expire_time: expire_time,
        limits,
        limiting_limit_id: limiting.map(|id| id.as_str().to_owned()).unwrap_or_default(),
        retry_after_ms: response.retry_after_ms,
        replayed: response.replayed,
        reserved: response.reserved.map(|nanos| nano_money(nanos, currency)),
        explanation,
        degraded: response.degraded.is_some(),
        failure_mode: failure_mode(response.degraded).into(),
    }
}

fn failure_mode(degraded: Option<Degraded>) -> v1::FailureMode {
    match degraded {
        None => v1::FailureMode::Unspecified,
        Some(Degraded::Open) => v1::FailureMode::Open,
        Some(Degraded::Closed) => v1::FailureMode::Closed,
        Some(Degraded::Local) => v1::FailureMode::Local,
    }
}

/// Of an allowed call, the enforced limit with the smallest share left.
fn tightest(limits: &[LimitStatus]) -> Option<LimitId> {
    let enforced = limits.iter().filter(|status| status.enforcement == Enforcement::Enforced);
    let share = |status: &&LimitStatus| {
        // Parts of a million are fine enough to compare shares.
        i128::from(status.reading.remaining) * 1_000_000 / i128::from(status.limit.size().max(1))
    };
    enforced.min_by_key(share).map(|status| status.id.clone())
}

/// A limit for the wire.
pub fn limit_status(status: &LimitStatus, limiting: Option<&LimitId>, currency: Currency) -> v1::LimitStatus {
    let budget_state = match status.id {
        LimitId::Budget(_) => Some(budget_state(&status.limit, &status.reading, currency)),
        LimitId::Rule(_) => None,
    };
    v1::LimitStatus {
        kind: limit_kind(&status.id).into(),
        id: status.id.as_str().to_owned(),
        name: status.name.to_string(),
        unit: status.unit.to_string(),
        limit: status.limit.size(),
        remaining: status.reading.remaining,
        used: standing(status.reading.used),
        reset_time: status.reading.reset_at.map(timestamp),
        window_ms: window_ms(status),
        enforced: status.enforcement == Enforcement::Enforced,
        allowed: status.denial.is_none(),
        limiting: limiting == Some(&status.id),
        denial_cause: denial_cause(status.denial).into(),
        budget_state,
    }
}

fn limit_kind(id: &LimitId) -> v1::LimitKind {
    match id {
        LimitId::Rule(_) => v1::LimitKind::Rule,
        LimitId::Budget(_) => v1::LimitKind::Budget,
    }
}

/// How a counter of a budget stands, for the wire.
pub fn budget_state(limit: &Limit, reading: &Reading, currency: Currency) -> v1::BudgetState {
    let bounds = match limit {
        Limit::Budget { bounds, .. } => *bounds,
        _ => None,
    };
    v1::BudgetState {
        currency_code: currency.as_str().to_owned(),
        amount_nanos: limit.size(),
        spent_nanos: standing(reading.used - reading.held),
        held_nanos: standing(reading.held),
        remaining_nanos: reading.remaining,
        period_start_time: bounds.map(|bounds| timestamp(bounds.start)),
        period_end_time: bounds.map(|bounds| timestamp(bounds.end)),
    }
}

fn window_ms(status: &LimitStatus) -> i64 {
    match status.limit {
        Limit::FixedWindow { window_ms, .. } | Limit::SlidingWindow { window_ms, .. } => window_ms,
        // What is held has no window: it lasts as long as the calls.
        Limit::Concurrency { .. } => 0,
        // A bucket has no window: it is full again after this long.
        Limit::TokenBucket { capacity, refill } => refill.ms_to_give_back(capacity),
        Limit::CalendarWindow { .. } | Limit::Budget { .. } => {
            status.bounds().map_or(0, |bounds| bounds.end.since(bounds.start))
        }
    }
}

fn denial_cause(denial: Option<Denial>) -> v1::DenialCause {
    match denial {
        None => v1::DenialCause::Unspecified,
        Some(Denial::Exhausted(_)) => v1::DenialCause::Exhausted,
        Some(Denial::AboveLimit) => v1::DenialCause::AmountAboveLimit,
        Some(Denial::ScopeValueMissing) => v1::DenialCause::ScopeValueMissing,
    }
}

fn explanation(response: &CheckResponse) -> Vec<v1::ExplainedLimit> {
    let applied = response.limits.iter().map(|status| explained(&status.id, &status.name, None));
    let others = response.explanation.iter().map(|(id, name, reason)| explained(id, name, Some(*reason)));
    applied.chain(others).collect()
}

fn explained(id: &LimitId, name: &str, unselected: Option<Unselected>) -> v1::ExplainedLimit {
    v1::ExplainedLimit {
        kind: limit_kind(id).into(),
        id: id.as_str().to_owned(),
        name: name.to_owned(),
        matched: unselected.is_none(),
        reason: unselected.map_or(v1::MismatchReason::Unspecified, mismatch_reason).into(),
    }
}

fn mismatch_reason(reason: Unselected) -> v1::MismatchReason {
    use v1::MismatchReason as M;
    match reason {
        Unselected::Mismatch(Mismatch::Api) => M::Api,
        Unselected::Mismatch(Mismatch::Endpoint) => M::Endpoint,
        Unselected::Mismatch(Mismatch::Method) => M::Method,
        Unselected::Mismatch(Mismatch::Model) => M::Model,
        Unselected::Mismatch(Mismatch::Key) => M::Key,
        Unselected::Mismatch(Mismatch::Ip) => M::Ip,
        Unselected::Mismatch(Mismatch::Subject) => M::Subject,
        Unselected::Mismatch(Mismatch::Attribute) => M::Attribute,
        Unselected::MissingValue => M::ScopeValueMissing,
        Unselected::Overridden => M::Overridden,
        Unselected::Unlimited => M::Unlimited,
    }
}

/// How a reservation has ended, for the wire.
///
/// # Errors
/// INTERNAL for one that is open still: whoever asks has just released it.
pub fn reservation_state(state: ReservationState) -> Result<v1::ReservationState, EngineError> {
    Ok(match state {
        ReservationState::Open => return Err(EngineError::internal("a released reservation is open")),
        ReservationState::Settled => v1::ReservationState::Settled,
        ReservationState::Released => v1::ReservationState::Released,
        ReservationState::Expired => v1::ReservationState::Expired,
    })
}

/// Why an item of a batch could not be answered.
pub fn check_error(error: &EngineError) -> v1::CheckError {
    let code = crate::status::code(error.reason.kind());
    v1::CheckError {
        code: code.into(),
        reason: crate::status::reason(error.reason).into(),
        message: error.message.clone(),
        field: error.field.clone().unwrap_or_default(),
    }
}

/// The reason for a batch that is too long or empty.
///
/// # Errors
/// [`Reason::FieldOutOfBounds`].
pub fn batch_size(field: &str, len: usize, max: usize) -> Result<(), EngineError> {
    if (1..=max).contains(&len) {
        return Ok(());
    }
    Err(EngineError::field(Reason::FieldOutOfBounds, field, format!("must have 1 to {max} elements")))
}
