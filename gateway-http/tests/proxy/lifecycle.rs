//! A stop waits for what is under way.

use std::time::Duration;

use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use rateguard_gateway_http::Drained;

use crate::support::Answer;
use crate::support::{CHAT, chat_body, chat_text, config, start, start_with, streaming, within};

const LONG: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_stop_waits_for_reports() {
    let mut world = start().await;
    world.control.hold_reports(true);
    world.post(CHAT, &[], &chat_body()).await;
    world.stop().await;
    let cut = world.gateway.drain(Duration::ZERO).await;
    assert!(matches!(cut, Drained::Cut { unfinished: 1, .. }), "{cut:?}");
    world.control.hold_reports(false);
    assert_eq!(world.gateway.drain(LONG).await, Drained::Whole);
    assert_eq!(world.control.reports().len(), 1);
}

#[tokio::test]
async fn a_stop_lets_a_stream_finish() {
    let mut world = start().await;
    let knobs = [("x-demo-chunks", "10"), ("x-demo-chunk-delay-ms", "10")];
    let request = world.request(Method::POST, CHAT, &knobs, streaming(chat_body()).to_string());
    let mut answer = world.begin(request).await;
    within(answer.body_mut().frame()).await.unwrap().unwrap();
    let read = tokio::spawn(Answer::read(answer));
    world.stop().await;
    let answer = within(read).await.unwrap();
    assert!(chat_text(&answer.events()).contains("Say hello"));
    assert_eq!(world.gateway.drain(LONG).await, Drained::Whole);
    assert_eq!(world.control.reports().len(), 1);
}

#[tokio::test]
async fn a_stop_waits_for_what_a_client_has_left_behind() {
    let mut world = start().await;
    let knobs = [("x-demo-chunks", "10"), ("x-demo-chunk-delay-ms", "20"), ("x-demo-output-tokens", "60")];
    let request = world.request(Method::POST, CHAT, &knobs, streaming(chat_body()).to_string());
    let mut answer = world.begin(request).await;
    within(answer.body_mut().frame()).await.unwrap().unwrap();
    drop(answer);
    world.stop().await;
    assert_eq!(world.gateway.drain(LONG).await, Drained::Whole);
    assert_eq!(world.control.reports()[0].tokens.unwrap().output, Some(60));
}

#[tokio::test]
async fn a_stopping_gateway_takes_no_more_calls() {
    let world = start().await;
    world.gateway.drain(LONG).await;
    let answer = world.post(CHAT, &[], &chat_body()).await;
    assert_eq!(
        (answer.status, answer.json()["error"]["code"].as_str()),
        (StatusCode::SERVICE_UNAVAILABLE, Some("unavailable"))
    );
    assert!(answer.headers.contains_key("retry-after"));
}

#[tokio::test]
async fn places_are_free_again_after_every_kind_of_call() {
    let mut narrow = config();
    narrow.calls_max = 1;
    let world = start_with(narrow).await;
    for knobs in [[("x-demo-status", "500")], [("x-demo-no-usage", "true")], [("x-demo-chunks", "2")]] {
        for body in [chat_body(), streaming(chat_body())] {
            let answer = world.post(CHAT, &knobs, &body).await;
            assert_ne!(answer.status, StatusCode::TOO_MANY_REQUESTS);
        }
    }
    assert_eq!(world.reports(6).await.len(), 6);
}
