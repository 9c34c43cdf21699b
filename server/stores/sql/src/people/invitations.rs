//! Open invitations.

use rateguard_core::ids::{InvitationId, UserId, WorkspaceId};
use rateguard_core::time::Millis;
use rateguard_engine::audit::Deed;
use rateguard_engine::ports::{
    INVITATIONS_FULL, Invitation, JoinBounds, MEMBERS_FULL, Membership, StoreError,
};

use super::row::{INVITATION_COLUMNS, invitation};
use super::shown::audit;
use super::{STORE, members, row_limit, users};
use crate::database::{Connection, QueryBuilder, failure, query, query_scalar};

pub(super) async fn insert(
    connection: &mut Connection,
    invitation: &Invitation,
    token_sha256: &[u8; 32],
    limit: usize,
    by: &Deed,
) -> Result<(), StoreError> {
    let workspace = &invitation.workspace;
    check_inviter(connection, invitation).await?;
    check_no_member(connection, invitation).await?;
    let statement = "INSERT INTO invitations \
                     (id, workspace_id, token_sha256, email, role, inviter_id, created_at, expires_at) \
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING";
    let inserted = query(statement)
        .bind(invitation.id.as_str())
        .bind(workspace.as_str())
        .bind(&token_sha256[..])
        .bind(invitation.email.as_ref().map(|email| email.as_str()))
        .bind(i64::from(invitation.role.number()))
        .bind(invitation.inviter.as_str())
        .bind(invitation.created_at.get())
        .bind(invitation.expires_at.get())
        .execute(&mut *connection)
        .await
        .map_err(failure(STORE))?;
    if inserted.rows_affected() == 0 {
        return Err(StoreError::AlreadyExists { field: "id" });
    }
    let open = list(connection, workspace, invitation.created_at).await?.len();
    if open > limit {
        return Err(StoreError::Full { what: INVITATIONS_FULL });
    }
    audit(connection, Some(workspace), (None, Some(invitation)), by).await
}

/// Whether who invites still may. The roles of the very transaction count: what a process has in memory may be
/// a moment old, and the invitations of whoever was taken out are taken back only once.
pub(super) async fn check_inviter(
    connection: &mut Connection,
    invitation: &Invitation,
) -> Result<(), StoreError> {
    let inviter = members::find(connection, &invitation.workspace, &invitation.inviter).await?;
    if inviter.is_some_and(|inviter| inviter.role.may_invite()) { Ok(()) } else { Err(StoreError::NotFound) }
}

async fn check_no_member(connection: &mut Connection, invitation: &Invitation) -> Result<(), StoreError> {
    let Some(email) = &invitation.email else { return Ok(()) };
    let Some(user) = users::by_email(connection, email).await? else { return Ok(()) };
    match members::find(connection, &invitation.workspace, &user.id).await? {
        Some(_) => Err(StoreError::AlreadyExists { field: "email" }),
        None => Ok(()),
    }
}

pub(super) async fn list(
    connection: &mut Connection,
    workspace: &WorkspaceId,
    now: Millis,
) -> Result<Vec<Invitation>, StoreError> {
    let mut query =
        QueryBuilder::new(format!("SELECT {INVITATION_COLUMNS} FROM invitations WHERE workspace_id = "));
    query.push_bind(workspace.as_str().to_owned());
    query.push(" AND expires_at > ").push_bind(now.get()).push(" ORDER BY id");
    let rows = query.build().fetch_all(connection).await.map_err(failure(STORE))?;
    rows.iter().map(invitation).collect()
}

pub(super) async fn remove(
    connection: &mut Connection,
    workspace: &WorkspaceId,
    id: &InvitationId,
    by: &Deed,
) -> Result<(), StoreError> {
    if remove_where(connection, workspace, ("id", id.as_str()), by).await? == 0 {
        return Err(StoreError::NotFound);
    }
    Ok(())
}

/// Takes back what one person has open in a workspace.
pub(super) async fn remove_of(
    connection: &mut Connection,
    workspace: &WorkspaceId,
    inviter: &UserId,
    by: &Deed,
) -> Result<(), StoreError> {
    remove_where(connection, workspace, ("inviter_id", inviter.as_str()), by).await.map(drop)
}

/// Removes a workspace's invitations that have a value in a column; how many there were.
async fn remove_where(
    connection: &mut Connection,
    workspace: &WorkspaceId,
    (column, value): (&'static str, &str),
    by: &Deed,
) -> Result<usize, StoreError> {
    let mut delete = QueryBuilder::new("DELETE FROM invitations WHERE workspace_id = ");
    delete.push_bind(workspace.as_str().to_owned());
    delete.push(format!(" AND {column} = ")).push_bind(value.to_owned());
    delete.push(format!(" RETURNING {INVITATION_COLUMNS}"));
    let rows = delete.build().fetch_all(&mut *connection).await.map_err(failure(STORE))?;
    for row in &rows {
        audit(connection, Some(workspace), (Some(&invitation(row)?), None), by).await?;
    }
    Ok(rows.len())
}

pub(super) async fn accept(
    connection: &mut Connection,
    token_sha256: &[u8; 32],
    user: &UserId,
    bounds: JoinBounds,
    by: &Deed,
) -> Result<Membership, StoreError> {
    let invitation = open_to(connection, token_sha256, user, by.at).await?.ok_or(StoreError::NotFound)?;
    let workspace = &invitation.workspace;
    let membership = members::insert(connection, workspace, user, invitation.role, by).await?;
    remove(connection, workspace, &invitation.id, by).await?;
    members::check_workspaces(connection, user, bounds.workspaces_max).await?;
    let members =
        count(connection, "SELECT count(*) FROM memberships WHERE workspace_id = $1", workspace).await?;
    if members > row_limit(bounds.members_max) {
        return Err(StoreError::Full { what: MEMBERS_FULL });
    }
    Ok(membership)
}

/// The invitation with a token, if it is open.
pub(super) async fn open(
    connection: &mut Connection,
    token_sha256: &[u8; 32],
    now: Millis,
) -> Result<Option<Invitation>, StoreError> {
    let mut query =
        QueryBuilder::new(format!("SELECT {INVITATION_COLUMNS} FROM invitations WHERE token_sha256 = "));
    query.push_bind(token_sha256.to_vec()).push(" AND expires_at > ").push_bind(now.get());
    let row = query.build().fetch_optional(connection).await.map_err(failure(STORE))?;
    row.as_ref().map(invitation).transpose()
}

/// The same, if it is for this person.
async fn open_to(
    connection: &mut Connection,
    token_sha256: &[u8; 32],
    user: &UserId,
    now: Millis,
) -> Result<Option<Invitation>, StoreError> {
    let Some(found) = open(connection, token_sha256, now).await? else { return Ok(None) };
    let user = users::by_id(connection, user).await?.ok_or(StoreError::NotFound)?;
    Ok(Some(found).filter(|found| found.is_for(&user.email)))
}

async fn count(
    connection: &mut Connection,
    sql: &'static str,
    workspace: &WorkspaceId,
) -> Result<i64, StoreError> {
    query_scalar(sql).bind(workspace.as_str()).fetch_one(connection).await.map_err(failure(STORE))
}
