//! The shape of the file. What is left out has its default, and is left out when it is written.
//!
//! The comments become descriptions in the schema that editors show.

mod limits;

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use limits::{
    Algorithm, Amount, Budget, BudgetPeriod, CalendarWindow, Concurrency, Consistency, Enforcement,
    FailurePolicy, LocalShare, Match, OnMissing, Override, Period, Rule, RuleMode, Scope, TokenBucket, Whose,
    Window, requests,
};

use super::values::{Decimal, Length};

/// The version of the format that is written, and the only one that is read.
pub const VERSION: u32 = 1;

/// A workspace of RateGuard as a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// Version of this format: 1.
    pub version: u32,
    /// The workspace that it is for.
    pub workspace: Facts,
    /// Upstream APIs that calls are limited, priced and forwarded for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub apis: Vec<Api>,
    /// API keys, without what opens them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<Key>,
    /// Limits in requests, tokens and other units.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
    /// Limits in money.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub budgets: Vec<Budget>,
    /// Prices of models that go before the catalogue's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prices: Vec<Price>,
}

/// What a file must fit: neither can be changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// ISO 4217 code of the workspace's currency; all money here is in it.
    pub currency: String,
    /// IANA name of the workspace's time zone. Left out: whatever it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
}

/// An upstream API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Api {
    /// Name in paths and requests, and by which the API is known here: [a-z][a-z0-9-]*, at most 64.
    pub slug: String,
    /// Name for people. Default: the slug.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// Where the gateway forwards to. Default: nowhere, the API is only checked and reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_url: Option<String>,
    /// Whose wire format it speaks. Default none.
    #[serde(default, skip_serializing_if = "is_default")]
    pub dialect: Dialect,
    /// How the credential is shown to the upstream. Default none.
    #[serde(default, skip_serializing_if = "is_default")]
    pub auth: Auth,
    /// The upstream's credential: where it is, never what it is. Left out: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<Credential>,
    /// How long the gateway waits for the upstream, 1s to 1h. Default 10m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Length>,
    /// Whether the upstream may be on a private network. Default false.
    #[serde(default, skip_serializing_if = "is_default")]
    pub allow_private_upstream: bool,
    /// What happens where no price is known. Default allow_and_flag.
    #[serde(default, skip_serializing_if = "is_default")]
    pub unknown_price: UnknownPrice,
    /// Price of one request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price_per_request: Option<Decimal>,
    /// Output tokens that a call is taken to make where it names no maximum. Default 4096.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_max_output_tokens: Option<i64>,
    /// Whether the gateway tells callers what their calls cost. Default false.
    #[serde(default, skip_serializing_if = "is_default")]
    pub show_spend: bool,
    /// Whether calls may go ahead. Default true.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub active: bool,
}

/// Whose wire format an API speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    /// Nothing is read from bodies.
    #[default]
    None,
    /// OpenAI chat completions.
    Openai,
    /// Anthropic messages.
    Anthropic,
}

/// How a credential is shown to the upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Auth {
    /// Not at all.
    #[default]
    None,
    /// As `Authorization: Bearer`.
    Bearer,
    /// As `Authorization: Basic`; the credential is user:password.
    Basic,
    /// In the header of this name.
    Header(String),
    /// In the query parameter of this name.
    Query(String),
}

/// Where a credential is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Credential {
    /// Where it is stored: it stays what it is, and there must be one.
    Stored,
    /// In the environment variable of this name, read when the file is applied.
    Env(String),
    /// In this file, read when the file is applied; relative to where the command runs.
    File(String),
}

/// What happens where no price is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UnknownPrice {
    /// Checks are refused.
    Deny,
    /// So much is charged.
    ChargeDefault(Decimal),
    /// The call passes without cost and is flagged.
    #[default]
    AllowAndFlag,
}

/// An API key. One that does not exist yet is made, and shown once by the command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// Name by which the key is known here.
    pub name: String,
    /// Live or test; cannot change. Default live.
    #[serde(default, skip_serializing_if = "is_default")]
    pub label: KeyLabel,
    /// What it may do, at least one.
    pub scopes: Vec<KeyScope>,
    /// Slugs of the APIs that it may call. Default: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub apis: Vec<String>,
    /// Globs of the models that it may ask for. Default: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<String>,
    /// Where it may be used from, in CIDR notation. Default: anywhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ip_ranges: Vec<String>,
    /// The one subject that its calls are charged to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound_subject: Option<String>,
    /// Whether calls through the gateway may name their subject. Default false.
    #[serde(default, skip_serializing_if = "is_default")]
    pub allow_subject_header: bool,
    /// From when on it opens nothing, such as 2027-01-01T00:00:00Z. Default: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub expires: Option<Timestamp>,
    /// Whether it opens anything. Default true.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub active: bool,
}

/// A label that shows in a key's first characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeyLabel {
    /// rg_live_…
    #[default]
    Live,
    /// rg_test_…
    Test,
}

/// What a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeyScope {
    /// Check quota.
    Quota,
    /// Report usage.
    Usage,
    /// Call through the gateway.
    Gateway,
    /// Read and change the workspace.
    Manage,
    /// Read everything.
    Read,
}

/// What a model costs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// Who offers the model, such as openai.
    pub provider: String,
    /// The model, such as gpt-4o-mini. Provider, model and effective_from are the name of the price.
    pub model: String,
    /// Since when it is in force, such as 2027-01-01T00:00:00Z: until the model's next price begins. Default:
    /// as it is stored, where the model has one price that no other entry names, and from now on where it
    /// has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub effective_from: Option<Timestamp>,
    /// Money for 1,000,000 tokens by class. A class that is left out costs what the one that contains it
    /// costs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_million_tokens: Option<TokenRates>,
    /// Money for one request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_request: Option<Decimal>,
    /// Money for one of a unit by its name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub per_unit: BTreeMap<String, Decimal>,
    /// The most input tokens that the model takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_input_tokens: Option<i64>,
    /// The most output tokens that the model makes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output_tokens: Option<i64>,
    /// The most input tokens that the rates are for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_priced_input_tokens: Option<i64>,
}

/// Money for 1,000,000 tokens by class.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenRates {
    /// Input tokens that no other class prices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Decimal>,
    /// Input tokens read from the upstream's prompt cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_input: Option<Decimal>,
    /// Input tokens written to the prompt cache for five minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write_5m: Option<Decimal>,
    /// Input tokens written to the prompt cache for one hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write_1h: Option<Decimal>,
    /// Output tokens that no other class prices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Decimal>,
    /// Output tokens spent on reasoning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<Decimal>,
    /// Audio input tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audio_input: Option<Decimal>,
    /// Audio output tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audio_output: Option<Decimal>,
}

fn yes() -> bool {
    true
}

fn is_yes(value: &bool) -> bool {
    *value
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
