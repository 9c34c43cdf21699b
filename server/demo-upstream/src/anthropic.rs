//! The Anthropic imitation. Shapes follow <https://docs.anthropic.com/en/api/messages> and, for the events,
//! <https://docs.anthropic.com/en/docs/build-with-claude/streaming>.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    answer::{Answer, Prompt},
    call::{Asked, Dialect, Reply, api_key},
    knobs::Knobs,
    models,
    observations::Endpoint,
    openai::text_of,
    refusal::Refusal,
    stream::Event,
    vendor::Vendor,
};

/// `POST /anthropic/v1/messages`.
pub(crate) const MESSAGES: Dialect = Dialect {
    endpoint: Endpoint::AnthropicMessages,
    vendor: Vendor::Anthropic,
    credential_of: api_key,
    reply: messages,
};

#[derive(Debug, Deserialize)]
struct MessagesRequest {
    model: String,
    messages: Vec<Message>,
    #[serde(default)]
    system: Value,
    #[serde(default)]
    tools: Value,
    max_tokens: u64,
    stream: Option<bool>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Message {
    role: String,
    content: Value,
}

/// The lifetime that a request's `cache_control` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CacheLife {
    FiveMinutes,
    OneHour,
}

/// Input tokens in the vendor's classes, none of which contains another.
#[derive(Debug, PartialEq, Eq)]
struct InputTokens {
    plain: u64,
    cache_read: u64,
    cache_write_5m: u64,
    cache_write_1h: u64,
}

/// One answer with what its envelope needs.
struct Reported<'a> {
    id: String,
    answer: &'a Answer,
    input: Option<InputTokens>,
}

fn messages(asked: &Asked<'_>) -> Result<Reply, Refusal> {
    let request: MessagesRequest = serde_json::from_slice(asked.body)?;
    let answer = request.prompt()?.answer(&models::ANTHROPIC, asked.knobs)?;
    let input = InputTokens::split(answer.input_tokens, request.cache_life(), asked.knobs);
    let reported = Reported {
        id: format!("msg_demo_{}", asked.number),
        answer: &answer,
        input: (!asked.knobs.no_usage).then_some(input),
    };
    if request.stream.unwrap_or(false) {
        return Ok(Reply::Events(reported.events(&answer.pieces(asked.knobs.chunks))));
    }
    Ok(Reply::Whole(reported.whole()))
}

impl MessagesRequest {
    fn prompt(&self) -> Result<Prompt, Refusal> {
        if self.max_tokens == 0 {
            return Err(Refusal::OutputMaximum { field: "max_tokens" });
        }
        let mut bytes = serde_json::to_vec(&self.messages)?.len();
        for part in [&self.system, &self.tools] {
            if !part.is_null() {
                bytes += serde_json::to_vec(part)?.len();
            }
        }
        Ok(Prompt {
            model: self.model.clone(),
            bytes,
            last_text: self.messages.last().map(|message| text_of(&message.content)).unwrap_or_default(),
            output_tokens_max: Some(self.max_tokens),
        })
    }

    /// The first `cache_control` in the order in which the vendor builds a prompt.
    fn cache_life(&self) -> Option<CacheLife> {
        let contents = self.messages.iter().map(|message| &message.content);
        let blocks = [&self.tools, &self.system].into_iter().chain(contents).filter_map(Value::as_array);
        blocks.flatten().find_map(|block| {
            let control = block.get("cache_control")?;
            Some(if control["ttl"] == "1h" { CacheLife::OneHour } else { CacheLife::FiveMinutes })
        })
    }
}

impl InputTokens {
    /// With `cache_control`, half of the input was read from the cache and a quarter is written to it; the
    /// knob replaces the half. The classes always add up to the input.
    fn split(input_tokens: u64, cache: Option<CacheLife>, knobs: &Knobs) -> Self {
        let by_itself = if cache.is_some() { input_tokens / 2 } else { 0 };
        let cache_read = knobs.cached_tokens.unwrap_or(by_itself).min(input_tokens);
        let written = (input_tokens / 4).min(input_tokens - cache_read);
        let written_for = |life| if cache == Some(life) { written } else { 0 };
        let cache_write_5m = written_for(CacheLife::FiveMinutes);
        let cache_write_1h = written_for(CacheLife::OneHour);
        let plain = input_tokens - cache_read - cache_write_5m - cache_write_1h;
        Self { plain, cache_read, cache_write_5m, cache_write_1h }
    }

    fn report(&self, output_tokens: u64) -> Value {
        json!({
            "input_tokens": self.plain,
            "cache_creation_input_tokens": self.cache_write_5m + self.cache_write_1h,
            "cache_read_input_tokens": self.cache_read,
            "cache_creation": {
                "ephemeral_5m_input_tokens": self.cache_write_5m,
                "ephemeral_1h_input_tokens": self.cache_write_1h,
            },
            "output_tokens": output_tokens,
            "service_tier": "standard",
        })
    }
}

impl Reported<'_> {
    fn whole(&self) -> Value {
        let content = json!([{ "type": "text", "text": self.answer.text }]);
        self.message(content, Some(self.stop_reason()), self.answer.output_tokens)
    }

    fn events(&self, pieces: &[String]) -> Vec<Event> {
        let start = json!({ "type": "message_start", "message": self.message(json!([]), None, 1) });
        let opening = json!({
            "type": "content_block_start", "index": 0, "content_block": { "type": "text", "text": "" }
        });
        let mut events = vec![
            Event::named("message_start", &start),
            Event::named("content_block_start", &opening),
            Event::named("ping", &json!({ "type": "ping" })),
        ];
        events.extend(pieces.iter().map(|piece| text_delta(piece)));
        events.push(Event::named("content_block_stop", &json!({ "type": "content_block_stop", "index": 0 })));
        events.extend(self.message_deltas());
        events.push(Event::named("message_stop", &json!({ "type": "message_stop" })));
        events
    }

    /// Two deltas, as the vendor may send several: the counts are cumulative, so that a reader who adds them up
    /// is wrong and one who keeps the last is right.
    fn message_deltas(&self) -> [Event; 2] {
        let output_tokens = self.answer.output_tokens;
        [
            self.message_delta(None, output_tokens.div_ceil(2)),
            self.message_delta(Some(self.stop_reason()), output_tokens),
        ]
    }

    fn message_delta(&self, stop_reason: Option<&str>, output_tokens: u64) -> Event {
        let delta = json!({ "stop_reason": stop_reason, "stop_sequence": null });
        let mut body = json!({ "type": "message_delta", "delta": delta });
        if self.input.is_some() {
            body["usage"] = json!({ "output_tokens": output_tokens });
        }
        Event::named("message_delta", &body)
    }

    fn message(&self, content: Value, stop_reason: Option<&str>, output_tokens: u64) -> Value {
        let mut body = json!({
            "id": self.id, "type": "message", "role": "assistant", "model": self.answer.model,
            "content": content, "stop_reason": stop_reason, "stop_sequence": null,
        });
        if let Some(input) = &self.input {
            body["usage"] = input.report(output_tokens);
        }
        body
    }

    fn stop_reason(&self) -> &'static str {
        if self.answer.truncated { "max_tokens" } else { "end_turn" }
    }
}

fn text_delta(piece: &str) -> Event {
    let delta = json!({ "type": "text_delta", "text": piece });
    let body = json!({ "type": "content_block_delta", "index": 0, "delta": delta });
    Event::named("content_block_delta", &body).paced()
}

#[cfg(test)]
mod tests;
