//! Anthropic messages.
//!
//! Source: <https://docs.anthropic.com/en/api/messages> and `/messages-streaming`. `input_tokens`
//! excludes what was read from and written to the cache. A stream states usage in `message_start`
//! and in one or more `message_delta`; the figures are cumulative, so each overwrites the one before.

mod counts;
mod stream;

use http::Method;
use serde::Serialize;

use self::counts::Counts;
use self::stream::MessageStream;
use super::dialect::{
    Dialect, Prepared, RequestFault, RequestView, Vendor, byte_count, path_ends_with, requested_count,
    requested_model, requested_switch,
};
use super::fields::fields;
use super::stream::StreamReader;
use super::{UnknownReason, UsageReading};
use crate::problem::{ErrorBody, ProblemKind};

/// The dialect; see the module.
#[derive(Clone, Copy, Debug)]
pub struct AnthropicMessages;

impl Dialect for AnthropicMessages {
    fn name(&self) -> &'static str {
        "anthropic_messages"
    }

    fn vendor(&self) -> Vendor {
        Vendor::Anthropic
    }

    /// A whole path, since other vendors' routes end in `/messages` too.
    fn matches(&self, method: &Method, path: &str) -> bool {
        let alone = path.strip_suffix('/').unwrap_or(path).eq_ignore_ascii_case("/messages");
        method == Method::POST && (alone || path_ends_with(path, "/v1/messages"))
    }

    fn prepare_request(&self, request: &RequestView<'_>) -> Result<Prepared, RequestFault> {
        let names = ["model", "max_tokens", "stream"];
        let [model, max_tokens, stream] =
            fields(request.body, names).map_err(|_| RequestFault::NotAnObject)?;
        Ok(Prepared {
            model: requested_model(model)?,
            max_output_tokens: requested_count(max_tokens, "max_tokens")?,
            choices: 1,
            stream: requested_switch(stream, "stream")?,
            usage_asked: true,
            input_bytes: byte_count(request.body),
            body: request.body.clone(),
        })
    }

    fn read_body(&self, body: &[u8]) -> UsageReading {
        let Ok([model, usage]) = fields(body, ["model", "usage"]) else {
            return UsageReading::from_counts(None, None, Err(UnknownReason::NotJson));
        };
        let mut counts = Counts::default();
        let read = counts.overwrite(usage);
        let normalised = read.and_then(|()| counts.normalise());
        UsageReading::from_counts(model.name().unwrap_or_default(), counts.service_tier, normalised)
    }

    fn stream_reader(&self, _prepared: &Prepared) -> Box<dyn StreamReader> {
        Box::<MessageStream>::default()
    }

    fn error_body(&self, kind: ProblemKind, message: &str, request_id: &str) -> ErrorBody {
        let error = EnvelopeError { error_type: error_type(kind), message };
        ErrorBody::json(&Envelope { envelope_type: "error", error, request_id })
    }
}

#[derive(Serialize)]
struct Envelope<'a> {
    #[serde(rename = "type")]
    envelope_type: &'static str,
    error: EnvelopeError<'a>,
    request_id: &'a str,
}

#[derive(Serialize)]
struct EnvelopeError<'a> {
    #[serde(rename = "type")]
    error_type: &'static str,
    message: &'a str,
}

/// The vendor's closed set of error types: <https://docs.anthropic.com/en/api/errors>.
fn error_type(kind: ProblemKind) -> &'static str {
    match kind {
        ProblemKind::InvalidRequest | ProblemKind::LoopDetected => "invalid_request_error",
        ProblemKind::InvalidApiKey => "authentication_error",
        ProblemKind::BudgetExceeded => "billing_error",
        ProblemKind::ExpiredApiKey | ProblemKind::ApiInactive | ProblemKind::Forbidden => "permission_error",
        ProblemKind::ApiNotFound => "not_found_error",
        ProblemKind::BodyTooLarge => "request_too_large",
        ProblemKind::RateLimited | ProblemKind::Overloaded => "rate_limit_error",
        ProblemKind::UpstreamTimeout | ProblemKind::BodyTimeout => "timeout_error",
        ProblemKind::Internal | ProblemKind::UpstreamError | ProblemKind::Unavailable => "api_error",
    }
}

#[cfg(test)]
mod tests;
