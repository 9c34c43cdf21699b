//! Workspaces and who belongs to them.

use rateguard_core::ids::{DisplayName, UserId, WorkspaceId};
use rateguard_core::time::Millis;
use rateguard_engine::audit::Deed;
use rateguard_engine::people::{MemberCase, Role, judge};
use rateguard_engine::ports::{
    Member, MemberChange, MemberRefusal, Membership, StoreError, StoredWorkspace, WORKSPACES_FULL,
};
use rateguard_engine::resources::Workspace;

use super::feed::{Entry, record};
use super::row::{MEMBERSHIP_COLUMNS, USER_COLUMNS, WORKSPACE_COLUMNS, membership, stored_workspace, user};
use super::shown::audit;
use super::{STORE, invitations, row_limit};
use crate::config::{insert_workspace, workspace_of};
use crate::database::{Connection, QueryBuilder, failure, query, query_scalar};

/// The version of what is new.
const FIRST_VERSION: u64 = 1;

pub(super) async fn create_workspace(
    connection: &mut Connection,
    workspace: &Workspace,
    owner: &UserId,
    workspaces_max: usize,
    by: &Deed,
) -> Result<StoredWorkspace, StoreError> {
    own(connection, workspace, owner, by).await?;
    check_workspaces(connection, owner, workspaces_max).await?;
    Ok(first_version(workspace, by.at))
}

/// Makes a workspace with its owner.
pub(super) async fn own(
    connection: &mut Connection,
    workspace: &Workspace,
    owner: &UserId,
    by: &Deed,
) -> Result<Membership, StoreError> {
    insert_workspace(connection, workspace, by.at).await?;
    record(connection, Entry::Workspace(&workspace.id), by.at).await?;
    let made = first_version(workspace, by.at);
    audit(connection, Some(&workspace.id), (None, Some(&made)), by).await?;
    insert(connection, &workspace.id, owner, Role::Owner, by).await
}

fn first_version(workspace: &Workspace, now: Millis) -> StoredWorkspace {
    StoredWorkspace { workspace: workspace.clone(), version: FIRST_VERSION, created_at: now, updated_at: now }
}

/// Whether a person belongs to no more workspaces than one may.
pub(super) async fn check_workspaces(
    connection: &mut Connection,
    user: &UserId,
    workspaces_max: usize,
) -> Result<(), StoreError> {
    let sql = "SELECT count(*) FROM memberships WHERE user_id = $1";
    let count: i64 =
        query_scalar(sql).bind(user.as_str()).fetch_one(connection).await.map_err(failure(STORE))?;
    if count > row_limit(workspaces_max) { Err(StoreError::Full { what: WORKSPACES_FULL }) } else { Ok(()) }
}

pub(super) async fn rename_workspace(
    connection: &mut Connection,
    id: &WorkspaceId,
    name: &DisplayName,
    expected: Option<u64>,
    by: &Deed,
) -> Result<StoredWorkspace, StoreError> {
    let before = workspace(connection, id).await?.ok_or(StoreError::NotFound)?;
    if expected.is_some_and(|expected| expected != before.version) {
        return Err(StoreError::VersionMismatch);
    }
    query("UPDATE workspaces SET name = $1, version = version + 1, updated_at = $2 WHERE id = $3")
        .bind(name.as_str())
        .bind(by.at.get())
        .bind(id.as_str())
        .execute(&mut *connection)
        .await
        .map_err(failure(STORE))?;
    record(connection, Entry::Workspace(id), by.at).await?;
    let after = workspace(connection, id).await?.ok_or(StoreError::NotFound)?;
    audit(connection, Some(id), (Some(&before), Some(&after)), by).await?;
    Ok(after)
}

async fn workspace(
    connection: &mut Connection,
    id: &WorkspaceId,
) -> Result<Option<StoredWorkspace>, StoreError> {
    let mut query = QueryBuilder::new(format!("SELECT {WORKSPACE_COLUMNS} FROM workspaces WHERE id = "));
    query.push_bind(id.as_str().to_owned());
    let row = query.build().fetch_optional(connection).await.map_err(failure(STORE))?;
    row.as_ref().map(stored_workspace).transpose()
}

/// Workspaces in the order of ids, whoever belongs to them.
pub(super) async fn workspaces(
    connection: &mut Connection,
    after: Option<&WorkspaceId>,
    limit: usize,
) -> Result<Vec<Workspace>, StoreError> {
    let mut query = QueryBuilder::new(format!("SELECT {WORKSPACE_COLUMNS} FROM workspaces"));
    if let Some(after) = after {
        query.push(" WHERE id > ").push_bind(after.as_str().to_owned());
    }
    query.push(" ORDER BY id LIMIT ").push_bind(row_limit(limit));
    let rows = query.build().fetch_all(connection).await.map_err(failure(STORE))?;
    rows.iter().map(workspace_of).collect()
}

/// Makes a person a member, with the entry of the feed.
pub(super) async fn insert(
    connection: &mut Connection,
    workspace: &WorkspaceId,
    user: &UserId,
    role: Role,
    by: &Deed,
) -> Result<Membership, StoreError> {
    let now = by.at;
    let statement = "INSERT INTO memberships (workspace_id, user_id, role, version, joined_at) \
                     VALUES ($1, $2, $3, 1, $4) ON CONFLICT DO NOTHING";
    let inserted = query(statement)
        .bind(workspace.as_str())
        .bind(user.as_str())
        .bind(i64::from(role.number()))
        .bind(now.get())
        .execute(&mut *connection)
        .await
        .map_err(failure(STORE))?;
    if inserted.rows_affected() == 0 {
        return Err(StoreError::AlreadyExists { field: "user_id" });
    }
    record(connection, Entry::Role(workspace, user), now).await?;
    let (workspace, user) = (workspace.clone(), user.clone());
    let made = Membership { workspace, user, role, version: FIRST_VERSION, joined_at: now };
    audit(connection, Some(&made.workspace), (None, Some(&made)), by).await?;
    Ok(made)
}

pub(super) async fn of_user(
    connection: &mut Connection,
    user: &UserId,
) -> Result<Vec<(Membership, StoredWorkspace)>, StoreError> {
    let mut query = QueryBuilder::new(format!(
        "SELECT {MEMBERSHIP_COLUMNS}, {WORKSPACE_COLUMNS} FROM memberships \
         JOIN workspaces ON workspaces.id = memberships.workspace_id WHERE memberships.user_id = "
    ));
    query.push_bind(user.as_str().to_owned());
    query.push(" ORDER BY memberships.joined_at, memberships.workspace_id");
    let rows = query.build().fetch_all(connection).await.map_err(failure(STORE))?;
    rows.iter().map(|row| Ok((membership(row)?, stored_workspace(row)?))).collect()
}

pub(super) async fn find(
    connection: &mut Connection,
    workspace: &WorkspaceId,
    user: &UserId,
) -> Result<Option<Membership>, StoreError> {
    let mut query =
        QueryBuilder::new(format!("SELECT {MEMBERSHIP_COLUMNS} FROM memberships WHERE workspace_id = "));
    query.push_bind(workspace.as_str().to_owned());
    query.push(" AND user_id = ").push_bind(user.as_str().to_owned());
    let row = query.build().fetch_optional(connection).await.map_err(failure(STORE))?;
    row.as_ref().map(membership).transpose()
}

pub(super) async fn list(
    connection: &mut Connection,
    workspace: &WorkspaceId,
    after: Option<&UserId>,
    limit: usize,
) -> Result<Vec<Member>, StoreError> {
    let mut query = QueryBuilder::new(format!(
        "SELECT {USER_COLUMNS}, memberships.workspace_id, memberships.role, \
         memberships.version AS membership_version, memberships.joined_at \
         FROM memberships JOIN users ON users.id = memberships.user_id WHERE memberships.workspace_id = "
    ));
    query.push_bind(workspace.as_str().to_owned());
    if let Some(after) = after {
        query.push(" AND memberships.user_id > ").push_bind(after.as_str().to_owned());
    }
    query.push(" ORDER BY memberships.user_id LIMIT ").push_bind(row_limit(limit));
    let rows = query.build().fetch_all(connection).await.map_err(failure(STORE))?;
    rows.iter().map(|row| Ok(Member { user: user(row)?, membership: membership(row)? })).collect()
}

pub(super) async fn change(
    connection: &mut Connection,
    change: &MemberChange,
    by: &Deed,
) -> Result<Result<Membership, MemberRefusal>, StoreError> {
    let MemberChange { workspace, actor, member, role, expected } = change;
    let acting = find(connection, workspace, actor).await?.map(|membership| membership.role);
    let before = find(connection, workspace, member).await?.ok_or(StoreError::NotFound)?;
    if expected.is_some_and(|expected| expected != before.version) {
        return Err(StoreError::VersionMismatch);
    }
    let case = MemberCase {
        actor: acting,
        member: before.role,
        to: *role,
        is_oneself: actor == member,
        owners: owners(connection, workspace).await?,
    };
    if let Err(refusal) = judge(case) {
        return Ok(Err(refusal));
    }
    if role.is_none_or(|role| !role.may_invite()) {
        invitations::remove_of(connection, workspace, member, by).await?;
    }
    match role {
        Some(role) => set_role(connection, before, *role, by).await.map(Ok),
        None => remove(connection, before, by).await.map(Ok),
    }
}

pub(super) async fn transfer(
    connection: &mut Connection,
    workspace: &WorkspaceId,
    from: &UserId,
    to: &UserId,
    by: &Deed,
) -> Result<Result<Membership, MemberRefusal>, StoreError> {
    let Some(giver) = find(connection, workspace, from).await?.filter(|giver| giver.role == Role::Owner)
    else {
        return Ok(Err(MemberRefusal::RoleMissing));
    };
    let taker = find(connection, workspace, to).await?.ok_or(StoreError::NotFound)?;
    let taker = set_role(connection, taker, Role::Owner, by).await?;
    set_role(connection, giver, Role::Admin, by).await?;
    Ok(Ok(taker))
}

async fn set_role(
    connection: &mut Connection,
    before: Membership,
    role: Role,
    by: &Deed,
) -> Result<Membership, StoreError> {
    let statement = "UPDATE memberships SET role = $1, version = version + 1 \
                     WHERE workspace_id = $2 AND user_id = $3";
    query(statement)
        .bind(i64::from(role.number()))
        .bind(before.workspace.as_str())
        .bind(before.user.as_str())
        .execute(&mut *connection)
        .await
        .map_err(failure(STORE))?;
    record(connection, Entry::Role(&before.workspace, &before.user), by.at).await?;
    let after = Membership { role, version: before.version + 1, ..before.clone() };
    audit(connection, Some(&after.workspace), (Some(&before), Some(&after)), by).await?;
    Ok(after)
}

async fn remove(
    connection: &mut Connection,
    before: Membership,
    by: &Deed,
) -> Result<Membership, StoreError> {
    query("DELETE FROM memberships WHERE workspace_id = $1 AND user_id = $2")
        .bind(before.workspace.as_str())
        .bind(before.user.as_str())
        .execute(&mut *connection)
        .await
        .map_err(failure(STORE))?;
    record(connection, Entry::Role(&before.workspace, &before.user), by.at).await?;
    audit(connection, Some(&before.workspace), (Some(&before), None), by).await?;
    Ok(before)
}

async fn owners(connection: &mut Connection, workspace: &WorkspaceId) -> Result<u64, StoreError> {
    let count: i64 = query_scalar("SELECT count(*) FROM memberships WHERE workspace_id = $1 AND role = $2")
        .bind(workspace.as_str())
        .bind(i64::from(Role::Owner.number()))
        .fetch_one(connection)
        .await
        .map_err(failure(STORE))?;
    Ok(u64::try_from(count).unwrap_or(0))
}
