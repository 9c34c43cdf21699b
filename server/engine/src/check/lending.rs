//! `LeaseQuota` and `ReturnLease`: units that a caller takes in advance, to decide on many calls by itself.
//!
//! Whoever spends a lease asks nobody. So it is of every limit that applies to such calls or of none, and
//! where one applies of which nothing can be lent, the caller has to ask for each call.

mod book;
mod grant;

use std::hash::{Hash, Hasher};

use rateguard_core::amounts::Amounts;
use rateguard_core::counter::Limit;
use rateguard_core::ids::{LeaseId, RequestId};
use rateguard_core::lease::{LeaseOutcome, LeaseRequest, LeaseReturn, lent_max};
use rateguard_core::plan::{PlannedLimit, Selected, Selection};
use rateguard_core::rule::Enforcement;
use rateguard_core::time::Millis;
use rateguard_core::unit::Unit;
use smallvec::SmallVec;
use xxhash_rust::xxh3::Xxh3;

pub(crate) use self::book::CallersLeases;
use self::book::{Ending, Record};
use self::grant::{Grant, Granted};
use super::answer::status;
use super::asked::Addressed;
use super::{Call, LimitStatus};
use crate::caller::Caller;
use crate::engine::Engine;
use crate::error::{EngineError, Reason};
use crate::gate::is_surely_not_done;
use crate::ports::{CounterQuery, LEASES_PER_COMMAND_MAX, LeaseCommand};
use crate::secrets::random;

/// Shortest time after which it is worth asking again where nothing was lent: what others give back.
const ASK_AGAIN_MS_MIN: i64 = 100;
/// And the longest.
const ASK_AGAIN_MS_MAX: i64 = 1_000;

/// What a caller wants in advance of one unit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Wish {
    /// Which; never money.
    pub unit: Unit,
    /// How much, at least one.
    pub amount: i64,
    /// Less is of no use: 1 to `amount`.
    pub least: i64,
}

/// A question for units in advance.
#[derive(Clone, Debug)]
pub struct LeaseQuestion {
    /// Its id, for idempotency.
    pub request_id: Option<RequestId>,
    /// The calls that they are for.
    pub call: Call,
    /// What these take, each unit once.
    pub wishes: Vec<Wish>,
    /// Leases that the caller has done with, each with what was not spent of it.
    pub ended: Vec<(LeaseId, Amounts)>,
}

/// A lease that a caller has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallersLease {
    /// Its id.
    pub id: LeaseId,
    /// What it has of each wish.
    pub granted: Amounts,
    /// For how long, counted by the caller from when it asked.
    pub life_ms: i64,
}

/// The answer to a question for units in advance.
#[derive(Clone, Debug, PartialEq)]
pub struct LeaseAnswer {
    /// The lease; `None` near a limit.
    pub lease: Option<CallersLease>,
    /// The limits that were asked, by falling priority; none where the answer was given before.
    pub limits: Vec<LimitStatus>,
    /// When it is worth asking again for a lease.
    pub retry_after_ms: Option<i64>,
    /// Whether it was given before, for the same id.
    pub replayed: bool,
}

/// Why a limit cannot be leased for some calls. Programs read the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Obstacle {
    Strict,
    NotEnforced,
    Budget,
    TooSmall,
    UnitNotNamed,
    ScopeValueMissing,
}

/// A limit of which units are asked for, with the wish that they are for.
struct Wanted<'a> {
    selected: Selected<'a>,
    wish: &'a Wish,
}

impl Engine {
    /// Lends units of every limit that applies to a kind of call, or of none.
    ///
    /// # Errors
    /// Bad input, a key that may not, an API that does not exist; [`Reason::LimitNotLeasable`] naming the
    /// limit in the way; [`Reason::QueueFull`] where the workspace has too many leases; a store that is away.
    pub async fn lease_quota(
        &self,
        caller: &Caller,
        question: &LeaseQuestion,
    ) -> Result<LeaseAnswer, EngineError> {
        let now = self.now();
        let view = self.view(&caller.workspace)?;
        let addressed = Addressed::of(caller, &view, &question.call)?;
        let asked = fingerprint(caller, question);
        if let Some(lease) = asked.map(|asked| self.callers_leases.recall(asked, now)).transpose()?.flatten()
        {
            return Ok(replayed(lease));
        }
        addressed.check_api()?;
        let selection = self.select(&view.plan, &addressed.facts(), now)?;
        let wanted = wanted(&selection, &question.wishes)?;
        self.callers_leases.check_room(&caller.workspace)?;
        let id = random().map_err(|error| EngineError::internal(&error.to_string()))?;
        let outcomes = self.lend_to(caller, &wanted, &question.ended, now).await?;
        let Granted { grant, surplus } = Granted::of(&question.wishes, &wanted, &outcomes);
        self.give_up(caller, surplus, now).await;
        let (limits, retry_after_ms) = (statuses(&wanted, &outcomes), ask_again_ms(&wanted, &outcomes, now));
        let Some(grant) = grant else {
            return Ok(LeaseAnswer { lease: None, limits, retry_after_ms, replayed: false });
        };
        let lease = CallersLease {
            id: LeaseId::from_random(id),
            granted: grant.granted.clone(),
            life_ms: grant.life_ms,
        };
        let record = Record::new(caller, asked, &lease, grant, now);
        match self.callers_leases.insert(&lease.id, record, now) {
            None => Ok(LeaseAnswer { lease: Some(lease), limits, retry_after_ms: None, replayed: false }),
            Some((earlier, taken)) => {
                // The same question was answered meanwhile: it has one lease.
                self.give_up(caller, taken, now).await;
                Ok(replayed(earlier))
            }
        }
    }

    /// Ends a lease and gives back what was not spent of it; says what that was. Again gives the same
    /// answer: nothing, where what came of the first return is not known.
    ///
    /// # Errors
    /// [`Reason::ResourceNotFound`] for one that is not known here or is another principal's;
    /// [`Reason::FieldOutOfBounds`] for more than it had; a store that is away.
    pub async fn return_lease(
        &self,
        caller: &Caller,
        id: &LeaseId,
        unspent: &Amounts,
    ) -> Result<Amounts, EngineError> {
        let now = self.now();
        let returns = match self.callers_leases.end(caller, id, unspent, now)? {
            Ending::Before(returned) => return Ok(returned),
            Ending::Now(returns) => returns,
        };
        if returns.is_empty() {
            return Ok(unspent.clone());
        }
        let command =
            LeaseCommand { workspace: caller.workspace.clone(), now, returns, requests: Vec::new() };
        match self.gate.lease(&command).await {
            Ok(_) => Ok(unspent.clone()),
            Err(error) => {
                self.callers_leases.not_returned(id, is_surely_not_done(&error));
                Err(error.into())
            }
        }
    }

    /// Ends leases and takes units of the counters, one outcome for each that is wanted.
    async fn lend_to(
        &self,
        caller: &Caller,
        wanted: &[Wanted<'_>],
        ended: &[(LeaseId, Amounts)],
        now: Millis,
    ) -> Result<Vec<LeaseOutcome>, EngineError> {
        let room = LEASES_PER_COMMAND_MAX.saturating_sub(wanted.len());
        let (ids, returns) = self.callers_leases.end_as_fit(caller, ended, room, now);
        if wanted.is_empty() && returns.is_empty() {
            return Ok(Vec::new());
        }
        let requests = wanted.iter().map(Wanted::request).collect();
        let command = LeaseCommand { workspace: caller.workspace.clone(), now, returns, requests };
        let outcomes = self.gate.lease(&command).await.inspect_err(|error| {
            let surely = is_surely_not_done(error);
            ids.iter().for_each(|id| self.callers_leases.not_returned(id, surely));
        })?;
        if outcomes.len() != wanted.len() {
            return Err(EngineError::internal("a store answered another number of leases"));
        }
        Ok(self.with_held(wanted, outcomes))
    }

    /// What this process holds for all callers is shown as left, as everywhere.
    fn with_held(&self, wanted: &[Wanted<'_>], mut outcomes: Vec<LeaseOutcome>) -> Vec<LeaseOutcome> {
        let queries: Vec<CounterQuery> = wanted.iter().map(|wanted| super::query(&wanted.selected)).collect();
        let mut readings: Vec<_> = outcomes.iter().map(|outcome| outcome.reading).collect();
        self.leases.add_held(&queries, &SmallVec::from_elem(true, queries.len()), &mut readings);
        for (outcome, reading) in outcomes.iter_mut().zip(readings) {
            outcome.reading = reading;
        }
        outcomes
    }

    /// Gives back what a caller is not told of.
    async fn give_up(&self, caller: &Caller, returns: Vec<LeaseReturn>, now: Millis) {
        if returns.is_empty() {
            return;
        }
        let command =
            LeaseCommand { workspace: caller.workspace.clone(), now, returns, requests: Vec::new() };
        if let Err(error) = self.gate.lease(&command).await {
            tracing::warn!(%error, "units that nobody was lent could not be given back: they count as spent");
        }
    }
}

impl Wanted<'_> {
    fn request(&self) -> LeaseRequest {
        let CounterQuery { counter, overflow, limit } = super::query(&self.selected);
        LeaseRequest { counter, overflow, limit, asked: self.wish.amount, least: self.wish.least }
    }
}

impl Obstacle {
    /// As the error's metadata has it.
    fn name(self) -> &'static str {
        match self {
            Self::Strict => "STRICT",
            Self::NotEnforced => "NOT_ENFORCED",
            Self::Budget => "BUDGET",
            Self::TooSmall => "TOO_SMALL",
            Self::UnitNotNamed => "UNIT_NOT_NAMED",
            Self::ScopeValueMissing => "SCOPE_VALUE_MISSING",
        }
    }

    fn describe(self) -> &'static str {
        match self {
            Self::Strict => "decides each call by itself",
            Self::NotEnforced => "counts without denying, which only checks tell it",
            Self::Budget => "counts money",
            Self::TooSmall => "is too small for leases",
            Self::UnitNotNamed => "counts a unit that is not among the wishes",
            Self::ScopeValueMissing => "denies calls without a value that it counts by",
        }
    }

    fn error(self, limit: &PlannedLimit) -> EngineError {
        let id = limit.id.as_str();
        let message = format!("nothing can be leased: the limit {id:?} {}", self.describe());
        let metadata = vec![("limit_id", id.to_owned()), ("cause", self.name().to_owned())];
        EngineError { metadata, ..EngineError::new(Reason::LimitNotLeasable, message) }
    }
}

/// The limits that a lease has to be taken from.
fn wanted<'a>(selection: &Selection<'a>, wishes: &'a [Wish]) -> Result<Vec<Wanted<'a>>, EngineError> {
    if let Some(denying) = selection.denied_by_missing {
        return Err(Obstacle::ScopeValueMissing.error(denying));
    }
    let mut wanted = Vec::new();
    for selected in &selection.selected {
        let wish = wishes.iter().find(|wish| wish.unit == selected.planned.unit);
        match leasable(selected, wish) {
            Ok(Some(wish)) => wanted.push(Wanted { selected: *selected, wish }),
            Ok(None) => {}
            Err(obstacle) => return Err(obstacle.error(selected.planned)),
        }
    }
    Ok(wanted)
}

/// What is to be leased of a limit; nothing where a call changes nothing in it and is not denied by it.
fn leasable<'w>(selected: &Selected<'_>, wish: Option<&'w Wish>) -> Result<Option<&'w Wish>, Obstacle> {
    let Selected { planned, limit, .. } = selected;
    let is_money = planned.unit == Unit::Cost;
    match (planned.enforcement == Enforcement::Enforced, wish) {
        (true, _) if is_money => Err(Obstacle::Budget),
        (true, _) if !planned.is_leased() || matches!(limit, Limit::Concurrency { .. }) => {
            Err(Obstacle::Strict)
        }
        (true, None) => Err(Obstacle::UnitNotNamed),
        (true, Some(_)) if lent_max(limit) == 0 => Err(Obstacle::TooSmall),
        (true, Some(wish)) => Ok(Some(wish)),
        (false, Some(_)) => Err(Obstacle::NotEnforced),
        // A call counts as one request where it does not say otherwise.
        (false, None) if planned.unit == Unit::Requests => Err(Obstacle::NotEnforced),
        (false, None) => Ok(None),
    }
}

fn statuses(wanted: &[Wanted<'_>], outcomes: &[LeaseOutcome]) -> Vec<LimitStatus> {
    let parts = wanted.iter().zip(outcomes);
    parts
        .map(|(wanted, outcome)| status(wanted.selected.planned, wanted.selected.limit, outcome.reading, 0))
        .collect()
}

/// When it is worth asking again: when those that lent nothing are whole again, or soon.
fn ask_again_ms(wanted: &[Wanted<'_>], outcomes: &[LeaseOutcome], now: Millis) -> Option<i64> {
    let refused = wanted.iter().zip(outcomes).filter(|(_, outcome)| outcome.lease.is_none());
    let waits = refused.map(|(_, outcome)| outcome.reading.reset_at.map_or(i64::MAX, |at| at.since(now)));
    let wait = waits.max().unwrap_or(0);
    Some(wait.clamp(ASK_AGAIN_MS_MIN, ASK_AGAIN_MS_MAX))
}

fn replayed(lease: CallersLease) -> LeaseAnswer {
    LeaseAnswer { lease: Some(lease), limits: Vec::new(), retry_after_ms: None, replayed: true }
}

/// What makes a question the same question: hashes of who asks by which id, and of what is asked.
fn fingerprint(caller: &Caller, question: &LeaseQuestion) -> Option<(u128, u64)> {
    let id = question.request_id.as_ref()?;
    let mut name = Xxh3::new();
    (&caller.workspace, &caller.key.id, caller.by_gateway).hash(&mut name);
    name.update(id.as_str().as_bytes());
    let mut content = Xxh3::new();
    (&question.call, &question.wishes).hash(&mut content);
    Some((name.digest128(), content.finish()))
}

#[cfg(test)]
mod tests;
