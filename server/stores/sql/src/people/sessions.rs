//! Live sessions and their refresh tokens.

use rateguard_core::ids::{SessionId, UserId, WorkspaceId};
use rateguard_core::time::Millis;
use rateguard_engine::audit::Deed;
use rateguard_engine::people::PasswordHash;
use rateguard_engine::ports::{RefreshHashes, Refreshed, Refreshing, Session, StoreError};

use super::feed::{Entry, record};
use super::row::{SESSION_COLUMNS, session};
use super::shown::audit;
use super::{STORE, members, row_limit, users};
use crate::database::{Connection, QueryBuilder, failure, query, query_scalar};

pub(super) async fn begin(
    connection: &mut Connection,
    session: &Session,
    expected: &PasswordHash,
    hashes: &RefreshHashes,
    sessions_max: usize,
    by: &Deed,
) -> Result<(), StoreError> {
    let user = users::by_id(connection, &session.user).await?.ok_or(StoreError::NotFound)?;
    // A new password ends every other session, also one whose log-in is under way meanwhile.
    if user.password != *expected {
        return Err(StoreError::VersionMismatch);
    }
    insert(connection, session, hashes).await?;
    audit(connection, session.workspace.as_ref(), (None, Some(session)), by).await?;
    make_room(connection, &session.user, sessions_max, by).await
}

async fn insert(
    connection: &mut Connection,
    session: &Session,
    hashes: &RefreshHashes,
) -> Result<(), StoreError> {
    let statement = "INSERT INTO sessions (id, user_id, workspace_id, family_sha256, secret_sha256, user_agent, ip, \
                     created_at, refreshed_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
    query(statement)
        .bind(session.id.as_str())
        .bind(session.user.as_str())
        .bind(session.workspace.as_ref().map(|workspace| workspace.as_str()))
        .bind(&hashes.family_sha256[..])
        .bind(&hashes.secret_sha256[..])
        .bind(session.user_agent.as_str())
        .bind(session.ip.map(|ip| ip.to_string()))
        .bind(session.created_at.get())
        .bind(session.refreshed_at.get())
        .bind(session.expires_at.get())
        .execute(connection)
        .await
        .map_err(failure(STORE))?;
    Ok(())
}

/// Ends the sessions beyond a person's bound: those refreshed longest ago.
async fn make_room(
    connection: &mut Connection,
    user: &UserId,
    sessions_max: usize,
    by: &Deed,
) -> Result<(), StoreError> {
    let sql = "SELECT id FROM sessions WHERE user_id = $1 \
                 ORDER BY refreshed_at DESC, created_at DESC, id LIMIT $2 OFFSET $3";
    let over: Vec<String> = query_scalar(sql)
        .bind(user.as_str())
        .bind(i64::MAX)
        .bind(row_limit(sessions_max))
        .fetch_all(&mut *connection)
        .await
        .map_err(failure(STORE))?;
    end_all(connection, &over, by).await
}

pub(super) async fn end_others(
    connection: &mut Connection,
    user: &UserId,
    keep: &SessionId,
    by: &Deed,
) -> Result<(), StoreError> {
    let others: Vec<String> = query_scalar("SELECT id FROM sessions WHERE user_id = $1 AND id <> $2")
        .bind(user.as_str())
        .bind(keep.as_str())
        .fetch_all(&mut *connection)
        .await
        .map_err(failure(STORE))?;
    end_all(connection, &others, by).await
}

async fn end_all(connection: &mut Connection, ids: &[String], by: &Deed) -> Result<(), StoreError> {
    for id in ids {
        let mut delete = QueryBuilder::new("DELETE FROM sessions WHERE id = ");
        delete.push_bind(id.clone());
        remove(connection, delete, by).await?;
    }
    Ok(())
}

/// Ends the session that a deletion names, if there is one.
async fn remove(
    connection: &mut Connection,
    mut delete: QueryBuilder,
    by: &Deed,
) -> Result<Option<Session>, StoreError> {
    delete.push(format!(" RETURNING {SESSION_COLUMNS}"));
    let row = delete.build().fetch_optional(&mut *connection).await.map_err(failure(STORE))?;
    let Some(ended) = row.as_ref().map(session).transpose()? else { return Ok(None) };
    record(connection, Entry::SessionEnded(ended.id.as_str()), by.at).await?;
    let place = place_of(connection, &ended).await?;
    audit(connection, place, (Some(&ended), None), by).await?;
    Ok(Some(ended))
}

/// Where a session works, as long as its person belongs there: the trail of a workspace is not for those
/// who have left it.
pub(super) async fn place(
    connection: &mut Connection,
    id: &SessionId,
) -> Result<Option<WorkspaceId>, StoreError> {
    let Some(session) = find(connection, id).await? else { return Ok(None) };
    Ok(place_of(connection, &session).await?.cloned())
}

async fn place_of<'s>(
    connection: &mut Connection,
    session: &'s Session,
) -> Result<Option<&'s WorkspaceId>, StoreError> {
    let Some(workspace) = &session.workspace else { return Ok(None) };
    let membership = members::find(connection, workspace, &session.user).await?;
    Ok(membership.map(|_| workspace))
}

async fn find(connection: &mut Connection, id: &SessionId) -> Result<Option<Session>, StoreError> {
    let mut query = QueryBuilder::new(format!("SELECT {SESSION_COLUMNS} FROM sessions WHERE id = "));
    query.push_bind(id.as_str().to_owned());
    let row = query.build().fetch_optional(connection).await.map_err(failure(STORE))?;
    row.as_ref().map(session).transpose()
}

pub(super) async fn refresh(
    connection: &mut Connection,
    refreshing: &Refreshing,
    by: &Deed,
) -> Result<Refreshed, StoreError> {
    let (Refreshing { presented, next_secret_sha256, expires_at }, now) = (refreshing, by.at);
    // One statement: of two that present the same token, the second finds another secret.
    let mut update = QueryBuilder::new("UPDATE sessions SET secret_sha256 = ");
    update.push_bind(next_secret_sha256.to_vec());
    update.push(", refreshed_at = ").push_bind(now.get());
    update.push(", expires_at = ").push_bind(expires_at.get());
    update.push(" WHERE family_sha256 = ").push_bind(presented.family_sha256.to_vec());
    update.push(" AND secret_sha256 = ").push_bind(presented.secret_sha256.to_vec());
    update.push(" AND expires_at > ").push_bind(now.get());
    update.push(format!(" RETURNING {SESSION_COLUMNS}"));
    let row = update.build().fetch_optional(&mut *connection).await.map_err(failure(STORE))?;
    match row {
        Some(row) => session(&row).map(Refreshed::Goes),
        None => end_family(connection, presented, by).await,
    }
}

/// Ends the live session of a token that is not its present one.
async fn end_family(
    connection: &mut Connection,
    presented: &RefreshHashes,
    by: &Deed,
) -> Result<Refreshed, StoreError> {
    let mut delete = QueryBuilder::new("DELETE FROM sessions WHERE family_sha256 = ");
    delete.push_bind(presented.family_sha256.to_vec());
    delete.push(" AND expires_at > ").push_bind(by.at.get());
    let ended = remove(connection, delete, by).await?;
    Ok(ended.map_or(Refreshed::Unknown, |ended| Refreshed::Reused(ended.id)))
}

pub(super) async fn relocate(
    connection: &mut Connection,
    id: &SessionId,
    workspace: &WorkspaceId,
    by: &Deed,
) -> Result<(), StoreError> {
    let before = find(connection, id).await?.filter(|session| session.expires_at > by.at);
    let before = before.ok_or(StoreError::NotFound)?;
    query("UPDATE sessions SET workspace_id = $1 WHERE id = $2")
        .bind(workspace.as_str())
        .bind(id.as_str())
        .execute(&mut *connection)
        .await
        .map_err(failure(STORE))?;
    let after = Session { workspace: Some(workspace.clone()), ..before.clone() };
    if before.workspace == after.workspace {
        return audit(connection, Some(workspace), (Some(&before), Some(&after)), by).await;
    }
    // Each workspace's trail tells of its own end of the way alone.
    if let Some(left) = place_of(connection, &before).await? {
        audit(connection, Some(left), (Some(&before), None), by).await?;
    }
    audit(connection, Some(workspace), (None, Some(&after)), by).await
}

pub(super) async fn list(
    connection: &mut Connection,
    user: &UserId,
    now: Millis,
) -> Result<Vec<Session>, StoreError> {
    let mut query = QueryBuilder::new(format!("SELECT {SESSION_COLUMNS} FROM sessions WHERE user_id = "));
    query.push_bind(user.as_str().to_owned());
    query.push(" AND expires_at > ").push_bind(now.get()).push(" ORDER BY created_at DESC, id");
    let rows = query.build().fetch_all(connection).await.map_err(failure(STORE))?;
    rows.iter().map(session).collect()
}

pub(super) async fn end(
    connection: &mut Connection,
    user: &UserId,
    id: &SessionId,
    by: &Deed,
) -> Result<(), StoreError> {
    let mut delete = QueryBuilder::new("DELETE FROM sessions WHERE id = ");
    delete.push_bind(id.as_str().to_owned()).push(" AND user_id = ").push_bind(user.as_str().to_owned());
    delete.push(" AND expires_at > ").push_bind(by.at.get());
    remove(connection, delete, by).await?.map(drop).ok_or(StoreError::NotFound)
}
