//! When keys were used last.

use rateguard_core::ids::{KeyId, WorkspaceId};
use rateguard_core::time::Millis;
use rateguard_engine::ports::{KeyUse, StoreError};

use super::{STORE, corrupt};
use crate::database::{Connection, QueryBuilder, Row, failure, query};

/// Notes uses. A key that is gone has no row to belong to; the latest use stays.
pub(super) async fn touch(connection: &mut Connection, uses: &[KeyUse]) -> Result<(), StoreError> {
    let upsert = "INSERT INTO key_uses (workspace_id, key_id, last_used_at) \
                  SELECT workspace_id, id, $3 FROM keys WHERE workspace_id = $1 AND id = $2 \
                  ON CONFLICT (workspace_id, key_id) DO UPDATE SET last_used_at = excluded.last_used_at \
                  WHERE excluded.last_used_at > key_uses.last_used_at";
    for used in uses {
        query(upsert)
            .bind(used.workspace.as_str().to_owned())
            .bind(used.key.as_str().to_owned())
            .bind(used.at.get())
            .execute(&mut *connection)
            .await
            .map_err(failure(STORE))?;
    }
    Ok(())
}

/// When these keys were used last, as far as they were.
pub(super) async fn of_keys(
    connection: &mut Connection,
    workspace: &WorkspaceId,
    keys: &[KeyId],
) -> Result<Vec<(KeyId, Millis)>, StoreError> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let mut query = QueryBuilder::new("SELECT key_id, last_used_at FROM key_uses WHERE workspace_id = ");
    query.push_bind(workspace.as_str().to_owned()).push(" AND key_id IN (");
    let mut list = query.separated(", ");
    for key in keys {
        list.push_bind(key.as_str().to_owned());
    }
    query.push(") ORDER BY key_id");
    let rows = query.build().fetch_all(connection).await.map_err(failure(STORE))?;
    rows.iter().map(key_use).collect()
}

fn key_use(row: &Row) -> Result<(KeyId, Millis), StoreError> {
    let key: &str = row.try_get("key_id").map_err(failure(STORE))?;
    let key = KeyId::parse("key_id", key).map_err(|invalid| corrupt(invalid.to_string()))?;
    Ok((key, Millis::new(row.try_get("last_used_at").map_err(failure(STORE))?)))
}
