//! What rules and budgets share: the calls they mean, and what makes their counters different.

use ipnet::IpNet;
use rateguard_core::ids::{ApiId, KeyId};
use rateguard_core::invalid::Invalid;
use rateguard_core::matching::{Dimension, Glob, Match, OnMissing, Scope};
use rateguard_core::rule::Enforcement;
use rateguard_core::time::{CalendarPeriod, Zone};
use serde::{Deserialize, Serialize};

use super::parse_all;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MatchBody {
    apis: Vec<String>,
    endpoints: Vec<String>,
    methods: Vec<String>,
    models: Vec<String>,
    keys: Vec<String>,
    ip_ranges: Vec<String>,
    subjects: Vec<String>,
    attributes: Vec<(String, String)>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ScopeBody {
    dimensions: Vec<DimensionBody>,
    on_missing: OnMissingBody,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum DimensionBody {
    Key,
    Subject,
    Ip,
    Api,
    Endpoint,
    Model,
    Attribute(String),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum OnMissingBody {
    Shared,
    Skip,
    Deny,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum EnforcementBody {
    Enforced,
    Soft,
    Shadow,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum PeriodBody {
    Hour,
    Day,
    Week,
    Month,
}

pub(super) fn ip_ranges(texts: &[String]) -> Result<Vec<IpNet>, Invalid> {
    parse_all(
        texts,
        |field, text| text.parse().map_err(|_| Invalid::new(field, "is no IP range")),
        "ip_ranges",
    )
}

pub(super) fn zone(name: Option<&str>) -> Result<Option<Zone>, Invalid> {
    name.map(|name| Zone::parse("zone", name)).transpose()
}

impl From<&Match> for MatchBody {
    fn from(matches: &Match) -> Self {
        Self {
            apis: matches.apis.iter().map(ToString::to_string).collect(),
            endpoints: matches.endpoints.iter().map(|glob| glob.as_str().to_owned()).collect(),
            methods: matches.methods.clone(),
            models: matches.models.iter().map(|glob| glob.as_str().to_owned()).collect(),
            keys: matches.keys.iter().map(ToString::to_string).collect(),
            ip_ranges: matches.ip_ranges.iter().map(ToString::to_string).collect(),
            subjects: matches.subjects.clone(),
            attributes: matches.attributes.clone(),
        }
    }
}

impl MatchBody {
    pub(super) fn into_match(self) -> Result<Match, Invalid> {
        Ok(Match {
            apis: parse_all(&self.apis, ApiId::parse, "match.apis")?,
            endpoints: parse_all(&self.endpoints, Glob::parse, "match.endpoints")?,
            methods: self.methods,
            models: parse_all(&self.models, Glob::parse, "match.models")?,
            keys: parse_all(&self.keys, KeyId::parse, "match.keys")?,
            ip_ranges: ip_ranges(&self.ip_ranges)?,
            subjects: self.subjects,
            attributes: self.attributes,
        })
    }
}

impl From<&Scope> for ScopeBody {
    fn from(scope: &Scope) -> Self {
        let on_missing = match scope.on_missing {
            OnMissing::Shared => OnMissingBody::Shared,
            OnMissing::Skip => OnMissingBody::Skip,
            OnMissing::Deny => OnMissingBody::Deny,
        };
        Self { dimensions: scope.dimensions.iter().map(DimensionBody::from).collect(), on_missing }
    }
}

impl From<ScopeBody> for Scope {
    fn from(body: ScopeBody) -> Self {
        let on_missing = match body.on_missing {
            OnMissingBody::Shared => OnMissing::Shared,
            OnMissingBody::Skip => OnMissing::Skip,
            OnMissingBody::Deny => OnMissing::Deny,
        };
        Self { dimensions: body.dimensions.into_iter().map(Dimension::from).collect(), on_missing }
    }
}

impl From<&Dimension> for DimensionBody {
    fn from(dimension: &Dimension) -> Self {
        match dimension {
            Dimension::Key => Self::Key,
            Dimension::Subject => Self::Subject,
            Dimension::Ip => Self::Ip,
            Dimension::Api => Self::Api,
            Dimension::Endpoint => Self::Endpoint,
            Dimension::Model => Self::Model,
            Dimension::Attribute(name) => Self::Attribute(name.as_ref().to_owned()),
        }
    }
}

impl From<DimensionBody> for Dimension {
    fn from(body: DimensionBody) -> Self {
        match body {
            DimensionBody::Key => Self::Key,
            DimensionBody::Subject => Self::Subject,
            DimensionBody::Ip => Self::Ip,
            DimensionBody::Api => Self::Api,
            DimensionBody::Endpoint => Self::Endpoint,
            DimensionBody::Model => Self::Model,
            DimensionBody::Attribute(name) => Self::Attribute(name.into()),
        }
    }
}

impl From<Enforcement> for EnforcementBody {
    fn from(enforcement: Enforcement) -> Self {
        match enforcement {
            Enforcement::Enforced => Self::Enforced,
            Enforcement::Soft => Self::Soft,
            Enforcement::Shadow => Self::Shadow,
        }
    }
}

impl From<EnforcementBody> for Enforcement {
    fn from(body: EnforcementBody) -> Self {
        match body {
            EnforcementBody::Enforced => Self::Enforced,
            EnforcementBody::Soft => Self::Soft,
            EnforcementBody::Shadow => Self::Shadow,
        }
    }
}

impl From<CalendarPeriod> for PeriodBody {
    fn from(period: CalendarPeriod) -> Self {
        match period {
            CalendarPeriod::Hour => Self::Hour,
            CalendarPeriod::Day => Self::Day,
            CalendarPeriod::Week => Self::Week,
            CalendarPeriod::Month => Self::Month,
        }
    }
}

impl From<PeriodBody> for CalendarPeriod {
    fn from(body: PeriodBody) -> Self {
        match body {
            PeriodBody::Hour => Self::Hour,
            PeriodBody::Day => Self::Day,
            PeriodBody::Week => Self::Week,
            PeriodBody::Month => Self::Month,
        }
    }
}
