//! A workspace's rules and budgets, compiled: which of them apply to a call, and to which counters.

use std::collections::HashMap;
use std::sync::Arc;

use smallvec::SmallVec;
use xxhash_rust::xxh3::{Xxh3, xxh3_128_with_seed};

use crate::counter::{CounterFamily, CounterId, Limit, Position};
use crate::ids::{ApiId, BudgetId, RuleId, WorkspaceId};
use crate::matching::{CallFacts, Match, Mismatch, OnMissing, Scope, ScopeValue};
use crate::rule::{Algorithm, Budget, BudgetPeriod, Consistency, Enforcement, Rule, RulePolicies};
use crate::time::{Bounds, CalendarPeriod, Millis, Zone};
use crate::unit::Unit;

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
    /// Where and how it decides.
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
}

/// Everything that applies to one call, by falling priority.
#[derive(Clone, Debug, Default)]
pub struct Selection<'p> {
    /// The limits with their counters.
    pub selected: SmallVec<[Selected<'p>; 8]>,
    /// A limit that denies calls which lack a value of its scope, as this one does.
    pub denied_by_missing: Option<&'p PlannedLimit>,
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
}

/// The limits of a workspace, for one version of its configuration.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    limits: Vec<PlannedLimit>,
    by_api: HashMap<ApiId, Vec<usize>>,
    for_any_api: Vec<usize>,
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
        limits.sort_by(|a, b| b.priority.cmp(&a.priority).then_with(|| a.id.cmp(&b.id)));
        Self::index(limits)
    }

    fn index(limits: Vec<PlannedLimit>) -> Self {
        let mut plan = Self { limits, ..Self::default() };
        for (place, limit) in plan.limits.iter().enumerate() {
            if limit.matches.apis.is_empty() {
                plan.for_any_api.push(place);
            }
            for api in &limit.matches.apis {
                let places = plan.by_api.entry(api.clone()).or_default();
                // An API that is named twice is still one.
                if places.last() != Some(&place) {
                    places.push(place);
                }
            }
        }
        plan
    }

    /// All limits, by falling priority.
    pub fn limits(&self) -> &[PlannedLimit] {
        &self.limits
    }

    /// The limits that apply to a call, with their counters.
    pub fn select<'p>(&'p self, facts: &CallFacts<'_>, now: Millis) -> Selection<'p> {
        let mut selection = Selection::default();
        for planned in self.candidates(facts.api) {
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
            .map(|limit| (limit, limit.reason(facts)))
            .collect()
    }

    /// Both index lists hold rising places, so merging them keeps the order of priority.
    fn candidates<'p>(&'p self, api: Option<&ApiId>) -> impl Iterator<Item = &'p PlannedLimit> {
        let mut own = api.and_then(|api| self.by_api.get(api)).map_or(&[][..], Vec::as_slice);
        let mut any = self.for_any_api.as_slice();
        std::iter::from_fn(move || {
            let from_own = match (own.first(), any.first()) {
                (Some(a), Some(b)) => a < b,
                (first, _) => first.is_some(),
            };
            let list = if from_own { &mut own } else { &mut any };
            let (place, rest) = list.split_first()?;
            *list = rest;
            Some(*place)
        })
        .filter_map(|place| self.limits.get(place))
    }
}

fn is_overridden(selection: &Selection<'_>, planned: &PlannedLimit) -> bool {
    planned.override_group.is_some()
        && selection.selected.iter().any(|s| s.planned.override_group == planned.override_group)
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

    /// The counter of a call, or `None` when the call lacks a value and the limit skips it.
    pub fn counter(&self, facts: &CallFacts<'_>) -> Option<CounterId> {
        let (values, missing) = self.scope.values(facts);
        (!missing || self.scope.on_missing == OnMissing::Shared)
            .then(|| counter_id(self.family(), self.seed, &values))
    }

    /// The one counter of a limit whose scope has no dimensions.
    pub fn only_counter(&self) -> Option<CounterId> {
        self.scope.dimensions.is_empty().then(|| counter_id(self.family(), self.seed, &[]))
    }

    /// The counter that new scope values share once the workspace has too many.
    pub fn overflow_counter(&self) -> CounterId {
        self.overflow
    }

    /// What the ids of all its counters have in common, the overflow counter's too.
    pub fn family(&self) -> CounterFamily {
        family(self.seed)
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
        match self.counter(facts) {
            Some(counter) => {
                selection.selected.push(Selected { planned: self, counter, limit: self.limit_at(now) });
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

/// Sets an overflow counter apart from the counter of a scope without values.
const OVERFLOW_SEED: u64 = 0x6f76_6572_666c_6f77;

/// Bytes of a scope's values that are put together without an allocation: a key and a subject.
const VALUE_BYTES_INLINE: usize = 128;

fn family(seed: u64) -> CounterFamily {
    let [.., a, b, c, d] = seed.to_be_bytes();
    CounterFamily(u32::from_be_bytes([a, b, c, d]))
}

fn overflow(seed: u64) -> CounterId {
    counter_id(family(seed), seed ^ OVERFLOW_SEED, &[])
}

fn counter_id(family: CounterFamily, seed: u64, values: &[ScopeValue<'_>]) -> CounterId {
    let mut bytes: SmallVec<[u8; VALUE_BYTES_INLINE]> = SmallVec::new();
    for value in values {
        match value {
            // The length in front keeps ("ab", "c") apart from ("a", "bc").
            ScopeValue::Text(text) => {
                bytes.extend_from_slice(&(text.len() as u64).to_le_bytes());
                bytes.extend_from_slice(text.as_bytes());
            }
            ScopeValue::Address(network) => {
                bytes.extend_from_slice(&u64::MAX.to_le_bytes());
                bytes.extend_from_slice(network);
            }
        }
    }
    // At once: hashing in parts costs more than all the rest for so few bytes.
    CounterId::of(family, xxh3_128_with_seed(&bytes, seed))
}

fn plan_rule(workspace: &WorkspaceId, zone: &Zone, rule: &Rule, now: Millis) -> PlannedLimit {
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
    };
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
        policies: RulePolicies::default(),
        matches: budget.matches.clone(),
        scope: budget.scope.clone(),
        counts_after: budget.opened_after.unwrap_or_default(),
        priority: 0,
        override_group: None,
        kind,
        seed,
        overflow: overflow(seed),
    }
}

fn calendar_kind(size: i64, period: CalendarPeriod, zone: &Zone, money: bool, now: Millis) -> (Kind, String) {
    let calendar = Calendar::new(period, zone, now);
    (Kind::Calendar { size, calendar, money }, format!("calendar {} {}", period.as_str(), zone.name()))
}

/// Hashes what a counter's identity consists of besides the scope's values. Limit, rate, match,
/// name, mode and priority are not part of it, so changing them keeps the counter.
fn seed(workspace: &WorkspaceId, id: &str, unit: &Unit, shape: &str, scope: &Scope) -> u64 {
    let mut hasher = Xxh3::new();
    for part in [workspace.as_str(), id, unit.as_str(), shape] {
        hasher.update(part.as_bytes());
        hasher.update(&[0]);
    }
    for dimension in &scope.dimensions {
        hasher.update(dimension.as_str().as_bytes());
        hasher.update(&[0]);
    }
    hasher.digest()
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
