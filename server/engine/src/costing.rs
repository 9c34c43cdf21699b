//! What a call is thought to cost, and what a record did cost, under the prices of its workspace
//! and the policy of its API.

use rateguard_core::amounts::Amounts;
use rateguard_core::limits::{OUTPUT_TOKENS_DEFAULT, TOKENS_MAX};
use rateguard_core::money::Nanos;
use rateguard_core::pricing::{
    Cost, ExpectedUsage, ModelQuery, PriceSheet, PricedUsage, UnknownPricePolicy, Unpriceable, estimate,
    output_tokens_expected, price, price_requests,
};
use rateguard_core::time::Millis;
use rateguard_core::unit::Unit;
use rateguard_core::usage::{EventFlags, PriceRef, TokenCounts};

use crate::directory::WorkspaceView;
use crate::error::{EngineError, Reason};
use crate::resources::{Api, Dialect};

/// What a caller expects of a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Estimate {
    /// Input tokens.
    pub input_tokens: Option<i64>,
    /// The most output tokens asked for.
    pub output_tokens_max: Option<i64>,
    /// Answers asked for at once; the output is bounded for each. `None` for one.
    pub answers: Option<i64>,
    /// The cost itself, which then is not computed.
    pub cost: Option<Nanos>,
}

/// What is held for a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reserved {
    /// Money; `None` where nothing says how much, so that budgets only must not be exhausted.
    pub cost: Option<Nanos>,
    /// Of it, what an expired reservation is charged.
    pub floor: Nanos,
    /// Input and output tokens together, where they were estimated.
    pub tokens: Option<i64>,
}

impl Reserved {
    /// Adds what is held to what the caller asked for by itself, which goes first.
    ///
    /// # Errors
    /// Amounts beyond their bounds.
    pub fn add_to(&self, amounts: &mut Amounts) -> Result<(), EngineError> {
        if let (Some(tokens), None) = (self.tokens, amounts.get(&Unit::Tokens)) {
            amounts.insert("estimate", Unit::Tokens, tokens)?;
        }
        if let Some(cost) = self.cost {
            amounts.insert("estimate.cost", Unit::Cost, cost.get())?;
        }
        Ok(())
    }

    /// What is held where the known rates say only what a call costs at least: that or the default
    /// that its report may be charged, whichever is more, so that padding an input frees no money.
    /// An expiry is charged what the report would be.
    fn or_default(self, default: &Self) -> Self {
        let floor = if default.cost.is_some() { default.floor } else { self.floor };
        Self { cost: self.cost.max(default.cost), floor, ..self }
    }
}

/// What to hold for a call; `None` when nothing about it has a price: no API, no model, no
/// estimate.
///
/// # Errors
/// [`Reason::PriceUnknown`] when no price is known and the API refuses such calls;
/// [`Reason::FieldOutOfBounds`] naming the amount whose cost no money holds.
pub fn reserve(
    view: &WorkspaceView,
    api: Option<&Api>,
    model: &str,
    expected: &Estimate,
    amounts: &Amounts,
    now: Millis,
) -> Result<Option<Reserved>, EngineError> {
    let tokens = expected_tokens(expected);
    if let Some(cost) = expected.cost {
        return Ok(Some(Reserved { cost: Some(cost), floor: Nanos::ZERO, tokens }));
    }
    if api.is_none() && model.is_empty() {
        return Ok(tokens.map(|_| Reserved { cost: None, floor: Nanos::ZERO, tokens }));
    }
    let sheet = view.price(&query(api, model, now));
    let by = |sheet: Option<&PriceSheet>| estimated(sheet, api, model, expected, amounts);
    let reason = match by(sheet) {
        Ok(reserved) => return Ok(Some(reserved)),
        Err(reason) => reason,
    };
    let default = unpriced(api, &reason, tokens, amounts)?;
    if !matches!(reason, Unpriceable::InputTooLong { .. }) {
        return Ok(Some(default));
    }
    match by(sheet.map(PriceSheet::at_known_rates).as_ref()) {
        Ok(least) => Ok(Some(least.or_default(&default))),
        Err(reason) => unpriced(api, &reason, tokens, amounts).map(Some),
    }
}

fn estimated(
    sheet: Option<&PriceSheet>,
    api: Option<&Api>,
    model: &str,
    expected: &Estimate,
    amounts: &Amounts,
) -> Result<Reserved, Unpriceable> {
    let Some(sheet) = sheet else {
        let cost = requests_alone(api, model, amounts)?.total;
        return Ok(Reserved { cost: Some(cost), floor: cost, tokens: expected_tokens(expected) });
    };
    let usage = ExpectedUsage {
        input_tokens: expected.input_tokens,
        output_tokens_asked: expected.output_tokens_max,
        output_tokens_default: api.and_then(|api| api.output_tokens_default),
        answers: expected.answers.unwrap_or(1),
        amounts,
        api_request_price: api.and_then(|api| api.price_per_request),
    };
    let estimate = estimate(sheet, &usage)?;
    let tokens = expected.input_tokens.unwrap_or(0).saturating_add(estimate.output_tokens);
    let has_tokens = !sheet.token_rates.is_empty();
    Ok(Reserved { cost: Some(estimate.cost), floor: estimate.floor, tokens: has_tokens.then_some(tokens) })
}

/// The tokens that a call is expected to use, where it says anything of them: never more output than
/// its model makes.
pub fn tokens(
    view: &WorkspaceView,
    api: Option<&Api>,
    model: &str,
    expected: &Estimate,
    now: Millis,
) -> Option<i64> {
    let unclamped = expected_tokens(expected)?;
    let Some(sheet) = view.price(&query(api, model, now)) else { return Some(unclamped) };
    let default = api.and_then(|api| api.output_tokens_default);
    let of_one = output_tokens_expected(Some(sheet), expected.output_tokens_max, default);
    let output = of_one.saturating_mul(expected.answers.unwrap_or(1));
    Some(expected.input_tokens.unwrap_or(0).saturating_add(output).min(TOKENS_MAX))
}

fn expected_tokens(expected: &Estimate) -> Option<i64> {
    match (expected.input_tokens, expected.output_tokens_max) {
        (None, None) => None,
        (input, output) => {
            let answers = expected.answers.unwrap_or(1);
            let output = output.unwrap_or(OUTPUT_TOKENS_DEFAULT).saturating_mul(answers);
            Some(input.unwrap_or(0).saturating_add(output).min(TOKENS_MAX))
        }
    }
}

fn unpriced(
    api: Option<&Api>,
    reason: &Unpriceable,
    tokens: Option<i64>,
    amounts: &Amounts,
) -> Result<Reserved, EngineError> {
    refuse_beyond_money(reason, amounts, |class| match class {
        "output" => "estimate.max_output_tokens".to_owned(),
        _ => "estimate.input_tokens".to_owned(),
    })?;
    let resolution = policy(api).resolve(reason);
    if !resolution.allowed {
        return Err(EngineError::new(
            Reason::PriceUnknown,
            format!("{reason}, and the API refuses such calls"),
        ));
    }
    let cost = resolution.cost.total;
    let is_stated = cost > Nanos::ZERO;
    Ok(Reserved { cost: is_stated.then_some(cost), floor: cost, tokens })
}

/// Where a price is known and no money holds what it comes to, the amount is refused: as an unknown
/// price, the largest amounts would be the free ones.
fn refuse_beyond_money(
    reason: &Unpriceable,
    amounts: &Amounts,
    token_field: impl FnOnce(&str) -> String,
) -> Result<(), EngineError> {
    let Unpriceable::CostOutOfRange { component } = reason else { return Ok(()) };
    let place = amounts.iter().position(|(unit, _)| unit.as_str() == component);
    let field = place.map_or_else(|| token_field(component), |place| format!("amounts[{place}].amount"));
    Err(EngineError::field(Reason::FieldOutOfBounds, field, reason.to_string()))
}

/// What a record used, as far as its price asks.
#[derive(Clone, Copy, Debug)]
pub struct Usage<'a> {
    /// The model that answered; empty when there was none.
    pub model: &'a str,
    /// The service tier that answered.
    pub service_tier: &'a str,
    /// Tokens by class.
    pub tokens: TokenCounts,
    /// Other amounts.
    pub amounts: &'a Amounts,
    /// The price that an earlier answer named.
    pub price: Option<&'a PriceRef>,
    /// A cost that the reporter computed itself.
    pub explicit_cost: Option<Nanos>,
    /// When it counts.
    pub accounted_at: Millis,
}

/// A record's cost and the price that made it.
#[derive(Clone, Debug, PartialEq)]
pub struct Costed {
    /// The cost, with components and flags.
    pub cost: Cost,
    /// The price; `None` for explicit, per-request and unknown ones.
    pub price: Option<PriceRef>,
}

/// Prices a record. An unknown price is resolved by the API's policy and flagged.
///
/// # Errors
/// [`Reason::FieldOutOfBounds`] naming the amount whose cost no money holds.
pub fn cost(view: &WorkspaceView, api: Option<&Api>, usage: &Usage<'_>) -> Result<Costed, EngineError> {
    if let Some(nanos) = usage.explicit_cost {
        let cost = Cost::stated("explicit", nanos, EventFlags::COST_EXPLICIT);
        return Ok(Costed { cost, price: None });
    }
    let (sheet, flags) = sheet_of(view, api, usage);
    let mut cost = match charged(sheet, api, usage) {
        Ok(cost) => cost,
        Err(reason) => {
            refuse_beyond_money(&reason, usage.amounts, |class| format!("tokens.{class}"))?;
            policy(api).resolve(&reason).cost
        }
    };
    cost.flags.insert(flags);
    Ok(Costed { cost, price: sheet.map(|sheet| sheet.reference.clone()) })
}

/// Beyond the input that the rates are for they are still the least that is known of the cost, and
/// are charged unless the API names a default.
fn charged(sheet: Option<&PriceSheet>, api: Option<&Api>, usage: &Usage<'_>) -> Result<Cost, Unpriceable> {
    let Some(sheet) = sheet else { return requests_alone(api, usage.model, usage.amounts) };
    let usage = priced_usage(api, usage);
    match price(sheet, &usage) {
        Err(Unpriceable::InputTooLong { .. })
            if !matches!(policy(api), UnknownPricePolicy::ChargeDefault(_)) =>
        {
            let mut cost = price(&sheet.at_known_rates(), &usage)?;
            cost.flags.insert(EventFlags::PRICE_UNKNOWN);
            Ok(cost)
        }
        priced => priced,
    }
}

fn sheet_of<'v>(
    view: &'v WorkspaceView,
    api: Option<&Api>,
    usage: &Usage<'_>,
) -> (Option<&'v PriceSheet>, EventFlags) {
    let Some(reference) = usage.price else {
        return (view.price(&query(api, usage.model, usage.accounted_at)), EventFlags::default());
    };
    match view.price_version(reference) {
        Some(sheet) => (Some(sheet), EventFlags::default()),
        None => {
            let sheet = view.price(&query(api, usage.model, usage.accounted_at));
            (sheet, EventFlags::PRICE_REFERENCE_UNKNOWN)
        }
    }
}

fn priced_usage<'a>(api: Option<&Api>, usage: &Usage<'a>) -> PricedUsage<'a> {
    PricedUsage {
        tokens: usage.tokens,
        amounts: usage.amounts,
        service_tier: usage.service_tier,
        api_request_price: api.and_then(|api| api.price_per_request),
    }
}

/// An API that charges for requests alone has a price without a model; with a model that nobody
/// lists, what the tokens cost stays unknown.
fn requests_alone(api: Option<&Api>, model: &str, amounts: &Amounts) -> Result<Cost, Unpriceable> {
    let per_request = api.filter(|_| model.is_empty()).and_then(|api| api.price_per_request);
    price_requests(per_request.ok_or(Unpriceable::PriceUnknown)?, amounts)
}

fn query<'a>(api: Option<&Api>, model: &'a str, at: Millis) -> ModelQuery<'a> {
    let provider_hint = api.and_then(|api| match api.dialect {
        Dialect::OpenAi => Some("openai"),
        Dialect::Anthropic => Some("anthropic"),
        Dialect::None => None,
    });
    ModelQuery { model, provider_hint, at }
}

fn policy(api: Option<&Api>) -> UnknownPricePolicy {
    api.map_or(UnknownPricePolicy::default(), |api| api.unknown_price)
}
