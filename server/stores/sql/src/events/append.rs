//! Appending a batch: rows go in by the hundred, and whoever did not go in learns why.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use rateguard_core::counter::Position;
use rateguard_core::ids::{EventId, WorkspaceId};
use rateguard_core::money::Nanos;
use rateguard_core::usage::{EventFlags, UsageEvent};
use rateguard_engine::ports::{AppendOutcome, Appended, StoreError};

use super::hash::{id_hash, reservation_hash};
use super::row::{COLUMNS, bind, column};
use super::{STORE, column_failure, corrupt, from_position_column};
use crate::database::{Connection, Kind, Row, failure, query, query_scalar};

/// Rows of one statement. A batch is cut into these sizes and no others, so that each statement is
/// prepared once; the largest stays far below the 32,766 arguments that SQLite takes.
const STATEMENT_ROWS: [usize; 4] = [256, 32, 4, 1];

/// The statements of [`STATEMENT_ROWS`].
static INSERTS: LazyLock<[String; STATEMENT_ROWS.len()]> =
    LazyLock::new(|| STATEMENT_ROWS.map(|rows| insert_sql(Kind::Sqlite, rows)));

/// Appends events within a transaction.
pub(super) async fn append(
    connection: &mut Connection,
    events: &[UsageEvent],
) -> Result<Appended, StoreError> {
    let head = head(connection).await?;
    let numbers = workspace_numbers(connection, events).await?;
    let mut outcomes = Vec::with_capacity(events.len());
    while outcomes.len() < events.len() {
        let (size, sql) = statement_for(events.len() - outcomes.len());
        let chunk = &events[outcomes.len()..outcomes.len() + size];
        let first = head + count(outcomes.len()) + 1;
        outcomes.extend(append_chunk(connection, sql, chunk, first, &numbers).await?);
    }
    if let Some(last) = outcomes.iter().rev().find_map(position_of) {
        move_head(connection, last).await?;
    }
    Ok(Appended { before: from_position_column(head), outcomes })
}

/// The largest statement that the rows left fill.
fn statement_for(rows_left: usize) -> (usize, &'static str) {
    let place = STATEMENT_ROWS.iter().position(|size| *size <= rows_left).unwrap_or(STATEMENT_ROWS.len() - 1);
    (STATEMENT_ROWS[place], INSERTS[place].as_str())
}

fn insert_sql(kind: Kind, rows: usize) -> String {
    let values = kind.placeholders(COLUMNS.len(), rows);
    format!("INSERT INTO events ({}) VALUES {values} ON CONFLICT DO NOTHING", COLUMNS.join(","))
}

async fn append_chunk(
    connection: &mut Connection,
    sql: &'static str,
    events: &[UsageEvent],
    first: i64,
    numbers: &WorkspaceNumbers,
) -> Result<Vec<AppendOutcome>, StoreError> {
    let mut statement = query(sql).with_room(events.len() * COLUMNS.len());
    for (place, event) in events.iter().enumerate() {
        statement = bind(statement, first + count(place), numbers.of(event)?, event)?;
    }
    let done = statement.execute(&mut *connection).await.map_err(failure(STORE))?;
    if done.rows_affected() == count(events.len()).unsigned_abs() {
        return Ok((first..).take(events.len()).map(in_log).collect());
    }
    explain(connection, events, first).await
}

fn in_log(position: i64) -> AppendOutcome {
    AppendOutcome::Appended(from_position_column(position))
}

/// Says of each event whether its own row went in, and else which event was there before.
async fn explain(
    connection: &mut Connection,
    events: &[UsageEvent],
    first: i64,
) -> Result<Vec<AppendOutcome>, StoreError> {
    let taken = positions_from(connection, first).await?;
    let mut outcomes = Vec::with_capacity(events.len());
    for (event, position) in events.iter().zip(first..) {
        outcomes.push(match taken.contains(&position) {
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
    let sql = "SELECT position, cost_nanos, flags FROM events WHERE event_hash = $1";
    let query = query(sql).bind(id_hash(&event.workspace, event.event_id.as_str()));
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
    let sql = "SELECT event_id FROM events WHERE reservation_hash = $1 AND nullif(attempt, 0) = $2";
    let found: Option<String> = query_scalar(sql)
        .bind(reservation_hash(&event.workspace, reservation))
        .bind(i64::from(event.attempt))
        .fetch_optional(connection)
        .await
        .map_err(failure(STORE))?;
    let first = EventId::parse("event_id", &found.ok_or_else(lost)?);
    Ok(AppendOutcome::AttemptTaken { first: first.map_err(|error| corrupt(error.to_string()))? })
}

/// The last position given. The transaction has the database for itself until it ends.
async fn head(connection: &mut Connection) -> Result<i64, StoreError> {
    query_scalar("SELECT position FROM head").fetch_one(connection).await.map_err(failure(STORE))
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
