//! A rule's row.

mod overrides;

use rateguard_core::counter::Refill;
use rateguard_core::ids::{DisplayName, RuleId};
use rateguard_core::invalid::Invalid;
use rateguard_core::rule::{Algorithm, Consistency, FailurePolicy, Rule, RulePolicies};
use rateguard_core::time::Millis;
use rateguard_core::unit::Unit;
use serde::{Deserialize, Serialize};

use self::overrides::OverrideBody;
use super::limit::{EnforcementBody, MatchBody, PeriodBody, ScopeBody, zone};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RuleBody {
    name: String,
    matches: MatchBody,
    scope: ScopeBody,
    unit: String,
    algorithm: AlgorithmBody,
    enforcement: EnforcementBody,
    priority: i32,
    override_group: Option<String>,
    /// Left out where nothing is set, as in rules from before there were any: a version that does not know
    /// them reads the others.
    #[serde(default, skip_serializing_if = "is_default")]
    policies: PoliciesBody,
    /// The same.
    #[serde(default)]
    overrides: Vec<OverrideBody>,
    /// The same.
    #[serde(default)]
    last_reset_ms: Option<i64>,
    active: bool,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[derive(Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct PoliciesBody {
    leased: bool,
    failure: FailureBody,
    counts_denied: bool,
    /// Left out where it is not so, as before there was any.
    #[serde(skip_serializing_if = "is_default")]
    spread_by_subject: bool,
}

#[derive(Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum FailureBody {
    #[default]
    Open,
    Closed,
    Local {
        share_percent: u8,
        replicas_max: u16,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum AlgorithmBody {
    TokenBucket { capacity: i64, refill_units: i64, refill_period_ms: i64 },
    FixedWindow { limit: i64, window_ms: i64 },
    SlidingWindow { limit: i64, window_ms: i64 },
    CalendarWindow { limit: i64, period: PeriodBody, zone: Option<String> },
    Concurrency { limit: i64 },
}

impl From<&Rule> for RuleBody {
    fn from(rule: &Rule) -> Self {
        Self {
            name: rule.name.as_str().to_owned(),
            matches: MatchBody::from(&rule.matches),
            scope: ScopeBody::from(&rule.scope),
            unit: rule.unit.as_str().to_owned(),
            algorithm: AlgorithmBody::from(&rule.algorithm),
            enforcement: rule.enforcement.into(),
            priority: rule.priority,
            override_group: rule.override_group.clone(),
            policies: rule.policies.into(),
            overrides: rule.overrides.iter().map(OverrideBody::from).collect(),
            last_reset_ms: rule.last_reset_at.map(Millis::get),
            active: rule.active,
        }
    }
}

impl RuleBody {
    pub(super) fn into_rule(self, id: &str) -> Result<Rule, Invalid> {
        Ok(Rule {
            id: RuleId::parse("id", id)?,
            name: DisplayName::parse("name", &self.name)?,
            matches: self.matches.into_match()?,
            scope: self.scope.into(),
            unit: Unit::parse("unit", &self.unit)?,
            algorithm: self.algorithm.into_algorithm()?,
            enforcement: self.enforcement.into(),
            priority: self.priority,
            override_group: self.override_group,
            policies: self.policies.into(),
            overrides: self
                .overrides
                .into_iter()
                .map(OverrideBody::into_override)
                .collect::<Result<_, _>>()?,
            last_reset_at: self.last_reset_ms.map(Millis::new),
            active: self.active,
        })
    }
}

impl From<RulePolicies> for PoliciesBody {
    fn from(policies: RulePolicies) -> Self {
        let failure = match policies.failure {
            FailurePolicy::Open => FailureBody::Open,
            FailurePolicy::Closed => FailureBody::Closed,
            FailurePolicy::Local { share_percent, replicas_max } => {
                FailureBody::Local { share_percent, replicas_max }
            }
        };
        let leased = policies.consistency == Consistency::Leased;
        let RulePolicies { counts_denied, spread_by_subject, .. } = policies;
        Self { leased, failure, counts_denied, spread_by_subject }
    }
}

impl From<PoliciesBody> for RulePolicies {
    fn from(body: PoliciesBody) -> Self {
        let failure = match body.failure {
            FailureBody::Open => FailurePolicy::Open,
            FailureBody::Closed => FailurePolicy::Closed,
            FailureBody::Local { share_percent, replicas_max } => {
                FailurePolicy::Local { share_percent, replicas_max }
            }
        };
        let consistency = if body.leased { Consistency::Leased } else { Consistency::Strict };
        let PoliciesBody { counts_denied, spread_by_subject, .. } = body;
        Self { consistency, failure, counts_denied, spread_by_subject }
    }
}

impl From<&Algorithm> for AlgorithmBody {
    fn from(algorithm: &Algorithm) -> Self {
        match algorithm {
            Algorithm::TokenBucket { capacity, refill } => Self::TokenBucket {
                capacity: *capacity,
                refill_units: refill.units(),
                refill_period_ms: refill.period_ms(),
            },
            Algorithm::FixedWindow { limit, window_ms } => {
                Self::FixedWindow { limit: *limit, window_ms: *window_ms }
            }
            Algorithm::SlidingWindow { limit, window_ms } => {
                Self::SlidingWindow { limit: *limit, window_ms: *window_ms }
            }
            Algorithm::CalendarWindow { limit, period, zone } => Self::CalendarWindow {
                limit: *limit,
                period: (*period).into(),
                zone: zone.as_ref().map(|zone| zone.name().to_owned()),
            },
            Algorithm::Concurrency { limit } => Self::Concurrency { limit: *limit },
        }
    }
}

impl AlgorithmBody {
    fn into_algorithm(self) -> Result<Algorithm, Invalid> {
        Ok(match self {
            Self::TokenBucket { capacity, refill_units, refill_period_ms } => Algorithm::TokenBucket {
                capacity,
                refill: Refill::new(refill_units, refill_period_ms, capacity)?,
            },
            Self::FixedWindow { limit, window_ms } => Algorithm::FixedWindow { limit, window_ms },
            Self::SlidingWindow { limit, window_ms } => Algorithm::SlidingWindow { limit, window_ms },
            Self::CalendarWindow { limit, period, zone: name } => {
                Algorithm::CalendarWindow { limit, period: period.into(), zone: zone(name.as_deref())? }
            }
            Self::Concurrency { limit } => Algorithm::Concurrency { limit },
        })
    }
}
