//! What an event holds beyond its columns, as JSON. What is absent or has its usual value is left
//! out.

use rateguard_core::amounts::Amounts;
use rateguard_core::counter::CounterId;
use rateguard_core::ids::{EventId, PriceId};
use rateguard_core::invalid::Invalid;
use rateguard_core::money::{Picos, Price};
use rateguard_core::unit::Unit;
use rateguard_core::usage::{CostComponent, Exactness, PriceRef, TokenCounts, UsageEvent};
use rateguard_engine::ports::StoreError;
use serde::{Deserialize, Serialize};

use super::corrupt;

/// The shape written now. A reader knows this one and those before it.
pub(super) const DETAILS_VERSION: i64 = 1;

/// The rest of an event. Names are short, since they stand in every row.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Details {
    /// The API as the caller named it.
    #[serde(rename = "api", skip_serializing_if = "String::is_empty")]
    pub api_name: String,
    #[serde(rename = "tier", skip_serializing_if = "String::is_empty")]
    pub service_tier: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip: Option<std::net::IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    corrects: Option<String>,
    /// Whether more records of the attempt's reservation may come.
    #[serde(rename = "open", skip_serializing_if = "is_false")]
    pub is_open: bool,
    #[serde(rename = "upstream_ms", skip_serializing_if = "Option::is_none")]
    pub upstream_latency_ms: Option<i64>,
    #[serde(rename = "in", skip_serializing_if = "Option::is_none")]
    pub bytes_in: Option<i64>,
    #[serde(rename = "out", skip_serializing_if = "Option::is_none")]
    pub bytes_out: Option<i64>,
    #[serde(skip_serializing_if = "OtherTokens::is_empty")]
    tokens: OtherTokens,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    amounts: Vec<(String, i64)>,
    #[serde(rename = "consumed", skip_serializing_if = "Vec::is_empty")]
    already_consumed: Vec<String>,
    #[serde(rename = "labels", skip_serializing_if = "Vec::is_empty")]
    pub dimensions: Vec<(String, String)>,
    #[serde(rename = "exact", skip_serializing_if = "StoredExactness::is_exact")]
    exactness: StoredExactness,
    #[serde(rename = "parts", skip_serializing_if = "Vec::is_empty")]
    components: Vec<Component>,
    #[serde(skip_serializing_if = "Option::is_none")]
    price: Option<(String, u32)>,
    /// Counters' ids in hexadecimal.
    #[serde(rename = "budgets", skip_serializing_if = "Vec::is_empty")]
    captured_budgets: Vec<String>,
}

/// Token counts that have no column.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct OtherTokens {
    #[serde(skip_serializing_if = "Option::is_none")]
    write_5m: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    write_1h: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    audio_in: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    audio_out: Option<i64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum StoredExactness {
    #[default]
    Exact,
    Estimated,
    Partial,
}

/// Name, amount, price in pico-units, cost in pico-units as text: it may pass 64 bits.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Component(String, i64, i64, String);

/// The parts of an event that need checking when they are read.
pub(super) struct Checked {
    pub corrects: Option<EventId>,
    pub amounts: Amounts,
    pub already_consumed: Vec<Unit>,
    pub exactness: Exactness,
    pub components: Vec<CostComponent>,
    pub price: Option<PriceRef>,
    pub captured_budgets: Vec<CounterId>,
}

impl Details {
    /// The rest of an event.
    fn of(event: &UsageEvent) -> Self {
        Self {
            api_name: event.call.api_name.clone(),
            service_tier: event.call.service_tier.clone(),
            ip: event.ip,
            corrects: event.corrects.as_ref().map(|id| id.as_str().to_owned()),
            is_open: !event.is_final,
            upstream_latency_ms: event.outcome.upstream_latency_ms,
            bytes_in: event.outcome.bytes_in,
            bytes_out: event.outcome.bytes_out,
            tokens: OtherTokens::of(&event.tokens),
            amounts: event.amounts.iter().map(|(unit, amount)| (unit.as_str().to_owned(), *amount)).collect(),
            already_consumed: event.already_consumed.iter().map(|unit| unit.as_str().to_owned()).collect(),
            dimensions: event.dimensions.clone(),
            exactness: StoredExactness::of(event.exactness),
            components: event.components.iter().map(Component::of).collect(),
            price: event.price.as_ref().map(|price| (price.id.as_str().to_owned(), price.version)),
            captured_budgets: event.captured_budgets.iter().map(|id| format!("{:032x}", id.0)).collect(),
        }
    }

    /// Writes them.
    pub fn write(event: &UsageEvent) -> Result<String, StoreError> {
        // Maps of text and numbers always have a JSON form; were it to fail, nothing is written.
        serde_json::to_string(&Self::of(event)).map_err(|error| corrupt(format!("event details: {error}")))
    }

    /// Reads them.
    pub fn read(version: i64, json: &str) -> Result<Self, StoreError> {
        if version != DETAILS_VERSION {
            return Err(corrupt(format!(
                "event details of version {version}; start the version that wrote them"
            )));
        }
        serde_json::from_str(json).map_err(|error| corrupt(format!("event details: {error}")))
    }

    /// The counts that have no column, beside which the others go.
    pub fn other_tokens(&self) -> TokenCounts {
        TokenCounts {
            cache_write_5m: self.tokens.write_5m,
            cache_write_1h: self.tokens.write_1h,
            reasoning: self.tokens.reasoning,
            audio_input: self.tokens.audio_in,
            audio_output: self.tokens.audio_out,
            ..TokenCounts::default()
        }
    }

    /// The parts that were validated when the event was made.
    pub fn checked(&self) -> Result<Checked, Invalid> {
        Ok(Checked {
            corrects: self.corrects.as_deref().map(|id| EventId::parse("corrects", id)).transpose()?,
            amounts: amounts(&self.amounts)?,
            already_consumed: self
                .already_consumed
                .iter()
                .map(|unit| Unit::parse("consumed", unit))
                .collect::<Result<_, _>>()?,
            exactness: self.exactness.into_core(),
            components: self.components.iter().map(Component::to_core).collect::<Result<_, _>>()?,
            price: self.price.as_ref().map(price).transpose()?,
            captured_budgets: self
                .captured_budgets
                .iter()
                .map(|id| counter_id(id))
                .collect::<Result<_, _>>()?,
        })
    }
}

impl OtherTokens {
    fn of(tokens: &TokenCounts) -> Self {
        Self {
            write_5m: tokens.cache_write_5m,
            write_1h: tokens.cache_write_1h,
            reasoning: tokens.reasoning,
            audio_in: tokens.audio_input,
            audio_out: tokens.audio_output,
        }
    }

    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl StoredExactness {
    fn of(exactness: Exactness) -> Self {
        match exactness {
            Exactness::Exact => Self::Exact,
            Exactness::Estimated => Self::Estimated,
            Exactness::Partial => Self::Partial,
        }
    }

    fn into_core(self) -> Exactness {
        match self {
            Self::Exact => Exactness::Exact,
            Self::Estimated => Exactness::Estimated,
            Self::Partial => Exactness::Partial,
        }
    }

    fn is_exact(&self) -> bool {
        *self == Self::Exact
    }
}

impl Component {
    fn of(component: &CostComponent) -> Self {
        let cost = component.cost.get().to_string();
        Self(component.name.clone(), component.amount, component.price.picos(), cost)
    }

    fn to_core(&self) -> Result<CostComponent, Invalid> {
        let Self(name, amount, price, cost) = self;
        let cost = cost.parse().map_err(|_| Invalid::new("parts", "must have a whole cost"))?;
        let price = Price::parse_picos("parts", *price)?;
        Ok(CostComponent { name: name.clone(), amount: *amount, price, cost: Picos::new(cost) })
    }
}

fn amounts(stored: &[(String, i64)]) -> Result<Amounts, Invalid> {
    let mut amounts = Amounts::default();
    for (unit, amount) in stored {
        amounts.insert("amounts", Unit::parse("amounts", unit)?, *amount)?;
    }
    Ok(amounts)
}

fn price((id, version): &(String, u32)) -> Result<PriceRef, Invalid> {
    Ok(PriceRef { id: PriceId::parse("price", id)?, version: *version })
}

fn counter_id(hex: &str) -> Result<CounterId, Invalid> {
    u128::from_str_radix(hex, 16)
        .map(CounterId)
        .map_err(|_| Invalid::new("budgets", "must be hexadecimal numbers of 128 bits"))
}

fn is_false(flag: &bool) -> bool {
    !flag
}
