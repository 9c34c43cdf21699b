//! Every failure that the gateway answers by itself, and the envelope for routes without a dialect.
//!
//! The vendors' own envelopes stand with their dialects in [`crate::usage`].

use bytes::Bytes;
use http::StatusCode;
use serde::Serialize;

/// The content type of every error body.
pub const ERROR_CONTENT_TYPE: &str = "application/json";

/// Why the gateway answers instead of the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProblemKind {
    /// The request cannot be read or passed on as it stands.
    InvalidRequest,
    /// No credential, or one that is not known.
    InvalidApiKey,
    /// A denial in which a budget takes part.
    BudgetExceeded,
    /// The key is known and its time is over.
    ExpiredApiKey,
    /// The upstream API is switched off.
    ApiInactive,
    /// The key may not do this.
    Forbidden,
    /// No upstream API of this name.
    ApiNotFound,
    /// The body did not arrive in time.
    BodyTimeout,
    /// The body is larger than the gateway holds.
    BodyTooLarge,
    /// A rate limit denied the call.
    RateLimited,
    /// The gateway or the server protects itself.
    Overloaded,
    /// A broken invariant; no detail is given.
    Internal,
    /// The upstream could not be reached or did not speak HTTP.
    UpstreamError,
    /// The decision could not be made, or the gateway is draining.
    Unavailable,
    /// The upstream did not answer in time.
    UpstreamTimeout,
    /// The call has come through this gateway before, or through too many.
    LoopDetected,
}

impl ProblemKind {
    /// All kinds, for tables and tests.
    pub const ALL: [Self; 16] = [
        Self::InvalidRequest,
        Self::InvalidApiKey,
        Self::BudgetExceeded,
        Self::ExpiredApiKey,
        Self::ApiInactive,
        Self::Forbidden,
        Self::ApiNotFound,
        Self::BodyTimeout,
        Self::BodyTooLarge,
        Self::RateLimited,
        Self::Overloaded,
        Self::Internal,
        Self::UpstreamError,
        Self::Unavailable,
        Self::UpstreamTimeout,
        Self::LoopDetected,
    ];

    /// The HTTP status of the answer.
    pub fn status(self) -> StatusCode {
        match self {
            Self::InvalidRequest => StatusCode::BAD_REQUEST,
            Self::InvalidApiKey => StatusCode::UNAUTHORIZED,
            Self::BudgetExceeded => StatusCode::PAYMENT_REQUIRED,
            Self::ExpiredApiKey | Self::ApiInactive | Self::Forbidden => StatusCode::FORBIDDEN,
            Self::ApiNotFound => StatusCode::NOT_FOUND,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::RateLimited | Self::Overloaded => StatusCode::TOO_MANY_REQUESTS,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::UpstreamError => StatusCode::BAD_GATEWAY,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::UpstreamTimeout => StatusCode::GATEWAY_TIMEOUT,
            Self::LoopDetected => StatusCode::LOOP_DETECTED,
        }
    }

    /// The stable word that callers may test for, the same in every envelope that has a code.
    pub fn code(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::InvalidApiKey => "invalid_api_key",
            Self::BudgetExceeded => "budget_exceeded",
            Self::ExpiredApiKey => "expired_api_key",
            Self::ApiInactive => "api_inactive",
            Self::Forbidden => "forbidden",
            Self::ApiNotFound => "api_not_found",
            Self::BodyTimeout => "body_timeout",
            Self::BodyTooLarge => "body_too_large",
            Self::RateLimited => "rate_limited",
            Self::Overloaded => "overloaded",
            Self::Internal => "internal",
            Self::UpstreamError => "upstream_error",
            Self::Unavailable => "unavailable",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::LoopDetected => "loop_detected",
        }
    }
}

/// An error answer's body and its content type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorBody {
    /// What the `content-type` header says.
    pub content_type: &'static str,
    /// The body itself.
    pub bytes: Bytes,
}

impl ErrorBody {
    /// Writes an envelope as JSON.
    pub(crate) fn json(envelope: &impl Serialize) -> Self {
        let bytes = serde_json::to_vec(envelope).expect("an envelope has string keys alone");
        Self { content_type: ERROR_CONTENT_TYPE, bytes: Bytes::from(bytes) }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct GenericEnvelope<'a> {
    error: GenericError<'a>,
    request_id: &'a str,
}

#[derive(Serialize)]
struct GenericError<'a> {
    code: &'static str,
    message: &'a str,
    details: &'a serde_json::Map<String, serde_json::Value>,
}

/// The envelope for routes that speak no vendor's dialect:
/// `{"error":{"code","message","details"},"requestId"}`. `details` must hold nothing secret.
pub fn generic_error_body(
    kind: ProblemKind,
    message: &str,
    details: &serde_json::Map<String, serde_json::Value>,
    request_id: &str,
) -> ErrorBody {
    let error = GenericError { code: kind.code(), message, details };
    ErrorBody::json(&GenericEnvelope { error, request_id })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use serde_json::json;

    use super::*;

    #[test]
    fn the_generic_envelope_has_its_four_fields() {
        let details = json!({"field": "max_tokens"}).as_object().unwrap().clone();
        let body = generic_error_body(ProblemKind::InvalidRequest, "bad \"number\"", &details, "req_1");
        let read: serde_json::Value = serde_json::from_slice(&body.bytes).unwrap();
        let expected = json!({
            "error": {
                "code": "invalid_request",
                "message": "bad \"number\"",
                "details": {"field": "max_tokens"},
            },
            "requestId": "req_1",
        });
        assert_eq!(read, expected);
        assert_eq!(body.content_type, "application/json");
    }

    #[test]
    fn every_kind_has_a_code_of_its_own_and_an_error_status() {
        let codes: HashSet<_> = ProblemKind::ALL.iter().map(|kind| kind.code()).collect();
        assert_eq!(codes.len(), ProblemKind::ALL.len());
        for kind in ProblemKind::ALL {
            assert!(kind.status().is_client_error() || kind.status().is_server_error());
        }
    }

    #[test]
    fn budgets_answer_402_and_rates_answer_429() {
        assert_eq!(ProblemKind::BudgetExceeded.status().as_u16(), 402);
        assert_eq!(ProblemKind::RateLimited.status().as_u16(), 429);
    }
}
