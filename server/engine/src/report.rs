//! `ReportUsage`: price, append to the durable log, settle, answer.

use std::sync::Arc;

use rateguard_core::amounts::Amounts;
use rateguard_core::ids::{ApiId, EventId, RequestId, ReservationId};
use rateguard_core::limits::{OCCURRED_AHEAD_MS_MAX, OCCURRED_BEFORE_MS_MAX};
use rateguard_core::money::Nanos;
use rateguard_core::reservation::{Reservation, ReservationState};
use rateguard_core::time::Millis;
use rateguard_core::unit::Unit;
use rateguard_core::usage::{
    CallIdentity, CallOutcome, EventFlags, EventKind, Exactness, PriceRef, TokenCounts, UsageEvent,
};

use crate::caller::Caller;
use crate::costing::{self, Costed, Usage};
use crate::directory::WorkspaceView;
use crate::engine::Engine;
use crate::error::{EngineError, Reason};
use crate::ports::{AppendOutcome, Principal};

/// What a caller says of one call.
#[derive(Clone, Debug, PartialEq)]
pub struct UsageRecord {
    /// Unique in the workspace.
    pub event_id: EventId,
    /// When it happened; `None` for now.
    pub occurred_at: Option<Millis>,
    /// The check that it belongs to.
    pub request_id: Option<RequestId>,
    /// The reservation that stands for it.
    pub reservation: Option<ReservationId>,
    /// The attempt within the reservation, from 1.
    pub attempt: u32,
    /// Whether the call is over.
    pub is_final: bool,
    /// The API's id or slug.
    pub api: String,
    /// The path within the API.
    pub endpoint: String,
    /// The method.
    pub method: String,
    /// Who is charged.
    pub subject: String,
    /// The model that answered.
    pub model: String,
    /// The service tier that answered.
    pub service_tier: String,
    /// How it went.
    pub outcome: CallOutcome,
    /// Tokens by class.
    pub tokens: TokenCounts,
    /// Other amounts by unit.
    pub amounts: Amounts,
    /// A cost that the caller computed itself.
    pub cost: Option<Nanos>,
    /// The price that [`Engine::price_usage`] named.
    pub price: Option<PriceRef>,
    /// Free labels, sorted by name; they also stand for attributes.
    pub dimensions: Vec<(String, String)>,
    /// How much is known.
    pub exactness: Exactness,
    /// Units that a check has consumed before.
    pub already_consumed: Vec<Unit>,
    /// Where the call came from.
    pub ip: Option<std::net::IpAddr>,
}

/// What became of one record.
#[derive(Clone, Debug, PartialEq)]
pub enum RecordOutcome {
    /// It counts, durably.
    Accepted {
        /// Its cost.
        cost: Nanos,
        /// What a reader should know.
        flags: EventFlags,
    },
    /// Its id was counted before.
    Duplicate {
        /// The first copy's cost.
        cost: Nanos,
        /// The first copy's flags.
        flags: EventFlags,
    },
    /// It does not count.
    Rejected {
        /// Why.
        error: EngineError,
        /// The event that has settled the attempt, when that is why.
        settled_by: Option<EventId>,
    },
}

impl From<EngineError> for RecordOutcome {
    fn from(error: EngineError) -> Self {
        Self::Rejected { error, settled_by: None }
    }
}

impl Engine {
    /// Takes records. Each is answered by itself, in order; one bad record never sinks its batch.
    ///
    /// # Errors
    /// [`Reason::StoreUnavailable`], [`Reason::OutcomeUnknown`] or [`Reason::QueueFull`] when none
    /// of them is known to count; the caller sends the same again.
    pub async fn report(
        &self,
        caller: &Caller,
        records: Vec<UsageRecord>,
    ) -> Result<Vec<RecordOutcome>, EngineError> {
        let view = self.view(&caller.workspace)?;
        let mut outcomes = Vec::with_capacity(records.len());
        let mut events = Vec::with_capacity(records.len());
        for record in records {
            match self.event(caller, &view, record).await {
                Ok(event) => {
                    outcomes.push(None);
                    events.push(event);
                }
                Err(error) if error.is_the_callers() => outcomes.push(Some(RecordOutcome::from(error))),
                Err(error) => return Err(error),
            }
        }
        let mut recorded = self.recorder.record(events).await?.into_iter();
        let answers =
            outcomes.into_iter().map(|rejected| rejected.or_else(|| recorded.next().map(Into::into)));
        answers.collect::<Option<Vec<_>>>().ok_or_else(|| EngineError::internal("a record was not answered"))
    }

    /// Prices a record without storing it.
    ///
    /// # Errors
    /// As the record's own report.
    pub async fn price_usage(&self, caller: &Caller, record: UsageRecord) -> Result<UsageEvent, EngineError> {
        let view = self.view(&caller.workspace)?;
        self.event(caller, &view, record).await
    }

    async fn event(
        &self,
        caller: &Caller,
        view: &Arc<WorkspaceView>,
        record: UsageRecord,
    ) -> Result<UsageEvent, EngineError> {
        let now = self.now();
        let occurred_at = check_occurred(record.occurred_at, now)?;
        let reservation = match &record.reservation {
            Some(id) => self.counters.reservation(&caller.workspace, id).await?,
            None => None,
        };
        check_holder(&caller.principal(), record.reservation.as_ref(), reservation.as_ref())?;
        let subject = subject(caller, &record, reservation.as_ref())?;
        let times = Times { occurred_at, received_at: now };
        build(caller, view, record, times, reservation.as_ref(), subject)
    }
}

struct Times {
    occurred_at: Millis,
    received_at: Millis,
}

/// Whom a record charges. What its check has settled stands, whatever became of the key since.
fn subject(
    caller: &Caller,
    record: &UsageRecord,
    reservation: Option<&Reservation>,
) -> Result<String, EngineError> {
    let reserved = reservation.map(|reservation| reservation.call.subject.as_str());
    match reserved.filter(|reserved| record.subject.is_empty() || record.subject == *reserved) {
        Some(reserved) => Ok(reserved.to_owned()),
        None => caller.subject(&record.subject).map(ToOwned::to_owned),
    }
}

/// A reservation whose record is lost is told by its id.
fn check_holder(
    principal: &Principal,
    named: Option<&ReservationId>,
    known: Option<&Reservation>,
) -> Result<(), EngineError> {
    let holds = match (named, known) {
        (_, Some(reservation)) => principal.holds(reservation),
        (Some(id), None) => principal.took(id),
        (None, None) => true,
    };
    if holds {
        return Ok(());
    }
    let message = "the caller did not take this reservation";
    Err(EngineError::field(Reason::ReservationNotOwned, "reservation_id", message))
}

fn check_occurred(occurred_at: Option<Millis>, now: Millis) -> Result<Millis, EngineError> {
    let occurred_at = occurred_at.unwrap_or(now);
    if occurred_at > now.plus(OCCURRED_AHEAD_MS_MAX) {
        let message = format!("must be at most {OCCURRED_AHEAD_MS_MAX} ms ahead of the server's clock");
        return Err(EngineError::field(Reason::OccurTimeInFuture, "occur_time", message));
    }
    if occurred_at < now.plus(-OCCURRED_BEFORE_MS_MAX) {
        let message = format!("must be at most {OCCURRED_BEFORE_MS_MAX} ms back");
        return Err(EngineError::field(Reason::OccurTimeTooOld, "occur_time", message));
    }
    Ok(occurred_at)
}

fn build(
    caller: &Caller,
    view: &WorkspaceView,
    record: UsageRecord,
    times: Times,
    reservation: Option<&Reservation>,
    subject: String,
) -> Result<UsageEvent, EngineError> {
    let settles = reservation.filter(|reservation| reservation.takes_reports());
    // An API that was deleted in mid-call keeps its events; its own price is gone with it.
    let reserved = settles.and_then(|reservation| reserved_api(&record.api, reservation));
    let api = view.api(reserved.map_or(record.api.as_str(), ApiId::as_str));
    // A clock that runs ahead must not put money into a period that has not begun.
    let accounted_at = settles.map_or(times.occurred_at.min(times.received_at), |open| open.decided_at);
    let Costed { cost, price } =
        costing::cost(view, api.map(|api| &api.value), &usage_of(&record, accounted_at))?;
    let mut flags = cost.flags;
    flags.insert(api_flag(&record.api, api.is_some() || reserved.is_some()));
    flags.insert(reservation_flag(record.reservation.is_some(), reservation));
    Ok(UsageEvent {
        workspace: caller.workspace.clone(),
        event_id: record.event_id,
        kind: EventKind::Usage,
        corrects: None,
        request_id: record.request_id,
        reservation: record.reservation,
        attempt: record.attempt,
        is_final: record.is_final,
        occurred_at: times.occurred_at,
        accounted_at,
        received_at: times.received_at,
        call: CallIdentity {
            key: caller.key.id.clone(),
            api: api.map(|api| &api.value.id).or(reserved).cloned(),
            api_name: record.api,
            endpoint: record.endpoint,
            method: record.method,
            model: record.model,
            service_tier: record.service_tier,
            subject,
        },
        ip: record.ip,
        outcome: record.outcome,
        tokens: record.tokens,
        amounts: record.amounts,
        already_consumed: record.already_consumed,
        dimensions: record.dimensions,
        exactness: record.exactness,
        cost: cost.total,
        components: cost.components,
        price,
        flags,
        captured_budgets: settles.map(Reservation::captured_budgets).unwrap_or_default(),
    })
}

fn usage_of(record: &UsageRecord, accounted_at: Millis) -> Usage<'_> {
    Usage {
        model: &record.model,
        service_tier: &record.service_tier,
        tokens: record.tokens,
        amounts: &record.amounts,
        price: record.price.as_ref(),
        explicit_cost: record.cost,
        accounted_at,
    }
}

/// The API that a reservation was taken for, where a record names the same, by its id or as the check did.
fn reserved_api<'r>(named: &str, reservation: &'r Reservation) -> Option<&'r ApiId> {
    let call = &reservation.call;
    call.api.as_ref().filter(|id| named == call.api_name || named == id.as_str())
}

fn api_flag(named: &str, is_known: bool) -> EventFlags {
    if named.is_empty() || is_known { EventFlags::default() } else { EventFlags::API_UNKNOWN }
}

pub(crate) fn reservation_flag(named: bool, reservation: Option<&Reservation>) -> EventFlags {
    match reservation {
        None if named => EventFlags::RESERVATION_UNKNOWN,
        Some(gone) if !gone.takes_reports() && gone.state == ReservationState::Expired => {
            EventFlags::RESERVATION_EXPIRED
        }
        Some(gone) if !gone.takes_reports() => EventFlags::RESERVATION_RELEASED,
        _ => EventFlags::default(),
    }
}

impl From<Recorded> for RecordOutcome {
    fn from(recorded: Recorded) -> Self {
        let Recorded { outcome, cost, flags } = recorded;
        match outcome {
            AppendOutcome::Appended(_) => Self::Accepted { cost, flags },
            AppendOutcome::Duplicate { cost, flags, .. } => Self::Duplicate { cost, flags },
            AppendOutcome::AttemptTaken { first } => {
                let message = format!("the attempt was settled by the event {first}");
                let error = EngineError::field(Reason::AttemptSettled, "attempt", message);
                Self::Rejected { error, settled_by: Some(first) }
            }
        }
    }
}

/// What the log made of an event, with the figures that it was appended with.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    /// What became of it.
    pub outcome: AppendOutcome,
    /// Its cost.
    pub cost: Nanos,
    /// Its flags.
    pub flags: EventFlags,
}

#[cfg(test)]
mod tests;
