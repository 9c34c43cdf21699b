//! What a dialect makes of a stream of events.

use super::UsageReading;
use crate::sse::SseItem;

/// What becomes of one item on its way to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventFate {
    /// Its bytes go on unchanged.
    Forward,
    /// It exists only because the gateway asked for it, and goes no further.
    Drop,
}

/// Whether the vendor has ended its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamEnd {
    /// Not yet: more may come, and the usage may still change.
    Open,
    /// Its terminal event was seen; nothing that is billed follows.
    Complete,
    /// The vendor reported an error in mid-stream.
    Failed,
}

/// Where a stream stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamProgress {
    /// The usage reported so far. Before the end it may be partial.
    pub reading: UsageReading,
    /// Whether the terminal event was seen.
    pub end: StreamEnd,
    /// Bytes of output text seen so far, to estimate by where the usage is unknown or partial.
    pub output_text_bytes: u64,
    /// Whether the usage, if known, is the vendor's last word and not a running figure.
    pub usage_final: bool,
    /// Items that could not be read; they were forwarded all the same.
    pub unreadable_items: u64,
}

impl StreamProgress {
    /// Whether the reading is the vendor's final word, believed without reserve.
    pub fn is_exact(&self) -> bool {
        let unflagged = self.reading.known().is_some_and(|usage| !usage.flags.any());
        self.end == StreamEnd::Complete && self.usage_final && unflagged
    }
}

/// Follows one stream. Fed every item in order; never fails and never holds one back.
pub trait StreamReader: Send {
    /// Looks at the next item and says what becomes of it. What is too large to be read is forwarded.
    fn read(&mut self, item: &SseItem) -> EventFate;

    /// Whether the terminal event was seen; cheap enough to ask after every event.
    fn end(&self) -> StreamEnd;

    /// Where the stream stands now.
    fn progress(&self) -> StreamProgress;
}
