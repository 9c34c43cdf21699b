//! The feed of changes, and the lock that keeps it in order.

use rateguard_core::ids::{SessionId, UserId, WorkspaceId};
use rateguard_core::time::Millis;
use rateguard_engine::ports::{PeopleChange, PeopleFeed, StoreError};

use super::row::{parsed, role, text, version};
use super::{STORE, corrupt, row_limit};
use crate::config::workspace_of;
use crate::database::{Connection, Feed, Row, failure, notify, query, query_scalar};

const SESSION: &str = "session";
const ROLE: &str = "role";
const WORKSPACE: &str = "workspace";
const SIGNING_KEYS: &str = "signing_keys";

/// An entry to record.
#[derive(Clone, Copy)]
pub(super) enum Entry<'a> {
    SessionEnded(&'a str),
    Role(&'a WorkspaceId, &'a UserId),
    Workspace(&'a WorkspaceId),
    SigningKeys,
}

pub(super) async fn record(
    connection: &mut Connection,
    entry: Entry<'_>,
    now: Millis,
) -> Result<(), StoreError> {
    let (kind, session, workspace, user) = match entry {
        Entry::SessionEnded(session) => (SESSION, Some(session), None, None),
        Entry::Role(workspace, user) => (ROLE, None, Some(workspace.as_str()), Some(user.as_str())),
        Entry::Workspace(workspace) => (WORKSPACE, None, Some(workspace.as_str()), None),
        Entry::SigningKeys => (SIGNING_KEYS, None, None, None),
    };
    let take = "UPDATE people_revisions SET revision = revision + 1 WHERE only_row = 1 RETURNING revision";
    let revision: i64 = query_scalar(take).fetch_one(&mut *connection).await.map_err(failure(STORE))?;
    let insert = "INSERT INTO people_changes (revision, kind, session_id, workspace_id, user_id, changed_at) \
                  VALUES ($1, $2, $3, $4, $5, $6)";
    query(insert)
        .bind(revision)
        .bind(kind)
        .bind(session)
        .bind(workspace)
        .bind(user)
        .bind(now.get())
        .execute(&mut *connection)
        .await
        .map_err(failure(STORE))?;
    notify(connection, Feed::People).await.map_err(failure(STORE))
}

pub(super) async fn revision_before(connection: &mut Connection, at: Millis) -> Result<u64, StoreError> {
    // Where nothing from before is kept, it is just before what is.
    let sql = "SELECT COALESCE((SELECT MAX(revision) FROM people_changes WHERE changed_at < $1), \
               (SELECT MIN(revision) - 1 FROM people_changes), revision) FROM people_revisions";
    let revision: i64 =
        query_scalar(sql).bind(at.get()).fetch_one(connection).await.map_err(failure(STORE))?;
    u64::try_from(revision).map_err(|_| corrupt(format!("revision {revision} is negative")))
}

pub(super) async fn after(
    connection: &mut Connection,
    revision: u64,
    limit: usize,
) -> Result<PeopleFeed, StoreError> {
    // One statement, so that both are of one moment: there is a row also where nothing is new.
    let sql = "SELECT people_revisions.revision AS last_recorded, \
                 people_changes.revision, people_changes.kind, people_changes.session_id, \
                 people_changes.workspace_id, people_changes.user_id, memberships.role, \
                 workspaces.id, workspaces.name, workspaces.zone, workspaces.currency \
                 FROM people_revisions \
                 LEFT JOIN people_changes ON people_changes.revision > $1 \
                 LEFT JOIN memberships ON memberships.workspace_id = people_changes.workspace_id \
                 AND memberships.user_id = people_changes.user_id \
                 LEFT JOIN workspaces ON workspaces.id = people_changes.workspace_id \
                 ORDER BY people_changes.revision LIMIT $2";
    let rows = query(sql)
        .bind(i64::try_from(revision).unwrap_or(i64::MAX))
        .bind(row_limit(limit))
        .fetch_all(connection)
        .await
        .map_err(failure(STORE))?;
    let first = rows.first().ok_or_else(|| corrupt("the revision of people is gone".to_owned()))?;
    let last_recorded = version(first, "last_recorded")?;
    let changes = rows.iter().map(numbered_change).filter_map(Result::transpose).collect::<Result<_, _>>()?;
    Ok(PeopleFeed { last_recorded, changes })
}

/// A change with its revision; `None` for the row that tells of none.
fn numbered_change(row: &Row) -> Result<Option<(u64, PeopleChange)>, StoreError> {
    let revision: Option<i64> = row.try_get("revision").map_err(failure(STORE))?;
    if revision.is_none() {
        return Ok(None);
    }
    Ok(Some((version(row, "revision")?, change(row)?)))
}

fn change(row: &Row) -> Result<PeopleChange, StoreError> {
    Ok(match text(row, "kind")?.as_str() {
        SESSION => PeopleChange::SessionEnded(parsed(row, "session_id", SessionId::parse)?),
        ROLE => PeopleChange::Role {
            workspace: parsed(row, "workspace_id", WorkspaceId::parse)?,
            user: parsed(row, "user_id", UserId::parse)?,
            role: role_now(row)?,
        },
        WORKSPACE => PeopleChange::Workspace(workspace_of(row)?),
        SIGNING_KEYS => PeopleChange::SigningKeys,
        // While an upgrade rolls out, a newer version beside this one records what this one does not know.
        kind => PeopleChange::Unknown(kind.to_owned()),
    })
}

fn role_now(row: &Row) -> Result<Option<rateguard_engine::people::Role>, StoreError> {
    let number: Option<i64> = row.try_get("role").map_err(failure(STORE))?;
    number.map(role).transpose()
}

pub(super) async fn sweep(
    connection: &mut Connection,
    now: Millis,
    changes_before: Millis,
) -> Result<(), StoreError> {
    // What was not refreshed in time needs no entry: its access tokens were over long before.
    let statements: [(&'static str, Millis); 4] = [
        ("DELETE FROM sessions WHERE expires_at <= $1", now),
        ("DELETE FROM invitations WHERE expires_at <= $1", now),
        ("DELETE FROM user_requests WHERE expires_at <= $1", now),
        ("DELETE FROM people_changes WHERE changed_at < $1", changes_before),
    ];
    for (statement, at) in statements {
        query(statement).bind(at.get()).execute(&mut *connection).await.map_err(failure(STORE))?;
    }
    Ok(())
}
