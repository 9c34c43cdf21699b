//! Rows of people, read back into what they were.

use std::fmt::Display;

use rateguard_core::ids::{DisplayName, InvitationId, SessionId, SigningKeyId, UserId, WorkspaceId};
use rateguard_core::time::Millis;
use rateguard_engine::people::{EmailAddress, PasswordHash, Role};
use rateguard_engine::ports::{
    Invitation, Membership, SealedSigningKey, Session, StoreError, StoredWorkspace, User,
};

use super::{STORE, corrupt};
use crate::config::workspace_of;
use crate::database::{Row, failure};

pub(super) fn text(row: &Row, column: &str) -> Result<String, StoreError> {
    row.try_get(column).map_err(failure(STORE))
}

pub(super) fn optional_text(row: &Row, column: &str) -> Result<Option<String>, StoreError> {
    row.try_get(column).map_err(failure(STORE))
}

pub(super) fn number(row: &Row, column: &str) -> Result<i64, StoreError> {
    row.try_get(column).map_err(failure(STORE))
}

pub(super) fn instant(row: &Row, column: &str) -> Result<Millis, StoreError> {
    number(row, column).map(Millis::new)
}

/// What a column holds, by the parser of its kind.
pub(super) fn parsed<T, E: Display>(
    row: &Row,
    column: &'static str,
    parse: impl FnOnce(&'static str, &str) -> Result<T, E>,
) -> Result<T, StoreError> {
    parse(column, &text(row, column)?).map_err(|error| corrupt(error.to_string()))
}

/// The same for a column that may be null.
pub(super) fn optional<T, E: Display>(
    row: &Row,
    column: &'static str,
    parse: impl FnOnce(&'static str, &str) -> Result<T, E>,
) -> Result<Option<T>, StoreError> {
    let text = optional_text(row, column)?;
    text.map(|text| parse(column, &text)).transpose().map_err(|error| corrupt(error.to_string()))
}

pub(super) fn version(row: &Row, column: &str) -> Result<u64, StoreError> {
    let value = number(row, column)?;
    u64::try_from(value).map_err(|_| corrupt(format!("{column} {value} is negative")))
}

pub(super) fn role(number: i64) -> Result<Role, StoreError> {
    let role = u8::try_from(number).ok().and_then(Role::from_number);
    role.ok_or_else(|| corrupt(format!("there is no role {number}")))
}

pub(super) const USER_COLUMNS: &str = "users.id AS user_id, users.email, users.display_name, users.password_hash, users.created_at AS user_created_at";

pub(super) fn user(row: &Row) -> Result<User, StoreError> {
    Ok(User {
        id: parsed(row, "user_id", UserId::parse)?,
        email: parsed(row, "email", EmailAddress::parse)?,
        display_name: parsed(row, "display_name", DisplayName::parse)?,
        password: PasswordHash::stored(&text(row, "password_hash")?),
        created_at: instant(row, "user_created_at")?,
    })
}

pub(super) const MEMBERSHIP_COLUMNS: &str = "memberships.workspace_id, memberships.user_id, memberships.role, \
     memberships.version AS membership_version, memberships.joined_at";

pub(super) fn membership(row: &Row) -> Result<Membership, StoreError> {
    Ok(Membership {
        workspace: parsed(row, "workspace_id", WorkspaceId::parse)?,
        user: parsed(row, "user_id", UserId::parse)?,
        role: role(number(row, "role")?)?,
        version: version(row, "membership_version")?,
        joined_at: instant(row, "joined_at")?,
    })
}

pub(super) const WORKSPACE_COLUMNS: &str = "workspaces.id, workspaces.name, workspaces.zone, workspaces.currency, \
     workspaces.version, workspaces.created_at, workspaces.updated_at";

pub(super) fn stored_workspace(row: &Row) -> Result<StoredWorkspace, StoreError> {
    let created_at = instant(row, "created_at")?;
    // One made before it could be changed has no instant of its last change.
    let updated_at = instant(row, "updated_at")?.max(created_at);
    Ok(StoredWorkspace {
        workspace: workspace_of(row)?,
        version: version(row, "version")?,
        created_at,
        updated_at,
    })
}

pub(super) const SESSION_COLUMNS: &str =
    "id, user_id, workspace_id, user_agent, ip, created_at, refreshed_at, expires_at";

pub(super) fn session(row: &Row) -> Result<Session, StoreError> {
    Ok(Session {
        id: parsed(row, "id", SessionId::parse)?,
        user: parsed(row, "user_id", UserId::parse)?,
        workspace: optional(row, "workspace_id", WorkspaceId::parse)?,
        user_agent: text(row, "user_agent")?,
        ip: optional(row, "ip", |_, text| text.parse::<std::net::IpAddr>())?,
        created_at: instant(row, "created_at")?,
        refreshed_at: instant(row, "refreshed_at")?,
        expires_at: instant(row, "expires_at")?,
    })
}

pub(super) const INVITATION_COLUMNS: &str =
    "id, workspace_id, email, role, inviter_id, created_at, expires_at";

pub(super) fn invitation(row: &Row) -> Result<Invitation, StoreError> {
    Ok(Invitation {
        id: parsed(row, "id", InvitationId::parse)?,
        workspace: parsed(row, "workspace_id", WorkspaceId::parse)?,
        email: optional(row, "email", EmailAddress::parse)?,
        role: role(number(row, "role")?)?,
        inviter: parsed(row, "inviter_id", UserId::parse)?,
        created_at: instant(row, "created_at")?,
        expires_at: instant(row, "expires_at")?,
    })
}

pub(super) fn signing_key(row: &Row) -> Result<SealedSigningKey, StoreError> {
    Ok(SealedSigningKey {
        id: parsed(row, "id", SigningKeyId::parse)?,
        sealed: row.try_get("sealed").map_err(failure(STORE))?,
        created_at: instant(row, "created_at")?,
        signs_from: instant(row, "signs_from")?,
    })
}
