//! What is refused, and in whose words.

use http::{Method, StatusCode};
use rateguard_demo_upstream::{Endpoint, bounds::BODY_BYTES_MAX};
use serde_json::{Value, json};

use crate::support::{CHAT, MESSAGES, SECRET, Whole, start};

fn hello(model: &str) -> Value {
    json!({ "model": model, "max_tokens": 10, "messages": [{ "role": "user", "content": "hello" }] })
}

fn message(answer: &Whole) -> String {
    let body = answer.json();
    body["error"]["message"].as_str().expect("an error has a message").to_owned()
}

#[tokio::test]
async fn a_vendors_path_wants_the_configured_credential_where_that_vendor_puts_it() {
    let upstream = start().await;
    let bearer = format!("Bearer {SECRET}");
    let wrong: [(&str, &[(&str, &str)]); 7] = [
        (CHAT, &[]),
        (CHAT, &[("authorization", "Bearer somebody-else")]),
        (CHAT, &[("authorization", SECRET)]),
        (CHAT, &[("authorization", "Bearer ")]),
        (CHAT, &[("x-api-key", SECRET)]),
        (MESSAGES, &[("x-api-key", "")]),
        (MESSAGES, &[("authorization", &bearer)]),
    ];
    for (path, headers) in wrong {
        let request = upstream.request(Method::POST, path, headers, hello("m").to_string());
        let answer = upstream.whole(request).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{path} {headers:?}");
        assert!(answer.is_labelled());
        assert!(message(&answer).starts_with("demo upstream: the credential is missing"));
    }
    assert_eq!(upstream.observed.requests(Endpoint::OpenAiChat), 5);
    assert_eq!(upstream.observed.requests(Endpoint::AnthropicMessages), 2);
    assert_eq!(upstream.observed.cancelled_before_answer(Endpoint::OpenAiChat), 0);
}

#[tokio::test]
async fn an_asked_status_comes_in_the_vendors_envelope() {
    let upstream = start().await;
    let knobs = [("x-demo-status", "429")];
    let chat = upstream.whole(upstream.chat(&hello("gpt-4o"), &knobs)).await;
    assert_eq!(
        (chat.status, chat.json()["error"]["code"].clone()),
        (StatusCode::TOO_MANY_REQUESTS, json!("rate_limit_exceeded"),)
    );
    let messages = upstream.whole(upstream.message(&hello("m"), &[("x-demo-status", "529")])).await;
    assert_eq!(messages.status.as_u16(), 529);
    assert_eq!(messages.json()["error"]["type"], "overloaded_error");
    let echo = upstream.whole(upstream.request(Method::GET, "/echo", &knobs, "")).await;
    assert_eq!(echo.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(
        message(&echo),
        "demo upstream: status 429 Too Many Requests was asked for with x-demo-status"
    );
}

#[tokio::test]
async fn a_header_out_of_bounds_is_refused_by_name() {
    let upstream = start().await;
    let answer = upstream.whole(upstream.chat(&hello("gpt-4o"), &[("x-demo-chunks", "0")])).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert_eq!(message(&answer), "demo upstream: x-demo-chunks must be a whole number from 1 to 10000");
}

#[tokio::test]
async fn a_body_that_is_not_the_vendors_is_refused() {
    let upstream = start().await;
    let no_maximum = json!({ "model": "m", "messages": [] });
    let mut zero_maximum = hello("m");
    zero_maximum["max_tokens"] = json!(0);
    let bodies = [json!("text"), json!({}), no_maximum, zero_maximum, hello(""), hello(&"m".repeat(257))];
    for body in bodies {
        let answer = upstream.whole(upstream.message(&body, &[])).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body}");
        assert_eq!(answer.json()["error"]["type"], "invalid_request_error");
    }
}

#[tokio::test]
async fn a_body_past_the_bound_is_refused() {
    let upstream = start().await;
    let body = vec![b' '; BODY_BYTES_MAX + 1];
    let request = upstream.request(Method::POST, MESSAGES, &[("x-api-key", SECRET)], body);
    let answer = upstream.whole(request).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(answer.json()["error"]["type"], "request_too_large");
}

#[tokio::test]
async fn unknown_paths_and_methods_are_labelled_too() {
    let upstream = start().await;
    let unknown = [
        (Method::GET, "/anthropic/v1/nothing", StatusCode::NOT_FOUND),
        (Method::GET, "/", StatusCode::NOT_FOUND),
        (Method::GET, CHAT, StatusCode::METHOD_NOT_ALLOWED),
    ];
    for (method, path, status) in unknown {
        let answer = upstream.whole(upstream.request(method, path, &[], "")).await;
        assert_eq!(answer.status, status, "{path}");
        assert!(answer.is_labelled());
        assert!(message(&answer).starts_with("demo upstream: "));
    }
}
