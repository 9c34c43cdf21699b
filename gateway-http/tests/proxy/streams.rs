//! Answers that stream: every byte as it comes, the usage on the side, whoever leaves.

use std::time::Duration;

use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use rateguard_demo_upstream::Endpoint;
use rateguard_gateway_http::Drained;
use rateguard_proto::internal_v1::Route;
use rateguard_proto::v1::UsageExactness;
use rateguard_serving::WRITE_STALL_MAX;
use serde_json::json;

use crate::support::control::cost;
use crate::support::scripted::start_scripted;
use crate::support::{
    CHAT, MESSAGES, anthropic, chat_body, chat_text, config, eventually, message_body, openai, start,
    start_with, streaming, within,
};

/// How often a test lets a stall's whole time pass, until the stall has begun.
const STALLS_MAX: u32 = 20;

/// Longest wait for what follows once a stall's time has passed.
const STALL_NOTICED_WITHIN: Duration = Duration::from_millis(200);

#[tokio::test]
async fn a_chat_stream_spells_the_text_and_hides_the_usage_that_nobody_asked_for() {
    let world = start().await;
    let knobs = [("x-demo-input-tokens", "700"), ("x-demo-output-tokens", "25"), ("x-demo-chunks", "20")];
    let answer = world.post(CHAT, &knobs, &streaming(chat_body())).await;
    assert_eq!(answer.status, StatusCode::OK);
    let events = answer.events();
    assert!(chat_text(&events).contains("Say hello"));
    assert_eq!(events.last().unwrap(), "[DONE]");
    assert!(events.iter().all(|event| event["usage"].is_null()), "{events:?}");
    let record = world.report().await;
    let tokens = record.tokens.unwrap();
    assert_eq!((tokens.input_total, tokens.output), (Some(700), Some(25)));
    assert_eq!(record.exactness(), UsageExactness::Exact);
    assert_eq!(record.bytes_out, Some(i64::try_from(answer.body.len()).unwrap()));
}

#[tokio::test]
async fn a_chat_stream_shows_the_usage_to_those_who_asked() {
    let world = start().await;
    let mut body = streaming(chat_body());
    body["stream_options"] = json!({"include_usage": true});
    let answer = world.post(CHAT, &[("x-demo-output-tokens", "25")], &body).await;
    let shown = answer.events().into_iter().find(|event| event["usage"]["completion_tokens"] == 25);
    assert!(shown.is_some());
    assert_eq!(world.report().await.tokens.unwrap().output, Some(25));
}

#[tokio::test]
async fn a_message_stream_passes_byte_for_byte_and_is_read() {
    let world = start().await;
    let knobs = [("x-demo-input-tokens", "700"), ("x-demo-output-tokens", "25")];
    let answer = world.post(MESSAGES, &knobs, &streaming(message_body())).await;
    assert!(
        answer.text().ends_with("event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"),
        "{}",
        answer.text()
    );
    let tokens = world.report().await.tokens.unwrap();
    assert_eq!((tokens.input_total, tokens.output), (Some(700), Some(25)));
}

#[tokio::test]
async fn the_cost_of_a_stream_stands_behind_it_for_those_who_take_trailers() {
    let world = start().await;
    let answer = world.post(CHAT, &[("te", "trailers")], &streaming(chat_body())).await;
    assert!(answer.headers.contains_key("x-rateguard-cost-estimate"));
    assert!(!answer.headers.contains_key("x-rateguard-cost"));
    let trailers = answer.trailers.expect("trailers");
    let record = world.report().await;
    let shown: String =
        trailers["x-rateguard-cost"].to_str().unwrap().chars().filter(char::is_ascii_digit).collect();
    let nanos: i64 = format!("{shown:0<10}").parse().unwrap();
    assert_eq!(nanos, cost(&record));
    assert!(record.price.is_some(), "the report names the price that the client was told");
}

#[tokio::test]
async fn nobody_else_gets_trailers() {
    let world = start().await;
    let answer = world.post(CHAT, &[], &streaming(chat_body())).await;
    assert!(answer.trailers.is_none());
    assert!(!answer.headers.contains_key("trailer"));
    assert_eq!(world.report().await.price, None);
}

#[tokio::test]
async fn the_first_chunk_is_forwarded_before_the_second_exists() {
    let world = start().await;
    let (upstream, script) = start_scripted("text/event-stream").await;
    world.control.set_route(openai(upstream));
    let first = "data: {\"choices\":[{\"delta\":{\"content\":\"one\"}}]}\n\n";
    script.write(first).await;
    let mut answer =
        world.begin(world.request(Method::POST, CHAT, &[], streaming(chat_body()).to_string())).await;
    let frame = within(answer.body_mut().frame()).await.unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), first);
    script.write("data: [DONE]\n\n").await;
    drop(script);
    let rest = within(answer.into_body().collect()).await.unwrap().to_bytes();
    assert_eq!(rest, "data: [DONE]\n\n");
}

#[tokio::test]
async fn half_an_event_is_forwarded_at_once_where_nothing_can_be_dropped() {
    let world = start().await;
    let (upstream, script) = start_scripted("text/event-stream").await;
    world.control.set_route(anthropic(upstream));
    script.write("event: ping\nda").await;
    let request = world.request(Method::POST, MESSAGES, &[], streaming(message_body()).to_string());
    let mut answer = world.begin(request).await;
    let frame = within(answer.body_mut().frame()).await.unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), "event: ping\nda");
    drop(script);
}

#[tokio::test]
async fn a_client_that_leaves_after_five_chunks_is_charged_what_the_upstream_counts() {
    let world = start().await;
    world.control.set_budget(1_000_000_000);
    let knobs = [
        ("x-demo-chunks", "20"),
        ("x-demo-chunk-delay-ms", "10"),
        ("x-demo-input-tokens", "1000"),
        ("x-demo-output-tokens", "80"),
    ];
    let request = world.request(Method::POST, CHAT, &knobs, streaming(chat_body()).to_string());
    let mut answer = world.begin(request).await;
    for _ in 0..5 {
        within(answer.body_mut().frame()).await.unwrap().unwrap();
    }
    drop(answer);
    let record = world.report().await;
    let tokens = record.tokens.unwrap();
    assert_eq!((tokens.input_total, tokens.output), (Some(1_000), Some(80)));
    assert_eq!((record.exactness(), record.error_type.as_str()), (UsageExactness::Exact, "client_left"));
    eventually(|| world.control.budget() == (cost(&record), 0)).await;
    assert_eq!(world.observed.cancelled_in_stream(Endpoint::OpenAiChat), 0);
}

#[tokio::test]
async fn a_message_stream_is_read_on_as_well() {
    let world = start().await;
    let knobs = [("x-demo-chunks", "20"), ("x-demo-chunk-delay-ms", "10"), ("x-demo-output-tokens", "80")];
    let request = world.request(Method::POST, MESSAGES, &knobs, streaming(message_body()).to_string());
    let mut answer = world.begin(request).await;
    within(answer.body_mut().frame()).await.unwrap().unwrap();
    drop(answer);
    let record = world.report().await;
    assert_eq!((record.tokens.unwrap().output, record.exactness()), (Some(80), UsageExactness::Exact));
}

#[tokio::test]
async fn past_the_bounds_of_reading_on_what_was_seen_is_charged() {
    let mut impatient = config();
    impatient.drains_max = 0;
    let world = start_with(impatient).await;
    let (upstream, script) = start_scripted("text/event-stream").await;
    world.control.set_route(openai(upstream));
    script
        .write(&format!("data: {}\n\n", json!({"choices": [{"delta": {"content": "x".repeat(30)}}]})))
        .await;
    let request = world.request(Method::POST, CHAT, &[], streaming(chat_body()).to_string());
    let mut answer = world.begin(request).await;
    within(answer.body_mut().frame()).await.unwrap().unwrap();
    drop(answer);
    // The gateway sees that its client has left when it has something to write.
    script.write("data: {\"choices\":[]}\n\n").await;
    let record = world.report().await;
    assert_eq!((record.exactness(), record.tokens.unwrap().output), (UsageExactness::Partial, Some(10)));
    assert_eq!(record.tokens.unwrap().input_total, world.estimate().input_tokens);
    within(script.closed()).await;
}

#[tokio::test]
async fn reading_on_ends_when_its_time_is_over() {
    let mut impatient = config();
    impatient.drain_duration_max = Duration::from_millis(20);
    let world = start_with(impatient).await;
    let (upstream, script) = start_scripted("text/event-stream").await;
    world.control.set_route(openai(upstream));
    script.write("data: {\"choices\":[{\"delta\":{\"content\":\"one\"}}]}\n\n").await;
    let request = world.request(Method::POST, CHAT, &[], streaming(chat_body()).to_string());
    let mut answer = world.begin(request).await;
    within(answer.body_mut().frame()).await.unwrap().unwrap();
    drop(answer);
    script.write("data: {\"choices\":[]}\n\n").await;
    assert_eq!(world.report().await.exactness(), UsageExactness::Partial);
    within(script.closed()).await;
    assert_eq!(within(world.gateway.drain(Duration::from_secs(10))).await, Drained::Whole);
}

#[tokio::test]
async fn a_stream_that_breaks_off_is_charged_by_what_was_seen() {
    let world = start().await;
    let (upstream, script) = start_scripted("text/event-stream").await;
    world.control.set_route(openai(upstream));
    let request = world.request(Method::POST, CHAT, &[], streaming(chat_body()).to_string());
    script.write("data: {\"choices\":[{\"delta\":{\"content\":\"one two\"}}]}\n\n").await;
    let mut answer = world.begin(request).await;
    within(answer.body_mut().frame()).await.unwrap().unwrap();
    script.break_off().await;
    assert!(
        within(answer.into_body().collect()).await.is_err(),
        "the client sees that the answer is not whole"
    );
    let record = world.report().await;
    assert_eq!((record.exactness(), record.error_type.as_str()), (UsageExactness::Partial, "upstream_error"));
    assert_eq!(record.tokens.unwrap().output, Some(3));
}

#[tokio::test]
async fn a_client_that_leaves_before_the_head_is_charged_what_the_upstream_counts() {
    let world = start().await;
    let (upstream, script) = start_scripted("application/json").await;
    world.control.set_route(openai(upstream));
    let request = world.request(Method::POST, CHAT, &[], chat_body().to_string());
    let mut call = Box::pin(world.begin(request));
    tokio::select! {
        _ = &mut call => panic!("nothing is answered yet"),
        () = eventually(|| world.control.open() == 1) => {}
    }
    drop(call);
    script.write("{\"model\":\"m\",\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":22}}").await;
    drop(script);
    let record = world.report().await;
    let tokens = record.tokens.unwrap();
    assert_eq!((tokens.input_total, tokens.output), (Some(11), Some(22)));
    assert_eq!(record.exactness(), UsageExactness::Exact);
}

#[tokio::test]
async fn a_stream_of_http2_that_its_client_does_not_read_is_settled_by_what_the_upstream_counts() {
    let world = start().await;
    let (upstream, script) = start_scripted("text/event-stream").await;
    // So patient that only the client's own stall can end the answer.
    world.control.set_route(Route { timeout_ms: 3_000_000, ..openai(upstream) });
    let request = world.request(Method::POST, CHAT, &[], streaming(chat_body()).to_string());
    let text = "x".repeat(300_000);
    script.write(&format!("data: {}\n\n", json!({"choices": [{"delta": {"content": text}}]}))).await;
    script
        .write("data: {\"choices\":[],\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":22}}\n\n")
        .await;
    script.write("data: [DONE]\n\n").await;
    drop(script);
    let stalled = world.begin_http2(request, 65_535).await;
    // When the stall begins is the gateway's own affair, so its time passes until it has been noticed.
    for _ in 0..STALLS_MAX {
        tokio::time::pause();
        tokio::time::advance(WRITE_STALL_MAX).await;
        tokio::time::resume();
        let reported = eventually(|| !world.control.reports().is_empty());
        if tokio::time::timeout(STALL_NOTICED_WITHIN, reported).await.is_ok() {
            break;
        }
    }
    let record = world.report().await;
    let tokens = record.tokens.unwrap();
    assert_eq!((tokens.input_total, tokens.output), (Some(11), Some(22)));
    assert_eq!((record.exactness(), record.error_type.as_str()), (UsageExactness::Exact, "client_left"));
    let cut = within(stalled.into_body().collect()).await;
    assert!(cut.is_err(), "the client sees that the answer is not whole");
}
