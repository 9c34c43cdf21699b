//! The answer to a check while the counters do not answer.

use rateguard_core::counter::RetryAfter;
use rateguard_core::plan::LimitId;

use super::answer::status;
use super::{Asking, CheckResponse, LimitStatus};
use crate::degraded::{
    Degraded, LocalCall, LocalCharge, LocalDecision, Matched, RETRY_MIN, Ruling, local_mode, rule,
};
use crate::engine::Engine;
use crate::error::EngineError;
use crate::ports::{CheckCommand, CheckOutcome};

impl Engine {
    /// Decides by the failure policies of the limits that apply. Nothing is reserved: what is allowed is
    /// counted when it is reported.
    pub(super) fn decide_without_counters(
        &self,
        asking: &Asking<'_>,
        command: &CheckCommand,
    ) -> Result<CheckResponse, EngineError> {
        let response = match rule(Matched::all(&asking.selection.selected, &command.charges)) {
            Ruling::Open => bare(Degraded::Open, true),
            Ruling::Closed(limit) => self.denied_for(limit, command),
            Ruling::Local(local) => self.decide_alone(asking, command, &local)?,
        };
        if let Some(policy) = response.degraded {
            self.degraded.note(policy, response.allowed);
        }
        Ok(response)
    }

    fn denied_for(&self, limit: LimitId, command: &CheckCommand) -> CheckResponse {
        let wait = self.gate.refuses_for(command).max(RETRY_MIN);
        let retry_after_ms = i64::try_from(wait.as_millis()).ok();
        CheckResponse { limiting: Some(limit), retry_after_ms, ..bare(Degraded::Closed, false) }
    }

    /// Decides by this process's share of limits.
    fn decide_alone(
        &self,
        asking: &Asking<'_>,
        command: &CheckCommand,
        local: &[LocalCharge],
    ) -> Result<CheckResponse, EngineError> {
        let call = LocalCall {
            charges: local,
            mode: local_mode(command.mode),
            request: command.request.filter(|_| asking.request.request_id.is_some()),
            slot: self.slot.held(),
            now: asking.now,
        };
        let LocalDecision::Decided { allowed, replayed, readings } = self.local.decide(&call) else {
            return super::decided(CheckOutcome::ContentDiffers).map(|_| bare(Degraded::Local, false));
        };
        let statuses = local.iter().zip(readings).filter_map(|(local, reading)| {
            let selected = asking.selection.selected.get(local.place)?;
            Some(status(selected.planned, local.charge.limit, reading, local.charge.demand.need))
        });
        let limits: Vec<LimitStatus> = statuses.collect();
        let denying = limits.iter().find(|status| !allowed && status.denial.is_some());
        Ok(CheckResponse {
            limiting: denying.map(|status| status.id.clone()),
            retry_after_ms: denying.map(retry_after_ms),
            replayed,
            limits,
            ..bare(Degraded::Local, allowed)
        })
    }
}

/// When the call may pass: with the share's next window, or before, should the counters answer again.
fn retry_after_ms(denying: &LimitStatus) -> i64 {
    let soon_ms = i64::try_from(RETRY_MIN.as_millis()).unwrap_or(i64::MAX);
    match denying.reading.denied {
        Some(RetryAfter::Millis(wait_ms)) => wait_ms.min(soon_ms),
        Some(RetryAfter::Never) | None => soon_ms,
    }
}

fn bare(policy: Degraded, allowed: bool) -> CheckResponse {
    CheckResponse {
        allowed,
        reservation: None,
        limits: Vec::new(),
        limiting: None,
        retry_after_ms: None,
        replayed: false,
        reserved: None,
        degraded: Some(policy),
        explanation: Vec::new(),
    }
}
