//! Decisions over calls that are described from several points of view at once, as proxies ask them.
//!
//! Each descriptor is a call of its own, with the facts that [`rateguard_core::descriptor`] makes of it. The
//! charges of all descriptors go into one decision, so that a denial by one leaves the others as they were.

mod charges;

use std::sync::Arc;

use rateguard_core::counter::{Counter, Limit, Reading, RetryAfter};
use rateguard_core::decision::{Charge, Mode, Verdict};
use rateguard_core::limits::{LIMITS_PER_CALL_MAX, REQUEST_ID_LIFE_MS};
use rateguard_core::plan::{Plan, PlannedLimit};
use rateguard_core::rule::Enforcement;
use rateguard_core::time::Millis;
use rateguard_core::unit::Unit;
use smallvec::SmallVec;

use self::charges::{Asked, Limited, drop_overridden};
use crate::caller::Caller;
use crate::check::{AtOnce, Outcome, unnamed};
use crate::degraded::{Degraded, LocalCall, LocalDecision, RETRY_MIN, Ruling, local_mode, rule};
use crate::engine::Engine;
use crate::error::{EngineError, Reason};
use crate::leases::Leased;
use crate::ports::{CheckCommand, CheckOutcome, Prompt, StoreError};

/// A call with its descriptors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DescribedCall {
    /// The set of limits that is meant.
    pub domain: String,
    /// The call from several points of view.
    pub descriptors: Vec<Descriptor>,
}

/// The call from one point of view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// Keys with their values, from the most general to the most special.
    pub entries: Vec<(String, String)>,
    /// How much of whatever its limits count.
    pub hits: Hits,
    /// A limit in the place of the workspace's.
    pub own_limit: Option<OwnLimit>,
}

/// How much is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hits {
    /// So much is taken.
    Take(i64),
    /// So much is given back.
    GiveBack(i64),
}

/// A limit that the caller sets itself: at most `amount` in each window from the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnLimit {
    /// Units a window.
    pub amount: i64,
    /// The window's length.
    pub window_ms: i64,
}

/// The decision.
#[derive(Clone, Debug, PartialEq)]
pub struct DescribedAnswer {
    /// Whether the call may go ahead.
    pub allowed: bool,
    /// When the same call passes; `None` when waiting does not help, or need not.
    pub retry_after_ms: Option<i64>,
    /// The instant of the decision.
    pub now: Millis,
    /// The descriptors, in the order of the call.
    pub descriptors: Vec<DescribedStatus>,
}

/// How one descriptor stands after the decision.
#[derive(Clone, Debug, PartialEq)]
pub struct DescribedStatus {
    /// Whether its own limits let it pass.
    pub allowed: bool,
    /// Every limit that applied to it, by falling priority.
    pub limits: Vec<DescribedLimit>,
}

/// How one limit stands towards a descriptor.
#[derive(Clone, Debug, PartialEq)]
pub struct DescribedLimit {
    /// Its name; `None` for one that the caller has set itself.
    pub name: Option<Arc<str>>,
    /// What it counts.
    pub unit: Unit,
    /// Its size and window.
    pub limit: Limit,
    /// Whether it decides.
    pub enforcement: Enforcement,
    /// What is used and left, and whether it denied.
    pub reading: Reading,
}

impl DescribedLimit {
    /// Whether it decides, and does not only watch.
    pub fn decides(&self) -> bool {
        self.enforcement == Enforcement::Enforced
    }

    /// Whether it has denied.
    pub fn denies(&self) -> bool {
        self.decides() && self.reading.denied.is_some()
    }
}

impl Engine {
    /// Decides over all descriptors of a call at once, and takes from their limits if all pass.
    ///
    /// # Errors
    /// A key that is restricted to APIs, models or addresses, which descriptors do not name; more limits than one
    /// decision holds; [`Reason::FieldConflict`] for hits given back to a limit that takes none back; a store that
    /// is away. A denial is no error.
    pub async fn check_described(
        &self,
        caller: &Caller,
        call: &DescribedCall,
    ) -> Result<DescribedAnswer, EngineError> {
        let now = self.now();
        let view = self.view_at(&caller.workspace, now)?;
        match self.described_promptly(caller, call, &view.plan, now)? {
            AtOnce::Answered(answer) => Ok(answer),
            // On the heap, as with other checks.
            AtOnce::Begun(outcome) => {
                let verdict = verdict_of(outcome.await?)?;
                // The same limits in the same view.
                let (asked, command) = self.described_command(caller, call, &view.plan, now)?;
                Ok(answer(&asked, &command.charges, &verdict, now))
            }
            AtOnce::Not => Box::pin(self.described_waiting(caller, call, &view.plan, now)).await,
        }
    }

    /// Decides as far as counters of this process do so without waiting.
    fn described_promptly(
        &self,
        caller: &Caller,
        call: &DescribedCall,
        plan: &Plan,
        now: Millis,
    ) -> Result<AtOnce<DescribedAnswer, Outcome<'_>>, EngineError> {
        let Some(counters) = self.gate.own_counters() else { return Ok(AtOnce::Not) };
        let (asked, command) = self.described_command(caller, call, plan, now)?;
        if command.charges.is_empty() {
            return Ok(AtOnce::Not);
        }
        match counters.check_promptly(&command) {
            Prompt::Waiting(outcome) => Ok(AtOnce::Begun(outcome)),
            Prompt::Answered(outcome) => {
                let verdict = verdict_of(outcome?)?;
                Ok(AtOnce::Answered(answer(&asked, &command.charges, &verdict, now)))
            }
        }
    }

    /// Decides what may have to wait.
    async fn described_waiting(
        &self,
        caller: &Caller,
        call: &DescribedCall,
        plan: &Plan,
        now: Millis,
    ) -> Result<DescribedAnswer, EngineError> {
        let (asked, command) = self.described_command(caller, call, plan, now)?;
        match self.decide_described(&command, &asked).await {
            Err(error) if self.gate.is_guarded() && error.is_undecided() => {
                Ok(self.described_alone(&asked, command.mode, now))
            }
            verdict => Ok(answer(&asked, &command.charges, &verdict?, now)),
        }
    }

    /// Decides by the failure policies of the limits while the counters do not answer. What stands in
    /// them nobody knows, so no limit is told of.
    fn described_alone(&self, asked: &[Asked<'_>], mode: Mode, now: Millis) -> DescribedAnswer {
        let limits = || asked.iter().flat_map(|asked| &asked.limits);
        let (policy, allowed) = match rule(limits().map(Limited::matched)) {
            Ruling::Open => (Degraded::Open, true),
            Ruling::Closed(_) => (Degraded::Closed, false),
            Ruling::Local(charges) => {
                let slot = self.slot.held();
                let call = LocalCall { charges: &charges, mode: local_mode(mode), request: None, slot, now };
                let allowed =
                    matches!(self.local.decide(&call), LocalDecision::Decided { allowed: true, .. });
                (Degraded::Local, allowed)
            }
        };
        self.degraded.note(policy, allowed);
        let descriptors = asked.iter().map(|_| DescribedStatus { allowed, limits: Vec::new() }).collect();
        let retry_after_ms = i64::try_from(RETRY_MIN.as_millis()).ok().filter(|_| !allowed);
        DescribedAnswer { allowed, retry_after_ms, now, descriptors }
    }

    /// The limits of all descriptors, and the one command over them.
    fn described_command<'a>(
        &self,
        caller: &'a Caller,
        call: &'a DescribedCall,
        plan: &'a Plan,
        now: Millis,
    ) -> Result<(Vec<Asked<'a>>, CheckCommand), EngineError> {
        caller.check_restrictions(None, "", None)?;
        let ask = |descriptor| Asked::of(caller, plan, &call.domain, descriptor, self.gate.is_guarded(), now);
        let mut asked: Vec<Asked<'_>> = call.descriptors.iter().map(ask).collect::<Result<_, _>>()?;
        drop_overridden(&mut asked);
        check_give_backs(&call.descriptors, &asked)?;
        let charges = charges_of(&asked)?;
        let lacks_value = asked.iter().any(|asked| asked.denied_by_missing.is_some());
        // Whoever lacks a value is denied without its counter: the others are only read.
        let mode = if lacks_value { Mode::Peek } else { Mode::Consume };
        // What was given back depends on what there was, and what a denial has counted is not remembered: neither
        // can be undone.
        let is_undoable = |charge: &Charge| charge.demand.take >= 0 && !charge.counts_denied;
        let may_be_unknown = self.gate.is_guarded() && mode == Mode::Consume;
        let is_undone = may_be_unknown && charges.iter().all(is_undoable);
        let command = CheckCommand {
            workspace: caller.workspace.clone(),
            now,
            mode,
            charges,
            units: SmallVec::new(),
            request: is_undone.then(|| unnamed(now.plus(REQUEST_ID_LIFE_MS))).transpose()?,
            reservation: None,
        };
        Ok((asked, command))
    }

    async fn decide_described(
        &self,
        command: &CheckCommand,
        asked: &[Asked<'_>],
    ) -> Result<Verdict, StoreError> {
        if command.charges.is_empty() {
            return Ok(Verdict { allowed: true, readings: SmallVec::new(), marks: SmallVec::new() });
        }
        let leased: Leased = asked.iter().flat_map(|asked| &asked.limits).map(Limited::is_leased).collect();
        self.leases.check(command, &leased).await.and_then(verdict_of)
    }
}

fn verdict_of(outcome: CheckOutcome) -> Result<Verdict, StoreError> {
    match outcome {
        CheckOutcome::Decided(decided) => Ok(decided.verdict),
        CheckOutcome::ContentDiffers => {
            let detail = "a check without an id was taken for another".to_owned();
            Err(StoreError::Corrupt { store: "counter", detail })
        }
    }
}

/// Whoever may call may not lift limits: only one that is charged after the fact takes back what it was charged,
/// or one that the caller has set itself.
fn check_give_backs(descriptors: &[Descriptor], asked: &[Asked<'_>]) -> Result<(), EngineError> {
    for (place, (descriptor, asked)) in descriptors.iter().zip(asked).enumerate() {
        let refuses = |planned: &&PlannedLimit| planned.unit != Unit::Cost && !planned.policies.counts_denied;
        let planned = asked.limits.iter().filter_map(|limited| limited.planned).find(refuses);
        if let (Hits::GiveBack(_), Some(planned)) = (descriptor.hits, planned) {
            let field = format!("descriptors[{place}].is_negative_hits");
            let message = format!(
                "must not be set: the limit {:?} is not charged after the fact (counts_denied), so that it takes \
                 nothing back",
                planned.id.as_str()
            );
            return Err(EngineError::field(Reason::FieldConflict, field, message));
        }
    }
    Ok(())
}

fn charges_of(asked: &[Asked<'_>]) -> Result<SmallVec<[Charge; 8]>, EngineError> {
    let charges: SmallVec<[Charge; 8]> =
        asked.iter().flat_map(|asked| &asked.limits).map(|limited| limited.charge).collect();
    if charges.len() <= LIMITS_PER_CALL_MAX {
        return Ok(charges);
    }
    let message = format!("more than {LIMITS_PER_CALL_MAX} limits match the descriptors");
    Err(EngineError::new(Reason::TooManyLimits, message))
}

fn answer(asked: &[Asked<'_>], charges: &[Charge], verdict: &Verdict, now: Millis) -> DescribedAnswer {
    let mut readings = verdict.readings.iter();
    let statuses = asked.iter().map(|asked| {
        let limits =
            asked.limits.iter().zip(readings.by_ref()).map(|(limited, reading)| limited.status(*reading));
        asked.status(limits.collect(), now)
    });
    let descriptors: Vec<DescribedStatus> = statuses.collect();
    let allowed = descriptors.iter().all(|status| status.allowed);
    let lacks_value = asked.iter().any(|asked| asked.denied_by_missing.is_some());
    let limiting = verdict.limiting(charges).filter(|_| !allowed && !lacks_value);
    let retry_after_ms = limiting.and_then(|(_, wait)| match wait {
        RetryAfter::Millis(ms) => Some(ms),
        RetryAfter::Never => None,
    });
    DescribedAnswer { allowed, retry_after_ms, now, descriptors }
}

impl Limited<'_> {
    fn status(&self, reading: Reading) -> DescribedLimit {
        DescribedLimit {
            name: self.planned.map(|planned| planned.name.clone()),
            unit: self.planned.map_or(Unit::Requests, |planned| planned.unit.clone()),
            limit: self.charge.limit,
            enforcement: self.charge.enforcement,
            reading,
        }
    }
}

impl Asked<'_> {
    fn status(&self, mut limits: Vec<DescribedLimit>, now: Millis) -> DescribedStatus {
        if let Some(planned) = self.denied_by_missing {
            let limit = planned.limit_at(now);
            let reading = Counter::fresh(&limit, now).read(&limit, 0, now);
            limits.push(DescribedLimit {
                name: Some(planned.name.clone()),
                unit: planned.unit.clone(),
                limit,
                enforcement: planned.enforcement,
                reading: Reading { denied: Some(RetryAfter::Never), ..reading },
            });
        }
        DescribedStatus { allowed: !limits.iter().any(DescribedLimit::denies), limits }
    }
}
