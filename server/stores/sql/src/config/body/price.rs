//! The row of a workspace's own price. Prices are whole pico-units.

use rateguard_core::ids::PriceId;
use rateguard_core::invalid::Invalid;
use rateguard_core::money::Price;
use rateguard_core::pricing::{PriceSheet, PriceSource, TokenRates};
use rateguard_core::time::Millis;
use rateguard_core::unit::Unit;
use rateguard_core::usage::PriceRef;
use rateguard_engine::resources::PriceOverride;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PriceBody {
    price_version: u32,
    provider: String,
    model: String,
    token_rates_picos: TokenRatesBody,
    per_request_picos: Option<i64>,
    per_unit_picos: Vec<(String, i64)>,
    input_tokens_max: Option<i64>,
    output_tokens_max: Option<i64>,
    priced_input_tokens_max: Option<i64>,
    effective_from_ms: i64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenRatesBody {
    input: Option<i64>,
    output: Option<i64>,
    cached_input: Option<i64>,
    cache_write_5m: Option<i64>,
    cache_write_1h: Option<i64>,
    reasoning: Option<i64>,
    audio_input: Option<i64>,
    audio_output: Option<i64>,
}

impl From<&PriceOverride> for PriceBody {
    fn from(price: &PriceOverride) -> Self {
        let sheet = &price.sheet;
        Self {
            price_version: sheet.reference.version,
            provider: sheet.provider.clone(),
            model: sheet.model.clone(),
            token_rates_picos: TokenRatesBody::from(&sheet.token_rates),
            per_request_picos: sheet.per_request.map(Price::picos),
            per_unit_picos: sheet
                .per_unit
                .iter()
                .map(|(unit, price)| (unit.as_str().to_owned(), price.picos()))
                .collect(),
            input_tokens_max: sheet.input_tokens_max,
            output_tokens_max: sheet.output_tokens_max,
            priced_input_tokens_max: sheet.priced_input_tokens_max,
            effective_from_ms: sheet.effective_from.get(),
        }
    }
}

impl PriceBody {
    pub(super) fn into_price(self, id: &str) -> Result<PriceOverride, Invalid> {
        let sheet = PriceSheet {
            reference: PriceRef { id: PriceId::parse("id", id)?, version: self.price_version },
            provider: self.provider,
            model: self.model,
            token_rates: self.token_rates_picos.into_rates()?,
            per_request: price("per_request_picos", self.per_request_picos)?,
            per_unit: self.per_unit_picos.iter().map(unit_price).collect::<Result<_, _>>()?,
            input_tokens_max: self.input_tokens_max,
            output_tokens_max: self.output_tokens_max,
            priced_input_tokens_max: self.priced_input_tokens_max,
            effective_from: Millis::new(self.effective_from_ms),
            source: PriceSource::Override,
        };
        Ok(PriceOverride { sheet })
    }
}

impl From<&TokenRates> for TokenRatesBody {
    fn from(rates: &TokenRates) -> Self {
        Self {
            input: rates.input.map(Price::picos),
            output: rates.output.map(Price::picos),
            cached_input: rates.cached_input.map(Price::picos),
            cache_write_5m: rates.cache_write_5m.map(Price::picos),
            cache_write_1h: rates.cache_write_1h.map(Price::picos),
            reasoning: rates.reasoning.map(Price::picos),
            audio_input: rates.audio_input.map(Price::picos),
            audio_output: rates.audio_output.map(Price::picos),
        }
    }
}

impl TokenRatesBody {
    fn into_rates(self) -> Result<TokenRates, Invalid> {
        let rate = |picos| price("token_rates_picos", picos);
        Ok(TokenRates {
            input: rate(self.input)?,
            output: rate(self.output)?,
            cached_input: rate(self.cached_input)?,
            cache_write_5m: rate(self.cache_write_5m)?,
            cache_write_1h: rate(self.cache_write_1h)?,
            reasoning: rate(self.reasoning)?,
            audio_input: rate(self.audio_input)?,
            audio_output: rate(self.audio_output)?,
        })
    }
}

fn price(field: &'static str, picos: Option<i64>) -> Result<Option<Price>, Invalid> {
    picos.map(|picos| Price::parse_picos(field, picos)).transpose()
}

fn unit_price((unit, picos): &(String, i64)) -> Result<(Unit, Price), Invalid> {
    Ok((Unit::parse("per_unit_picos", unit)?, Price::parse_picos("per_unit_picos", *picos)?))
}
