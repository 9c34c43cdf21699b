//! Callers who leave, connections that idle, and the upstream's own end.

use std::{net::SocketAddr, time::Duration};

use http_body_util::BodyExt;
use rateguard_demo_upstream::{Endpoint, bounds::DRAIN_WAIT_MAX};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task,
    time::Instant,
};

use crate::support::{eventually, start, within};

/// Turns of the scheduler after which a paused clock's test gives up.
const TURNS_MAX: u32 = 1_000_000;

fn streaming() -> Value {
    json!({
        "model": "gpt-4o-mini", "stream": true, "messages": [{ "role": "user", "content": "hello" }]
    })
}

/// Lets everything else run until the condition holds; a clock that is paused stands still meanwhile.
async fn after_some_turns(mut holds: impl FnMut() -> bool) {
    for _ in 0..TURNS_MAX {
        if holds() {
            return;
        }
        task::yield_now().await;
    }
    panic!("this was bound to happen");
}

/// The bytes that the upstream sends before it closes, having been sent these.
async fn until_closed(address: SocketAddr, sent: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.expect("the upstream listens");
    stream.write_all(sent).await.expect("the upstream reads");
    let mut received = Vec::new();
    stream.read_to_end(&mut received).await.expect("the upstream closes in order");
    received
}

#[tokio::test]
async fn a_reader_who_leaves_in_mid_stream_ends_the_stream() {
    let upstream = start().await;
    let knobs = [("x-demo-chunks", "60"), ("x-demo-chunk-delay-ms", "10000")];
    let mut answer = upstream.send(upstream.chat(&streaming(), &knobs)).await;
    let first = answer.body_mut().frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(first.starts_with(b"data: "));
    assert_eq!(upstream.observed.cancelled_in_stream(Endpoint::OpenAiChat), 0);
    drop(answer);
    eventually(|| upstream.observed.cancelled_in_stream(Endpoint::OpenAiChat) == 1).await;
    assert_eq!(upstream.observed.streams_finished(Endpoint::OpenAiChat), 0);
    assert_eq!(upstream.observed.cancelled_before_answer(Endpoint::OpenAiChat), 0);
}

#[tokio::test]
async fn a_caller_who_leaves_before_the_answer_is_counted_apart() {
    let upstream = start().await;
    let request = upstream.chat(&streaming(), &[("x-demo-delay-ms", "60000")]);
    tokio::select! {
        _ = upstream.send(request) => panic!("the answer was to wait for a minute"),
        () = eventually(|| upstream.observed.requests(Endpoint::OpenAiChat) == 1) => {}
    }
    eventually(|| upstream.observed.cancelled_before_answer(Endpoint::OpenAiChat) == 1).await;
    assert_eq!(upstream.observed.cancelled_in_stream(Endpoint::OpenAiChat), 0);
}

#[tokio::test]
async fn a_stream_in_flight_finishes_after_the_stop_was_asked_for() {
    let upstream = start().await;
    let knobs = [("x-demo-chunks", "20"), ("x-demo-chunk-delay-ms", "10")];
    let mut answer = upstream.send(upstream.chat(&streaming(), &knobs)).await;
    answer.body_mut().frame().await.unwrap().unwrap();
    upstream.stop();
    let rest = within(answer.into_body().collect()).await.unwrap().to_bytes();
    assert!(rest.ends_with(b"data: [DONE]\n\n"));
    let (address, observed) = (upstream.address, upstream.observed.clone());
    within(upstream.stopped()).await;
    assert_eq!(observed.streams_finished(Endpoint::OpenAiChat), 1);
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_outlasts_the_drain_is_cut_off() {
    let upstream = start().await;
    let request = upstream.chat(&streaming(), &[("x-demo-delay-ms", "60000")]);
    let call = upstream.begin(request);
    let observed = upstream.observed.clone();
    after_some_turns(|| observed.requests(Endpoint::OpenAiChat) == 1).await;
    upstream.stop();
    let asked = Instant::now();
    upstream.stopped().await;
    assert!(asked.elapsed() < DRAIN_WAIT_MAX + Duration::from_secs(1));
    assert!(call.await.unwrap().is_err(), "the caller gets no answer");
    assert_eq!(observed.cancelled_before_answer(Endpoint::OpenAiChat), 1);
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_in_the_end() {
    let upstream = start().await;
    assert_eq!(until_closed(upstream.address, b"").await, b"");
}

#[tokio::test(start_paused = true)]
async fn a_head_that_never_ends_is_not_waited_for() {
    let upstream = start().await;
    let received = until_closed(upstream.address, b"GET /echo HTTP/1.1\r\nhost: demo\r\n").await;
    assert!(!received.starts_with(b"HTTP/1.1 200"));
    assert_eq!(upstream.observed.requests(Endpoint::Echo), 0);
}

#[tokio::test(start_paused = true)]
async fn a_kept_alive_connection_is_closed_once_it_idles() {
    let upstream = start().await;
    let received = until_closed(upstream.address, b"GET /echo HTTP/1.1\r\nhost: demo\r\n\r\n").await;
    assert!(received.starts_with(b"HTTP/1.1 200"));
    assert_eq!(upstream.observed.requests(Endpoint::Echo), 1);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_never_ends_is_not_waited_for() {
    let upstream = start().await;
    let head = b"POST /echo HTTP/1.1\r\nhost: demo\r\ncontent-length: 10\r\n\r\nhalf";
    let received = until_closed(upstream.address, head).await;
    assert!(received.starts_with(b"HTTP/1.1 408"));
}
