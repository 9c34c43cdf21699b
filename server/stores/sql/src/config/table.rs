//! The tables of resources, and their rows.

use rateguard_core::ids::WorkspaceId;
use rateguard_core::time::Millis;
use rateguard_engine::audit::AuditKind;
use rateguard_engine::listing::OrderBy;
use rateguard_engine::ports::{Resource, ResourceKind, StoreError, Stored};
use sqlx::Error;

use super::body::{self, BodyError, Columns, Unique};
use super::{STORE, corrupt};
use crate::database::{QueryBuilder, Row, Scope, failure};

/// What is unique of a price, in columns that are made from its body.
const PRICE_COLUMNS: &str = "provider, model, effective_from_ms";

/// Where the resources of one kind stand.
pub(super) struct Table {
    /// What stands there.
    pub kind: ResourceKind,
    /// The same for the audit trail.
    pub audit: AuditKind,
    /// The kind as the feed of changes writes it.
    pub code: &'static str,
    /// The table.
    pub name: &'static str,
    /// What is unique besides the id.
    pub unique: Option<UniqueValue>,
    /// The column of the name for people; `None` where they have none.
    pub display_name: Option<&'static str>,
    /// What is full when a workspace has too many of them.
    pub full: &'static str,
}

/// What is unique besides the id.
pub(super) struct UniqueValue {
    /// The field, as errors name it.
    pub field: &'static str,
    /// The column that is written for it; `None` where columns are made from the body.
    pub column: Option<&'static str>,
    /// Whether two workspaces may have the same value.
    pub by_workspace: bool,
}

const APIS: Table = Table {
    kind: ResourceKind::Api,
    audit: AuditKind::Api,
    code: "api",
    name: "apis",
    unique: Some(UniqueValue { field: "slug", column: Some("slug"), by_workspace: true }),
    display_name: Some("display_name"),
    full: "the workspace's list of APIs",
};
const KEYS: Table = Table {
    kind: ResourceKind::Key,
    audit: AuditKind::Key,
    code: "key",
    name: "keys",
    unique: Some(UniqueValue { field: "secret", column: Some("secret_sha256"), by_workspace: false }),
    display_name: Some("display_name"),
    full: "the workspace's list of keys",
};
const RULES: Table = Table {
    kind: ResourceKind::Rule,
    audit: AuditKind::Rule,
    code: "rule",
    name: "rules",
    unique: None,
    display_name: Some("display_name"),
    full: "the workspace's list of rules",
};
const BUDGETS: Table = Table {
    kind: ResourceKind::Budget,
    audit: AuditKind::Budget,
    code: "budget",
    name: "budgets",
    unique: None,
    display_name: Some("display_name"),
    full: "the workspace's list of budgets",
};
const PRICE_OVERRIDES: Table = Table {
    kind: ResourceKind::PriceOverride,
    audit: AuditKind::PriceOverride,
    code: "price_override",
    name: "price_overrides",
    unique: Some(UniqueValue { field: "effective_from", column: None, by_workspace: true }),
    display_name: None,
    full: "the workspace's list of prices",
};

/// The table of a kind.
pub(super) fn of(kind: ResourceKind) -> &'static Table {
    match kind {
        ResourceKind::Api => &APIS,
        ResourceKind::Key => &KEYS,
        ResourceKind::Rule => &RULES,
        ResourceKind::Budget => &BUDGETS,
        ResourceKind::PriceOverride => &PRICE_OVERRIDES,
    }
}

/// The kind that was written with a code; `None` for one of a later version.
pub(super) fn kind_of(code: &str) -> Option<ResourceKind> {
    ResourceKind::ALL.into_iter().find(|kind| of(*kind).code == code)
}

impl Table {
    fn unique_column(&self) -> Option<&'static str> {
        self.unique.as_ref()?.column
    }

    /// Whose rows the change of one must look at: what is unique in the installation may be anyone's.
    pub fn scope_of_change<'a>(&self, workspace: &'a WorkspaceId) -> Scope<'a> {
        match &self.unique {
            Some(unique) if !unique.by_workspace => Scope::Installation,
            _ => Scope::Workspace(workspace),
        }
    }

    /// The column that lists of an order have before the id; `None` where there is only the id.
    pub fn order_column(&self, by: OrderBy) -> Option<&'static str> {
        match by {
            OrderBy::Id => None,
            OrderBy::CreateTime | OrderBy::JoinTime => Some("created_at"),
            OrderBy::UpdateTime => Some("updated_at"),
            OrderBy::DisplayName => self.display_name,
        }
    }

    /// A query of whole rows, to be continued with conditions.
    pub fn select(&self) -> QueryBuilder {
        let unique = self.unique_column().unwrap_or("NULL");
        QueryBuilder::new(format!(
            "SELECT workspace_id, id, {unique} AS unique_value, version, created_at, updated_at, \
             body_version, body FROM {}",
            self.name
        ))
    }

    /// A query of the rows that have one of these unique values, to be read with [`holder`].
    pub fn select_holders(&self, workspace: &WorkspaceId, values: &[&Unique]) -> Option<QueryBuilder> {
        let unique = self.unique.as_ref()?;
        let columns = unique.column.unwrap_or(PRICE_COLUMNS);
        let mut query =
            QueryBuilder::new(format!("SELECT workspace_id, id, {columns} FROM {} WHERE ", self.name));
        query.push(format_args!("({columns}) IN ("));
        query.push_values(values.iter().copied(), |mut row, value| {
            match value {
                Unique::Slug(slug) => row.push_bind(slug.clone()),
                Unique::Secret(secret) => row.push_bind(secret.clone()),
                Unique::Price { provider, model, effective_from } => {
                    row.push_bind(provider.clone()).push_bind(model.clone()).push_bind(effective_from.get())
                }
                Unique::None => &mut row,
            };
        });
        query.push(")");
        if unique.by_workspace {
            query.push(" AND workspace_id = ").push_bind(workspace.as_str().to_owned());
        }
        Some(query)
    }

    /// The insertion of new rows; none is affected where the id or the unique value exists.
    pub fn insert(&self, stored: &[&Stored<Resource>]) -> Result<QueryBuilder, BodyError> {
        let mut query = self.insertion(stored)?;
        query.push(" ON CONFLICT DO NOTHING");
        Ok(query)
    }

    /// The change of rows that are there and keep their unique values.
    pub fn overwrite(&self, stored: &[&Stored<Resource>]) -> Result<QueryBuilder, BodyError> {
        let mut query = self.insertion(stored)?;
        query.push(
            " ON CONFLICT (workspace_id, id) DO UPDATE SET version = excluded.version, \
             updated_at = excluded.updated_at, body_version = excluded.body_version, body = excluded.body",
        );
        Ok(query)
    }

    fn insertion(&self, stored: &[&Stored<Resource>]) -> Result<QueryBuilder, BodyError> {
        let unique = self.unique_column().map_or(String::new(), |column| format!(", {column}"));
        let mut query = QueryBuilder::new(format!(
            "INSERT INTO {} (workspace_id, id, version, created_at, updated_at, body_version, body{unique}) ",
            self.name
        ));
        let bodies: Vec<String> =
            stored.iter().map(|stored| body::encode(&stored.value)).collect::<Result<_, _>>()?;
        query.push_values(stored.iter().zip(bodies), |mut row, (stored, body)| {
            let columns = body::columns(&stored.value);
            row.push_bind(stored.workspace.as_str()).push_bind(columns.id);
            row.push_bind(to_column(stored.version));
            row.push_bind(stored.created_at.get()).push_bind(stored.updated_at.get());
            row.push_bind(body::BODY_VERSION).push_bind(body);
            match columns.unique {
                Unique::Slug(slug) => row.push_bind(slug),
                Unique::Secret(secret) => row.push_bind(secret),
                // Made from the body.
                Unique::Price { .. } | Unique::None => &mut row,
            };
        });
        Ok(query)
    }

    /// A query of whole rows of one workspace, by their ids.
    pub fn select_ids(&self, workspace: &WorkspaceId, ids: &[&str]) -> QueryBuilder {
        let mut query = self.select();
        push_ids(&mut query, workspace, ids);
        query
    }

    /// The removal of rows.
    pub fn delete(&self, workspace: &WorkspaceId, ids: &[&str]) -> QueryBuilder {
        let mut query = QueryBuilder::new(format!("DELETE FROM {}", self.name));
        push_ids(&mut query, workspace, ids);
        query
    }

    /// The change of a row.
    pub fn update(&self, stored: &Stored<Resource>) -> Result<QueryBuilder, BodyError> {
        let columns = body::columns(&stored.value);
        let mut query = QueryBuilder::new(format!("UPDATE {} SET version = ", self.name));
        query.push_bind(to_column(stored.version));
        query.push(", updated_at = ").push_bind(stored.updated_at.get());
        query.push(", body_version = ").push_bind(body::BODY_VERSION);
        query.push(", body = ").push_bind(body::encode(&stored.value)?);
        if let Some(column) = self.unique_column() {
            query.push(", ").push(column).push(" = ");
            push_unique(&mut query, &columns.unique);
        }
        push_place(&mut query, &stored.workspace, &columns.id);
        Ok(query)
    }
}

/// Continues a query with the place of one resource.
pub(super) fn push_place(query: &mut QueryBuilder, workspace: &WorkspaceId, id: &str) {
    query.push(" WHERE workspace_id = ").push_bind(workspace.as_str().to_owned());
    query.push(" AND id = ").push_bind(id.to_owned());
}

/// Continues a query with the places of several resources of one workspace.
pub(super) fn push_ids(query: &mut QueryBuilder, workspace: &WorkspaceId, ids: &[&str]) {
    query.push(" WHERE workspace_id = ").push_bind(workspace.as_str().to_owned());
    query.push(" AND id IN (");
    let mut list = query.separated(", ");
    for id in ids {
        list.push_bind(*id);
    }
    query.push(")");
}

/// Who has a unique value, from a row of [`Table::select_holders`]: the value, the workspace and the id.
pub(super) fn holder(kind: ResourceKind, row: &Row) -> Result<(Unique, String, String), Error> {
    let unique = match kind {
        ResourceKind::Api => Unique::Slug(row.try_get("slug")?),
        ResourceKind::Key => Unique::Secret(row.try_get("secret_sha256")?),
        ResourceKind::PriceOverride => Unique::Price {
            provider: row.try_get("provider")?,
            model: row.try_get("model")?,
            effective_from: Millis::new(row.try_get("effective_from_ms")?),
        },
        ResourceKind::Rule | ResourceKind::Budget => Unique::None,
    };
    Ok((unique, row.try_get("workspace_id")?, row.try_get("id")?))
}

fn push_unique(query: &mut QueryBuilder, unique: &Unique) {
    match unique {
        Unique::Slug(slug) => query.push_bind(slug.clone()),
        Unique::Secret(secret) => query.push_bind(secret.clone()),
        Unique::Price { .. } | Unique::None => query.push("NULL"),
    };
}

/// A resource from its row.
pub(super) fn stored(kind: ResourceKind, row: &Row) -> Result<Stored<Resource>, StoreError> {
    let raw = raw(kind, row).map_err(failure(STORE))?;
    let workspace = WorkspaceId::parse("workspace_id", &raw.workspace);
    let workspace = workspace.map_err(|invalid| corrupt(invalid.to_string()))?;
    let place = format!("{} {} of {workspace}", kind.as_str(), raw.columns.id);
    let value = body::decode(kind, raw.columns, raw.body_version, &raw.body)
        .map_err(|error| corrupt(format!("{place}: {error}")))?;
    Ok(Stored {
        workspace,
        value,
        version: from_column(raw.version)?,
        created_at: Millis::new(raw.created_at),
        updated_at: Millis::new(raw.updated_at),
    })
}

/// A row whose body is not understood yet.
pub(super) struct RawRow {
    workspace: String,
    /// What stands in columns of its own.
    pub columns: Columns,
    /// The version.
    pub version: i64,
    /// When it was made.
    pub created_at: i64,
    updated_at: i64,
    body_version: i64,
    /// The rest.
    pub body: String,
}

/// The columns of a row of [`Table::select`].
pub(super) fn raw(kind: ResourceKind, row: &Row) -> Result<RawRow, Error> {
    let unique = match kind {
        ResourceKind::Api => Unique::Slug(row.try_get("unique_value")?),
        ResourceKind::Key => Unique::Secret(row.try_get("unique_value")?),
        ResourceKind::Rule | ResourceKind::Budget | ResourceKind::PriceOverride => Unique::None,
    };
    Ok(RawRow {
        workspace: row.try_get("workspace_id")?,
        columns: Columns { id: row.try_get("id")?, unique },
        version: row.try_get("version")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
        body_version: row.try_get("body_version")?,
        body: row.try_get("body")?,
    })
}

/// A version or revision as a column holds it. One beyond the column's range equals none there.
pub(super) fn to_column(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A version or revision from a column.
pub(super) fn from_column(number: i64) -> Result<u64, StoreError> {
    u64::try_from(number).map_err(|_| corrupt(format!("negative version or revision {number}")))
}
