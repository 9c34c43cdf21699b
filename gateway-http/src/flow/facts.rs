//! What is known of a call before it is made.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use http::Method;
use tokio::time::Instant;

use super::counted::ByteCount;
use crate::control::AppKey;
use crate::routes::Route;
use crate::usage::Prepared;

/// Bytes of JSON that hold at least one input token.
const INPUT_BYTES_PER_TOKEN: u64 = 3;

/// Bytes of text taken for one output token where nobody says. Real text has more to a token, so the
/// estimate is rather too high, as an estimate of what is billed should be.
const OUTPUT_BYTES_PER_TOKEN: u64 = 3;

/// A call.
pub(crate) struct Facts {
    pub(crate) request_id: String,
    pub(crate) arrived: Instant,
    pub(crate) occurred_at: SystemTime,
    pub(crate) app: AppKey,
    pub(crate) route: Arc<Route>,
    pub(crate) endpoint: String,
    pub(crate) method: Method,
    pub(crate) subject: String,
    pub(crate) ip: Option<IpAddr>,
    /// Bytes of the request's body that have gone by.
    pub(crate) bytes_in: ByteCount,
    /// What it may use, where a dialect tells.
    pub(crate) expected: Option<Expected>,
    /// Whether the client can receive fields behind a body.
    pub(crate) takes_trailers: bool,
}

/// What a call in a dialect may use at most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Expected {
    pub(crate) model: Option<String>,
    pub(crate) input_tokens: u64,
    /// Of one answer; not yet clamped to what the model can make.
    pub(crate) output_tokens_max: u64,
    /// Answers that are asked for.
    pub(crate) choices: u64,
}

impl Expected {
    pub(crate) fn of(prepared: &Prepared, route: &Route) -> Self {
        let each = prepared.max_output_tokens.unwrap_or(route.default_max_output_tokens);
        Self {
            model: prepared.model.clone(),
            input_tokens: prepared.input_bytes.div_ceil(INPUT_BYTES_PER_TOKEN),
            output_tokens_max: each,
            choices: prepared.choices,
        }
    }

    /// Over all answers.
    pub(crate) fn output_tokens_in_all(&self) -> u64 {
        self.output_tokens_max.saturating_mul(self.choices)
    }
}

/// Output tokens that `bytes` of text are taken for.
pub(crate) fn output_tokens_of(bytes: u64) -> u64 {
    bytes.div_ceil(OUTPUT_BYTES_PER_TOKEN)
}
