//! The documents that are made from the contract: a table of every reason an error can have, and one of
//! who may call what.

mod permissions;

use std::collections::BTreeMap;

use prost::Message as _;
use prost_types::{FileDescriptorProto, FileDescriptorSet};
use rateguard_engine::error::{ErrorKind, Reason};
use rateguard_proto::FILE_DESCRIPTOR_SET;
use tonic::Code;

use crate::status::{code, http_status, reason};

pub use permissions::permissions_markdown;

/// The enum whose values are told.
const ENUM: &str = "ErrorReason";
/// Where the enums of a file stand in a descriptor's paths, and the values within one.
const ENUMS: i32 = 5;
const VALUES: i32 = 2;

const HEAD: &str = "\
# Errors

Made by `make gen` from the contract; do not edit.

Every error status carries `google.rpc.ErrorInfo` with the domain `rateguard` and the reason below. Where
one field is at fault its path is the metadata `field`. `INVALID_ARGUMENT` carries `google.rpc.BadRequest`
with the same path, or an empty one where the request as a whole is at fault; `RESOURCE_EXHAUSTED` and
`UNAVAILABLE` carry `google.rpc.RetryInfo`. A denial is no error: it is an answer with the status `OK`.

| reason | gRPC | HTTP | meaning | what to do |
|---|---|---|---|---|
";

/// `docs/ERRORS.md`.
pub fn errors_markdown() -> String {
    let meanings = meanings();
    let rows = REASONS.iter().map(|known| {
        let wire = reason(*known);
        row(*known, wire.as_error_info_reason(), meanings.get(wire.as_str_name()).map_or("", String::as_str))
    });
    std::iter::once(HEAD.to_owned()).chain(rows).collect()
}

fn row(known: Reason, name: &str, meaning: &str) -> String {
    let kind = known.kind();
    let (code, http, advice) = (code_name(code(kind)), http_status(kind), advice(known));
    format!("| `{name}` | `{code}` | {http} | {meaning} | {advice} |\n")
}

/// Every reason, in the order of the contract.
pub const REASONS: [Reason; 65] = [
    Reason::FieldMissing,
    Reason::FieldMalformed,
    Reason::FieldOutOfBounds,
    Reason::FieldConflict,
    Reason::EstimateNeedsReserve,
    Reason::CurrencyMismatch,
    Reason::PageTokenInvalid,
    Reason::UpdateMaskInvalid,
    Reason::EventIdReserved,
    Reason::OccurTimeTooOld,
    Reason::OccurTimeInFuture,
    Reason::QueryTooLarge,
    Reason::MessageMalformed,
    Reason::MessageTooLarge,
    Reason::CredentialMissing,
    Reason::CredentialUnknown,
    Reason::LoginRefused,
    Reason::SessionEnded,
    Reason::KeyExpired,
    Reason::KeyDisabled,
    Reason::ScopeMissing,
    Reason::KeyRestricted,
    Reason::SubjectNotAllowed,
    Reason::ReservationNotOwned,
    Reason::GatewayOnly,
    Reason::RoleMissing,
    Reason::OriginRefused,
    Reason::PersonOnly,
    Reason::ResourceNotFound,
    Reason::InvitationUnknown,
    Reason::RequestIdReused,
    Reason::SlugTaken,
    Reason::PriceOverridden,
    Reason::AttemptSettled,
    Reason::EmailTaken,
    Reason::AlreadyMember,
    Reason::IdentityTaken,
    Reason::ApiInactive,
    Reason::PriceUnknown,
    Reason::TooManyLimits,
    Reason::WorkspaceFull,
    Reason::PriceReadOnly,
    Reason::RegistrationClosed,
    Reason::LastOwner,
    Reason::PersonFull,
    Reason::BudgetNotPrepaid,
    Reason::ResourceInUse,
    Reason::AccountNotLinked,
    Reason::OidcNotConfigured,
    Reason::ConcurrencyNeedsReserve,
    Reason::ReservationEnded,
    Reason::LimitNotLeasable,
    Reason::EtagMismatch,
    Reason::SumOutOfRange,
    Reason::QueueFull,
    Reason::TooManyAttempts,
    Reason::DeadlineExceeded,
    Reason::StoreUnavailable,
    Reason::OutcomeUnknown,
    Reason::Draining,
    Reason::ConfigStale,
    Reason::ProviderUnavailable,
    Reason::MethodUnknown,
    Reason::EncodingUnsupported,
    Reason::Internal,
];

/// What a caller should do, where the reason says more than its kind.
fn advice(reason: Reason) -> &'static str {
    match reason {
        Reason::EstimateNeedsReserve => "use `CHECK_MODE_RESERVE`, or leave the money out",
        Reason::PageTokenInvalid => "begin at the first page, or send the filter of the page before",
        Reason::EventIdReserved => "choose another id",
        Reason::OccurTimeTooOld | Reason::OccurTimeInFuture => {
            "check the clock; do not resend the record unchanged"
        }
        Reason::QueryTooLarge => "ask for a shorter span, a longer granularity or fewer groups",
        Reason::MessageTooLarge => "send less at once; do not repeat it unchanged",
        Reason::EncodingUnsupported => "send messages uncompressed",
        Reason::ReservationNotOwned => "report with the credential that took the reservation",
        Reason::RequestIdReused => "draw a new id for a new question",
        Reason::PriceOverridden => "update the override that there is",
        Reason::AttemptSettled => "drop the record, or give the next attempt its own number",
        Reason::PriceUnknown => "create a price override, or change the API's policy",
        Reason::WorkspaceFull => "delete what is not needed",
        Reason::SessionEnded => "refresh the access token; where that is refused too, log in",
        Reason::LoginRefused => "check the address and the password, or begin again at the provider",
        Reason::OriginRefused => "configure the origin, and send the header `x-rateguard-csrf`",
        Reason::PersonOnly => "log in",
        Reason::InvitationUnknown => "ask for another invitation",
        Reason::EmailTaken => "log in with the account that there is",
        Reason::AlreadyMember => "nothing is left to do",
        Reason::IdentityTaken => "log in through the provider",
        Reason::AccountNotLinked => "log in with the password and link the identity, or ask for an account",
        Reason::OidcNotConfigured => "log in with the password",
        Reason::PersonFull => "leave what is not needed",
        Reason::ResourceInUse => "change or delete what uses it first",
        Reason::BudgetNotPrepaid => "raise the budget's amount",
        Reason::ConcurrencyNeedsReserve => "use `CHECK_MODE_RESERVE`, and settle or release the reservation",
        Reason::ReservationEnded => "reserve anew",
        Reason::LimitNotLeasable => "ask `CheckQuota` for such calls",
        Reason::PriceReadOnly => "create an override of the model",
        reason => advice_of_kind(reason.kind()),
    }
}

fn advice_of_kind(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::InvalidArgument => "fix the request",
        ErrorKind::Unauthenticated => "send a valid key or access token",
        ErrorKind::PermissionDenied => "use a credential that may",
        ErrorKind::NotFound => "check the id",
        ErrorKind::AlreadyExists => "choose another name",
        ErrorKind::FailedPrecondition => "read the state and change it first",
        ErrorKind::Aborted => "read the resource again and repeat the change",
        ErrorKind::OutOfRange => "ask for less at once",
        ErrorKind::ResourceExhausted => "wait as `RetryInfo` says, then repeat",
        ErrorKind::DeadlineExceeded => "apply your own failure policy; repeat with the same ids",
        ErrorKind::Unavailable => "wait as `RetryInfo` says, then repeat with the same ids",
        ErrorKind::Unimplemented => {
            "check the name of the method, and that client and server have the same contract"
        }
        ErrorKind::Internal => "report it",
    }
}

/// The codes as gRPC writes them.
fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// The comments of the enum's values, by the values' names, without the code that each begins with.
fn meanings() -> BTreeMap<String, String> {
    let files = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).map(|set| set.file).unwrap_or_default();
    files.iter().filter_map(meanings_of).next().unwrap_or_default()
}

fn meanings_of(file: &FileDescriptorProto) -> Option<BTreeMap<String, String>> {
    let (place, reasons) = (0..).zip(&file.enum_type).find(|(_, kind)| kind.name() == ENUM)?;
    let locations = &file.source_code_info.as_ref()?.location;
    let comment = |value: i32| {
        let location = locations.iter().find(|location| location.path == [ENUMS, place, VALUES, value]);
        sentence(location.map_or("", |location| location.leading_comments()))
    };
    Some(
        (0..).zip(&reasons.value).map(|(number, value)| (value.name().to_owned(), comment(number))).collect(),
    )
}

fn sentence(comment: &str) -> String {
    let text = comment.split_whitespace().collect::<Vec<_>>().join(" ");
    let meaning = text.split_once(": ").map_or(text.as_str(), |(_, meaning)| meaning);
    meaning.trim_end_matches('.').replace('|', "\\|")
}

#[cfg(test)]
mod tests;
