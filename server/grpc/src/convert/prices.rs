//! Prices. On the wire tokens are priced by the million, as lists do; inside, one by one.

use std::collections::BTreeMap;

use rateguard_core::limits::UNIT_AMOUNTS_MAX;
use rateguard_core::money::{Currency, Price};
use rateguard_core::pricing::{PriceSheet, PriceSource, TokenRates};
use rateguard_core::time::Millis;
use rateguard_core::unit::Unit;
use rateguard_core::usage::PriceRef;
use rateguard_engine::error::EngineError;
use rateguard_engine::manage::{ListedPrice, PriceFilter, PricePlace};
use rateguard_proto::v1;

use super::apis::{price, tokens_or_none};
use super::usage::non_empty;
use super::{enumeration, etag, malformed, missing, name, out_of_bounds, text, timestamp, unit, within};

/// Tokens that a rate on the wire is for.
const TOKENS_PER_RATE: i64 = 1_000_000;
/// Units that have prices of their own elsewhere, or are no use to be priced.
const RESERVED_UNITS: [Unit; 3] = [Unit::Requests, Unit::Tokens, Unit::Cost];

/// An override.
///
/// # Errors
/// Those of its fields; one without any rate.
pub fn price_sheet(
    message: v1::Price,
    reference: PriceRef,
    effective_from: Millis,
) -> Result<PriceSheet, EngineError> {
    let token_rates = token_rates(&message.token_rates.unwrap_or_default());
    let sheet = PriceSheet {
        reference,
        provider: provider(message.provider)?,
        model: model(message.model)?,
        token_rates: token_rates.map_err(|error| within("token_rates", error))?,
        per_request: price("request_rate", message.request_rate.as_deref())?,
        per_unit: unit_rates(message.unit_rates)?,
        input_tokens_max: tokens_or_none("max_input_tokens", message.max_input_tokens)?,
        output_tokens_max: tokens_or_none("max_output_tokens", message.max_output_tokens)?,
        priced_input_tokens_max: tokens_or_none("max_priced_input_tokens", message.max_priced_input_tokens)?,
        effective_from,
        source: PriceSource::Override,
    };
    if sheet.token_rates.is_empty() && sheet.per_request.is_none() && sheet.per_unit.is_empty() {
        return Err(missing("token_rates"));
    }
    Ok(sheet)
}

fn provider(value: String) -> Result<String, EngineError> {
    if value.is_empty() {
        return Err(missing("provider"));
    }
    let value = name("provider", value)?;
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let starts = value.bytes().next().is_some_and(plain);
    if starts && value.bytes().all(|byte| plain(byte) || byte == b'-' || byte == b'_') {
        return Ok(value);
    }
    Err(malformed("provider", "must be characters of [a-z0-9_-], beginning with a letter or a digit"))
}

fn model(value: String) -> Result<String, EngineError> {
    if value.is_empty() { Err(missing("model")) } else { text("model", value) }
}

fn token_rates(message: &v1::TokenRates) -> Result<TokenRates, EngineError> {
    let rate = |field: &'static str, text: &Option<String>| {
        text.as_deref().map(|text| Price::parse_decimal(field, text, TOKENS_PER_RATE)).transpose()
    };
    Ok(TokenRates {
        input: rate("input", &message.input)?,
        cached_input: rate("cached_input", &message.cached_input)?,
        cache_write_5m: rate("cache_write_5m", &message.cache_write_5m)?,
        cache_write_1h: rate("cache_write_1h", &message.cache_write_1h)?,
        output: rate("output", &message.output)?,
        reasoning: rate("reasoning", &message.reasoning)?,
        audio_input: rate("audio_input", &message.audio_input)?,
        audio_output: rate("audio_output", &message.audio_output)?,
    })
}

fn unit_rates(rates: BTreeMap<String, String>) -> Result<Vec<(Unit, Price)>, EngineError> {
    if rates.len() > UNIT_AMOUNTS_MAX {
        return Err(out_of_bounds("unit_rates", format!("must have at most {UNIT_AMOUNTS_MAX} units")));
    }
    rates.iter().map(|(name, rate)| unit_rate(name, rate)).collect()
}

fn unit_rate(name: &str, rate: &str) -> Result<(Unit, Price), EngineError> {
    let unit = unit("unit_rates", name)?;
    if RESERVED_UNITS.contains(&unit) {
        return Err(malformed("unit_rates", "must not name requests, tokens or cost"));
    }
    Ok((unit, Price::parse_decimal("unit_rates", rate, 1)?))
}

/// A price for the wire.
pub fn price_message(listed: &ListedPrice, workspace_currency: Currency) -> v1::Price {
    let sheet = &listed.sheet;
    let (source, currency) = match sheet.source {
        PriceSource::Catalogue => (v1::PriceSource::Catalogue, Currency::USD),
        PriceSource::Override => (v1::PriceSource::Override, workspace_currency),
    };
    v1::Price {
        id: sheet.reference.id.to_string(),
        provider: sheet.provider.clone(),
        model: sheet.model.clone(),
        version: i64::from(sheet.reference.version),
        source: source.into(),
        currency_code: currency.as_str().to_owned(),
        token_rates: (!sheet.token_rates.is_empty()).then(|| token_rates_message(&sheet.token_rates)),
        request_rate: sheet.per_request.map(|price| price.to_decimal(1)),
        unit_rates: sheet
            .per_unit
            .iter()
            .map(|(unit, price)| (unit.to_string(), price.to_decimal(1)))
            .collect(),
        max_input_tokens: sheet.input_tokens_max.unwrap_or(0),
        max_output_tokens: sheet.output_tokens_max.unwrap_or(0),
        effective_time: Some(timestamp(sheet.effective_from)),
        effective_end_time: listed.effective_until.map(timestamp),
        etag: listed.stored_version.map(etag).unwrap_or_default(),
        max_priced_input_tokens: sheet.priced_input_tokens_max.unwrap_or(0),
    }
}

fn token_rates_message(rates: &TokenRates) -> v1::TokenRates {
    let rate = |price: Option<Price>| price.map(|price| price.to_decimal(TOKENS_PER_RATE));
    v1::TokenRates {
        input: rate(rates.input),
        cached_input: rate(rates.cached_input),
        cache_write_5m: rate(rates.cache_write_5m),
        cache_write_1h: rate(rates.cache_write_1h),
        output: rate(rates.output),
        reasoning: rate(rates.reasoning),
        audio_input: rate(rates.audio_input),
        audio_output: rate(rates.audio_output),
    }
}

/// Which prices a listing asks for.
///
/// # Errors
/// Those of its fields.
pub fn price_filter(message: &v1::ListPricesRequest) -> Result<PriceFilter, EngineError> {
    Ok(PriceFilter {
        provider: non_empty(name("provider", message.provider.clone())?),
        model: non_empty(text("model", message.model.clone())?),
        source: match enumeration("source", message.source)? {
            v1::PriceSource::Unspecified => None,
            v1::PriceSource::Catalogue => Some(PriceSource::Catalogue),
            v1::PriceSource::Override => Some(PriceSource::Override),
        },
    })
}

/// A price's place in the listing as page tokens carry it. No provider has a slash in its name.
pub fn place_text(place: &PricePlace) -> String {
    let source = if place.is_catalogue { "catalogue" } else { "override" };
    format!("{source}/{}/{}/{}", place.effective_from.get(), place.provider, place.model)
}

/// The place that a page token carries; `None` when it is none of ours.
pub fn place(text: &str) -> Option<PricePlace> {
    let (source, rest) = text.split_once('/')?;
    let (effective_from_ms, rest) = rest.split_once('/')?;
    let (provider, model) = rest.split_once('/')?;
    let is_catalogue = match source {
        "catalogue" => true,
        "override" => false,
        _ => return None,
    };
    Some(PricePlace {
        is_catalogue,
        provider: provider.to_owned(),
        model: model.to_owned(),
        effective_from: Millis::new(effective_from_ms.parse().ok()?),
    })
}
