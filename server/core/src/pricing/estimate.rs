//! What to hold for a call before it is made.

use crate::amounts::Amounts;
use crate::limits::{OUTPUT_TOKENS_DEFAULT, TOKENS_MAX};
use crate::money::{Nanos, Price};

use super::bill::Bill;
use super::{PriceSheet, TokenRates, Unpriceable};

/// What a call is expected to use. Counts and amounts are 0 to 10^12 each.
#[derive(Clone, Copy, Debug)]
pub struct ExpectedUsage<'a> {
    /// Input tokens; absent counts as none.
    pub input_tokens: Option<i64>,
    /// The most output tokens that the caller asks for.
    pub output_tokens_asked: Option<i64>,
    /// The API's default where the caller asks for none.
    pub output_tokens_default: Option<i64>,
    /// Answers asked for at once, at least 1; the output is bounded for each.
    pub answers: i64,
    /// Other amounts. Requests are 1 unless they are named.
    pub amounts: &'a Amounts,
    /// What the API charges for one request, on top of the sheet.
    pub api_request_price: Option<Price>,
}

/// What a call may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// The most that it costs if it stays within what is expected and writes no cache.
    pub cost: Nanos,
    /// What it costs at least once it has reached its upstream: input and requests.
    pub floor: Nanos,
    /// The output tokens that the cost allows for.
    pub output_tokens: i64,
}

/// The most output tokens that a call may make: what it asks for, else the API's default, else
/// 4,096, and never more than the model makes.
pub fn output_tokens_expected(sheet: Option<&PriceSheet>, asked: Option<i64>, default: Option<i64>) -> i64 {
    let wanted = asked.or(default).unwrap_or(OUTPUT_TOKENS_DEFAULT);
    sheet.and_then(|sheet| sheet.output_tokens_max).map_or(wanted, |max| wanted.min(max))
}

/// What a call may cost. Where classes of input or output have rates of their own, the highest
/// stands for all, since nobody knows yet how the tokens will divide; cache writes are left out.
///
/// # Errors
/// [`Unpriceable`], for the API's policy to resolve, but for [`Unpriceable::CostOutOfRange`]. A price by units alone of which none is expected
/// is [`Unpriceable::UsageMissing`].
pub fn estimate(sheet: &PriceSheet, expected: &ExpectedUsage<'_>) -> Result<Estimate, Unpriceable> {
    if sheet.is_empty() {
        return Err(Unpriceable::PriceUnknown);
    }
    let by_tokens = sheet.token_rates.charge();
    if !by_tokens && sheet.charges_any_unit() && !sheet.charges_unit_of(expected.amounts) {
        return Err(Unpriceable::UsageMissing);
    }
    let input_tokens = expected.input_tokens.unwrap_or(0);
    let of_one =
        output_tokens_expected(Some(sheet), expected.output_tokens_asked, expected.output_tokens_default);
    let output_tokens = of_one.saturating_mul(expected.answers.max(1)).min(TOKENS_MAX);
    let (mut most, mut least) = (Bill::default(), Bill::default());
    if !sheet.token_rates.is_empty() {
        sheet.check_input(input_tokens)?;
        let rates = Highest::of(&sheet.token_rates);
        add_tokens(&mut most, "input_total", input_tokens, rates.input)?;
        add_tokens(&mut most, "output", output_tokens, rates.output)?;
        add_tokens(&mut least, "input_total", input_tokens, sheet.token_rates.input)?;
    }
    most.add_units(sheet, expected.amounts)?;
    for bill in [&mut most, &mut least] {
        bill.add_requests(sheet.per_request, expected.amounts)?;
        bill.add_requests(expected.api_request_price, expected.amounts)?;
    }
    Ok(Estimate { cost: most.close()?.total, floor: least.close()?.total, output_tokens })
}

/// The highest rates that tokens within the expected may have. A whole without a rate has none:
/// its parts' rates say nothing of the rest.
struct Highest {
    input: Option<Price>,
    output: Option<Price>,
}

impl Highest {
    fn of(rates: &TokenRates) -> Self {
        Self {
            input: rates
                .input
                .max(rates.input.and(rates.cached_input))
                .max(rates.input.and(rates.audio_input)),
            output: rates
                .output
                .max(rates.output.and(rates.reasoning))
                .max(rates.output.and(rates.audio_output)),
        }
    }
}

fn add_tokens(
    bill: &mut Bill,
    class: &'static str,
    tokens: i64,
    rate: Option<Price>,
) -> Result<(), Unpriceable> {
    if tokens == 0 {
        return Ok(());
    }
    bill.add(class, tokens, rate.ok_or(Unpriceable::RateMissing { class })?)
}
