//! `CheckQuota`: one decision over everything that applies to a call.

use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

use rateguard_core::amounts::Amounts;
use rateguard_core::counter::{CounterId, Limit, Reading, RetryAfter};
use rateguard_core::decision::{Charge, Mode};
use rateguard_core::ids::{RequestId, ReservationId};
use rateguard_core::limits::{LIMITS_PER_CALL_MAX, REQUEST_ID_LIFE_MS};
use rateguard_core::matching::CallFacts;
use rateguard_core::money::Nanos;
use rateguard_core::plan::{LimitId, Plan, PlannedLimit, Selection, Unselected};
use rateguard_core::rule::Enforcement;
use rateguard_core::time::{Bounds, Millis};
use rateguard_core::unit::Unit;
use rateguard_core::usage::CallIdentity;
use smallvec::SmallVec;
use xxhash_rust::xxh3::Xxh3;

use crate::caller::Caller;
use crate::costing::{self, Estimate, Reserved};
use crate::directory::WorkspaceView;
use crate::engine::Engine;
use crate::error::{EngineError, Reason};
use crate::ports::{
    CheckCommand, CheckOutcome, Decided, Principal, ReleaseOutcome, RequestFingerprint, ReservationRequest,
    Stored,
};
use crate::resources::Api;
use crate::secrets::random;

/// A call, as its caller describes it. Empty text means unsaid.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Call {
    /// The API's id or slug.
    pub api: String,
    /// The path within the API.
    pub endpoint: String,
    /// The method.
    pub method: String,
    /// Where the call comes from.
    pub ip: Option<IpAddr>,
    /// Who is charged.
    pub subject: String,
    /// Further facts, sorted by name.
    pub attributes: Vec<(String, String)>,
    /// The model asked for.
    pub model: String,
}

/// One check.
#[derive(Clone, Debug)]
pub struct CheckRequest {
    /// Its id, for idempotency.
    pub request_id: Option<RequestId>,
    /// The call.
    pub call: Call,
    /// What it asks for, by unit.
    pub amounts: Amounts,
    /// What it is thought to cost.
    pub estimate: Estimate,
    /// Whether it takes.
    pub mode: Mode,
    /// How long a reservation may last, already within its bounds.
    pub reservation_ttl_ms: i64,
    /// Whether to say why limits did not apply.
    pub explain: bool,
}

/// Why one limit denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// Too little is left for now.
    Exhausted(RetryAfter),
    /// The amount is above the whole limit.
    AboveLimit,
    /// The call lacks a value of the limit's scope.
    ScopeValueMissing,
}

/// How one limit stands towards a call.
#[derive(Clone, Debug, PartialEq)]
pub struct LimitStatus {
    /// Which.
    pub id: LimitId,
    /// Its name.
    pub name: Arc<str>,
    /// What it counts.
    pub unit: Unit,
    /// Its size and window.
    pub limit: Limit,
    /// Whether it decides.
    pub enforcement: Enforcement,
    /// What is used and left.
    pub reading: Reading,
    /// Why it denied, when it did.
    pub denial: Option<Denial>,
}

impl LimitStatus {
    /// The calendar window in force, for limits that have one.
    pub fn bounds(&self) -> Option<Bounds> {
        match self.limit {
            Limit::CalendarWindow { bounds, .. } => Some(bounds),
            Limit::Budget { bounds, .. } => bounds,
            _ => None,
        }
    }
}

/// The answer to a check.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckResponse {
    /// Whether the call may go ahead.
    pub allowed: bool,
    /// The reservation made, with its expiry.
    pub reservation: Option<(ReservationId, Millis)>,
    /// Every limit that applied, by falling priority.
    pub limits: Vec<LimitStatus>,
    /// The limit that the caller waits longest for.
    pub limiting: Option<LimitId>,
    /// When the same call passes; `None` when waiting does not help.
    pub retry_after_ms: Option<i64>,
    /// Whether the decision was taken before, for the same id.
    pub replayed: bool,
    /// The money held.
    pub reserved: Option<Nanos>,
    /// The limits that did not apply, with the reason, when asked for.
    pub explanation: Vec<(LimitId, Arc<str>, Unselected)>,
}

impl Engine {
    /// Decides a check.
    ///
    /// # Errors
    /// Bad input, a key that may not, an API that does not exist, or a store that is away. A denial
    /// is no error.
    pub async fn check(&self, caller: &Caller, request: &CheckRequest) -> Result<CheckResponse, EngineError> {
        let now = self.now();
        let view = self.view(&caller.workspace)?;
        let prepared = prepare(caller, &view, request, now)?;
        let selection = select(&view.plan, &prepared.facts(caller), now)?;
        if let Some(denying) = selection.denied_by_missing {
            return Ok(denied_by_missing(denying, now));
        }
        let command = self.command(caller, request, &prepared, &selection, now)?;
        let charges = command.charges.clone();
        let decided = match self.counters.check(command).await? {
            CheckOutcome::Decided(decided) => decided,
            CheckOutcome::ContentDiffers => {
                let message = "the request id was used for a check with other content";
                return Err(EngineError::field(Reason::RequestIdReused, "request_id", message));
            }
        };
        let mut response = respond(&selection, &charges, decided);
        response.reserved =
            prepared.reserved.as_ref().and_then(|reserved| reserved.cost).filter(|_| response.allowed);
        if request.explain {
            response.explanation = explain(&view.plan, &prepared.facts(caller), now);
        }
        Ok(response)
    }

    /// How everything stands that applies to a call. Changes nothing.
    ///
    /// # Errors
    /// As [`Engine::check`].
    pub async fn quota(&self, caller: &Caller, call: &Call) -> Result<Vec<LimitStatus>, EngineError> {
        let now = self.now();
        let view = self.view(&caller.workspace)?;
        let api = resolve_api(&view, &call.api)?;
        let subject = caller.subject(&call.subject)?;
        let facts = facts(caller, api.map(|api| &api.value), call, subject);
        let selection = select(&view.plan, &facts, now)?;
        let wanted: Vec<(CounterId, Limit)> =
            selection.selected.iter().map(|s| (s.counter, s.limit)).collect();
        let readings = self.counters.read(&caller.workspace, &wanted, now).await?;
        Ok(selection
            .selected
            .iter()
            .zip(readings)
            .map(|(selected, reading)| status(selected.planned, selected.limit, reading))
            .collect())
    }

    /// Gives a reservation back. Again gives the same answer.
    ///
    /// # Errors
    /// [`Reason::ResourceNotFound`] for one that does not exist or is another principal's.
    pub async fn release(&self, caller: &Caller, id: &ReservationId) -> Result<ReleaseOutcome, EngineError> {
        let outcome = self.counters.release(&caller.workspace, id, &caller.principal(), self.now()).await?;
        match outcome {
            ReleaseOutcome::Unknown => Err(EngineError::not_found("reservation", id.as_str())),
            state => Ok(state),
        }
    }

    fn command(
        &self,
        caller: &Caller,
        request: &CheckRequest,
        prepared: &Prepared<'_>,
        selection: &Selection<'_>,
        now: Millis,
    ) -> Result<CheckCommand, EngineError> {
        let principal = caller.principal();
        let charges = selection.selected.iter().map(|s| charge(s, &prepared.amounts, request.mode)).collect();
        let (reservation, units) = match request.mode {
            Mode::Reserve => (
                Some(prepared.reservation(&principal, request, caller, now)?),
                selection.selected.iter().map(|s| s.planned.unit.clone()).collect(),
            ),
            Mode::Consume | Mode::Peek => (None, SmallVec::new()),
        };
        Ok(CheckCommand {
            workspace: caller.workspace.clone(),
            now,
            mode: request.mode,
            charges,
            units,
            request: fingerprint(&principal, request, now),
            reservation,
        })
    }
}

/// A request that has been looked at: what it calls and what it asks for.
struct Prepared<'a> {
    call: &'a Call,
    api: Option<&'a Arc<Stored<Api>>>,
    subject: &'a str,
    amounts: Amounts,
    reserved: Option<Reserved>,
}

fn prepare<'a>(
    caller: &'a Caller,
    view: &'a WorkspaceView,
    request: &'a CheckRequest,
    now: Millis,
) -> Result<Prepared<'a>, EngineError> {
    let call = &request.call;
    let api = resolve_api(view, &call.api)?;
    caller.check_restrictions(api.map(|api| &api.value.id), &call.model, call.ip)?;
    if request.mode == Mode::Consume && request.estimate.cost.is_some() {
        let message = "a money estimate needs the mode RESERVE";
        return Err(EngineError::field(Reason::EstimateNeedsReserve, "estimate.cost", message));
    }
    let mut amounts = request.amounts.clone();
    if request.mode == Mode::Consume && amounts.get(&Unit::Tokens).is_none() {
        let api = api.map(|api| &api.value);
        if let Some(tokens) = costing::tokens(view, api, &call.model, &request.estimate, now) {
            amounts.insert("estimate", Unit::Tokens, tokens)?;
        }
    }
    let reserved = match request.mode {
        Mode::Consume => None,
        Mode::Reserve | Mode::Peek => {
            costing::reserve(view, api.map(|api| &api.value), &call.model, &request.estimate, &amounts, now)?
        }
    };
    if let Some(reserved) = &reserved {
        reserved.add_to(&mut amounts)?;
    }
    Ok(Prepared { call, api, subject: caller.subject(&call.subject)?, amounts, reserved })
}

impl Prepared<'_> {
    fn facts<'a>(&'a self, caller: &'a Caller) -> CallFacts<'a> {
        facts(caller, self.api.map(|api| &api.value), self.call, self.subject)
    }

    fn reservation(
        &self,
        principal: &Principal,
        request: &CheckRequest,
        caller: &Caller,
        now: Millis,
    ) -> Result<ReservationRequest, EngineError> {
        let bytes = random().map_err(|error| EngineError::internal(&error.to_string()))?;
        Ok(ReservationRequest {
            id: principal.reservation_id(bytes),
            principal: principal.clone(),
            expires_at: now.plus(request.reservation_ttl_ms),
            floor: self.reserved.as_ref().map_or(Nanos::ZERO, |reserved| reserved.floor),
            call: Arc::new(self.identity(caller)),
            request_id: request.request_id.clone(),
        })
    }

    fn identity(&self, caller: &Caller) -> CallIdentity {
        CallIdentity {
            key: caller.key.id.clone(),
            api: self.api.map(|api| api.value.id.clone()),
            api_name: self.call.api.clone(),
            endpoint: self.call.endpoint.clone(),
            method: self.call.method.clone(),
            model: self.call.model.clone(),
            service_tier: String::new(),
            subject: self.subject.to_owned(),
        }
    }
}

/// The API that a check names. An unknown one is an error here, unlike in a report.
fn resolve_api<'a>(
    view: &'a WorkspaceView,
    named: &str,
) -> Result<Option<&'a Arc<Stored<Api>>>, EngineError> {
    if named.is_empty() {
        return Ok(None);
    }
    let api = view.api(named).ok_or_else(|| EngineError::not_found("api", named))?;
    if !api.value.active {
        return Err(EngineError::field(Reason::ApiInactive, "api", "the API is switched off"));
    }
    Ok(Some(api))
}

fn facts<'a>(caller: &'a Caller, api: Option<&'a Api>, call: &'a Call, subject: &'a str) -> CallFacts<'a> {
    CallFacts {
        key: &caller.key.id,
        api: api.map(|api| &api.id),
        endpoint: &call.endpoint,
        method: &call.method,
        model: &call.model,
        subject,
        ip: call.ip,
        attributes: &call.attributes,
    }
}

fn select<'p>(plan: &'p Plan, facts: &CallFacts<'_>, now: Millis) -> Result<Selection<'p>, EngineError> {
    let selection = plan.select(facts, now);
    if selection.selected.len() <= LIMITS_PER_CALL_MAX {
        return Ok(selection);
    }
    let message = format!("more than {LIMITS_PER_CALL_MAX} limits match the call");
    Err(EngineError::new(Reason::TooManyLimits, message))
}

/// Money is held, never consumed: a CONSUME only tests that no budget is exhausted.
fn charge(selected: &rateguard_core::plan::Selected<'_>, amounts: &Amounts, mode: Mode) -> Charge {
    let planned = selected.planned;
    let demand = match (mode, planned.unit == Unit::Cost) {
        (Mode::Consume, true) => rateguard_core::counter::Demand::PROBE,
        _ => amounts.demand(&planned.unit),
    };
    Charge {
        counter: selected.counter,
        overflow: planned.overflow_counter(),
        limit: selected.limit,
        demand,
        enforcement: planned.enforcement,
    }
}

fn fingerprint(principal: &Principal, request: &CheckRequest, now: Millis) -> Option<RequestFingerprint> {
    let id = request.request_id.as_ref().filter(|_| request.mode != Mode::Peek)?;
    let life_ms = match request.mode {
        Mode::Reserve => request.reservation_ttl_ms,
        Mode::Consume | Mode::Peek => REQUEST_ID_LIFE_MS,
    };
    let mut name = Xxh3::new();
    principal.hash(&mut name);
    name.update(id.as_str().as_bytes());
    let mut content = Xxh3::new();
    (&request.call, request.mode, &request.estimate, request.reservation_ttl_ms).hash(&mut content);
    for (unit, amount) in request.amounts.iter() {
        (unit, amount).hash(&mut content);
    }
    Some(RequestFingerprint {
        id: name.digest128(),
        content: content.finish(),
        expires_at: now.plus(life_ms),
    })
}

fn respond(selection: &Selection<'_>, charges: &SmallVec<[Charge; 8]>, decided: Decided) -> CheckResponse {
    let Decided { verdict, reservation, replayed } = decided;
    let limiting = verdict.limiting(charges).filter(|_| !verdict.allowed);
    let limits = selection
        .selected
        .iter()
        .zip(&verdict.readings)
        .map(|(selected, reading)| status(selected.planned, selected.limit, *reading));
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
        reserved: None,
        explanation: Vec::new(),
    }
}

fn status(planned: &PlannedLimit, limit: Limit, reading: Reading) -> LimitStatus {
    let denial = reading.denied.map(|wait| match wait {
        RetryAfter::Never if limit.resets() => Denial::AboveLimit,
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
fn denied_by_missing(planned: &PlannedLimit, now: Millis) -> CheckResponse {
    let limit = planned.limit_at(now);
    let reading = rateguard_core::counter::Counter::fresh(&limit, now).read(&limit, 0, now);
    let status = LimitStatus { denial: Some(Denial::ScopeValueMissing), ..status(planned, limit, reading) };
    CheckResponse {
        allowed: false,
        reservation: None,
        limiting: Some(status.id.clone()),
        limits: vec![status],
        retry_after_ms: None,
        replayed: false,
        reserved: None,
        explanation: Vec::new(),
    }
}

fn explain(plan: &Plan, facts: &CallFacts<'_>, now: Millis) -> Vec<(LimitId, Arc<str>, Unselected)> {
    plan.explain(facts, now)
        .into_iter()
        .map(|(limit, reason)| (limit.id.clone(), limit.name.clone(), reason))
        .collect()
}
