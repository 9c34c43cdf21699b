//! Requests that clients name: what was made under each, for a day.

use rateguard_core::ids::WorkspaceId;
use rateguard_core::time::Millis;
use rateguard_engine::audit::Deed;
use rateguard_engine::ports::{
    CLIENT_REQUEST_LIFE_MS, CLIENT_REQUESTS_DROPPED_MAX, ClientRequest, Once, Resource, ResourceChange,
    StoreError, Stored,
};

use super::change::make_all;
use super::read::find;
use super::{STORE, corrupt, row_limit, table};
use crate::database::{Connection, failure, query};

/// Makes a change unless the same request has made one.
pub(super) async fn once(
    connection: &mut Connection,
    workspace: &WorkspaceId,
    change: ResourceChange,
    request: &ClientRequest,
    by: &Deed,
) -> Result<Once, StoreError> {
    // Of two at the same instant the second began when the first had committed, and finds what it made.
    if let Some(before) = before(connection, workspace, request, by.at).await? {
        return Ok(before);
    }
    let stored = make_all(connection, workspace, vec![change], by).await?.pop();
    let stored = stored.ok_or_else(|| corrupt("a removal came under a request".to_owned()))?;
    remember(connection, workspace, request, &stored, by.at).await?;
    drop_expired(connection, workspace, by.at).await?;
    Ok(Once::Made(Box::new(stored)))
}

/// What the same request has made.
pub(super) async fn before(
    connection: &mut Connection,
    workspace: &WorkspaceId,
    request: &ClientRequest,
    now: Millis,
) -> Result<Option<Once>, StoreError> {
    let sql = "SELECT content_sha256, kind, resource_id FROM client_requests \
                 WHERE workspace_id = $1 AND request_id = $2 AND expires_at > $3";
    let found = query(sql)
        .bind(workspace.as_str())
        .bind(request.id.as_str())
        .bind(now.get())
        .fetch_optional(&mut *connection)
        .await
        .map_err(failure(STORE))?;
    let Some(row) = found else { return Ok(None) };
    let content: Vec<u8> = row.try_get("content_sha256").map_err(failure(STORE))?;
    if content != request.content_sha256 {
        return Err(StoreError::AlreadyExists { field: "request_id" });
    }
    let kind: String = row.try_get("kind").map_err(failure(STORE))?;
    let id: String = row.try_get("resource_id").map_err(failure(STORE))?;
    let unknown = || corrupt(format!("a request made something of an unknown kind {kind:?}"));
    let kind = table::kind_of(&kind).ok_or_else(unknown)?;
    let stored = find(connection, workspace, kind, &id).await?;
    Ok(Some(Once::Before(stored.map(Box::new))))
}

async fn remember(
    connection: &mut Connection,
    workspace: &WorkspaceId,
    request: &ClientRequest,
    made: &Stored<Resource>,
    now: Millis,
) -> Result<(), StoreError> {
    // One that is there has expired.
    let statement = "INSERT INTO client_requests \
                     (workspace_id, request_id, content_sha256, kind, resource_id, expires_at) \
                     VALUES ($1, $2, $3, $4, $5, $6) \
                     ON CONFLICT (workspace_id, request_id) DO UPDATE SET \
                     content_sha256 = excluded.content_sha256, kind = excluded.kind, \
                     resource_id = excluded.resource_id, expires_at = excluded.expires_at";
    query(statement)
        .bind(workspace.as_str())
        .bind(request.id.as_str())
        .bind(&request.content_sha256[..])
        .bind(table::of(made.value.kind()).code)
        .bind(made.value.id())
        .bind(now.plus(CLIENT_REQUEST_LIFE_MS).get())
        .execute(connection)
        .await
        .map_err(failure(STORE))?;
    Ok(())
}

async fn drop_expired(
    connection: &mut Connection,
    workspace: &WorkspaceId,
    now: Millis,
) -> Result<(), StoreError> {
    let statement = "DELETE FROM client_requests WHERE workspace_id = $1 AND request_id IN \
                     (SELECT request_id FROM client_requests WHERE workspace_id = $1 AND expires_at <= $2 \
                     ORDER BY expires_at LIMIT $3)";
    query(statement)
        .bind(workspace.as_str())
        .bind(now.get())
        .bind(row_limit(CLIENT_REQUESTS_DROPPED_MAX))
        .execute(connection)
        .await
        .map_err(failure(STORE))?;
    Ok(())
}
