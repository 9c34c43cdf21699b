//! What a seed stands for: the limits of one workspace, who calls, and what goes wrong.

mod terms;

use rateguard_core::counter::{Limit, Position, Refill};
use rateguard_core::ids::{BudgetId, DisplayName, KeyId, RuleId, WorkspaceId};
use rateguard_core::invalid::Invalid;
use rateguard_core::matching::{Dimension, Match, OnMissing, Scope};
use rateguard_core::money::{Currency, Nanos};
use rateguard_core::rule::{
    Algorithm, Budget, BudgetPeriod, Consistency, Enforcement, FailurePolicy, Rule, RulePolicies,
};
use rateguard_core::time::{CalendarPeriod, Millis, Zone};
use rateguard_core::unit::Unit;
use rateguard_engine::ports::{Resource, Snapshot, Stored};
use rateguard_engine::resources::{Key, Scope as KeyScope, Workspace};

use self::terms::terms;
use crate::books::answers::Terms;
use crate::clocks::BEGINS;
use crate::dice::Dice;
use crate::faults::Faults;

/// How long callers call.
const LASTS_MS: i64 = 9_000;
/// Most replicas of a run.
const REPLICAS_MAX: i64 = 4;
/// Most callers of a run.
const CLIENTS_MAX: i64 = 5;
/// Longest window of a run's limits: several of them end while callers call.
const WINDOW_MS_MAX: i64 = 3_000;

/// Limits of leased rules: large enough to be lent of, and small enough to be reached.
const LEASED_LIMIT: std::ops::RangeInclusive<i64> = 150..=400;
/// Most tokens of one call.
const TOKENS_MAX: i64 = 40;
/// Where tokens are leased, so few that a lease is for several calls.
const LEASED_TOKENS_MAX: i64 = 8;
/// Sliding windows that may be leased.
const LEASED_SLIDING_MS: std::ops::RangeInclusive<i64> = 6_000..=7_000;

/// A run before it begins.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Replicas.
    pub replicas: usize,
    /// Callers.
    pub clients: usize,
    /// How long callers call.
    pub lasts_ms: i64,
    /// Longest pause of a caller between two calls.
    pub pause_ms_max: i64,
    /// Most tokens of one call.
    pub tokens_max: i64,
    /// What goes wrong.
    pub faults: Faults,
    /// The key of all callers.
    pub key: Key,
    /// The configuration.
    pub snapshot: Snapshot,
    /// What all answers have to keep.
    pub terms: Terms,
    /// Whether some rules are leased.
    pub leases: bool,
    /// Whether counters are set back now and then.
    pub resets: bool,
}

/// A rule as runs tell them apart.
struct Draft {
    number: u8,
    unit: Unit,
    algorithm: Algorithm,
    by_subject: bool,
    enforcement: Enforcement,
    consistency: Consistency,
    failure: FailurePolicy,
}

impl Scenario {
    /// The run of a seed.
    ///
    /// # Errors
    /// None: whatever is drawn is within its bounds.
    pub fn draw(dice: &Dice) -> Result<Self, Invalid> {
        let faults = Faults::draw(dice);
        let workspace = WorkspaceId::from_random([1; 16]);
        let drafts = drafts(dice, faults.clocks)?;
        let leases = drafts.iter().any(|draft| draft.consistency == Consistency::Leased);
        let budget = if dice.happens(600) { Some(budget(dice)?) } else { None };
        let rules = drafts.into_iter().map(Draft::rule).collect::<Result<Vec<Rule>, Invalid>>()?;
        let key = key()?;
        let terms = terms(&workspace, &key.id, &rules, budget.is_some());
        let budget = budget.into_iter().map(Resource::Budget);
        let resources = budget.chain(rules.into_iter().map(Resource::Rule)).collect();
        Ok(Self {
            replicas: usize::try_from(dice.within(1..=REPLICAS_MAX)).unwrap_or(1),
            clients: usize::try_from(dice.within(1..=CLIENTS_MAX)).unwrap_or(1),
            lasts_ms: LASTS_MS,
            // Leases show where much is called for.
            pause_ms_max: dice.within(if leases { 10..=80 } else { 50..=600 }),
            tokens_max: if leases { LEASED_TOKENS_MAX } else { TOKENS_MAX },
            faults,
            key,
            snapshot: snapshot(workspace, resources)?,
            terms,
            leases,
            // What is lent while a counter is set back may be spent beyond it.
            resets: !leases && dice.happens(200),
        })
    }
}

fn snapshot(workspace: WorkspaceId, resources: Vec<Resource>) -> Result<Snapshot, Invalid> {
    let tenant = Workspace {
        id: workspace.clone(),
        name: DisplayName::parse("name", "simulated")?,
        zone: Zone::UTC,
        currency: Currency::USD,
    };
    let at = Millis::new(BEGINS);
    let stored =
        |value| Stored { workspace: workspace.clone(), value, version: 1, created_at: at, updated_at: at };
    let resources = resources.into_iter().map(stored).collect();
    Ok(Snapshot { revision: 1, workspaces: vec![tenant], resources })
}

fn key() -> Result<Key, Invalid> {
    let name = DisplayName::parse("name", "simulated")?;
    let scopes = [KeyScope::Quota, KeyScope::Usage].into_iter().collect();
    Ok(Key { id: KeyId::from_random([2; 16]), ..Key::plain(name, scopes) })
}

fn budget(dice: &Dice) -> Result<Budget, Invalid> {
    Ok(Budget {
        id: BudgetId::from_random([9; 16]),
        name: DisplayName::parse("name", "money")?,
        matches: Match::default(),
        scope: Scope::default(),
        amount: Nanos::parse("amount", dice.within(2_000..=60_000))?,
        topped_up: Nanos::ZERO,
        period: BudgetPeriod::Prepaid,
        enforcement: Enforcement::Enforced,
        active: true,
        opened_after: Some(Position::default()),
    })
}

/// One to all of what rules may be. Calendars are for clocks that are right: whose calendar a store
/// counts by is told to it by whoever asks.
fn drafts(dice: &Dice, clocks_are_wrong: bool) -> Result<Vec<Draft>, Invalid> {
    let mut drafts = Vec::new();
    let all = [fixed(dice), sliding(dice), by_subject(dice), bucket(dice)?, shadow(dice), calendar(dice)];
    // Under it nothing is consumed for good.
    let running = dice.happens(100).then(|| concurrency(dice));
    drafts.extend(running);
    for draft in all {
        let is_calendar = matches!(draft.algorithm, Algorithm::CalendarWindow { .. });
        if dice.happens(450) && !(is_calendar && clocks_are_wrong) {
            drafts.push(draft);
        }
    }
    if drafts.is_empty() {
        drafts.push(fixed(dice));
    }
    let lends = dice.happens(300);
    let failure = failure(dice, clocks_are_wrong);
    let drafts = drafts.into_iter().map(|draft| if lends { leased(draft, dice) } else { Ok(draft) });
    drafts.map(|draft| Ok(with_policy(draft?, failure, dice))).collect()
}

/// What a run's rules answer without the counters. Shares of a limit count by the clocks of those who have
/// them, so they are for clocks that are right, too.
fn failure(dice: &Dice, clocks_are_wrong: bool) -> FailurePolicy {
    let share_percent = u8::try_from(dice.within(20..=80)).unwrap_or(50);
    let replicas_max = u16::try_from(dice.within(1..=6)).unwrap_or(1);
    match dice.within(0..=99) {
        0..=39 if !clocks_are_wrong => FailurePolicy::Local { share_percent, replicas_max },
        40..=59 => FailurePolicy::Closed,
        _ => FailurePolicy::Open,
    }
}

/// Most rules of a run have its policy, where they may.
fn with_policy(draft: Draft, failure: FailurePolicy, dice: &Dice) -> Draft {
    let has_share = match (&draft.algorithm, failure) {
        (
            Algorithm::TokenBucket { capacity, refill },
            FailurePolicy::Local { share_percent, replicas_max },
        ) => {
            let bucket = Limit::TokenBucket { capacity: *capacity, refill: *refill };
            bucket.has_local_share(share_percent, replicas_max)
        }
        (Algorithm::Concurrency { .. }, FailurePolicy::Local { .. }) => false,
        _ => true,
    };
    let failure = if has_share && dice.happens(800) { failure } else { draft.failure };
    Draft { failure, ..draft }
}

/// The same, decided by units that replicas take in advance, and so large that they may be. Shadows and
/// calendars stay as they are, and now and then one of the others, so that calls fall on both kinds.
fn leased(draft: Draft, dice: &Dice) -> Result<Draft, Invalid> {
    let limit = dice.within(LEASED_LIMIT);
    let is_kept = draft.unit != Unit::Tokens || dice.happens(200);
    let algorithm = match draft.algorithm.clone() {
        Algorithm::FixedWindow { window_ms, .. } => Algorithm::FixedWindow { limit, window_ms },
        Algorithm::SlidingWindow { .. } => {
            Algorithm::SlidingWindow { limit, window_ms: dice.within(LEASED_SLIDING_MS) }
        }
        Algorithm::TokenBucket { .. } => {
            let refill = Refill::new(dice.within(20..=150), dice.within(300..=2_000), limit)?;
            Algorithm::TokenBucket { capacity: limit, refill }
        }
        other @ (Algorithm::CalendarWindow { .. } | Algorithm::Concurrency { .. }) => other,
    };
    if is_kept {
        return Ok(draft);
    }
    Ok(Draft { algorithm, consistency: Consistency::Leased, ..draft })
}

fn window_ms(dice: &Dice) -> i64 {
    dice.within(500..=WINDOW_MS_MAX)
}

fn fixed(dice: &Dice) -> Draft {
    let algorithm = Algorithm::FixedWindow { limit: dice.within(2..=12), window_ms: window_ms(dice) };
    Draft { number: 1, ..of_requests(algorithm) }
}

fn sliding(dice: &Dice) -> Draft {
    let algorithm = Algorithm::SlidingWindow { limit: dice.within(20..=200), window_ms: window_ms(dice) };
    Draft { number: 2, ..of_tokens(algorithm) }
}

fn by_subject(dice: &Dice) -> Draft {
    let algorithm = Algorithm::FixedWindow { limit: dice.within(20..=150), window_ms: window_ms(dice) };
    Draft { number: 3, by_subject: true, ..of_tokens(algorithm) }
}

fn bucket(dice: &Dice) -> Result<Draft, Invalid> {
    let capacity = dice.within(20..=200);
    let refill = Refill::new(dice.within(5..=80), dice.within(300..=2_000), capacity)?;
    Ok(Draft { number: 4, ..of_tokens(Algorithm::TokenBucket { capacity, refill }) })
}

fn shadow(dice: &Dice) -> Draft {
    let algorithm = Algorithm::FixedWindow { limit: dice.within(1..=6), window_ms: window_ms(dice) };
    Draft { number: 5, enforcement: Enforcement::Shadow, ..of_requests(algorithm) }
}

fn calendar(dice: &Dice) -> Draft {
    let (limit, period) = (dice.within(5..=30), CalendarPeriod::Hour);
    Draft { number: 6, ..of_requests(Algorithm::CalendarWindow { limit, period, zone: None }) }
}

fn concurrency(dice: &Dice) -> Draft {
    Draft { number: 7, ..of_requests(Algorithm::Concurrency { limit: dice.within(1..=4) }) }
}

fn of_requests(algorithm: Algorithm) -> Draft {
    Draft {
        number: 0,
        unit: Unit::Requests,
        algorithm,
        by_subject: false,
        enforcement: Enforcement::Enforced,
        consistency: Consistency::Strict,
        failure: FailurePolicy::Open,
    }
}

fn of_tokens(algorithm: Algorithm) -> Draft {
    Draft { unit: Unit::Tokens, ..of_requests(algorithm) }
}

impl Draft {
    fn id(&self) -> RuleId {
        RuleId::from_random([self.number; 16])
    }

    fn rule(self) -> Result<Rule, Invalid> {
        let dimensions = if self.by_subject { vec![Dimension::Subject] } else { Vec::new() };
        let rule = Rule {
            id: self.id(),
            name: DisplayName::parse("name", &format!("rule {}", self.number))?,
            matches: Match::default(),
            scope: Scope { dimensions, on_missing: OnMissing::default() },
            unit: self.unit,
            algorithm: self.algorithm,
            enforcement: self.enforcement,
            priority: i32::from(self.number),
            override_group: None,
            policies: RulePolicies {
                consistency: self.consistency,
                failure: self.failure,
                ..RulePolicies::default()
            },
            overrides: Vec::new(),
            last_reset_at: None,
            active: true,
        };
        rule.check()?;
        Ok(rule)
    }
}
