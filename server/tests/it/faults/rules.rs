//! The rules under test: each counts the calls of a subject of its own.

use std::fmt;

use rateguard_proto::v1;

use crate::clients::Clients;

/// The windows' length: three edges fit into a round, and a fault lasts for a good part of one.
pub const WINDOW_MS: i64 = 8_000;
/// What a window admits, in units.
pub const LIMIT: i64 = 1_600;
/// Units that each call asks for.
pub const AMOUNT: i64 = 8;
/// What a rule with a local share keeps back for bad times: so little that a good window still admits
/// 95 percent.
const LOCAL_SHARE_PERCENT: i32 = 4;
/// Replicas that share it.
pub const REPLICAS: usize = 3;

/// One rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kind {
    pub leased: bool,
    pub policy: Policy,
}

/// What it answers while the counters do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Policy {
    Open,
    Closed,
    Local,
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let consistency = if self.leased { "leased" } else { "strict" };
        write!(formatter, "{consistency} {:?}", self.policy)
    }
}

impl Kind {
    /// Every consistency with every policy.
    pub fn all() -> Vec<Self> {
        let policies = [Policy::Closed, Policy::Local, Policy::Open];
        policies
            .iter()
            .flat_map(|policy| [false, true].map(|leased| Self { leased, policy: *policy }))
            .collect()
    }

    /// Whether more than the limit may never pass, whatever fails.
    pub fn is_bounded(self) -> bool {
        self.policy != Policy::Open
    }

    /// What the shared counters admit in a window: a share is kept back for bad times.
    pub fn shared_limit(self) -> i64 {
        match self.policy {
            Policy::Local => LIMIT * i64::from(100 - LOCAL_SHARE_PERCENT) / 100,
            Policy::Open | Policy::Closed => LIMIT,
        }
    }

    /// The subject whose calls it counts.
    pub fn subject(self) -> String {
        self.to_string().replace(' ', "-")
    }

    fn rule(self) -> v1::Rule {
        let consistency = if self.leased { v1::RuleConsistency::Leased } else { v1::RuleConsistency::Strict };
        let mode = match self.policy {
            Policy::Open => v1::FailureMode::Open,
            Policy::Closed => v1::FailureMode::Closed,
            Policy::Local => v1::FailureMode::Local,
        };
        let (share, replicas) = match self.policy {
            Policy::Local => (LOCAL_SHARE_PERCENT, i32::try_from(REPLICAS).unwrap()),
            Policy::Open | Policy::Closed => (0, 0),
        };
        v1::Rule {
            display_name: self.to_string(),
            r#match: Some(v1::CallMatch { subjects: vec![self.subject()], ..Default::default() }),
            algorithm: Some(v1::rule::Algorithm::FixedWindow(v1::FixedWindow {
                limit: LIMIT,
                window_ms: WINDOW_MS,
            })),
            consistency: consistency.into(),
            failure_policy: Some(v1::FailurePolicy {
                mode: mode.into(),
                local_share_percent: share,
                local_replicas_max: replicas,
            }),
            ..v1::Rule::default()
        }
    }

    /// Makes the rule and returns its id.
    pub async fn make(self, manager: &Clients) -> String {
        let request = v1::CreateRuleRequest { rule: Some(self.rule()), request_id: String::new() };
        manager.rules().create_rule(request).await.unwrap().into_inner().rule.unwrap().id
    }
}
