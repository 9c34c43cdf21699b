//! The headers that the gateway adds to an answer.
//!
//! `RateLimit-Policy` and `RateLimit` follow draft-ietf-httpapi-ratelimit-headers
//! (<https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/>): lists of structured
//! fields (RFC 9651), each member a policy's name with parameters. Times are whole seconds, rounded
//! up, so that a client that waits as told is not denied again.

use std::time::Duration;

use http::header::{self, HeaderMap, HeaderName, HeaderValue, InvalidHeaderValue};

use super::money::{Money, cents, decimal};

/// Most limits that are named in one answer; a header of more is cut by intermediaries.
pub const LIMITS_SHOWN_MAX: usize = 8;

/// Largest integer of a structured field (RFC 9651, section 3.3.1).
pub const STRUCTURED_INTEGER_MAX: u64 = 999_999_999_999_999;

/// Longest policy name that is shown, in bytes.
pub const POLICY_NAME_BYTES_MAX: usize = 64;

/// `x-rateguard-cost`, also a trailer of streams.
pub const COST: HeaderName = HeaderName::from_static("x-rateguard-cost");

/// `x-rateguard-cost-cents`, also a trailer of streams.
pub const COST_CENTS: HeaderName = HeaderName::from_static("x-rateguard-cost-cents");

const BUDGET_LIMIT: HeaderName = HeaderName::from_static("x-rateguard-budget-limit");
const BUDGET_REMAINING: HeaderName = HeaderName::from_static("x-rateguard-budget-remaining");
const BUDGET_USED: HeaderName = HeaderName::from_static("x-rateguard-budget-used");
const COST_ESTIMATE: HeaderName = HeaderName::from_static("x-rateguard-cost-estimate");
const DEGRADED: HeaderName = HeaderName::from_static("x-rateguard-degraded");
const LATENCY_MS: HeaderName = HeaderName::from_static("x-rateguard-latency-ms");
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-rateguard-request-id");
const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
const UPSTREAM_LATENCY_MS: HeaderName = HeaderName::from_static("x-rateguard-upstream-latency-ms");
const X_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const X_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const X_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// One limit that applied to the call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitState {
    /// The rule's name.
    pub name: String,
    /// What is counted. Requests are the draft's default and not named.
    pub unit: LimitUnit,
    /// The most that a window admits, in the limit's unit.
    pub limit: u64,
    /// What is left now, in the limit's unit.
    pub remaining: u64,
    /// The window's length, in milliseconds, if it has one.
    pub window_ms: Option<u64>,
    /// Milliseconds until the limit is whole again, if that is known.
    pub reset_after_ms: Option<u64>,
}

/// What a limit counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LimitUnit {
    /// Calls.
    Requests,
    /// Anything else, by its name.
    Other(String),
}

/// A budget that applied to the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BudgetState {
    /// Spent in the current period, debts included.
    pub used: Money,
    /// The budget.
    pub limit: Money,
    /// What is left; negative where the budget is in debt.
    pub remaining: Money,
}

/// Adds `RateLimit-Policy`, `RateLimit` and `X-RateLimit-*`.
///
/// `limits` come with the most telling first; at most [`LIMITS_SHOWN_MAX`] are named. Of
/// `X-RateLimit-*`, which can tell of one limit only, the tightest counts: the one with the smallest
/// share left. An upstream's own headers of these names stay: the lists get our members behind
/// theirs, and the triple is left to the upstream wholly.
pub fn add_limits(headers: &mut HeaderMap, limits: &[LimitState]) {
    let shown = &limits[..limits.len().min(LIMITS_SHOWN_MAX)];
    let Some(tightest) = tightest(limits) else { return };
    headers.append(RATE_LIMIT_POLICY, list(shown, policy_member));
    headers.append(RATE_LIMIT, list(shown, state_member));
    if [X_LIMIT, X_REMAINING, X_RESET].iter().any(|name| headers.contains_key(name)) {
        return;
    }
    headers.insert(X_LIMIT, tightest.limit.into());
    headers.insert(X_REMAINING, tightest.remaining.into());
    if let Some(reset_after_ms) = tightest.reset_after_ms {
        headers.insert(X_RESET, seconds_up(reset_after_ms).into());
    }
}

/// Adds `Retry-After` in seconds and `retry-after-ms`, which vendor SDKs prefer.
pub fn add_retry_after(headers: &mut HeaderMap, retry_after_ms: u64) {
    headers.insert(header::RETRY_AFTER, seconds_up(retry_after_ms).into());
    headers.insert(RETRY_AFTER_MS, retry_after_ms.into());
}

/// Tells vendor SDKs that another attempt is of no use.
pub fn forbid_retry(headers: &mut HeaderMap) {
    headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
}

/// Adds `X-RateGuard-Request-Id`.
///
/// # Errors
/// Fails if the id holds bytes that no header may carry.
pub fn add_request_id(headers: &mut HeaderMap, request_id: &str) -> Result<(), InvalidHeaderValue> {
    headers.insert(REQUEST_ID, HeaderValue::from_str(request_id)?);
    Ok(())
}

/// Adds `X-RateGuard-Cost` and, where the currency has cents, `X-RateGuard-Cost-Cents`.
pub fn add_cost(headers: &mut HeaderMap, cost: Money) {
    headers.insert(COST, ascii(&decimal(cost)));
    if let Some(cents) = cents(cost) {
        headers.insert(COST_CENTS, ascii(&cents));
    }
}

/// Adds `X-RateGuard-Cost-Estimate`, for answers whose cost is not known when the head is sent.
pub fn add_cost_estimate(headers: &mut HeaderMap, estimate: Money) {
    headers.insert(COST_ESTIMATE, ascii(&decimal(estimate)));
}

/// Adds the latencies in milliseconds with three decimals: what the gateway added, and what the
/// upstream took if it was asked.
pub fn add_latencies(headers: &mut HeaderMap, added: Duration, upstream: Option<Duration>) {
    headers.insert(LATENCY_MS, ascii(&milliseconds(added)));
    if let Some(upstream) = upstream {
        headers.insert(UPSTREAM_LATENCY_MS, ascii(&milliseconds(upstream)));
    }
}

/// Adds `X-RateGuard-Degraded`: the policy by which the call was decided without the counters.
pub fn add_degraded(headers: &mut HeaderMap, policy: &'static str) {
    headers.insert(DEGRADED, HeaderValue::from_static(policy));
}

/// Adds `X-RateGuard-Budget-Used`, `-Limit` and `-Remaining`.
pub fn add_budget(headers: &mut HeaderMap, budget: &BudgetState) {
    headers.insert(BUDGET_USED, ascii(&decimal(budget.used)));
    headers.insert(BUDGET_LIMIT, ascii(&decimal(budget.limit)));
    headers.insert(BUDGET_REMAINING, ascii(&decimal(budget.remaining)));
}

/// The limit with the smallest share left, the first of several.
fn tightest(limits: &[LimitState]) -> Option<&LimitState> {
    let shares_less = |left: &LimitState, right: &LimitState| {
        // A limit of zero has no share left, which a factor of zero would hide.
        let [left_limit, right_limit] = [left.limit.max(1), right.limit.max(1)].map(u128::from);
        u128::from(left.remaining) * right_limit < u128::from(right.remaining) * left_limit
    };
    limits.iter().reduce(|tightest, limit| if shares_less(limit, tightest) { limit } else { tightest })
}

fn list(limits: &[LimitState], member: impl Fn(&LimitState) -> String) -> HeaderValue {
    let members: Vec<String> = limits.iter().map(member).collect();
    ascii(&members.join(", "))
}

/// `"name";q=100;w=60`: the quota and its window.
fn policy_member(limit: &LimitState) -> String {
    let mut member = format!("{};q={}", quoted(&limit.name), structured(limit.limit));
    if let LimitUnit::Other(unit) = &limit.unit {
        member.push_str(&format!(";qu={}", quoted(unit)));
    }
    if let Some(window_ms) = limit.window_ms {
        member.push_str(&format!(";w={}", structured(seconds_up(window_ms))));
    }
    member
}

/// `"name";r=50;t=30`: what is left and for how long.
fn state_member(limit: &LimitState) -> String {
    let mut member = format!("{};r={}", quoted(&limit.name), structured(limit.remaining));
    if let Some(reset_after_ms) = limit.reset_after_ms {
        member.push_str(&format!(";t={}", structured(seconds_up(reset_after_ms))));
    }
    member
}

/// A structured string, which holds printable ASCII alone: other characters become `_`.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars().take(POLICY_NAME_BYTES_MAX) {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            ' '..='~' => quoted.push(character),
            _ => quoted.push('_'),
        }
    }
    quoted.push('"');
    quoted
}

fn structured(integer: u64) -> u64 {
    integer.min(STRUCTURED_INTEGER_MAX)
}

fn seconds_up(milliseconds: u64) -> u64 {
    milliseconds.div_ceil(1_000)
}

fn milliseconds(duration: Duration) -> String {
    let microseconds = duration.as_micros();
    format!("{}.{:03}", microseconds / 1_000, microseconds % 1_000)
}

fn ascii(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("digits, names and punctuation are printable ASCII")
}

#[cfg(test)]
mod tests;
