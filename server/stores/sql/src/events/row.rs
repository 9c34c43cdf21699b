//! One event as a row.

use rateguard_core::ids::{ApiId, EventId, KeyId, RequestId, ReservationId, WorkspaceId};
use rateguard_core::invalid::Invalid;
use rateguard_core::money::Nanos;
use rateguard_core::time::Millis;
use rateguard_core::usage::{
    CallIdentity, CallOutcome, EventFlags, EventKind, LoggedEvent, TokenCounts, UsageEvent,
};
use rateguard_engine::ports::StoreError;

use super::details::{Checked, DETAILS_VERSION, Details};
use super::hash::{id_hash, request_hash, reservation_hash};
use super::{column_failure, corrupt, from_position_column};
use crate::database::{Column, Query, Row};

/// The columns of an insert, in the order in which [`bind`] binds them.
pub(super) const COLUMNS: [&str; 31] = [
    "position",
    "workspace",
    "event_hash",
    "event_id",
    "kind",
    "request_hash",
    "request_id",
    "reservation_hash",
    "reservation",
    "attempt",
    "occurred_at",
    "accounted_at",
    "received_at",
    "api",
    "key_id",
    "endpoint",
    "method",
    "subject",
    "model",
    "status",
    "error_type",
    "rate_limited",
    "cache_hit",
    "latency_ms",
    "input_tokens",
    "cached_input_tokens",
    "output_tokens",
    "cost_nanos",
    "flags",
    "details_version",
    "details",
];

/// Reads whole events, named `e`; to be continued with conditions. Each column is named: a running
/// process must not stumble over one that a later migration adds.
pub(crate) const SELECT: &str = "SELECT w.id AS workspace_id, e.position, e.event_id, e.kind, e.request_id, \
    e.reservation, e.attempt, e.occurred_at, e.accounted_at, e.received_at, e.api, e.key_id, e.endpoint, e.method, \
    e.subject, e.model, e.status, e.error_type, e.rate_limited, e.cache_hit, e.latency_ms, e.input_tokens, \
    e.cached_input_tokens, e.output_tokens, e.cost_nanos, e.flags, e.details_version, e.details \
    FROM events e JOIN workspaces w ON w.number = e.workspace";

/// Kinds as their column holds them.
pub(crate) const KIND_USAGE: i64 = 0;
const KIND_EXPIRED: i64 = 1;
const KIND_CORRECTION: i64 = 2;

/// Binds one row.
pub(super) fn bind(
    statement: Query,
    position: i64,
    workspace_number: i64,
    event: &UsageEvent,
) -> Result<Query, StoreError> {
    let statement = statement.bind(position).bind(workspace_number);
    let statement = bind_ids(statement, event);
    let statement =
        statement.bind(event.occurred_at.get()).bind(event.accounted_at.get()).bind(event.received_at.get());
    let statement =
        bind_tokens(bind_outcome(bind_call(statement, &event.call), &event.outcome), &event.tokens);
    Ok(statement
        .bind(event.cost.get())
        .bind(i64::from(event.flags.0))
        .bind(DETAILS_VERSION)
        .bind(Details::write(event)?))
}

fn bind_ids(statement: Query, event: &UsageEvent) -> Query {
    let workspace = &event.workspace;
    let (request, reservation) = (event.request_id.as_ref(), event.reservation.as_ref());
    statement
        .bind(id_hash(workspace, event.event_id.as_str()))
        .bind(event.event_id.as_str().to_owned())
        .bind(kind_column(event.kind))
        .bind(request.map(|id| request_hash(workspace, id)))
        .bind(request.map_or("", RequestId::as_str).to_owned())
        .bind(reservation.map(|id| reservation_hash(workspace, id)))
        .bind(reservation.map_or("", ReservationId::as_str).to_owned())
        .bind(i64::from(event.attempt))
}

fn bind_call(statement: Query, call: &CallIdentity) -> Query {
    statement
        .bind(call.api.as_ref().map_or("", ApiId::as_str).to_owned())
        .bind(call.key.as_str().to_owned())
        .bind(call.endpoint.clone())
        .bind(call.method.clone())
        .bind(call.subject.clone())
        .bind(call.model.clone())
}

fn bind_outcome(statement: Query, outcome: &CallOutcome) -> Query {
    statement
        .bind(i64::from(outcome.status_code))
        .bind(outcome.error_type.clone())
        .bind(i64::from(outcome.rate_limited))
        .bind(i64::from(outcome.cache_hit))
        .bind(outcome.latency_ms)
}

fn bind_tokens(statement: Query, tokens: &TokenCounts) -> Query {
    statement.bind(tokens.input_total).bind(tokens.cached_input).bind(tokens.output)
}

/// Reads one row of [`SELECT`].
pub(crate) fn read(row: &Row) -> Result<LoggedEvent, StoreError> {
    let position = from_position_column(column(row, "position")?);
    let ids = Ids::read(row)?;
    let details = Details::read(column(row, "details_version")?, column(row, "details")?)?;
    let invalid = |error: Invalid| corrupt(format!("event at position {}: {error}", position.0));
    let checked = details.checked().map_err(invalid)?;
    let call = call(row, &details)?;
    let outcome = outcome(row, &details)?;
    let tokens = tokens(row, &details)?;
    let event = assemble(row, ids, call, outcome, tokens, details, checked)?;
    Ok(LoggedEvent { position, event })
}

fn assemble(
    row: &Row,
    ids: Ids,
    call: CallIdentity,
    outcome: CallOutcome,
    tokens: TokenCounts,
    details: Details,
    checked: Checked,
) -> Result<UsageEvent, StoreError> {
    Ok(UsageEvent {
        workspace: ids.workspace,
        event_id: ids.event_id,
        kind: kind(column(row, "kind")?)?,
        corrects: checked.corrects,
        request_id: ids.request_id,
        reservation: ids.reservation,
        attempt: column(row, "attempt")?,
        is_final: !details.is_open,
        occurred_at: instant(row, "occurred_at")?,
        accounted_at: instant(row, "accounted_at")?,
        received_at: instant(row, "received_at")?,
        call,
        ip: details.ip,
        outcome,
        tokens,
        amounts: checked.amounts,
        already_consumed: checked.already_consumed,
        dimensions: details.dimensions,
        exactness: checked.exactness,
        cost: Nanos::from_stored(column(row, "cost_nanos")?),
        components: checked.components,
        price: checked.price,
        flags: EventFlags(column(row, "flags")?),
        captured_budgets: checked.captured_budgets,
    })
}

struct Ids {
    workspace: WorkspaceId,
    event_id: EventId,
    request_id: Option<RequestId>,
    reservation: Option<ReservationId>,
}

impl Ids {
    fn read(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            workspace: WorkspaceId::parse("workspace", column(row, "workspace_id")?).map_err(invalid)?,
            event_id: EventId::parse("event_id", column(row, "event_id")?).map_err(invalid)?,
            request_id: optional(row, "request_id", RequestId::parse)?,
            reservation: optional(row, "reservation", ReservationId::parse)?,
        })
    }
}

fn call(row: &Row, details: &Details) -> Result<CallIdentity, StoreError> {
    Ok(CallIdentity {
        key: KeyId::parse("key_id", column(row, "key_id")?).map_err(invalid)?,
        api: optional(row, "api", ApiId::parse)?,
        api_name: details.api_name.clone(),
        endpoint: column(row, "endpoint")?,
        method: column(row, "method")?,
        model: column(row, "model")?,
        service_tier: details.service_tier.clone(),
        subject: column(row, "subject")?,
    })
}

fn outcome(row: &Row, details: &Details) -> Result<CallOutcome, StoreError> {
    Ok(CallOutcome {
        status_code: column(row, "status")?,
        latency_ms: column(row, "latency_ms")?,
        upstream_latency_ms: details.upstream_latency_ms,
        bytes_in: details.bytes_in,
        bytes_out: details.bytes_out,
        cache_hit: column::<i64>(row, "cache_hit")? != 0,
        rate_limited: column::<i64>(row, "rate_limited")? != 0,
        error_type: column(row, "error_type")?,
    })
}

fn tokens(row: &Row, details: &Details) -> Result<TokenCounts, StoreError> {
    Ok(TokenCounts {
        input_total: column(row, "input_tokens")?,
        cached_input: column(row, "cached_input_tokens")?,
        output: column(row, "output_tokens")?,
        ..details.other_tokens()
    })
}

fn kind_column(kind: EventKind) -> i64 {
    match kind {
        EventKind::Usage => KIND_USAGE,
        EventKind::Expired => KIND_EXPIRED,
        EventKind::Correction => KIND_CORRECTION,
    }
}

fn kind(column: i64) -> Result<EventKind, StoreError> {
    match column {
        KIND_USAGE => Ok(EventKind::Usage),
        KIND_EXPIRED => Ok(EventKind::Expired),
        KIND_CORRECTION => Ok(EventKind::Correction),
        other => Err(corrupt(format!("event of the unknown kind {other}"))),
    }
}

/// Reads a column of any type that fits it.
pub(crate) fn column<'r, T: Column<'r>>(row: &'r Row, name: &'static str) -> Result<T, StoreError> {
    row.try_get(name).map_err(column_failure)
}

fn instant(row: &Row, name: &'static str) -> Result<Millis, StoreError> {
    column(row, name).map(Millis::new)
}

fn optional<T>(
    row: &Row,
    name: &'static str,
    parse: fn(&'static str, &str) -> Result<T, Invalid>,
) -> Result<Option<T>, StoreError> {
    let text: &str = column(row, name)?;
    if text.is_empty() {
        return Ok(None);
    }
    parse(name, text).map(Some).map_err(invalid)
}

fn invalid(error: Invalid) -> StoreError {
    corrupt(error.to_string())
}
