//! The endpoint that describes what arrived.

use http::{Method, StatusCode};
use rateguard_demo_upstream::Endpoint;
use serde_json::json;

use crate::support::{SECRET, start};

#[tokio::test]
async fn the_request_is_described_as_it_arrived() {
    let upstream = start().await;
    let headers = [("x-twice", "one"), ("x-twice", "two"), ("authorization", "Bearer somebody-else")];
    let request = upstream.request(Method::PATCH, "/echo/a%2Fb/c?d=e%20f", &headers, vec![7_u8; 70_000]);
    let answer = upstream.whole(request).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert!(answer.is_labelled());
    assert!(answer.headers.contains_key("set-cookie"));
    let body = answer.json();
    assert_eq!((&body["method"], &body["path"]), (&json!("PATCH"), &json!("/echo/a%2Fb/c")));
    assert_eq!((&body["query"], &body["body_bytes"]), (&json!("d=e%20f"), &json!(70_000)));
    assert_eq!(body["headers"]["x-twice"], json!(["one", "two"]));
    assert_eq!(body["headers"]["authorization"], json!(["Bearer somebody-else"]));
    assert_eq!(body["credential"], "other");
    assert_eq!(upstream.observed.requests(Endpoint::Echo), 1);
}

#[tokio::test]
async fn the_configured_credential_is_recognised_and_never_repeated() {
    let upstream = start().await;
    let bearer = format!("Bearer {SECRET}");
    for header in [("authorization", bearer.as_str()), ("x-api-key", SECRET)] {
        let answer = upstream.whole(upstream.request(Method::GET, "/echo", &[header], "")).await;
        assert_eq!(answer.json()["credential"], "configured");
        assert!(!answer.text().contains(SECRET), "{}", answer.text());
    }
}

#[tokio::test]
async fn a_request_without_credential_is_described_too() {
    let upstream = start().await;
    let answer = upstream.whole(upstream.request(Method::DELETE, "/echo", &[], "")).await;
    assert_eq!(answer.json()["credential"], "absent");
    assert_eq!(answer.json()["body_bytes"], 0);
}
