//! Rules and budgets in the file.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::values::{Decimal, Length};
use super::{is_default, is_yes, yes};

/// Which calls a rule or a budget applies to: those that fit every list that is given.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Match {
    /// Slugs of APIs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub apis: Vec<String>,
    /// Globs of endpoints, such as /v1/**.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<String>,
    /// Methods; case does not count.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// Globs of models, such as gpt-*.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<String>,
    /// Names of keys.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<String>,
    /// Ranges of the end user's address in CIDR notation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ip_ranges: Vec<String>,
    /// Subjects.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subjects: Vec<String>,
    /// Attributes that must all have exactly these values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
}

/// A fact of a call that counters are kept apart by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// The key.
    Key,
    /// The subject.
    Subject,
    /// The end user's address; IPv6 by /64.
    Ip,
    /// The API.
    Api,
    /// The endpoint.
    Endpoint,
    /// The model.
    Model,
    /// The value of the attribute of this name.
    Attribute(String),
}

/// What becomes of a call that lacks a value of the scope.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnMissing {
    /// It counts on one counter shared by all such calls.
    #[default]
    Shared,
    /// The limit does not apply to it.
    Skip,
    /// The limit denies it.
    Deny,
}

/// One limit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Name by which the rule is known here.
    pub name: String,
    /// Which calls it applies to. Default: all.
    #[serde(default, rename = "match", skip_serializing_if = "Option::is_none")]
    pub matches: Option<Match>,
    /// What counters are kept apart by. Default: one counter for the workspace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scope: Vec<Scope>,
    /// What becomes of calls that lack a value of the scope. Default shared.
    #[serde(default, skip_serializing_if = "is_default")]
    pub on_missing: OnMissing,
    /// What is counted: requests, tokens, cost, or a unit of your own. Default requests.
    #[serde(default = "requests", skip_serializing_if = "is_requests")]
    pub unit: String,
    /// How it is counted.
    pub algorithm: Algorithm,
    /// Whether it decides. Default enforced.
    #[serde(default, skip_serializing_if = "is_default")]
    pub mode: RuleMode,
    /// Picks the winner of an override group, the highest first. Default 0.
    #[serde(default, skip_serializing_if = "is_default")]
    pub priority: i32,
    /// Of the matching rules of one group only the first by priority applies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub override_group: Option<String>,
    /// Where decisions are taken. Default strict.
    #[serde(default, skip_serializing_if = "is_default")]
    pub consistency: Consistency,
    /// What it answers while the shared counters do not. Default open.
    #[serde(default, skip_serializing_if = "is_default")]
    pub failure_policy: FailurePolicy,
    /// Whether amounts of denied checks are counted all the same, as debt. Default false.
    #[serde(default, skip_serializing_if = "is_default")]
    pub counts_denied: bool,
    /// Whether the counters of different subjects may stand on different servers of a Redis Cluster; the scope must
    /// have the subject. Default false.
    #[serde(default, skip_serializing_if = "is_default")]
    pub spread_by_subject: bool,
    /// Other amounts for single keys and subjects.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<Override>,
    /// Whether it applies at all. Default true.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub active: bool,
}

/// Another amount for one key or subject, on the counters of the rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Override {
    /// Whose calls. Of a call that two mean the subject's holds.
    pub whose: Whose,
    /// How much, of the rule's own algorithm.
    pub amount: Amount,
}

/// Whose calls have another amount.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Whose {
    /// Those of the key of this name.
    Key(String),
    /// Those of this subject.
    Subject(String),
}

/// What takes the place of a rule's amount.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Amount {
    /// Another limit of the window, or of calls at the same time.
    Limit(i64),
    /// Another bucket.
    TokenBucket(TokenBucket),
    /// None: the rule does not apply to such calls.
    Unlimited,
}

/// What a rule answers while the shared counters do not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FailurePolicy {
    /// It allows.
    #[default]
    Open,
    /// It denies.
    Closed,
    /// A part of the limit is kept back, and each of so many replicas allows an equal share of it.
    Local(LocalShare),
}

/// What a rule keeps back for the time in which the shared counters are away.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LocalShare {
    /// The part of the limit, 1 to 99 percent.
    pub share_percent: i32,
    /// Replicas that share it, 1 to 1,000.
    pub replicas_max: i32,
}

/// How a rule counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Algorithm {
    /// A bucket that refills all the time.
    TokenBucket(TokenBucket),
    /// Windows of one length, laid side by side.
    FixedWindow(Window),
    /// A window that ends now, wherever now is.
    SlidingWindow(Window),
    /// Windows by the calendar.
    CalendarWindow(CalendarWindow),
    /// Calls at the same time.
    Concurrency(Concurrency),
}

/// Calls at the same time: each holds its amount from its reservation on until that ends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Concurrency {
    /// The most that is held at once.
    pub limit: i64,
}

/// A bucket that refills all the time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenBucket {
    /// The most it holds.
    pub capacity: i64,
    /// How much is refilled in the time that `per` says.
    pub refill: i64,
    /// In which time.
    pub per: Length,
}

/// A window of a length.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// The most that it admits. Of the unit cost: nano-units of the currency.
    pub limit: i64,
    /// Its length, 100ms to 366d.
    pub window: Length,
}

/// A window by the calendar.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CalendarWindow {
    /// The most that each period admits.
    pub limit: i64,
    /// Which period.
    pub period: Period,
    /// IANA name of the time zone. Default: the workspace's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
}

/// A period of the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Period {
    /// From one full hour to the next.
    Hour,
    /// From one midnight to the next.
    Day,
    /// From Monday to Monday.
    Week,
    /// From the first of one month to the first of the next.
    Month,
}

/// Whether a rule decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RuleMode {
    /// It decides.
    #[default]
    Enforced,
    /// It counts and says what it would have decided.
    Shadow,
}

/// Where a rule's decisions are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Consistency {
    /// Each by the counters that all replicas share.
    #[default]
    Strict,
    /// By units that a replica has taken in advance.
    Leased,
}

/// A limit in money.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Name by which the budget is known here.
    pub name: String,
    /// Which calls it applies to. Default: all.
    #[serde(default, rename = "match", skip_serializing_if = "Option::is_none")]
    pub matches: Option<Match>,
    /// What counters are kept apart by, each with the whole amount. Default: one counter for the workspace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scope: Vec<Scope>,
    /// The most that may be spent in a period, or at all if it is prepaid.
    pub amount: Decimal,
    /// When it begins anew.
    pub period: BudgetPeriod,
    /// IANA name of the time zone. Default: the workspace's. Not with prepaid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// What it does when it is exhausted. Default hard.
    #[serde(default, skip_serializing_if = "is_default")]
    pub enforcement: Enforcement,
    /// Whether it applies at all. Default true.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub active: bool,
}

/// When a budget begins anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BudgetPeriod {
    /// With each day.
    Day,
    /// With each week.
    Week,
    /// With each month.
    Month,
    /// Never; it is topped up by raising its amount.
    Prepaid,
}

/// What a budget does when it is exhausted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Enforcement {
    /// Calls are denied.
    #[default]
    Hard,
    /// Calls pass and answers say that it is exhausted.
    Soft,
    /// Calls pass; only the report says what it would have decided.
    Shadow,
}

/// The unit of a rule that names none.
pub fn requests() -> String {
    "requests".to_owned()
}

fn is_requests(unit: &String) -> bool {
    *unit == requests()
}
