//! Clients that do not read what they have asked for.

use std::convert::Infallible;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use futures::stream;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::*;

const WAITS: Waits = Waits { write_stall: Duration::from_millis(50), ..Waits::DEFAULT };

type Held = Arc<Mutex<Option<oneshot::Sender<()>>>>;

/// A router with an answer without end, and what tells when that is dropped.
pub(super) fn endless() -> (Router, oneshot::Receiver<()>) {
    let (held, dropped) = oneshot::channel();
    let held: Held = Arc::new(Mutex::new(Some(held)));
    let router =
        Router::new().route("/endless", get(pour)).route("/", get(async || "whole")).with_state(held);
    (router, dropped)
}

async fn pour(State(held): State<Held>) -> Response {
    let held = held.lock().take();
    let parts =
        stream::unfold(held, async |held| Some((Ok::<_, Infallible>(Bytes::from(vec![0; 100_000])), held)));
    Response::new(Body::from_stream(parts))
}

fn request(path: &str) -> http::Request<Empty<Bytes>> {
    http::Request::get(path).header("host", "x").body(Empty::new()).unwrap()
}

#[tokio::test]
async fn a_stream_of_http2_that_is_not_read_is_reset_and_its_connection_lives_on() {
    let (router, dropped) = endless();
    let running = start(router, WAITS).await;
    let io = TokioIo::new(TcpStream::connect(running.address).await.unwrap());
    let (mut client, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
    let connected = tokio::spawn(connection);
    let stalled = within(client.send_request(request("http://x/endless"))).await.unwrap();
    assert!(within(dropped).await.is_err(), "the body was dropped");
    let error = within(stalled.into_body().collect()).await.expect_err("the stream is not whole");
    let reason = std::error::Error::source(&error).unwrap().to_string();
    assert!(reason.contains("stream") && !connected.is_finished(), "{reason}");
    let other = within(client.send_request(request("http://x/"))).await.unwrap();
    assert_eq!(within(other.into_body().collect()).await.unwrap().to_bytes(), "whole");
}

#[tokio::test]
async fn a_connection_of_http1_that_is_not_read_is_closed() {
    let (router, dropped) = endless();
    let running = start(router, WAITS).await;
    let io = TokioIo::new(TcpStream::connect(running.address).await.unwrap());
    let (mut client, connection) = http1::handshake(io).await.unwrap();
    tokio::spawn(connection);
    let stalled = within(client.send_request(request("/endless"))).await.unwrap();
    assert!(within(dropped).await.is_err(), "the body was dropped");
    assert!(within(stalled.into_body().collect()).await.is_err());
}
