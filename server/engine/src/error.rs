//! The engine's closed set of errors: what went wrong, and the reason that a program can act on.

use rateguard_core::invalid::Invalid;
use thiserror::Error;

use crate::ports::{ResourceKind, StoreError};
use crate::telling::Seldom;

/// How long a caller should wait before it tries a store again.
pub const STORE_RETRY_MS: i64 = 1_000;
/// How long a caller should wait for a full queue to drain.
pub const QUEUE_RETRY_MS: i64 = 100;

/// While a store is away every call meets it: one in a while tells of it.
static UNAVAILABLE_TOLD: Seldom = Seldom::new();
/// The same for stores that say nothing.
static UNKNOWN_TOLD: Seldom = Seldom::new();

/// The reason of an error, stable for programs. The wire carries its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// A field that must be set is not.
    FieldMissing,
    /// A field is malformed.
    FieldMalformed,
    /// A field is beyond its bound.
    FieldOutOfBounds,
    /// Two fields exclude each other.
    FieldConflict,
    /// A money estimate came with a mode that holds no money.
    EstimateNeedsReserve,
    /// Money is not in the workspace's currency.
    CurrencyMismatch,
    /// A page token is not one of ours.
    PageTokenInvalid,
    /// An update mask names a field that does not exist or may not change.
    UpdateMaskInvalid,
    /// An event id begins like one of the server's own.
    EventIdReserved,
    /// A record lies too far back.
    OccurTimeTooOld,
    /// A record lies ahead of the clock.
    OccurTimeInFuture,
    /// A query would read or answer more than its bound.
    QueryTooLarge,
    /// A message cannot be decoded.
    MessageMalformed,
    /// A message is larger than one may be.
    MessageTooLarge,
    /// No credential came.
    CredentialMissing,
    /// The credential is not known.
    CredentialUnknown,
    /// No account has this address and password, or the identity provider's word does not stand.
    LoginRefused,
    /// The session has ended, or its token is too old.
    SessionEnded,
    /// The key has expired.
    KeyExpired,
    /// The key is disabled.
    KeyDisabled,
    /// The key lacks the scope.
    ScopeMissing,
    /// The key is restricted to other APIs, models or addresses.
    KeyRestricted,
    /// The key may not name this subject.
    SubjectNotAllowed,
    /// Another principal took the reservation.
    ReservationNotOwned,
    /// Only a gateway may call this.
    GatewayOnly,
    /// The person's role does not allow it.
    RoleMissing,
    /// A browser's call came from an origin that is not configured.
    OriginRefused,
    /// Only a person who is logged in may call this.
    PersonOnly,
    /// There is no such resource.
    ResourceNotFound,
    /// There is no such open invitation.
    InvitationUnknown,
    /// The request id was used for other content.
    RequestIdReused,
    /// Another API has the slug.
    SlugTaken,
    /// The model has an override already.
    PriceOverridden,
    /// Another event has settled the attempt.
    AttemptSettled,
    /// Another account has the address.
    EmailTaken,
    /// The person belongs to the workspace already.
    AlreadyMember,
    /// Another account has this identity of the provider.
    IdentityTaken,
    /// The API is switched off.
    ApiInactive,
    /// No price is known, and the API refuses such calls.
    PriceUnknown,
    /// More limits match a call than a decision may hold.
    TooManyLimits,
    /// The workspace has as many resources of the kind as it may.
    WorkspaceFull,
    /// A price of the catalogue cannot be changed.
    PriceReadOnly,
    /// People cannot register, or not without an invitation.
    RegistrationClosed,
    /// A workspace must keep one owner.
    LastOwner,
    /// The person has as many of these as one person may.
    PersonFull,
    /// Only a prepaid budget can be topped up.
    BudgetNotPrepaid,
    /// Other resources name it.
    ResourceInUse,
    /// The provider knows the person, and no account is linked to that.
    AccountNotLinked,
    /// Nobody logs in through a provider.
    OidcNotConfigured,
    /// A limit on calls at the same time applies to a call that is not reserved.
    ConcurrencyNeedsReserve,
    /// The reservation was settled, released or has expired.
    ReservationEnded,
    /// A limit applies of which nothing can be leased for such calls.
    LimitNotLeasable,
    /// The resource has changed since it was read.
    EtagMismatch,
    /// A sum does not fit the wire.
    SumOutOfRange,
    /// A queue is full.
    QueueFull,
    /// Too many attempts for an address or from a place.
    TooManyAttempts,
    /// The deadline passed.
    DeadlineExceeded,
    /// A store is away.
    StoreUnavailable,
    /// A store did not say whether it was done.
    OutcomeUnknown,
    /// The server is stopping.
    Draining,
    /// The configuration in memory is too old to decide by.
    ConfigStale,
    /// The identity provider is away.
    ProviderUnavailable,
    /// There is no such service or method.
    MethodUnknown,
    /// A message is compressed in a way that the server does not read.
    EncodingUnsupported,
    /// An invariant is broken.
    Internal,
}

/// What a caller can do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request is wrong.
    InvalidArgument,
    /// Who calls is not known.
    Unauthenticated,
    /// Who calls may not.
    PermissionDenied,
    /// What is asked for does not exist.
    NotFound,
    /// It exists with other content.
    AlreadyExists,
    /// The state forbids it.
    FailedPrecondition,
    /// It has changed meanwhile.
    Aborted,
    /// A result does not fit.
    OutOfRange,
    /// The server protects itself.
    ResourceExhausted,
    /// Out of time.
    DeadlineExceeded,
    /// Not now.
    Unavailable,
    /// The server does not do that.
    Unimplemented,
    /// A broken invariant.
    Internal,
}

impl Reason {
    /// The kind that every error of this reason has.
    pub fn kind(self) -> ErrorKind {
        use ErrorKind as K;
        match self {
            Self::FieldMissing
            | Self::FieldMalformed
            | Self::FieldOutOfBounds
            | Self::FieldConflict
            | Self::EstimateNeedsReserve
            | Self::CurrencyMismatch
            | Self::PageTokenInvalid
            | Self::UpdateMaskInvalid
            | Self::EventIdReserved
            | Self::OccurTimeTooOld
            | Self::OccurTimeInFuture
            | Self::QueryTooLarge
            | Self::MessageMalformed
            | Self::MessageTooLarge => K::InvalidArgument,
            Self::CredentialMissing | Self::CredentialUnknown | Self::LoginRefused | Self::SessionEnded => {
                K::Unauthenticated
            }
            Self::KeyExpired
            | Self::KeyDisabled
            | Self::ScopeMissing
            | Self::KeyRestricted
            | Self::SubjectNotAllowed
            | Self::ReservationNotOwned
            | Self::GatewayOnly
            | Self::RoleMissing
            | Self::OriginRefused
            | Self::PersonOnly => K::PermissionDenied,
            Self::ResourceNotFound | Self::InvitationUnknown => K::NotFound,
            Self::RequestIdReused
            | Self::SlugTaken
            | Self::PriceOverridden
            | Self::AttemptSettled
            | Self::EmailTaken
            | Self::AlreadyMember
            | Self::IdentityTaken => K::AlreadyExists,
            Self::ApiInactive
            | Self::PriceUnknown
            | Self::TooManyLimits
            | Self::WorkspaceFull
            | Self::PriceReadOnly
            | Self::RegistrationClosed
            | Self::LastOwner
            | Self::PersonFull
            | Self::BudgetNotPrepaid
            | Self::ResourceInUse
            | Self::AccountNotLinked
            | Self::OidcNotConfigured
            | Self::ConcurrencyNeedsReserve
            | Self::ReservationEnded
            | Self::LimitNotLeasable => K::FailedPrecondition,
            Self::EtagMismatch => K::Aborted,
            Self::SumOutOfRange => K::OutOfRange,
            Self::QueueFull | Self::TooManyAttempts => K::ResourceExhausted,
            Self::DeadlineExceeded => K::DeadlineExceeded,
            Self::StoreUnavailable
            | Self::OutcomeUnknown
            | Self::Draining
            | Self::ConfigStale
            | Self::ProviderUnavailable => K::Unavailable,
            Self::MethodUnknown | Self::EncodingUnsupported => K::Unimplemented,
            Self::Internal => K::Internal,
        }
    }
}

/// An error of the engine.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct EngineError {
    /// Why.
    pub reason: Reason,
    /// The field at fault, where one is.
    pub field: Option<String>,
    /// For people; lower case, without secrets.
    pub message: String,
    /// When trying again may help.
    pub retry_after_ms: Option<i64>,
    /// More for programs, by name.
    pub metadata: Vec<(&'static str, String)>,
}

impl EngineError {
    /// An error without a field.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        let retry_after_ms = match reason.kind() {
            ErrorKind::Unavailable => Some(STORE_RETRY_MS),
            ErrorKind::ResourceExhausted => Some(QUEUE_RETRY_MS),
            _ => None,
        };
        Self { reason, field: None, message: message.into(), retry_after_ms, metadata: Vec::new() }
    }

    /// An error about one field.
    pub fn field(reason: Reason, field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: Some(field.into()), ..Self::new(reason, message) }
    }

    /// Whether sending the same again gives the same: the fault is in what was sent.
    pub fn is_the_callers(&self) -> bool {
        use ErrorKind as K;
        !matches!(
            self.reason.kind(),
            K::ResourceExhausted | K::DeadlineExceeded | K::Unavailable | K::Internal
        )
    }

    /// There is no such resource.
    pub fn not_found(kind: &str, id: &str) -> Self {
        Self::new(Reason::ResourceNotFound, format!("there is no {kind} {id:?} in this workspace"))
    }

    /// A broken invariant. The caller learns nothing; the log has the detail.
    pub fn internal(detail: &str) -> Self {
        tracing::error!(detail, "an invariant of the engine is broken");
        Self::new(Reason::Internal, "internal error")
    }
}

impl From<Invalid> for EngineError {
    fn from(invalid: Invalid) -> Self {
        Self::field(Reason::FieldOutOfBounds, invalid.field, invalid.description)
    }
}

impl From<StoreError> for EngineError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable { store, ref detail } => {
                if let Some(untold) = UNAVAILABLE_TOLD.due() {
                    tracing::warn!(store, detail, untold, "a store is unavailable");
                }
                Self::new(Reason::StoreUnavailable, format!("the {store} store is unavailable"))
            }
            StoreError::OutcomeUnknown { store, ref detail } => {
                if let Some(untold) = UNKNOWN_TOLD.due() {
                    tracing::warn!(store, detail, untold, "a store did not say whether it was done");
                }
                let message =
                    format!("the {store} store did not say whether it was done; send the same again");
                Self::new(Reason::OutcomeUnknown, message)
            }
            StoreError::AttemptRefused { store, detail } => Self::new(
                Reason::StoreUnavailable,
                format!("the {store} store: {detail}; send the same again"),
            ),
            StoreError::Full { what } => Self::new(Reason::QueueFull, format!("{what} is full")),
            StoreError::VersionMismatch => {
                Self::new(Reason::EtagMismatch, "the resource has changed since it was read")
            }
            StoreError::InUse { kind, ref id, ref by, more } => in_use(kind, id, by, more),
            StoreError::Dangling { kind, ref id } => Self::not_found(kind.as_str(), id),
            StoreError::Corrupt { .. } | StoreError::AlreadyExists { .. } | StoreError::NotFound => {
                Self::internal(&error.to_string())
            }
        }
    }
}

/// What uses a resource, in the message for people and, as `used_by` and `used_by_more`, for programs.
fn in_use(kind: ResourceKind, id: &str, by: &[(ResourceKind, String)], more: u64) -> EngineError {
    let users: Vec<String> = by.iter().map(|(kind, id)| format!("{} {id}", kind.as_str())).collect();
    let rest = if more == 0 { String::new() } else { format!(" and {more} more") };
    let message = format!("the {} {id:?} is used by {}{rest}", kind.as_str(), users.join(", "));
    let metadata = vec![("used_by", users.join(", ")), ("used_by_more", more.to_string())];
    EngineError { metadata, ..EngineError::new(Reason::ResourceInUse, message) }
}
