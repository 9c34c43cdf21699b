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
    let all: Vec<&DescribedLimit> =
        answer.descriptors.iter().flat_map(|status| &status.limits).filter(|limit| is_shown(limit)).collect();
    let Some(tightest) = telling(all.iter().copied()) else { return Vec::new() };
    let reset_s = |limit: &DescribedLimit| limit.reading.reset_at.map(|at| seconds_up(at.since(answer.now)));
    let (mut policies, mut states) = (String::new(), String::new());
    for (place, limit) in all.iter().take(LIMITS_SHOWN_MAX).enumerate() {
        if place > 0 {
            policies.push_str(", ");
            states.push_str(", ");
        }
        let name = name(limit);
        push_policy(&mut policies, &name, limit);
        push_state(&mut states, &name, limit, reset_s(limit));
    }
    let mut headers = vec![
        header("ratelimit-policy", policies),
        header("ratelimit", states),
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
fn push_policy(list: &mut String, name: &str, limit: &DescribedLimit) {
    list.push_str(name);
    parameter(list, "q", limit.limit.size());
    if limit.unit != Unit::Requests {
        list.push_str(";qu=");
        list.push_str(&quoted(limit.unit.as_str()));
    }
    if let Some(window_ms) = units::window_ms(&limit.limit) {
        parameter(list, "w", seconds_up(window_ms));
    }
}

/// `"name";r=50;t=30`: what is left, and until when.
fn push_state(list: &mut String, name: &str, limit: &DescribedLimit, reset_s: Option<i64>) {
    list.push_str(name);
    parameter(list, "r", limit.reading.remaining);
    if let Some(seconds) = reset_s {
        parameter(list, "t", seconds);
    }
}

/// An integer behind its name.
fn parameter(list: &mut String, name: &str, integer: i64) {
    list.extend([";", name, "="]);
    list.push_str(&structured(integer).to_string());
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
