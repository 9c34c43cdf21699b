use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::counter::{Position, Refill};
use crate::decision::tests::{NOON, cases};
use crate::ids::{ApiId, DisplayName, KeyId};
use crate::matching::{Dimension, Glob};
use crate::money::Nanos;
use crate::rule::RulePolicies;

mod identity;
mod index;
mod overrides;

fn workspace() -> WorkspaceId {
    WorkspaceId::from_random([1; 16])
}

fn now() -> Millis {
    Millis::new(NOON)
}

fn name(text: &str) -> DisplayName {
    DisplayName::parse("name", text).unwrap()
}

fn rule(byte: u8) -> Rule {
    Rule {
        id: RuleId::from_random([byte; 16]),
        name: name(&format!("rule {byte}")),
        matches: Match::default(),
        scope: Scope::default(),
        unit: Unit::Requests,
        algorithm: Algorithm::FixedWindow { limit: 10, window_ms: 60_000 },
        enforcement: Enforcement::Enforced,
        priority: 0,
        override_group: None,
        policies: RulePolicies::default(),
        overrides: Vec::new(),
        last_reset_at: None,
        active: true,
    }
}

fn budget(byte: u8) -> Budget {
    Budget {
        id: BudgetId::from_random([byte; 16]),
        name: name(&format!("budget {byte}")),
        matches: Match::default(),
        scope: Scope::default(),
        amount: Nanos::from_stored(1_000),
        period: BudgetPeriod::Calendar { period: CalendarPeriod::Month, zone: None },
        enforcement: Enforcement::Enforced,
        active: true,
        topped_up: Nanos::ZERO,
        opened_after: Some(Position(3)),
    }
}

fn scoped(byte: u8, dimensions: &[Dimension], on_missing: OnMissing) -> Rule {
    Rule { scope: Scope { dimensions: dimensions.to_vec(), on_missing }, ..rule(byte) }
}

fn compile(rules: &[Rule], budgets: &[Budget]) -> Plan {
    Plan::compile(&workspace(), &Zone::UTC, rules, budgets, now())
}

/// What is known of a call; nothing unless a test says so.
#[derive(Clone)]
struct Call {
    key: KeyId,
    api: Option<ApiId>,
    subject: &'static str,
    model: &'static str,
    ip: Option<IpAddr>,
    attributes: Vec<(String, String)>,
}

impl Call {
    fn new() -> Self {
        let key = KeyId::from_random([1; 16]);
        Self { key, api: None, subject: "", model: "", ip: None, attributes: Vec::new() }
    }

    fn of(subject: &'static str) -> Self {
        Self { subject, ..Self::new() }
    }

    fn from(ip: &str) -> Self {
        Self { ip: Some(ip.parse().unwrap()), ..Self::new() }
    }

    fn to(byte: u8) -> Self {
        Self { api: Some(ApiId::from_random([byte; 16])), ..Self::new() }
    }

    fn facts(&self) -> CallFacts<'_> {
        CallFacts {
            key: &self.key,
            api: self.api.as_ref(),
            endpoint: "",
            method: "",
            model: self.model,
            subject: self.subject,
            ip: self.ip,
            attributes: &self.attributes,
        }
    }
}

fn counters(plan: &Plan, call: &Call) -> Vec<CounterId> {
    plan.select(&call.facts(), now()).selected.iter().map(|selected| selected.counter).collect()
}

fn names(plan: &Plan, call: &Call) -> Vec<String> {
    plan.select(&call.facts(), now()).selected.iter().map(|s| s.planned.name.to_string()).collect()
}

fn reasons(plan: &Plan, call: &Call) -> Vec<(String, Unselected)> {
    plan.explain(&call.facts(), now()).into_iter().map(|(limit, why)| (limit.name.to_string(), why)).collect()
}

#[test]
fn different_scope_values_have_different_counters_and_equal_ones_the_same() {
    let plan = compile(&[scoped(1, &[Dimension::Subject], OnMissing::Shared)], &[]);
    assert_ne!(counters(&plan, &Call::of("alice")), counters(&plan, &Call::of("bob")));
    assert_eq!(counters(&plan, &Call::of("alice")), counters(&plan, &Call::of("alice")));
}

#[test]
fn a_rule_without_scope_has_one_counter_for_all() {
    let plan = compile(&[rule(1)], &[]);
    assert_eq!(counters(&plan, &Call::of("alice")), counters(&plan, &Call::from("192.0.2.1")));
}

#[test]
fn two_values_are_not_mistaken_for_two_others_of_the_same_letters() {
    let dimensions = [Dimension::Subject, Dimension::Model];
    let plan = compile(&[scoped(1, &dimensions, OnMissing::Shared)], &[]);
    let call = |subject, model| Call { model, ..Call::of(subject) };
    assert_ne!(counters(&plan, &call("ab", "c")), counters(&plan, &call("a", "bc")));
    assert_ne!(counters(&plan, &call("ab", "")), counters(&plan, &call("", "ab")));
}

#[test]
fn ipv6_counts_by_64_and_mapped_ipv4_as_ipv4() {
    let plan = compile(&[scoped(1, &[Dimension::Ip], OnMissing::Shared)], &[]);
    let of = |ip: &str| counters(&plan, &Call::from(ip));
    assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff:ffff:ffff:ffff"));
    assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
    assert_eq!(of("::ffff:192.0.2.7"), of("192.0.2.7"));
    assert_ne!(of("192.0.2.7"), of("192.0.2.8"));
    assert_ne!(of("0.0.0.0"), counters(&plan, &Call::new()), "no address is no address of zeros");
}

#[test]
fn an_attribute_is_counted_by_its_value() {
    let plan = compile(&[scoped(1, &[Dimension::Attribute("team".into())], OnMissing::Skip)], &[]);
    let of = |team: &str| Call { attributes: vec![("team".into(), team.into())], ..Call::new() };
    assert_ne!(counters(&plan, &of("red")), counters(&plan, &of("blue")));
    assert!(counters(&plan, &Call::new()).is_empty());
}

#[test]
fn a_missing_value_shares_one_counter_or_skips_the_rule_or_denies_the_call() {
    let with = |on_missing| compile(&[scoped(1, &[Dimension::Subject], on_missing)], &[]);
    let call = Call::new();
    assert_eq!(
        counters(&with(OnMissing::Shared), &call),
        counters(&with(OnMissing::Shared), &Call::from("::1"))
    );
    assert!(counters(&with(OnMissing::Skip), &call).is_empty());
    let denying = with(OnMissing::Deny);
    let selection = denying.select(&call.facts(), now());
    assert!(selection.selected.is_empty() && selection.denied_by_missing.is_some());
    assert!(denying.select(&Call::of("alice").facts(), now()).denied_by_missing.is_none());
}

#[test]
fn a_shadow_rule_never_denies_a_call_that_lacks_a_value() {
    let shadow =
        Rule { enforcement: Enforcement::Shadow, ..scoped(1, &[Dimension::Subject], OnMissing::Deny) };
    let plan = compile(&[shadow], &[]);
    assert!(plan.select(&Call::new().facts(), now()).denied_by_missing.is_none());
    assert_eq!(reasons(&plan, &Call::new()), [("rule 1".to_owned(), Unselected::MissingValue)]);
}

#[test]
fn only_the_highest_of_an_override_group_applies() {
    let in_group =
        |byte, priority, group: &str| Rule { priority, override_group: Some(group.to_owned()), ..rule(byte) };
    let rules = [in_group(1, 5, "a"), in_group(2, 9, "a"), in_group(3, 1, "b"), rule(4)];
    let plan = compile(&rules, &[]);
    assert_eq!(names(&plan, &Call::new()), ["rule 2", "rule 3", "rule 4"]);
    assert_eq!(reasons(&plan, &Call::new()), [("rule 1".to_owned(), Unselected::Overridden)]);
}

#[test]
fn a_rule_of_a_group_that_skips_the_call_leaves_its_place_to_the_next() {
    let special = Rule {
        priority: 9,
        override_group: Some("a".to_owned()),
        ..scoped(1, &[Dimension::Subject], OnMissing::Skip)
    };
    let general = Rule { override_group: Some("a".to_owned()), ..rule(2) };
    let plan = compile(&[special, general], &[]);
    assert_eq!(names(&plan, &Call::of("alice")), ["rule 1"]);
    assert_eq!(names(&plan, &Call::new()), ["rule 2"]);
    assert_eq!(reasons(&plan, &Call::new()), [("rule 1".to_owned(), Unselected::MissingValue)]);
}

#[test]
fn explain_names_what_did_not_match() {
    let of_model = Match { models: vec![Glob::parse("models", "gpt-*").unwrap()], ..Match::default() };
    let of_api = Match { apis: vec![ApiId::from_random([9; 16])], ..Match::default() };
    let rules = [Rule { matches: of_model, ..rule(1) }, Rule { matches: of_api, ..rule(2) }, rule(3)];
    let expected = [
        ("rule 1".to_owned(), Unselected::Mismatch(Mismatch::Model)),
        ("rule 2".to_owned(), Unselected::Mismatch(Mismatch::Api)),
    ];
    assert_eq!(reasons(&compile(&rules, &[]), &Call::to(2)), expected);
}

#[test]
fn an_api_named_twice_counts_once() {
    let api = ApiId::from_random([2; 16]);
    let twice = Match { apis: vec![api.clone(), api], ..Match::default() };
    let plan = compile(&[Rule { matches: twice, ..rule(1) }], &[]);
    assert_eq!(names(&plan, &Call::to(2)), ["rule 1"]);
}

#[test]
fn what_is_not_active_does_not_apply() {
    let plan = compile(&[Rule { active: false, ..rule(1) }], &[Budget { active: false, ..budget(1) }]);
    assert!(plan.limits().is_empty());
}

#[test]
fn a_calendar_limit_follows_the_clock_after_the_plan_was_compiled() {
    let own = Zone::parse("zone", "Asia/Kathmandu").unwrap();
    let period = BudgetPeriod::Calendar { period: CalendarPeriod::Day, zone: Some(own.clone()) };
    let plan = compile(&[], &[Budget { period, ..budget(1) }]);
    for days in [0, 1, 40] {
        let at = now().plus(days * 86_400_000);
        let expected = Limit::Budget { nanos: 1_000, bounds: Some(CalendarPeriod::Day.bounds(&own, at)) };
        assert_eq!(plan.limits()[0].limit_at(at), expected);
    }
}

fn any_rule(byte: u8) -> impl Strategy<Value = Rule> {
    let apis = prop::collection::vec(1_u8..4, 0..3);
    (apis, -3_i32..3, prop::option::of(prop::sample::select(vec!["a", "b"]))).prop_map(
        move |(apis, priority, group)| Rule {
            matches: Match {
                apis: apis.into_iter().map(|api| ApiId::from_random([api; 16])).collect(),
                ..Match::default()
            },
            priority,
            override_group: group.map(str::to_owned),
            ..rule(byte)
        },
    )
}

/// The selection as it is defined, without an index: all limits that match by falling priority,
/// the first of each group.
fn selected_plainly(rules: &[Rule], call: &Call) -> Vec<String> {
    let mut sorted: Vec<&Rule> = rules.iter().collect();
    sorted.sort_by_key(|rule| (-rule.priority, rule.id.clone()));
    let mut chosen: Vec<&Rule> = Vec::new();
    for rule in sorted.into_iter().filter(|rule| rule.matches.test(&call.facts()).is_ok()) {
        let group = &rule.override_group;
        if group.is_none() || chosen.iter().all(|other| other.override_group != *group) {
            chosen.push(rule);
        }
    }
    chosen.into_iter().map(|rule| rule.name.as_str().to_owned()).collect()
}

proptest! {
    #![proptest_config(cases(500))]

    #[test]
    fn the_index_selects_what_the_definition_does_in_the_order_of_priority(
        rules in (1_u8..12).prop_flat_map(|count| (0..count).map(any_rule).collect::<Vec<_>>()),
        api in 0_u8..5,
    ) {
        let call = if api == 0 { Call::new() } else { Call::to(api) };
        let plan = compile(&rules, &[]);
        let selected = names(&plan, &call);
        prop_assert_eq!(&selected, &selected_plainly(&rules, &call));
        // What is not selected is explained, and nothing else.
        prop_assert_eq!(selected.len() + reasons(&plan, &call).len(), rules.len());
    }
}
