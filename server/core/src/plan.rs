//! A workspace's rules and budgets, compiled: which of them apply to a call, and to which counters.

mod identity;
mod index;
mod overrides;

use std::cmp::Ordering;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::counter::{CounterFamily, CounterId, Limit, Position, Shard};
use crate::ids::{BudgetId, RuleId, WorkspaceId};
use crate::matching::{CallFacts, Match, Mismatch, OnMissing, Scope};
use crate::rule::{
    Algorithm, Budget, BudgetPeriod, Consistency, Enforcement, FailurePolicy, Rule, RulePolicies,
};
use crate::time::{Bounds, CalendarPeriod, Millis, Zone};
use crate::unit::Unit;
pub use identity::callers_counter;
use identity::{counter_id, family, overflow, seed};
use index::Index;
use overrides::Overrides;

/// Which rule or budget.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LimitId {
    /// A rule.
    Rule(RuleId),
    /// A budget.
    Budget(BudgetId),
}

impl LimitId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Rule(id) => id.as_str(),
            Self::Budget(id) => id.as_str(),
        }
    }
}

/// One rule or budget, ready to be looked up.
#[derive(Clone, Debug)]
pub struct PlannedLimit {
    /// Which.
    pub id: LimitId,
    /// Its name, for people.
    pub name: Arc<str>,
    /// What it counts.
    pub unit: Unit,
    /// Whether it decides.
    pub enforcement: Enforcement,
    /// Where and how it decides. A budget that denies has the failure policy CLOSED.
    pub policies: RulePolicies,
    /// The calls it applies to.
    pub matches: Match,
    /// What makes its counters different.
    pub scope: Scope,
    /// Records at or before this place in the log are in its counters from the start.
    pub counts_after: Position,
    priority: i32,
    override_group: Option<String>,
    kind: Kind,
    /// Most limits have none, and then nothing is looked up.
    overrides: Option<Box<Overrides>>,
    seed: u64,
    /// Computed once, since every call names it.
    overflow: CounterId,
}

#[derive(Clone, Debug)]
enum Kind {
    Plain(Limit),
    Calendar { size: i64, calendar: Calendar, money: bool },
}

#[derive(Clone, Debug)]
struct Calendar {
    period: CalendarPeriod,
    zone: Zone,
    bounds: Bounds,
}

/// A limit that applies to one call, with the counter that the call falls on.
#[derive(Clone, Copy, Debug)]
pub struct Selected<'p> {
    /// The limit.
    pub planned: &'p PlannedLimit,
    /// Its counter for this call.
    pub counter: CounterId,
    /// What the counter is held against now.
    pub limit: Limit,
    /// The same with the share that is kept back for times without shared counters; see
    /// [`PlannedLimit::shared_limit`].
    pub whole: Limit,
}

impl Selected<'_> {
    /// Holds the counter against what shared counters give out.
    pub fn keep_share_back(&mut self) {
        self.limit = self.planned.shared_limit(self.whole);
    }
}

/// Everything that applies to one call, by falling priority.
#[derive(Clone, Debug, Default)]
pub struct Selection<'p> {
    /// The limits with their counters.
    pub selected: SmallVec<[Selected<'p>; 8]>,
    /// A limit that denies calls which lack a value of its scope, as this one does.
    pub denied_by_missing: Option<&'p PlannedLimit>,
    /// Limits that mean the call and let its key or subject pass without one. Each has its place in its
    /// override group all the same.
    exempted_by: SmallVec<[&'p PlannedLimit; 2]>,
}

/// Why a limit did not apply to a call, for `explain`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unselected {
    /// Its match does not mean the call.
    Mismatch(Mismatch),
    /// The call lacks a value of its scope, and it skips such calls.
    MissingValue,
    /// Another limit of its override group has a higher priority.
    Overridden,
    /// An override lets the call's key or subject pass without a limit.
    Unlimited,
}

/// The limits of a workspace, for one version of its configuration.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    limits: Vec<PlannedLimit>,
    index: Index,
}

impl Plan {
    /// Compiles the active rules and budgets. `zone` is the workspace's; `now` only primes the
    /// calendar, which is recomputed when a window is over.
    pub fn compile(
        workspace: &WorkspaceId,
        zone: &Zone,
        rules: &[Rule],
        budgets: &[Budget],
        now: Millis,
    ) -> Self {
        let rules = rules.iter().filter(|rule| rule.active).map(|rule| plan_rule(workspace, zone, rule, now));
        let budgets = budgets
            .iter()
            .filter(|budget| budget.active)
            .map(|budget| plan_budget(workspace, zone, budget, now));
        let mut limits: Vec<PlannedLimit> = rules.chain(budgets).collect();
        limits.sort_by(PlannedLimit::in_order);
        Self { index: Index::new(&limits), limits }
    }

    /// All limits, by falling priority.
    pub fn limits(&self) -> &[PlannedLimit] {
        &self.limits
    }

    /// The limits that apply to a call, with their counters.
    pub fn select<'p>(&'p self, facts: &CallFacts<'_>, now: Millis) -> Selection<'p> {
        self.select_among(facts, now, |_| true)
    }

    /// The same among some of the limits: the others do not even override them.
    pub fn select_among<'p>(
        &'p self,
        facts: &CallFacts<'_>,
        now: Millis,
        is_meant: impl Fn(&PlannedLimit) -> bool,
    ) -> Selection<'p> {
        let mut selection = Selection::default();
        let candidates = self.index.candidates(facts);
        for planned in candidates.iter().filter_map(|place| self.limits.get(*place)) {
            if !is_meant(planned) {
                continue;
            }
            if planned.matches.test(facts).is_err() || is_overridden(&selection, planned) {
                continue;
            }
            planned.add_to(&mut selection, facts, now);
        }
        selection
    }

    /// The limits that do not apply to a call, with the reason.
    pub fn explain<'p>(&'p self, facts: &CallFacts<'_>, now: Millis) -> Vec<(&'p PlannedLimit, Unselected)> {
        let selection = self.select(facts, now);
        let applies =
            |limit: &PlannedLimit| selection.selected.iter().any(|s| std::ptr::eq(s.planned, limit));
        let denies =
            |limit: &PlannedLimit| selection.denied_by_missing.is_some_and(|d| std::ptr::eq(d, limit));
        self.limits
            .iter()
            .filter(|limit| !applies(limit) && !denies(limit))
            .map(|limit| (limit, selection.reason(limit, facts)))
            .collect()
    }
}

fn is_overridden(selection: &Selection<'_>, planned: &PlannedLimit) -> bool {
    let mut before =
        selection.selected.iter().map(|s| s.planned).chain(selection.exempted_by.iter().copied());
    planned.override_group.is_some() && before.any(|limit| limit.override_group == planned.override_group)
}

impl Selection<'_> {
    /// Why a limit is not selected.
    fn reason(&self, limit: &PlannedLimit, facts: &CallFacts<'_>) -> Unselected {
        if self.exempted_by.iter().any(|exempting| std::ptr::eq(*exempting, limit)) {
            return Unselected::Unlimited;
        }
        limit.reason(facts)
    }
}

impl PlannedLimit {
    /// What the limit's counters are held against at `now`.
    pub fn limit_at(&self, now: Millis) -> Limit {
        match &self.kind {
            Kind::Plain(limit) => *limit,
            Kind::Calendar { size, calendar, money: false } => {
                Limit::CalendarWindow { limit: *size, bounds: calendar.bounds_at(now) }
            }
            Kind::Calendar { size, calendar, money: true } => {
                Limit::Budget { nanos: *size, bounds: Some(calendar.bounds_at(now)) }
            }
        }
    }

    /// The same where counters are shared and may be away: without the share that is kept back for
    /// such times.
    pub fn shared_limit(&self, limit: Limit) -> Limit {
        match self.policies.failure {
            FailurePolicy::Local { share_percent, .. } => limit.without_share(share_percent),
            FailurePolicy::Open | FailurePolicy::Closed => limit,
        }
    }

    /// What the counter of a call is held against at `now`; `None` where its key or subject has no limit.
    fn limit_for(&self, facts: &CallFacts<'_>, now: Millis) -> Option<Limit> {
        let limit = self.limit_at(now);
        match &self.overrides {
            None => Some(limit),
            Some(overrides) => overrides.limit(facts, limit),
        }
    }

    /// The counter of a call, or `None` when the call lacks a value and the limit skips it.
    pub fn counter(&self, facts: &CallFacts<'_>) -> Option<CounterId> {
        let (values, missing) = self.scope.values(facts);
        if missing && self.scope.on_missing != OnMissing::Shared {
            return None;
        }
        let counter = counter_id(self.family(), self.seed, &values);
        let is_spread = self.policies.spread_by_subject;
        Some(if is_spread { counter.in_shard(Shard::of_subject(facts.subject)) } else { counter })
    }

    /// The one counter of a limit whose scope has no dimensions.
    pub fn only_counter(&self) -> Option<CounterId> {
        self.scope.dimensions.is_empty().then(|| counter_id(self.family(), self.seed, &[]))
    }

    /// The counter that new scope values share once the workspace has too many, where `counter` stands.
    pub fn overflow_beside(&self, counter: CounterId) -> CounterId {
        self.overflow.beside(counter)
    }

    /// What the ids of all its counters have in common, the overflow counter's too.
    pub fn family(&self) -> CounterFamily {
        family(self.seed)
    }

    /// The override group, where the limit is in one.
    pub fn override_group(&self) -> Option<&str> {
        self.override_group.as_deref()
    }

    /// By falling priority, and then by id.
    pub fn in_order(&self, other: &Self) -> Ordering {
        other.priority.cmp(&self.priority).then_with(|| self.id.cmp(&other.id))
    }

    /// Whether replicas may decide by units that they took in advance.
    pub fn is_leased(&self) -> bool {
        self.policies.consistency == Consistency::Leased
    }

    /// Whether the limit is a budget.
    pub fn is_budget(&self) -> bool {
        matches!(self.id, LimitId::Budget(_))
    }

    fn add_to<'p>(&'p self, selection: &mut Selection<'p>, facts: &CallFacts<'_>, now: Millis) {
        let Some(limit) = self.limit_for(facts, now) else { return selection.exempted_by.push(self) };
        match self.counter(facts) {
            Some(counter) => {
                selection.selected.push(Selected { planned: self, counter, limit, whole: limit })
            }
            None if self.scope.on_missing == OnMissing::Deny && self.enforcement == Enforcement::Enforced => {
                selection.denied_by_missing.get_or_insert(self);
            }
            None => {}
        }
    }

    fn reason(&self, facts: &CallFacts<'_>) -> Unselected {
        match self.matches.test(facts) {
            Err(mismatch) => Unselected::Mismatch(mismatch),
            Ok(()) if self.counter(facts).is_none() => Unselected::MissingValue,
            Ok(()) => Unselected::Overridden,
        }
    }
}

impl Calendar {
    fn new(period: CalendarPeriod, zone: &Zone, now: Millis) -> Self {
        Self { period, zone: zone.clone(), bounds: period.bounds(zone, now) }
    }

    fn bounds_at(&self, now: Millis) -> Bounds {
        if self.bounds.contain(now) { self.bounds } else { self.period.bounds(&self.zone, now) }
    }
}

/// A rule by itself, ready to be looked up, also where it is not active.
pub fn plan_rule(workspace: &WorkspaceId, zone: &Zone, rule: &Rule, now: Millis) -> PlannedLimit {
    let (kind, shape) = match &rule.algorithm {
        Algorithm::TokenBucket { capacity, refill } => {
            (Kind::Plain(Limit::TokenBucket { capacity: *capacity, refill: *refill }), "bucket".to_owned())
        }
        Algorithm::FixedWindow { limit, window_ms } => (
            Kind::Plain(Limit::FixedWindow { limit: *limit, window_ms: *window_ms }),
            format!("fixed {window_ms}"),
        ),
        Algorithm::SlidingWindow { limit, window_ms } => (
            Kind::Plain(Limit::SlidingWindow { limit: *limit, window_ms: *window_ms }),
            format!("sliding {window_ms}"),
        ),
        Algorithm::CalendarWindow { limit, period, zone: own } => {
            calendar_kind(*limit, *period, own.as_ref().unwrap_or(zone), false, now)
        }
        Algorithm::Concurrency { limit } => {
            (Kind::Plain(Limit::Concurrency { limit: *limit }), "concurrency".to_owned())
        }
    };
    // What was counted stays where it is, so a rule that is spread begins anew.
    let shape = if rule.policies.spread_by_subject { format!("{shape} spread") } else { shape };
    let seed = seed(workspace, rule.id.as_str(), &rule.unit, &shape, &rule.scope);
    PlannedLimit {
        id: LimitId::Rule(rule.id.clone()),
        name: rule.name.as_str().into(),
        unit: rule.unit.clone(),
        enforcement: rule.enforcement,
        policies: rule.policies,
        matches: rule.matches.clone(),
        scope: rule.scope.clone(),
        counts_after: Position::default(),
        priority: rule.priority,
        override_group: rule.override_group.clone(),
        kind,
        overrides: Overrides::of(&rule.overrides),
        seed,
        overflow: overflow(seed),
    }
}

/// A budget by itself, ready to be looked up, also before it is in force.
pub fn plan_budget(workspace: &WorkspaceId, zone: &Zone, budget: &Budget, now: Millis) -> PlannedLimit {
    let (kind, shape) = match &budget.period {
        BudgetPeriod::Calendar { period, zone: own } => {
            calendar_kind(budget.total().get(), *period, own.as_ref().unwrap_or(zone), true, now)
        }
        BudgetPeriod::Prepaid => {
            let limit = Limit::Budget { nanos: budget.total().get(), bounds: None };
            (Kind::Plain(limit), "prepaid".to_owned())
        }
    };
    let seed = seed(workspace, budget.id.as_str(), &Unit::Cost, &shape, &budget.scope);
    PlannedLimit {
        id: LimitId::Budget(budget.id.clone()),
        name: budget.name.as_str().into(),
        unit: Unit::Cost,
        enforcement: budget.enforcement,
        policies: budget_policies(budget.enforcement),
        matches: budget.matches.clone(),
        scope: budget.scope.clone(),
        counts_after: budget.opened_after.unwrap_or_default(),
        priority: 0,
        override_group: None,
        kind,
        overrides: None,
        seed,
        overflow: overflow(seed),
    }
}

/// Money that nobody counts is not given out, unless nothing would be denied anyway.
fn budget_policies(enforcement: Enforcement) -> RulePolicies {
    let failure = match enforcement {
        Enforcement::Enforced => FailurePolicy::Closed,
        Enforcement::Soft | Enforcement::Shadow => FailurePolicy::Open,
    };
    RulePolicies { failure, ..RulePolicies::default() }
}

fn calendar_kind(size: i64, period: CalendarPeriod, zone: &Zone, money: bool, now: Millis) -> (Kind, String) {
    let calendar = Calendar::new(period, zone, now);
    (Kind::Calendar { size, calendar, money }, format!("calendar {} {}", period.as_str(), zone.name()))
}

/// Whether a changed rule keeps its counters.
pub fn keeps_counters(workspace: &WorkspaceId, zone: &Zone, before: &Rule, after: &Rule) -> bool {
    let seed_of = |rule| plan_rule(workspace, zone, rule, Millis::ZERO).seed;
    seed_of(before) == seed_of(after)
}

/// Whether a changed budget keeps its counters.
pub fn budget_keeps_counters(workspace: &WorkspaceId, zone: &Zone, before: &Budget, after: &Budget) -> bool {
    let seed_of = |budget| plan_budget(workspace, zone, budget, Millis::ZERO).seed;
    seed_of(before) == seed_of(after)
}

#[cfg(test)]
mod tests;
