//! Changes of the configuration, each within a transaction that the caller commits.
//!
//! However many changes are made together, each kind of resource takes a few statements: they are thought
//! through in memory first, and what comes of them is written as a whole. A server is some time away, and
//! while one transaction goes on every other writer waits.

mod draft;
mod write;

use rateguard_core::ids::WorkspaceId;
use rateguard_core::limits::PRICES_PER_MODEL_MAX;
use rateguard_core::time::Millis;
use rateguard_engine::audit::{AuditKind, Deed};
use rateguard_engine::ports::{MODEL_PRICES_FULL, Resource, ResourceChange, StoreError, Stored};
use rateguard_engine::resources::Workspace;

use super::body::BodyError;
use super::references::follow;
use super::table::{self, Table, to_column};
use super::{STORE, row_limit, shown};
use crate::audit::{Fact, record, record_all};
use crate::database::{Connection, Feed, QueryBuilder, Scope, failure, notify, query, query_scalar};
use draft::Draft;

/// Rows that one statement writes or asks for. With the fifteen columns of an audit entry they are far
/// fewer values than SQLite (32,766) and PostgreSQL (65,535) take in a statement.
pub(super) const ROWS_PER_STATEMENT: usize = 500;
/// How long the feed keeps an entry: a day. Whoever was away for longer finds a gap in it, and reads
/// everything.
pub(super) const CHANGE_LIFE_MS: i64 = 24 * 60 * 60 * 1_000;
/// Entries that may leave the feed for each that comes, so that it shrinks to what it keeps.
const ENTRIES_DROPPED_PER_ENTRY: usize = 2;
/// The version of a new resource.
const FIRST_VERSION: u64 = 1;

/// A resource as it is stored when it is made.
fn first_version(workspace: &WorkspaceId, value: Resource, now: Millis) -> Stored<Resource> {
    let workspace = workspace.clone();
    Stored { workspace, value, version: FIRST_VERSION, created_at: now, updated_at: now }
}

/// Whose rows several changes must look at.
pub(super) fn scope_of<'a>(workspace: &'a WorkspaceId, changes: &[ResourceChange]) -> Scope<'a> {
    let replaced = changes.iter().filter_map(|change| match change {
        ResourceChange::Replace { resource, .. } => Some(resource.kind()),
        ResourceChange::Insert { .. } | ResourceChange::Remove { .. } => None,
    });
    let mut scopes = replaced.map(|kind| table::of(kind).scope_of_change(workspace));
    let is_wide = scopes.any(|scope| scope == Scope::Installation);
    if is_wide { Scope::Installation } else { Scope::Workspace(workspace) }
}

/// Makes changes in their order; what is stored then, without the removals. What names what is looked at
/// when all are made.
///
/// # Errors
/// Those of the change at fault; the transaction is to be given up then.
pub(super) async fn make_all(
    connection: &mut Connection,
    workspace: &WorkspaceId,
    changes: Vec<ResourceChange>,
    by: &Deed,
) -> Result<Vec<Stored<Resource>>, StoreError> {
    let mut draft = Draft::read(connection, workspace, &changes).await?;
    let mut stored = Vec::new();
    for change in changes {
        stored.extend(draft.make(change, by.at)?);
    }
    write::write(connection, &draft).await?;
    if draft.has_new_prices() {
        check_models(connection, workspace).await?;
    }
    follow(connection, workspace, &draft.touched()).await?;
    tell(connection, &draft.entries(), by.at).await?;
    record_all(connection, Some(workspace), draft.into_facts(), by).await?;
    Ok(stored)
}

/// Refuses where a model has more prices than it may, now that all are made.
async fn check_models(connection: &mut Connection, workspace: &WorkspaceId) -> Result<(), StoreError> {
    let too_many = "SELECT model FROM price_overrides WHERE workspace_id = $1 \
                    GROUP BY provider, model HAVING count(*) > $2 LIMIT 1";
    let found = query(too_many)
        .bind(workspace.as_str())
        .bind(row_limit(PRICES_PER_MODEL_MAX))
        .fetch_optional(connection)
        .await
        .map_err(failure(STORE))?;
    if found.is_some() { Err(StoreError::Full { what: MODEL_PRICES_FULL }) } else { Ok(()) }
}

/// Refuses where the workspace has changed after the revision `seen`.
pub(super) async fn check_unchanged(
    connection: &mut Connection,
    workspace: &WorkspaceId,
    seen: u64,
) -> Result<(), StoreError> {
    let later = query("SELECT id FROM changes WHERE revision > $1 AND workspace_id = $2 LIMIT 1")
        .bind(to_column(seen))
        .bind(workspace.as_str())
        .fetch_optional(connection)
        .await
        .map_err(failure(STORE))?;
    if later.is_some() { Err(StoreError::VersionMismatch) } else { Ok(()) }
}

pub(crate) async fn insert_workspace(
    connection: &mut Connection,
    workspace: &Workspace,
    now: Millis,
) -> Result<(), StoreError> {
    let inserted = query(
        "INSERT INTO workspaces (id, name, zone, currency, created_at) \
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
    )
    .bind(workspace.id.as_str())
    .bind(workspace.name.as_str())
    .bind(workspace.zone.name())
    .bind(workspace.currency.as_str())
    .bind(now.get())
    .execute(connection)
    .await
    .map_err(failure(STORE))?;
    if inserted.rows_affected() == 0 {
        return Err(StoreError::AlreadyExists { field: "id" });
    }
    Ok(())
}

pub(super) async fn create_workspace(
    connection: &mut Connection,
    workspace: &Workspace,
    by: &Deed,
) -> Result<(), StoreError> {
    insert_workspace(connection, workspace, by.at).await?;
    let fact = Fact {
        chain: Some(&workspace.id),
        kind: AuditKind::Workspace,
        id: workspace.id.as_str(),
        before: None,
        after: Some(shown::workspace(workspace)),
    };
    record(connection, fact, by).await
}

/// An entry of the feed.
pub(super) struct Entry<'a> {
    /// The tenant.
    pub workspace: &'a WorkspaceId,
    /// Where the resource stands.
    pub table: &'a Table,
    /// Which it is.
    pub id: &'a str,
}

/// Writes entries of one workspace into the feed, each with the next revision, and tells of them.
pub(super) async fn tell(
    connection: &mut Connection,
    entries: &[Entry<'_>],
    now: Millis,
) -> Result<(), StoreError> {
    let Some(Entry { workspace, .. }) = entries.first() else { return Ok(()) };
    let taken = row_limit(entries.len());
    let take = "UPDATE revisions SET revision = revision + $1 WHERE only_row = 1 RETURNING revision";
    let last: i64 =
        query_scalar(take).bind(taken).fetch_one(&mut *connection).await.map_err(failure(STORE))?;
    let numbered: Vec<_> = (last - taken + 1..).zip(entries).collect();
    for numbered in numbered.chunks(ROWS_PER_STATEMENT) {
        let mut insert =
            QueryBuilder::new("INSERT INTO changes (revision, workspace_id, kind, id, changed_at) ");
        insert.push_values(numbered, |mut row, (revision, entry)| {
            row.push_bind(*revision).push_bind(entry.workspace.as_str());
            row.push_bind(entry.table.code).push_bind(entry.id).push_bind(now.get());
        });
        insert.build().execute(connection).await.map_err(failure(STORE))?;
    }
    drop_old(connection, workspace, entries.len() * ENTRIES_DROPPED_PER_ENTRY, now).await?;
    notify(connection, Feed::Config).await.map_err(failure(STORE))
}

/// Forgets old entries of a workspace that has newer ones: its last change is always known, so that nobody
/// takes a workspace for unchanged that is not.
async fn drop_old(
    connection: &mut Connection,
    workspace: &WorkspaceId,
    limit: usize,
    now: Millis,
) -> Result<(), StoreError> {
    let statement = "DELETE FROM changes WHERE workspace_id = $1 AND revision IN (SELECT revision FROM \
                     (SELECT revision, changed_at FROM changes WHERE workspace_id = $1 \
                     ORDER BY revision LIMIT $2) AS oldest WHERE changed_at < $3)";
    query(statement)
        .bind(workspace.as_str())
        .bind(row_limit(limit))
        .bind(now.get().saturating_sub(CHANGE_LIFE_MS))
        .execute(connection)
        .await
        .map_err(failure(STORE))?;
    Ok(())
}

pub(super) fn unwritable(error: BodyError) -> StoreError {
    StoreError::Unavailable { store: STORE, detail: error.to_string() }
}
