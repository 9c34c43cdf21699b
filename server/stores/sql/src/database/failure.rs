//! What an error of the database means, by its code and never by its text.

mod postgres;

use rateguard_engine::ports::StoreError;
use sqlx::Error;

use postgres::Said;
pub(crate) use postgres::is_broken;

/// Primary result codes of SQLite (<https://www.sqlite.org/rescode.html>); an extended code keeps
/// its primary one in the lowest byte.
const SQLITE_IOERR: u32 = 10;
const SQLITE_CORRUPT: u32 = 11;
const SQLITE_NOTADB: u32 = 26;
const PRIMARY_CODE_MASK: u32 = 0xff;

/// Turns errors of statements into those of a store's port.
pub(crate) fn failure(store: &'static str) -> impl Fn(Error) -> StoreError + Copy {
    move |error| of_statement(store, &error)
}

/// The error of a statement: nothing is committed yet, so surely nothing was done.
pub(crate) fn of_statement(store: &'static str, error: &Error) -> StoreError {
    let detail = error.to_string();
    if is_corruption(error) {
        return StoreError::Corrupt { store, detail };
    }
    StoreError::Unavailable { store, detail }
}

/// The error of a commit. In SQLite a failed write or sync may leave a whole commit in the log of the
/// file, which the next opening finds; any other refusal comes before that. In PostgreSQL a connection
/// that ends may do so after the commit was written.
pub(crate) fn of_commit(store: &'static str, error: &Error) -> StoreError {
    let is_refused = match Said::in_error(error) {
        Some(said) => said.refuses_commit(),
        None => primary_code(error).is_some_and(|code| code != SQLITE_IOERR),
    };
    match is_refused {
        true => of_statement(store, error),
        false => StoreError::OutcomeUnknown { store, detail: error.to_string() },
    }
}

/// Whether the file, or a value in it, is not what was written.
pub(crate) fn is_corruption(error: &Error) -> bool {
    match error {
        Error::Database(_) => match Said::in_error(error) {
            Some(said) => said.is_damage(),
            None => matches!(primary_code(error), Some(SQLITE_CORRUPT | SQLITE_NOTADB)),
        },
        Error::ColumnDecode { .. }
        | Error::Decode(_)
        | Error::ColumnNotFound(_)
        | Error::ColumnIndexOutOfBounds { .. } => true,
        _ => false,
    }
}

/// The code without its extension; `None` when the database itself said nothing.
fn primary_code(error: &Error) -> Option<u32> {
    let code = error.as_database_error()?.code()?;
    code.parse::<u32>().ok().map(|code| code & PRIMARY_CODE_MASK)
}

#[cfg(test)]
mod tests;
