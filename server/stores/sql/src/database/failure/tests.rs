//! Tests of the table from codes to errors.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;

use sqlx::error::{DatabaseError, ErrorKind};

use super::*;

/// An error of the database with nothing but a code.
#[derive(Debug)]
struct Code(u32);

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "code {}", self.0)
    }
}

impl StdError for Code {}

impl DatabaseError for Code {
    fn message(&self) -> &str {
        "a message that says nothing"
    }

    fn code(&self) -> Option<Cow<'_, str>> {
        Some(self.0.to_string().into())
    }

    fn as_error(&self) -> &(dyn StdError + Send + Sync + 'static) {
        self
    }

    fn as_error_mut(&mut self) -> &mut (dyn StdError + Send + Sync + 'static) {
        self
    }

    fn into_error(self: Box<Self>) -> Box<dyn StdError + Send + Sync + 'static> {
        self
    }

    fn kind(&self) -> ErrorKind {
        ErrorKind::Other
    }
}

fn code(code: u32) -> Error {
    Error::Database(Box::new(Code(code)))
}

const BUSY: u32 = 5;
const READONLY: u32 = 8;
const FULL: u32 = 13;
const CANTOPEN: u32 = 14;
const IOERR_FSYNC: u32 = SQLITE_IOERR | 4 << 8;
const CORRUPT_INDEX: u32 = SQLITE_CORRUPT | 3 << 8;

#[test]
fn a_disk_that_does_not_take_a_statement_is_unavailable() {
    for refused in [BUSY, READONLY, FULL, CANTOPEN, SQLITE_IOERR, IOERR_FSYNC] {
        let error = of_statement("test", &code(refused));
        assert!(matches!(error, StoreError::Unavailable { store: "test", .. }), "{error}");
    }
    for error in [Error::PoolTimedOut, Error::PoolClosed, Error::WorkerCrashed] {
        assert!(matches!(of_statement("test", &error), StoreError::Unavailable { .. }), "{error}");
    }
}

#[test]
fn damage_is_corruption_whatever_its_extended_code() {
    for damaged in [SQLITE_CORRUPT, CORRUPT_INDEX, SQLITE_NOTADB] {
        let error = of_statement("test", &code(damaged));
        assert!(matches!(error, StoreError::Corrupt { store: "test", .. }), "{error}");
    }
    let error = of_statement("test", &Error::ColumnNotFound("id".to_owned()));
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
}

#[test]
fn a_commit_is_surely_not_done_when_the_disk_was_full_or_busy() {
    for refused in [BUSY, READONLY, FULL] {
        let error = of_commit("test", &code(refused));
        assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
    }
}

#[test]
fn a_commit_whose_sync_failed_or_whose_connection_died_may_have_been_done() {
    for unknown in [code(SQLITE_IOERR), code(IOERR_FSYNC), Error::WorkerCrashed] {
        let error = of_commit("test", &unknown);
        assert!(matches!(error, StoreError::OutcomeUnknown { store: "test", .. }), "{error}");
    }
}
