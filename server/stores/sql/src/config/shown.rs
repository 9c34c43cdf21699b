//! What the audit trail shows of resources: their bodies as they are stored, without secrets.

use rateguard_engine::audit::Shown;
use rateguard_engine::resources::Workspace;
use serde_json::{Map, Value};

use super::body::{Columns, Unique};

/// The field of an API's body that holds its credential, sealed.
const SEALED_CREDENTIAL: &str = "sealed_credential_hex";
/// The same as the trail calls it.
const CREDENTIAL: &str = "credential";
/// A key's secret, as the trail calls it.
const SECRET: &str = "secret";
/// The field of a key's body that tells of the secret before.
const PREVIOUS: &str = "previous";
/// Its field that nobody may see.
const PREVIOUS_HASH: &str = "sha256_hex";
/// What stands for a body that is no JSON.
const UNREADABLE: &str = "unreadable";

/// A resource.
pub(super) fn resource(columns: &Columns, body: &str) -> Shown {
    let unreadable = || [(UNREADABLE.to_owned(), Value::Bool(true))].into_iter().collect();
    let mut document: Map<String, Value> = serde_json::from_str(body).unwrap_or_else(|_| unreadable());
    document.insert("id".to_owned(), Value::from(columns.id.as_str()));
    let credential = document.remove(SEALED_CREDENTIAL);
    let secret = match &columns.unique {
        Unique::Slug(slug) => {
            document.insert("slug".to_owned(), Value::from(slug.as_str()));
            let sealed = credential.as_ref().and_then(Value::as_str);
            sealed.map(|sealed| (CREDENTIAL, sealed.as_bytes().to_vec()))
        }
        Unique::Secret(hash) => {
            if let Some(Value::Object(previous)) = document.get_mut(PREVIOUS) {
                previous.remove(PREVIOUS_HASH);
            }
            Some((SECRET, hash.clone()))
        }
        // The body has the provider and the model of a price.
        Unique::Price { .. } | Unique::None => None,
    };
    Shown { document, secret }
}

/// A workspace.
pub(crate) fn workspace(workspace: &Workspace) -> Shown {
    let fields = [
        ("id", workspace.id.as_str()),
        ("name", workspace.name.as_str()),
        ("zone", workspace.zone.name()),
        ("currency", workspace.currency.as_str()),
    ];
    Shown::plain(fields.into_iter().map(|(name, value)| (name.to_owned(), Value::from(value))).collect())
}
