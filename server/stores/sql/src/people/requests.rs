//! What people make once, however often their clients ask: workspaces and invitations.

use rateguard_core::ids::{UserId, WorkspaceId};
use rateguard_core::time::Millis;
use rateguard_engine::audit::Deed;
use rateguard_engine::ports::{
    CLIENT_REQUEST_LIFE_MS, ClientRequest, Invitation, InvitedOnce, Membership, StoreError, StoredWorkspace,
};
use rateguard_engine::resources::Workspace;

use super::row::text;
use super::{STORE, invitations, members};
use crate::database::{Connection, failure, query};

/// What a request has made.
struct Made<'m> {
    workspace: &'m WorkspaceId,
    id: &'m str,
}

/// Makes a workspace unless the same request has made one.
pub(super) async fn create_workspace(
    connection: &mut Connection,
    workspace: &Workspace,
    owner: &UserId,
    workspaces_max: usize,
    request: &ClientRequest,
    by: &Deed,
) -> Result<(Membership, StoredWorkspace), StoreError> {
    let made = match made_before(connection, owner, request, by.at).await? {
        Some(id) => id,
        None => {
            members::create_workspace(connection, workspace, owner, workspaces_max, by).await?;
            let made = Made { workspace: &workspace.id, id: workspace.id.as_str() };
            remember(connection, owner, request, made, by.at).await?;
            workspace.id.as_str().to_owned()
        }
    };
    let all = members::of_user(connection, owner).await?;
    all.into_iter().find(|(member, _)| member.workspace.as_str() == made).ok_or(StoreError::NotFound)
}

/// Keeps an invitation open unless the same request has made one.
pub(super) async fn insert_invitation(
    connection: &mut Connection,
    invitation: &Invitation,
    token_sha256: &[u8; 32],
    limit: usize,
    request: &ClientRequest,
    by: &Deed,
) -> Result<InvitedOnce, StoreError> {
    let Invitation { workspace, inviter, .. } = invitation;
    // Also before telling what was made.
    invitations::check_inviter(connection, invitation).await?;
    if let Some(id) = made_before(connection, inviter, request, by.at).await? {
        let open = invitations::list(connection, workspace, by.at).await?;
        let found = open.into_iter().find(|open| open.id.as_str() == id);
        return Ok(InvitedOnce::Before(found.map(Box::new)));
    }
    invitations::insert(connection, invitation, token_sha256, limit, by).await?;
    let made = Made { workspace, id: invitation.id.as_str() };
    remember(connection, inviter, request, made, by.at).await?;
    Ok(InvitedOnce::Made)
}

/// Takes an invitation back, and forgets the request that made it.
pub(super) async fn withdraw_invitation(
    connection: &mut Connection,
    invitation: &Invitation,
    by: &Deed,
) -> Result<(), StoreError> {
    invitations::remove(connection, &invitation.workspace, &invitation.id, by).await?;
    query("DELETE FROM user_requests WHERE made_id = $1")
        .bind(invitation.id.as_str())
        .execute(connection)
        .await
        .map_err(failure(STORE))?;
    Ok(())
}

async fn made_before(
    connection: &mut Connection,
    owner: &UserId,
    request: &ClientRequest,
    now: Millis,
) -> Result<Option<String>, StoreError> {
    let sql = "SELECT content_sha256, made_id FROM user_requests \
               WHERE user_id = $1 AND request_id = $2 AND expires_at > $3";
    let found = query(sql)
        .bind(owner.as_str())
        .bind(request.id.as_str())
        .bind(now.get())
        .fetch_optional(connection)
        .await
        .map_err(failure(STORE))?;
    let Some(row) = found else { return Ok(None) };
    let content: Vec<u8> = row.try_get("content_sha256").map_err(failure(STORE))?;
    if content != request.content_sha256 {
        return Err(StoreError::AlreadyExists { field: "request_id" });
    }
    text(&row, "made_id").map(Some)
}

async fn remember(
    connection: &mut Connection,
    owner: &UserId,
    request: &ClientRequest,
    made: Made<'_>,
    now: Millis,
) -> Result<(), StoreError> {
    // One that is there has expired, and the sweep has not come by yet.
    let statement = "INSERT INTO user_requests \
                     (user_id, request_id, content_sha256, workspace_id, made_id, expires_at) \
                     VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (user_id, request_id) DO UPDATE SET \
                     content_sha256 = excluded.content_sha256, workspace_id = excluded.workspace_id, \
                     made_id = excluded.made_id, expires_at = excluded.expires_at";
    query(statement)
        .bind(owner.as_str())
        .bind(request.id.as_str())
        .bind(&request.content_sha256[..])
        .bind(made.workspace.as_str())
        .bind(made.id)
        .bind(now.plus(CLIENT_REQUEST_LIFE_MS).get())
        .execute(connection)
        .await
        .map_err(failure(STORE))?;
    Ok(())
}
