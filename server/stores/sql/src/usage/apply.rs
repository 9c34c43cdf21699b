//! Adding a batch of events to the rollups, once.
//!
//! A row is read, added to here, and written whole: the database's own arithmetic would leave the
//! integers where they end, and cannot add histograms. There is one writer, so nothing comes in
//! between.

use rateguard_core::usage::{LoggedEvent, UsageEvent};
use rateguard_engine::ports::StoreError;
use sqlx::AssertSqlSafe;

use super::rollup::{ROLLUPS, Rollup, RowKey};
use super::sums::{Sums, from_columns, to_columns};
use super::{STORE, corrupt};
use crate::database::{Connection, Kind, Query, Row, failure, make_months, query, query_scalar};
use crate::events::{column, to_position_column};

/// Rows of one statement. Rows are cut into these sizes and no others, so that each statement is
/// prepared once.
const STATEMENT_ROWS: [usize; 3] = [64, 8, 1];
/// The columns of sums.
const SUM_COLUMNS: [&str; 10] = [
    "requests",
    "errors",
    "rate_limited",
    "cache_hits",
    "cost_high",
    "cost_low",
    "input_tokens",
    "cached_input_tokens",
    "output_tokens",
    "latencies",
];

type KeyedSums<'a> = (RowKey<'a>, Sums);

/// The position up to which events are rolled up.
pub(super) async fn cursor(connection: &mut Connection) -> Result<i64, StoreError> {
    let query = query_scalar("SELECT position FROM progress");
    query.fetch_one(connection).await.map_err(failure(STORE))
}

/// The same, held until the transaction ends.
async fn held_cursor(connection: &mut Connection) -> Result<i64, StoreError> {
    let sql = format!("SELECT position FROM progress{}", connection.kind().for_update());
    query_scalar(AssertSqlSafe(sql)).fetch_one(connection).await.map_err(failure(STORE))
}

/// Adds the events beyond the cursor, and moves it.
pub(super) async fn apply(connection: &mut Connection, logged: &[LoggedEvent]) -> Result<(), StoreError> {
    let cursor = held_cursor(connection).await?;
    let (events, last) = beyond(cursor, logged);
    if events.is_empty() {
        return Ok(());
    }
    let accounted = events.iter().map(|event| event.accounted_at);
    let tables = ROLLUPS.each_ref().map(|rollup| rollup.table);
    make_months(connection, &tables, accounted).await.map_err(failure(STORE))?;
    for rollup in &ROLLUPS {
        add_rows(connection, rollup, rollup.fold(&events)).await?;
    }
    let query = query("UPDATE progress SET position = $1").bind(last);
    query.execute(connection).await.map(drop).map_err(failure(STORE))
}

/// The events that are new, and the last position. One that does not rise has been counted.
fn beyond(cursor: i64, logged: &[LoggedEvent]) -> (Vec<&UsageEvent>, i64) {
    let mut last = cursor;
    let is_new = |logged: &&LoggedEvent| {
        let position = to_position_column(logged.position);
        let rises = position > last;
        last = last.max(position);
        rises
    };
    let events = logged.iter().filter(is_new).map(|logged| &logged.event).collect();
    (events, last)
}

async fn add_rows(
    connection: &mut Connection,
    rollup: &Rollup,
    mut rows: Vec<KeyedSums<'_>>,
) -> Result<(), StoreError> {
    let mut left = rows.as_mut_slice();
    while !left.is_empty() {
        let size = STATEMENT_ROWS.into_iter().find(|size| *size <= left.len()).unwrap_or(1);
        let (chunk, rest) = left.split_at_mut(size);
        add_stored(connection, rollup, chunk).await?;
        write(connection, rollup, chunk).await?;
        left = rest;
    }
    Ok(())
}

/// Adds to each row what is stored of it.
async fn add_stored(
    connection: &mut Connection,
    rollup: &Rollup,
    rows: &mut [KeyedSums<'_>],
) -> Result<(), StoreError> {
    let sql = select_sql(connection.kind(), rollup, rows.len());
    let mut statement = query(AssertSqlSafe(sql));
    for (place, (key, _)) in rows.iter().enumerate() {
        statement = bind_key(statement.bind(i64::try_from(place).unwrap_or(i64::MAX)), key);
    }
    let stored = statement.fetch_all(connection).await.map_err(failure(STORE))?;
    for row in &stored {
        let place = usize::try_from(column::<i64>(row, "place")?).ok();
        let asked = place.and_then(|place| rows.get_mut(place));
        let (_, sums) = asked.ok_or_else(|| corrupt("a row that was not asked for"))?;
        sums.add(&read_sums(row)?);
    }
    Ok(())
}

async fn write(
    connection: &mut Connection,
    rollup: &Rollup,
    rows: &[KeyedSums<'_>],
) -> Result<(), StoreError> {
    let sql = upsert_sql(connection.kind(), rollup, rows.len());
    let mut statement = query(AssertSqlSafe(sql));
    for (key, sums) in rows {
        statement = bind_sums(bind_key(statement, key), sums);
    }
    statement.execute(connection).await.map(drop).map_err(failure(STORE))
}

fn bind_key(statement: Query, key: &RowKey<'_>) -> Query {
    let statement = statement.bind(key.workspace.to_owned()).bind(key.grain_ms).bind(key.start);
    key.values.iter().fold(statement, |statement, value| statement.bind(value.clone().into_owned()))
}

fn bind_sums(statement: Query, sums: &Sums) -> Query {
    let (cost_high, cost_low) = to_columns(sums.cost_nanos);
    statement
        .bind(sums.requests)
        .bind(sums.errors)
        .bind(sums.rate_limited)
        .bind(sums.cache_hits)
        .bind(cost_high)
        .bind(cost_low)
        .bind(sums.input_tokens)
        .bind(sums.cached_input_tokens)
        .bind(sums.output_tokens)
        .bind(sums.latencies.to_text())
}

fn read_sums(row: &Row) -> Result<Sums, StoreError> {
    let mut sums = Sums {
        requests: column(row, "requests")?,
        errors: column(row, "errors")?,
        rate_limited: column(row, "rate_limited")?,
        cache_hits: column(row, "cache_hits")?,
        cost_nanos: from_columns(column(row, "cost_high")?, column(row, "cost_low")?),
        input_tokens: column(row, "input_tokens")?,
        cached_input_tokens: column(row, "cached_input_tokens")?,
        output_tokens: column(row, "output_tokens")?,
        ..Sums::default()
    };
    let text: &str = column(row, "latencies")?;
    sums.latencies.add_text(text).ok_or_else(|| corrupt("a histogram is malformed"))?;
    Ok(sums)
}

fn key_columns(rollup: &Rollup) -> Vec<&'static str> {
    let dimensions = rollup.dimensions.iter().map(|dimension| dimension.column());
    ["workspace", "grain_ms", "start"].into_iter().chain(dimensions).collect()
}

fn select_sql(kind: Kind, rollup: &Rollup, rows: usize) -> String {
    let keys = key_columns(rollup);
    let same: Vec<String> = keys.iter().map(|key| format!("stored.{key} = wanted.{key}")).collect();
    format!(
        "WITH wanted (place, {}) AS (VALUES {}) SELECT wanted.place, {} FROM wanted CROSS JOIN {} stored WHERE {}",
        keys.join(", "),
        kind.placeholders(keys.len() + 1, rows),
        SUM_COLUMNS.join(", "),
        rollup.table,
        same.join(" AND "),
    )
}

fn upsert_sql(kind: Kind, rollup: &Rollup, rows: usize) -> String {
    let keys = key_columns(rollup);
    let changes: Vec<String> = SUM_COLUMNS.iter().map(|sum| format!("{sum} = excluded.{sum}")).collect();
    format!(
        "INSERT INTO {} ({}, {}) VALUES {} ON CONFLICT ({}) DO UPDATE SET {}",
        rollup.table,
        keys.join(", "),
        SUM_COLUMNS.join(", "),
        kind.placeholders(keys.len() + SUM_COLUMNS.len(), rows),
        keys.join(", "),
        changes.join(", "),
    )
}
