//! What names what: APIs and keys are named by keys, rules and budgets. Kept beside the bodies, so that what
//! is in use is found without reading them all, and looked at when all changes of a transaction are made.
//!
//! Every writer waits for the one before it, so what was looked at stays true until it is committed: neither
//! can something go that is named, nor something be named that has just gone.

use std::collections::{BTreeMap, HashSet};

use rateguard_core::ids::WorkspaceId;
use rateguard_engine::ports::{Resource, ResourceKind, StoreError, USERS_TOLD_MAX};

use super::change::ROWS_PER_STATEMENT;
use super::table::{self, from_column, push_ids};
use super::{STORE, row_limit};
use crate::database::{Connection, QueryBuilder, Row, failure, query_as, query_scalar};

/// A resource that the changes of a transaction have touched, as it is when all are made.
pub(super) struct Touched<'a> {
    /// Its kind.
    pub kind: ResourceKind,
    /// Its id.
    pub id: &'a str,
    /// Whether it was there before them.
    pub existed: bool,
    /// What it is; `None` where it is gone.
    pub now: Option<&'a Resource>,
}

/// That one resource names another, by the codes and ids of both.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Reference {
    user_kind: String,
    user_id: String,
    kind: String,
    id: String,
}

/// Writes down what these resources name now. Then looks whether what is named now and was not before is
/// there, and whether what went is named by nothing.
pub(super) async fn follow(
    connection: &mut Connection,
    workspace: &WorkspaceId,
    touched: &[Touched<'_>],
) -> Result<(), StoreError> {
    let before = take_out(connection, workspace, touched).await?;
    let mut named = Vec::new();
    let mut now = Vec::new();
    for (user, resource) in touched.iter().filter_map(|user| Some((user, user.now?))) {
        for (kind, id) in resource.references() {
            let reference = reference(user, kind, id);
            if !before.contains(&reference) {
                named.push((kind, id));
            }
            now.push(reference);
        }
    }
    put_in(connection, workspace, &now).await?;
    let gone = touched.iter().filter(|user| user.existed && user.now.is_none());
    check_unused(connection, workspace, gone.map(|user| (user.kind, user.id)).collect()).await?;
    check_there(connection, workspace, named).await
}

fn reference(user: &Touched<'_>, kind: ResourceKind, id: &str) -> Reference {
    Reference {
        user_kind: table::of(user.kind).code.to_owned(),
        user_id: user.id.to_owned(),
        kind: table::of(kind).code.to_owned(),
        id: id.to_owned(),
    }
}

/// Ids by their kinds, each in the order in which they come.
fn by_kind<'a>(
    places: impl Iterator<Item = (ResourceKind, &'a str)>,
) -> BTreeMap<ResourceKind, Vec<&'a str>> {
    let mut ids: BTreeMap<ResourceKind, Vec<&str>> = BTreeMap::new();
    for (kind, id) in places {
        ids.entry(kind).or_default().push(id);
    }
    ids
}

/// Forgets what resources named until now, and gives it.
async fn take_out(
    connection: &mut Connection,
    workspace: &WorkspaceId,
    touched: &[Touched<'_>],
) -> Result<HashSet<Reference>, StoreError> {
    let mut before = HashSet::new();
    let existing = touched.iter().filter(|user| user.existed).map(|user| (user.kind, user.id));
    for (kind, ids) in by_kind(existing) {
        for ids in ids.chunks(ROWS_PER_STATEMENT) {
            let mut select = of_users(
                "SELECT user_kind, user_id, kind, id FROM resource_references",
                workspace,
                kind,
                ids,
            );
            let rows = select.build().fetch_all(connection).await.map_err(failure(STORE))?;
            if rows.is_empty() {
                continue;
            }
            before.extend(rows.iter().map(read).collect::<Result<Vec<_>, _>>()?);
            let mut delete = of_users("DELETE FROM resource_references", workspace, kind, ids);
            delete.build().execute(connection).await.map_err(failure(STORE))?;
        }
    }
    Ok(before)
}

fn of_users(statement: &str, workspace: &WorkspaceId, kind: ResourceKind, ids: &[&str]) -> QueryBuilder {
    let mut query = QueryBuilder::new(statement);
    query.push(" WHERE workspace_id = ").push_bind(workspace.as_str());
    query.push(" AND user_kind = ").push_bind(table::of(kind).code);
    query.push(" AND user_id IN (");
    let mut list = query.separated(", ");
    for id in ids {
        list.push_bind(*id);
    }
    query.push(")");
    query
}

fn read(row: &Row) -> Result<Reference, StoreError> {
    let text = |column: &str| row.try_get::<String, _>(column).map_err(failure(STORE));
    Ok(Reference {
        user_kind: text("user_kind")?,
        user_id: text("user_id")?,
        kind: text("kind")?,
        id: text("id")?,
    })
}

async fn put_in(
    connection: &mut Connection,
    workspace: &WorkspaceId,
    references: &[Reference],
) -> Result<(), StoreError> {
    for references in references.chunks(ROWS_PER_STATEMENT) {
        let mut insert = QueryBuilder::new(
            "INSERT INTO resource_references (workspace_id, kind, id, user_kind, user_id) ",
        );
        insert.push_values(references, |mut row, reference| {
            row.push_bind(workspace.as_str()).push_bind(reference.kind.as_str());
            row.push_bind(reference.id.as_str()).push_bind(reference.user_kind.as_str());
            row.push_bind(reference.user_id.as_str());
        });
        insert.push(" ON CONFLICT DO NOTHING");
        insert.build().execute(connection).await.map_err(failure(STORE))?;
    }
    Ok(())
}

/// Refuses where something is named that is not there.
async fn check_there(
    connection: &mut Connection,
    workspace: &WorkspaceId,
    named: Vec<(ResourceKind, &str)>,
) -> Result<(), StoreError> {
    let mut there = HashSet::new();
    let distinct: HashSet<_> = named.iter().copied().collect();
    for (kind, ids) in by_kind(distinct.into_iter()) {
        for ids in ids.chunks(ROWS_PER_STATEMENT) {
            let mut query = QueryBuilder::new(format!("SELECT id FROM {}", table::of(kind).name));
            push_ids(&mut query, workspace, ids);
            let found: Vec<String> =
                query.build_query_scalar().fetch_all(connection).await.map_err(failure(STORE))?;
            there.extend(found.into_iter().map(|id| (kind, id)));
        }
    }
    let missing = named.into_iter().find(|(kind, id)| !there.contains(&(*kind, (*id).to_owned())));
    missing.map_or(Ok(()), |(kind, id)| Err(StoreError::Dangling { kind, id: id.to_owned() }))
}

/// Refuses where something that went is still named, and tells by what.
async fn check_unused(
    connection: &mut Connection,
    workspace: &WorkspaceId,
    gone: Vec<(ResourceKind, &str)>,
) -> Result<(), StoreError> {
    let mut used = HashSet::new();
    for (kind, ids) in by_kind(gone.iter().copied()) {
        for ids in ids.chunks(ROWS_PER_STATEMENT) {
            let mut query = QueryBuilder::new("SELECT DISTINCT id FROM resource_references");
            push_ids(&mut query, workspace, ids);
            query.push(" AND kind = ").push_bind(table::of(kind).code);
            let found: Vec<String> =
                query.build_query_scalar().fetch_all(connection).await.map_err(failure(STORE))?;
            used.extend(found.into_iter().map(|id| (kind, id)));
        }
    }
    match gone.into_iter().find(|(kind, id)| used.contains(&(*kind, (*id).to_owned()))) {
        Some((kind, id)) => Err(in_use(connection, workspace, kind, id).await?),
        None => Ok(()),
    }
}

/// The refusal of a removal. Users of kinds that only a later version knows are counted, not named.
async fn in_use(
    connection: &mut Connection,
    workspace: &WorkspaceId,
    kind: ResourceKind,
    id: &str,
) -> Result<StoreError, StoreError> {
    let sql = "SELECT user_kind, user_id FROM resource_references \
                 WHERE workspace_id = $1 AND kind = $2 AND id = $3 ORDER BY user_kind, user_id LIMIT $4";
    let users: Vec<(String, String)> = query_as(sql)
        .bind(workspace.as_str())
        .bind(table::of(kind).code)
        .bind(id)
        .bind(row_limit(USERS_TOLD_MAX))
        .fetch_all(&mut *connection)
        .await
        .map_err(failure(STORE))?;
    let sql = "SELECT count(*) FROM resource_references WHERE workspace_id = $1 AND kind = $2 AND id = $3";
    let count: i64 = query_scalar(sql)
        .bind(workspace.as_str())
        .bind(table::of(kind).code)
        .bind(id)
        .fetch_one(connection)
        .await
        .map_err(failure(STORE))?;
    let by: Vec<_> = users.into_iter().filter_map(|(code, id)| Some((table::kind_of(&code)?, id))).collect();
    let more = from_column(count)?.saturating_sub(by.len() as u64);
    Ok(StoreError::InUse { kind, id: id.to_owned(), by, more })
}
