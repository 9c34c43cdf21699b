//! What stands sealed in `config.db`, read and sealed again. Statements for [`super::sealed`].

use rateguard_core::ids::{ApiId, SigningKeyId, WorkspaceId};
use rateguard_core::time::Millis;
use rateguard_engine::ports::{
    CredentialPlace, Resource, ResourceKind, SealedPage, SealedValue, StoreError, Stored,
};
use rateguard_engine::resources::{Api, SealedCredential};
use rateguard_engine::secrets::SealedPlace;

use super::change::{Entry, tell, unwritable};
use super::table;
use super::{STORE, corrupt, read, row_limit};
use crate::database::{Connection, failure, query, query_as, query_scalar};

pub(super) async fn singly(connection: &mut Connection) -> Result<Vec<SealedValue>, StoreError> {
    let checks: Vec<Vec<u8>> = query_scalar("SELECT sealed FROM encryption_check")
        .fetch_all(&mut *connection)
        .await
        .map_err(failure(STORE))?;
    let keys: Vec<(String, Vec<u8>)> = query_as("SELECT id, sealed FROM signing_keys ORDER BY id")
        .fetch_all(connection)
        .await
        .map_err(failure(STORE))?;
    let check = |sealed| Ok(SealedValue { place: SealedPlace::Check, sealed, version: 0 });
    checks.into_iter().map(check).chain(keys.into_iter().map(signing_key)).collect()
}

fn signing_key((id, sealed): (String, Vec<u8>)) -> Result<SealedValue, StoreError> {
    let id = SigningKeyId::parse("id", &id).map_err(|invalid| corrupt(invalid.to_string()))?;
    Ok(SealedValue { place: SealedPlace::SigningKey(id), sealed, version: 0 })
}

pub(super) async fn credentials_after(
    connection: &mut Connection,
    after: Option<&CredentialPlace>,
    limit: usize,
) -> Result<SealedPage, StoreError> {
    let mut query = table::of(ResourceKind::Api).select();
    if let Some((workspace, api)) = after {
        query.push(" WHERE (workspace_id, id) > (").push_bind(workspace.as_str().to_owned());
        query.push(", ").push_bind(api.as_str().to_owned()).push(")");
    }
    query.push(" ORDER BY workspace_id, id LIMIT ").push_bind(row_limit(limit));
    let stored = read::fetch_resources(connection, ResourceKind::Api, query).await?;
    let is_full = stored.len() == limit;
    let apis: Vec<Stored<Api>> = stored.into_iter().filter_map(api_of).collect();
    let next = apis.last().filter(|_| is_full).map(|api| (api.workspace.clone(), api.value.id.clone()));
    Ok(SealedPage { values: apis.into_iter().filter_map(credential).collect(), next })
}

fn api_of(stored: Stored<Resource>) -> Option<Stored<Api>> {
    stored.try_map(|resource| if let Resource::Api(api) = resource { Ok(api) } else { Err(()) }).ok()
}

fn credential(stored: Stored<Api>) -> Option<SealedValue> {
    let Stored { workspace, value: api, version, .. } = stored;
    let SealedCredential(sealed) = api.credential?;
    Some(SealedValue { place: SealedPlace::Credential(workspace, api.id), sealed, version })
}

pub(super) async fn replace(
    connection: &mut Connection,
    value: &SealedValue,
    sealed: Vec<u8>,
    now: Millis,
) -> Result<bool, StoreError> {
    match &value.place {
        SealedPlace::Check => {
            let update = "UPDATE encryption_check SET sealed = $1 WHERE sealed = $2";
            let update = query(update).bind(sealed).bind(&value.sealed[..]);
            let updated = update.execute(connection).await.map_err(failure(STORE))?;
            Ok(updated.rows_affected() > 0)
        }
        SealedPlace::SigningKey(id) => {
            let update = "UPDATE signing_keys SET sealed = $1 WHERE id = $2 AND sealed = $3";
            let update = query(update).bind(sealed).bind(id.as_str()).bind(&value.sealed[..]);
            let updated = update.execute(connection).await.map_err(failure(STORE))?;
            Ok(updated.rows_affected() > 0)
        }
        SealedPlace::Credential(workspace, api) => {
            replace_credential(connection, (workspace, api), value.version, sealed, now).await
        }
    }
}

/// What an API was changed last by people stays as it is: they have not done this.
async fn replace_credential(
    connection: &mut Connection,
    (workspace, api): (&WorkspaceId, &ApiId),
    version: u64,
    sealed: Vec<u8>,
    now: Millis,
) -> Result<bool, StoreError> {
    let found = read::find(connection, workspace, ResourceKind::Api, api.as_str()).await?;
    let Some(mut stored) = found.and_then(api_of).filter(|stored| stored.version == version) else {
        return Ok(false);
    };
    stored.value.credential = Some(SealedCredential(sealed));
    stored.version += 1;
    let Stored { workspace, value, version, created_at, updated_at } = stored;
    let stored = Stored { workspace, value: Resource::Api(value), version, created_at, updated_at };
    let table = table::of(ResourceKind::Api);
    let mut update = table.update(&stored).map_err(unwritable)?;
    update.build().execute(&mut *connection).await.map_err(failure(STORE))?;
    let entry = Entry { workspace: &stored.workspace, table, id: stored.value.id() };
    tell(connection, &[entry], now).await?;
    Ok(true)
}
