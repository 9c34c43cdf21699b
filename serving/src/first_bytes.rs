//! Tells HTTP/2 with prior knowledge from HTTP/1.1 by the first bytes of a connection, left unread.

use std::io;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time;

/// How the preface of HTTP/2 begins (RFC 9113, section 3.4); no method of HTTP/1.1 does.
const PREFACE: &[u8; 4] = b"PRI ";

/// Wait before looking again at a connection that has sent only a part of the preface.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(5);

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

/// What the client speaks; `None` if it has closed the connection without a word. Waits for as long as
/// the client says too little, so callers set a deadline.
pub(super) async fn protocol(stream: &TcpStream) -> io::Result<Option<Protocol>> {
    let mut first = [0; PREFACE.len()];
    loop {
        let length = stream.peek(&mut first).await?;
        match &first[..length] {
            [] => return Ok(None),
            whole if whole == PREFACE => return Ok(Some(Protocol::Http2)),
            part if PREFACE.starts_with(part) => time::sleep(LOOK_AGAIN_AFTER).await,
            _ => return Ok(Some(Protocol::Http1)),
        }
    }
}

#[cfg(test)]
mod tests;
