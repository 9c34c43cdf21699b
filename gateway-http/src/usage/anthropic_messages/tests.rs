//! The messages dialect against answers, streams and requests as its vendor documents them.

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::sse::{SseItem, SseParser};
use crate::usage::{EventFate, StreamEnd, StreamProgress, TokenUsage, UsageFlags};

fn reading_of(usage: &Value) -> UsageReading {
    let answer = json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-20250514",
        "content": [{"type": "text", "text": "Hi"}], "stop_reason": "end_turn", "usage": usage,
    });
    AnthropicMessages.read_body(answer.to_string().as_bytes())
}

fn tokens_of(usage: &Value) -> (TokenUsage, UsageFlags) {
    let reading = reading_of(usage);
    let usage = reading.known().unwrap();
    (usage.tokens, usage.flags)
}

fn reason_of(reading: &UsageReading) -> Option<UnknownReason> {
    match reading {
        UsageReading::Known(_) => None,
        UsageReading::Unknown { reason, .. } => Some(*reason),
    }
}

#[test]
fn cached_tokens_are_added_to_the_input_once() {
    let reading = reading_of(&json!({
        "input_tokens": 21, "cache_creation_input_tokens": 300, "cache_read_input_tokens": 1000,
        "cache_creation": {"ephemeral_5m_input_tokens": 200, "ephemeral_1h_input_tokens": 100},
        "output_tokens": 393, "service_tier": "standard", "server_tool_use": {"web_search_requests": 1},
    }));
    let usage = reading.known().unwrap();
    assert_eq!(usage.model.as_deref(), Some("claude-sonnet-4-20250514"));
    assert_eq!(usage.service_tier.as_deref(), Some("standard"));
    let expected = TokenUsage {
        input_total: Some(1321),
        cached_input: Some(1000),
        cache_write_5m: Some(200),
        cache_write_1h: Some(100),
        output: Some(393),
        ..TokenUsage::default()
    };
    assert_eq!((usage.tokens, usage.flags), (expected, UsageFlags::default()));
}

#[test]
fn writes_without_a_split_live_five_minutes() {
    let (tokens, flags) = tokens_of(&json!({
        "input_tokens": 1, "cache_creation_input_tokens": 50, "cache_read_input_tokens": 0, "output_tokens": 2,
    }));
    assert_eq!((tokens.cache_write_5m, tokens.cache_write_1h), (Some(50), None));
    assert_eq!((tokens.cached_input, tokens.input_total), (Some(0), Some(51)));
    assert!(!flags.any());
}

#[test]
fn absent_and_null_cache_counts_stay_absent() {
    let (tokens, _) = tokens_of(&json!({
        "input_tokens": 3, "output_tokens": 0, "cache_read_input_tokens": null, "cache_creation": null,
    }));
    assert_eq!((tokens.cached_input, tokens.cache_write_5m), (None, None));
    assert_eq!((tokens.input_total, tokens.output), (Some(3), Some(0)));
}

#[test]
fn a_split_that_differs_from_its_sum_is_flagged_and_the_larger_counts() {
    let split = |sum: u64| {
        tokens_of(&json!({
            "input_tokens": 0, "output_tokens": 0, "cache_creation_input_tokens": sum,
            "cache_creation": {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20},
        }))
    };
    let (more_in_sum, flags) = split(35);
    assert_eq!((more_in_sum.input_total, more_in_sum.cache_write_5m), (Some(35), Some(15)));
    assert!(flags.parts_disagree);
    let (less_in_sum, flags) = split(25);
    assert_eq!(less_in_sum.input_total, Some(30));
    assert!(flags.parts_disagree);
}

#[test]
fn what_cannot_be_believed_is_unknown_and_never_zero() {
    use UnknownReason::{Absent, Incomplete, Malformed, OutOfBounds};
    let cases = [
        (json!(null), Absent),
        (json!({"output_tokens": 1}), Incomplete { field: "input_tokens" }),
        (json!({"input_tokens": 1}), Incomplete { field: "output_tokens" }),
        (json!({"input_tokens": -1, "output_tokens": 1}), Malformed { field: "input_tokens" }),
        (json!({"input_tokens": 1, "output_tokens": 1.5}), Malformed { field: "output_tokens" }),
        (json!({"input_tokens": 1, "output_tokens": u64::MAX}), OutOfBounds { field: "output_tokens" }),
        (
            json!({"input_tokens": 1, "output_tokens": 1, "cache_read_input_tokens": "5"}),
            Malformed { field: "cache_read_input_tokens" },
        ),
        (json!("none"), Malformed { field: "usage" }),
    ];
    for (usage, expected) in cases {
        assert_eq!(reason_of(&reading_of(&usage)), Some(expected), "{usage}");
    }
    let twice = br#"{"usage":{"input_tokens":1,"input_tokens":9,"output_tokens":1}}"#;
    let expected = UnknownReason::Duplicated { field: "input_tokens" };
    assert_eq!(reason_of(&AnthropicMessages.read_body(twice)), Some(expected));
    assert_eq!(reason_of(&AnthropicMessages.read_body(b"")), Some(UnknownReason::NotJson));
}

// Streams.

fn event(data: &Value) -> String {
    format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap_or_default())
}

fn start() -> String {
    event(&json!({"type": "message_start", "message": {
        "id": "msg_1", "model": "claude-opus-4", "content": [],
        "usage": {"input_tokens": 25, "cache_read_input_tokens": 10,
            "cache_creation_input_tokens": 0, "output_tokens": 1, "service_tier": "priority"},
    }}))
}

fn text(delta: &Value) -> String {
    event(&json!({"type": "content_block_delta", "index": 0, "delta": delta}))
}

fn delta(usage: &Value) -> String {
    event(&json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage}))
}

fn stop() -> String {
    event(&json!({"type": "message_stop"}))
}

fn follow(stream: &str) -> StreamProgress {
    let mut reader = MessageStream::default();
    let mut parser = SseParser::default();
    parser.push(stream.as_bytes());
    parser.finish();
    while let Some(item) = parser.next_item() {
        assert_eq!(reader.read(&item), EventFate::Forward);
    }
    assert_eq!(reader.end(), reader.progress().end);
    reader.progress()
}

#[test]
fn cumulative_counts_overwrite_and_are_never_added() {
    let stream = [
        start(),
        event(&json!({"type": "ping"})),
        text(&json!({"type": "text_delta", "text": "Hello"})),
        delta(&json!({"output_tokens": 7})),
        delta(&json!({"input_tokens": 40, "output_tokens": 15})),
        stop(),
    ];
    let progress = follow(&stream.concat());
    assert!(progress.is_exact());
    let usage = progress.reading.known().unwrap();
    assert_eq!(usage.model.as_deref(), Some("claude-opus-4"));
    assert_eq!(usage.service_tier.as_deref(), Some("priority"));
    assert_eq!((usage.tokens.input_total, usage.tokens.output), (Some(50), Some(15)));
    assert_eq!((usage.tokens.cached_input, usage.tokens.cache_write_5m), (Some(10), Some(0)));
}

#[test]
fn a_stream_cut_short_is_partial() {
    let progress = follow(&[start(), text(&json!({"type": "text_delta", "text": "Hello"}))].concat());
    assert_eq!((progress.end, progress.usage_final), (StreamEnd::Open, false));
    assert_eq!(progress.reading.known().unwrap().tokens.input_total, Some(35));
    assert_eq!(progress.output_text_bytes, 5);
}

#[test]
fn an_end_without_final_usage_is_not_exact() {
    let progress = follow(&[start(), stop()].concat());
    assert_eq!(progress.end, StreamEnd::Complete);
    assert!(!progress.is_exact());
}

#[test]
fn usage_that_may_stand_in_an_unreadable_event_is_not_exact() {
    let stream = [start(), delta(&json!({"output_tokens": 3})), "data: {oops\n\n".to_owned(), stop()];
    let progress = follow(&stream.concat());
    assert_eq!(progress.unreadable_items, 1);
    assert!(!progress.is_exact());
    let mut reader = MessageStream::default();
    reader.read(&SseItem::Opaque(Bytes::from_static(b"data: x")));
    assert_eq!(reader.progress().unreadable_items, 1);
}

#[test]
fn every_kind_of_text_counts_and_labels_do_not() {
    let stream = [
        text(&json!({"type": "text_delta", "text": "abc"})),
        text(&json!({"type": "thinking_delta", "thinking": "défg"})),
        text(&json!({"type": "input_json_delta", "partial_json": "{\"a\""})),
        text(&json!({"type": "signature_delta", "signature": "EqQBCg"})),
        text(&json!({"type": "citations_delta", "citation": {"cited_text": "long"}})),
    ];
    assert_eq!(follow(&stream.concat()).output_text_bytes, 3 + 5 + 4);
}

#[test]
fn an_error_event_ends_the_stream_as_failed() {
    let error = event(&json!({"type": "error", "error": {"type": "overloaded_error", "message": "x"}}));
    let progress = follow(&[start(), error].concat());
    assert_eq!(progress.end, StreamEnd::Failed);
    assert!(!progress.is_exact());
}

#[test]
fn a_malformed_count_makes_the_stream_unknown_for_good() {
    let stream = [start(), delta(&json!({"output_tokens": -2})), delta(&json!({"output_tokens": 5})), stop()];
    let progress = follow(&stream.concat());
    let expected = UnknownReason::Malformed { field: "output_tokens" };
    assert_eq!(reason_of(&progress.reading), Some(expected));
}

#[test]
fn a_stream_without_its_beginning_has_no_input_count() {
    let progress = follow(&[delta(&json!({"output_tokens": 5})), stop()].concat());
    let expected = UnknownReason::Incomplete { field: "input_tokens" };
    assert_eq!(reason_of(&progress.reading), Some(expected));
}

// Requests and errors.

fn prepare(body: &str) -> Result<Prepared, RequestFault> {
    let body = Bytes::copy_from_slice(body.as_bytes());
    AnthropicMessages.prepare_request(&RequestView {
        method: &Method::POST,
        path: "/v1/messages",
        body: &body,
    })
}

#[test]
fn a_request_is_understood_and_never_rewritten() {
    let body = r#"{ "model":"claude-opus-4", "max_tokens":1024, "stream":true, "x":1.0 }"#;
    let expected = Prepared {
        model: Some("claude-opus-4".to_owned()),
        max_output_tokens: Some(1024),
        choices: 1,
        stream: true,
        usage_asked: true,
        input_bytes: body.len() as u64,
        body: Bytes::from_static(body.as_bytes()),
    };
    assert_eq!(prepare(body), Ok(expected));
}

#[test]
fn a_request_that_could_be_read_in_two_ways_is_refused() {
    let twice = prepare(r#"{"max_tokens":1,"max_tokens":100000}"#);
    assert_eq!(twice, Err(RequestFault::Duplicated { field: "max_tokens" }));
    assert_eq!(prepare("null"), Err(RequestFault::NotAnObject));
}

#[test]
fn errors_come_in_the_vendors_envelope() {
    let cases = [
        (ProblemKind::InvalidRequest, "invalid_request_error"),
        (ProblemKind::InvalidApiKey, "authentication_error"),
        (ProblemKind::BudgetExceeded, "billing_error"),
        (ProblemKind::Forbidden, "permission_error"),
        (ProblemKind::ApiNotFound, "not_found_error"),
        (ProblemKind::BodyTooLarge, "request_too_large"),
        (ProblemKind::RateLimited, "rate_limit_error"),
        (ProblemKind::UpstreamError, "api_error"),
        (ProblemKind::UpstreamTimeout, "timeout_error"),
    ];
    for (kind, error_type) in cases {
        let body = AnthropicMessages.error_body(kind, "no", "req_1");
        let expected = json!({
            "type": "error", "error": {"type": error_type, "message": "no"}, "request_id": "req_1",
        });
        assert_eq!(serde_json::from_slice::<Value>(&body.bytes).unwrap(), expected);
    }
}

/// Numbers that a count could be mistaken for, and things that are none.
fn arbitrary_count() -> impl Strategy<Value = Value> {
    prop_oneof![
        (0_u64..2_000).prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        Just(Value::Null),
        Just(json!("1")),
        Just(json!([])),
    ]
}

proptest! {
    #[test]
    fn any_usage_is_believed_whole_or_not_at_all(
        input in arbitrary_count(), output in arbitrary_count(), read in arbitrary_count(),
        write in arbitrary_count(), five_minutes in arbitrary_count(), one_hour in arbitrary_count(),
    ) {
        let usage = json!({
            "input_tokens": input, "output_tokens": output, "cache_read_input_tokens": read,
            "cache_creation_input_tokens": write,
            "cache_creation": {"ephemeral_5m_input_tokens": five_minutes, "ephemeral_1h_input_tokens": one_hour},
        });
        let reading = reading_of(&usage);
        if let Some(known) = reading.known() {
            let part = |value: &Value| value.as_u64().unwrap_or(0);
            let writes = part(&write).max(part(&five_minutes) + part(&one_hour));
            let total = part(&input) + part(&read) + writes;
            prop_assert_eq!(known.tokens.input_total, Some(total));
            prop_assert_eq!(known.tokens.output, output.as_u64());
        }
        let stream = [start(), delta(&usage), stop()].concat();
        prop_assert_eq!(follow(&stream).end, StreamEnd::Complete);
    }
}
