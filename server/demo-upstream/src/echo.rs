//! `/echo`: describes the request that arrived, for APIs of no vendor and for tests of header hygiene.
//!
//! The configured credential is never repeated: where a header holds it, a mask stands instead, and
//! `credential` says whether it was there. A credential of anybody else is shown as it came.

use axum::{
    Json,
    body::Body,
    extract::Request,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, request::Parts};
use http_body_util::BodyExt;
use serde_json::{Map, Value, json};
use tokio::time;

use crate::{
    bounds::{BODY_WAIT_MAX, ECHO_BODY_BYTES_MAX},
    call::{Demo, api_key, bearer, wait},
    knobs::Knobs,
    observations::Endpoint,
    refusal::Refusal,
    vendor::Vendor,
};

/// Stands where a header held the configured credential.
const MASK: &str = "[configured credential]";

/// Answers with a description of the request.
pub(crate) async fn answer(demo: &Demo, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let mut call = demo.observations.begin(Endpoint::Echo, &head.headers);
    let described = describe(demo, &head, body).await;
    call.ends();
    let mut response = match described {
        Ok(json) => Json(json).into_response(),
        Err(refusal) => refusal.answer(Vendor::Nobody),
    };
    Vendor::Nobody.add_headers(response.headers_mut(), demo.next_number());
    response
}

async fn describe(demo: &Demo, head: &Parts, body: Body) -> Result<Value, Refusal> {
    let knobs = Knobs::read(&head.headers, demo.defaults)?;
    let body_bytes =
        time::timeout(BODY_WAIT_MAX, count(body)).await.map_err(|_elapsed| Refusal::BodyTooSlow)??;
    wait(&knobs).await?;
    Ok(json!({
        "demo": "RateGuard's demo upstream: this describes the request that arrived",
        "method": head.method.as_str(),
        "path": head.uri.path(),
        "query": head.uri.query(),
        "headers": shown(demo, &head.headers),
        "body_bytes": body_bytes,
        "credential": credential(demo, &head.headers),
    }))
}

/// Counts the body as it streams by; nothing of it is kept.
async fn count(mut body: Body) -> Result<u64, Refusal> {
    let mut bytes: u64 = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_cut| Refusal::BodyCutShort)?;
        let length = frame.data_ref().map_or(0, |data| data.len() as u64);
        bytes = bytes.saturating_add(length);
        if bytes > ECHO_BODY_BYTES_MAX {
            return Err(Refusal::BodyTooLarge { bytes_max: ECHO_BODY_BYTES_MAX });
        }
    }
    Ok(bytes)
}

/// `configured`, `other` or `absent`, looking where either vendor's clients put it.
fn credential(demo: &Demo, headers: &HeaderMap) -> &'static str {
    let presented: Vec<&[u8]> = [bearer(headers), api_key(headers)].into_iter().flatten().collect();
    match presented.as_slice() {
        [] => "absent",
        some if some.iter().any(|value| demo.is_credential(value)) => "configured",
        _ => "other",
    }
}

/// Every header with all its values, in the order in which they came.
fn shown(demo: &Demo, headers: &HeaderMap) -> Map<String, Value> {
    headers
        .keys()
        .map(|name| {
            let values = headers.get_all(name).iter().map(|value| mask(demo, value)).collect();
            (name.as_str().to_owned(), Value::Array(values))
        })
        .collect()
}

fn mask(demo: &Demo, value: &HeaderValue) -> Value {
    let text = String::from_utf8_lossy(value.as_bytes());
    if demo.secret().is_empty() {
        return Value::String(text.into_owned());
    }
    Value::String(text.replace(demo.secret(), MASK))
}
