//! What clients are told of limits and money.

use std::time::{SystemTime, UNIX_EPOCH};

use http::HeaderMap;
use prost_types::Timestamp;
use rateguard_proto::money::CURRENCIES_WITHOUT_MINOR_UNITS;
use rateguard_proto::v1::{FailureMode, LimitKind, LimitStatus, NanoMoney};

use crate::proxy::money::{Money, MoneyScale};
use crate::proxy::response_headers::{self, BudgetState, LimitState, LimitUnit};

/// The unit of limits on money.
const COST: &str = "cost";

/// The unit that the draft on rate-limit headers counts by default.
const REQUESTS: &str = "requests";

/// Adds how the limits stood when the call was decided, what it holds itself included: a budget's figure
/// has this call's estimate in it, also in an answer that was settled since. Limits on money
/// and budgets only where callers may be told.
pub(crate) fn add_limits(headers: &mut HeaderMap, limits: &[LimitStatus], show_spend: bool) {
    let now_ms = now_ms();
    let rules = limits.iter().filter(|limit| limit.enforced && limit.kind() == LimitKind::Rule);
    let told = rules.filter(|limit| show_spend || limit.unit != COST);
    let states: Vec<_> = told.map(|limit| limit_state(limit, now_ms)).collect();
    response_headers::add_limits(headers, &states);
    if let Some(budget) = tightest_budget(limits).filter(|_| show_spend) {
        response_headers::add_budget(headers, &budget);
    }
}

/// Adds by which policy the call was decided, where the counters did not answer.
pub(crate) fn add_degraded(headers: &mut HeaderMap, policy: FailureMode) {
    let policy = match policy {
        FailureMode::Unspecified => return,
        FailureMode::Open => "open",
        FailureMode::Closed => "closed",
        FailureMode::Local => "local",
    };
    response_headers::add_degraded(headers, policy);
}

/// The amount as headers show it.
pub(crate) fn money(money: &NanoMoney) -> Money {
    Money { amount: money.nanos, scale: scale(&money.currency_code) }
}

fn scale(currency_code: &str) -> MoneyScale {
    if CURRENCIES_WITHOUT_MINOR_UNITS.contains(&currency_code) { MoneyScale::Micro } else { MoneyScale::Nano }
}

fn limit_state(limit: &LimitStatus, now_ms: i64) -> LimitState {
    let unit = match limit.unit.as_str() {
        REQUESTS => LimitUnit::Requests,
        other => LimitUnit::Other(other.to_owned()),
    };
    let left_ms = limit.reset_time.as_ref().map(|reset| milliseconds(reset).saturating_sub(now_ms));
    LimitState {
        name: limit.name.clone(),
        unit,
        limit: count(limit.limit),
        remaining: count(limit.remaining),
        window_ms: Some(count(limit.window_ms)).filter(|window_ms| *window_ms > 0),
        reset_after_ms: left_ms.map(count),
    }
}

/// The enforced budget with the least money left.
fn tightest_budget(limits: &[LimitStatus]) -> Option<BudgetState> {
    let budgets = limits.iter().filter(|limit| limit.enforced);
    let states = budgets.filter_map(|limit| limit.budget_state.as_ref());
    let state = states.min_by_key(|state| state.remaining_nanos)?;
    let scale = scale(&state.currency_code);
    let money = |amount| Money { amount, scale };
    Some(BudgetState {
        used: money(state.spent_nanos.saturating_add(state.held_nanos)),
        limit: money(state.amount_nanos),
        remaining: money(state.remaining_nanos),
    })
}

fn count(figure: i64) -> u64 {
    u64::try_from(figure).unwrap_or_default()
}

fn milliseconds(instant: &Timestamp) -> i64 {
    instant.seconds.saturating_mul(1_000).saturating_add(i64::from(instant.nanos / 1_000_000))
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(unit: &str) -> LimitStatus {
        LimitStatus {
            kind: LimitKind::Rule.into(),
            name: unit.to_owned(),
            unit: unit.to_owned(),
            limit: 10,
            remaining: 9,
            enforced: true,
            allowed: true,
            ..LimitStatus::default()
        }
    }

    fn budget(remaining_nanos: i64) -> LimitStatus {
        let state = rateguard_proto::v1::BudgetState {
            currency_code: "USD".to_owned(),
            amount_nanos: 1_000_000_000,
            spent_nanos: 200_000_000,
            held_nanos: 50_000_000,
            remaining_nanos,
            ..rateguard_proto::v1::BudgetState::default()
        };
        LimitStatus { kind: LimitKind::Budget.into(), budget_state: Some(state), ..rule(COST) }
    }

    #[test]
    fn money_is_told_only_where_callers_may_know() {
        let limits = [rule("requests"), rule(COST), budget(750_000_000)];
        let mut headers = HeaderMap::new();
        add_limits(&mut headers, &limits, false);
        assert_eq!(headers["ratelimit"], "\"requests\";r=9");
        assert!(!headers.contains_key("x-rateguard-budget-used"));
        let mut headers = HeaderMap::new();
        add_limits(&mut headers, &limits, true);
        assert!(headers["ratelimit"].to_str().unwrap().contains(COST));
        assert_eq!(headers["x-rateguard-budget-used"], "0.25");
        assert_eq!(headers["x-rateguard-budget-limit"], "1.00");
        assert_eq!(headers["x-rateguard-budget-remaining"], "0.75");
    }

    #[test]
    fn the_tightest_enforced_budget_is_told() {
        let watching = LimitStatus { enforced: false, ..budget(1) };
        let state = tightest_budget(&[budget(500_000_000), watching, budget(300_000_000)]).unwrap();
        assert_eq!(state.remaining.amount, 300_000_000);
    }

    #[test]
    fn a_shadow_rule_is_not_told_of() {
        let mut headers = HeaderMap::new();
        add_limits(&mut headers, &[LimitStatus { enforced: false, ..rule("requests") }], true);
        assert!(headers.is_empty());
    }

    #[test]
    fn a_currency_without_minor_units_counts_in_micro_units() {
        let yen = NanoMoney { currency_code: "JPY".to_owned(), nanos: 1 };
        assert_eq!(money(&yen).scale, MoneyScale::Micro);
    }
}
