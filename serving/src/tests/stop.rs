//! What a shutdown waits for, and what it does not. Time is virtual from the moment of the stop, so that
//! what is asserted is the waits themselves.

use std::sync::Arc;

use axum::routing::get;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::*;

const HEAD: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";

/// `GET /` on the first stream of HTTP/2, in names that need no table.
const HTTP2_HEAD: &[u8] = &[0, 0, 3, 1, 5, 0, 0, 0, 1, 0x82, 0x84, 0x86];

/// The first bytes of a frame with the head of an answer, behind its length.
const HTTP2_ANSWER: &[u8] = &[1, 4, 0, 0, 0, 1];

/// Reads until `end` has come by.
async fn read_until(stream: &mut TcpStream, end: &[u8]) {
    let mut received = Vec::new();
    while !received.windows(end.len()).any(|part| part == end) {
        assert_ne!(within(stream.read_buf(&mut received)).await.unwrap(), 0, "closed after {received:?}");
    }
}

/// Makes sure that the server has accepted every connection so far: they are accepted in order.
async fn all_are_accepted(running: &Running) {
    let mut stream = connect_and_send(running.address, HEAD).await;
    read_until(&mut stream, b"\r\n\r\n127.0.0.1").await;
}

/// How long a server takes to stop.
async fn time_to_stop(running: Running) -> Duration {
    time::pause();
    let asked = Instant::now();
    running.stop.cancel();
    running.served.await.unwrap().unwrap();
    asked.elapsed()
}

/// How long a server takes to stop whose peer has sent these bytes and no more.
async fn time_to_stop_after(sent: &[u8]) -> Duration {
    let running = start(telling_the_peer(), Waits::DEFAULT).await;
    let _stream = connect_and_send(running.address, sent).await;
    all_are_accepted(&running).await;
    time_to_stop(running).await
}

#[tokio::test]
async fn a_connection_that_has_said_too_little_is_closed_at_once() {
    for sent in [&b""[..], b"PR"] {
        assert!(time_to_stop_after(sent).await < Duration::from_millis(100), "{sent:?}");
        time::resume();
    }
}

#[tokio::test]
async fn half_a_head_is_waited_for_a_moment() {
    for sent in [&b"G"[..], b"GET / HTTP/1.1\r\nhost: x\r\n", b"PRI * HTTP/2.0\r\n", HTTP2_BEGINNING] {
        assert!(time_to_stop_after(sent).await <= LEAVE_WAIT_MAX + Duration::from_millis(100), "{sent:?}");
        time::resume();
    }
}

#[tokio::test]
async fn a_connection_that_idles_is_closed_at_once() {
    assert!(time_to_stop_after(HEAD).await < Duration::from_millis(100));
}

#[tokio::test]
async fn an_http2_peer_that_has_fallen_silent_is_not_waited_for() {
    let running = start(telling_the_peer(), Waits::DEFAULT).await;
    let mut stream = connect_and_send(running.address, &[HTTP2_BEGINNING, HTTP2_HEAD].concat()).await;
    read_until(&mut stream, HTTP2_ANSWER).await;
    assert!(time_to_stop(running).await <= LEAVE_WAIT_MAX + Duration::from_millis(100));
}

#[tokio::test]
async fn a_head_that_comes_whole_in_time_is_answered() {
    let running = start(telling_the_peer(), Waits::DEFAULT).await;
    let mut stream = connect_and_send(running.address, &HEAD[..9]).await;
    all_are_accepted(&running).await;
    running.stop.cancel();
    // Nobody listens any more: the stop has been noticed.
    within(async { while TcpStream::connect(running.address).await.is_ok() {} }).await;
    stream.write_all(&HEAD[9..]).await.unwrap();
    let received = String::from_utf8(within(rest_of(stream)).await).unwrap();
    assert!(received.starts_with("HTTP/1.1 200"), "{received}");
    within(running.served).await.unwrap().unwrap();
}

/// A router whose every answer waits until it is let go.
fn waiting(let_go: &Arc<Notify>) -> Router {
    let let_go = Arc::clone(let_go);
    let answer = move || async move {
        let_go.notified().await;
        "finished"
    };
    Router::new().route("/", get(answer)).route("/seen", get(async || "seen"))
}

#[tokio::test]
async fn a_call_in_flight_is_waited_for() {
    for (sent, answered) in
        [(HEAD.to_vec(), &b"finished"[..]), ([HTTP2_BEGINNING, HTTP2_HEAD].concat(), b"finished")]
    {
        let let_go = Arc::new(Notify::new());
        let waits = Waits { leave: Duration::ZERO, ..Waits::DEFAULT };
        let running = start(waiting(&let_go), waits).await;
        let mut stream = connect_and_send(running.address, &sent).await;
        let mut seen = connect_and_send(running.address, b"GET /seen HTTP/1.1\r\nhost: x\r\n\r\n").await;
        read_until(&mut seen, b"seen").await;
        running.stop.cancel();
        within(async { while TcpStream::connect(running.address).await.is_ok() {} }).await;
        assert!(!running.served.is_finished());
        let_go.notify_one();
        read_until(&mut stream, answered).await;
        drop(stream);
        within(running.served).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_call_that_outlasts_the_drain_is_cut_off() {
    let running = start(waiting(&Arc::new(Notify::new())), Waits::DEFAULT).await;
    let _stream = connect_and_send(running.address, HEAD).await;
    let mut seen = connect_and_send(running.address, b"GET /seen HTTP/1.1\r\nhost: x\r\n\r\n").await;
    read_until(&mut seen, b"seen").await;
    let taken = time_to_stop(running).await;
    assert!(taken >= DRAIN_WAIT_MAX && taken < DRAIN_WAIT_MAX + Duration::from_millis(100), "{taken:?}");
}
