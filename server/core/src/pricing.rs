//! What a call costs: list prices, the usage that they meet, and the one rounding at the end.
//!
//! Everything is summed in pico-units and rounded up once to nano-units. A missing price is unknown,
//! never zero; an explicit zero is a price. Which price a call gets is decided in [`PriceBook`], what
//! is held for it in advance in [`estimate`], and what happens without one by
//! [`UnknownPricePolicy`].

mod bill;
mod book;
mod estimate;
mod policy;
#[cfg(test)]
mod tests;

use thiserror::Error;

use crate::amounts::Amounts;
use crate::money::{Nanos, Price};
use crate::time::Millis;
use crate::unit::Unit;
use crate::usage::{CostComponent, EventFlags, PriceRef, TokenCounts};

use bill::Bill;

pub use book::{ModelQuery, PriceBook, find_price};
pub use estimate::{Estimate, ExpectedUsage, estimate, output_tokens_expected};
pub use policy::{Resolution, UnknownPricePolicy};

/// How upstreams name the service tier that list prices are for. Any other tier (`flex`,
/// `priority`, `batch`, `scale` …) has rates of its own, which a sheet does not hold.
const SERVICE_TIERS_DEFAULT: [&str; 4] = ["", "default", "standard", "on_demand"];

/// Money for one token of each class, in pico-units. An absent class costs what the class that
/// contains it costs: cached input, cache writes and audio input cost `input`, reasoning and audio
/// output cost `output`. One exception: where only `cache_write_5m` is given, a one-hour write has
/// no known price, since lists that tell lifetimes apart charge more for the longer one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokenRates {
    /// Input that no other class prices.
    pub input: Option<Price>,
    /// Output that no other class prices.
    pub output: Option<Price>,
    /// Input read from a cache.
    pub cached_input: Option<Price>,
    /// Input written to a cache of 5 minutes.
    pub cache_write_5m: Option<Price>,
    /// Input written to a cache of 1 hour.
    pub cache_write_1h: Option<Price>,
    /// Output spent on reasoning.
    pub reasoning: Option<Price>,
    /// Audio within the input.
    pub audio_input: Option<Price>,
    /// Audio within the output.
    pub audio_output: Option<Price>,
}

impl TokenRates {
    /// Whether no class has a rate: tokens are not what is paid for.
    pub fn is_empty(&self) -> bool {
        self.all().iter().all(Option::is_none)
    }

    /// Whether the number of tokens can change the cost.
    fn charge(&self) -> bool {
        self.all().into_iter().flatten().any(is_positive)
    }

    fn all(&self) -> [Option<Price>; 8] {
        [
            self.input,
            self.output,
            self.cached_input,
            self.cache_write_5m,
            self.cache_write_1h,
            self.reasoning,
            self.audio_input,
            self.audio_output,
        ]
    }
}

/// Where a price comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PriceSource {
    /// The built-in list prices, in USD.
    Catalogue,
    /// The workspace's own, in its currency.
    Override,
}

/// What one model costs from an instant on, in the default service tier.
#[derive(Clone, Debug, PartialEq)]
pub struct PriceSheet {
    /// Its id and version.
    pub reference: PriceRef,
    /// Who offers the model.
    pub provider: String,
    /// The model's name.
    pub model: String,
    /// What tokens cost.
    pub token_rates: TokenRates,
    /// What one request costs, on top of the rest.
    pub per_request: Option<Price>,
    /// What one of each unit costs.
    pub per_unit: Vec<(Unit, Price)>,
    /// The most input tokens that the model takes; `None` when the list does not say.
    pub input_tokens_max: Option<i64>,
    /// The most output tokens that the model makes; `None` when the list does not say.
    pub output_tokens_max: Option<i64>,
    /// The most input tokens that these rates are for: beyond it the list has others, which the
    /// sheet does not hold, so that the price is unknown but for [`PriceSheet::at_known_rates`].
    pub priced_input_tokens_max: Option<i64>,
    /// First instant at which it is in force.
    pub effective_from: Millis,
    /// Where it comes from.
    pub source: PriceSource,
}

impl PriceSheet {
    /// The same rates for an input of any length. Lists charge more for a long input, so what they
    /// come to beyond the priced length is the least that is known of a cost, not the cost.
    #[must_use]
    pub fn at_known_rates(&self) -> Self {
        Self { priced_input_tokens_max: None, ..self.clone() }
    }

    fn is_empty(&self) -> bool {
        self.token_rates.is_empty() && self.per_request.is_none() && self.per_unit.is_empty()
    }

    /// Whether a positive price stands on a unit whose amount is known.
    fn charges_unit_of(&self, amounts: &Amounts) -> bool {
        self.per_unit.iter().any(|(unit, price)| is_positive(*price) && amounts.get(unit).is_some())
    }

    fn charges_any_unit(&self) -> bool {
        self.per_unit.iter().any(|(_, price)| is_positive(*price))
    }

    fn check_input(&self, input_tokens: i64) -> Result<(), Unpriceable> {
        match self.priced_input_tokens_max {
            Some(max) if input_tokens > max => {
                Err(Unpriceable::InputTooLong { priced_input_tokens_max: max })
            }
            _ => Ok(()),
        }
    }
}

/// What a call used, as far as its price asks. Counts and amounts are 0 to 10^12 each.
#[derive(Clone, Copy, Debug)]
pub struct PricedUsage<'a> {
    /// Tokens by class.
    pub tokens: TokenCounts,
    /// Other amounts. Requests are 1 unless they are named.
    pub amounts: &'a Amounts,
    /// The service tier that answered, as the upstream named it; empty for its default.
    pub service_tier: &'a str,
    /// What the API charges for one request, on top of the sheet.
    pub api_request_price: Option<Price>,
}

/// A cost with its reasons.
#[derive(Clone, Debug, PartialEq)]
pub struct Cost {
    /// The components' sum, rounded up once.
    pub total: Nanos,
    /// What it is made of, each with an amount above zero.
    pub components: Vec<CostComponent>,
    /// What a reader should know.
    pub flags: EventFlags,
}

impl Cost {
    /// A cost that was not computed from rates but stated as a whole, such as `explicit` or
    /// `default`. Its one component counts nano-units at the price of one.
    pub fn stated(name: &str, total: Nanos, flags: EventFlags) -> Self {
        Self { total, components: bill::stated(name, total).into_iter().collect(), flags }
    }
}

/// Why a call has no price.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Unpriceable {
    /// Nothing is known of the model's price.
    #[error("no price is known")]
    PriceUnknown,
    /// Another service tier answered than the one that the price is for.
    #[error("no price is known for this service tier")]
    TierUnknown,
    /// The input is so long that other rates apply.
    #[error("no price is known above {priced_input_tokens_max} input tokens")]
    InputTooLong {
        /// The most input tokens that have a price.
        priced_input_tokens_max: i64,
    },
    /// Tokens of a class were used that has no rate, nor has the class that contains it.
    #[error("no rate is known for {class} tokens")]
    RateMissing {
        /// The class, named as a component of a cost is.
        class: &'static str,
    },
    /// The record says nothing of what the price charges for.
    #[error("the usage that the price charges for is not known")]
    UsageMissing,
    /// The price is known, but the cost passes the largest amount of money: the amount is at fault,
    /// and the policy for unknown prices has no say.
    #[error("the cost passes 10^18 nano-units")]
    CostOutOfRange {
        /// What costs most of it, named as a component of a cost is.
        component: String,
    },
}

/// What a call costs.
///
/// Input contains cached tokens, cache writes and audio; output contains reasoning and audio. A part
/// with a rate of its own is taken off its whole once, and what is left, at least zero, costs the
/// whole's rate. Parts that are larger than their whole are charged in full and flagged. A whole that
/// is absent counts as the sum of its parts.
///
/// A record that names anything that the sheet charges for is priced by what it names: list prices by
/// token and by second of one model are alternatives. Where the sheet has no token rates at all, token
/// counts do not matter to it.
///
/// # Errors
/// [`Unpriceable`], for the API's [`UnknownPricePolicy`] to resolve, but for
/// [`Unpriceable::CostOutOfRange`].
pub fn price(sheet: &PriceSheet, usage: &PricedUsage<'_>) -> Result<Cost, Unpriceable> {
    if sheet.is_empty() {
        return Err(Unpriceable::PriceUnknown);
    }
    if !SERVICE_TIERS_DEFAULT.contains(&usage.service_tier) {
        return Err(Unpriceable::TierUnknown);
    }
    check_measured(sheet, usage)?;
    let mut bill = Bill::default();
    if !sheet.token_rates.is_empty() {
        bill.add_tokens(sheet, &usage.tokens)?;
    }
    bill.add_units(sheet, usage.amounts)?;
    bill.add_requests(sheet.per_request, usage.amounts)?;
    bill.add_requests(usage.api_request_price, usage.amounts)?;
    bill.close()
}

/// What a call costs whose API charges for requests alone.
///
/// # Errors
/// [`Unpriceable::CostOutOfRange`].
pub fn price_requests(api_request_price: Price, amounts: &Amounts) -> Result<Cost, Unpriceable> {
    let mut bill = Bill::default();
    bill.add_requests(Some(api_request_price), amounts)?;
    bill.close()
}

/// A call whose cost hangs on what it used has a price only if it says something of that.
fn check_measured(sheet: &PriceSheet, usage: &PricedUsage<'_>) -> Result<(), Unpriceable> {
    let by_tokens = sheet.token_rates.charge();
    let measured =
        (by_tokens && usage.tokens != TokenCounts::default()) || sheet.charges_unit_of(usage.amounts);
    if measured || !(by_tokens || sheet.charges_any_unit()) {
        return Ok(());
    }
    Err(Unpriceable::UsageMissing)
}

fn is_positive(price: Price) -> bool {
    price.picos() > 0
}
