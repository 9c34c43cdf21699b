//! The catalogue's file, as it is written.

use std::collections::BTreeMap;

use rateguard_core::invalid::Invalid;
use rateguard_core::money::Price;
use serde::Deserialize;

/// Tokens in the quotation of token prices.
const TOKENS_QUOTED: i64 = 1_000_000;

/// One model of one provider.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    pub(super) provider: String,
    pub(super) model: String,
    pub(super) mode: Mode,
    #[serde(default)]
    pub(super) usd_per_million_tokens: TokenPrices,
    #[serde(default)]
    pub(super) usd_per_unit: BTreeMap<String, PerUnit>,
    /// Rates for the whole request once its input passes the key.
    #[serde(default)]
    pub(super) above_input_tokens: BTreeMap<i64, TokenPrices>,
    #[serde(default)]
    pub(super) service_tiers: BTreeMap<Tier, TokenPrices>,
    pub(super) max_input_tokens: Option<i64>,
    pub(super) max_output_tokens: Option<i64>,
    /// The provider's price page.
    pub(super) source: Option<String>,
}

/// What a model is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Mode {
    AudioSpeech,
    AudioTranscription,
    Chat,
    Completion,
    Embedding,
    ImageGeneration,
    Realtime,
    Rerank,
    Responses,
}

/// Service tiers with rates of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Tier {
    Batch,
    Flex,
    Priority,
}

/// Prices of tokens by class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct TokenPrices {
    pub(super) input: Option<PerMillion>,
    pub(super) output: Option<PerMillion>,
    pub(super) cache_read: Option<PerMillion>,
    pub(super) cache_write: Option<PerMillion>,
    pub(super) cache_write_1h: Option<PerMillion>,
    pub(super) cache_read_audio: Option<PerMillion>,
    pub(super) output_reasoning: Option<PerMillion>,
    pub(super) input_audio: Option<PerMillion>,
    pub(super) output_audio: Option<PerMillion>,
    pub(super) input_image: Option<PerMillion>,
    pub(super) output_image: Option<PerMillion>,
}

impl TokenPrices {
    /// Whether no class has a price.
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The price of one token, written as a decimal string for a million.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct PerMillion(pub(super) Price);

impl TryFrom<String> for PerMillion {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        Price::parse_decimal("usd_per_million_tokens", &text, TOKENS_QUOTED).map(Self)
    }
}

/// The price of one unit, written as a decimal string.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct PerUnit(pub(super) Price);

impl TryFrom<String> for PerUnit {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        Price::parse_decimal("usd_per_unit", &text, 1).map(Self)
    }
}
