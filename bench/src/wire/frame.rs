//! Frames of HTTP/2 (RFC 9113, section 4.1).

use anyhow::Context;

/// The last frame of a call's direction.
pub const END_STREAM: u8 = 0x1;
/// The answer to settings or a ping.
pub const ACK: u8 = 0x1;
/// The header block is whole.
pub const END_HEADERS: u8 = 0x4;

/// Length, kind, flags and stream.
const HEAD_BYTES: usize = 9;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// SETTINGS_INITIAL_WINDOW_SIZE.
const SETTING_WINDOW: u16 = 0x4;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A piece of a message.
    Data,
    /// Headers or trailers.
    Headers,
    /// The end of a call that failed.
    ResetStream,
    /// What the other side demands.
    Settings,
    /// A question for a sign of life.
    Ping,
    /// The end of the connection.
    GoAway,
    /// More may be sent.
    WindowUpdate,
    /// Any other, to be passed over.
    Other,
}

impl Kind {
    const CODES: [(u8, Self); 7] = [
        (0x0, Self::Data),
        (0x1, Self::Headers),
        (0x3, Self::ResetStream),
        (0x4, Self::Settings),
        (0x6, Self::Ping),
        (0x7, Self::GoAway),
        (0x8, Self::WindowUpdate),
    ];

    fn of(code: u8) -> Self {
        Self::CODES.iter().find(|(known, _)| *known == code).map_or(Self::Other, |(_, kind)| *kind)
    }

    fn code(self) -> u8 {
        Self::CODES.iter().find(|(_, kind)| *kind == self).map_or(u8::MAX, |(code, _)| *code)
    }
}

/// One frame, as received.
#[derive(Debug)]
pub struct Frame<'a> {
    /// What it is.
    pub kind: Kind,
    flags: u8,
    /// The call; 0 for the connection.
    pub stream: u32,
    /// The rest.
    pub payload: &'a [u8],
}

impl Frame<'_> {
    /// Whether a flag is set.
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The one number that the payload is.
    ///
    /// # Errors
    /// When it is none.
    pub fn number(&self) -> anyhow::Result<u32> {
        let bytes = self.payload.try_into().context("a malformed frame")?;
        Ok(u32::from_be_bytes(bytes) & (u32::MAX >> 1))
    }
}

/// The first whole frame, and what follows it.
pub fn parse(input: &[u8]) -> Option<(Frame<'_>, &[u8])> {
    let (head, rest) = input.split_first_chunk::<HEAD_BYTES>()?;
    let [l0, l1, l2, code, flags, s0, s1, s2, s3] = *head;
    let length = usize::try_from(u32::from_be_bytes([0, l0, l1, l2])).ok()?;
    let (payload, after) = rest.split_at_checked(length)?;
    let stream = u32::from_be_bytes([s0, s1, s2, s3]) & (u32::MAX >> 1);
    Some((Frame { kind: Kind::of(code), flags, stream, payload }, after))
}

/// Writes a frame's head; the caller writes `length` bytes after it.
pub fn write_head(output: &mut Vec<u8>, length: usize, kind: Kind, flags: u8, stream: u32) {
    let [.., l0, l1, l2] = length.to_be_bytes();
    output.extend_from_slice(&[l0, l1, l2, kind.code(), flags]);
    output.extend_from_slice(&stream.to_be_bytes());
}

/// Writes a frame.
pub fn write(output: &mut Vec<u8>, kind: Kind, flags: u8, stream: u32, payload: &[u8]) {
    write_head(output, payload.len(), kind, flags, stream);
    output.extend_from_slice(payload);
}

/// What a client says first: that it takes `window_bytes` on each call and on the connection.
pub fn greeting(window_bytes: u32) -> Vec<u8> {
    let mut output = PREFACE.to_vec();
    let mut setting = SETTING_WINDOW.to_be_bytes().to_vec();
    setting.extend_from_slice(&window_bytes.to_be_bytes());
    write(&mut output, Kind::Settings, 0, 0, &setting);
    write(&mut output, Kind::WindowUpdate, 0, 0, &window_bytes.to_be_bytes());
    output
}
