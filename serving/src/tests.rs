//! The accept loop on real sockets.

mod encrypted;
mod stalls;
mod stop;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::routing::get;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinHandle;

use super::*;

/// Longest wait for something that is bound to happen.
const PATIENCE: Duration = Duration::from_secs(20);

const DEFAULT_BOUNDS: Bounds = Bounds {
    waits: Waits::DEFAULT,
    connections_max: CONNECTIONS_MAX,
    handshake_wait_max: HANDSHAKE_WAIT_MAX,
};

/// How a connection of HTTP/2 begins: the preface, and settings that change nothing.
const HTTP2_BEGINNING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// A server that can be told to stop.
struct Running {
    address: SocketAddr,
    stop: CancellationToken,
    served: JoinHandle<io::Result<()>>,
}

fn bound() -> (TcpListener, SocketAddr) {
    let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

async fn start(router: Router, waits: Waits) -> Running {
    start_bounded(router, waits, CONNECTIONS_MAX).await
}

async fn start_bounded(router: Router, waits: Waits, connections_max: usize) -> Running {
    start_with(router, Bounds { waits, connections_max, ..DEFAULT_BOUNDS }, None).await
}

async fn start_with(router: Router, bounds: Bounds, tls: Option<Tls>) -> Running {
    let (listener, address) = bound();
    let stop = CancellationToken::new();
    let shutdown = stop.clone().cancelled_owned();
    let served = tokio::spawn(serve_within(bounds, listener, tls, router, shutdown, DRAIN_WAIT_MAX));
    Running { address, stop, served }
}

/// Answers with the peer's address.
fn telling_the_peer() -> Router {
    Router::new()
        .route("/", get(|ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.to_string() }))
}

/// The future's output, or a failed test.
async fn within<T>(future: impl Future<Output = T>) -> T {
    time::timeout(PATIENCE, future).await.expect("this was bound to happen")
}

async fn connect_and_send(address: SocketAddr, sent: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(sent).await.unwrap();
    stream
}

/// What comes until the server closes the connection.
async fn rest_of(mut stream: TcpStream) -> Vec<u8> {
    let mut received = Vec::new();
    if let Err(error) = stream.read_to_end(&mut received).await {
        // A connection that is closed on bytes that nobody has read is reset.
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
    received
}

/// Sends these bytes to a server at its defaults and reads until it closes the connection.
async fn until_closed(sent: &[u8]) -> Vec<u8> {
    let running = start(telling_the_peer(), Waits::DEFAULT).await;
    let closed = rest_of(connect_and_send(running.address, sent).await);
    time::timeout(10 * HEAD_WAIT_MAX, closed).await.expect("no connection is kept for so little")
}

#[tokio::test]
async fn an_accepted_socket_has_nodelay_set() {
    let (listener, address) = bound();
    let (accepted, dialled) = tokio::join!(accept_nodelay(&listener), TcpStream::connect(address));
    let (stream, peer) = accepted.unwrap();
    assert!(stream.nodelay().unwrap());
    assert!(!dialled.as_ref().unwrap().nodelay().unwrap(), "the option is not simply on for every socket");
    assert_eq!(peer, dialled.unwrap().local_addr().unwrap());
}

#[tokio::test]
async fn a_request_is_answered_and_knows_its_peer() {
    let received = until_closed(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    let received = String::from_utf8(received).unwrap();
    assert!(received.starts_with("HTTP/1.1 200") && received.contains("\r\n\r\n127.0.0.1:"), "{received}");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_says_nothing_is_closed() {
    assert_eq!(until_closed(b"").await, b"");
}

#[tokio::test(start_paused = true)]
async fn a_head_that_never_ends_is_not_waited_for() {
    for begun in [&b"G"[..], b"PR", b"PRI * HTTP/2.0\r\n", b"GET / HTTP/1.1\r\nhost: x\r\n"] {
        let received = until_closed(begun).await;
        assert!(!received.starts_with(b"HTTP/1.1 200"));
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_after_its_request() {
    let received = until_closed(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(received.starts_with(b"HTTP/1.1 200"));
}

#[tokio::test]
async fn an_http2_peer_that_asks_for_nothing_is_told_to_go_and_cut_off() {
    let waits = Waits { head: Duration::from_millis(20), leave: Duration::from_millis(20), ..Waits::DEFAULT };
    let running = start(telling_the_peer(), waits).await;
    let received = within(rest_of(connect_and_send(running.address, HTTP2_BEGINNING).await)).await;
    let goaway = [0, 0, 8, 7, 0, 0, 0, 0, 0];
    assert!(received.windows(goaway.len()).any(|frame| frame == goaway), "{received:?}");
}

#[tokio::test]
async fn connections_beyond_the_bound_wait_until_one_is_free() {
    let running = start_bounded(telling_the_peer(), Waits::DEFAULT, 1).await;
    let head = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut first = connect_and_send(running.address, head).await;
    let mut answer = [0; 12];
    within(first.read_exact(&mut answer)).await.unwrap();
    let mut second = connect_and_send(running.address, head).await;
    let waited = time::timeout(Duration::from_millis(50), second.read_u8()).await;
    assert!(waited.is_err(), "there is no place for it yet");
    drop(first);
    within(second.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
}

#[tokio::test]
async fn an_address_that_was_served_a_moment_ago_can_be_served_again() {
    let (listener, address) = bound();
    assert!(listen(address).is_err(), "it is taken");
    drop(listener);
    assert_eq!(listen(address).unwrap().local_addr().unwrap(), address);
}
