//! Follows one stream of message events.

use super::counts::Counts;
use crate::sse::SseItem;
use crate::usage::fields::{Field, fields};
use crate::usage::stream::{EventFate, StreamEnd, StreamProgress, StreamReader};
use crate::usage::text_bytes::text_bytes;
use crate::usage::{UnknownReason, UsageReading};

/// Strings of a delta that are no generated text: its kind, a seal on the thinking, quoted sources.
const DELTA_LABELS: [&str; 3] = ["type", "signature", "citation"];

/// What one stream has said so far. Nothing is ever dropped: every event is the caller's.
pub(super) struct MessageStream {
    model: Option<String>,
    counts: Counts,
    /// The first usage that could not be believed. It stays: later events state only some counts.
    fault: Option<UnknownReason>,
    /// Usage beyond the first, running figure was seen.
    delta_usage_seen: bool,
    end: StreamEnd,
    output_text_bytes: u64,
    unreadable_items: u64,
}

impl Default for MessageStream {
    fn default() -> Self {
        Self {
            model: None,
            counts: Counts::default(),
            fault: None,
            delta_usage_seen: false,
            end: StreamEnd::Open,
            output_text_bytes: 0,
            unreadable_items: 0,
        }
    }
}

impl MessageStream {
    /// `None` if the event cannot be read.
    fn read_data(&mut self, data: &[u8]) -> Option<()> {
        let [kind, message, usage, delta] = fields(data, ["type", "message", "usage", "delta"]).ok()?;
        match kind.text().ok()??.as_ref() {
            "message_start" => self.start(message)?,
            "message_delta" => {
                self.delta_usage_seen |= matches!(usage, Field::Value(_));
                self.keep_usage(usage);
            }
            "content_block_delta" => self.count_text(delta)?,
            "message_stop" => self.end = StreamEnd::Complete,
            "error" if self.end == StreamEnd::Open => self.end = StreamEnd::Failed,
            _ => {}
        }
        Some(())
    }

    fn start(&mut self, message: Field<'_>) -> Option<()> {
        let [model, usage] = message.object(["model", "usage"]).ok()?;
        self.model = model.name().unwrap_or_default();
        self.keep_usage(usage);
        Some(())
    }

    fn keep_usage(&mut self, usage: Field<'_>) {
        if let Err(fault) = self.counts.overwrite(usage) {
            self.fault.get_or_insert(fault);
        }
    }

    fn count_text(&mut self, delta: Field<'_>) -> Option<()> {
        let bytes = text_bytes(delta.raw().ok()??, &DELTA_LABELS)?;
        self.output_text_bytes = self.output_text_bytes.saturating_add(bytes);
        Some(())
    }
}

impl StreamReader for MessageStream {
    fn read(&mut self, item: &SseItem) -> EventFate {
        let readable = match item {
            SseItem::Event(event) => event.data().is_none_or(|data| self.read_data(&data).is_some()),
            SseItem::Opaque(_) => false,
        };
        self.unreadable_items += u64::from(!readable);
        EventFate::Forward
    }

    fn end(&self) -> StreamEnd {
        self.end
    }

    fn progress(&self) -> StreamProgress {
        let counts = match self.fault {
            Some(fault) => Err(fault),
            None => self.counts.normalise(),
        };
        let service_tier = self.counts.service_tier.clone();
        StreamProgress {
            reading: UsageReading::from_counts(self.model.clone(), service_tier, counts),
            end: self.end,
            output_text_bytes: self.output_text_bytes,
            // A later figure may stand in what could not be read.
            usage_final: self.delta_usage_seen && self.unreadable_items == 0,
            unreadable_items: self.unreadable_items,
        }
    }
}
