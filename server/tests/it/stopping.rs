//! How the program stops when somebody does not want to wait.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::process::{Installation, PROGRAM};

/// Longest wait for a listener to be closed.
const CLOSED_WITHIN: Duration = Duration::from_secs(20);
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// A call that never ends keeps a server that stops waiting, here for an hour; a second signal does
/// not wait for it.
#[tokio::test]
async fn a_second_signal_ends_a_server_that_waits_for_calls_in_flight() {
    let installation = Installation::make().await;
    let mut command = Command::new(PROGRAM);
    command.env("RATEGUARD_SERVER__DRAIN_SECONDS_MAX", "3600");
    let server = installation.serve_under(command).await;
    let address = server.address.strip_prefix("http://").unwrap().to_owned();
    let mut call = TcpStream::connect(&address).await.unwrap();
    let head = format!(
        "POST /rateguard.v1.UsageService/ListUsageEvents HTTP/1.1\r\nhost: server\r\nauthorization: Bearer {}\r\n\
         content-type: application/grpc-web+proto\r\nexpect: 100-continue\r\ncontent-length: 100\r\n\r\n",
        installation.first_key
    );
    call.write_all(head.as_bytes()).await.unwrap();
    // It says that it waits for the body: the call is in flight.
    let mut answer = [0; 12];
    call.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 100");

    server.signal("TERM").await;
    let closed = async {
        while TcpStream::connect(&address).await.is_ok() {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    };
    tokio::time::timeout(CLOSED_WITHIN, closed).await.expect("the listener stays open");
    server.signal("TERM").await;
    assert_eq!(server.ended().await.code(), Some(1));
    // What it left behind is whole.
    assert!(installation.serve().await.interrupt().await.success());
}
