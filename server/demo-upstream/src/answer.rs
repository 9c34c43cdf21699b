//! What is answered, in no vendor's words yet: a text and token counts that follow from the request alone.

use crate::{
    bounds::{MODEL_BYTES_MAX, REPEATED_CHARS_MAX},
    knobs::Knobs,
    models::{self, KnownModel},
    refusal::Refusal,
};

/// What every answer's text begins with; the caller's own last words follow, cut to
/// [`REPEATED_CHARS_MAX`] characters.
pub const TEXT_PREFIX: &str = "This is RateGuard's demo upstream, not a model. You said: ";

/// Bytes of JSON or of text that count as one token.
const BYTES_PER_TOKEN: u64 = 4;

/// One token in so many of a reasoning model's output is reasoning.
const REASONING_SHARE: u64 = 4;

/// What was asked, as far as an answer depends on it.
#[derive(Debug)]
pub(crate) struct Prompt {
    /// The name asked for.
    pub(crate) model: String,
    /// Bytes of JSON that the vendor would turn into input tokens.
    pub(crate) bytes: usize,
    /// The text of the last message.
    pub(crate) last_text: String,
    /// The request's own maximum of output tokens.
    pub(crate) output_tokens_max: Option<u64>,
}

/// The answer to one prompt.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The model that answers: a known dated id, or the name asked for.
    pub(crate) model: String,
    /// The visible text, cut where the request's maximum bit.
    pub(crate) text: String,
    /// Whether the request's maximum cut the answer.
    pub(crate) truncated: bool,
    /// The whole prompt's tokens, cached ones included.
    pub(crate) input_tokens: u64,
    /// The whole output's tokens, reasoning included.
    pub(crate) output_tokens: u64,
    /// The part of the output that is reasoning.
    pub(crate) reasoning_tokens: u64,
}

impl Prompt {
    /// Answers with one of the known models, or with the name asked for.
    pub(crate) fn answer(&self, known: &[KnownModel], knobs: &Knobs) -> Result<Answer, Refusal> {
        if self.model.is_empty() || self.model.len() > MODEL_BYTES_MAX {
            return Err(Refusal::Model);
        }
        let model = models::find(known, &self.model);
        let full_text = self.full_text();
        let wanted = knobs.output_tokens.unwrap_or_else(|| natural_tokens(&full_text, model));
        let output_tokens = wanted.min(self.output_tokens_max.unwrap_or(u64::MAX));
        let truncated = output_tokens < wanted;
        let reasoning_tokens = if reasons(model) { output_tokens / REASONING_SHARE } else { 0 };
        let visible_tokens = output_tokens - reasoning_tokens;
        Ok(Answer {
            model: model.map_or_else(|| self.model.clone(), |model| model.dated.to_owned()),
            text: if truncated { cut(full_text, visible_tokens) } else { full_text },
            truncated,
            input_tokens: knobs.input_tokens.unwrap_or_else(|| tokens_of(self.bytes).max(1)),
            output_tokens,
            reasoning_tokens,
        })
    }

    fn full_text(&self) -> String {
        let repeated = self.last_text.chars().take(REPEATED_CHARS_MAX);
        TEXT_PREFIX.chars().chain(repeated).collect()
    }
}

impl Answer {
    /// The text in exactly this many pieces, as even as characters allow; the last ones are empty where there
    /// are more pieces than characters.
    pub(crate) fn pieces(&self, count: u64) -> Vec<String> {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let letters: Vec<char> = self.text.chars().collect();
        let (size, longer) = (letters.len() / count, letters.len() % count);
        let mut rest = letters.as_slice();
        (0..count)
            .map(|index| {
                let (piece, after) = rest.split_at(size + usize::from(index < longer));
                rest = after;
                piece.iter().collect()
            })
            .collect()
    }
}

/// Tokens that this many bytes count as, rounded up.
fn tokens_of(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX).div_ceil(BYTES_PER_TOKEN)
}

/// Tokens of an answer that nothing cuts: its text, and for a reasoning model as much more as makes the
/// reasoning's share of the whole.
fn natural_tokens(text: &str, model: Option<&KnownModel>) -> u64 {
    let visible = tokens_of(text.len());
    if reasons(model) { visible.saturating_mul(REASONING_SHARE) / (REASONING_SHARE - 1) } else { visible }
}

fn reasons(model: Option<&KnownModel>) -> bool {
    model.is_some_and(|model| model.reasons)
}

/// The first so many tokens of a text, never within a character.
fn cut(mut text: String, tokens: u64) -> String {
    let bytes_max = usize::try_from(tokens.saturating_mul(BYTES_PER_TOKEN)).unwrap_or(usize::MAX);
    text.truncate(text.floor_char_boundary(bytes_max));
    text
}

#[cfg(test)]
mod tests;
