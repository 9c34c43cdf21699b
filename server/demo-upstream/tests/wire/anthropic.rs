//! The Anthropic imitation.

use http::StatusCode;
use rateguard_demo_upstream::{Endpoint, TEXT_PREFIX};
use serde_json::{Value, json};

use crate::support::start;

fn hello() -> Value {
    let content = json!([{ "type": "text", "text": "hello" }]);
    json!({
        "model": "claude-haiku-4-5", "max_tokens": 1_000,
        "messages": [{ "role": "user", "content": content }],
    })
}

fn streaming() -> Value {
    let mut body = hello();
    body["stream"] = json!(true);
    body
}

#[tokio::test]
async fn a_plain_answer_has_the_text_the_dated_model_and_counts() {
    let upstream = start().await;
    let knobs = [("x-demo-input-tokens", "90"), ("x-demo-output-tokens", "40")];
    let answer = upstream.whole(upstream.message(&hello(), &knobs)).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert!(answer.is_labelled());
    assert!(answer.headers.contains_key("request-id"));
    let body = answer.json();
    assert_eq!(body["model"], "claude-haiku-4-5-20251001");
    assert_eq!(body["content"], json!([{ "type": "text", "text": format!("{TEXT_PREFIX}hello") }]));
    assert_eq!(body["stop_reason"], "end_turn");
    assert_eq!(body["usage"]["input_tokens"], 90);
    assert_eq!(body["usage"]["output_tokens"], 40);
}

#[tokio::test]
async fn cached_tokens_stand_beside_the_input_and_not_in_it() {
    let upstream = start().await;
    let knobs = [("x-demo-input-tokens", "90"), ("x-demo-cached-tokens", "60")];
    let usage = upstream.whole(upstream.message(&hello(), &knobs)).await.json()["usage"].clone();
    assert_eq!(usage["input_tokens"], 30);
    assert_eq!(usage["cache_read_input_tokens"], 60);
    assert_eq!(usage["cache_creation_input_tokens"], 0);
}

#[tokio::test]
async fn a_request_with_cache_control_writes_to_the_cache() {
    let upstream = start().await;
    let mut body = hello();
    body["system"] = json!([
        { "type": "text", "text": "long", "cache_control": { "type": "ephemeral" } },
    ]);
    let usage =
        upstream.whole(upstream.message(&body, &[("x-demo-input-tokens", "400")])).await.json()["usage"]
            .clone();
    assert_eq!(usage["cache_creation_input_tokens"], 100);
    let by_life = json!({ "ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 0 });
    assert_eq!(usage["cache_creation"], by_life);
    assert_eq!((&usage["input_tokens"], &usage["cache_read_input_tokens"]), (&json!(100), &json!(200)));
}

#[tokio::test]
async fn a_stream_has_the_vendors_events_in_the_vendors_order() {
    let upstream = start().await;
    let answer = upstream.whole(upstream.message(&streaming(), &[("x-demo-chunks", "3")])).await;
    let names: Vec<&str> = answer.text().lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    let delta = "content_block_delta";
    let expected = [
        ["message_start", "content_block_start", "ping"],
        [delta, delta, delta],
        ["content_block_stop", "message_delta", "message_delta"],
    ];
    assert_eq!(names[..9], expected.concat());
    assert_eq!(names[9..], ["message_stop"]);
    let events = answer.events();
    assert!(events.iter().zip(&names).all(|(event, name)| event["type"] == **name));
    let text: String = events.iter().filter_map(|event| event["delta"]["text"].as_str()).collect();
    assert_eq!(text, format!("{TEXT_PREFIX}hello"));
    assert_eq!(upstream.observed.streams_finished(Endpoint::AnthropicMessages), 1);
}

#[tokio::test]
async fn a_streams_counts_are_cumulative() {
    let upstream = start().await;
    let knobs = [("x-demo-input-tokens", "90"), ("x-demo-output-tokens", "41")];
    let events = upstream.whole(upstream.message(&streaming(), &knobs)).await.events();
    let start = &events[0]["message"]["usage"];
    assert_eq!((&start["input_tokens"], &start["output_tokens"]), (&json!(90), &json!(1)));
    let deltas = events.iter().filter(|event| event["type"] == "message_delta");
    let counts: Vec<&Value> = deltas.map(|event| &event["usage"]["output_tokens"]).collect();
    assert_eq!(counts, [&json!(21), &json!(41)]);
}

#[tokio::test]
async fn no_usage_is_reported_where_none_was_wanted() {
    let upstream = start().await;
    let knobs = [("x-demo-no-usage", "true")];
    for body in [hello(), streaming()] {
        let answer = upstream.whole(upstream.message(&body, &knobs)).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert!(!answer.text().contains("\"usage\""));
    }
}

#[tokio::test]
async fn an_answer_longer_than_its_maximum_ends_with_max_tokens() {
    let upstream = start().await;
    let mut body = hello();
    body["max_tokens"] = json!(2);
    let answer = upstream.whole(upstream.message(&body, &[])).await.json();
    assert_eq!(answer["stop_reason"], "max_tokens");
    assert_eq!(
        (&answer["usage"]["output_tokens"], &answer["content"][0]["text"]),
        (&json!(2), &json!("This is "))
    );
}
