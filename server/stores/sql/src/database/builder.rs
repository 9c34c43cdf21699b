//! Statements that are put together from pieces.

use std::fmt::{Display, Write as _};

use super::query::{Query, Scalar};
use super::value::{Bind, Value};

/// A statement in the making.
#[derive(Debug)]
pub(crate) struct QueryBuilder {
    sql: String,
    places: Vec<usize>,
    values: Vec<Value>,
}

/// Continues a statement with a list.
#[derive(Debug)]
pub(crate) struct Separated<'b> {
    builder: &'b mut QueryBuilder,
    separator: &'static str,
    has_any: bool,
}

impl QueryBuilder {
    /// Begins with a text, which must not come from a caller.
    pub fn new(sql: impl Into<String>) -> Self {
        Self { sql: sql.into(), places: Vec::new(), values: Vec::new() }
    }

    /// Continues with a text, which must not come from a caller.
    pub fn push(&mut self, sql: impl Display) -> &mut Self {
        // Writing into a string cannot fail.
        let _infallible = write!(self.sql, "{sql}");
        self
    }

    /// Continues with a value.
    pub fn push_bind(&mut self, value: impl Bind) -> &mut Self {
        self.places.push(self.sql.len());
        self.values.push(value.value());
        self.sql.push('?');
        self
    }

    /// Continues with a list.
    pub fn separated(&mut self, separator: &'static str) -> Separated<'_> {
        Separated { builder: self, separator, has_any: false }
    }

    /// Continues with `VALUES` and a row for each of `rows`.
    pub fn push_values<T>(
        &mut self,
        rows: impl IntoIterator<Item = T>,
        mut push_row: impl FnMut(Separated<'_>, T),
    ) -> &mut Self {
        self.push("VALUES ");
        for (number, row) in rows.into_iter().enumerate() {
            self.push(if number == 0 { "(" } else { ", (" });
            push_row(self.separated(", "), row);
            self.push(")");
        }
        self
    }

    /// The statement; the builder is empty afterwards.
    pub fn build(&mut self) -> Query {
        let Self { sql, places, values } = std::mem::replace(self, Self::new(""));
        Query::built(sql, places, values)
    }

    /// The statement, of which the first column is wanted.
    pub fn build_query_scalar(&mut self) -> Scalar {
        Scalar::over(self.build())
    }
}

impl Separated<'_> {
    /// The next value of the list.
    pub fn push_bind(&mut self, value: impl Bind) -> &mut Self {
        if self.has_any {
            self.builder.push(self.separator);
        }
        self.has_any = true;
        self.builder.push_bind(value);
        self
    }
}
