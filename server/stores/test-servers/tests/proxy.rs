//! The proxy breaks connections in the ways that it says.

use std::net::SocketAddr;
use std::time::Duration;

use rateguard_test_servers::{Flow, Proxy};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// How long nothing must arrive to be taken for held back.
const SILENCE: Duration = Duration::from_millis(100);

/// Answers every byte with the same byte.
async fn echo_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = listener.local_addr().expect("a bound listener has an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                tokio::io::copy(&mut from, &mut to).await
            });
        }
    });
    address
}

async fn ask(stream: &mut TcpStream) -> std::io::Result<u8> {
    stream.write_all(b"?").await?;
    stream.read_u8().await
}

#[tokio::test]
async fn bytes_pass_and_a_cut_ends_the_connections_that_stand() {
    let proxy = Proxy::to(echo_server().await).await.unwrap();
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(ask(&mut stream).await.unwrap(), b'?');

    proxy.cut();

    assert!(ask(&mut stream).await.is_err());
    let mut next = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(ask(&mut next).await.unwrap(), b'?');
}

#[tokio::test]
async fn new_connections_are_refused_while_old_ones_go_on() {
    let proxy = Proxy::to(echo_server().await).await.unwrap();
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(ask(&mut stream).await.unwrap(), b'?');

    proxy.set(Flow::RefuseNew);
    let refused = async {
        while TcpStream::connect(proxy.address()).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), refused).await.unwrap();
    assert_eq!(ask(&mut stream).await.unwrap(), b'?');

    proxy.set(Flow::Pass);
    let accepted = async {
        while TcpStream::connect(proxy.address()).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), accepted).await.unwrap();
}

#[tokio::test]
async fn a_black_hole_holds_everything_until_it_is_lifted() {
    let proxy = Proxy::to(echo_server().await).await.unwrap();
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(ask(&mut stream).await.unwrap(), b'?');

    for flow in [Flow::BlackHole, Flow::HoldAnswers] {
        proxy.set(flow);
        stream.write_all(b"!").await.unwrap();
        assert!(tokio::time::timeout(SILENCE, stream.read_u8()).await.is_err());
        proxy.set(Flow::Pass);
        assert_eq!(stream.read_u8().await.unwrap(), b'!');
    }
}

#[tokio::test]
async fn a_url_is_led_through_the_proxy() {
    let proxy = Proxy::to(SocketAddr::from(([127, 0, 0, 1], 1))).await.unwrap();
    let led = proxy.url("postgres://role:password@127.0.0.1:5432/name?sslmode=disable");
    assert_eq!(led, format!("postgres://role:password@{}/name?sslmode=disable", proxy.address()));
}
