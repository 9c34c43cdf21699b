//! Appending a batch: rows go in by the hundred, and whoever did not go in learns why.

mod partitioned;

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use rateguard_core::counter::Position;
use rateguard_core::ids::{EventId, WorkspaceId};
use rateguard_core::money::Nanos;
use rateguard_core::usage::{EventFlags, UsageEvent};
use rateguard_engine::ports::{AppendOutcome, Appended, StoreError};

use sqlx::AssertSqlSafe;

use super::hash::{id_hash, reservation_hash};
use super::row::{COLUMNS, bind, column};
use super::{STORE, column_failure, corrupt, from_position_column, named_by_event};
use crate::database::{Connection, Kind, Row, failure, make_months, query, query_scalar};

/// Rows of one statement. A batch is cut into these sizes and no others, so that each statement is
/// prepared once; the largest stays far below the 32,766 arguments that SQLite takes.
const STATEMENT_ROWS: [usize; 4] = [256, 32, 4, 1];

/// The statements of [`STATEMENT_ROWS`].
static INSERTS: LazyLock<[String; STATEMENT_ROWS.len()]> = LazyLock::new(|| STATEMENT_ROWS.map(insert_sql));

/// Appends events within a transaction.
pub(super) async fn append(
    connection: &mut Connection,
    events: &[UsageEvent],
) -> Result<Appended, StoreError> {
    let head = head(connection).await?;
    let received = events.iter().map(|event| event.received_at);
    make_months(connection, &["events"], received).await.map_err(failure(STORE))?;
    let numbers = workspace_numbers(connection, events).await?;
    let mut outcomes = Vec::with_capacity(events.len());
    while outcomes.len() < events.len() {
        let place = size_for(events.len() - outcomes.len());
        let chunk = &events[outcomes.len()..outcomes.len() + STATEMENT_ROWS[place]];
        let first = head + count(outcomes.len()) + 1;
        let inserted = match connection.kind() {
            Kind::Sqlite => insert(connection, &INSERTS[place], chunk, first, &numbers).await?,
            Kind::Postgres => partitioned::insert(connection, chunk, first, &numbers).await?,
        };
        outcomes.extend(explain(connection, chunk, first, &inserted).await?);
    }
    if let Some(last) = outcomes.iter().rev().find_map(position_of) {
        move_head(connection, last).await?;
    }
    Ok(Appended { before: from_position_column(head), outcomes })
}

/// The place in [`STATEMENT_ROWS`] of the largest statement that the rows left fill.
fn size_for(rows_left: usize) -> usize {
    STATEMENT_ROWS.iter().position(|size| *size <= rows_left).unwrap_or(STATEMENT_ROWS.len() - 1)
}

fn insert_sql(rows: usize) -> String {
    let values = Kind::Sqlite.placeholders(COLUMNS.len(), rows);
    format!("INSERT INTO events ({}) VALUES {values} ON CONFLICT DO NOTHING", COLUMNS.join(","))
}

/// Inserts the events that may go in, each at its own position, and gives the positions.
async fn insert(
    connection: &mut Connection,
    sql: &'static str,
    events: &[UsageEvent],
    first: i64,
    numbers: &WorkspaceNumbers,
) -> Result<HashSet<i64>, StoreError> {
    let mut statement = query(sql).with_room(events.len() * COLUMNS.len());
    for (place, event) in events.iter().enumerate() {
        statement = bind(statement, first + count(place), numbers.of(event)?, event)?;
    }
    let done = statement.execute(&mut *connection).await.map_err(failure(STORE))?;
    match done.rows_affected() == count(events.len()).unsigned_abs() {
        true => Ok((first..).take(events.len()).collect()),
        false => positions_from(connection, first).await,
    }
}

fn in_log(position: i64) -> AppendOutcome {
    AppendOutcome::Appended(from_position_column(position))
}

/// Says of each event whether its own row went in, and else which event was there before.
async fn explain(
    connection: &mut Connection,
    events: &[UsageEvent],
    first: i64,
    inserted: &HashSet<i64>,
) -> Result<Vec<AppendOutcome>, StoreError> {
    let mut outcomes = Vec::with_capacity(events.len());
    for (event, position) in events.iter().zip(first..) {
        outcomes.push(match inserted.contains(&position) {
            true => in_log(position),
            false => why_not(connection, event, position).await?,
        });
    }
    Ok(outcomes)
}

/// The positions that the last statement has filled: none are beyond.
async fn positions_from(connection: &mut Connection, first: i64) -> Result<HashSet<i64>, StoreError> {
    let query = query_scalar("SELECT position FROM events WHERE position >= $1").bind(first);
    let positions: Vec<i64> = query.fetch_all(connection).await.map_err(failure(STORE))?;
    Ok(positions.into_iter().collect())
}

/// A copy that stands later in the same batch did not keep this event out: then it was the attempt.
async fn why_not(
    connection: &mut Connection,
    event: &UsageEvent,
    position: i64,
) -> Result<AppendOutcome, StoreError> {
    match first_copy(connection, event).await? {
        Some((first, outcome)) if first < position => Ok(outcome),
        _ => attempt_taken(connection, event).await,
    }
}

async fn first_copy(
    connection: &mut Connection,
    event: &UsageEvent,
) -> Result<Option<(i64, AppendOutcome)>, StoreError> {
    let [before, after] = named_by_event(connection.kind());
    let sql = format!("SELECT e.position, e.cost_nanos, e.flags FROM events e WHERE {before}$1{after}");
    let query = query(AssertSqlSafe(sql)).bind(id_hash(&event.workspace, event.event_id.as_str()));
    let found = query.fetch_optional(connection).await.map_err(failure(STORE))?;
    found.as_ref().map(read_first_copy).transpose()
}

fn read_first_copy(row: &Row) -> Result<(i64, AppendOutcome), StoreError> {
    let position = column(row, "position")?;
    let outcome = AppendOutcome::Duplicate {
        position: from_position_column(position),
        cost: Nanos::from_stored(column(row, "cost_nanos")?),
        flags: EventFlags(column(row, "flags")?),
    };
    Ok((position, outcome))
}

async fn attempt_taken(connection: &mut Connection, event: &UsageEvent) -> Result<AppendOutcome, StoreError> {
    let lost = || corrupt(format!("event {} was neither appended nor found", event.event_id));
    let reservation = event.reservation.as_ref().ok_or_else(lost)?;
    let sql = match connection.kind() {
        Kind::Sqlite => "SELECT event_id FROM events WHERE reservation_hash = $1 AND nullif(attempt, 0) = $2",
        Kind::Postgres => {
            "SELECT event_id FROM events WHERE (position, received_at) = \
             (SELECT position, received_at FROM event_attempts WHERE reservation_hash = $1 AND attempt = $2)"
        }
    };
    let found: Option<String> = query_scalar(sql)
        .bind(reservation_hash(&event.workspace, reservation))
        .bind(i64::from(event.attempt))
        .fetch_optional(connection)
        .await
        .map_err(failure(STORE))?;
    let first = EventId::parse("event_id", &found.ok_or_else(lost)?);
    Ok(AppendOutcome::AttemptTaken { first: first.map_err(|error| corrupt(error.to_string()))? })
}

/// The last position given. The transaction has the log for itself until it ends.
async fn head(connection: &mut Connection) -> Result<i64, StoreError> {
    let sql = format!("SELECT position FROM head{}", connection.kind().for_update());
    query_scalar(AssertSqlSafe(sql)).fetch_one(connection).await.map_err(failure(STORE))
}

async fn move_head(connection: &mut Connection, last: Position) -> Result<(), StoreError> {
    let query = query("UPDATE head SET position = $1").bind(super::to_position_column(last));
    query.execute(connection).await.map(drop).map_err(failure(STORE))
}

fn position_of(outcome: &AppendOutcome) -> Option<Position> {
    match outcome {
        AppendOutcome::Appended(position) => Some(*position),
        AppendOutcome::Duplicate { .. } | AppendOutcome::AttemptTaken { .. } => None,
    }
}

/// The numbers of a batch's workspaces.
struct WorkspaceNumbers(HashMap<WorkspaceId, i64>);

impl WorkspaceNumbers {
    fn of(&self, event: &UsageEvent) -> Result<i64, StoreError> {
        let number = self.0.get(&event.workspace).copied();
        number.ok_or_else(|| corrupt(format!("workspace {} has no number", event.workspace)))
    }
}

async fn workspace_numbers(
    connection: &mut Connection,
    events: &[UsageEvent],
) -> Result<WorkspaceNumbers, StoreError> {
    let mut numbers = HashMap::new();
    for event in events {
        if !numbers.contains_key(&event.workspace) {
            let number = workspace_number(connection, &event.workspace).await?;
            numbers.insert(event.workspace.clone(), number);
        }
    }
    Ok(WorkspaceNumbers(numbers))
}

async fn workspace_number(connection: &mut Connection, workspace: &WorkspaceId) -> Result<i64, StoreError> {
    let known = query("SELECT number FROM workspaces WHERE id = $1").bind(workspace.as_str().to_owned());
    if let Some(row) = known.fetch_optional(&mut *connection).await.map_err(failure(STORE))? {
        return row.try_get(0).map_err(column_failure);
    }
    let insert = query_scalar("INSERT INTO workspaces (id) VALUES ($1) RETURNING number");
    insert.bind(workspace.as_str().to_owned()).fetch_one(connection).await.map_err(failure(STORE))
}

/// A number of rows as positions count them. A batch is far below either bound.
fn count(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}
