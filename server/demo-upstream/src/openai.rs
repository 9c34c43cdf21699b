//! The OpenAI imitation. Shapes follow <https://platform.openai.com/docs/api-reference/chat>.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    answer::{Answer, Prompt},
    call::{Asked, Dialect, Reply, bearer},
    knobs::Knobs,
    models,
    observations::Endpoint,
    refusal::Refusal,
    stream::Event,
    vendor::Vendor,
};

/// `POST /openai/v1/chat/completions`.
pub(crate) const CHAT: Dialect =
    Dialect { endpoint: Endpoint::OpenAiChat, vendor: Vendor::OpenAi, credential_of: bearer, reply: chat };

/// `GET /openai/v1/models`.
pub(crate) const MODELS: Dialect = Dialect {
    endpoint: Endpoint::OpenAiModels,
    vendor: Vendor::OpenAi,
    credential_of: bearer,
    reply: list_models,
};

/// The `created` of every answer, in Unix seconds: fixed, so that an answer follows from its request alone.
const CREATED_UNIX_S: u64 = 1_735_689_600;

/// Marks an answer as the demo's where the shape leaves room for it.
const FINGERPRINT: &str = "fp_rateguard_demo";

/// Input tokens from which half of a prompt counts as cached, and the step in which it does.
/// From <https://platform.openai.com/docs/guides/prompt-caching>.
const CACHE_TOKENS_MIN: u64 = 1_024;
const CACHE_TOKENS_STEP: u64 = 128;

#[derive(Debug, Deserialize)]
struct ChatRequest {
    model: String,
    messages: Vec<Message>,
    #[serde(default)]
    tools: Value,
    max_tokens: Option<u64>,
    max_completion_tokens: Option<u64>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    service_tier: Option<String>,
}

#[derive(Debug, Deserialize, serde::Serialize)]
struct Message {
    role: String,
    #[serde(default)]
    content: Value,
}

#[derive(Debug, Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
}

/// One answer with what its envelope needs.
struct Completion<'a> {
    id: String,
    answer: &'a Answer,
    service_tier: &'static str,
    usage: Option<Value>,
}

fn chat(asked: &Asked<'_>) -> Result<Reply, Refusal> {
    let request: ChatRequest = serde_json::from_slice(asked.body)?;
    let answer = request.prompt()?.answer(&models::OPENAI, asked.knobs)?;
    let completion = Completion {
        id: format!("chatcmpl-demo-{}", asked.number),
        answer: &answer,
        service_tier: request.service_tier(),
        usage: (!asked.knobs.no_usage).then(|| usage(&answer, asked.knobs)),
    };
    if request.stream.unwrap_or(false) {
        let pieces = answer.pieces(asked.knobs.chunks);
        return Ok(Reply::Events(completion.events(&pieces, request.includes_usage())));
    }
    Ok(Reply::Whole(completion.whole()))
}

fn list_models(_asked: &Asked<'_>) -> Result<Reply, Refusal> {
    let names = models::OPENAI.iter().flat_map(|model| [model.alias, model.dated]);
    let models: Vec<Value> = names
        .map(|id| json!({ "id": id, "object": "model", "created": CREATED_UNIX_S, "owned_by": "rateguard-demo" }))
        .collect();
    Ok(Reply::Whole(json!({ "object": "list", "data": models })))
}

impl ChatRequest {
    fn prompt(&self) -> Result<Prompt, Refusal> {
        let mut bytes = serde_json::to_vec(&self.messages)?.len();
        if !self.tools.is_null() {
            bytes += serde_json::to_vec(&self.tools)?.len();
        }
        Ok(Prompt {
            model: self.model.clone(),
            bytes,
            last_text: self.messages.last().map(|message| text_of(&message.content)).unwrap_or_default(),
            output_tokens_max: self.output_tokens_max()?,
        })
    }

    fn output_tokens_max(&self) -> Result<Option<u64>, Refusal> {
        match (self.max_completion_tokens, self.max_tokens) {
            (Some(0), _) => Err(Refusal::OutputMaximum { field: "max_completion_tokens" }),
            (None, Some(0)) => Err(Refusal::OutputMaximum { field: "max_tokens" }),
            (newer, older) => Ok(newer.or(older)),
        }
    }

    fn includes_usage(&self) -> bool {
        self.stream_options.as_ref().and_then(|options| options.include_usage).unwrap_or(false)
    }

    /// The tier that the answer names: the asked one where it changes the price.
    fn service_tier(&self) -> &'static str {
        match self.service_tier.as_deref() {
            Some("flex") => "flex",
            Some("priority") => "priority",
            _ => "default",
        }
    }
}

impl Completion<'_> {
    fn whole(&self) -> Value {
        let message = json!({
            "role": "assistant", "content": self.answer.text, "refusal": null, "annotations": []
        });
        let choice = json!({
            "index": 0, "message": message, "logprobs": null, "finish_reason": self.finish_reason()
        });
        let mut body = self.envelope("chat.completion", vec![choice]);
        self.add_usage(&mut body);
        body
    }

    fn events(&self, pieces: &[String], includes_usage: bool) -> Vec<Event> {
        let role = json!({ "role": "assistant", "content": "", "refusal": null });
        let mut chunks = vec![Event::data(&self.chunk(role, None, includes_usage))];
        chunks.extend(pieces.iter().map(|piece| {
            Event::data(&self.chunk(json!({ "content": piece }), None, includes_usage)).paced()
        }));
        chunks.push(Event::data(&self.chunk(json!({}), Some(self.finish_reason()), includes_usage)));
        if includes_usage && self.usage.is_some() {
            let mut last = self.envelope("chat.completion.chunk", vec![]);
            self.add_usage(&mut last);
            chunks.push(Event::data(&last));
        }
        chunks.push(Event::raw("data: [DONE]\n\n"));
        chunks
    }

    fn chunk(&self, delta: Value, finish_reason: Option<&str>, includes_usage: bool) -> Value {
        let choice = json!({ "index": 0, "delta": delta, "logprobs": null, "finish_reason": finish_reason });
        let mut body = self.envelope("chat.completion.chunk", vec![choice]);
        if includes_usage && self.usage.is_some() {
            body["usage"] = Value::Null;
        }
        body
    }

    fn envelope(&self, object: &str, choices: Vec<Value>) -> Value {
        json!({
            "id": self.id, "object": object, "created": CREATED_UNIX_S, "model": self.answer.model,
            "choices": choices, "service_tier": self.service_tier, "system_fingerprint": FINGERPRINT,
        })
    }

    fn add_usage(&self, body: &mut Value) {
        if let Some(usage) = &self.usage {
            body["usage"] = usage.clone();
        }
    }

    fn finish_reason(&self) -> &'static str {
        if self.answer.truncated { "length" } else { "stop" }
    }
}

/// Cached tokens stand inside the prompt's, reasoning inside the completion's.
fn usage(answer: &Answer, knobs: &Knobs) -> Value {
    let cached = knobs.cached_tokens.unwrap_or_else(|| cached_by_itself(answer.input_tokens));
    json!({
        "prompt_tokens": answer.input_tokens,
        "completion_tokens": answer.output_tokens,
        "total_tokens": answer.input_tokens + answer.output_tokens,
        "prompt_tokens_details": { "cached_tokens": cached.min(answer.input_tokens), "audio_tokens": 0 },
        "completion_tokens_details": {
            "reasoning_tokens": answer.reasoning_tokens, "audio_tokens": 0,
            "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0,
        },
    })
}

fn cached_by_itself(input_tokens: u64) -> u64 {
    if input_tokens < CACHE_TOKENS_MIN {
        return 0;
    }
    input_tokens / 2 / CACHE_TOKENS_STEP * CACHE_TOKENS_STEP
}

/// The text of a message's content: the string itself, or its text parts in order.
pub(crate) fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
        _ => String::new(),
    }
}
