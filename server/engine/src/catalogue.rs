//! The built-in catalogue: list prices of models in USD, compiled in and read once at start.
//!
//! The file has more than a price sheet holds, and what it has beyond that is left out so that the
//! price of such a call is unknown, never a wrong one:
//!
//! * rates of other service tiers, and rates above a length of input: a sheet ends at the lowest of
//!   these lengths;
//! * rates of images counted in tokens, which no record tells from text. A model whose images have
//!   another output rate than its text is left without an output rate. Images in the *input* of a
//!   model cost its text rate; cached audio costs the rate of cached text.

mod file;
#[cfg(test)]
mod tests;

use std::collections::HashSet;

use rateguard_core::ids::PriceId;
use rateguard_core::invalid::Invalid;
use rateguard_core::limits::{TEXT_BYTES_MAX, TOKENS_MAX};
use rateguard_core::pricing::{PriceBook, PriceSheet, PriceSource, TokenRates};
use rateguard_core::time::Millis;
use rateguard_core::unit::Unit;
use rateguard_core::usage::PriceRef;
use thiserror::Error;
use xxhash_rust::xxh3::xxh3_128;

use file::{Entry, Mode, TokenPrices};

/// Version of every price in the catalogue: one more with each change of the file.
pub const CATALOGUE_VERSION: u32 = 1;

const MODEL_PRICES: &str = include_str!("../data/model_prices.json");

/// A provider whose other rates begin at the threshold; everyone else's begin above it.
const PROVIDER_WITH_INCLUSIVE_THRESHOLDS: &str = "xai";

/// Why the catalogue cannot be read. Only a change of the shipped file can bring it about.
#[derive(Debug, Error)]
pub enum CatalogueError {
    /// It is not JSON, has unknown or missing fields, or a price is malformed.
    #[error("the price catalogue is malformed")]
    Malformed(#[from] serde_json::Error),
    /// An entry is out of bounds.
    #[error("the price catalogue's entry of {provider}/{model} is out of bounds")]
    OutOfBounds {
        /// The entry's provider.
        provider: String,
        /// The entry's model.
        model: String,
        /// What is wrong with it.
        source: Invalid,
    },
    /// Two entries are about the same model of the same provider.
    #[error("the price catalogue has {provider}/{model} twice")]
    Repeated {
        /// The entries' provider.
        provider: String,
        /// The entries' model.
        model: String,
    },
}

/// Reads the compiled-in catalogue.
///
/// # Errors
/// [`CatalogueError`] when any entry is malformed: none is left out in silence.
pub fn load() -> Result<PriceBook, CatalogueError> {
    read(MODEL_PRICES)
}

fn read(text: &str) -> Result<PriceBook, CatalogueError> {
    let entries: Vec<Entry> = serde_json::from_str(text)?;
    let mut seen = HashSet::with_capacity(entries.len());
    let mut sheets = Vec::with_capacity(entries.len());
    for entry in &entries {
        if !seen.insert((&entry.provider, &entry.model)) {
            let (provider, model) = (entry.provider.clone(), entry.model.clone());
            return Err(CatalogueError::Repeated { provider, model });
        }
        sheets.push(sheet(entry).map_err(|source| {
            let (provider, model) = (entry.provider.clone(), entry.model.clone());
            CatalogueError::OutOfBounds { provider, model, source }
        })?);
    }
    Ok(PriceBook::new(sheets))
}

fn sheet(entry: &Entry) -> Result<PriceSheet, Invalid> {
    check_name("provider", &entry.provider)?;
    check_name("model", &entry.model)?;
    check_other_rates(entry)?;
    let per_unit = entry
        .usd_per_unit
        .iter()
        .map(|(name, price)| Ok((meter(name)?, price.0)))
        .collect::<Result<Vec<_>, Invalid>>()?;
    let token_rates = token_rates(&entry.usd_per_million_tokens);
    if per_unit.is_empty() && entry.usd_per_million_tokens.is_empty() {
        return Err(Invalid::new("usd_per_million_tokens", "must name a rate unless usd_per_unit does"));
    }
    Ok(PriceSheet {
        reference: PriceRef { id: price_id(&entry.provider, &entry.model)?, version: CATALOGUE_VERSION },
        provider: entry.provider.clone(),
        model: entry.model.clone(),
        token_rates,
        per_request: None,
        per_unit,
        input_tokens_max: token_limit("max_input_tokens", entry.max_input_tokens)?,
        output_tokens_max: output_tokens_max(entry)?,
        priced_input_tokens_max: priced_input_tokens_max(entry)?,
        effective_from: Millis::ZERO,
        source: PriceSource::Catalogue,
    })
}

fn token_rates(prices: &TokenPrices) -> TokenRates {
    let rate = |price: Option<file::PerMillion>| price.map(|price| price.0);
    let images_cost_more = prices.output_image.is_some() && prices.output_image != prices.output;
    TokenRates {
        input: rate(prices.input),
        output: rate(prices.output).filter(|_| !images_cost_more),
        cached_input: rate(prices.cache_read),
        cache_write_5m: rate(prices.cache_write),
        cache_write_1h: rate(prices.cache_write_1h),
        reasoning: rate(prices.output_reasoning),
        audio_input: rate(prices.input_audio),
        audio_output: rate(prices.output_audio),
    }
}

/// The same model has the same id in every release.
fn price_id(provider: &str, model: &str) -> Result<PriceId, Invalid> {
    let hash = xxh3_128(format!("{provider}\0{model}").as_bytes());
    PriceId::parse("id", &format!("{}{hash:032x}", PriceId::PREFIX))
}

fn priced_input_tokens_max(entry: &Entry) -> Result<Option<i64>, Invalid> {
    let lowest = entry.above_input_tokens.keys().next().copied();
    let threshold = token_limit("above_input_tokens", lowest)?;
    let inclusive = entry.provider == PROVIDER_WITH_INCLUSIVE_THRESHOLDS;
    Ok(threshold.map(|tokens| if inclusive { tokens - 1 } else { tokens }))
}

/// Embeddings and rankings are no tokens, whatever length of answer the list gives.
fn output_tokens_max(entry: &Entry) -> Result<Option<i64>, Invalid> {
    let listed = token_limit("max_output_tokens", entry.max_output_tokens)?;
    Ok(if matches!(entry.mode, Mode::Embedding | Mode::Rerank) { Some(0) } else { listed })
}

fn token_limit(field: &'static str, tokens: Option<i64>) -> Result<Option<i64>, Invalid> {
    match tokens {
        Some(tokens) if !(1..=TOKENS_MAX).contains(&tokens) => {
            Err(Invalid::new(field, format!("must be 1 to {TOKENS_MAX}")))
        }
        limit => Ok(limit),
    }
}

fn meter(name: &str) -> Result<Unit, Invalid> {
    match Unit::parse("usd_per_unit", name)? {
        unit @ Unit::Custom(_) => Ok(unit),
        unit => Err(Invalid::new("usd_per_unit", format!("must not price {unit}"))),
    }
}

fn check_name(field: &'static str, name: &str) -> Result<(), Invalid> {
    let fits = (1..=TEXT_BYTES_MAX).contains(&name.len());
    if fits && name.bytes().all(|b| b.is_ascii_graphic()) {
        return Ok(());
    }
    Err(Invalid::new(field, format!("must be 1 to {TEXT_BYTES_MAX} printable ASCII characters")))
}

/// Rates that no sheet holds are checked all the same: a tier or a threshold without any is a slip.
fn check_other_rates(entry: &Entry) -> Result<(), Invalid> {
    let names_none = |rates: &TokenPrices| rates.is_empty();
    if entry.above_input_tokens.values().any(names_none) {
        return Err(Invalid::new("above_input_tokens", "must name a rate for each threshold"));
    }
    if entry.service_tiers.values().any(names_none) {
        return Err(Invalid::new("service_tiers", "must name a rate for each tier"));
    }
    if entry.source.as_ref().is_some_and(|page| !page.starts_with("https://")) {
        return Err(Invalid::new("source", "must be an https address"));
    }
    Ok(())
}
