//! Workspaces that people make once, however often their clients ask.

use rateguard_core::ids::{UserId, WorkspaceId};
use rateguard_core::time::Millis;
use rateguard_engine::audit::Deed;
use rateguard_engine::ports::{
    CLIENT_REQUEST_LIFE_MS, ClientRequest, Membership, StoreError, StoredWorkspace,
};
use rateguard_engine::resources::Workspace;

use super::feed::lock;
use super::{STORE, members};
use crate::database::{Connection, failure};

/// Makes a workspace unless the same request has made one.
pub(super) async fn create_workspace(
    connection: &mut Connection,
    workspace: &Workspace,
    owner: &UserId,
    workspaces_max: usize,
    request: &ClientRequest,
    by: &Deed,
) -> Result<(Membership, StoredWorkspace), StoreError> {
    lock(connection).await?;
    let made = match made_before(connection, owner, request, by.at).await? {
        Some(id) => id,
        None => {
            members::create_workspace(connection, workspace, owner, workspaces_max, by).await?;
            remember(connection, owner, request, &workspace.id, by.at).await?;
            workspace.id.as_str().to_owned()
        }
    };
    let all = members::of_user(connection, owner).await?;
    all.into_iter().find(|(member, _)| member.workspace.as_str() == made).ok_or(StoreError::NotFound)
}

async fn made_before(
    connection: &mut Connection,
    owner: &UserId,
    request: &ClientRequest,
    now: Millis,
) -> Result<Option<String>, StoreError> {
    let query = "SELECT content_sha256, workspace_id FROM user_requests \
                 WHERE user_id = $1 AND request_id = $2 AND expires_at > $3";
    let found: Option<(Vec<u8>, String)> = sqlx::query_as(query)
        .bind(owner.as_str())
        .bind(request.id.as_str())
        .bind(now.get())
        .fetch_optional(connection)
        .await
        .map_err(failure(STORE))?;
    match found {
        Some((content, _)) if content != request.content_sha256 => {
            Err(StoreError::AlreadyExists { field: "request_id" })
        }
        found => Ok(found.map(|(_, workspace)| workspace)),
    }
}

async fn remember(
    connection: &mut Connection,
    owner: &UserId,
    request: &ClientRequest,
    made: &WorkspaceId,
    now: Millis,
) -> Result<(), StoreError> {
    // One that is there has expired, and the sweep has not come by yet.
    let statement = "INSERT INTO user_requests (user_id, request_id, content_sha256, workspace_id, expires_at) \
                     VALUES ($1, $2, $3, $4, $5) ON CONFLICT (user_id, request_id) DO UPDATE SET \
                     content_sha256 = excluded.content_sha256, workspace_id = excluded.workspace_id, \
                     expires_at = excluded.expires_at";
    sqlx::query(statement)
        .bind(owner.as_str())
        .bind(request.id.as_str())
        .bind(&request.content_sha256[..])
        .bind(made.as_str())
        .bind(now.plus(CLIENT_REQUEST_LIFE_MS).get())
        .execute(connection)
        .await
        .map_err(failure(STORE))?;
    Ok(())
}
