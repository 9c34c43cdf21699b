//! What a refused question means to the gateway's own caller.

use std::borrow::Cow;
use std::error::Error as _;
use std::iter;
use std::time::Duration;

use rateguard_proto::ERROR_DOMAIN;
use rateguard_proto::v1::ErrorReason;
use tonic::{Code, ConnectError, Status};
use tonic_types::StatusExt as _;

use crate::problem::ProblemKind;

/// When to try again where the server does not say.
const RETRY_AFTER_MS_DEFAULT: u64 = 1_000;

/// Why the control server gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ControlError {
    /// What the gateway's caller is answered.
    pub kind: ProblemKind,
    /// For that caller; without secrets.
    pub message: Cow<'static, str>,
    /// When trying again may help.
    pub retry_after_ms: Option<u64>,
    /// Whether the same question may be answered later.
    pub is_retryable: bool,
    /// Whether what was asked for may have been done all the same: the answer alone was lost.
    pub may_be_done: bool,
    /// The status' code and reason, for the log.
    pub cause: String,
}

impl ControlError {
    /// No answer within the deadline. Whether it was done is not known.
    pub fn deadline() -> Self {
        Self {
            kind: ProblemKind::Unavailable,
            message: Cow::Borrowed("the call could not be decided in time"),
            retry_after_ms: Some(RETRY_AFTER_MS_DEFAULT),
            is_retryable: true,
            may_be_done: true,
            cause: "deadline exceeded".to_owned(),
        }
    }
}

impl From<&Status> for ControlError {
    fn from(status: &Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info().filter(|info| info.domain == ERROR_DOMAIN);
        let reason = info.and_then(|info| ErrorReason::from_error_info_reason(&info.reason));
        let kind = reason.map_or_else(|| kind_of_code(status.code()), kind_of_reason);
        let told = details.retry_info().and_then(|info| info.retry_delay).map(milliseconds);
        let waits = matches!(kind, ProblemKind::Unavailable | ProblemKind::Overloaded);
        Self {
            kind,
            message: message(kind, status),
            retry_after_ms: waits.then(|| told.unwrap_or(RETRY_AFTER_MS_DEFAULT)),
            is_retryable: is_retryable(status.code()),
            may_be_done: may_be_done(status, reason),
            cause: format!("{:?} {}", status.code(), reason.map_or("", ErrorReason::as_error_info_reason)),
        }
    }
}

/// What a reason is to a caller of the proxy. An unknown price that the API's policy refuses is
/// `forbidden`: the operator has not opened that model. What only a broken gateway can cause
/// (another's reservation, a reused id) is `internal`.
fn kind_of_reason(reason: ErrorReason) -> ProblemKind {
    use ErrorReason as R;
    match reason {
        R::CredentialMissing | R::CredentialUnknown => ProblemKind::InvalidApiKey,
        R::KeyExpired => ProblemKind::ExpiredApiKey,
        R::KeyDisabled | R::ScopeMissing | R::KeyRestricted | R::SubjectNotAllowed | R::PriceUnknown => {
            ProblemKind::Forbidden
        }
        R::ResourceNotFound => ProblemKind::ApiNotFound,
        R::ApiInactive => ProblemKind::ApiInactive,
        R::FieldMissing | R::FieldMalformed | R::FieldOutOfBounds | R::TooManyLimits | R::SumOutOfRange => {
            ProblemKind::InvalidRequest
        }
        R::QueueFull => ProblemKind::Overloaded,
        R::DeadlineExceeded | R::StoreUnavailable | R::OutcomeUnknown | R::Draining | R::ConfigStale => {
            ProblemKind::Unavailable
        }
        _ => ProblemKind::Internal,
    }
}

fn kind_of_code(code: Code) -> ProblemKind {
    match code {
        Code::Unauthenticated => ProblemKind::InvalidApiKey,
        Code::PermissionDenied => ProblemKind::Forbidden,
        Code::NotFound => ProblemKind::ApiNotFound,
        Code::InvalidArgument => ProblemKind::InvalidRequest,
        Code::ResourceExhausted => ProblemKind::Overloaded,
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown => {
            ProblemKind::Unavailable
        }
        _ => ProblemKind::Internal,
    }
}

/// The server's own words where they are about the call; ours where they are about our machinery.
fn message(kind: ProblemKind, status: &Status) -> Cow<'static, str> {
    match kind {
        ProblemKind::Internal => Cow::Borrowed("internal error"),
        ProblemKind::Unavailable => Cow::Borrowed("the call cannot be decided at the moment"),
        ProblemKind::InvalidApiKey => Cow::Borrowed("the API key is not known"),
        _ => Cow::Owned(status.message().to_owned()),
    }
}

fn is_retryable(code: Code) -> bool {
    use Code as C;
    matches!(
        code,
        C::Unavailable
            | C::DeadlineExceeded
            | C::ResourceExhausted
            | C::Cancelled
            | C::Unknown
            | C::Aborted
            | C::Internal
    )
}

/// A server that says why has not done it, unless what it says is that it does not know. Where nobody
/// says why, the connection may have been lost between the question and its answer; what no connection
/// took was not even asked.
fn may_be_done(status: &Status, reason: Option<ErrorReason>) -> bool {
    use ErrorReason as R;
    match reason {
        Some(reason) => matches!(reason, R::DeadlineExceeded | R::OutcomeUnknown | R::Internal),
        None => is_retryable(status.code()) && !is_unconnected(status),
    }
}

fn is_unconnected(status: &Status) -> bool {
    iter::successors(status.source(), |&cause| cause.source()).any(|cause| cause.is::<ConnectError>())
}

fn milliseconds(wait: Duration) -> u64 {
    u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tonic_types::ErrorDetails;

    use super::*;

    fn status(code: Code, reason: ErrorReason, retry: Option<Duration>) -> Status {
        let mut details = ErrorDetails::new();
        details.set_error_info(reason.as_error_info_reason(), ERROR_DOMAIN, HashMap::new());
        if retry.is_some() {
            details.set_retry_info(retry);
        }
        Status::with_error_details(code, "some words", details)
    }

    #[test]
    fn each_reason_has_the_answer_that_the_product_names() {
        let cases = [
            (Code::Unauthenticated, ErrorReason::CredentialUnknown, "invalid_api_key"),
            (Code::PermissionDenied, ErrorReason::KeyExpired, "expired_api_key"),
            (Code::PermissionDenied, ErrorReason::KeyDisabled, "forbidden"),
            (Code::PermissionDenied, ErrorReason::SubjectNotAllowed, "forbidden"),
            (Code::PermissionDenied, ErrorReason::GatewayOnly, "internal"),
            (Code::NotFound, ErrorReason::ResourceNotFound, "api_not_found"),
            (Code::FailedPrecondition, ErrorReason::ApiInactive, "api_inactive"),
            (Code::FailedPrecondition, ErrorReason::PriceUnknown, "forbidden"),
            (Code::InvalidArgument, ErrorReason::FieldOutOfBounds, "invalid_request"),
            (Code::ResourceExhausted, ErrorReason::QueueFull, "overloaded"),
            (Code::Unavailable, ErrorReason::OutcomeUnknown, "unavailable"),
            (Code::DeadlineExceeded, ErrorReason::DeadlineExceeded, "unavailable"),
        ];
        for (code, reason, expected) in cases {
            let error = ControlError::from(&status(code, reason, None));
            assert_eq!(error.kind.code(), expected, "{reason:?}");
        }
    }

    #[test]
    fn a_store_that_is_away_says_when_to_return() {
        let away = status(Code::Unavailable, ErrorReason::StoreUnavailable, Some(Duration::from_millis(250)));
        let error = ControlError::from(&away);
        assert_eq!((error.retry_after_ms, error.is_retryable), (Some(250), true));
        let lost = ControlError::from(&Status::unavailable("connection refused"));
        assert_eq!((lost.retry_after_ms, lost.is_retryable), (Some(1_000), true));
        assert_eq!(lost.message, "the call cannot be decided at the moment");
    }

    #[test]
    fn what_was_refused_or_never_asked_is_not_done_and_what_was_lost_may_be() {
        let said = |code, reason| ControlError::from(&status(code, reason, None)).may_be_done;
        assert!(!said(Code::Unavailable, ErrorReason::StoreUnavailable));
        assert!(!said(Code::ResourceExhausted, ErrorReason::QueueFull));
        assert!(said(Code::Unavailable, ErrorReason::OutcomeUnknown));
        assert!(said(Code::DeadlineExceeded, ErrorReason::DeadlineExceeded));
        let lost = |status: Status| ControlError::from(&status).may_be_done;
        assert!(lost(Status::unavailable("the connection broke")) && lost(Status::unknown("reset")));
        assert!(!lost(Status::unauthenticated("who?")));
        assert!(!lost(Status::from_error(Box::new(ConnectError("refused".into())))));
        assert!(ControlError::deadline().may_be_done);
    }

    #[test]
    fn words_about_the_call_are_passed_on_and_others_are_not() {
        let bad = status(Code::InvalidArgument, ErrorReason::FieldMalformed, None);
        assert_eq!(ControlError::from(&bad).message, "some words");
        let broken = status(Code::Internal, ErrorReason::Internal, None);
        let error = ControlError::from(&broken);
        assert_eq!((error.message.as_ref(), error.kind), ("internal error", ProblemKind::Internal));
        assert!(!ControlError::from(&bad).is_retryable);
    }
}
