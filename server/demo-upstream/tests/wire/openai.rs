//! The OpenAI imitation.

use http::{Method, StatusCode};
use rateguard_demo_upstream::{Endpoint, TEXT_PREFIX};
use serde_json::{Value, json};

use crate::support::{SECRET, start};

fn hello() -> Value {
    json!({ "model": "gpt-4o-mini", "messages": [{ "role": "user", "content": "hello" }] })
}

fn with(mut body: Value, field: &str, value: Value) -> Value {
    body[field] = value;
    body
}

/// The text that the chunks spell.
fn spelt(events: &[Value]) -> String {
    events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect()
}

#[tokio::test]
async fn a_plain_answer_has_the_text_the_dated_model_and_counts_from_the_request() {
    let upstream = start().await;
    let answer = upstream.whole(upstream.chat(&hello(), &[])).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert!(answer.is_labelled());
    assert_eq!(answer.headers["x-ratelimit-limit-requests"], "10000");
    let body = answer.json();
    assert_eq!(body["model"], "gpt-4o-mini-2024-07-18");
    assert_eq!(body["choices"][0]["message"]["content"], format!("{TEXT_PREFIX}hello"));
    assert_eq!(body["choices"][0]["finish_reason"], "stop");
    let messages = r#"[{"role":"user","content":"hello"}]"#;
    assert_eq!(body["usage"]["prompt_tokens"], messages.len().div_ceil(4));
    assert_eq!(body["usage"]["completion_tokens"], (TEXT_PREFIX.len() + 5).div_ceil(4));
    assert_eq!(body["usage"]["prompt_tokens_details"]["cached_tokens"], 0);
}

#[tokio::test]
async fn the_headers_set_the_counts_and_the_maximum_bounds_the_output() {
    let upstream = start().await;
    let knobs =
        [("x-demo-input-tokens", "2000"), ("x-demo-output-tokens", "300"), ("x-demo-cached-tokens", "1500")];
    let body = with(hello(), "max_completion_tokens", json!(120));
    let usage = upstream.whole(upstream.chat(&body, &knobs)).await.json()["usage"].clone();
    assert_eq!(usage["prompt_tokens"], 2_000);
    assert_eq!(usage["completion_tokens"], 120);
    assert_eq!(usage["total_tokens"], 2_120);
    assert_eq!(usage["prompt_tokens_details"]["cached_tokens"], 1_500);
}

#[tokio::test]
async fn a_long_prompt_is_partly_cached_by_itself() {
    let upstream = start().await;
    let answer = upstream.whole(upstream.chat(&hello(), &[("x-demo-input-tokens", "3000")])).await;
    assert_eq!(answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"], 1_408);
}

#[tokio::test]
async fn a_reasoning_model_reports_reasoning_and_the_tier_it_was_asked_for() {
    let upstream = start().await;
    let body = with(with(hello(), "model", json!("gpt-5-mini")), "service_tier", json!("flex"));
    let answer = upstream.whole(upstream.chat(&body, &[("x-demo-output-tokens", "80")])).await.json();
    assert_eq!(answer["service_tier"], "flex");
    assert_eq!(answer["usage"]["completion_tokens"], 80);
    assert_eq!(answer["usage"]["completion_tokens_details"]["reasoning_tokens"], 20);
}

#[tokio::test]
async fn an_answer_longer_than_its_maximum_ends_with_length() {
    let upstream = start().await;
    let body = with(hello(), "max_tokens", json!(1));
    let choice = upstream.whole(upstream.chat(&body, &[])).await.json()["choices"][0].clone();
    assert_eq!(choice["message"]["content"], "This");
    assert_eq!(choice["finish_reason"], "length");
}

#[tokio::test]
async fn a_stream_has_usage_only_when_it_was_asked_for() {
    let upstream = start().await;
    let body = with(hello(), "stream", json!(true));
    let answer = upstream.whole(upstream.chat(&body, &[("x-demo-chunks", "20")])).await;
    assert_eq!(answer.headers["content-type"], "text/event-stream; charset=utf-8");
    assert!(answer.is_labelled());
    assert!(!answer.text().contains("\"usage\""));
    let events = answer.events();
    assert_eq!(events.len(), 1 + 20 + 1 + 1);
    assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
    assert_eq!(spelt(&events), format!("{TEXT_PREFIX}hello"));
    assert_eq!(events[21]["choices"][0]["finish_reason"], "stop");
    assert_eq!(events[22], "[DONE]");
    assert_eq!(upstream.observed.streams_finished(Endpoint::OpenAiChat), 1);
}

#[tokio::test]
async fn a_stream_with_include_usage_reports_it_last_and_null_before() {
    let upstream = start().await;
    let streaming = with(hello(), "stream", json!(true));
    let body = with(streaming, "stream_options", json!({ "include_usage": true }));
    let events = upstream.whole(upstream.chat(&body, &[("x-demo-output-tokens", "77")])).await.events();
    let (done, chunks) = events.split_last().unwrap();
    let (usage, before) = chunks.split_last().unwrap();
    assert_eq!(done, "[DONE]");
    assert_eq!(usage["choices"], json!([]));
    assert_eq!(usage["usage"]["completion_tokens"], 77);
    assert!(before.iter().all(|chunk| chunk.get("usage").is_some_and(Value::is_null)));
}

#[tokio::test]
async fn no_usage_is_reported_where_none_was_wanted() {
    let upstream = start().await;
    let knobs = [("x-demo-no-usage", "true")];
    let plain = upstream.whole(upstream.chat(&hello(), &knobs)).await.json();
    assert!(plain.get("usage").is_none());
    let streaming = with(hello(), "stream", json!(true));
    let body = with(streaming, "stream_options", json!({ "include_usage": true }));
    let stream = upstream.whole(upstream.chat(&body, &knobs)).await;
    assert!(!stream.text().contains("\"usage\""));
    assert_eq!(stream.events().last().unwrap(), "[DONE]");
}

#[tokio::test]
async fn the_models_are_listed_by_both_names() {
    let upstream = start().await;
    let bearer = format!("Bearer {SECRET}");
    let request = upstream.request(Method::GET, "/openai/v1/models", &[("authorization", &bearer)], "");
    let body = upstream.whole(request).await.json();
    let ids: Vec<&str> =
        body["data"].as_array().unwrap().iter().filter_map(|model| model["id"].as_str()).collect();
    assert!(ids.contains(&"gpt-4o-mini") && ids.contains(&"gpt-4o-mini-2024-07-18"));
    assert_eq!(upstream.observed.requests(Endpoint::OpenAiModels), 1);
}

#[tokio::test]
async fn the_last_request_can_be_read_back() {
    let upstream = start().await;
    let body = with(hello(), "stream_options", json!({ "include_usage": true }));
    upstream.whole(upstream.chat(&body, &[("x-test", "seen")])).await;
    let headers = upstream.observed.last_headers(Endpoint::OpenAiChat).unwrap();
    assert_eq!(headers["x-test"], "seen");
    let kept: Value =
        serde_json::from_slice(&upstream.observed.last_body(Endpoint::OpenAiChat).unwrap()).unwrap();
    assert_eq!(kept, body);
    assert!(upstream.observed.last_headers(Endpoint::Echo).is_none());
}
