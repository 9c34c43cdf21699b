//! What the codes of PostgreSQL mean (<https://www.postgresql.org/docs/15/errcodes-appendix.html>).

use sqlx::Error;
use sqlx::postgres::{PgDatabaseError, PgSeverity};

/// Damaged data, and a damaged index.
const DAMAGED: [&str; 2] = ["XX001", "XX002"];
/// Whether a statement was completed is unknown.
const COMPLETION_UNKNOWN: &str = "40003";
/// The class of what goes wrong with a connection.
const CONNECTION_CLASS: &str = "08";
/// The server goes down, has gone down, or is not up yet.
const SERVER_AWAY: [&str; 3] = ["57P01", "57P02", "57P03"];

/// What PostgreSQL said with an error.
pub(super) struct Said<'e> {
    /// Whether the connection ended with it.
    pub is_fatal: bool,
    /// The five characters of SQLSTATE.
    pub code: &'e str,
}

impl<'e> Said<'e> {
    /// Reads an error; `None` when the server itself said nothing.
    pub fn in_error(error: &'e Error) -> Option<Self> {
        let error = error.as_database_error()?.try_downcast_ref::<PgDatabaseError>()?;
        let is_fatal = matches!(error.severity(), PgSeverity::Fatal | PgSeverity::Panic);
        Some(Self { is_fatal, code: error.code() })
    }

    pub fn is_damage(&self) -> bool {
        DAMAGED.contains(&self.code)
    }

    /// Whether a commit that was answered like this has surely written nothing. An answer that left
    /// the connection open is one to a transaction that was rolled back; one that ended it may come
    /// after the commit was written.
    pub fn refuses_commit(&self) -> bool {
        !self.is_fatal && self.code != COMPLETION_UNKNOWN && !self.code.starts_with(CONNECTION_CLASS)
    }

    /// Whether the connection it came over is of no more use.
    pub fn ends_connection(&self) -> bool {
        self.is_fatal || SERVER_AWAY.contains(&self.code) || self.code.starts_with(CONNECTION_CLASS)
    }
}

/// Whether a connection to a server was found broken.
pub(crate) fn is_broken(error: &Error) -> bool {
    match error {
        Error::Io(_) | Error::Protocol(_) => true,
        error => Said::in_error(error).is_some_and(|said| said.ends_connection()),
    }
}

#[cfg(test)]
mod tests;
