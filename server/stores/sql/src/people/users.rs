//! Accounts.

use rateguard_core::ids::{SessionId, UserId};
use rateguard_core::time::Millis;
use rateguard_engine::audit::Deed;
use rateguard_engine::people::{EmailAddress, PasswordHash};
use rateguard_engine::ports::{JoinBounds, Joining, Membership, StoreError, User};

use super::row::{USER_COLUMNS, user};
use super::shown::audit;
use super::{STORE, invitations, members, sessions};
use crate::database::{Connection, QueryBuilder, failure, query};

pub(super) async fn create(
    connection: &mut Connection,
    user: &User,
    joining: &Joining,
    members_max: usize,
    by: &Deed,
) -> Result<Membership, StoreError> {
    let now = by.at;
    if let Joining::Invited(token_sha256) = joining {
        // Before the address is looked at: only whoever is invited learns that it has an account.
        let open = invitations::open(connection, token_sha256, now).await?;
        open.filter(|open| open.is_for(&user.email)).ok_or(StoreError::NotFound)?;
    }
    insert(connection, user, now).await?;
    let membership = match joining {
        Joining::Own(workspace) => members::own(connection, workspace, &user.id, by).await,
        Joining::Invited(token_sha256) => {
            let bounds = JoinBounds { members_max, workspaces_max: 1 };
            invitations::accept(connection, token_sha256, &user.id, bounds, by).await
        }
    }?;
    audit(connection, Some(&membership.workspace), (None, Some(user)), by).await?;
    Ok(membership)
}

async fn insert(connection: &mut Connection, user: &User, now: Millis) -> Result<(), StoreError> {
    let statement = "INSERT INTO users (id, email, display_name, password_hash, created_at, updated_at) \
                     VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING";
    let inserted = query(statement)
        .bind(user.id.as_str())
        .bind(user.email.as_str())
        .bind(user.display_name.as_str())
        .bind(user.password.as_str())
        .bind(user.created_at.get())
        .bind(now.get())
        .execute(&mut *connection)
        .await
        .map_err(failure(STORE))?;
    if inserted.rows_affected() > 0 {
        return Ok(());
    }
    let email_is_taken = by_email(connection, &user.email).await?.is_some();
    Err(StoreError::AlreadyExists { field: if email_is_taken { "email" } else { "id" } })
}

pub(super) async fn by_email(
    connection: &mut Connection,
    email: &EmailAddress,
) -> Result<Option<User>, StoreError> {
    find(connection, "email", email.as_str()).await
}

pub(super) async fn by_id(connection: &mut Connection, id: &UserId) -> Result<Option<User>, StoreError> {
    find(connection, "id", id.as_str()).await
}

async fn find(
    connection: &mut Connection,
    column: &'static str,
    value: &str,
) -> Result<Option<User>, StoreError> {
    let mut query = QueryBuilder::new(format!("SELECT {USER_COLUMNS} FROM users WHERE {column} = "));
    query.push_bind(value.to_owned());
    let row = query.build().fetch_optional(connection).await.map_err(failure(STORE))?;
    row.as_ref().map(user).transpose()
}

pub(super) async fn set_password(
    connection: &mut Connection,
    id: &UserId,
    (expected, password): (&PasswordHash, &PasswordHash),
    keep: Option<&SessionId>,
    by: &Deed,
) -> Result<(), StoreError> {
    let before = by_id(connection, id).await?.ok_or(StoreError::NotFound)?;
    let statement =
        "UPDATE users SET password_hash = $1, updated_at = $2 WHERE id = $3 AND password_hash = $4";
    let updated = query(statement)
        .bind(password.as_str())
        .bind(by.at.get())
        .bind(id.as_str())
        .bind(expected.as_str())
        .execute(&mut *connection)
        .await
        .map_err(failure(STORE))?;
    if updated.rows_affected() == 0 {
        return Err(StoreError::VersionMismatch);
    }
    let after = User { password: password.clone(), ..before.clone() };
    let change = (Some(&before), Some(&after));
    let Some(keep) = keep else { return audit(connection, None, change, by).await };
    // Where the person was at work when they changed it.
    let place = sessions::place(connection, keep).await?;
    audit(connection, place.as_ref(), change, by).await?;
    sessions::end_others(connection, id, keep, by).await
}
