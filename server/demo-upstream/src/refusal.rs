//! Every reason not to answer, and how each vendor would put it.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use serde_json::{Value, json};

use crate::{
    bounds::{BODY_WAIT_MAX, MODEL_BYTES_MAX},
    vendor::Vendor,
};

/// Why a request gets no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("the credential is missing or is not the one this demo upstream was given")]
    Credential,
    #[error("{header} {bound}")]
    Knob { header: &'static str, bound: String },
    #[error("the body is larger than {bytes_max} bytes")]
    BodyTooLarge { bytes_max: u64 },
    #[error("the body did not arrive within {} s", BODY_WAIT_MAX.as_secs())]
    BodyTooSlow,
    #[error("the body ended early")]
    BodyCutShort,
    #[error("the body is not the JSON this endpoint takes: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error("model must have 1 to {MODEL_BYTES_MAX} bytes")]
    Model,
    #[error("{field} must be at least 1")]
    OutputMaximum { field: &'static str },
    #[error("no such path here: the demo serves /openai/v1, /anthropic/v1/messages and /echo")]
    UnknownPath,
    #[error("this path takes another method")]
    Method,
    #[error("status {0} was asked for with x-demo-status")]
    Asked(StatusCode),
}

impl Refusal {
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Credential => StatusCode::UNAUTHORIZED,
            Self::Knob { .. }
            | Self::BodyCutShort
            | Self::Malformed(_)
            | Self::Model
            | Self::OutputMaximum { .. } => StatusCode::BAD_REQUEST,
            Self::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyTooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::UnknownPath => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Asked(status) => *status,
        }
    }

    /// The refusal as this vendor would send it.
    pub(crate) fn answer(&self, vendor: Vendor) -> Response {
        let message = format!("demo upstream: {self}");
        let status = self.status();
        let body = match vendor {
            Vendor::OpenAi => openai_envelope(status, &message),
            Vendor::Anthropic => anthropic_envelope(status, &message),
            Vendor::Nobody => json!({ "error": { "message": message } }),
        };
        (status, Json(body)).into_response()
    }
}

/// `error.type` and `error.code` follow <https://platform.openai.com/docs/guides/error-codes>.
fn openai_envelope(status: StatusCode, message: &str) -> Value {
    let (kind, code) = match status.as_u16() {
        401 => ("invalid_request_error", Some("invalid_api_key")),
        429 => ("requests", Some("rate_limit_exceeded")),
        500.. => ("server_error", None),
        _ => ("invalid_request_error", None),
    };
    json!({ "error": { "message": message, "type": kind, "param": null, "code": code } })
}

/// `error.type` follows <https://docs.anthropic.com/en/api/errors>.
fn anthropic_envelope(status: StatusCode, message: &str) -> Value {
    let kind = match status.as_u16() {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        504 => "timeout_error",
        529 => "overloaded_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    };
    json!({ "type": "error", "error": { "type": kind, "message": message } })
}
