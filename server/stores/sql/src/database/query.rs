//! Statements with their values, run over a connection of either database. The driver's own are of
//! one database each, and its common one copies every value of every row.

use futures::TryStreamExt as _;
use futures::stream::BoxStream;
use sqlx::query_with;
use sqlx::{AssertSqlSafe, Error, Postgres, SqlSafeStr, SqlStr, Sqlite};

use super::connection::{Connection, Kind};
use super::row::{Column, Row};
use super::value::{Bind, Value, to_postgres, to_sqlite};

/// A statement with its values.
#[derive(Debug)]
pub(crate) struct Query {
    text: Text,
    values: Vec<Value>,
}

/// A statement of which the first column of each row is wanted.
#[derive(Debug)]
pub(crate) struct Scalar(Query);

/// A statement of which the first two columns of each row are wanted.
#[derive(Debug)]
pub(crate) struct Pair(Query);

/// The text of a statement.
#[derive(Debug)]
pub(super) enum Text {
    /// As it stands.
    Given(SqlStr),
    /// With a `?` at these places, one for each value.
    Built {
        /// The text.
        sql: String,
        /// Where the `?` stand, rising.
        places: Vec<usize>,
    },
}

/// What a statement without an answer has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Done {
    rows: u64,
}

impl Done {
    /// How many rows were changed.
    pub fn rows_affected(self) -> u64 {
        self.rows
    }
}

/// Begins a statement.
pub(crate) fn query(sql: impl SqlSafeStr) -> Query {
    Query { text: Text::Given(sql.into_sql_str()), values: Vec::new() }
}

/// Begins a statement of which the first column is wanted.
pub(crate) fn query_scalar(sql: impl SqlSafeStr) -> Scalar {
    Scalar(query(sql))
}

/// Begins a statement of which the first two columns are wanted.
pub(crate) fn query_as(sql: impl SqlSafeStr) -> Pair {
    Pair(query(sql))
}

impl Query {
    pub(super) fn built(sql: String, places: Vec<usize>, values: Vec<Value>) -> Self {
        Self { text: Text::Built { sql, places }, values }
    }

    /// Gives the next value.
    pub fn bind(mut self, value: impl Bind) -> Self {
        self.values.push(value.value());
        self
    }

    /// Makes room for this many values.
    pub fn with_room(mut self, values: usize) -> Self {
        self.values.reserve(values);
        self
    }

    /// Runs it.
    ///
    /// # Errors
    /// What the database says, as for all below.
    pub async fn execute(self, connection: &mut Connection) -> Result<Done, Error> {
        let Self { text, values } = self;
        let rows = match connection {
            Connection::Sqlite(held) => {
                let query = query_with::<Sqlite, _>(text.of(Kind::Sqlite), to_sqlite(values)?);
                query.execute(held.raw()).await?.rows_affected()
            }
            Connection::Postgres(held) => {
                let query = query_with::<Postgres, _>(text.of(Kind::Postgres), to_postgres(values)?);
                query.execute(held.raw()).await?.rows_affected()
            }
        };
        Ok(Done { rows })
    }

    /// Runs it and gives its rows as they come.
    pub fn fetch(self, connection: &mut Connection) -> BoxStream<'_, Result<Row, Error>> {
        let Self { text, values } = self;
        match connection {
            Connection::Sqlite(held) => match to_sqlite(values) {
                Ok(arguments) => {
                    let query = query_with::<Sqlite, _>(text.of(Kind::Sqlite), arguments);
                    Box::pin(query.fetch(held.raw()).map_ok(Row::Sqlite))
                }
                Err(error) => refused(error),
            },
            Connection::Postgres(held) => match to_postgres(values) {
                Ok(arguments) => {
                    let query = query_with::<Postgres, _>(text.of(Kind::Postgres), arguments);
                    Box::pin(query.fetch(held.raw()).map_ok(Row::Postgres))
                }
                Err(error) => refused(error),
            },
        }
    }

    /// Runs it and gives all rows.
    pub async fn fetch_all(self, connection: &mut Connection) -> Result<Vec<Row>, Error> {
        self.fetch(connection).try_collect().await
    }

    /// Runs it and gives the first row, if there is one.
    pub async fn fetch_optional(self, connection: &mut Connection) -> Result<Option<Row>, Error> {
        let Self { text, values } = self;
        Ok(match connection {
            Connection::Sqlite(held) => {
                let query = query_with::<Sqlite, _>(text.of(Kind::Sqlite), to_sqlite(values)?);
                query.fetch_optional(held.raw()).await?.map(Row::Sqlite)
            }
            Connection::Postgres(held) => {
                let query = query_with::<Postgres, _>(text.of(Kind::Postgres), to_postgres(values)?);
                query.fetch_optional(held.raw()).await?.map(Row::Postgres)
            }
        })
    }

    /// Runs it and gives its row.
    pub async fn fetch_one(self, connection: &mut Connection) -> Result<Row, Error> {
        self.fetch_optional(connection).await?.ok_or(Error::RowNotFound)
    }
}

impl Scalar {
    /// Gives the next value.
    pub fn bind(self, value: impl Bind) -> Self {
        Self(self.0.bind(value))
    }

    /// Runs it and gives the column of its row.
    pub async fn fetch_one<T: OwnedColumn>(self, connection: &mut Connection) -> Result<T, Error> {
        first(&self.0.fetch_one(connection).await?)
    }

    /// Runs it and gives the column of the first row, if there is one.
    pub async fn fetch_optional<T: OwnedColumn>(
        self,
        connection: &mut Connection,
    ) -> Result<Option<T>, Error> {
        self.0.fetch_optional(connection).await?.as_ref().map(first).transpose()
    }

    /// Runs it and gives the column of all rows.
    pub async fn fetch_all<T: OwnedColumn>(self, connection: &mut Connection) -> Result<Vec<T>, Error> {
        self.0.fetch_all(connection).await?.iter().map(first).collect()
    }

    pub(super) fn over(query: Query) -> Self {
        Self(query)
    }
}

impl Pair {
    /// Gives the next value.
    pub fn bind(self, value: impl Bind) -> Self {
        Self(self.0.bind(value))
    }

    /// Runs it and gives the columns of its row.
    pub async fn fetch_one<A: OwnedColumn, B: OwnedColumn>(
        self,
        connection: &mut Connection,
    ) -> Result<(A, B), Error> {
        first_two(&self.0.fetch_one(connection).await?)
    }

    /// Runs it and gives the columns of all rows.
    pub async fn fetch_all<A: OwnedColumn, B: OwnedColumn>(
        self,
        connection: &mut Connection,
    ) -> Result<Vec<(A, B)>, Error> {
        self.0.fetch_all(connection).await?.iter().map(first_two).collect()
    }
}

/// What a column holds and does not borrow from its row.
pub(crate) trait OwnedColumn: for<'r> Column<'r> {}

impl<T: for<'r> Column<'r>> OwnedColumn for T {}

fn first<T: OwnedColumn>(row: &Row) -> Result<T, Error> {
    row.try_get(0)
}

fn first_two<A: OwnedColumn, B: OwnedColumn>(row: &Row) -> Result<(A, B), Error> {
    Ok((row.try_get(0)?, row.try_get(1)?))
}

fn refused<'c>(error: Error) -> BoxStream<'c, Result<Row, Error>> {
    Box::pin(futures::stream::iter([Err(error)]))
}

impl Text {
    fn of(self, kind: Kind) -> SqlStr {
        match (self, kind) {
            (Self::Given(sql), _) => sql,
            (Self::Built { sql, .. }, Kind::Sqlite) => AssertSqlSafe(sql).into_sql_str(),
            (Self::Built { sql, places }, Kind::Postgres) => {
                AssertSqlSafe(numbered(&sql, &places)).into_sql_str()
            }
        }
    }
}

/// The text with `$1`, `$2` and so on in its places.
fn numbered(sql: &str, places: &[usize]) -> String {
    let mut text = String::with_capacity(sql.len() + 4 * places.len());
    let mut from = 0;
    for (number, place) in (1..).zip(places) {
        text.push_str(&sql[from..*place]);
        text.push_str(&format!("${number}"));
        from = place + 1;
    }
    text.push_str(&sql[from..]);
    text
}

#[cfg(test)]
mod tests;
