//! Sums over events, wide enough never to wrap.

use rateguard_core::counter::Position;
use rateguard_core::usage::{EventKind, UsageEvent};
use rateguard_engine::ports::Summary;

use super::histogram::Histogram;

/// A wide number as two columns: `high` times this and `low`, which is 0 to below it.
pub(super) const LOW_END: i64 = 1_000_000_000;
/// The smallest status that is an error.
pub(super) const ERROR_STATUS_MIN: u16 = 400;

/// What a rollup's row holds, and what a query adds up. Counts and tokens stop at their type's
/// bound.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub requests: i64,
    pub errors: i64,
    pub rate_limited: i64,
    pub cache_hits: i64,
    pub cost_nanos: i128,
    pub input_tokens: i64,
    pub cached_input_tokens: i64,
    pub output_tokens: i64,
    pub latencies: Histogram,
}

impl Sums {
    /// Adds one event. One that is no call of its own counts its cost alone.
    pub fn add_event(&mut self, event: &UsageEvent) {
        self.cost_nanos = self.cost_nanos.saturating_add(i128::from(event.cost.get()));
        if event.kind == EventKind::Usage {
            self.add_call(event);
        }
    }

    fn add_call(&mut self, event: &UsageEvent) {
        let outcome = &event.outcome;
        let is_error = outcome.status_code >= ERROR_STATUS_MIN || !outcome.error_type.is_empty();
        raise(&mut self.requests, 1);
        raise(&mut self.errors, i64::from(is_error));
        raise(&mut self.rate_limited, i64::from(outcome.rate_limited));
        raise(&mut self.cache_hits, i64::from(outcome.cache_hit));
        raise(&mut self.input_tokens, event.tokens.input_total.unwrap_or(0));
        raise(&mut self.cached_input_tokens, event.tokens.cached_input.unwrap_or(0));
        raise(&mut self.output_tokens, event.tokens.output.unwrap_or(0));
        outcome.latency_ms.into_iter().for_each(|latency_ms| self.latencies.record(latency_ms));
    }

    /// Adds other sums.
    pub fn add(&mut self, other: &Self) {
        raise(&mut self.requests, other.requests);
        raise(&mut self.errors, other.errors);
        raise(&mut self.rate_limited, other.rate_limited);
        raise(&mut self.cache_hits, other.cache_hits);
        self.cost_nanos = self.cost_nanos.saturating_add(other.cost_nanos);
        raise(&mut self.input_tokens, other.input_tokens);
        raise(&mut self.cached_input_tokens, other.cached_input_tokens);
        raise(&mut self.output_tokens, other.output_tokens);
        self.latencies.add(&other.latencies);
    }

    /// The answer of the port.
    pub fn into_summary(self, through: Position) -> Summary {
        let percentile = |percent| self.latencies.percentile(percent);
        let percentiles = match (percentile(50), percentile(95), percentile(99)) {
            (Some(p50), Some(p95), Some(p99)) => Some([p50, p95, p99]),
            _ => None,
        };
        Summary {
            requests: self.requests,
            errors: self.errors,
            rate_limited: self.rate_limited,
            cache_hits: self.cache_hits,
            cost_nanos: self.cost_nanos,
            input_tokens: self.input_tokens,
            cached_input_tokens: self.cached_input_tokens,
            output_tokens: self.output_tokens,
            latency_ms_percentiles: percentiles,
            through,
        }
    }
}

fn raise(sum: &mut i64, amount: i64) {
    *sum = sum.saturating_add(amount);
}

/// The two columns of a wide number; beyond them it stays at their bound.
pub(super) fn to_columns(wide: i128) -> (i64, i64) {
    let (high, low) = (wide.div_euclid(i128::from(LOW_END)), wide.rem_euclid(i128::from(LOW_END)));
    match (i64::try_from(high), i64::try_from(low)) {
        (Ok(high), Ok(low)) => (high, low),
        _ if wide < 0 => (i64::MIN, 0),
        _ => (i64::MAX, LOW_END - 1),
    }
}

/// The wide number of two columns, or of two sums over them.
pub(super) fn from_columns(high: i64, low: i64) -> i128 {
    i128::from(high) * i128::from(LOW_END) + i128::from(low)
}

/// A wide number in 64 bits, at most their bound.
pub(super) fn bounded(wide: i128) -> i64 {
    i64::try_from(wide).unwrap_or(if wide < 0 { i64::MIN } else { i64::MAX })
}
