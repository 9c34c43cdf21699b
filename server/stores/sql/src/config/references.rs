//! What names what: APIs and keys are named by keys, rules and budgets. Kept beside the bodies, so that what
//! is in use is found without reading them all, and looked at when all changes of a transaction are made.
//!
//! Every writer waits for the one before it, so what was looked at stays true until it is committed: neither
//! can something go that is named, nor something be named that has just gone.

use rateguard_core::ids::WorkspaceId;
use rateguard_engine::ports::{Resource, ResourceKind, StoreError, USERS_TOLD_MAX};

use super::table::{self, from_column, push_place};
use super::{STORE, row_limit};
use crate::database::{Connection, QueryBuilder, failure, query, query_as, query_scalar};

/// Which resource.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    /// The tenant.
    pub workspace: &'a WorkspaceId,
    /// Its kind.
    pub kind: ResourceKind,
    /// Its id.
    pub id: &'a str,
}

/// What the changes of a transaction have done to what names what.
#[derive(Default)]
pub(super) struct Touched {
    /// What is named now and was not before.
    named: Vec<(ResourceKind, String)>,
    /// What went.
    removed: Vec<(ResourceKind, String)>,
}

impl Touched {
    /// A resource is there now, or is another one.
    pub async fn put(
        &mut self,
        connection: &mut Connection,
        workspace: &WorkspaceId,
        resource: &Resource,
    ) -> Result<(), StoreError> {
        let user = Place { workspace, kind: resource.kind(), id: resource.id() };
        let before = names_of(connection, user).await?;
        forget(connection, user).await?;
        for (kind, id) in resource.references() {
            let code = table::of(kind).code;
            insert(connection, user, code, id).await?;
            if !before.iter().any(|(named, named_id)| named == code && named_id == id) {
                self.named.push((kind, id.to_owned()));
            }
        }
        Ok(())
    }

    /// A resource is gone, and names nothing any more.
    pub async fn remove(&mut self, connection: &mut Connection, place: Place<'_>) -> Result<(), StoreError> {
        self.removed.push((place.kind, place.id.to_owned()));
        forget(connection, place).await
    }

    /// Looks whether what is named now is there, and whether what went is named by nothing.
    pub async fn check(self, connection: &mut Connection, workspace: &WorkspaceId) -> Result<(), StoreError> {
        for (kind, id) in self.removed {
            let place = Place { workspace, kind, id: &id };
            // Perhaps it was made anew since.
            if !exists(connection, place).await? {
                check_unused(connection, place).await?;
            }
        }
        for (kind, id) in self.named {
            if !exists(connection, Place { workspace, kind, id: &id }).await? {
                return Err(StoreError::Dangling { kind, id });
            }
        }
        Ok(())
    }
}

async fn exists(connection: &mut Connection, place: Place<'_>) -> Result<bool, StoreError> {
    let mut query = QueryBuilder::new(format!("SELECT id FROM {}", table::of(place.kind).name));
    push_place(&mut query, place.workspace, place.id);
    Ok(query.build().fetch_optional(connection).await.map_err(failure(STORE))?.is_some())
}

async fn check_unused(connection: &mut Connection, place: Place<'_>) -> Result<(), StoreError> {
    let sql = "SELECT user_kind, user_id FROM resource_references \
                 WHERE workspace_id = $1 AND kind = $2 AND id = $3 ORDER BY user_kind, user_id LIMIT $4";
    let users: Vec<(String, String)> = query_as(sql)
        .bind(place.workspace.as_str())
        .bind(table::of(place.kind).code)
        .bind(place.id)
        .bind(row_limit(USERS_TOLD_MAX))
        .fetch_all(&mut *connection)
        .await
        .map_err(failure(STORE))?;
    if users.is_empty() {
        return Ok(());
    }
    let known = |(code, id): (String, String)| Ok((table::kind_of(&code)?, id));
    let by: Vec<_> = users.into_iter().map(known).collect::<Result<_, StoreError>>()?;
    let more = from_column(count(connection, place).await?)?.saturating_sub(by.len() as u64);
    Err(StoreError::InUse { kind: place.kind, id: place.id.to_owned(), by, more })
}

async fn count(connection: &mut Connection, place: Place<'_>) -> Result<i64, StoreError> {
    let sql = "SELECT count(*) FROM resource_references WHERE workspace_id = $1 AND kind = $2 AND id = $3";
    query_scalar(sql)
        .bind(place.workspace.as_str())
        .bind(table::of(place.kind).code)
        .bind(place.id)
        .fetch_one(connection)
        .await
        .map_err(failure(STORE))
}

/// What a resource named until now: kinds and ids.
async fn names_of(connection: &mut Connection, user: Place<'_>) -> Result<Vec<(String, String)>, StoreError> {
    let sql = "SELECT kind, id FROM resource_references \
                 WHERE workspace_id = $1 AND user_kind = $2 AND user_id = $3";
    query_as(sql)
        .bind(user.workspace.as_str())
        .bind(table::of(user.kind).code)
        .bind(user.id)
        .fetch_all(connection)
        .await
        .map_err(failure(STORE))
}

async fn forget(connection: &mut Connection, user: Place<'_>) -> Result<(), StoreError> {
    let statement = "DELETE FROM resource_references \
                     WHERE workspace_id = $1 AND user_kind = $2 AND user_id = $3";
    query(statement)
        .bind(user.workspace.as_str())
        .bind(table::of(user.kind).code)
        .bind(user.id)
        .execute(connection)
        .await
        .map_err(failure(STORE))?;
    Ok(())
}

async fn insert(
    connection: &mut Connection,
    user: Place<'_>,
    code: &'static str,
    id: &str,
) -> Result<(), StoreError> {
    let statement = "INSERT INTO resource_references (workspace_id, kind, id, user_kind, user_id) \
                     VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING";
    query(statement)
        .bind(user.workspace.as_str())
        .bind(code)
        .bind(id)
        .bind(table::of(user.kind).code)
        .bind(user.id)
        .execute(connection)
        .await
        .map_err(failure(STORE))?;
    Ok(())
}
