//! The accept loop on real sockets.

use axum::routing::get;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

async fn bound() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

async fn start() -> SocketAddr {
    let (listener, address) = bound().await;
    let router = Router::new()
        .route("/", get(|ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.to_string() }));
    tokio::spawn(serve(listener, router, std::future::pending(), DRAIN_WAIT_MAX));
    address
}

/// Sends these bytes and reads until the server closes the connection.
async fn until_closed(address: SocketAddr, sent: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(sent).await.unwrap();
    let mut received = Vec::new();
    if let Err(error) = stream.read_to_end(&mut received).await {
        // A connection that is closed on bytes that nobody has read is reset.
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
    received
}

#[tokio::test]
async fn an_accepted_socket_has_nodelay_set() {
    let (listener, address) = bound().await;
    let (accepted, dialled) = tokio::join!(accept_nodelay(&listener), TcpStream::connect(address));
    let (stream, peer) = accepted.unwrap();
    assert!(stream.nodelay().unwrap());
    assert!(!dialled.as_ref().unwrap().nodelay().unwrap(), "the option is not simply on for every socket");
    assert_eq!(peer, dialled.unwrap().local_addr().unwrap());
}

#[tokio::test]
async fn a_request_is_answered_and_knows_its_peer() {
    let address = start().await;
    let received = until_closed(address, b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    let received = String::from_utf8(received).unwrap();
    assert!(received.starts_with("HTTP/1.1 200") && received.contains("\r\n\r\n127.0.0.1:"), "{received}");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_says_nothing_is_closed() {
    let address = start().await;
    assert_eq!(until_closed(address, b"").await, b"");
}

#[tokio::test(start_paused = true)]
async fn a_head_that_never_ends_is_not_waited_for() {
    let address = start().await;
    for begun in [&b"G"[..], b"PR", b"GET / HTTP/1.1\r\nhost: x\r\n"] {
        let received = until_closed(address, begun).await;
        assert!(!received.starts_with(b"HTTP/1.1 200"));
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_after_its_request() {
    let address = start().await;
    let received = until_closed(address, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(received.starts_with(b"HTTP/1.1 200"));
}

#[tokio::test]
async fn the_preface_tells_http2() {
    let (listener, address) = bound().await;
    for (sent, expected) in [
        (&b"PRI * HTTP/2.0\r\n"[..], Some(Protocol::Http2)),
        (b"POST / HTTP/1.1\r\n", Some(Protocol::Http1)),
        (b"PRINT", Some(Protocol::Http1)),
        (b"", None),
    ] {
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(sent).await.unwrap();
        client.shutdown().await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        assert_eq!(protocol(&accepted).await.unwrap(), expected);
    }
}
