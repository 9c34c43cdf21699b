//! Pages of raw events, newest position first.
//!
//! A filter that names an event, a check or a reservation goes by its index. Any other one looks
//! through the workspace's events from the newest on, or through those of its range of time when
//! they are few. Either way the number of rows looked at is bounded: a page of a filter that few
//! events pass may end early, even without any, and says where the next one goes on. A unary plus
//! keeps SQLite from choosing another index than the one meant.

use rateguard_core::counter::Position;
use rateguard_core::ids::WorkspaceId;
use rateguard_core::time::Millis;
use rateguard_core::usage::LoggedEvent;
use rateguard_engine::ports::{EventFilter, EventPage, EventQuery, StoreError};

use super::scan::RAW_EVENTS_MAX;
use crate::database::{Connection, Kind, QueryBuilder, failure, query_scalar};
use crate::events::{
    READ_EVENTS_MAX, SELECT, STORE, column_failure, from_position_column, id_hash, named_by_event, read,
    request_hash, to_limit, to_position_column,
};

/// Entries of the index of times that are counted to learn where a range lies.
const TIME_ENTRIES_MAX: i64 = 1_000_000;

/// Which rows are looked at.
enum Candidates {
    /// None.
    None,
    /// Those that an index names, as this kind of database has it.
    Named(Kind),
    /// Those of the range of time.
    Timed,
    /// The workspace's between these positions, both included.
    Walked {
        lowest: i64,
        highest: i64,
        /// Whether all that could match are between them.
        complete: bool,
    },
}

impl Candidates {
    /// Where the next page begins when this one has all that was found among its candidates.
    fn next_before(&self) -> Option<Position> {
        match self {
            Self::Walked { lowest, complete: false, .. } => Some(from_position_column(*lowest)),
            _ => None,
        }
    }

    fn order(&self) -> &'static str {
        match self {
            Self::Timed => " ORDER BY +e.position DESC",
            Self::None | Self::Named(_) | Self::Walked { .. } => " ORDER BY e.position DESC",
        }
    }
}

/// Where the events of a range of time lie.
struct Extent {
    /// All that were counted.
    entries: i64,
    /// Of these, those before the page, and between which positions they lie.
    before: i64,
    lowest: i64,
    highest: i64,
}

/// Reads one page.
pub(super) async fn page(
    connection: &mut Connection,
    workspace: &WorkspaceId,
    query: &EventQuery,
) -> Result<EventPage, StoreError> {
    let limit = page_limit(query);
    let Some(number) = workspace_number(connection, workspace).await? else {
        return Ok(EventPage::default());
    };
    let candidates = candidates(connection, number, &query.filter, before(query)).await?;
    let mut select = statement(SELECT, workspace, number, query, &candidates);
    let rows = select.build().fetch_all(connection).await.map_err(failure(STORE))?;
    let events = rows.iter().take(limit).map(read).collect::<Result<Vec<LoggedEvent>, _>>()?;
    let last = events.last().filter(|_| rows.len() > limit).map(|event| event.position);
    Ok(EventPage { events, next_before: last.or_else(|| candidates.next_before()) })
}

/// Reads events in the order of accounting time, by its index.
pub(super) async fn accounted_after(
    connection: &mut Connection,
    workspace: &WorkspaceId,
    (accounted_at, position): (Millis, Position),
    through: Position,
    limit: usize,
) -> Result<Vec<LoggedEvent>, StoreError> {
    let Some(number) = workspace_number(connection, workspace).await? else { return Ok(Vec::new()) };
    let mut select = QueryBuilder::new(SELECT);
    select.push(" WHERE e.workspace = ").push_bind(number);
    select.push(" AND (e.accounted_at, e.position) > (").push_bind(accounted_at.get());
    select.push(", ").push_bind(to_position_column(position)).push(")");
    select.push(" AND +e.position <= ").push_bind(to_position_column(through));
    select
        .push(" ORDER BY e.accounted_at, e.position LIMIT ")
        .push_bind(to_limit(limit.min(READ_EVENTS_MAX)));
    let rows = select.build().fetch_all(connection).await.map_err(failure(STORE))?;
    rows.iter().map(read).collect()
}

/// The statement that reads one page and one event more, which tells whether there are more.
fn statement(
    select: &str,
    workspace: &WorkspaceId,
    number: i64,
    query: &EventQuery,
    candidates: &Candidates,
) -> QueryBuilder {
    let mut statement = QueryBuilder::new(select);
    push_candidates(&mut statement, workspace, number, &query.filter, candidates);
    push_conditions(&mut statement, &query.filter);
    statement.push(" AND +e.position < ").push_bind(before(query));
    statement.push(candidates.order());
    statement.push(" LIMIT ").push_bind(to_limit(page_limit(query) + 1));
    statement
}

fn page_limit(query: &EventQuery) -> usize {
    query.limit.min(READ_EVENTS_MAX)
}

fn before(query: &EventQuery) -> i64 {
    query.before.map_or(i64::MAX, to_position_column)
}

async fn workspace_number(
    connection: &mut Connection,
    workspace: &WorkspaceId,
) -> Result<Option<i64>, StoreError> {
    let query = query_scalar("SELECT number FROM workspaces WHERE id = $1");
    query.bind(workspace.as_str().to_owned()).fetch_optional(connection).await.map_err(failure(STORE))
}

async fn candidates(
    connection: &mut Connection,
    workspace: i64,
    filter: &EventFilter,
    before: i64,
) -> Result<Candidates, StoreError> {
    if filter.event_id.is_some() || filter.request_id.is_some() || filter.reservation.is_some() {
        return Ok(Candidates::Named(connection.kind()));
    }
    if filter.occurred.is_none() {
        return walk(connection, workspace, 0, before - 1).await;
    }
    let extent = extent(connection, workspace, filter, before).await?;
    match (extent.entries, extent.before) {
        (many, _) if many > TIME_ENTRIES_MAX => walk(connection, workspace, 0, before - 1).await,
        (_, 0) => Ok(Candidates::None),
        (few, _) if few <= to_limit(RAW_EVENTS_MAX) => Ok(Candidates::Timed),
        _ => walk(connection, workspace, extent.lowest, extent.highest).await,
    }
}

/// Looks where the events of the range lie, up to a bound.
async fn extent(
    connection: &mut Connection,
    workspace: i64,
    filter: &EventFilter,
    before: i64,
) -> Result<Extent, StoreError> {
    let mut select = QueryBuilder::new("SELECT count(*), count(before), min(before), max(before) FROM (");
    select.push("SELECT CASE WHEN e.position < ").push_bind(before);
    select.push(" THEN e.position END AS before FROM events e WHERE e.workspace = ").push_bind(workspace);
    push_occurred(&mut select, filter, "");
    select.push(" LIMIT ").push_bind(TIME_ENTRIES_MAX + 1).push(") AS timed");
    let row = select.build().fetch_one(connection).await.map_err(failure(STORE))?;
    let number = |place: usize| row.try_get::<Option<i64>, _>(place).map_err(column_failure);
    let number = |place: usize| Ok::<i64, StoreError>(number(place)?.unwrap_or(0));
    Ok(Extent { entries: number(0)?, before: number(1)?, lowest: number(2)?, highest: number(3)? })
}

/// Goes back over the workspace's events, up to a bound.
async fn walk(
    connection: &mut Connection,
    workspace: i64,
    lowest: i64,
    highest: i64,
) -> Result<Candidates, StoreError> {
    let sql = "SELECT position FROM events WHERE workspace = $1 AND position <= $2 AND position >= $3 \
         ORDER BY position DESC LIMIT 1 OFFSET $4";
    let query = query_scalar(sql).bind(workspace).bind(highest).bind(lowest);
    let beyond: Option<i64> =
        query.bind(to_limit(RAW_EVENTS_MAX)).fetch_optional(connection).await.map_err(failure(STORE))?;
    Ok(match beyond {
        Some(beyond) => Candidates::Walked { lowest: beyond + 1, highest, complete: false },
        None => Candidates::Walked { lowest, highest, complete: true },
    })
}

fn push_candidates(
    select: &mut QueryBuilder,
    workspace: &WorkspaceId,
    number: i64,
    filter: &EventFilter,
    candidates: &Candidates,
) {
    match candidates {
        Candidates::None => {
            select.push(" WHERE 1 = 0");
        }
        Candidates::Named(kind) => {
            push_named(*kind, select, workspace, filter);
            select.push(" AND +e.workspace = ").push_bind(number);
            push_occurred(select, filter, "+");
        }
        Candidates::Timed => {
            select.push(" WHERE e.workspace = ").push_bind(number);
            push_occurred(select, filter, "");
        }
        Candidates::Walked { lowest, highest, .. } => {
            select.push(" WHERE e.workspace = ").push_bind(number);
            select.push(" AND e.position >= ").push_bind(*lowest);
            select.push(" AND e.position <= ").push_bind(*highest);
            push_occurred(select, filter, "+");
        }
    }
}

/// The narrowest name first; the others are checked on the rows that it finds.
fn push_named(kind: Kind, select: &mut QueryBuilder, workspace: &WorkspaceId, filter: &EventFilter) {
    if let Some(event) = &filter.event_id {
        let [before, after] = named_by_event(kind);
        select.push(" WHERE ").push(before).push_bind(id_hash(workspace, event.as_str())).push(after);
    } else if let Some(reservation) = &filter.reservation {
        select.push(" WHERE e.reservation_hash = ").push_bind(id_hash(workspace, reservation.as_str()));
    } else if let Some(request) = &filter.request_id {
        select.push(" WHERE e.request_hash = ").push_bind(request_hash(workspace, request));
    }
}

fn push_occurred(select: &mut QueryBuilder, filter: &EventFilter, no_index: &str) {
    if let Some(occurred) = &filter.occurred {
        select.push(format!(" AND {no_index}e.occurred_at >= ")).push_bind(occurred.start.get());
        select.push(format!(" AND {no_index}e.occurred_at < ")).push_bind(occurred.end.get());
    }
}

fn push_conditions(select: &mut QueryBuilder, filter: &EventFilter) {
    let conditions = [
        ("api", filter.api.as_ref().map(|id| id.as_str())),
        ("key_id", filter.key.as_ref().map(|id| id.as_str())),
        ("subject", filter.subject.as_deref()),
        ("model", filter.model.as_deref()),
        ("event_id", filter.event_id.as_ref().map(|id| id.as_str())),
        ("request_id", filter.request_id.as_ref().map(|id| id.as_str())),
        ("reservation", filter.reservation.as_ref().map(|id| id.as_str())),
    ];
    for (column, value) in conditions {
        if let Some(value) = value {
            select.push(format!(" AND e.{column} = ")).push_bind(value.to_owned());
        }
    }
}

#[cfg(test)]
mod tests;
