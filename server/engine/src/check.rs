//! `CheckQuota`: one decision over everything that applies to a call.

mod answer;
mod asked;

use std::net::IpAddr;
use std::sync::Arc;

use rateguard_core::amounts::Amounts;
use rateguard_core::counter::{Demand, Limit, Reading, RetryAfter};
use rateguard_core::decision::{Charge, Mode};
use rateguard_core::ids::{RequestId, ReservationId};
use rateguard_core::limits::LIMITS_PER_CALL_MAX;
use rateguard_core::matching::CallFacts;
use rateguard_core::money::Nanos;
use rateguard_core::plan::{LimitId, Plan, Selected, Selection, Unselected};
use rateguard_core::rule::Enforcement;
use rateguard_core::time::{Bounds, Millis};
use rateguard_core::unit::Unit;
use smallvec::SmallVec;

use self::answer::{denied_by_missing, explain, respond, status};
use self::asked::{Addressed, Demanded, fingerprint};
use crate::caller::Caller;
use crate::costing::Estimate;
use crate::directory::WorkspaceView;
use crate::engine::Engine;
use crate::error::{EngineError, Reason};
use crate::leases::Leased;
use crate::ports::{CheckCommand, CheckOutcome, CounterQuery, Decided, ReleaseOutcome};

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
        let addressed = Addressed::of(caller, &view, &request.call)?;
        let facts = addressed.facts();
        let asking = Asking {
            caller,
            request,
            addressed: &addressed,
            selection: select(&view.plan, &facts, now)?,
            now,
        };
        let mut response = match asking.demanded(&view) {
            Ok(demanded) if asking.selection.denied_by_missing.is_none() => {
                self.decide(&asking, &demanded).await?
            }
            refused => match self.repeated(&asking).await? {
                Some(repeated) => repeated,
                None => asking.refusal(refused.err())?,
            },
        };
        if request.explain {
            response.explanation = explain(&view.plan, &facts, now);
        }
        Ok(response)
    }

    async fn decide(&self, asking: &Asking<'_>, demanded: &Demanded) -> Result<CheckResponse, EngineError> {
        let command = asking.command(demanded)?;
        let outcome = self.leases.check(&command, &leased(&asking.selection)).await?;
        let mut response = respond(&asking.selection, &command.charges, decided(outcome)?);
        if command.mode == Mode::Peek && response.allowed {
            response.reserved = demanded.cost();
        }
        Ok(response)
    }

    /// The answer that the same id got before. What was allowed once stays so for its time, whatever
    /// has become of its API, its price and the limits since.
    async fn repeated(&self, asking: &Asking<'_>) -> Result<Option<CheckResponse>, EngineError> {
        let command = asking.bare_command();
        if command.request.is_none() {
            return Ok(None);
        }
        let outcome = match self.leases.recall(&command).await? {
            Some(here) => Some(here),
            None => self.counters.recall(&command).await?,
        };
        let answer = |outcome| Ok(respond(&asking.selection, &command.charges, decided(outcome)?));
        outcome.map(answer).transpose()
    }

    /// How everything stands that applies to a call. Changes nothing.
    ///
    /// # Errors
    /// As [`Engine::check`].
    pub async fn quota(&self, caller: &Caller, call: &Call) -> Result<Vec<LimitStatus>, EngineError> {
        let now = self.now();
        let view = self.view(&caller.workspace)?;
        let addressed = Addressed::unchecked(caller, &view, call)?;
        addressed.check_api()?;
        let selection = select(&view.plan, &addressed.facts(), now)?;
        let queries: Vec<CounterQuery> = selection.selected.iter().map(query).collect();
        let mut readings = self.counters.read(&caller.workspace, &queries, now).await?;
        self.leases.add_held(&queries, &leased(&selection), &mut readings);
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
}

/// A check with the limits that apply to it.
struct Asking<'a> {
    caller: &'a Caller,
    request: &'a CheckRequest,
    addressed: &'a Addressed<'a>,
    selection: Selection<'a>,
    now: Millis,
}

impl Asking<'_> {
    /// What is asked of the limits; fails where the call cannot be made at all.
    fn demanded(&self, view: &WorkspaceView) -> Result<Demanded, EngineError> {
        self.addressed.check_api()?;
        Demanded::of(view, self.request, self.addressed.api(), self.now)
    }

    /// Why nothing was decided.
    fn refusal(&self, error: Option<EngineError>) -> Result<CheckResponse, EngineError> {
        match (error, self.selection.denied_by_missing) {
            (Some(error), _) => Err(error),
            (None, Some(denying)) => Ok(denied_by_missing(denying, self.now)),
            (None, None) => Err(EngineError::internal("a check was refused for no reason")),
        }
    }

    fn command(&self, demanded: &Demanded) -> Result<CheckCommand, EngineError> {
        let mode = self.request.mode;
        let selected = &self.selection.selected;
        let mut command = self.bare_command();
        for (charge, selected) in command.charges.iter_mut().zip(selected) {
            charge.demand = demanded.of_limit(&selected.planned.unit, mode);
        }
        if mode == Mode::Reserve {
            command.units = selected.iter().map(|s| s.planned.unit.clone()).collect();
            command.reservation = Some(demanded.reservation(self.request, self.addressed, self.now)?);
        }
        Ok(command)
    }

    /// The command as far as it does not depend on what the call may use or cost.
    fn bare_command(&self) -> CheckCommand {
        CheckCommand {
            workspace: self.caller.workspace.clone(),
            now: self.now,
            mode: self.request.mode,
            charges: self.selection.selected.iter().map(probe).collect(),
            units: SmallVec::new(),
            request: fingerprint(self.caller, self.request, self.now),
            reservation: None,
        }
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

fn probe(selected: &Selected<'_>) -> Charge {
    let Selected { planned, counter, limit } = *selected;
    Charge {
        counter,
        overflow: planned.overflow_counter(),
        limit,
        demand: Demand::PROBE,
        enforcement: planned.enforcement,
    }
}

fn leased(selection: &Selection<'_>) -> Leased {
    selection.selected.iter().map(|selected| selected.planned.is_leased()).collect()
}

fn query(selected: &Selected<'_>) -> CounterQuery {
    let Selected { planned, counter, limit } = *selected;
    CounterQuery { counter, overflow: planned.overflow_counter(), limit }
}

fn decided(outcome: CheckOutcome) -> Result<Decided, EngineError> {
    match outcome {
        CheckOutcome::Decided(decided) => Ok(decided),
        CheckOutcome::ContentDiffers => {
            let message = "the request id was used for a check with other content";
            Err(EngineError::field(Reason::RequestIdReused, "request_id", message))
        }
    }
}
