//! The sum of a call's components, kept exact until it is closed.

use crate::amounts::Amounts;
use crate::money::{Nanos, Picos, Price};
use crate::unit::Unit;
use crate::usage::{CostComponent, EventFlags, TokenCounts};

use super::{Cost, PriceSheet, TokenRates, Unpriceable};

/// The one component of a cost that is stated as a whole; none of a cost of zero.
pub(super) fn stated(name: &str, total: Nanos) -> Option<CostComponent> {
    let amount = total.get();
    (amount != 0).then(|| CostComponent {
        name: name.to_owned(),
        amount,
        price: Price::NANO,
        cost: Price::NANO.times(amount),
    })
}

/// Components that add up.
#[derive(Debug, Default)]
pub(super) struct Bill {
    components: Vec<CostComponent>,
    sum: Picos,
    flags: EventFlags,
}

impl Bill {
    /// Adds the tokens, input and output.
    pub(super) fn add_tokens(&mut self, sheet: &PriceSheet, tokens: &TokenCounts) -> Result<(), Unpriceable> {
        let rates = &sheet.token_rates;
        let input_parts = [
            Part::new("cached_input", tokens.cached_input, PartRate::or_whole(rates.cached_input)),
            Part::new("cache_write_5m", tokens.cache_write_5m, PartRate::or_whole(rates.cache_write_5m)),
            Part::new("cache_write_1h", tokens.cache_write_1h, cache_write_1h(rates)),
            Part::new("audio_input", tokens.audio_input, PartRate::or_whole(rates.audio_input)),
        ];
        let output_parts = [
            Part::new("reasoning", tokens.reasoning, PartRate::or_whole(rates.reasoning)),
            Part::new("audio_output", tokens.audio_output, PartRate::or_whole(rates.audio_output)),
        ];
        let input = Whole::new("input_total", tokens.input_total, rates.input, &input_parts);
        sheet.check_input(input.size())?;
        self.add_whole(&input)?;
        self.add_whole(&Whole::new("output", tokens.output, rates.output, &output_parts))
    }

    /// Adds the units that the sheet prices, as far as their amounts are known.
    pub(super) fn add_units(&mut self, sheet: &PriceSheet, amounts: &Amounts) -> Result<(), Unpriceable> {
        for (unit, price) in &sheet.per_unit {
            self.add(unit.as_str(), amounts.get(unit).unwrap_or(0), *price)?;
        }
        Ok(())
    }

    /// Adds the requests: one unless the amounts say otherwise.
    pub(super) fn add_requests(
        &mut self,
        price: Option<Price>,
        amounts: &Amounts,
    ) -> Result<(), Unpriceable> {
        let Some(price) = price else { return Ok(()) };
        self.add(Unit::Requests.as_str(), amounts.get(&Unit::Requests).unwrap_or(1), price)
    }

    /// Adds a component; nothing where the amount is zero.
    pub(super) fn add(&mut self, name: &str, amount: i64, price: Price) -> Result<(), Unpriceable> {
        if amount == 0 {
            return Ok(());
        }
        let cost = price.times(amount);
        let beyond = || Unpriceable::CostOutOfRange { component: name.to_owned() };
        self.sum = self.sum.checked_add(cost).ok_or_else(beyond)?;
        self.components.push(CostComponent { name: name.to_owned(), amount, price, cost });
        Ok(())
    }

    /// Rounds the sum up, once.
    pub(super) fn close(self) -> Result<Cost, Unpriceable> {
        let Ok(total) = self.sum.round_up("cost") else {
            let dearest = self.components.into_iter().max_by_key(|part| part.cost);
            let component = dearest.map(|part| part.name).unwrap_or_default();
            return Err(Unpriceable::CostOutOfRange { component });
        };
        Ok(Cost { total, components: self.components, flags: self.flags })
    }

    fn add_whole(&mut self, whole: &Whole<'_>) -> Result<(), Unpriceable> {
        if whole.parts_exceed() {
            self.flags.insert(EventFlags::PARTS_EXCEED_TOTAL);
        }
        let rest = whole.at_own_rate();
        if rest > 0 {
            self.add(whole.name, rest, whole.rate.ok_or(Unpriceable::RateMissing { class: whole.name })?)?;
        }
        for part in whole.parts {
            match part.rate {
                PartRate::Own(price) => self.add(part.name, part.amount, price)?,
                PartRate::Unknown if part.amount > 0 => {
                    return Err(Unpriceable::RateMissing { class: part.name });
                }
                PartRate::Unknown | PartRate::Whole => {}
            }
        }
        Ok(())
    }
}

/// What a part of a whole costs.
#[derive(Clone, Copy, Debug)]
enum PartRate {
    /// A rate of its own.
    Own(Price),
    /// The whole's rate.
    Whole,
    /// Nobody knows.
    Unknown,
}

impl PartRate {
    fn or_whole(rate: Option<Price>) -> Self {
        rate.map_or(Self::Whole, Self::Own)
    }
}

/// See [`TokenRates`] for the exception.
fn cache_write_1h(rates: &TokenRates) -> PartRate {
    match (rates.cache_write_1h, rates.cache_write_5m) {
        (Some(price), _) => PartRate::Own(price),
        (None, Some(_)) => PartRate::Unknown,
        (None, None) => PartRate::Whole,
    }
}

/// Tokens of a class within a whole; absent counts as none.
#[derive(Debug)]
struct Part {
    name: &'static str,
    amount: i64,
    rate: PartRate,
}

impl Part {
    fn new(name: &'static str, amount: Option<i64>, rate: PartRate) -> Self {
        Self { name, amount: amount.unwrap_or(0), rate }
    }
}

/// All input or all output, with the parts that it contains.
#[derive(Debug)]
struct Whole<'a> {
    name: &'static str,
    total: Option<i64>,
    rate: Option<Price>,
    parts: &'a [Part],
}

impl<'a> Whole<'a> {
    fn new(name: &'static str, total: Option<i64>, rate: Option<Price>, parts: &'a [Part]) -> Self {
        Self { name, total, rate, parts }
    }

    /// How large it is by what is known.
    fn size(&self) -> i64 {
        self.total.unwrap_or_else(|| self.sum_of_parts(|_| true))
    }

    fn parts_exceed(&self) -> bool {
        self.sum_of_parts(|_| true) > self.size()
    }

    /// What no part has another rate for: the parts without one, and what is in no part.
    fn at_own_rate(&self) -> i64 {
        let in_no_part = self.size().saturating_sub(self.sum_of_parts(|_| true)).max(0);
        in_no_part.saturating_add(self.sum_of_parts(|rate| matches!(rate, PartRate::Whole)))
    }

    fn sum_of_parts(&self, include: impl Fn(PartRate) -> bool) -> i64 {
        let amounts = self.parts.iter().filter(|part| include(part.rate)).map(|part| part.amount);
        amounts.fold(0, i64::saturating_add)
    }
}
