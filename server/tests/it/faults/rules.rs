//! The rules under test: each counts the calls of a subject of its own.

use std::fmt;

use rateguard_proto::v1;

use crate::clients::Clients;

/// The windows' length: three edges fit into a round, and a fault lasts for a good part of one.
pub const WINDOW_MS: i64 = 8_000;
/// What a window admits, in units: without the share that is kept back it is a multiple of what a call asks for, too.
pub const LIMIT: i64 = 1_500;
/// Units that each call asks for.
pub const AMOUNT: i64 = 5;
/// What a rule with a local share keeps back for bad times: a call for each replica, and so little that a good window
/// still admits 95 percent of the whole limit.
const LOCAL_SHARE_PERCENT: i32 = 1;
/// Replicas that share it.
pub const REPLICAS: usize = 3;

/// One rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kind {
    pub leased: bool,
    pub policy: Policy,
    /// Whether it is spread by its subject, beside a rule of the same limit that is not: each call stands in two
    /// places then.
    pub spread: bool,
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
        let spread = if self.spread { "spread " } else { "" };
        write!(formatter, "{spread}{consistency} {:?}", self.policy)
    }
}

impl Kind {
    /// Every consistency with every policy.
    pub fn all() -> Vec<Self> {
        let policies = [Policy::Closed, Policy::Local, Policy::Open];
        policies
            .iter()
            .flat_map(|policy| [false, true].map(|leased| Self { leased, policy: *policy, spread: false }))
            .collect()
    }

    /// The same, and what only a cluster can spread.
    pub fn all_of_a_cluster() -> Vec<Self> {
        let spread = [false, true].map(|leased| Self { leased, policy: Policy::Closed, spread: true });
        Self::all().into_iter().chain(spread).collect()
    }

    /// Whether more than the limit may never pass, whatever fails.
    pub fn is_bounded(self) -> bool {
        self.policy != Policy::Open
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

    /// Makes its rules.
    pub async fn make(self, manager: &Clients) {
        let spread = self.spread.then(|| v1::Rule {
            scope: vec![v1::ScopeDimension { kind: v1::ScopeKind::Subject.into(), attribute: String::new() }],
            spread_by_subject: true,
            ..self.rule()
        });
        for rule in std::iter::once(self.rule()).chain(spread) {
            let request = v1::CreateRuleRequest { rule: Some(rule), request_id: String::new() };
            manager.rules().create_rule(request).await.unwrap();
        }
    }
}
