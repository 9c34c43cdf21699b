//! A connection of the load generator: as much of HTTP/2 as unary gRPC calls need, on a socket that
//! never blocks.
//!
//! A general client costs more processor time a call than the server that it measures, and then the
//! figure is the client's. This one writes frames that are all but prepared, reads frame heads, and
//! keeps a schedule to the microsecond, since it looks at the socket again and again instead of
//! sleeping.

mod frame;
mod headers;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use anyhow::{Context, bail, ensure};

use frame::{Frame, Kind};
use headers::HeaderBlocks;

/// Calls open on one connection at once; the servers take more.
const OPEN_CALLS_MAX: usize = 512;
/// Largest message sent: it fits one frame and any server's first window for a call.
const MESSAGE_BYTES_MAX: usize = 16_000;
/// Read from the socket at once.
const READ_BYTES: usize = 64 * 1024;
/// Bytes received before the server is told that it may send as many again.
const WINDOW_BYTES: u32 = 1 << 30;
/// The window of a connection before anything is said of it (RFC 9113, section 6.9.2).
const FIRST_WINDOW_BYTES: u32 = 65_535;
/// Compression flag and length before a message.
const MESSAGE_HEAD_BYTES: usize = 5;

/// An answered call.
pub struct Answer<'a> {
    /// When the call was due.
    pub due: Instant,
    /// The message, without its head.
    pub message: &'a [u8],
}

/// One connection, for calls of one method with one key.
pub struct Connection {
    stream: TcpStream,
    headers: HeaderBlocks,
    /// Where the socket is read to.
    buffer: Box<[u8]>,
    /// Read and not yet handled.
    input: Vec<u8>,
    /// Not yet written.
    output: Vec<u8>,
    open: HashMap<u32, Call>,
    next_stream: u32,
    /// What the server still takes on this connection.
    window_bytes: i64,
    /// Received and not yet told.
    received_bytes: u32,
}

struct Call {
    due: Instant,
    body: Vec<u8>,
}

impl Connection {
    /// Connects for calls of `path`.
    ///
    /// # Errors
    /// When nobody answers.
    pub fn open(address: SocketAddr, path: &str, key: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).with_context(|| format!("nobody answers at {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            headers: HeaderBlocks::new(path, &address.to_string(), key)?,
            buffer: vec![0; READ_BYTES].into_boxed_slice(),
            input: Vec::new(),
            output: frame::greeting(WINDOW_BYTES),
            open: HashMap::new(),
            next_stream: 1,
            window_bytes: i64::from(FIRST_WINDOW_BYTES),
            received_bytes: 0,
        })
    }

    /// How many calls are not answered yet.
    pub fn in_flight(&self) -> usize {
        self.open.len()
    }

    /// Whether another call may be sent now.
    pub fn has_room(&self) -> bool {
        let whole = i64::try_from(MESSAGE_BYTES_MAX + MESSAGE_HEAD_BYTES).unwrap_or(i64::MAX);
        self.open.len() < OPEN_CALLS_MAX && self.window_bytes >= whole
    }

    /// Queues a call; [`Connection::turn`] sends it.
    ///
    /// # Errors
    /// For a message above 16,000 bytes.
    pub fn send(&mut self, message: &[u8], due: Instant) -> anyhow::Result<()> {
        ensure!(message.len() <= MESSAGE_BYTES_MAX, "the message is above {MESSAGE_BYTES_MAX} bytes");
        let stream = self.next_stream;
        self.next_stream += 2;
        frame::write(&mut self.output, Kind::Headers, frame::END_HEADERS, stream, self.headers.block());
        let length = u32::try_from(message.len())?;
        let body_bytes = message.len() + MESSAGE_HEAD_BYTES;
        frame::write_head(&mut self.output, body_bytes, Kind::Data, frame::END_STREAM, stream);
        self.output.push(0);
        self.output.extend_from_slice(&length.to_be_bytes());
        self.output.extend_from_slice(message);
        self.window_bytes -= i64::try_from(body_bytes)?;
        self.open.insert(stream, Call { due, body: Vec::new() });
        Ok(())
    }

    /// Sends what is queued and hands over what has been answered, without waiting for either.
    ///
    /// # Errors
    /// When the server hangs up or refuses a call.
    pub fn turn(&mut self, mut answered: impl FnMut(Answer<'_>) -> anyhow::Result<()>) -> anyhow::Result<()> {
        self.flush()?;
        if !self.fill()? {
            return Ok(());
        }
        let input = std::mem::take(&mut self.input);
        let mut rest = input.as_slice();
        while let Some((frame, after)) = frame::parse(rest) {
            self.handle(&frame, &mut answered)?;
            rest = after;
        }
        let read = input.len() - rest.len();
        self.input = input;
        self.input.drain(..read);
        Ok(())
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(0) => bail!("the server does not take any more"),
                Ok(written) => drop(self.output.drain(..written)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Whether there was something to read.
    fn fill(&mut self) -> anyhow::Result<bool> {
        match self.stream.read(&mut self.buffer) {
            Ok(0) => bail!("the server has hung up"),
            Ok(bytes) => {
                self.input.extend_from_slice(&self.buffer[..bytes]);
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn handle(
        &mut self,
        frame: &Frame<'_>,
        answered: &mut impl FnMut(Answer<'_>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        match frame.kind {
            Kind::Data => self.data(frame)?,
            Kind::WindowUpdate if frame.stream == 0 => self.window_bytes += i64::from(frame.number()?),
            Kind::Settings if !frame.has(frame::ACK) => {
                frame::write(&mut self.output, Kind::Settings, frame::ACK, 0, &[]);
            }
            Kind::Ping if !frame.has(frame::ACK) => {
                frame::write(&mut self.output, Kind::Ping, frame::ACK, 0, frame.payload);
            }
            Kind::ResetStream | Kind::GoAway => bail!("the server gave up a call or the connection"),
            _ => {}
        }
        let ends = matches!(frame.kind, Kind::Data | Kind::Headers) && frame.has(frame::END_STREAM);
        if ends { self.end(frame.stream, answered) } else { Ok(()) }
    }

    fn data(&mut self, frame: &Frame<'_>) -> anyhow::Result<()> {
        let call = self.open.get_mut(&frame.stream).context("an answer to no call")?;
        call.body.extend_from_slice(frame.payload);
        self.received_bytes += u32::try_from(frame.payload.len())?;
        if self.received_bytes >= WINDOW_BYTES / 2 {
            let told = std::mem::take(&mut self.received_bytes);
            frame::write(&mut self.output, Kind::WindowUpdate, 0, 0, &told.to_be_bytes());
        }
        Ok(())
    }

    fn end(
        &mut self,
        stream: u32,
        answered: &mut impl FnMut(Answer<'_>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let call = self.open.remove(&stream).context("an answer to no call")?;
        // A call that failed has trailers and no message.
        let message = call.body.get(MESSAGE_HEAD_BYTES..).context("a call was answered with an error")?;
        answered(Answer { due: call.due, message })
    }
}
