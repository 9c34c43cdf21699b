//! What the gateway asks of a vendor's wire format, and the registry of those it speaks.

use std::borrow::Cow;

use bytes::Bytes;
use http::Method;

use super::anthropic_messages::AnthropicMessages;
use super::fields::{Field, FieldFault};
use super::openai_chat::OpenAiChat;
use super::stream::StreamReader;
use super::{NAME_BYTES_MAX, TOKEN_COUNT_MAX, UsageReading};
use crate::problem::{ErrorBody, ProblemKind};

/// Every dialect, asked in this order.
static DIALECTS: [&dyn Dialect; 2] = [&OpenAiChat, &AnthropicMessages];

/// The dialect spoken at `path` (normalised, base path included), if any.
pub fn dialect_for(method: &Method, path: &str) -> Option<&'static dyn Dialect> {
    let plain = without_parameters(path);
    DIALECTS.into_iter().find(|dialect| dialect.matches(method, &plain))
}

/// `path` as servers see it that keep parameters in segments, behind a semicolon: `/a;x=1/b` as `/a/b`.
fn without_parameters(path: &str) -> Cow<'_, str> {
    if !path.contains(';') {
        return Cow::Borrowed(path);
    }
    let segments = path.split('/').map(|segment| segment.split(';').next().unwrap_or_default());
    Cow::Owned(segments.collect::<Vec<_>>().join("/"))
}

/// A dialect of this vendor, for its error envelope where a call itself is in none.
pub fn envelope_of(vendor: Vendor) -> Option<&'static dyn Dialect> {
    DIALECTS.into_iter().find(|dialect| dialect.vendor() == vendor)
}

/// Whose wire format an API speaks, as its settings name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Vendor {
    /// OpenAI, and those that copy it.
    OpenAi,
    /// Anthropic.
    Anthropic,
}

/// One vendor's wire format.
pub trait Dialect: Send + Sync {
    /// A stable name for logs, metrics and events.
    fn name(&self) -> &'static str;

    /// The vendor whose APIs are read in this dialect.
    fn vendor(&self) -> Vendor;

    /// Whether this dialect is spoken at `path`, a normalised path with its base path and without parameters
    /// in its segments. Upstreams that ignore case or a trailing slash must not be a way around metering,
    /// so both are ignored.
    fn matches(&self, method: &Method, path: &str) -> bool;

    /// Reads what must be known before the call and makes the body that goes upstream.
    ///
    /// # Errors
    /// Refuses a body whose model, maximum or streaming cannot be told for certain: what is reserved
    /// must be what the upstream will read.
    fn prepare_request(&self, request: &RequestView<'_>) -> Result<Prepared, RequestFault>;

    /// Reads the usage of a whole answer.
    fn read_body(&self, body: &[u8]) -> UsageReading;

    /// A reader for the event stream that answers `prepared`.
    fn stream_reader(&self, prepared: &Prepared) -> Box<dyn StreamReader>;

    /// An error in the vendor's own envelope, so that its SDK raises the class that fits.
    fn error_body(&self, kind: ProblemKind, message: &str, request_id: &str) -> ErrorBody;
}

/// A request as the gateway received it, its body whole.
#[derive(Clone, Copy, Debug)]
pub struct RequestView<'a> {
    /// The method.
    pub method: &'a Method,
    /// The normalised path, base path included.
    pub path: &'a str,
    /// The whole body.
    pub body: &'a Bytes,
}

/// What is known of a call before it is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// The model asked for; some upstreams name it in the path instead.
    pub model: Option<String>,
    /// The most output tokens the caller allows for each choice; not yet clamped to the model's maximum.
    pub max_output_tokens: Option<u64>,
    /// How many answers are generated, each up to the maximum; 1 or more.
    pub choices: u64,
    /// Whether the answer is to be an event stream.
    pub stream: bool,
    /// Whether the caller asked for the usage event of a stream (true where a dialect always sends it).
    pub usage_asked: bool,
    /// Bytes of the body as the caller sent it, to bound its input tokens by.
    pub input_bytes: u64,
    /// The body to send upstream: the caller's own bytes but for an option that the gateway adds.
    pub body: Bytes,
}

/// Why a request is refused before it is made. The messages may be shown to the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestFault {
    /// The body is not one JSON object.
    #[error("the body must be one JSON object")]
    NotAnObject,
    /// A field is not what the format says.
    #[error("`{field}` must be {expected}")]
    Malformed {
        /// The field at fault.
        field: &'static str,
        /// What it must be.
        expected: &'static str,
    },
    /// A field stands twice: gateway and upstream might read different values.
    #[error("`{field}` must not stand twice")]
    Duplicated {
        /// The field at fault.
        field: &'static str,
    },
    /// A count or a name beyond its bound.
    #[error("`{field}` must be at most {max}")]
    OutOfBounds {
        /// The field at fault.
        field: &'static str,
        /// The bound.
        max: u64,
    },
}

/// `model` of a request.
pub(super) fn requested_model(field: Field<'_>) -> Result<Option<String>, RequestFault> {
    let max = u64::try_from(NAME_BYTES_MAX).unwrap_or(u64::MAX);
    field.name().map_err(|fault| request_fault(fault, "model", "a string", max))
}

/// A count of a request.
pub(super) fn requested_count(field: Field<'_>, name: &'static str) -> Result<Option<u64>, RequestFault> {
    let expected = "a whole number written without a fraction";
    field.count().map_err(|fault| request_fault(fault, name, expected, TOKEN_COUNT_MAX))
}

/// A switch of a request; absent is off.
pub(super) fn requested_switch(field: Field<'_>, name: &'static str) -> Result<bool, RequestFault> {
    let switch = field.boolean().map_err(|fault| request_fault(fault, name, "true or false", 0))?;
    Ok(switch.unwrap_or(false))
}

pub(super) fn request_fault(
    fault: FieldFault,
    field: &'static str,
    expected: &'static str,
    max: u64,
) -> RequestFault {
    match fault {
        FieldFault::Malformed => RequestFault::Malformed { field, expected },
        FieldFault::Duplicated => RequestFault::Duplicated { field },
        FieldFault::OutOfBounds => RequestFault::OutOfBounds { field, max },
    }
}

/// A body's length as a count.
pub(super) fn byte_count(body: &Bytes) -> u64 {
    u64::try_from(body.len()).unwrap_or(u64::MAX)
}

/// Whether `path` ends with `suffix`, a trailing slash and case aside.
pub(super) fn path_ends_with(path: &str, suffix: &str) -> bool {
    let path = path.strip_suffix('/').unwrap_or(path).as_bytes();
    let start = path.len().checked_sub(suffix.len());
    start.is_some_and(|start| path[start..].eq_ignore_ascii_case(suffix.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name_at(method: Method, path: &str) -> Option<&'static str> {
        dialect_for(&method, path).map(Dialect::name)
    }

    #[test]
    fn each_dialect_is_found_where_its_vendor_serves_it() {
        for path in ["/v1/chat/completions", "/openai/deployments/d/chat/completions"] {
            assert_eq!(name_at(Method::POST, path), Some("openai_chat"), "{path}");
        }
        for path in ["/v1/messages", "/anthropic/v1/messages", "/messages"] {
            assert_eq!(name_at(Method::POST, path), Some("anthropic_messages"), "{path}");
        }
    }

    #[test]
    fn case_parameters_and_a_trailing_slash_do_not_evade_metering() {
        assert_eq!(name_at(Method::POST, "/v1;a=1/messages;b=2/"), Some("anthropic_messages"));
        assert_eq!(name_at(Method::POST, "/v1/chat;/completions;x"), Some("openai_chat"));
        assert_eq!(name_at(Method::POST, "/V1/Messages/"), Some("anthropic_messages"));
        assert_eq!(name_at(Method::POST, "/v1/CHAT/completions"), Some("openai_chat"));
    }

    #[test]
    fn neighbouring_routes_speak_no_dialect() {
        let neighbours = [
            "/v1/messages/count_tokens",
            "/v1/messages/batches",
            "/v1/threads/thread_1/messages",
            "/v1/completions",
            "/xchat/completions",
            "",
            "/é",
        ];
        for path in neighbours {
            assert_eq!(name_at(Method::POST, path), None, "{path}");
        }
        assert_eq!(name_at(Method::GET, "/v1/chat/completions"), None);
    }
}
