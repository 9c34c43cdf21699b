//! Rows of an answer, of either database.

use sqlx::error::BoxDynError;
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use sqlx::{ColumnIndex, Error, Row as _};

/// One row.
pub(crate) enum Row {
    /// Of SQLite.
    Sqlite(SqliteRow),
    /// Of PostgreSQL.
    Postgres(PgRow),
}

/// The place of a column: its number or its name.
pub(crate) trait Place: ColumnIndex<SqliteRow> + ColumnIndex<PgRow> {}

impl<T: ColumnIndex<SqliteRow> + ColumnIndex<PgRow>> Place for T {}

/// What a column holds.
pub(crate) trait Column<'r>: Sized {
    /// Reads it.
    fn read(row: &'r Row, place: impl Place) -> Result<Self, Error>;
}

impl Row {
    /// Reads a column.
    ///
    /// # Errors
    /// When there is no such column, or it holds something else.
    pub fn try_get<'r, T: Column<'r>, P: Place>(&'r self, place: P) -> Result<T, Error> {
        T::read(self, place)
    }
}

/// What both drivers read by themselves.
macro_rules! read_by_the_driver {
    ($($kind:ty),*) => {$(
        impl<'r> Column<'r> for $kind {
            fn read(row: &'r Row, place: impl Place) -> Result<Self, Error> {
                match row {
                    Row::Sqlite(row) => row.try_get(place),
                    Row::Postgres(row) => row.try_get(place),
                }
            }
        }

        impl<'r> Column<'r> for Option<$kind> {
            fn read(row: &'r Row, place: impl Place) -> Result<Self, Error> {
                match row {
                    Row::Sqlite(row) => row.try_get(place),
                    Row::Postgres(row) => row.try_get(place),
                }
            }
        }
    )*};
}

read_by_the_driver!(i64, String, &'r str, Vec<u8>, &'r [u8]);

impl Column<'_> for u16 {
    fn read(row: &Row, place: impl Place) -> Result<Self, Error> {
        narrow(row, place)
    }
}

impl Column<'_> for u32 {
    fn read(row: &Row, place: impl Place) -> Result<Self, Error> {
        narrow(row, place)
    }
}

impl Column<'_> for bool {
    fn read(row: &Row, place: impl Place) -> Result<Self, Error> {
        Ok(i64::read(row, place)? != 0)
    }
}

/// A number that the database keeps in 64 bits, in fewer.
fn narrow<T>(row: &Row, place: impl Place) -> Result<T, Error>
where
    T: TryFrom<i64, Error: Into<BoxDynError>>,
{
    T::try_from(i64::read(row, place)?).map_err(|error| Error::Decode(error.into()))
}

impl std::fmt::Debug for Row {
    /// Says only of which database it is: values may be secret.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Sqlite(_) => "Row::Sqlite",
            Self::Postgres(_) => "Row::Postgres",
        })
    }
}
