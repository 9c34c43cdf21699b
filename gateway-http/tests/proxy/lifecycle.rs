//! A stop waits for what is under way.

use std::time::Duration;

use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use rateguard_gateway_http::Drained;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{
    APP_KEY, Answer, CHAT, World, chat_body, chat_text, config, start, start_with, streaming, within,
};

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

/// A call in flight of whose body a part is missing.
async fn half_sent(world: &World) -> TcpStream {
    let mut stream = TcpStream::connect(world.address).await.expect("the gateway is there");
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {APP_KEY}\r\nexpect: 100-continue\r\n\
         content-length: 100\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.expect("the gateway is there");
    let asked = "HTTP/1.1 100 Continue\r\n\r\n";
    let mut answer = vec![0; asked.len()];
    within(stream.read_exact(&mut answer)).await.expect("the gateway is there");
    assert_eq!(answer, asked.as_bytes());
    stream.write_all(b"{\"model\":").await.expect("the gateway is there");
    stream
}

/// The status line and everything behind it, until the gateway closes the connection.
async fn to_the_end(mut stream: TcpStream) -> String {
    let mut answer = String::new();
    within(stream.read_to_string(&mut answer)).await.expect("the gateway is there");
    answer
}

#[tokio::test]
async fn a_stop_does_not_wait_for_half_a_body_until_its_drain_ends() {
    let mut world = start().await;
    let stream = half_sent(&world).await;
    world.gateway.begin_stop();
    world.stop().await;
    let answer = to_the_end(stream).await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("the gateway is stopping"), "{answer}");
    assert!(world.control.checks().is_empty());
}

#[tokio::test]
async fn a_body_that_comes_to_a_halt_is_408_and_reserves_nothing() {
    let mut impatient = config();
    impatient.body_stall_max = Duration::from_millis(10);
    let world = start_with(impatient).await;
    let answer = to_the_end(half_sent(&world).await).await;
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("body_timeout"), "{answer}");
    assert!(world.control.checks().is_empty());
}
