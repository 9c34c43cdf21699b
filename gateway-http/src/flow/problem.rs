//! An answer that the gateway gives by itself.

use std::borrow::Cow;

use axum::body::Body;
use axum::response::Response;
use http::HeaderValue;
use http::header::{self, HeaderMap};

use crate::control::ControlError;
use crate::problem::{ErrorBody, ProblemKind, generic_error_body};
use crate::proxy::hops::LoopError;
use crate::proxy::response_headers;
use crate::routes::ResolveError;
use crate::usage::{Dialect, RequestFault};

/// When to return to a gateway that has no place free.
const OVERLOADED_RETRY_AFTER_MS: u64 = 1_000;

/// Why a call is not answered by its upstream.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) kind: ProblemKind,
    message: Cow<'static, str>,
    headers: Option<Box<HeaderMap>>,
}

impl Problem {
    pub(crate) fn new(kind: ProblemKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, message: message.into(), headers: None }
    }

    /// The gateway has no place for the call.
    pub(crate) fn overloaded() -> Self {
        let problem = Self::new(ProblemKind::Overloaded, "the gateway has no place for another call");
        problem.with_retry_after(OVERLOADED_RETRY_AFTER_MS)
    }

    /// The gateway is stopping.
    pub(crate) fn stopping() -> Self {
        let problem = Self::new(ProblemKind::Unavailable, "the gateway is stopping");
        problem.with_retry_after(OVERLOADED_RETRY_AFTER_MS)
    }

    pub(crate) fn with_retry_after(mut self, retry_after_ms: u64) -> Self {
        response_headers::add_retry_after(self.headers_mut(), retry_after_ms);
        self
    }

    pub(crate) fn headers_mut(&mut self) -> &mut HeaderMap {
        self.headers.get_or_insert_default()
    }

    /// The answer, in the vendor's envelope where there is one.
    pub(crate) fn into_response(self, envelope: Option<&dyn Dialect>, request_id: &str) -> Response {
        let body = match envelope {
            Some(dialect) => dialect.error_body(self.kind, &self.message, request_id),
            None => generic_error_body(self.kind, &self.message, &serde_json::Map::new(), request_id),
        };
        let ErrorBody { content_type, bytes } = body;
        let mut response = Response::new(Body::from(bytes));
        *response.status_mut() = self.kind.status();
        *response.headers_mut() = self.headers.map(|headers| *headers).unwrap_or_default();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        response
    }
}

impl From<ControlError> for Problem {
    fn from(error: ControlError) -> Self {
        let problem = Self::new(error.kind, error.message);
        match error.retry_after_ms {
            Some(retry_after_ms) => problem.with_retry_after(retry_after_ms),
            None => problem,
        }
    }
}

impl From<ResolveError> for Problem {
    fn from(error: ResolveError) -> Self {
        match error {
            ResolveError::Control(error) => error.into(),
            ResolveError::Unusable(error) => Self::new(ProblemKind::UpstreamError, error.to_string()),
            ResolveError::Missing => Self::new(ProblemKind::Internal, "internal error"),
        }
    }
}

impl From<LoopError> for Problem {
    fn from(error: LoopError) -> Self {
        Self::new(ProblemKind::LoopDetected, error.to_string())
    }
}

impl From<RequestFault> for Problem {
    fn from(fault: RequestFault) -> Self {
        Self::new(ProblemKind::InvalidRequest, fault.to_string())
    }
}
