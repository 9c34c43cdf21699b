//! May the call go ahead? What is asked, for how long, and what a denial becomes.

use std::time::Duration;

use rateguard_proto::v1::{
    CheckMode, CheckQuotaRequest, CheckQuotaResponse, Decision, Estimate, FailureMode, LimitKind,
    LimitStatus, NanoMoney,
};

use super::facts::{Expected, Facts};
use super::problem::Problem;
use super::shown;
use crate::config::{GatewayConfig, RESERVATION_LIFETIME_MAX, RESERVATION_LIFETIME_MIN, SETTLEMENT_WAIT};
use crate::problem::ProblemKind;
use crate::proxy::response_headers;
use crate::routes::Route;
use crate::usage::TOKEN_COUNT_MAX;

/// A call that may go ahead.
pub(crate) struct Admitted {
    pub(crate) reservation_id: String,
    pub(crate) limits: Vec<LimitStatus>,
    /// What the reservation holds.
    pub(crate) reserved: Option<NanoMoney>,
    /// By which policy it was let through, where the counters did not answer: then nothing is reserved.
    pub(crate) degraded: FailureMode,
}

/// Longest that a call may take from its check to its end, so that its reservation outlives it: the
/// wait for the answer's head and the time for the answer to pass, within what a reservation can live.
pub(crate) fn duration_max(config: &GatewayConfig, head_wait_max: Duration) -> Duration {
    let wanted = head_wait_max.saturating_add(config.answer_duration_max);
    wanted.min(RESERVATION_LIFETIME_MAX - SETTLEMENT_WAIT)
}

fn reservation_lifetime(config: &GatewayConfig, head_wait_max: Duration) -> Duration {
    let of_call = duration_max(config, head_wait_max) + SETTLEMENT_WAIT;
    config.reservation_lifetime.unwrap_or(of_call).clamp(RESERVATION_LIFETIME_MIN, RESERVATION_LIFETIME_MAX)
}

/// The question.
pub(crate) fn question(facts: &Facts, config: &GatewayConfig) -> CheckQuotaRequest {
    let lifetime = reservation_lifetime(config, facts.route.timeout);
    CheckQuotaRequest {
        request_id: facts.request_id.clone(),
        api: facts.route.slug.clone(),
        endpoint: facts.endpoint.clone(),
        method: facts.method.as_str().to_owned(),
        ip: facts.ip.map(|ip| ip.to_string()).unwrap_or_default(),
        subject: facts.subject.clone(),
        model: facts.expected.as_ref().and_then(|expected| expected.model.clone()).unwrap_or_default(),
        estimate: facts.expected.as_ref().map(estimate),
        mode: CheckMode::Reserve.into(),
        reservation_ttl_ms: Some(i64::try_from(lifetime.as_millis()).unwrap_or(i64::MAX)),
        ..CheckQuotaRequest::default()
    }
}

fn estimate(expected: &Expected) -> Estimate {
    Estimate {
        input_tokens: Some(wire_count(expected.input_tokens)),
        max_output_tokens: Some(wire_count(expected.output_tokens_max)),
        choices: Some(i32::try_from(expected.choices).unwrap_or(i32::MAX)),
        cost: None,
    }
}

/// A count within the contract's bound: what is above it reserves as much as may be asked for.
fn wire_count(count: u64) -> i64 {
    i64::try_from(count.min(TOKEN_COUNT_MAX)).unwrap_or(i64::MAX)
}

/// The decision: leave to go ahead, or what the client is told.
pub(crate) fn admitted(answer: CheckQuotaResponse, route: &Route) -> Result<Admitted, Problem> {
    if answer.decision() != Decision::Allowed {
        return Err(denied(&answer, route));
    }
    let degraded = answer.failure_mode();
    let CheckQuotaResponse { reservation_id, limits, reserved, .. } = answer;
    Ok(Admitted { reservation_id, limits, reserved, degraded })
}

/// 402 where any budget takes part, 429 otherwise. Another attempt is discouraged where time alone
/// will not help, since vendors' SDKs repeat a 429 by themselves.
fn denied(answer: &CheckQuotaResponse, route: &Route) -> Problem {
    let denying = || answer.limits.iter().filter(|limit| limit.enforced && !limit.allowed);
    let mut problem = if denying().any(|limit| limit.kind() == LimitKind::Budget) {
        Problem::new(ProblemKind::BudgetExceeded, "the budget for this call is exhausted")
    } else if answer.degraded && denying().next().is_none() {
        Problem::new(ProblemKind::RateLimited, "limits cannot be checked at present, and the call needs them")
    } else {
        let name = denying().next().map_or("a limit", |limit| limit.name.as_str());
        Problem::new(ProblemKind::RateLimited, format!("the call is over the limit {name:?}"))
    };
    shown::add_limits(problem.headers_mut(), &answer.limits, route.show_spend);
    shown::add_degraded(problem.headers_mut(), answer.failure_mode());
    let wait_ms = answer.retry_after_ms.and_then(|wait_ms| u64::try_from(wait_ms).ok());
    match wait_ms.filter(|_| problem.kind == ProblemKind::RateLimited) {
        Some(wait_ms) => response_headers::add_retry_after(problem.headers_mut(), wait_ms),
        None => response_headers::forbid_retry(problem.headers_mut()),
    }
    problem
}

#[cfg(test)]
mod tests {
    use rateguard_proto::internal_v1;
    use rateguard_proto::v1::ApiAuthScheme;

    use super::*;
    use crate::secret::Secret;

    fn route() -> Route {
        let message = internal_v1::Route {
            base_url: "https://api.example.com".to_owned(),
            auth_scheme: ApiAuthScheme::None.into(),
            ..internal_v1::Route::default()
        };
        Route::try_from(message).unwrap()
    }

    fn limit(kind: LimitKind, enforced: bool, allowed: bool) -> LimitStatus {
        let name = "per minute".to_owned();
        LimitStatus { kind: kind.into(), enforced, allowed, name, limit: 10, ..LimitStatus::default() }
    }

    fn denial(limits: Vec<LimitStatus>, retry_after_ms: Option<i64>) -> Problem {
        let decision = Decision::Denied.into();
        let answer = CheckQuotaResponse { decision, limits, retry_after_ms, ..CheckQuotaResponse::default() };
        admitted(answer, &route()).err().expect("a denial is a problem")
    }

    #[test]
    fn a_denial_in_which_a_budget_takes_part_is_402_and_not_to_be_repeated() {
        let limits = vec![limit(LimitKind::Rule, true, false), limit(LimitKind::Budget, true, false)];
        let mut problem = denial(limits, Some(1_500));
        assert_eq!(problem.kind, ProblemKind::BudgetExceeded);
        assert_eq!(problem.headers_mut()["x-should-retry"], "false");
        assert!(!problem.headers_mut().contains_key("retry-after"));
    }

    #[test]
    fn a_budget_that_only_watches_takes_no_part() {
        let limits = vec![limit(LimitKind::Budget, false, false), limit(LimitKind::Rule, true, false)];
        let mut problem = denial(limits, Some(1_500));
        assert_eq!(problem.kind, ProblemKind::RateLimited);
        assert_eq!(problem.headers_mut()["retry-after"], "2");
        assert_eq!(problem.headers_mut()["retry-after-ms"], "1500");
        assert!(!problem.headers_mut().contains_key("x-should-retry"));
    }

    #[test]
    fn a_call_that_never_fits_is_not_to_be_repeated() {
        let mut problem = denial(vec![limit(LimitKind::Rule, true, false)], None);
        assert_eq!(problem.kind, ProblemKind::RateLimited);
        assert_eq!(problem.headers_mut()["x-should-retry"], "false");
    }

    #[test]
    fn a_denial_without_the_counters_may_be_repeated_also_where_a_budget_denies() {
        let answer = CheckQuotaResponse {
            decision: Decision::Denied.into(),
            retry_after_ms: Some(1_000),
            degraded: true,
            failure_mode: FailureMode::Closed.into(),
            ..CheckQuotaResponse::default()
        };
        let mut problem = admitted(answer, &route()).err().expect("a denial is a problem");
        assert_eq!(problem.kind, ProblemKind::RateLimited);
        assert_eq!(problem.headers_mut()["x-rateguard-degraded"], "closed");
        assert_eq!(problem.headers_mut()["retry-after"], "1");
        assert!(!problem.headers_mut().contains_key("x-should-retry"));
    }

    #[test]
    fn a_call_that_is_let_through_without_the_counters_is_marked() {
        let answer = CheckQuotaResponse {
            decision: Decision::Allowed.into(),
            degraded: true,
            failure_mode: FailureMode::Open.into(),
            ..CheckQuotaResponse::default()
        };
        let Ok(admitted) = admitted(answer, &route()) else { panic!("it may go ahead") };
        let mut headers = http::HeaderMap::new();
        shown::add_degraded(&mut headers, admitted.degraded);
        assert_eq!(headers["x-rateguard-degraded"], "open");
    }

    #[test]
    fn a_reservation_outlives_the_longest_call_that_it_is_for() {
        let seconds = Duration::from_secs;
        let mut config = GatewayConfig::new(Secret::new("token"));
        for (answer, head, longest, life) in
            [(100, 30, 130, 190), (0, 0, 0, 60), (3_600, 30, 3_540, 3_600), (0, 9_999, 3_540, 3_600)]
        {
            config.answer_duration_max = seconds(answer);
            assert_eq!(duration_max(&config, seconds(head)), seconds(longest));
            assert_eq!(reservation_lifetime(&config, seconds(head)), seconds(life));
        }
    }

    #[test]
    fn a_life_that_an_operator_has_set_stands_for_every_call() {
        let mut config = GatewayConfig::new(Secret::new("token"));
        config.reservation_lifetime = Some(Duration::from_secs(5));
        assert_eq!(reservation_lifetime(&config, Duration::from_secs(30)), Duration::from_secs(5));
        config.reservation_lifetime = Some(Duration::ZERO);
        assert_eq!(reservation_lifetime(&config, Duration::from_secs(30)), RESERVATION_LIFETIME_MIN);
    }

    #[test]
    fn an_answer_without_a_decision_admits_nothing() {
        assert!(admitted(CheckQuotaResponse::default(), &route()).is_err());
    }
}
