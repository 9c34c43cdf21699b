//! An incremental reader of server-sent events that keeps every byte.
//!
//! The gateway forwards vendors' streams byte for byte and only looks at them on the way, so each
//! event comes with the raw bytes it was cut from. The kept crates for this format
//! (`eventsource-stream` and its forks) hand out decoded events alone and buffer without a bound,
//! so they can neither pass the original bytes through nor protect the gateway; hence this module.
//!
//! Line ends are CRLF, LF or CR, and events end at a blank line, as in the HTML Living Standard,
//! section 9.2 "Server-sent events" (<https://html.spec.whatwg.org/multipage/server-sent-events.html>).
//! Where the cuts fall never depends on how the network split the bytes.

use std::borrow::Cow;
use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// Largest event that is read, in bytes. Vendors' text events are a few hundred bytes and inline
/// media a few hundred kilobytes; what is larger passes through unread.
pub const SSE_EVENT_BYTES_MAX: usize = 1024 * 1024;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What the parser cuts a stream into. All raw bytes, in order, are the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SseItem {
    /// One block up to and including its blank line: an event, or comments alone.
    Event(SseEvent),
    /// A piece of a block larger than the bound; to be forwarded unread.
    Opaque(Bytes),
}

impl SseItem {
    /// The original bytes.
    pub fn raw(&self) -> &Bytes {
        match self {
            Self::Event(event) => &event.raw,
            Self::Opaque(raw) => raw,
        }
    }
}

/// One block of the stream with its original bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SseEvent {
    raw: Bytes,
    /// Where the first line starts: behind a byte order mark or the rest of a CRLF.
    content_start: usize,
}

impl SseEvent {
    /// The original bytes, blank line included (the stream's last block may lack one).
    pub fn raw(&self) -> &Bytes {
        &self.raw
    }

    /// The value of the last `event:` line, if any.
    pub fn event_type(&self) -> Option<&[u8]> {
        self.values(b"event").last()
    }

    /// The `data:` lines joined with line feeds; `None` for a block without any, such as a comment.
    pub fn data(&self) -> Option<Cow<'_, [u8]>> {
        let mut lines = self.values(b"data");
        let first = lines.next()?;
        let mut joined = Cow::Borrowed(first);
        for line in lines {
            let data = joined.to_mut();
            data.push(b'\n');
            data.extend_from_slice(line);
        }
        Some(joined)
    }

    fn values<'a>(&'a self, name: &'static [u8]) -> impl Iterator<Item = &'a [u8]> {
        lines(&self.raw[self.content_start..]).filter_map(move |line| field_value(line, name))
    }
}

/// Cuts a stream into events, fed chunk by chunk. Holds at most one event and one chunk.
#[derive(Debug)]
pub struct SseParser {
    event_bytes_max: usize,
    buffer: BytesMut,
    ready: VecDeque<SseItem>,
    /// How much of `buffer` has been scanned for line ends.
    scanned: usize,
    /// Where the first line of the block in `buffer` starts.
    content_start: usize,
    line: LineState,
    /// The block in `buffer` has outgrown the bound and is passed on in pieces.
    oversized: bool,
    stream_start: bool,
}

/// What the scanner knows about the bytes just before its position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LineState {
    /// At the first byte of a line.
    Start,
    /// Inside a line.
    Inside,
    /// Behind a CR that ended a line with content: an LF here belongs to it.
    AfterCr,
    /// Behind a CR that ended a blank line: an LF here belongs to it and to the block.
    AfterBlankCr,
    /// The block before ended with CR CR: an LF here is the rest of its last line end.
    AfterCutCr,
}

/// What one byte means to the block being scanned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The byte belongs to the block, which goes on.
    Continue(LineState),
    /// The block ends behind this byte.
    EndAfter(LineState),
    /// The block ended before this byte, which starts the next one.
    EndBefore,
}

impl Default for SseParser {
    fn default() -> Self {
        Self::with_event_bytes_max(SSE_EVENT_BYTES_MAX)
    }
}

impl SseParser {
    /// A parser that reads events of up to `event_bytes_max` bytes.
    pub fn with_event_bytes_max(event_bytes_max: usize) -> Self {
        Self {
            event_bytes_max,
            buffer: BytesMut::new(),
            ready: VecDeque::new(),
            scanned: 0,
            content_start: 0,
            line: LineState::Start,
            oversized: false,
            stream_start: true,
        }
    }

    /// Feeds the next bytes of the stream. Take what they completed with [`Self::next_item`].
    pub fn push(&mut self, chunk: &[u8]) {
        self.buffer.extend_from_slice(chunk);
        if self.stream_start && !self.pass_byte_order_mark() {
            return;
        }
        while self.scanned < self.buffer.len() {
            self.scan_byte();
        }
        if self.oversized || self.buffer.len() > self.event_bytes_max {
            self.pass_on_oversized();
        }
    }

    /// The next item that is complete, in stream order.
    pub fn next_item(&mut self) -> Option<SseItem> {
        self.ready.pop_front()
    }

    /// Ends the stream: a last block without its blank line becomes readable as it stands.
    pub fn finish(&mut self) {
        if !self.buffer.is_empty() {
            self.cut(self.buffer.len(), LineState::Start);
        }
    }

    /// Skips a byte order mark; false while too few bytes are here to tell.
    fn pass_byte_order_mark(&mut self) -> bool {
        if self.buffer.starts_with(BYTE_ORDER_MARK) {
            self.content_start = BYTE_ORDER_MARK.len();
            self.scanned = BYTE_ORDER_MARK.len();
        } else if BYTE_ORDER_MARK.starts_with(&self.buffer) {
            return false;
        }
        self.stream_start = false;
        true
    }

    fn scan_byte(&mut self) {
        let position = self.scanned;
        if self.line == LineState::Inside {
            let rest = &self.buffer[position..];
            let line_bytes = rest.iter().position(|byte| is_line_end(*byte));
            self.scanned += line_bytes.unwrap_or(rest.len());
            if self.scanned == self.buffer.len() {
                return;
            }
        }
        let byte = self.buffer[self.scanned];
        match step(self.line, byte) {
            Step::Continue(next) => {
                if self.line == LineState::AfterCutCr && byte == b'\n' {
                    self.content_start = self.scanned + 1;
                }
                self.scanned += 1;
                self.line = next;
            }
            Step::EndAfter(next) => self.cut(self.scanned + 1, next),
            Step::EndBefore => self.cut(self.scanned, LineState::Start),
        }
    }

    /// Takes the first `length` bytes off the buffer as one item.
    fn cut(&mut self, length: usize, next: LineState) {
        let raw = self.buffer.split_to(length).freeze();
        if self.oversized || raw.len() > self.event_bytes_max {
            self.push_opaque(raw);
        } else {
            let content_start = self.content_start;
            self.ready.push_back(SseItem::Event(SseEvent { raw, content_start }));
        }
        self.scanned = 0;
        self.content_start = 0;
        self.oversized = false;
        self.line = next;
    }

    /// Hands on what is buffered of a block beyond the bound, keeping the place in it.
    fn pass_on_oversized(&mut self) {
        self.oversized = true;
        let raw = self.buffer.split().freeze();
        self.push_opaque(raw);
        self.scanned = 0;
        self.content_start = 0;
    }

    fn push_opaque(&mut self, raw: Bytes) {
        if !raw.is_empty() {
            self.ready.push_back(SseItem::Opaque(raw));
        }
    }
}

/// What `byte` means in state `line`. A blank line that ends with CR waits for a possible LF, except
/// behind another lone CR, where an LF is unheard of and waiting would hold the event back.
fn step(line: LineState, byte: u8) -> Step {
    use LineState::{AfterBlankCr, AfterCr, AfterCutCr, Inside, Start};
    match (line, byte) {
        (Inside | AfterCr | AfterCutCr, b'\n') => Step::Continue(Start),
        (Start | AfterBlankCr, b'\n') => Step::EndAfter(Start),
        (AfterBlankCr, _) => Step::EndBefore,
        (AfterCr, b'\r') => Step::EndAfter(AfterCutCr),
        (Start | AfterCutCr, b'\r') => Step::Continue(AfterBlankCr),
        (Inside, b'\r') => Step::Continue(AfterCr),
        (_, _) => Step::Continue(Inside),
    }
}

fn is_line_end(byte: u8) -> bool {
    byte == b'\n' || byte == b'\r'
}

/// The lines of a block without their ends. A CRLF gives an empty line in between, which no field
/// is read from.
fn lines(block: &[u8]) -> impl Iterator<Item = &[u8]> {
    block.split(|byte| is_line_end(*byte))
}

/// The value of a line `name: value`, without the one space that may follow the colon.
fn field_value<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let rest = line.strip_prefix(name)?;
    if rest.is_empty() {
        return Some(rest);
    }
    let value = rest.strip_prefix(b":")?;
    Some(value.strip_prefix(b" ").unwrap_or(value))
}

#[cfg(test)]
mod tests;
