//! Usage records and events.

use rateguard_core::ids::{ApiId, EventId, KeyId, PriceId, RequestId, ReservationId};
use rateguard_core::limits::{ATTEMPT_MAX, DIMENSIONS_MAX, ID_BYTES_MAX, LATENCY_MS_MAX, UNIT_AMOUNTS_MAX};
use rateguard_core::money::{Currency, Picos};
use rateguard_core::time::Millis;
use rateguard_core::unit::Unit;
use rateguard_core::usage::{
    CallOutcome, CostComponent, EventFlags, EventKind, Exactness, LoggedEvent, PriceRef, TokenCounts,
    UsageEvent,
};
use rateguard_engine::directory::WorkspaceView;
use rateguard_engine::error::{EngineError, Reason};
use rateguard_engine::ports::EventFilter;
use rateguard_engine::report::{RecordOutcome, UsageRecord};
use rateguard_proto::v1;

use super::check::tokens;
use super::{
    amounts, conflict, enumeration, instant, ip, labels, missing, money, name, nano_money, out_of_bounds,
    text, timestamp, unit, unit_amounts,
};
use crate::status::reason;

/// Smallest HTTP status.
const STATUS_CODE_MIN: i32 = 100;
/// Largest HTTP status.
const STATUS_CODE_MAX: i32 = 599;
/// Components of a cost that was stated as a whole: nothing was multiplied by a price.
const STATED_COMPONENTS: [&str; 2] = ["explicit", "default"];

/// A record as it came.
///
/// # Errors
/// Those of its fields.
pub fn usage_record(message: v1::UsageRecord, currency: Currency) -> Result<UsageRecord, EngineError> {
    let event_id = event_id(&message.event_id)?;
    let already_consumed = already_consumed(message.already_consumed_units.clone())?;
    let outcome = outcome(&message)?;
    check_tokens_named_once(&message)?;
    Ok(UsageRecord {
        event_id,
        occurred_at: message.occur_time.as_ref().map(|at| instant("occur_time", at)).transpose()?,
        request_id: optional(&message.request_id, |id| RequestId::parse("request_id", id))?,
        reservation: optional(&message.reservation_id, |id| ReservationId::parse("reservation_id", id))?,
        attempt: attempt(message.attempt)?,
        is_final: message.r#final.unwrap_or(true),
        api: name("api", message.api)?,
        endpoint: text("endpoint", message.endpoint)?,
        method: name("method", message.method)?,
        subject: text("subject", message.subject)?,
        model: text("model", message.model)?,
        service_tier: name("service_tier", message.service_tier)?,
        outcome,
        tokens: token_counts(message.tokens.unwrap_or_default())?,
        amounts: amounts("amounts", message.amounts)?,
        cost: message.cost.map(|cost| money("cost", &cost, currency)).transpose()?,
        price: message.price.map(price_ref).transpose()?,
        dimensions: labels("dimensions", message.dimensions, DIMENSIONS_MAX)?,
        exactness: exactness(message.exactness)?,
        already_consumed,
        ip: ip("ip", &message.ip)?,
    })
}

fn event_id(text: &str) -> Result<EventId, EngineError> {
    if text.is_empty() {
        return Err(missing("event_id"));
    }
    if EventId::RESERVED_PREFIXES.iter().any(|prefix| text.starts_with(prefix)) {
        let message = "must not begin with expired: or corrected:";
        return Err(EngineError::field(Reason::EventIdReserved, "event_id", message));
    }
    Ok(EventId::parse("event_id", text)?)
}

fn optional<T, E: Into<EngineError>>(
    text: &str,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<Option<T>, EngineError> {
    if text.is_empty() { Ok(None) } else { parse(text).map(Some).map_err(Into::into) }
}

fn attempt(value: Option<i32>) -> Result<u32, EngineError> {
    let attempt = u32::try_from(value.unwrap_or(1)).unwrap_or(0);
    if (1..=ATTEMPT_MAX).contains(&attempt) {
        return Ok(attempt);
    }
    Err(out_of_bounds("attempt", format!("must be 1 to {ATTEMPT_MAX}")))
}

fn already_consumed(units: Option<v1::UnitSet>) -> Result<Vec<Unit>, EngineError> {
    let Some(units) = units else { return Ok(vec![Unit::Requests]) };
    if units.units.len() > UNIT_AMOUNTS_MAX {
        let message = format!("must have at most {UNIT_AMOUNTS_MAX} units");
        return Err(out_of_bounds("already_consumed_units", message));
    }
    let parse =
        |(place, name): (usize, &String)| unit(&format!("already_consumed_units.units[{place}]"), name);
    let units = units.units.iter().enumerate().map(parse).collect::<Result<Vec<_>, _>>()?;
    match (1..units.len()).find(|place| units[..*place].contains(&units[*place])) {
        Some(place) => {
            Err(out_of_bounds(format!("already_consumed_units.units[{place}]"), "must not name a unit again"))
        }
        None => Ok(units),
    }
}

/// The unit `tokens` is what the token counts come to; where they are given it has no other amount.
fn check_tokens_named_once(message: &v1::UsageRecord) -> Result<(), EngineError> {
    let named = message.amounts.iter().position(|amount| amount.unit == Unit::Tokens.as_str());
    match named {
        Some(place) if message.tokens.is_some() => {
            Err(conflict(format!("amounts[{place}].unit"), "must not be tokens where `tokens` is set"))
        }
        _ => Ok(()),
    }
}

fn outcome(message: &v1::UsageRecord) -> Result<CallOutcome, EngineError> {
    if message.status_code != 0 && !(STATUS_CODE_MIN..=STATUS_CODE_MAX).contains(&message.status_code) {
        let bounds = format!("must be {STATUS_CODE_MIN} to {STATUS_CODE_MAX}, or 0 for none");
        return Err(out_of_bounds("status_code", bounds));
    }
    Ok(CallOutcome {
        status_code: u16::try_from(message.status_code).unwrap_or(0),
        latency_ms: latency_ms("latency_ms", message.latency_ms)?,
        upstream_latency_ms: latency_ms("upstream_latency_ms", message.upstream_latency_ms)?,
        bytes_in: message.bytes_in.map(|n| tokens("bytes_in", n)).transpose()?,
        bytes_out: message.bytes_out.map(|n| tokens("bytes_out", n)).transpose()?,
        cache_hit: message.cache_hit,
        rate_limited: message.rate_limited,
        error_type: name("error_type", message.error_type.clone())?,
    })
}

fn latency_ms(field: &str, value: Option<i64>) -> Result<Option<i64>, EngineError> {
    match value {
        Some(ms) if !(0..=LATENCY_MS_MAX).contains(&ms) => {
            Err(out_of_bounds(field, format!("must be 0 to {LATENCY_MS_MAX}")))
        }
        value => Ok(value),
    }
}

fn token_counts(message: v1::TokenUsage) -> Result<TokenCounts, EngineError> {
    let count =
        |field: &str, value: Option<i64>| value.map(|n| tokens(&format!("tokens.{field}"), n)).transpose();
    Ok(TokenCounts {
        input_total: count("input_total", message.input_total)?,
        cached_input: count("cached_input", message.cached_input)?,
        cache_write_5m: count("cache_write_5m", message.cache_write_5m)?,
        cache_write_1h: count("cache_write_1h", message.cache_write_1h)?,
        output: count("output", message.output)?,
        reasoning: count("reasoning", message.reasoning)?,
        audio_input: count("audio_input", message.audio_input)?,
        audio_output: count("audio_output", message.audio_output)?,
    })
}

fn price_ref(message: v1::PriceReference) -> Result<PriceRef, EngineError> {
    let version = u32::try_from(message.price_version).ok().filter(|version| *version > 0);
    let bounds = || out_of_bounds("price.price_version", format!("must be 1 to {}", u32::MAX));
    let version = version.ok_or_else(bounds)?;
    Ok(PriceRef { id: PriceId::parse("price.price_id", &message.price_id)?, version })
}

fn exactness(value: i32) -> Result<Exactness, EngineError> {
    Ok(match enumeration("exactness", value)? {
        v1::UsageExactness::Unspecified | v1::UsageExactness::Exact => Exactness::Exact,
        v1::UsageExactness::Estimated => Exactness::Estimated,
        v1::UsageExactness::Partial => Exactness::Partial,
    })
}

/// What became of a record, for the wire. An id that was refused for its length comes back shortened,
/// so that it cannot make the answer to its whole batch too large to be received.
pub fn record_result(mut event_id: String, outcome: RecordOutcome, currency: Currency) -> v1::RecordResult {
    let counted = |status: v1::RecordStatus, cost, flags| v1::RecordResult {
        status: status.into(),
        cost: Some(nano_money(cost, currency)),
        flags: usage_flags(flags),
        ..v1::RecordResult::default()
    };
    let result = match outcome {
        RecordOutcome::Accepted { cost, flags } => counted(v1::RecordStatus::Accepted, cost, flags),
        RecordOutcome::Duplicate { cost, flags } => counted(v1::RecordStatus::Duplicate, cost, flags),
        RecordOutcome::Rejected { error, settled_by } => v1::RecordResult {
            status: v1::RecordStatus::Rejected.into(),
            reason: reason(error.reason).into(),
            field: error.field.unwrap_or_default(),
            message: error.message,
            settled_event_id: settled_by.map(|id| id.to_string()).unwrap_or_default(),
            ..v1::RecordResult::default()
        },
    };
    event_id.truncate(event_id.floor_char_boundary(ID_BYTES_MAX));
    v1::RecordResult { event_id, ..result }
}

/// Flags for the wire.
pub fn usage_flags(flags: EventFlags) -> Vec<i32> {
    const NAMES: [(EventFlags, v1::UsageFlag); 8] = [
        (EventFlags::PRICE_UNKNOWN, v1::UsageFlag::PriceUnknown),
        (EventFlags::USAGE_UNKNOWN, v1::UsageFlag::UsageMissing),
        (EventFlags::API_UNKNOWN, v1::UsageFlag::ApiUnknown),
        (EventFlags::RESERVATION_UNKNOWN, v1::UsageFlag::ReservationUnknown),
        (EventFlags::RESERVATION_EXPIRED, v1::UsageFlag::ReservationExpired),
        (EventFlags::RESERVATION_RELEASED, v1::UsageFlag::ReservationReleased),
        (EventFlags::PARTS_EXCEED_TOTAL, v1::UsageFlag::TokenPartsExceedTotal),
        (EventFlags::PRICE_REFERENCE_UNKNOWN, v1::UsageFlag::PriceReferenceUnknown),
    ];
    NAMES.iter().filter(|(flag, _)| flags.contains(*flag)).map(|(_, name)| i32::from(*name)).collect()
}

/// Which events a listing asks for. An API is named by id or slug.
///
/// # Errors
/// Those of its fields.
pub fn event_filter(message: v1::UsageEventFilter, view: &WorkspaceView) -> Result<EventFilter, EngineError> {
    let start = message.start_time.as_ref().map(|at| instant("filter.start_time", at)).transpose()?;
    let end = message.end_time.as_ref().map(|at| instant("filter.end_time", at)).transpose()?;
    let occurred = start.unwrap_or(Millis::ZERO)..end.unwrap_or(Millis::new(i64::MAX));
    if occurred.is_empty() {
        return Err(out_of_bounds("filter.end_time", "must be after filter.start_time"));
    }
    let is_bounded = start.is_some() || end.is_some();
    Ok(EventFilter {
        occurred: is_bounded.then_some(occurred),
        api: api_filter("filter.api", &message.api, view)?,
        key: key_filter(&message.key_id)?,
        subject: non_empty(text("filter.subject", message.subject)?),
        model: non_empty(text("filter.model", message.model)?),
        event_id: optional(&message.event_id, |id| EventId::parse("filter.event_id", id))?,
        request_id: optional(&message.request_id, |id| RequestId::parse("filter.request_id", id))?,
        reservation: optional(&message.reservation_id, |id| {
            ReservationId::parse("filter.reservation_id", id)
        })?,
    })
}

/// An API that a filter names by id or slug. One that is gone may still have events under its id.
///
/// # Errors
/// [`Reason::ResourceNotFound`] for a slug that nobody has.
pub fn api_filter(field: &str, named: &str, view: &WorkspaceView) -> Result<Option<ApiId>, EngineError> {
    if named.is_empty() {
        return Ok(None);
    }
    let named = name(field, named.to_owned())?;
    if let Some(api) = view.api(&named) {
        return Ok(Some(api.value.id.clone()));
    }
    ApiId::parse("api", &named).map(Some).map_err(|_| {
        EngineError::field(
            Reason::ResourceNotFound,
            field,
            format!("there is no API {named:?} in this workspace"),
        )
    })
}

/// A key that a filter names, which may be gone.
///
/// # Errors
/// A text that is no key's id.
pub fn key_filter(id: &str) -> Result<Option<KeyId>, EngineError> {
    optional(id, |id| KeyId::parse("filter.key_id", id))
}

/// Text, or `None` when it is empty.
pub fn non_empty(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// An event for the wire.
pub fn usage_event(logged: LoggedEvent, currency: Currency) -> v1::UsageEvent {
    let event = logged.event;
    v1::UsageEvent {
        kind: event_kind(event.kind).into(),
        corrects_event_id: event.corrects.as_ref().map(ToString::to_string).unwrap_or_default(),
        api_id: event.call.api.as_ref().map(ToString::to_string).unwrap_or_default(),
        key_id: event.call.key.to_string(),
        cost: Some(nano_money(event.cost, currency)),
        cost_components: cost_components(&event.components),
        price: event.price.as_ref().map(price_reference),
        flags: usage_flags(event.flags),
        account_time: Some(timestamp(event.accounted_at)),
        receive_time: Some(timestamp(event.received_at)),
        record: Some(record_of(event, currency)),
    }
}

fn event_kind(kind: EventKind) -> v1::UsageEventKind {
    match kind {
        EventKind::Usage => v1::UsageEventKind::Usage,
        EventKind::Expired => v1::UsageEventKind::Expired,
        EventKind::Correction => v1::UsageEventKind::Correction,
    }
}

/// A price's reference for the wire.
pub fn price_reference(price: &PriceRef) -> v1::PriceReference {
    v1::PriceReference { price_id: price.id.to_string(), price_version: i64::from(price.version) }
}

/// Components for the wire: each rounded so that together they are the cost.
pub fn cost_components(components: &[CostComponent]) -> Vec<v1::CostComponent> {
    let mut sum = Picos::ZERO;
    let mut told = 0;
    let mut convert = |component: &CostComponent| {
        sum = sum.checked_add(component.cost).unwrap_or(sum);
        let rounded = sum.round_up("cost").map_or(told, |nanos| nanos.get());
        let nanos = rounded - told;
        told = rounded;
        v1::CostComponent {
            name: component.name.clone(),
            amount: component.amount,
            unit_price: unit_price(component),
            nanos,
        }
    };
    components.iter().map(&mut convert).collect()
}

fn unit_price(component: &CostComponent) -> String {
    if STATED_COMPONENTS.contains(&component.name.as_str()) {
        return String::new();
    }
    component.price.to_decimal(1)
}

fn record_of(event: UsageEvent, currency: Currency) -> v1::UsageRecord {
    let explicit = event.flags.contains(EventFlags::COST_EXPLICIT);
    v1::UsageRecord {
        event_id: event.event_id.to_string(),
        occur_time: Some(timestamp(event.occurred_at)),
        reservation_id: event.reservation.as_ref().map(ToString::to_string).unwrap_or_default(),
        attempt: i32::try_from(event.attempt).ok().filter(|attempt| *attempt > 0),
        r#final: Some(event.is_final),
        api: event.call.api_name,
        endpoint: event.call.endpoint,
        method: event.call.method,
        status_code: i32::from(event.outcome.status_code),
        latency_ms: event.outcome.latency_ms,
        upstream_latency_ms: event.outcome.upstream_latency_ms,
        bytes_in: event.outcome.bytes_in,
        bytes_out: event.outcome.bytes_out,
        subject: event.call.subject,
        model: event.call.model,
        tokens: (event.tokens != TokenCounts::default()).then(|| token_usage(event.tokens)),
        amounts: unit_amounts(&event.amounts),
        cost: explicit.then(|| nano_money(event.cost, currency)),
        dimensions: event.dimensions.into_iter().collect(),
        price: event.price.as_ref().map(price_reference),
        service_tier: event.call.service_tier,
        exactness: usage_exactness(event.exactness).into(),
        already_consumed_units: Some(v1::UnitSet {
            units: event.already_consumed.iter().map(ToString::to_string).collect(),
        }),
        cache_hit: event.outcome.cache_hit,
        rate_limited: event.outcome.rate_limited,
        error_type: event.outcome.error_type,
        request_id: event.request_id.as_ref().map(ToString::to_string).unwrap_or_default(),
        ip: event.ip.map(|ip| ip.to_string()).unwrap_or_default(),
    }
}

fn usage_exactness(exactness: Exactness) -> v1::UsageExactness {
    match exactness {
        Exactness::Exact => v1::UsageExactness::Exact,
        Exactness::Estimated => v1::UsageExactness::Estimated,
        Exactness::Partial => v1::UsageExactness::Partial,
    }
}

fn token_usage(tokens: TokenCounts) -> v1::TokenUsage {
    v1::TokenUsage {
        input_total: tokens.input_total,
        cached_input: tokens.cached_input,
        cache_write_5m: tokens.cache_write_5m,
        cache_write_1h: tokens.cache_write_1h,
        output: tokens.output,
        reasoning: tokens.reasoning,
        audio_input: tokens.audio_input,
        audio_output: tokens.audio_output,
    }
}
