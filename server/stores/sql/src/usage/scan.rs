//! The statements that add figures up, over a rollup or over raw events.

use futures::TryStreamExt as _;
use rateguard_core::ids::WorkspaceId;
use rateguard_engine::ports::StoreError;
use sqlx::AssertSqlSafe;

use super::plan::Segment;
use super::query::Question;
use super::rollup::{Dimension, Rollup};
use super::sums::{ERROR_STATUS_MIN, LOW_END, Sums, bounded, from_columns};
use super::{STORE, corrupt};
use crate::database::{Connection, Row, failure, query, query_scalar};
use crate::events::{KIND_USAGE, column, to_limit};

/// Raw events that one query may add up, or look through: some tenths of a second.
pub(super) const RAW_EVENTS_MAX: usize = 200_000;
/// What is full when there would be more.
const RAW_EVENTS_FULL: StoreError =
    StoreError::Full { what: "the number of raw events that one query may read (200000)" };

/// What all statements of a query have in common.
pub(super) struct Scan<'a> {
    pub workspace: &'a WorkspaceId,
    pub question: &'a Question,
    /// Events up to this position count.
    pub through: i64,
}

/// Figures of one unit of time and one group.
pub(super) struct Scanned {
    /// When the unit begins; `None` when all time is one.
    pub start: Option<i64>,
    pub group: String,
    pub sums: Sums,
}

/// A statement with its arguments.
pub(super) struct Statement {
    sql: String,
    numbers: Vec<i64>,
    texts: Vec<String>,
    read_latencies: fn(&mut Sums, &str) -> Option<()>,
}

impl Scan<'_> {
    /// Adds up rows of a rollup.
    pub fn rollup(
        &self,
        rollup: &Rollup,
        grain_ms: i64,
        unit_ms: Option<i64>,
        segment: &Segment,
    ) -> Statement {
        let start = unit_ms.map_or("NULL", |_| "start");
        let sql = format!(
            "SELECT {start} AS unit, {group} AS part, {sums} FROM {table} \
             WHERE grain_ms = $1 AND start >= $2 AND start < $3 AND workspace = $4{conditions}{grouping}",
            sums = rollup_sums(),
            table = rollup.table,
            group = self.group(Dimension::column),
            conditions = self.conditions(4, Dimension::column),
            grouping = self.grouping(unit_ms),
        );
        let read_latencies = |sums: &mut Sums, text: &str| sums.latencies.add_text(text);
        Statement {
            sql,
            numbers: vec![grain_ms, segment.from, segment.to],
            texts: self.texts(),
            read_latencies,
        }
    }

    /// Adds up raw events.
    pub fn raw(&self, unit_ms: Option<i64>, segment: &Segment) -> Statement {
        let start =
            unit_ms.map_or("NULL".to_owned(), |unit_ms| format!("accounted_at - accounted_at % {unit_ms}"));
        let sql = format!(
            "SELECT {start} AS unit, {group} AS part, {sums} FROM events \
             WHERE +position <= $1 AND accounted_at >= $2 AND accounted_at < $3 \
             AND workspace = (SELECT number FROM workspaces WHERE id = $4){conditions}{grouping}",
            group = self.group(Dimension::raw_column),
            sums = raw_sums(),
            conditions = self.conditions(4, Dimension::raw_column),
            grouping = self.grouping(unit_ms),
        );
        let read_latencies = |sums: &mut Sums, text: &str| sums.latencies.record_text(text);
        Statement {
            sql,
            numbers: vec![self.through, segment.from, segment.to],
            texts: self.texts(),
            read_latencies,
        }
    }

    /// Refuses to look at more raw events than the bound.
    pub async fn check_raw_bound(
        &self,
        connection: &mut Connection,
        segments: &[Segment],
    ) -> Result<(), StoreError> {
        let sql = "SELECT count(*) FROM (SELECT 1 FROM events WHERE accounted_at >= $1 AND accounted_at < $2 \
             AND workspace = (SELECT number FROM workspaces WHERE id = $3) LIMIT $4) AS found";
        let mut left = to_limit(RAW_EVENTS_MAX);
        for segment in segments {
            let query = query_scalar(sql).bind(segment.from).bind(segment.to);
            let query = query.bind(self.workspace.as_str().to_owned()).bind(left + 1);
            let found: i64 = query.fetch_one(&mut *connection).await.map_err(failure(STORE))?;
            left -= found;
            if left < 0 {
                return Err(RAW_EVENTS_FULL);
            }
        }
        Ok(())
    }

    fn texts(&self) -> Vec<String> {
        let values = self.question.conditions.iter().map(|(_, value)| value.clone());
        std::iter::once(self.workspace.as_str().to_owned()).chain(values).collect()
    }

    fn group(&self, column: fn(Dimension) -> &'static str) -> &'static str {
        self.question.group.map_or("''", column)
    }

    fn conditions(&self, bound: usize, column: fn(Dimension) -> &'static str) -> String {
        let numbered = self.question.conditions.iter().zip(bound + 1..);
        numbered.map(|((dimension, _), number)| format!(" AND {} = ${number}", column(*dimension))).collect()
    }

    /// Without a grouping there is one row also where nothing was found, which `HAVING` takes away.
    fn grouping(&self, unit_ms: Option<i64>) -> &'static str {
        match (unit_ms, self.question.group) {
            (None, None) => " HAVING count(*) > 0",
            (None, Some(_)) => " GROUP BY part",
            (Some(_), None) => " GROUP BY unit",
            (Some(_), Some(_)) => " GROUP BY unit, part",
        }
    }
}

impl Statement {
    /// Runs it and gives each row away, until that is refused.
    pub async fn run(
        self,
        connection: &mut Connection,
        mut give: impl FnMut(Scanned) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut query = query(AssertSqlSafe(self.sql));
        for number in self.numbers {
            query = query.bind(number);
        }
        for text in self.texts {
            query = query.bind(text);
        }
        let mut rows = query.fetch(connection);
        while let Some(row) = rows.try_next().await.map_err(failure(STORE))? {
            give(scanned(&row, self.read_latencies)?)?;
        }
        Ok(())
    }
}

/// Sums that may pass 64 bits are taken in two halves.
fn rollup_sums() -> String {
    format!(
        "{}, string_agg(latencies, '') AS latencies",
        sums([
            ("requests", "requests".to_owned()),
            ("errors", "errors".to_owned()),
            ("rate_limited", "rate_limited".to_owned()),
            ("cache_hits", "cache_hits".to_owned()),
            ("cost_high", "cost_high".to_owned()),
            ("cost_low", "cost_low".to_owned()),
            ("input_high", format!("input_tokens / {LOW_END}")),
            ("input_low", format!("input_tokens % {LOW_END}")),
            ("cached_high", format!("cached_input_tokens / {LOW_END}")),
            ("cached_low", format!("cached_input_tokens % {LOW_END}")),
            ("output_high", format!("output_tokens / {LOW_END}")),
            ("output_low", format!("output_tokens % {LOW_END}")),
        ])
    )
}

fn raw_sums() -> String {
    let call = format!("kind = {KIND_USAGE}");
    let calls = |condition: &str| format!("CASE WHEN {call} AND {condition} THEN 1 ELSE 0 END");
    let amount = |column: &str, half: char| {
        format!("CASE WHEN {call} THEN coalesce({column}, 0) {half} {LOW_END} ELSE 0 END")
    };
    format!(
        "{}, string_agg(CASE WHEN {call} THEN cast(latency_ms AS text) END, ';') AS latencies",
        sums([
            ("requests", calls("1 = 1")),
            ("errors", calls(&format!("(status >= {ERROR_STATUS_MIN} OR error_type <> '')"))),
            ("rate_limited", calls("rate_limited <> 0")),
            ("cache_hits", calls("cache_hit <> 0")),
            ("cost_high", format!("cost_nanos / {LOW_END}")),
            ("cost_low", format!("cost_nanos % {LOW_END}")),
            ("input_high", amount("input_tokens", '/')),
            ("input_low", amount("input_tokens", '%')),
            ("cached_high", amount("cached_input_tokens", '/')),
            ("cached_low", amount("cached_input_tokens", '%')),
            ("output_high", amount("output_tokens", '/')),
            ("output_low", amount("output_tokens", '%')),
        ])
    )
}

/// Sums under their names. A sum over 64 bits is wider than that in PostgreSQL.
fn sums<const N: usize>(sums: [(&str, String); N]) -> String {
    sums.map(|(name, of)| format!("cast(sum({of}) AS bigint) AS {name}")).join(", ")
}

fn scanned(row: &Row, read_latencies: fn(&mut Sums, &str) -> Option<()>) -> Result<Scanned, StoreError> {
    let wide = |high, low| Ok::<_, StoreError>(from_columns(column(row, high)?, column(row, low)?));
    let mut sums = Sums {
        requests: column(row, "requests")?,
        errors: column(row, "errors")?,
        rate_limited: column(row, "rate_limited")?,
        cache_hits: column(row, "cache_hits")?,
        cost_nanos: wide("cost_high", "cost_low")?,
        input_tokens: bounded(wide("input_high", "input_low")?),
        cached_input_tokens: bounded(wide("cached_high", "cached_low")?),
        output_tokens: bounded(wide("output_high", "output_low")?),
        ..Sums::default()
    };
    // Absent where no latency was reported.
    let latencies: Option<&str> = column(row, "latencies")?;
    read_latencies(&mut sums, latencies.unwrap_or_default())
        .ok_or_else(|| corrupt("latencies are malformed"))?;
    Ok(Scanned { start: column(row, "unit")?, group: column(row, "part")?, sums })
}

#[cfg(test)]
mod tests;
