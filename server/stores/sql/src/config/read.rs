//! Reads of the configuration.

use rateguard_core::ids::{DisplayName, WorkspaceId};
use rateguard_core::money::Currency;
use rateguard_core::time::Zone;
use rateguard_engine::listing::PageQuery;
use rateguard_engine::ports::{
    Change, Resource, ResourceKind, ResourcePlace, Snapshot, StoreError, Stored, WorkspaceState,
};
use rateguard_engine::resources::Workspace;

use super::body::BodyError;
use super::change::ROWS_PER_STATEMENT;
use super::table::{self, from_column, push_place, to_column};
use super::{STORE, corrupt, row_limit};
use crate::database::{Connection, QueryBuilder, Row, failure, push_page, query, query_scalar};

pub(super) async fn find(
    connection: &mut Connection,
    workspace: &WorkspaceId,
    kind: ResourceKind,
    id: &str,
) -> Result<Option<Stored<Resource>>, StoreError> {
    let mut query = table::of(kind).select();
    push_place(&mut query, workspace, id);
    let row = query.build().fetch_optional(connection).await.map_err(failure(STORE))?;
    row.map(|row| table::stored(kind, &row)).transpose()
}

/// Those of these resources that are there.
pub(super) async fn find_all(
    connection: &mut Connection,
    places: &[ResourcePlace],
) -> Result<Vec<Stored<Resource>>, StoreError> {
    let mut found = Vec::new();
    for kind in ResourceKind::ALL {
        let of_kind: Vec<_> = places.iter().filter(|place| place.kind == kind).collect();
        for places in of_kind.chunks(ROWS_PER_STATEMENT) {
            let mut query = table::of(kind).select();
            query.push(" WHERE (workspace_id, id) IN (");
            query.push_values(places, |mut row, place| {
                row.push_bind(place.workspace.as_str()).push_bind(place.id.as_str());
            });
            query.push(")");
            found.extend(fetch_resources(connection, kind, query).await?);
        }
    }
    Ok(found)
}

/// Those of these workspaces that are there.
pub(super) async fn workspaces(
    connection: &mut Connection,
    ids: &[WorkspaceId],
) -> Result<Vec<Workspace>, StoreError> {
    let mut found = Vec::new();
    for ids in ids.chunks(ROWS_PER_STATEMENT) {
        let mut query = QueryBuilder::new("SELECT id, name, zone, currency FROM workspaces WHERE id IN (");
        let mut list = query.separated(", ");
        for id in ids {
            list.push_bind(id.as_str());
        }
        query.push(")");
        let rows = query.build().fetch_all(connection).await.map_err(failure(STORE))?;
        found.extend(rows.iter().map(workspace).collect::<Result<Vec<_>, _>>()?);
    }
    Ok(found)
}

pub(super) async fn list(
    connection: &mut Connection,
    workspace: &WorkspaceId,
    kind: ResourceKind,
    page: &PageQuery,
) -> Result<Vec<Stored<Resource>>, StoreError> {
    let table = table::of(kind);
    let mut query = table.select();
    query.push(" WHERE workspace_id = ").push_bind(workspace.as_str().to_owned());
    push_page(&mut query, table.order_column(page.order.by), page);
    fetch_resources(connection, kind, query).await
}

pub(super) async fn changes(
    connection: &mut Connection,
    after: u64,
    limit: usize,
) -> Result<Vec<Change>, StoreError> {
    let rows = query(
        "SELECT revision, workspace_id, kind, id FROM changes \
         WHERE revision > $1 ORDER BY revision LIMIT $2",
    )
    .bind(to_column(after))
    .bind(row_limit(limit))
    .fetch_all(connection)
    .await
    .map_err(failure(STORE))?;
    rows.iter().map(change).collect()
}

pub(super) async fn fetch_resources(
    connection: &mut Connection,
    kind: ResourceKind,
    mut query: QueryBuilder,
) -> Result<Vec<Stored<Resource>>, StoreError> {
    let rows = query.build().fetch_all(connection).await.map_err(failure(STORE))?;
    rows.iter().map(|row| table::stored(kind, row)).collect()
}

pub(super) async fn workspace_state(
    connection: &mut Connection,
    workspace: &WorkspaceId,
    limit: usize,
) -> Result<WorkspaceState, StoreError> {
    let revision = last_change_of(connection, workspace).await?;
    let mut resources = Vec::new();
    for kind in ResourceKind::ALL {
        resources.extend(list(connection, workspace, kind, &PageQuery::first(limit)).await?);
    }
    Ok(WorkspaceState { revision, resources })
}

/// The revision of a workspace's last change, which the changes of others leave as it is.
async fn last_change_of(connection: &mut Connection, workspace: &WorkspaceId) -> Result<u64, StoreError> {
    let query = "SELECT revision FROM changes WHERE workspace_id = $1 ORDER BY revision DESC LIMIT 1";
    let revision: Option<i64> = query_scalar(query)
        .bind(workspace.as_str())
        .fetch_optional(connection)
        .await
        .map_err(failure(STORE))?;
    revision.map_or(Ok(0), from_column)
}

async fn revision(connection: &mut Connection) -> Result<u64, StoreError> {
    let revision: i64 = query_scalar("SELECT revision FROM revisions WHERE only_row = 1")
        .fetch_one(connection)
        .await
        .map_err(failure(STORE))?;
    from_column(revision)
}

pub(super) async fn snapshot(connection: &mut Connection) -> Result<Snapshot, StoreError> {
    let revision = revision(connection).await?;
    let rows = query("SELECT id, name, zone, currency FROM workspaces ORDER BY id")
        .fetch_all(&mut *connection)
        .await
        .map_err(failure(STORE))?;
    let workspaces = rows.iter().map(workspace).collect::<Result<_, _>>()?;
    let mut resources = Vec::new();
    for kind in ResourceKind::ALL {
        let mut query = table::of(kind).select();
        query.push(" ORDER BY workspace_id, id");
        resources.extend(fetch_resources(connection, kind, query).await?);
    }
    Ok(Snapshot { revision, workspaces, resources })
}

pub(crate) fn workspace(row: &Row) -> Result<Workspace, StoreError> {
    let text = |column: &str| row.try_get::<String, _>(column).map_err(failure(STORE));
    let (id, name, zone, currency) = (text("id")?, text("name")?, text("zone")?, text("currency")?);
    let parse = || {
        Ok(Workspace {
            id: WorkspaceId::parse("id", &id)?,
            name: DisplayName::parse("name", &name)?,
            zone: Zone::parse("zone", &zone)?,
            currency: Currency::parse("currency", &currency)?,
        })
    };
    parse().map_err(|error: BodyError| corrupt(format!("workspace {id}: {error}")))
}

fn change(row: &Row) -> Result<Change, StoreError> {
    let text = |column: &str| row.try_get::<String, _>(column).map_err(failure(STORE));
    let workspace = WorkspaceId::parse("workspace_id", &text("workspace_id")?);
    Ok(Change {
        revision: from_column(row.try_get("revision").map_err(failure(STORE))?)?,
        workspace: workspace.map_err(|invalid| corrupt(invalid.to_string()))?,
        kind: table::kind_of(&text("kind")?),
        id: text("id")?,
    })
}
