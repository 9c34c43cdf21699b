//! Identities of providers, and the accounts that they are linked to.

use rateguard_core::ids::{SessionId, UserId};
use rateguard_engine::audit::Deed;
use rateguard_engine::ports::{ExternalIdentity, IDENTITIES_FULL, Joining, Membership, StoreError, User};

use super::row::{USER_COLUMNS, user};
use super::shown::{Linked, audit};
use super::{STORE, row_limit, sessions, users};
use crate::database::{Connection, QueryBuilder, failure, query, query_scalar};

pub(super) async fn create_user(
    connection: &mut Connection,
    user: &User,
    identity: &ExternalIdentity,
    joining: &Joining,
    members_max: usize,
    by: &Deed,
) -> Result<Membership, StoreError> {
    if user_of(connection, identity).await?.is_some() {
        return Err(StoreError::AlreadyExists { field: "identity" });
    }
    let membership = users::create(connection, user, joining, members_max, by).await?;
    insert(connection, &user.id, identity, by).await?;
    let linked = Linked { user: &user.id, identity };
    audit(connection, Some(&membership.workspace), (None, Some(&linked)), by).await?;
    Ok(membership)
}

pub(super) async fn link(
    connection: &mut Connection,
    (id, session): (&UserId, &SessionId),
    identity: &ExternalIdentity,
    identities_max: usize,
    by: &Deed,
) -> Result<(), StoreError> {
    match user_of(connection, identity).await? {
        Some(owner) if owner.id == *id => return Ok(()),
        Some(_) => return Err(StoreError::AlreadyExists { field: "identity" }),
        None => {}
    }
    users::by_id(connection, id).await?.ok_or(StoreError::NotFound)?;
    insert(connection, id, identity, by).await?;
    let count = "SELECT count(*) FROM external_identities WHERE user_id = $1";
    let count: i64 =
        query_scalar(count).bind(id.as_str()).fetch_one(&mut *connection).await.map_err(failure(STORE))?;
    if count > row_limit(identities_max) {
        return Err(StoreError::Full { what: IDENTITIES_FULL });
    }
    // Where the person was at work when they linked it.
    let place = sessions::place(connection, session).await?;
    audit(connection, place.as_ref(), (None, Some(&Linked { user: id, identity })), by).await
}

pub(super) async fn user_of(
    connection: &mut Connection,
    identity: &ExternalIdentity,
) -> Result<Option<User>, StoreError> {
    let mut query = QueryBuilder::new(format!(
        "SELECT {USER_COLUMNS} FROM external_identities \
         JOIN users ON users.id = external_identities.user_id WHERE external_identities.issuer = "
    ));
    query.push_bind(identity.issuer.clone());
    query.push(" AND external_identities.subject = ").push_bind(identity.subject.clone());
    let row = query.build().fetch_optional(connection).await.map_err(failure(STORE))?;
    row.as_ref().map(user).transpose()
}

async fn insert(
    connection: &mut Connection,
    id: &UserId,
    identity: &ExternalIdentity,
    by: &Deed,
) -> Result<(), StoreError> {
    query("INSERT INTO external_identities (issuer, subject, user_id, linked_at) VALUES ($1, $2, $3, $4)")
        .bind(identity.issuer.as_str())
        .bind(identity.subject.as_str())
        .bind(id.as_str())
        .bind(by.at.get())
        .execute(connection)
        .await
        .map_err(failure(STORE))?;
    Ok(())
}
