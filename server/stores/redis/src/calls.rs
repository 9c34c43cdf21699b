//! What a reservation remembers of its call: bytes that scripts keep and never read.

use rateguard_core::ids::{ApiId, KeyId, RequestId};
use rateguard_core::usage::CallIdentity;
use rateguard_engine::ports::StoreError;
use serde::{Deserialize, Serialize};

use crate::reply::corrupt;

/// A call as JSON. Fields that a later version adds are left out by this one.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Row {
    key: String,
    api: Option<String>,
    api_name: String,
    endpoint: String,
    method: String,
    model: String,
    service_tier: String,
    subject: String,
    request_id: Option<String>,
}

/// A call, and the id of the check that reserved it.
pub(crate) fn pack_call(call: &CallIdentity, request_id: Option<&RequestId>) -> Vec<u8> {
    let row = Row {
        key: call.key.as_str().to_owned(),
        api: call.api.as_ref().map(|api| api.as_str().to_owned()),
        api_name: call.api_name.clone(),
        endpoint: call.endpoint.clone(),
        method: call.method.clone(),
        model: call.model.clone(),
        service_tier: call.service_tier.clone(),
        subject: call.subject.clone(),
        request_id: request_id.map(|id| id.as_str().to_owned()),
    };
    // Texts and options of them always have a form in JSON.
    serde_json::to_vec(&row).unwrap_or_default()
}

/// The same back.
pub(crate) fn unpack_call(bytes: &[u8]) -> Result<(CallIdentity, Option<RequestId>), StoreError> {
    let row: Row = serde_json::from_slice(bytes).map_err(|_| corrupt("a reservation's call"))?;
    let invalid = |error: rateguard_core::invalid::Invalid| corrupt(format!("a reservation's call: {error}"));
    let api = row.api.map(|api| ApiId::parse("api", &api)).transpose().map_err(invalid)?;
    let request =
        row.request_id.map(|id| RequestId::parse("request_id", &id)).transpose().map_err(invalid)?;
    let call = CallIdentity {
        key: KeyId::parse("key", &row.key).map_err(invalid)?,
        api,
        api_name: row.api_name,
        endpoint: row.endpoint,
        method: row.method,
        model: row.model,
        service_tier: row.service_tier,
        subject: row.subject,
    };
    Ok((call, request))
}
