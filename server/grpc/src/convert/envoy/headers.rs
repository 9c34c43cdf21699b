//! The headers that Envoy adds to the answer of its client.
//!
//! `RateLimit-Policy` and `RateLimit` follow draft-ietf-httpapi-ratelimit-headers
//! (<https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/>): lists of structured fields
//! (RFC 9651). Times are whole seconds, rounded up, so that a client that waits as told is not denied again.

use rateguard_core::unit::Unit;
use rateguard_engine::described::{DescribedAnswer, DescribedLimit};
use rateguard_proto::envoy::config::core::v3::HeaderValue;

use super::{telling, units};

/// Most limits that are named in one answer; a header of more is cut by intermediaries.
const LIMITS_SHOWN_MAX: usize = 8;
/// Largest integer of a structured field (RFC 9651, section 3.3.1).
const STRUCTURED_INTEGER_MAX: i64 = 999_999_999_999_999;
/// Longest name that is shown, in characters.
const NAME_CHARS_MAX: usize = 64;
/// What a limit is called that the caller has set itself.
const CALLERS_LIMIT: &str = "limit";

/// The headers of a decision: none where no limit decides.
pub(super) fn of(answer: &DescribedAnswer) -> Vec<HeaderValue> {
    let all: Vec<DescribedLimit> = answer
        .descriptors
        .iter()
        .flat_map(|status| &status.limits)
        .filter(|limit| is_shown(limit))
        .cloned()
        .collect();
    let Some(tightest) = telling(&all) else { return Vec::new() };
    let shown = &all[..all.len().min(LIMITS_SHOWN_MAX)];
    let reset_s = |limit: &DescribedLimit| limit.reading.reset_at.map(|at| seconds_up(at.since(answer.now)));
    let list =
        |member: &dyn Fn(&DescribedLimit) -> String| shown.iter().map(member).collect::<Vec<_>>().join(", ");
    let mut headers = vec![
        header("ratelimit-policy", list(&policy)),
        header("ratelimit", list(&|limit| state(limit, reset_s(limit)))),
        header("x-ratelimit-limit", tightest.limit.size().to_string()),
        header("x-ratelimit-remaining", tightest.reading.remaining.to_string()),
    ];
    headers.extend(reset_s(tightest).map(|seconds| header("x-ratelimit-reset", seconds.to_string())));
    headers.extend(answer.retry_after_ms.map(|ms| header("retry-after", seconds_up(ms).to_string())));
    headers
}

/// Clients are told of limits that decide over them, but not of money; nor of those that stand for no limit.
fn is_shown(limit: &DescribedLimit) -> bool {
    limit.decides() && limit.unit != Unit::Cost && u32::try_from(limit.limit.size()).is_ok()
}

fn header(key: &str, value: String) -> HeaderValue {
    HeaderValue { key: key.to_owned(), value }
}

/// `"name";q=100;w=60`: the quota and its window. Requests are the draft's default unit and not named.
fn policy(limit: &DescribedLimit) -> String {
    let mut member = format!("{};q={}", name(limit), structured(limit.limit.size()));
    if limit.unit != Unit::Requests {
        member.push_str(&format!(";qu={}", quoted(limit.unit.as_str())));
    }
    if let Some(window_ms) = units::window_ms(&limit.limit) {
        member.push_str(&format!(";w={}", structured(seconds_up(window_ms))));
    }
    member
}

/// `"name";r=50;t=30`: what is left, and until when.
fn state(limit: &DescribedLimit, reset_s: Option<i64>) -> String {
    let state = format!("{};r={}", name(limit), structured(limit.reading.remaining));
    match reset_s {
        Some(seconds) => format!("{state};t={}", structured(seconds)),
        None => state,
    }
}

fn name(limit: &DescribedLimit) -> String {
    quoted(limit.name.as_deref().unwrap_or(CALLERS_LIMIT))
}

/// A structured string, which holds printable ASCII alone: other characters become `_`.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars().take(NAME_CHARS_MAX) {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            ' '..='~' => quoted.push(character),
            _ => quoted.push('_'),
        }
    }
    quoted.push('"');
    quoted
}

fn structured(integer: i64) -> i64 {
    integer.clamp(0, STRUCTURED_INTEGER_MAX)
}

fn seconds_up(ms: i64) -> i64 {
    ms.saturating_add(999) / 1_000
}
