//! Keys that sign access tokens.

use rateguard_core::ids::SigningKeyId;
use rateguard_engine::audit::Deed;
use rateguard_engine::ports::{SealedSigningKey, StoreError};

use super::STORE;
use super::feed::{Entry, record};
use super::row::signing_key;
use super::shown::audit;
use crate::database::{Connection, failure, query};

pub(super) async fn list(connection: &mut Connection) -> Result<Vec<SealedSigningKey>, StoreError> {
    let sql = "SELECT id, sealed, created_at, signs_from FROM signing_keys ORDER BY created_at, id";
    let rows = query(sql).fetch_all(connection).await.map_err(failure(STORE))?;
    rows.iter().map(signing_key).collect()
}

pub(super) async fn add(
    connection: &mut Connection,
    key: &SealedSigningKey,
    newest: Option<&SigningKeyId>,
    by: &Deed,
) -> Result<bool, StoreError> {
    let present = list(connection).await?;
    if present.last().map(|key| &key.id) != newest {
        return Ok(false);
    }
    for old in present.iter().filter(|old| Some(&old.id) != newest) {
        query("DELETE FROM signing_keys WHERE id = $1")
            .bind(old.id.as_str())
            .execute(&mut *connection)
            .await
            .map_err(failure(STORE))?;
        audit(connection, None, (Some(old), None), by).await?;
    }
    query("INSERT INTO signing_keys (id, sealed, created_at, signs_from) VALUES ($1, $2, $3, $4)")
        .bind(key.id.as_str())
        .bind(&key.sealed[..])
        .bind(key.created_at.get())
        .bind(key.signs_from.get())
        .execute(&mut *connection)
        .await
        .map_err(failure(STORE))?;
    record(connection, Entry::SigningKeys, key.created_at).await?;
    audit(connection, None, (None, Some(key)), by).await?;
    Ok(true)
}
