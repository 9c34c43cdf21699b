//! `CheckQuota`: one decision over everything that applies to a call.

mod answer;
mod asked;
mod at_once;
pub mod lending;
mod without_counters;

pub(crate) use asked::unnamed;
use at_once::Begun;
pub(crate) use at_once::{AtOnce, Outcome};

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
use rateguard_core::reservation::ReservationState;
use rateguard_core::rule::Enforcement;
use rateguard_core::time::{Bounds, Millis};
use rateguard_core::unit::Unit;
use smallvec::SmallVec;

use self::answer::{denied_by_missing, explain, lacks_value, respond, status};
use self::asked::{Addressed, Demanded, attempted, fingerprint};
use crate::caller::Caller;
use crate::costing::Estimate;
use crate::degraded::Degraded;
use crate::directory::WorkspaceView;
use crate::engine::Engine;
use crate::error::{EngineError, Reason};
use crate::leases::Leased;
use crate::ports::{CheckCommand, CheckOutcome, CounterQuery, Decided, Prompt, ReleaseOutcome, RenewOutcome};

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
    /// By which policy it was decided, where the counters did not answer. `limits` are then those that
    /// this process decided by its share of them.
    pub degraded: Option<Degraded>,
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
        let view = self.view_at(&caller.workspace, now)?;
        match self.check_promptly(caller, request, &view, now)? {
            AtOnce::Answered(response) => Ok(response),
            // On the heap, since a check that need not wait would be as large as this otherwise, and is moved.
            AtOnce::Begun(begun) => Box::pin(self.finish_check(caller, request, &view, now, *begun)).await,
            AtOnce::Not => Box::pin(self.check_waiting(caller, request, &view, now)).await,
        }
    }

    /// Decides a check as far as counters of this process do so without waiting.
    fn check_promptly(
        &self,
        caller: &Caller,
        request: &CheckRequest,
        view: &WorkspaceView,
        now: Millis,
    ) -> Result<AtOnce<CheckResponse, Box<Begun<'_>>>, EngineError> {
        let Some(counters) = self.gate.own_counters() else { return Ok(AtOnce::Not) };
        let addressed = Addressed::of(caller, view, &request.call)?;
        let asking = self.asking(caller, request, &addressed, view, now)?;
        let demanded = match asking.demanded(view) {
            Ok(demanded) if asking.selection.denied_by_missing.is_none() => demanded,
            _ => return Ok(AtOnce::Not),
        };
        let command = asking.command(&demanded)?;
        match counters.check_promptly(&command) {
            Prompt::Waiting(outcome) => Ok(AtOnce::Begun(Box::new(Begun { command, demanded, outcome }))),
            Prompt::Answered(outcome) => {
                let response = asking.response(&command, &demanded, outcome?)?;
                Ok(AtOnce::Answered(asking.explained(view, response)))
            }
        }
    }

    /// Waits for what has begun. The limits are looked up again: they are the same ones in the same view.
    async fn finish_check(
        &self,
        caller: &Caller,
        request: &CheckRequest,
        view: &WorkspaceView,
        now: Millis,
        begun: Begun<'_>,
    ) -> Result<CheckResponse, EngineError> {
        let Begun { command, demanded, outcome } = begun;
        let outcome = outcome.await?;
        let addressed = Addressed::of(caller, view, &request.call)?;
        let asking = self.asking(caller, request, &addressed, view, now)?;
        let response = asking.response(&command, &demanded, outcome)?;
        Ok(asking.explained(view, response))
    }

    /// Decides a check that may have to wait.
    async fn check_waiting(
        &self,
        caller: &Caller,
        request: &CheckRequest,
        view: &WorkspaceView,
        now: Millis,
    ) -> Result<CheckResponse, EngineError> {
        let addressed = Addressed::of(caller, view, &request.call)?;
        let asking = self.asking(caller, request, &addressed, view, now)?;
        let response = match asking.demanded(view) {
            Ok(demanded) if asking.selection.denied_by_missing.is_none() => {
                self.decide(&asking, &demanded).await?
            }
            refused => match self.repeated(&asking).await? {
                Some(repeated) => repeated,
                None => asking.refusal(refused.err())?,
            },
        };
        Ok(asking.explained(view, response))
    }

    fn asking<'a>(
        &self,
        caller: &'a Caller,
        request: &'a CheckRequest,
        addressed: &'a Addressed<'a>,
        view: &'a WorkspaceView,
        now: Millis,
    ) -> Result<Asking<'a>, EngineError> {
        let selection = self.select(&view.plan, &addressed.facts(), now)?;
        Ok(Asking { caller, request, addressed, selection, is_shared: self.gate.is_guarded(), now })
    }

    async fn decide(&self, asking: &Asking<'_>, demanded: &Demanded) -> Result<CheckResponse, EngineError> {
        let command = asking.command(demanded)?;
        match self.leases.check(&command, &leased(&asking.selection)).await {
            Err(error) if asking.is_shared && error.is_undecided() => {
                self.decide_without_counters(asking, &command)
            }
            outcome => asking.response(&command, demanded, outcome?),
        }
    }

    /// The answer that the same id got before. What was allowed once stays so for its time, whatever
    /// has become of its API, its price and the limits since.
    async fn repeated(&self, asking: &Asking<'_>) -> Result<Option<CheckResponse>, EngineError> {
        let command = asking.bare_command()?;
        if asking.request.request_id.is_none() || command.request.is_none() {
            return Ok(None);
        }
        let outcome = match self.leases.recall(&command).await? {
            Some(here) => Some(here),
            None => match self.gate.recall(&command).await {
                // Nothing is known of the id, and what is refused takes nothing.
                Err(error) if asking.is_shared && error.is_undecided() => return Ok(None),
                outcome => outcome?,
            },
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
        let view = self.view_at(&caller.workspace, now)?;
        let addressed = Addressed::unchecked(caller, &view, call)?;
        addressed.check_api()?;
        let selection = self.select(&view.plan, &addressed.facts(), now)?;
        let queries: Vec<CounterQuery> = selection.selected.iter().map(query).collect();
        let mut readings = self.gate.read(&caller.workspace, &queries, now).await?;
        self.leases.add_held(&queries, &leased(&selection), &mut readings);
        let lacking = selection.denied_by_missing.map(|planned| lacks_value(planned, now));
        let standing = selection.selected.iter().zip(readings);
        let standing =
            standing.map(|(selected, reading)| status(selected.planned, selected.limit, reading, 0));
        Ok(lacking.into_iter().chain(standing).collect())
    }

    /// The limits of a call. Those of which a share is kept back for times without the counters are shown,
    /// and held, without it.
    fn select<'p>(
        &self,
        plan: &'p Plan,
        facts: &CallFacts<'_>,
        now: Millis,
    ) -> Result<Selection<'p>, EngineError> {
        let mut selection = plan.select(facts, now);
        if selection.selected.len() > LIMITS_PER_CALL_MAX {
            let message = format!("more than {LIMITS_PER_CALL_MAX} limits match the call");
            return Err(EngineError::new(Reason::TooManyLimits, message));
        }
        if self.gate.is_guarded() {
            for selected in &mut selection.selected {
                selected.keep_share_back();
            }
        }
        Ok(selection)
    }

    /// Gives a reservation back. Again gives the same answer.
    ///
    /// # Errors
    /// [`Reason::ResourceNotFound`] for one that does not exist or is another principal's.
    pub async fn release(&self, caller: &Caller, id: &ReservationId) -> Result<ReleaseOutcome, EngineError> {
        let outcome = self.gate.release(&caller.workspace, id, &caller.principal(), self.now()).await?;
        match outcome {
            ReleaseOutcome::Unknown => Err(EngineError::not_found("reservation", id.as_str())),
            state => Ok(state),
        }
    }

    /// Lets an open reservation go on for `ttl_ms` from now, which is within its bounds already, and says
    /// when it expires: never earlier than it would have, and at most
    /// [`RESERVATION_LIFE_MS_MAX`](rateguard_core::limits::RESERVATION_LIFE_MS_MAX) after its decision.
    ///
    /// # Errors
    /// [`Reason::ResourceNotFound`] for one that does not exist or is another principal's,
    /// [`Reason::ReservationEnded`].
    pub async fn renew(
        &self,
        caller: &Caller,
        id: &ReservationId,
        ttl_ms: i64,
    ) -> Result<Millis, EngineError> {
        let now = self.now();
        let (workspace, principal) = (&caller.workspace, caller.principal());
        match self.gate.renew(workspace, id, &principal, now.plus(ttl_ms), now).await? {
            RenewOutcome::Open(expires_at) => Ok(expires_at),
            RenewOutcome::Unknown => Err(EngineError::not_found("reservation", id.as_str())),
            RenewOutcome::Ended(state) => {
                let how = match state {
                    ReservationState::Settled => "was settled",
                    ReservationState::Released => "was released",
                    ReservationState::Open | ReservationState::Expired => "has expired",
                };
                Err(EngineError::new(Reason::ReservationEnded, format!("the reservation {how}")))
            }
        }
    }
}

/// A check with the limits that apply to it.
struct Asking<'a> {
    caller: &'a Caller,
    request: &'a CheckRequest,
    addressed: &'a Addressed<'a>,
    selection: Selection<'a>,
    /// Whether the counters are other processes' too, so that an attempt may have to be undone.
    is_shared: bool,
    now: Millis,
}

impl Asking<'_> {
    /// What is asked of the limits; fails where the call cannot be made at all.
    fn demanded(&self, view: &WorkspaceView) -> Result<Demanded, EngineError> {
        self.addressed.check_api()?;
        self.check_end()?;
        Demanded::of(view, self.request, self.addressed.api(), self.now)
    }

    /// What runs at the same time has to end: only a reservation tells when.
    fn check_end(&self) -> Result<(), EngineError> {
        let counts_running = |selected: &&Selected<'_>| {
            selected.planned.enforcement == Enforcement::Enforced
                && matches!(selected.limit, Limit::Concurrency { .. })
        };
        match self.selection.selected.iter().find(counts_running) {
            Some(Selected { planned, .. }) if self.request.mode == Mode::Consume => {
                let message = format!(
                    "the rule {:?} limits calls at the same time, which needs the mode RESERVE",
                    planned.id.as_str()
                );
                Err(EngineError::new(Reason::ConcurrencyNeedsReserve, message))
            }
            _ => Ok(()),
        }
    }

    fn response(
        &self,
        command: &CheckCommand,
        demanded: &Demanded,
        outcome: CheckOutcome,
    ) -> Result<CheckResponse, EngineError> {
        let mut response = respond(&self.selection, &command.charges, decided(outcome)?);
        if command.mode == Mode::Peek && response.allowed {
            response.reserved = demanded.cost();
        }
        Ok(response)
    }

    /// With what did not apply, where that is asked for.
    fn explained(&self, view: &WorkspaceView, response: CheckResponse) -> CheckResponse {
        if !self.request.explain {
            return response;
        }
        CheckResponse { explanation: explain(&view.plan, &self.addressed.facts(), self.now), ..response }
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
        let mut command = self.bare_command()?;
        for (charge, selected) in command.charges.iter_mut().zip(selected) {
            charge.demand = demanded.of_limit(&selected.planned.unit, &selected.limit, mode);
        }
        if mode == Mode::Reserve {
            command.units = selected.iter().map(|s| s.planned.unit.clone()).collect();
            // All of one call's are in its subject's.
            let shard = command.charges.iter().find_map(|charge| charge.counter.shard());
            command.reservation =
                Some(demanded.reservation(self.request, self.addressed, shard, self.now)?);
        }
        Ok(command)
    }

    /// The command as far as it does not depend on what the call may use or cost.
    fn bare_command(&self) -> Result<CheckCommand, EngineError> {
        let known = fingerprint(self.caller, self.request, self.now);
        let request = if self.is_shared { attempted(known, self.request, self.now)? } else { known };
        Ok(CheckCommand {
            workspace: self.caller.workspace.clone(),
            now: self.now,
            mode: self.request.mode,
            charges: self.selection.selected.iter().map(probe).collect(),
            units: SmallVec::new(),
            request,
            reservation: None,
        })
    }
}

fn probe(selected: &Selected<'_>) -> Charge {
    let Selected { planned, counter, limit, .. } = *selected;
    Charge {
        counter,
        overflow: planned.overflow_beside(counter),
        limit,
        demand: Demand::PROBE,
        enforcement: planned.enforcement,
        counts_denied: planned.policies.counts_denied,
    }
}

fn leased(selection: &Selection<'_>) -> Leased {
    selection.selected.iter().map(|selected| selected.planned.is_leased()).collect()
}

fn query(selected: &Selected<'_>) -> CounterQuery {
    let Selected { planned, counter, limit, .. } = *selected;
    CounterQuery { counter, overflow: planned.overflow_beside(counter), limit }
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

#[cfg(test)]
mod tests;
