//! The chat dialect against answers, streams and requests as its vendors document them.

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::sse::SseParser;

const ANSWER: &str = r#"{
  "id": "chatcmpl-1", "object": "chat.completion", "created": 1741570283, "model": "gpt-4o-2024-08-06",
  "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi", "refusal": null},
    "logprobs": null, "finish_reason": "stop"}],
  "usage": {
    "prompt_tokens": 1117, "completion_tokens": 46, "total_tokens": 1163,
    "prompt_tokens_details": {"cached_tokens": 1024, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 30, "audio_tokens": 0,
      "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0}
  },
  "service_tier": "default", "system_fingerprint": "fp_1"
}"#;

fn usage_of(usage: &str) -> UsageReading {
    OpenAiChat.read_body(format!("{{\"model\":\"m\",\"usage\":{usage}}}").as_bytes())
}

fn tokens_of(usage: &str) -> TokenUsage {
    usage_of(usage).known().unwrap().tokens
}

fn reason_of(reading: &UsageReading) -> Option<UnknownReason> {
    match reading {
        UsageReading::Known(_) => None,
        UsageReading::Unknown { reason, .. } => Some(*reason),
    }
}

#[test]
fn a_whole_answer_gives_model_tier_and_every_count() {
    let reading = OpenAiChat.read_body(ANSWER.as_bytes());
    let usage = reading.known().unwrap();
    assert_eq!(usage.model.as_deref(), Some("gpt-4o-2024-08-06"));
    assert_eq!(usage.service_tier.as_deref(), Some("default"));
    let expected = TokenUsage {
        input_total: Some(1117),
        cached_input: Some(1024),
        output: Some(46),
        reasoning: Some(30),
        audio_input: Some(0),
        audio_output: Some(0),
        ..TokenUsage::default()
    };
    assert_eq!(usage.tokens, expected);
    assert!(!usage.flags.any());
}

#[test]
fn the_vendors_variants_are_read() {
    let plain = tokens_of(r#"{"prompt_tokens":5,"completion_tokens":0,"total_tokens":5}"#);
    assert_eq!((plain.cached_input, plain.output), (None, Some(0)));
    let deepseek = tokens_of(
        r#"{"prompt_tokens":10,"completion_tokens":2,"prompt_cache_hit_tokens":8,"prompt_cache_miss_tokens":2}"#,
    );
    assert_eq!(deepseek.cached_input, Some(8));
    let xai = tokens_of(
        r#"{"prompt_tokens":10,"completion_tokens":2,"total_tokens":112,
            "completion_tokens_details":{"reasoning_tokens":100}}"#,
    );
    assert_eq!((xai.output, xai.reasoning), (Some(102), Some(100)));
    let nulls = tokens_of(r#"{"prompt_tokens":1,"completion_tokens":1,"prompt_tokens_details":null}"#);
    assert_eq!(nulls.cached_input, None);
}

#[test]
fn cached_tokens_beyond_the_prompt_are_clamped_and_flagged() {
    let reading =
        usage_of(r#"{"prompt_tokens":5,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":9}}"#);
    let usage = reading.known().unwrap();
    assert_eq!(usage.tokens.cached_input, Some(5));
    assert!(usage.flags.parts_exceed_total);
}

#[test]
fn what_cannot_be_believed_is_unknown_and_never_zero() {
    use UnknownReason::{Absent, Duplicated, Incomplete, Malformed, OutOfBounds};
    let cases = [
        ("null", Absent),
        ("{}", Incomplete { field: "prompt_tokens" }),
        (r#"{"prompt_tokens":1}"#, Incomplete { field: "completion_tokens" }),
        (r#"{"prompt_tokens":-1,"completion_tokens":1}"#, Malformed { field: "prompt_tokens" }),
        (r#"{"prompt_tokens":1.5,"completion_tokens":1}"#, Malformed { field: "prompt_tokens" }),
        (r#"{"prompt_tokens":"1","completion_tokens":1}"#, Malformed { field: "prompt_tokens" }),
        (
            r#"{"prompt_tokens":1,"completion_tokens":99999999999999999999}"#,
            OutOfBounds { field: "completion_tokens" },
        ),
        (
            r#"{"prompt_tokens":1,"prompt_tokens":2,"completion_tokens":1}"#,
            Duplicated { field: "prompt_tokens" },
        ),
        (
            r#"{"prompt_tokens":1,"completion_tokens":1,"prompt_tokens_details":[]}"#,
            Malformed { field: "prompt_tokens_details" },
        ),
        ("[]", Malformed { field: "usage" }),
        (r#"{"prompt_tokens":1,"completion_tokens":1},"usage":null"#, Duplicated { field: "usage" }),
    ];
    for (usage, expected) in cases {
        assert_eq!(reason_of(&usage_of(usage)), Some(expected), "{usage}");
    }
    assert_eq!(reason_of(&OpenAiChat.read_body(b"<html>")), Some(UnknownReason::NotJson));
    let UsageReading::Unknown { model, .. } = usage_of("null") else { panic!("usage from null") };
    assert_eq!(model.as_deref(), Some("m"));
}

// Streams.

fn follow(stream: &str, usage_asked: bool) -> (String, StreamProgress) {
    let mut reader = ChatStream::new(usage_asked);
    let mut parser = SseParser::default();
    parser.push(stream.as_bytes());
    parser.finish();
    let mut forwarded = Vec::new();
    while let Some(item) = parser.next_item() {
        if reader.read(&item) == EventFate::Forward {
            forwarded.extend_from_slice(item.raw());
        }
    }
    (String::from_utf8(forwarded).unwrap(), reader.progress())
}

const OPENING: &str = concat!(
    r#"data: {"id":"c","object":"chat.completion.chunk","model":"gpt-4o-mini","service_tier":null,"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}],"usage":null}"#,
    "\n\n",
    r#"data: {"id":"c","model":"gpt-4o-mini","service_tier":"default","choices":[{"index":0,"delta":{"content":"Hello"},"finish_reason":null}],"usage":null}"#,
    "\n\n",
    r#"data: {"id":"c","model":"gpt-4o-mini","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":null}"#,
    "\n\n",
);
const USAGE_CHUNK: &str = concat!(
    r#"data: {"id":"c","model":"gpt-4o-mini","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":1,"total_tokens":10}}"#,
    "\n\n",
);
const DONE_EVENT: &str = "data: [DONE]\n\n";

#[test]
fn the_usage_chunk_is_dropped_only_where_the_caller_did_not_ask() {
    let stream = format!("{OPENING}{USAGE_CHUNK}{DONE_EVENT}");
    let (forwarded, progress) = follow(&stream, false);
    assert_eq!(forwarded, format!("{OPENING}{DONE_EVENT}"));
    assert_eq!(follow(&stream, true).0, stream);
    assert!(progress.is_exact());
    let usage = progress.reading.known().unwrap();
    assert_eq!((usage.tokens.input_total, usage.tokens.output), (Some(9), Some(1)));
    assert_eq!(usage.model.as_deref(), Some("gpt-4o-mini"));
    assert_eq!(usage.service_tier.as_deref(), Some("default"));
    assert_eq!(progress.output_text_bytes, 5);
}

#[test]
fn usage_beside_choices_is_kept_and_the_last_wins() {
    let chunk = |tokens: u64| {
        format!(
            "data: {{\"choices\":[{{\"delta\":{{\"content\":\"x\"}}}}],\"usage\":{{\"prompt_tokens\":3,\"completion_tokens\":{tokens}}}}}\n\n"
        )
    };
    let stream = [chunk(1), chunk(2), chunk(7)].concat();
    let (forwarded, progress) = follow(&stream, false);
    assert_eq!(forwarded, stream);
    assert_eq!(progress.reading.known().unwrap().tokens.output, Some(7));
    assert_eq!(progress.end, StreamEnd::Open);
    assert!(!progress.is_exact());
}

#[test]
fn chunks_without_choices_but_without_usage_are_the_callers() {
    let stream = concat!(
        r#"data: {"choices":[],"prompt_filter_results":[{"prompt_index":0}],"model":""}"#,
        "\n\n",
        r#"data: {"choices":[{"delta":{"content":"x"}}],"model":"gpt-4o"}"#,
        "\n\n",
    );
    let (forwarded, progress) = follow(stream, false);
    assert_eq!(forwarded, stream);
    let UsageReading::Unknown { reason, model, .. } = progress.reading else { panic!("no usage was sent") };
    assert_eq!((reason, model.as_deref()), (UnknownReason::Absent, Some("gpt-4o")));
}

#[test]
fn a_stream_cut_short_knows_its_text_and_no_usage() {
    let (_, progress) = follow(OPENING, false);
    assert_eq!(progress.end, StreamEnd::Open);
    assert_eq!(reason_of(&progress.reading), Some(UnknownReason::Absent));
    assert_eq!(progress.output_text_bytes, 5);
}

#[test]
fn text_is_counted_wherever_a_vendor_puts_it() {
    let delta = json!({
        "role": "assistant", "content": "abc", "reasoning_content": "de", "refusal": null,
        "tool_calls": [{"index": 0, "id": "call_1", "type": "function",
            "function": {"name": "f", "arguments": "{\"x\":1}"}}],
        "audio": {"id": "a", "data": "UklGRg==", "transcript": "hi"},
    });
    let stream = format!("data: {}\n\n", json!({"choices": [{"delta": delta}, {"delta": {"content": "!"}}]}));
    assert_eq!(follow(&stream, false).1.output_text_bytes, 3 + 2 + 1 + 7 + 2 + 1);
}

#[test]
fn an_error_in_mid_stream_ends_it_as_failed() {
    let stream = format!("{OPENING}data: {{\"error\":{{\"message\":\"overloaded\"}}}}\n\n");
    let (forwarded, progress) = follow(&stream, false);
    assert_eq!(forwarded, stream);
    assert_eq!(progress.end, StreamEnd::Failed);
}

#[test]
fn unreadable_events_pass_and_are_counted() {
    let stream = ": ping\n\ndata: {nonsense\n\ndata: {\"choices\":7}\n\ndata: [DONE]\n\n";
    let (forwarded, progress) = follow(stream, false);
    assert_eq!(forwarded, stream);
    assert_eq!((progress.unreadable_items, progress.end), (2, StreamEnd::Complete));
    assert!(!progress.is_exact());
}

#[test]
fn malformed_usage_at_the_end_is_unknown_even_after_a_good_running_figure() {
    let stream = concat!(
        r#"data: {"choices":[{"delta":{}}],"usage":{"prompt_tokens":3,"completion_tokens":1}}"#,
        "\n\n",
        r#"data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":-1}}"#,
        "\n\n",
    );
    let (_, progress) = follow(stream, false);
    assert_eq!(reason_of(&progress.reading), Some(UnknownReason::Malformed { field: "completion_tokens" }));
}

#[test]
fn an_event_too_large_to_read_is_forwarded() {
    let mut reader = ChatStream::new(false);
    assert_eq!(reader.read(&SseItem::Opaque(Bytes::from_static(b"data: x"))), EventFate::Forward);
    assert_eq!(reader.progress().unreadable_items, 1);
}

// Requests.

fn prepare(body: &str) -> Result<Prepared, RequestFault> {
    let body = Bytes::copy_from_slice(body.as_bytes());
    let view = RequestView { method: &Method::POST, path: "/v1/chat/completions", body: &body };
    OpenAiChat.prepare_request(&view)
}

fn sent(body: &str) -> String {
    String::from_utf8(prepare(body).unwrap().body.to_vec()).unwrap()
}

#[test]
fn a_plain_request_goes_unchanged_and_is_understood() {
    let body = r#"{"model":"gpt-4o","messages":[],"max_tokens":100,"temperature":1.10,"n":3}"#;
    let prepared = prepare(body).unwrap();
    assert_eq!(prepared.body, body);
    assert_eq!(prepared.model.as_deref(), Some("gpt-4o"));
    assert_eq!((prepared.max_output_tokens, prepared.choices), (Some(100), 3));
    assert_eq!((prepared.stream, prepared.input_bytes), (false, body.len() as u64));
}

#[test]
fn the_larger_of_two_maxima_is_reserved() {
    let both = prepare(r#"{"max_completion_tokens":10,"max_tokens":20}"#).unwrap();
    assert_eq!(both.max_output_tokens, Some(20));
    assert_eq!(prepare(r#"{"max_completion_tokens":null}"#).unwrap().max_output_tokens, None);
}

#[test]
fn a_stream_is_made_to_tell_its_usage_without_touching_another_byte() {
    let cases = [
        (
            r#" { "stream" : true, "big":123456789012345678901234567890, "f":1.10 } "#,
            r#" {"stream_options":{"include_usage":true}, "stream" : true, "big":123456789012345678901234567890, "f":1.10 } "#,
        ),
        (
            r#"{"stream":true,"stream_options":null,"a":1}"#,
            r#"{"stream":true,"stream_options":{"include_usage":true},"a":1}"#,
        ),
        (
            r#"{"stream_options":{ },"stream":true}"#,
            r#"{"stream_options":{"include_usage":true },"stream":true}"#,
        ),
        (
            r#"{"stream":true,"stream_options":{"include_obfuscation":false}}"#,
            r#"{"stream":true,"stream_options":{"include_usage":true,"include_obfuscation":false}}"#,
        ),
        (
            r#"{"stream":true,"stream_options":{"x":[],"include_usage" : null}}"#,
            r#"{"stream":true,"stream_options":{"x":[],"include_usage" : true}}"#,
        ),
        (
            r#"{"stream":true,"stream_options":{"include_usage":false}}"#,
            r#"{"stream":true,"stream_options":{"include_usage":true}}"#,
        ),
    ];
    for (body, expected) in cases {
        assert_eq!(sent(body), expected);
        let prepared = prepare(body).unwrap();
        assert!(prepared.stream && !prepared.usage_asked);
        assert_eq!(prepared.input_bytes, body.len() as u64);
    }
}

#[test]
fn a_caller_who_asked_or_does_not_stream_keeps_the_body() {
    let asked = r#"{"stream":true,"stream_options":{"include_usage":true}}"#;
    assert_eq!(sent(asked), asked);
    assert!(prepare(asked).unwrap().usage_asked);
    for body in [r#"{"stream":false}"#, "{}", r#"{"stream":null}"#] {
        assert_eq!(sent(body), body);
    }
}

#[test]
fn a_request_that_could_be_read_in_two_ways_is_refused() {
    let twice = |field| RequestFault::Duplicated { field };
    let cases = [
        ("", RequestFault::NotAnObject),
        ("[]", RequestFault::NotAnObject),
        (r#"{"model":"a","model":"b"}"#, twice("model")),
        (r#"{"model":"a","\u006dodel":"b"}"#, twice("model")),
        (r#"{"stream":false,"stream":true}"#, twice("stream")),
        (r#"{"stream":true,"stream_options":{},"stream_options":null}"#, twice("stream_options")),
        (
            r#"{"stream":true,"stream_options":{"include_usage":true,"include_usage":false}}"#,
            twice("stream_options.include_usage"),
        ),
    ];
    for (body, fault) in cases {
        assert_eq!(prepare(body), Err(fault), "{body}");
    }
}

#[test]
fn a_field_of_another_kind_is_refused_by_name() {
    let cases = [
        (r#"{"model":7}"#, "`model` must be a string"),
        (r#"{"max_tokens":1e9}"#, "`max_tokens` must be a whole number written without a fraction"),
        (r#"{"max_tokens":-1}"#, "`max_tokens` must be a whole number written without a fraction"),
        (
            r#"{"max_completion_tokens":9999999999999}"#,
            "`max_completion_tokens` must be at most 1000000000000",
        ),
        (r#"{"n":"3"}"#, "`n` must be a whole number written without a fraction"),
        (r#"{"stream":1}"#, "`stream` must be true or false"),
        (r#"{"stream":true,"stream_options":[]}"#, "`stream_options` must be an object"),
        (
            r#"{"stream":true,"stream_options":{"include_usage":1}}"#,
            "`stream_options.include_usage` must be true or false",
        ),
    ];
    for (body, message) in cases {
        assert_eq!(prepare(body).unwrap_err().to_string(), message);
    }
    let long = format!("{{\"model\":\"{}\"}}", "m".repeat(257));
    assert_eq!(prepare(&long).unwrap_err().to_string(), "`model` must be at most 256");
}

// Errors.

#[test]
fn errors_come_in_the_vendors_envelope() {
    let cases = [
        (ProblemKind::InvalidApiKey, "authentication_error", "invalid_api_key"),
        (ProblemKind::BudgetExceeded, "insufficient_quota", "budget_exceeded"),
        (ProblemKind::RateLimited, "rate_limit_error", "rate_limited"),
        (ProblemKind::BodyTooLarge, "request_too_large", "body_too_large"),
        (ProblemKind::UpstreamTimeout, "api_error", "upstream_timeout"),
    ];
    for (kind, error_type, code) in cases {
        let body = OpenAiChat.error_body(kind, "what \"happened\"", "req_1");
        let expected = json!({"error": {
            "message": "what \"happened\"", "type": error_type, "param": null, "code": code,
        }});
        assert_eq!(serde_json::from_slice::<Value>(&body.bytes).unwrap(), expected);
    }
}

fn arbitrary_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        let names = prop_oneof![
            "[a-z]{0,4}",
            Just("stream".to_owned()),
            Just("stream_options".to_owned()),
            Just("include_usage".to_owned()),
            Just("usage".to_owned()),
            Just("choices".to_owned()),
            Just("delta".to_owned()),
            Just("prompt_tokens".to_owned()),
            Just("completion_tokens".to_owned()),
        ];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(names, inner, 0..5)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn the_rewritten_request_differs_by_the_option_alone(
        body in arbitrary_json(),
        options in proptest::option::of(prop_oneof![Just(json!(null)), Just(json!({})), arbitrary_json()]),
    ) {
        let mut body = body.as_object().cloned().unwrap_or_default();
        body.insert("stream".to_owned(), json!(true));
        if let Some(options) = options {
            body.insert("stream_options".to_owned(), options);
        }
        let text = Value::Object(body).to_string();
        let Ok(prepared) = prepare(&text) else { return Ok(()) };
        // Read back as the sent body will be, since reading may round the last digit of a float.
        let mut body: serde_json::Map<String, Value> = serde_json::from_str(&text).unwrap();
        if prepared.usage_asked {
            prop_assert_eq!(prepared.body, text);
            return Ok(());
        }
        let options = body.entry("stream_options").or_insert(Value::Null);
        if options.is_null() {
            *options = json!({});
        }
        options["include_usage"] = json!(true);
        let read: Value = serde_json::from_slice(&prepared.body).unwrap();
        prop_assert_eq!(read, Value::Object(body));
    }

    #[test]
    fn no_answer_and_no_event_panics(json in arbitrary_json(), usage_asked in any::<bool>()) {
        let text = json.to_string();
        let reading = OpenAiChat.read_body(text.as_bytes());
        if let Some(usage) = reading.known() {
            prop_assert!(usage.tokens.input_total.is_some() && usage.tokens.output.is_some());
        }
        let (_, progress) = follow(&format!("data: {text}\n\n"), usage_asked);
        prop_assert!(progress.unreadable_items <= 8);
    }
}
