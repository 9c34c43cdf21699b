//! What can go wrong. That a call is denied is an answer, not an error.

use std::time::Duration;

use rateguard_proto::ERROR_DOMAIN;
use rateguard_proto::v1::{self, ErrorReason};
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// What a connection that is lost with a question open is told as, by the transport or somebody between. The
/// server's own answers of these codes say that they are its own.
const LOST: [Code; 3] = [Code::Unknown, Code::Cancelled, Code::Internal];

/// Why a client cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address is none, or TLS cannot be used with it.
    #[error("the server's address cannot be used")]
    Address(#[from] tonic::transport::Error),
    /// The key has characters that cannot be sent.
    #[error("the key has characters that cannot be sent")]
    Key,
}

/// Why a question was not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The server said why.
    #[error("{message}")]
    Refused {
        /// The status' code.
        code: Code,
        /// The reason; `None` where it is not the server that refused, as when it cannot be reached.
        reason: Option<ErrorReason>,
        /// One sentence for people, without secrets.
        message: String,
        /// When trying again may help.
        retry_after: Option<Duration>,
    },
    /// The connection was lost before the answer, also when it was asked again. Whether it was done is not known.
    #[error("the connection was lost before the answer: {message}")]
    Lost {
        /// One sentence for people, without secrets.
        message: String,
    },
    /// There was no answer in time. Whether it was done is not known.
    #[error("no answer in time")]
    Deadline,
    /// The server's answer lacks what it promises.
    #[error("the server's answer lacks {0}")]
    Incomplete(&'static str),
    /// The system has no random bytes for an id.
    #[error("the system has no random bytes")]
    NoRandomness,
}

/// Why a report was not answered.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{error}")]
pub struct ReportError {
    /// Why.
    #[source]
    pub error: Error,
    /// The records as they were sent, with the `event_id` and the `occur_time` that they got. Whether they were
    /// taken is not known; reported again just so, they count once.
    pub records: Vec<v1::UsageRecord>,
}

impl Error {
    /// The reason that the server gave.
    pub fn reason(&self) -> Option<ErrorReason> {
        match self {
            Self::Refused { reason, .. } => *reason,
            _ => None,
        }
    }

    /// Whether the same question may be answered a moment later.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(self, Self::Lost { .. } | Self::Refused { code: Code::Unavailable, .. })
    }
}

impl From<ReportError> for Error {
    fn from(error: ReportError) -> Self {
        error.error
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info().filter(|info| info.domain == ERROR_DOMAIN);
        if info.is_none() && LOST.contains(&status.code()) {
            return Self::Lost { message: status.message().to_owned() };
        }
        Self::Refused {
            code: status.code(),
            reason: info.and_then(|info| ErrorReason::from_error_info_reason(&info.reason)),
            message: status.message().to_owned(),
            retry_after: details.retry_info().and_then(|info| info.retry_delay),
        }
    }
}
