//! The vendors that are imitated, and the headers that each puts on every answer.

use http::{HeaderMap, HeaderName, HeaderValue};

/// Whose manners an answer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Vendor {
    OpenAi,
    Anthropic,
    Nobody,
}

type Headers = &'static [(&'static str, &'static str)];

/// Rate headers as in <https://platform.openai.com/docs/guides/rate-limits>; the demo counts nothing, so they
/// never change.
const OPENAI_RATE: Headers = &[
    ("x-ratelimit-limit-requests", "10000"),
    ("x-ratelimit-remaining-requests", "9999"),
    ("x-ratelimit-reset-requests", "6ms"),
];

/// Rate headers as in <https://docs.anthropic.com/en/api/rate-limits>; never changing either.
const ANTHROPIC_RATE: Headers = &[
    ("anthropic-ratelimit-requests-limit", "4000"),
    ("anthropic-ratelimit-requests-remaining", "3999"),
    ("anthropic-ratelimit-requests-reset", "2025-01-01T00:00:00Z"),
];

/// A cookie on answers of no vendor, as edge networks set them: one more thing that a proxy must not pass on.
const ECHO_COOKIE: Headers = &[("set-cookie", "demo-upstream=true; HttpOnly")];

impl Vendor {
    /// The vendor whose path this is.
    pub(crate) fn of_path(path: &str) -> Self {
        if path.starts_with("/openai/") {
            Self::OpenAi
        } else if path.starts_with("/anthropic/") {
            Self::Anthropic
        } else {
            Self::Nobody
        }
    }

    /// Adds the vendor's headers, with a request id made of the number.
    pub(crate) fn add_headers(self, headers: &mut HeaderMap, number: u64) {
        let (id_name, fixed) = match self {
            Self::OpenAi => ("x-request-id", OPENAI_RATE),
            Self::Anthropic => ("request-id", ANTHROPIC_RATE),
            Self::Nobody => ("x-request-id", ECHO_COOKIE),
        };
        for (name, value) in fixed {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        if let Ok(id) = HeaderValue::try_from(format!("req_demo_{number}")) {
            headers.insert(HeaderName::from_static(id_name), id);
        }
    }
}
