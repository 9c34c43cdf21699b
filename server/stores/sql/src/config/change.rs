//! Changes of the configuration, each within a transaction that the caller commits.

use rateguard_core::ids::WorkspaceId;
use rateguard_core::limits::PRICES_PER_MODEL_MAX;
use rateguard_core::time::Millis;
use rateguard_engine::audit::{AuditKind, Deed, Shown};
use rateguard_engine::ports::{
    MODEL_PRICES_FULL, Resource, ResourceChange, ResourceKind, StoreError, Stored,
};
use rateguard_engine::resources::Workspace;

use super::body::{self, BodyError, Columns, Unique};
use super::references::{Place, Touched};
use super::shown;
use super::table::{self, Table, from_column, push_place, to_column};
use super::{STORE, row_limit};
use crate::audit::{Fact, record};
use crate::database::{Connection, Feed, QueryBuilder, Scope, failure, notify, query, query_scalar};

/// The version of a new resource.
const FIRST_VERSION: u64 = 1;

/// A resource as it is stored when it is made.
pub(super) fn first_version(workspace: &WorkspaceId, value: Resource, now: Millis) -> Stored<Resource> {
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
pub(super) async fn make_all(
    connection: &mut Connection,
    workspace: &WorkspaceId,
    changes: Vec<ResourceChange>,
    by: &Deed,
) -> Result<Vec<Stored<Resource>>, StoreError> {
    let (mut stored, mut touched) = (Vec::new(), Touched::default());
    for change in changes {
        stored.extend(make(connection, workspace, change, by, &mut touched).await?);
    }
    touched.check(connection, workspace).await?;
    Ok(stored)
}

async fn make(
    connection: &mut Connection,
    workspace: &WorkspaceId,
    change: ResourceChange,
    by: &Deed,
    touched: &mut Touched,
) -> Result<Option<Stored<Resource>>, StoreError> {
    match change {
        ResourceChange::Insert { resource, limit } => {
            let stored = first_version(workspace, resource, by.at);
            insert_unchecked(connection, &stored, limit, by, touched).await.map(|()| Some(stored))
        }
        ResourceChange::Replace { resource, expected } => {
            replace_unchecked(connection, workspace.clone(), resource, expected, by, touched).await.map(Some)
        }
        ResourceChange::Remove { kind, id, expected } => {
            let place = Place { workspace, kind, id: &id };
            remove_unchecked(connection, place, Some(expected), by, touched).await.map(|()| None)
        }
    }
}

pub(super) async fn insert_resource(
    connection: &mut Connection,
    stored: &Stored<Resource>,
    limit: usize,
    by: &Deed,
) -> Result<(), StoreError> {
    let mut touched = Touched::default();
    insert_unchecked(connection, stored, limit, by, &mut touched).await?;
    touched.check(connection, &stored.workspace).await
}

pub(super) async fn replace_resource(
    connection: &mut Connection,
    workspace: WorkspaceId,
    resource: Resource,
    expected: u64,
    by: &Deed,
) -> Result<Stored<Resource>, StoreError> {
    let mut touched = Touched::default();
    let stored = replace_unchecked(connection, workspace, resource, expected, by, &mut touched).await?;
    touched.check(connection, &stored.workspace).await?;
    Ok(stored)
}

pub(super) async fn remove_resource(
    connection: &mut Connection,
    workspace: &WorkspaceId,
    kind: ResourceKind,
    id: &str,
    expected: Option<u64>,
    by: &Deed,
) -> Result<(), StoreError> {
    let mut touched = Touched::default();
    remove_unchecked(connection, Place { workspace, kind, id }, expected, by, &mut touched).await?;
    touched.check(connection, workspace).await
}

/// Makes other writers wait until this transaction ends, as taking a revision does, without taking
/// one; refuses where the workspace has changed after the revision `seen`.
pub(super) async fn lock_unchanged(
    connection: &mut Connection,
    workspace: &WorkspaceId,
    seen: u64,
) -> Result<(), StoreError> {
    lock(connection).await?;
    let later = query("SELECT id FROM changes WHERE revision > $1 AND workspace_id = $2 LIMIT 1")
        .bind(to_column(seen))
        .bind(workspace.as_str())
        .fetch_optional(connection)
        .await
        .map_err(failure(STORE))?;
    if later.is_some() { Err(StoreError::VersionMismatch) } else { Ok(()) }
}

/// Makes other writers wait until this transaction ends. It must be its first statement.
pub(super) async fn lock(connection: &mut Connection) -> Result<(), StoreError> {
    query("UPDATE revisions SET revision = revision WHERE only_row = 1")
        .execute(connection)
        .await
        .map_err(failure(STORE))?;
    Ok(())
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

async fn insert_unchecked(
    connection: &mut Connection,
    stored: &Stored<Resource>,
    limit: usize,
    by: &Deed,
    touched: &mut Touched,
) -> Result<(), StoreError> {
    let revision = next_revision(connection).await?;
    let (workspace, table) = (&stored.workspace, table::of(stored.value.kind()));
    if !workspace_exists(connection, workspace).await? {
        return Err(StoreError::NotFound);
    }
    let mut insert = table.insert(stored).map_err(unwritable)?;
    let inserted = insert.build().execute(&mut *connection).await.map_err(failure(STORE))?;
    if inserted.rows_affected() == 0 {
        let id_exists = find_versioned(connection, table, workspace, stored.value.id()).await?.is_some();
        let unique_field = table.unique.as_ref().map_or("id", |unique| unique.field);
        return Err(StoreError::AlreadyExists { field: if id_exists { "id" } else { unique_field } });
    }
    check_room(connection, stored, limit).await?;
    touched.put(connection, workspace, &stored.value).await?;
    let after = Some(shown_now(&stored.value)?);
    Change { revision, workspace, table, id: stored.value.id(), before: None, after }
        .record(connection, by)
        .await
}

/// Refuses a resource that was just put in where there are too many of it.
async fn check_room(
    connection: &mut Connection,
    stored: &Stored<Resource>,
    limit: usize,
) -> Result<(), StoreError> {
    let (workspace, table) = (&stored.workspace, table::of(stored.value.kind()));
    if count(connection, table, workspace).await? > row_limit(limit) {
        return Err(StoreError::Full { what: table.full });
    }
    let unique = body::columns(&stored.value).unique;
    let Some(mut query) = table.count_of_model(workspace, &unique) else { return Ok(()) };
    let of_model: i64 = query.build_query_scalar().fetch_one(connection).await.map_err(failure(STORE))?;
    if of_model > row_limit(PRICES_PER_MODEL_MAX) {
        return Err(StoreError::Full { what: MODEL_PRICES_FULL });
    }
    Ok(())
}

async fn replace_unchecked(
    connection: &mut Connection,
    workspace: WorkspaceId,
    resource: Resource,
    expected: u64,
    by: &Deed,
    touched: &mut Touched,
) -> Result<Stored<Resource>, StoreError> {
    let revision = next_revision(connection).await?;
    let table = table::of(resource.kind());
    let before = find_versioned(connection, table, &workspace, resource.id()).await?;
    let before = at_version(before, Some(expected))?;
    let value = body::columns(&resource).unique;
    if let Some(unique) = &table.unique
        && unique_is_taken(connection, table, &workspace, resource.id(), &value).await?
    {
        return Err(StoreError::AlreadyExists { field: unique.field });
    }
    let version = before.version + 1;
    let stored =
        Stored { workspace, value: resource, version, created_at: before.created_at, updated_at: by.at };
    let mut update = table.update(&stored).map_err(unwritable)?;
    update.build().execute(&mut *connection).await.map_err(failure(STORE))?;
    touched.put(connection, &stored.workspace, &stored.value).await?;
    let change = Change {
        revision,
        workspace: &stored.workspace,
        table,
        id: stored.value.id(),
        before: Some(before.shown),
        after: Some(shown_now(&stored.value)?),
    };
    change.record(connection, by).await?;
    Ok(stored)
}

async fn remove_unchecked(
    connection: &mut Connection,
    place: Place<'_>,
    expected: Option<u64>,
    by: &Deed,
    touched: &mut Touched,
) -> Result<(), StoreError> {
    let Place { workspace, kind, id } = place;
    let revision = next_revision(connection).await?;
    let table = table::of(kind);
    let before = at_version(find_versioned(connection, table, workspace, id).await?, expected)?;
    let mut delete = QueryBuilder::new(format!("DELETE FROM {}", table.name));
    push_place(&mut delete, workspace, id);
    delete.build().execute(&mut *connection).await.map_err(failure(STORE))?;
    touched.remove(connection, place).await?;
    Change { revision, workspace, table, id, before: Some(before.shown), after: None }
        .record(connection, by)
        .await
}

/// What a change must know of a row. The body is not understood, so that a row whose body cannot be
/// can still be replaced or removed.
struct Versioned {
    version: u64,
    created_at: Millis,
    shown: Shown,
}

async fn find_versioned(
    connection: &mut Connection,
    table: &Table,
    workspace: &WorkspaceId,
    id: &str,
) -> Result<Option<Versioned>, StoreError> {
    let mut query = table.select();
    push_place(&mut query, workspace, id);
    let found = query.build().fetch_optional(connection).await.map_err(failure(STORE))?;
    let Some(row) = found else { return Ok(None) };
    let raw = table::raw(table.kind, &row).map_err(failure(STORE))?;
    Ok(Some(Versioned {
        version: from_column(raw.version)?,
        created_at: Millis::new(raw.created_at),
        shown: shown::resource(&raw.columns, &raw.body),
    }))
}

fn at_version(found: Option<Versioned>, expected: Option<u64>) -> Result<Versioned, StoreError> {
    let found = found.ok_or(StoreError::NotFound)?;
    if expected.is_some_and(|expected| expected != found.version) {
        return Err(StoreError::VersionMismatch);
    }
    Ok(found)
}

/// Takes the next revision. It must be the first statement of a change: see the module.
pub(super) async fn next_revision(connection: &mut Connection) -> Result<i64, StoreError> {
    query_scalar("UPDATE revisions SET revision = revision + 1 WHERE only_row = 1 RETURNING revision")
        .fetch_one(connection)
        .await
        .map_err(failure(STORE))
}

/// An entry of the feed.
struct Change<'a> {
    revision: i64,
    workspace: &'a WorkspaceId,
    table: &'a Table,
    id: &'a str,
    before: Option<Shown>,
    after: Option<Shown>,
}

impl Change<'_> {
    /// Writes the entry of the feed, and that of the audit trail.
    async fn record(self, connection: &mut Connection, by: &Deed) -> Result<(), StoreError> {
        let insert = "INSERT INTO changes (revision, workspace_id, kind, id, changed_at) \
                      VALUES ($1, $2, $3, $4, $5)";
        query(insert)
            .bind(self.revision)
            .bind(self.workspace.as_str())
            .bind(self.table.code)
            .bind(self.id)
            .bind(by.at.get())
            .execute(&mut *connection)
            .await
            .map_err(failure(STORE))?;
        notify(connection, Feed::Config).await.map_err(failure(STORE))?;
        let Self { workspace, table, id, before, after, .. } = self;
        record(connection, Fact { chain: Some(workspace), kind: table.audit, id, before, after }, by).await
    }
}

async fn workspace_exists(connection: &mut Connection, workspace: &WorkspaceId) -> Result<bool, StoreError> {
    let found = query("SELECT id FROM workspaces WHERE id = $1")
        .bind(workspace.as_str())
        .fetch_optional(connection)
        .await;
    Ok(found.map_err(failure(STORE))?.is_some())
}

async fn count(
    connection: &mut Connection,
    table: &Table,
    workspace: &WorkspaceId,
) -> Result<i64, StoreError> {
    let mut query = QueryBuilder::new(format!("SELECT count(*) FROM {}", table.name));
    query.push(" WHERE workspace_id = ").push_bind(workspace.as_str().to_owned());
    query.build_query_scalar().fetch_one(connection).await.map_err(failure(STORE))
}

/// Whether another resource than this one has the unique value.
async fn unique_is_taken(
    connection: &mut Connection,
    table: &Table,
    workspace: &WorkspaceId,
    id: &str,
    unique: &Unique,
) -> Result<bool, StoreError> {
    let Some(mut query) = table.select_by_unique(workspace, unique) else { return Ok(false) };
    let found: Option<(String, String)> =
        query.build_query_as().fetch_optional(connection).await.map_err(failure(STORE))?;
    Ok(found.is_some_and(|(owner, other)| owner != workspace.as_str() || other != id))
}

fn shown_now(resource: &Resource) -> Result<Shown, StoreError> {
    let columns: Columns = body::columns(resource);
    Ok(shown::resource(&columns, &body::encode(resource).map_err(unwritable)?))
}

pub(super) fn unwritable(error: BodyError) -> StoreError {
    StoreError::Unavailable { store: STORE, detail: error.to_string() }
}
