//! Appending in PostgreSQL, where `events` is cut by the month and no index can see the whole of it:
//! what counts once stands in tables of its own. Whoever appends has the log to itself, so it looks
//! first who may go in. The indexes of these tables refuse what should slip through all the same.

use std::collections::HashSet;
use std::sync::LazyLock;

use rateguard_core::usage::UsageEvent;
use rateguard_engine::ports::StoreError;
use sqlx::AssertSqlSafe;

use super::super::hash::{id_hash, reservation_hash};
use super::super::row::{COLUMNS, bind, column};
use super::super::{STORE, column_failure};
use super::{STATEMENT_ROWS, WorkspaceNumbers, size_for};
use crate::database::{Connection, Kind, Row, failure, query, query_scalar};

/// The statements of [`STATEMENT_ROWS`].
static INSERTS: LazyLock<[String; STATEMENT_ROWS.len()]> = LazyLock::new(|| STATEMENT_ROWS.map(insert_sql));

/// An attempt as its table names it.
type Attempt = (Vec<u8>, i64);

/// What is in the log already, as far as it bears on some events.
struct Taken {
    ids: HashSet<Vec<u8>>,
    attempts: HashSet<Attempt>,
}

/// Inserts the events that may go in, each at its own position, and gives the positions.
pub(super) async fn insert(
    connection: &mut Connection,
    events: &[UsageEvent],
    first: i64,
    numbers: &WorkspaceNumbers,
) -> Result<HashSet<i64>, StoreError> {
    let mut taken = Taken::read(connection, events).await?;
    let placed: Vec<(i64, &UsageEvent)> =
        (first..).zip(events).filter(|(_, event)| taken.lets_in(event)).collect();
    let mut left = placed.as_slice();
    while !left.is_empty() {
        let place = size_for(left.len());
        let (chunk, rest) = left.split_at(STATEMENT_ROWS[place]);
        insert_rows(connection, &INSERTS[place], chunk, numbers).await?;
        left = rest;
    }
    Ok(placed.into_iter().map(|(position, _)| position).collect())
}

async fn insert_rows(
    connection: &mut Connection,
    sql: &'static str,
    rows: &[(i64, &UsageEvent)],
    numbers: &WorkspaceNumbers,
) -> Result<(), StoreError> {
    let mut statement = query(sql).with_room(rows.len() * COLUMNS.len());
    for (position, event) in rows {
        statement = bind(statement, *position, numbers.of(event)?, event)?;
    }
    statement.execute(connection).await.map(drop).map_err(failure(STORE))
}

/// Fills the three tables in one statement.
fn insert_sql(rows: usize) -> String {
    format!(
        "WITH appended AS (INSERT INTO events ({}) VALUES {} \
         RETURNING event_hash, reservation_hash, attempt, position, received_at), \
         ids AS (INSERT INTO event_ids (event_hash, position, received_at) \
         SELECT event_hash, position, received_at FROM appended) \
         INSERT INTO event_attempts (reservation_hash, attempt, position, received_at) \
         SELECT reservation_hash, attempt, position, received_at FROM appended \
         WHERE reservation_hash IS NOT NULL AND attempt <> 0",
        COLUMNS.join(","),
        Kind::Postgres.placeholders(COLUMNS.len(), rows),
    )
}

impl Taken {
    async fn read(connection: &mut Connection, events: &[UsageEvent]) -> Result<Self, StoreError> {
        let ids = ids_in_log(connection, events).await?;
        let attempts: Vec<Attempt> = events.iter().filter_map(attempt_of).collect();
        let attempts = attempts_in_log(connection, &attempts, events.len()).await?;
        Ok(Self { ids, attempts })
    }

    /// Whether an event goes in; then it keeps out others like it. One that does not keeps out none.
    fn lets_in(&mut self, event: &UsageEvent) -> bool {
        let id = hash_of(event);
        let attempt = attempt_of(event);
        let is_free = !self.ids.contains(&id)
            && attempt.as_ref().is_none_or(|attempt| !self.attempts.contains(attempt));
        if is_free {
            self.ids.insert(id);
            self.attempts.extend(attempt);
        }
        is_free
    }
}

async fn ids_in_log(
    connection: &mut Connection,
    events: &[UsageEvent],
) -> Result<HashSet<Vec<u8>>, StoreError> {
    let wanted = Kind::Postgres.placeholders(events.len(), 1);
    let sql = format!("SELECT event_hash FROM event_ids WHERE event_hash IN {wanted}");
    let mut statement = query_scalar(AssertSqlSafe(sql));
    for event in events {
        statement = statement.bind(hash_of(event));
    }
    let found: Vec<Vec<u8>> = statement.fetch_all(connection).await.map_err(failure(STORE))?;
    Ok(found.into_iter().collect())
}

/// Asks for as many as there are events, the last one again and again, so that the statement is one
/// of few and stays prepared.
async fn attempts_in_log(
    connection: &mut Connection,
    attempts: &[Attempt],
    rows: usize,
) -> Result<HashSet<Attempt>, StoreError> {
    let Some(last) = attempts.last() else { return Ok(HashSet::new()) };
    let wanted = Kind::Postgres.placeholders(2, rows);
    let sql = format!(
        "SELECT reservation_hash, attempt FROM event_attempts \
         WHERE (reservation_hash, attempt) IN (VALUES {wanted})"
    );
    let mut statement = query(AssertSqlSafe(sql));
    for (reservation, attempt) in attempts.iter().chain(std::iter::repeat(last)).take(rows) {
        statement = statement.bind(reservation.clone()).bind(*attempt);
    }
    let found = statement.fetch_all(connection).await.map_err(failure(STORE))?;
    found.iter().map(read_attempt).collect()
}

fn read_attempt(row: &Row) -> Result<Attempt, StoreError> {
    Ok((row.try_get(0).map_err(column_failure)?, column(row, "attempt")?))
}

fn hash_of(event: &UsageEvent) -> Vec<u8> {
    id_hash(&event.workspace, event.event_id.as_str())
}

/// The attempt that an event settles. The server's own is none.
fn attempt_of(event: &UsageEvent) -> Option<Attempt> {
    let reservation = event.reservation.as_ref().filter(|_| event.attempt != 0)?;
    Some((reservation_hash(&event.workspace, reservation), i64::from(event.attempt)))
}
