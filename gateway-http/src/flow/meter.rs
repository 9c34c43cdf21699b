//! Reads what was used while an answer goes by.

use bytes::{Bytes, BytesMut};
use rateguard_proto::v1::{self, UsageExactness};

use super::facts::{Expected, output_tokens_of};
use super::outgoing::Spoken;
use super::settlement::Figures;
use crate::gateway::slots::Lease;
use crate::sse::{SseItem, SseParser};
use crate::usage::{Dialect, EventFate, StreamEnd, StreamProgress, StreamReader, TokenUsage, UsageReading};

/// Longest service tier that a record takes, in bytes; the contract's bound.
const SERVICE_TIER_BYTES_MAX: usize = 64;

/// What looks at an answer.
pub(crate) enum Meter {
    /// A stream of events.
    Events(EventMeter),
    /// An answer whose usage stands somewhere in its whole.
    Whole(WholeMeter),
    /// An answer that says nothing of usage.
    Unread,
}

/// How far an answer came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// To the upstream's own end of it.
    Whole,
    /// It was cut off.
    Cut,
}

/// Follows a stream of events.
pub(crate) struct EventMeter {
    parser: SseParser,
    reader: Box<dyn StreamReader>,
    /// Whether an event may be kept from the client: then bytes go on in whole events.
    may_drop: bool,
}

/// Keeps an answer to read it at its end.
pub(crate) struct WholeMeter {
    dialect: &'static dyn Dialect,
    kept: Option<BytesMut>,
    bytes_max: usize,
    lease: Lease,
    bytes_seen: u64,
}

impl EventMeter {
    pub(crate) fn new(spoken: &Spoken) -> Self {
        Self {
            parser: SseParser::default(),
            reader: spoken.dialect.stream_reader(&spoken.prepared),
            may_drop: !spoken.prepared.usage_asked,
        }
    }

    fn feed(&mut self, chunk: Bytes) -> Bytes {
        self.parser.push(&chunk);
        let kept = self.read_items();
        if self.may_drop { kept } else { chunk }
    }

    fn finish(&mut self) -> Bytes {
        self.parser.finish();
        let kept = self.read_items();
        if self.may_drop { kept } else { Bytes::new() }
    }

    /// Reads what is complete, and gives the bytes of it that the client gets.
    fn read_items(&mut self) -> Bytes {
        let mut kept = Joined::default();
        while let Some(item) = self.parser.next_item() {
            if self.reader.read(&item) == EventFate::Forward && self.may_drop {
                kept.push(&item);
            }
        }
        kept.into_bytes()
    }
}

/// Bytes that are copied only where there are several pieces.
#[derive(Default)]
struct Joined {
    first: Bytes,
    joined: BytesMut,
}

impl Joined {
    fn push(&mut self, item: &SseItem) {
        if self.first.is_empty() && self.joined.is_empty() {
            self.first = item.raw().clone();
            return;
        }
        self.joined.extend_from_slice(&std::mem::take(&mut self.first));
        self.joined.extend_from_slice(item.raw());
    }

    fn into_bytes(self) -> Bytes {
        if self.joined.is_empty() { self.first } else { self.joined.freeze() }
    }
}

impl WholeMeter {
    /// A meter that keeps `bytes_max` at most, as far as `lease` can be made to cover it.
    pub(crate) fn new(dialect: &'static dyn Dialect, bytes_max: usize, lease: Lease) -> Self {
        Self { dialect, kept: Some(BytesMut::new()), bytes_max, lease, bytes_seen: 0 }
    }

    fn feed(&mut self, chunk: &Bytes) {
        self.bytes_seen = self.bytes_seen.saturating_add(u64::try_from(chunk.len()).unwrap_or(u64::MAX));
        let Some(kept) = &mut self.kept else { return };
        let bytes = kept.len().saturating_add(chunk.len());
        if bytes <= self.bytes_max && self.lease.cover(bytes) {
            kept.extend_from_slice(chunk);
        } else {
            self.kept = None;
        }
    }

    fn figures(&self, reach: Reach, expected: Option<&Expected>) -> Figures {
        match &self.kept {
            Some(kept) if reach == Reach::Whole => stated(&self.dialect.read_body(kept)),
            _ => self.estimate(reach, expected),
        }
    }

    /// The answer's bytes bound its tokens, and so does what was asked for.
    fn estimate(&self, reach: Reach, expected: Option<&Expected>) -> Figures {
        let most = expected.map_or(u64::MAX, Expected::output_tokens_in_all);
        let output = output_tokens_of(self.bytes_seen).min(most);
        let tokens = TokenUsage {
            input_total: expected.map(|expected| expected.input_tokens),
            output: Some(output),
            ..TokenUsage::default()
        };
        let exactness = match reach {
            Reach::Whole => UsageExactness::Estimated,
            Reach::Cut => UsageExactness::Partial,
        };
        Figures { tokens: Some(wire(&tokens)), ..Figures::nothing_stated(exactness) }
    }
}

impl Meter {
    /// Looks at the next bytes of the answer and gives those that go on to the client.
    pub(crate) fn feed(&mut self, chunk: Bytes) -> Bytes {
        match self {
            Self::Events(events) => events.feed(chunk),
            Self::Whole(whole) => {
                whole.feed(&chunk);
                chunk
            }
            Self::Unread => chunk,
        }
    }

    /// The answer has ended; gives what was still held back of it.
    pub(crate) fn finish(&mut self) -> Bytes {
        match self {
            Self::Events(events) => events.finish(),
            Self::Whole(_) | Self::Unread => Bytes::new(),
        }
    }

    /// Whether bytes of the answer may be waiting here for more of it.
    pub(crate) fn holds_back(&self) -> bool {
        matches!(self, Self::Events(events) if events.may_drop)
    }

    /// Whether nothing that is still to come can change the figures.
    pub(crate) fn is_complete(&self) -> bool {
        match self {
            Self::Events(events) => events.reader.end() != StreamEnd::Open,
            Self::Whole(whole) => whole.kept.is_none(),
            Self::Unread => true,
        }
    }

    /// What was used, by what has gone by.
    pub(crate) fn figures(&self, status: u16, reach: Reach, expected: Option<&Expected>) -> Figures {
        let figures = match self {
            Self::Events(events) => streamed(&events.reader.progress(), reach, expected),
            Self::Whole(whole) => whole.figures(reach, expected),
            Self::Unread => Figures::nothing_stated(UsageExactness::Exact),
        };
        free_if_failed(figures, status)
    }
}

/// What a whole answer in a dialect states.
pub(crate) fn of_whole(dialect: &dyn Dialect, body: &[u8], status: u16) -> Figures {
    free_if_failed(stated(&dialect.read_body(body)), status)
}

/// An error without usage is not billed.
fn free_if_failed(figures: Figures, status: u16) -> Figures {
    let states_usage = figures.tokens.is_some() && figures.exactness == UsageExactness::Exact;
    if status >= 400 && !states_usage { Figures::free() } else { figures }
}

/// A reading of a whole answer. One that states nothing is left to the API's policy, and marked so
/// that nothing held for it is given back.
fn stated(reading: &UsageReading) -> Figures {
    match reading {
        UsageReading::Known(usage) => Figures {
            model: usage.model.clone(),
            service_tier: kept_tier(usage.service_tier.as_ref()),
            tokens: Some(wire(&usage.tokens)),
            exactness: if usage.flags.any() { UsageExactness::Estimated } else { UsageExactness::Exact },
            is_free: false,
        },
        UsageReading::Unknown { model, service_tier, .. } => Figures {
            model: model.clone(),
            service_tier: kept_tier(service_tier.as_ref()),
            ..Figures::nothing_stated(UsageExactness::Estimated)
        },
    }
}

fn streamed(progress: &StreamProgress, reach: Reach, expected: Option<&Expected>) -> Figures {
    let figures = stated(&progress.reading);
    if progress.is_exact() || (reach == Reach::Whole && progress.end == StreamEnd::Complete) {
        let exactness = if progress.is_exact() { UsageExactness::Exact } else { UsageExactness::Estimated };
        return Figures { exactness, ..figures };
    }
    let known = progress.reading.known().map(|usage| usage.tokens).unwrap_or_default();
    let seen = output_tokens_of(progress.output_text_bytes);
    let tokens = TokenUsage {
        input_total: known.input_total.or(expected.map(|expected| expected.input_tokens)),
        output: Some(known.output.unwrap_or_default().max(seen)),
        ..known
    };
    Figures { tokens: Some(wire(&tokens)), exactness: UsageExactness::Partial, ..figures }
}

/// A tier longer than a record takes is none that a price list knows.
fn kept_tier(tier: Option<&String>) -> Option<String> {
    tier.filter(|tier| tier.len() <= SERVICE_TIER_BYTES_MAX).cloned()
}

/// The counts as the contract has them. Each is bounded far below what would not fit.
fn wire(tokens: &TokenUsage) -> v1::TokenUsage {
    let count = |count: Option<u64>| count.and_then(|count| i64::try_from(count).ok());
    v1::TokenUsage {
        input_total: count(tokens.input_total),
        cached_input: count(tokens.cached_input),
        cache_write_5m: count(tokens.cache_write_5m),
        cache_write_1h: count(tokens.cache_write_1h),
        output: count(tokens.output),
        reasoning: count(tokens.reasoning),
        audio_input: count(tokens.audio_input),
        audio_output: count(tokens.audio_output),
    }
}

#[cfg(test)]
mod tests;
