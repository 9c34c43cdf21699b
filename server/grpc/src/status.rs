//! The one mapping from the engine's errors to gRPC statuses. Every status carries details that a
//! program can read.

use std::collections::HashMap;
use std::time::Duration;

use rateguard_engine::error::{EngineError, ErrorKind, Reason};
use rateguard_proto::{ERROR_DOMAIN, v1};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// The status of an error.
pub fn status(error: &EngineError) -> Status {
    let mut details = ErrorDetails::new();
    let field = error.field.iter().map(|field| ("field".to_owned(), field.clone()));
    let more = error.metadata.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
    let metadata: HashMap<String, String> = field.chain(more).collect();
    details.set_error_info(reason(error.reason).as_error_info_reason(), ERROR_DOMAIN, metadata);
    if error.reason.kind() == ErrorKind::InvalidArgument {
        // An empty path stands for the request as a whole.
        details.add_bad_request_violation(error.field.clone().unwrap_or_default(), error.message.clone());
    }
    if let Some(wait_ms) = error.retry_after_ms.and_then(|ms| u64::try_from(ms).ok()) {
        details.set_retry_info(Some(Duration::from_millis(wait_ms)));
    }
    Status::with_error_details(code(error.reason.kind()), message(error), details)
}

/// The message for people: it begins with the field at fault.
pub fn message(error: &EngineError) -> String {
    match &error.field {
        Some(field) => format!("{field}: {}", error.message),
        None => error.message.clone(),
    }
}

/// The gRPC code of a kind.
pub fn code(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::InvalidArgument => Code::InvalidArgument,
        ErrorKind::Unauthenticated => Code::Unauthenticated,
        ErrorKind::PermissionDenied => Code::PermissionDenied,
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::AlreadyExists => Code::AlreadyExists,
        ErrorKind::FailedPrecondition => Code::FailedPrecondition,
        ErrorKind::Aborted => Code::Aborted,
        ErrorKind::OutOfRange => Code::OutOfRange,
        ErrorKind::ResourceExhausted => Code::ResourceExhausted,
        ErrorKind::DeadlineExceeded => Code::DeadlineExceeded,
        ErrorKind::Unavailable => Code::Unavailable,
        ErrorKind::Unimplemented => Code::Unimplemented,
        ErrorKind::Internal => Code::Internal,
    }
}

/// The HTTP status of a kind, for the gateway's own answers and the documents.
pub fn http_status(kind: ErrorKind) -> u16 {
    match kind {
        ErrorKind::InvalidArgument | ErrorKind::FailedPrecondition | ErrorKind::OutOfRange => 400,
        ErrorKind::Unauthenticated => 401,
        ErrorKind::PermissionDenied => 403,
        ErrorKind::NotFound => 404,
        ErrorKind::AlreadyExists | ErrorKind::Aborted => 409,
        ErrorKind::ResourceExhausted => 429,
        ErrorKind::DeadlineExceeded => 504,
        ErrorKind::Unavailable => 503,
        ErrorKind::Unimplemented => 501,
        ErrorKind::Internal => 500,
    }
}

/// The reason as the wire names it.
pub fn reason(reason: Reason) -> v1::ErrorReason {
    use v1::ErrorReason as E;
    match reason {
        Reason::FieldMissing => E::FieldMissing,
        Reason::FieldMalformed => E::FieldMalformed,
        Reason::FieldOutOfBounds => E::FieldOutOfBounds,
        Reason::FieldConflict => E::FieldConflict,
        Reason::EstimateNeedsReserve => E::EstimateNeedsReserve,
        Reason::CurrencyMismatch => E::CurrencyMismatch,
        Reason::PageTokenInvalid => E::PageTokenInvalid,
        Reason::UpdateMaskInvalid => E::UpdateMaskInvalid,
        Reason::EventIdReserved => E::EventIdReserved,
        Reason::OccurTimeTooOld => E::OccurTimeTooOld,
        Reason::OccurTimeInFuture => E::OccurTimeInFuture,
        Reason::QueryTooLarge => E::QueryTooLarge,
        Reason::MessageMalformed => E::MessageMalformed,
        Reason::MessageTooLarge => E::MessageTooLarge,
        Reason::CredentialMissing => E::CredentialMissing,
        Reason::CredentialUnknown => E::CredentialUnknown,
        Reason::LoginRefused => E::LoginRefused,
        Reason::SessionEnded => E::SessionEnded,
        Reason::KeyExpired => E::KeyExpired,
        Reason::KeyDisabled => E::KeyDisabled,
        Reason::ScopeMissing => E::ScopeMissing,
        Reason::KeyRestricted => E::KeyRestricted,
        Reason::SubjectNotAllowed => E::SubjectNotAllowed,
        Reason::ReservationNotOwned => E::ReservationNotOwned,
        Reason::GatewayOnly => E::GatewayOnly,
        Reason::RoleMissing => E::RoleMissing,
        Reason::OriginRefused => E::OriginRefused,
        Reason::PersonOnly => E::PersonOnly,
        Reason::ResourceNotFound => E::ResourceNotFound,
        Reason::InvitationUnknown => E::InvitationUnknown,
        Reason::RequestIdReused => E::RequestIdReused,
        Reason::SlugTaken => E::SlugTaken,
        Reason::PriceOverridden => E::PriceOverridden,
        Reason::AttemptSettled => E::AttemptSettled,
        Reason::EmailTaken => E::EmailTaken,
        Reason::AlreadyMember => E::AlreadyMember,
        Reason::IdentityTaken => E::IdentityTaken,
        Reason::ApiInactive => E::ApiInactive,
        Reason::PriceUnknown => E::PriceUnknown,
        Reason::TooManyLimits => E::TooManyLimits,
        Reason::WorkspaceFull => E::WorkspaceFull,
        Reason::PriceReadOnly => E::PriceReadOnly,
        Reason::RegistrationClosed => E::RegistrationClosed,
        Reason::LastOwner => E::LastOwner,
        Reason::PersonFull => E::PersonFull,
        Reason::BudgetNotPrepaid => E::BudgetNotPrepaid,
        Reason::ConcurrencyNeedsReserve => E::ConcurrencyNeedsReserve,
        Reason::ReservationEnded => E::ReservationEnded,
        Reason::LimitNotLeasable => E::LimitNotLeasable,
        Reason::ResourceInUse => E::ResourceInUse,
        Reason::AccountNotLinked => E::AccountNotLinked,
        Reason::OidcNotConfigured => E::OidcNotConfigured,
        Reason::EtagMismatch => E::EtagMismatch,
        Reason::SumOutOfRange => E::SumOutOfRange,
        Reason::QueueFull => E::QueueFull,
        Reason::TooManyAttempts => E::TooManyAttempts,
        Reason::DeadlineExceeded => E::DeadlineExceeded,
        Reason::StoreUnavailable => E::StoreUnavailable,
        Reason::OutcomeUnknown => E::OutcomeUnknown,
        Reason::Draining => E::Draining,
        Reason::ConfigStale => E::ConfigStale,
        Reason::ProviderUnavailable => E::ProviderUnavailable,
        Reason::MethodUnknown => E::MethodUnknown,
        Reason::EncodingUnsupported => E::EncodingUnsupported,
        Reason::Internal => E::Internal,
    }
}
