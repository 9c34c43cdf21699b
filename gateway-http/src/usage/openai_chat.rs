//! OpenAI chat completions, and the vendors that speak its shape (Mistral, DeepSeek, Groq, xAI, Azure).
//!
//! Source: <https://platform.openai.com/docs/api-reference/chat>. `prompt_tokens` includes cached
//! tokens and `completion_tokens` includes reasoning, except at xAI, whose `total_tokens` tells.
//! A stream carries usage only with `stream_options.include_usage`, in one last chunk without choices.

mod request;

use http::Method;
use serde::Serialize;
use serde_json::value::RawValue;

use super::dialect::{Dialect, Prepared, RequestFault, RequestView, Vendor, path_ends_with};
use super::fields::{Field, FieldFault, fields};
use super::stream::{EventFate, StreamEnd, StreamProgress, StreamReader};
use super::text_bytes::text_bytes;
use super::{TokenUsage, UnknownReason, UsageFlags, UsageReading};
use crate::problem::{ErrorBody, ProblemKind};
use crate::sse::SseItem;

/// Ends a stream; no JSON.
const DONE: &[u8] = b"[DONE]";

/// Strings of a delta that are no generated text. `data` is audio, which no byte count measures.
const DELTA_LABELS: [&str; 4] = ["role", "id", "type", "data"];

/// The dialect; see the module.
#[derive(Clone, Copy, Debug)]
pub struct OpenAiChat;

type Counts = (TokenUsage, UsageFlags);

impl Dialect for OpenAiChat {
    fn name(&self) -> &'static str {
        "openai_chat"
    }

    fn vendor(&self) -> Vendor {
        Vendor::OpenAi
    }

    fn matches(&self, method: &Method, path: &str) -> bool {
        method == Method::POST && path_ends_with(path, "/chat/completions")
    }

    fn prepare_request(&self, request: &RequestView<'_>) -> Result<Prepared, RequestFault> {
        request::prepare(request.body)
    }

    fn read_body(&self, body: &[u8]) -> UsageReading {
        let Ok([model, service_tier, usage]) = fields(body, ["model", "service_tier", "usage"]) else {
            return UsageReading::from_counts(None, None, Err(UnknownReason::NotJson));
        };
        let counts = read_usage(usage).and_then(|counts| counts.ok_or(UnknownReason::Absent));
        let model = model.name().unwrap_or_default();
        UsageReading::from_counts(model, service_tier.name().unwrap_or_default(), counts)
    }

    fn stream_reader(&self, prepared: &Prepared) -> Box<dyn StreamReader> {
        Box::new(ChatStream::new(prepared.usage_asked))
    }

    fn error_body(&self, kind: ProblemKind, message: &str, _request_id: &str) -> ErrorBody {
        let (error_type, code) = (error_type(kind), kind.code());
        ErrorBody::json(&Envelope { error: EnvelopeError { message, error_type, param: None, code } })
    }
}

/// The vendor's envelope; it has no place for a request id, which goes in a header.
#[derive(Serialize)]
struct Envelope<'a> {
    error: EnvelopeError<'a>,
}

#[derive(Serialize)]
struct EnvelopeError<'a> {
    message: &'a str,
    #[serde(rename = "type")]
    error_type: &'static str,
    param: Option<&'a str>,
    code: &'static str,
}

fn error_type(kind: ProblemKind) -> &'static str {
    match kind {
        ProblemKind::InvalidRequest
        | ProblemKind::ApiNotFound
        | ProblemKind::BodyTimeout
        | ProblemKind::LoopDetected => "invalid_request_error",
        ProblemKind::InvalidApiKey => "authentication_error",
        ProblemKind::BudgetExceeded => "insufficient_quota",
        ProblemKind::ExpiredApiKey | ProblemKind::ApiInactive | ProblemKind::Forbidden => "permission_error",
        ProblemKind::BodyTooLarge => "request_too_large",
        ProblemKind::RateLimited | ProblemKind::Overloaded => "rate_limit_error",
        ProblemKind::Internal
        | ProblemKind::UpstreamError
        | ProblemKind::Unavailable
        | ProblemKind::UpstreamTimeout => "api_error",
    }
}

/// Reads a `usage` object; `None` if there is none.
fn read_usage(usage: Field<'_>) -> Result<Option<Counts>, UnknownReason> {
    if usage.raw().map_err(|fault| fault.of("usage"))?.is_none() {
        return Ok(None);
    }
    let [prompt, completion, total, prompt_details, completion_details, cache_hit] = usage
        .object([
            "prompt_tokens",
            "completion_tokens",
            "total_tokens",
            "prompt_tokens_details",
            "completion_tokens_details",
            "prompt_cache_hit_tokens",
        ])
        .map_err(|fault| fault.of("usage"))?;
    let mut tokens = read_prompt(prompt, prompt_details, cache_hit)?;
    read_completion(&mut tokens, completion, completion_details)?;
    let total = total.count().map_err(|fault| fault.of("total_tokens"))?;
    add_reasoning_on_top(&mut tokens, total);
    Ok(Some((tokens, UsageFlags::default())))
}

/// DeepSeek states its cache hits beside `prompt_tokens` instead of inside the details.
fn read_prompt(
    prompt: Field<'_>,
    details: Field<'_>,
    cache_hit: Field<'_>,
) -> Result<TokenUsage, UnknownReason> {
    let [cached, audio] = details
        .object(["cached_tokens", "audio_tokens"])
        .map_err(|fault| fault.of("prompt_tokens_details"))?;
    let cached = cached.count().map_err(|fault| fault.of("cached_tokens"))?;
    let cache_hit = cache_hit.count().map_err(|fault| fault.of("prompt_cache_hit_tokens"))?;
    Ok(TokenUsage {
        input_total: Some(needed(prompt, "prompt_tokens")?),
        cached_input: cached.or(cache_hit),
        audio_input: audio.count().map_err(|fault| fault.of("audio_tokens"))?,
        ..TokenUsage::default()
    })
}

fn read_completion(
    tokens: &mut TokenUsage,
    completion: Field<'_>,
    details: Field<'_>,
) -> Result<(), UnknownReason> {
    let [reasoning, audio] = details
        .object(["reasoning_tokens", "audio_tokens"])
        .map_err(|fault| fault.of("completion_tokens_details"))?;
    tokens.output = Some(needed(completion, "completion_tokens")?);
    tokens.reasoning = reasoning.count().map_err(|fault| fault.of("reasoning_tokens"))?;
    tokens.audio_output = audio.count().map_err(|fault| fault.of("audio_tokens"))?;
    Ok(())
}

fn needed(count: Field<'_>, field: &'static str) -> Result<u64, UnknownReason> {
    let count = count.count().map_err(|fault| fault.of(field))?;
    count.ok_or(UnknownReason::Incomplete { field })
}

/// xAI counts reasoning on top of `completion_tokens`; the stated total gives it away.
fn add_reasoning_on_top(tokens: &mut TokenUsage, stated_total: Option<u64>) {
    let (Some(input), Some(output), Some(reasoning), Some(total)) =
        (tokens.input_total, tokens.output, tokens.reasoning, stated_total)
    else {
        return;
    };
    // Each count is bounded, so the sums cannot overflow.
    if reasoning > 0 && total == input + output + reasoning {
        tokens.output = Some(output + reasoning);
    }
}

/// Follows one stream of chunks.
struct ChatStream {
    usage_asked: bool,
    model: Option<String>,
    service_tier: Option<String>,
    counts: Result<Counts, UnknownReason>,
    end: StreamEnd,
    output_text_bytes: u64,
    unreadable_items: u64,
}

/// What one chunk says that matters here.
struct Chunk<'a> {
    choices: Option<Vec<&'a RawValue>>,
    usage: Field<'a>,
    model: Field<'a>,
    service_tier: Field<'a>,
    error: Field<'a>,
}

impl ChatStream {
    fn new(usage_asked: bool) -> Self {
        Self {
            usage_asked,
            model: None,
            service_tier: None,
            counts: Err(UnknownReason::Absent),
            end: StreamEnd::Open,
            output_text_bytes: 0,
            unreadable_items: 0,
        }
    }

    fn read_data(&mut self, data: &[u8]) -> EventFate {
        if data.trim_ascii() == DONE {
            self.end = StreamEnd::Complete;
            return EventFate::Forward;
        }
        let Some(chunk) = Chunk::read(data) else {
            self.unreadable_items += 1;
            return EventFate::Forward;
        };
        self.keep_names(&chunk);
        self.count_text(&chunk);
        let fate = self.keep_usage(&chunk);
        if chunk.is_error() && self.end == StreamEnd::Open {
            self.end = StreamEnd::Failed;
        }
        fate
    }

    fn keep_names(&mut self, chunk: &Chunk<'_>) {
        if self.model.is_none() {
            self.model = chunk.model.name().unwrap_or_default();
        }
        if let Ok(Some(tier)) = chunk.service_tier.name() {
            self.service_tier = Some(tier);
        }
    }

    fn count_text(&mut self, chunk: &Chunk<'_>) {
        for choice in chunk.choices.iter().flatten() {
            match delta_text_bytes(choice) {
                Some(bytes) => self.output_text_bytes = self.output_text_bytes.saturating_add(bytes),
                None => self.unreadable_items += 1,
            }
        }
    }

    /// The last usage that is not null wins, also over one that could not be believed. The chunk
    /// that carries it alone ends what is billed: some vendors send no terminator behind it.
    fn keep_usage(&mut self, chunk: &Chunk<'_>) -> EventFate {
        match read_usage(chunk.usage) {
            Ok(None) => return EventFate::Forward,
            Ok(Some(counts)) => self.counts = Ok(counts),
            Err(reason) => self.counts = Err(reason),
        }
        if !chunk.choices.as_ref().is_some_and(Vec::is_empty) {
            return EventFate::Forward;
        }
        self.end = StreamEnd::Complete;
        if self.usage_asked { EventFate::Forward } else { EventFate::Drop }
    }
}

impl<'a> Chunk<'a> {
    fn read(data: &'a [u8]) -> Option<Self> {
        let names = ["choices", "usage", "model", "service_tier", "error"];
        let [choices, usage, model, service_tier, error] = fields(data, names).ok()?;
        let choices = choices.elements().ok()?;
        Some(Self { choices, usage, model, service_tier, error })
    }

    fn is_error(&self) -> bool {
        !matches!(self.error.raw(), Ok(None))
    }
}

fn delta_text_bytes(choice: &RawValue) -> Option<u64> {
    let [delta] = fields(choice.get().as_bytes(), ["delta"]).ok()?;
    match delta.raw() {
        Ok(Some(delta)) => text_bytes(delta, &DELTA_LABELS),
        Ok(None) => Some(0),
        Err(FieldFault::Malformed | FieldFault::Duplicated | FieldFault::OutOfBounds) => None,
    }
}

impl StreamReader for ChatStream {
    fn read(&mut self, item: &SseItem) -> EventFate {
        let SseItem::Event(event) = item else {
            self.unreadable_items += 1;
            return EventFate::Forward;
        };
        event.data().map_or(EventFate::Forward, |data| self.read_data(&data))
    }

    fn end(&self) -> StreamEnd {
        self.end
    }

    fn progress(&self) -> StreamProgress {
        let (model, service_tier) = (self.model.clone(), self.service_tier.clone());
        StreamProgress {
            reading: UsageReading::from_counts(model, service_tier, self.counts),
            end: self.end,
            output_text_bytes: self.output_text_bytes,
            usage_final: self.counts.is_ok(),
            unreadable_items: self.unreadable_items,
        }
    }
}

#[cfg(test)]
mod tests;
