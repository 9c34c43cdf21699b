//! Tells HTTP/2 with prior knowledge from HTTP/1.1 by the first bytes of a connection, left unread; and
//! under TLS by what both sides have agreed on.

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

impl Protocol {
    /// What they are called in the handshake of TLS (RFC 7301, section 6; RFC 9113, section 3.1), the
    /// preferred one first.
    pub(super) const NAMES: [(&[u8], Self); 2] = [(b"h2", Self::Http2), (b"http/1.1", Self::Http1)];

    /// What was agreed on. A client that did not ask speaks HTTP/1.1 (RFC 9113, section 3.3).
    pub(super) fn agreed(name: Option<&[u8]>) -> Self {
        let known = Self::NAMES.into_iter().find(|(known, _)| Some(*known) == name);
        known.map_or(Self::Http1, |(_, protocol)| protocol)
    }
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
