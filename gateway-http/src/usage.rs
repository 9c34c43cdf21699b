//! What a call used, in one shape for all vendors.
//!
//! A [`Dialect`] reads one vendor's wire format and normalises it here, once: from then on
//! `input_total` includes cached and cache-write tokens and `output` includes reasoning, whatever
//! the vendor's own fields mean. What is absent, malformed or contradictory is *unknown*, never zero.
//! A new dialect is one file beside [`openai_chat`] and one line in [`dialect`]'s registry.

pub mod anthropic_messages;
pub mod dialect;
pub mod fields;
pub mod openai_chat;
pub mod stream;
mod text_bytes;

pub use dialect::{Dialect, Prepared, RequestFault, RequestView, dialect_for};
pub use stream::{EventFate, StreamEnd, StreamProgress, StreamReader};

/// Largest count that is believed, the contract's bound of an amount in one record.
pub const TOKEN_COUNT_MAX: u64 = 1_000_000_000_000;

/// Longest model or service tier name that is kept, in bytes; the longest listed has under 100.
pub const NAME_BYTES_MAX: usize = 256;

/// Token counts of one call. `None` is "not said", which differs from an explicit zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokenUsage {
    /// All input tokens: uncached, cached and cache writes together.
    pub input_total: Option<u64>,
    /// The part of the input read from a cache.
    pub cached_input: Option<u64>,
    /// The part of the input written to a cache that lives 5 minutes.
    pub cache_write_5m: Option<u64>,
    /// The part of the input written to a cache that lives 1 hour.
    pub cache_write_1h: Option<u64>,
    /// All output tokens, reasoning included.
    pub output: Option<u64>,
    /// The part of the output spent on reasoning.
    pub reasoning: Option<u64>,
    /// The part of the input that is audio; may overlap with `cached_input`.
    pub audio_input: Option<u64>,
    /// The part of the output that is audio.
    pub audio_output: Option<u64>,
}

/// What was noticed while normalising. Any flag makes the figures less than exact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UsageFlags {
    /// A part was larger than the total that it belongs to and has been cut down to it.
    pub parts_exceed_total: bool,
    /// Two figures for the same thing differed; the dearer reading was taken.
    pub parts_disagree: bool,
}

impl UsageFlags {
    /// Whether anything was noticed.
    pub fn any(self) -> bool {
        self.parts_exceed_total || self.parts_disagree
    }
}

/// What one call used, as its vendor reported it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// The model that answered; priced in place of the one that was asked for.
    pub model: Option<String>,
    /// The service tier that answered.
    pub service_tier: Option<String>,
    /// The counts. `input_total` and `output` are always present here.
    pub tokens: TokenUsage,
    /// What was noticed while normalising.
    pub flags: UsageFlags,
}

/// Why no usage can be stated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnknownReason {
    /// The answer has no usage (or, in a stream, none has come yet).
    #[error("the answer has no usage")]
    Absent,
    /// The answer is not a JSON object.
    #[error("the answer is not a JSON object")]
    NotJson,
    /// A count that is needed is missing.
    #[error("usage lacks {field}")]
    Incomplete {
        /// The vendor's field.
        field: &'static str,
    },
    /// A field is not what the format says: a negative or fractional count, another type.
    #[error("usage has a malformed {field}")]
    Malformed {
        /// The vendor's field.
        field: &'static str,
    },
    /// A field stands twice, so that two readers may see two values.
    #[error("usage has {field} twice")]
    Duplicated {
        /// The vendor's field.
        field: &'static str,
    },
    /// A count beyond [`TOKEN_COUNT_MAX`].
    #[error("usage has a count beyond bounds in {field}")]
    OutOfBounds {
        /// The vendor's field.
        field: &'static str,
    },
}

/// What reading an answer gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UsageReading {
    /// The vendor stated what was used.
    Known(Usage),
    /// It did not, or not so that it can be believed.
    Unknown {
        /// Why.
        reason: UnknownReason,
        /// The model that answered, if that much was readable.
        model: Option<String>,
        /// The service tier that answered, if that much was readable.
        service_tier: Option<String>,
    },
}

impl UsageReading {
    /// The usage, if it is known.
    pub fn known(&self) -> Option<&Usage> {
        match self {
            Self::Known(usage) => Some(usage),
            Self::Unknown { .. } => None,
        }
    }

    /// Normalises counts read from a vendor's fields, or says why there are none.
    pub(crate) fn from_counts(
        model: Option<String>,
        service_tier: Option<String>,
        counts: Result<(TokenUsage, UsageFlags), UnknownReason>,
    ) -> Self {
        match counts {
            Ok((tokens, flags)) => {
                let (tokens, flags) = clamp_parts(tokens, flags);
                Self::Known(Usage { model, service_tier, tokens, flags })
            }
            Err(reason) => Self::Unknown { reason, model, service_tier },
        }
    }
}

/// Cuts parts down to their totals, flagging it where one was larger.
fn clamp_parts(tokens: TokenUsage, mut flags: UsageFlags) -> (TokenUsage, UsageFlags) {
    let mut input_left = tokens.input_total;
    let mut take_input = |part| take_part(part, &mut input_left, &mut flags);
    let cache_write_1h = take_input(tokens.cache_write_1h);
    let cache_write_5m = take_input(tokens.cache_write_5m);
    let cached_input = take_input(tokens.cached_input);
    // Audio and reasoning may overlap with other parts, so each is held against the whole.
    let mut within = |part, total| take_part(part, &mut { total }, &mut flags);
    let clamped = TokenUsage {
        cached_input,
        cache_write_5m,
        cache_write_1h,
        reasoning: within(tokens.reasoning, tokens.output),
        audio_input: within(tokens.audio_input, tokens.input_total),
        audio_output: within(tokens.audio_output, tokens.output),
        ..tokens
    };
    (clamped, flags)
}

/// Takes `part` out of what is left of a total; the dearest parts are taken first.
fn take_part(part: Option<u64>, left: &mut Option<u64>, flags: &mut UsageFlags) -> Option<u64> {
    let (Some(wanted), Some(available)) = (part, *left) else { return part };
    let taken = wanted.min(available);
    flags.parts_exceed_total |= taken < wanted;
    *left = Some(available - taken);
    Some(taken)
}

#[cfg(test)]
mod tests;
