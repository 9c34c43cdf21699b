//! Other amounts for single keys and subjects.

use super::*;
use crate::rule::{Override, OverrideAmount, OverrideOf};

fn of_subject(subject: &str, amount: OverrideAmount) -> Override {
    Override { whose: OverrideOf::Subject(subject.to_owned()), amount }
}

fn of_key(byte: u8, amount: OverrideAmount) -> Override {
    Override { whose: OverrideOf::Key(KeyId::from_random([byte; 16])), amount }
}

fn sizes(plan: &Plan, call: &Call) -> Vec<i64> {
    plan.select(&call.facts(), now()).selected.iter().map(|selected| selected.limit.size()).collect()
}

fn ten_and(overrides: Vec<Override>) -> Plan {
    compile(&[Rule { overrides, ..rule(1) }], &[])
}

#[test]
fn a_subject_and_a_key_have_their_own_amounts_and_the_others_the_rules() {
    let plan =
        ten_and(vec![of_subject("alice", OverrideAmount::Limit(50)), of_key(9, OverrideAmount::Limit(3))]);
    let other_key = |subject| Call { key: KeyId::from_random([9; 16]), ..Call::of(subject) };
    assert_eq!(sizes(&plan, &Call::of("alice")), [50]);
    assert_eq!(sizes(&plan, &Call::of("bob")), [10]);
    assert_eq!(sizes(&plan, &other_key("bob")), [3]);
    // The subject is the narrower of the two.
    assert_eq!(sizes(&plan, &other_key("alice")), [50]);
}

#[test]
fn the_counter_stays_the_rules() {
    let plan = ten_and(vec![of_subject("alice", OverrideAmount::Limit(50))]);
    assert_eq!(counters(&plan, &Call::of("alice")), counters(&compile(&[rule(1)], &[]), &Call::of("alice")));
    let before = rule(1);
    let after = Rule { overrides: vec![of_key(1, OverrideAmount::Unlimited)], ..rule(1) };
    assert!(keeps_counters(&workspace(), &Zone::UTC, &before, &after));
}

#[test]
fn a_bucket_has_another_rate_and_a_calendar_keeps_its_bounds() {
    let (slow, fast) = (Refill::new(1, 60_000, 10).unwrap(), Refill::new(5, 1_000, 40).unwrap());
    let algorithm = Algorithm::TokenBucket { capacity: 10, refill: slow };
    let amount = OverrideAmount::TokenBucket { capacity: 40, refill: fast };
    let overrides = vec![of_subject("alice", amount)];
    let plan = compile(&[Rule { algorithm, overrides, ..rule(1) }], &[]);
    let limit = |subject| plan.select(&Call::of(subject).facts(), now()).selected[0].limit;
    assert_eq!(limit("alice"), Limit::TokenBucket { capacity: 40, refill: fast });
    assert_eq!(limit("bob"), Limit::TokenBucket { capacity: 10, refill: slow });
    let algorithm = Algorithm::CalendarWindow { limit: 10, period: CalendarPeriod::Day, zone: None };
    let overrides = vec![of_subject("alice", OverrideAmount::Limit(7))];
    let plan = compile(&[Rule { algorithm, overrides, ..rule(1) }], &[]);
    let bounds = CalendarPeriod::Day.bounds(&Zone::UTC, now());
    let selection = plan.select(&Call::of("alice").facts(), now()).selected[0].limit;
    assert_eq!(selection, Limit::CalendarWindow { limit: 7, bounds });
}

#[test]
fn whoever_has_no_limit_is_not_counted_and_is_told_so() {
    let plan = ten_and(vec![of_subject("alice", OverrideAmount::Unlimited)]);
    assert!(counters(&plan, &Call::of("alice")).is_empty());
    assert_eq!(reasons(&plan, &Call::of("alice")), [("rule 1".to_owned(), Unselected::Unlimited)]);
    assert_eq!(reasons(&plan, &Call::of("bob")), []);
}

#[test]
fn whoever_has_no_limit_is_not_denied_for_a_value_that_is_missing() {
    let denying = scoped(1, &[Dimension::Model], OnMissing::Deny);
    let overrides = vec![of_subject("alice", OverrideAmount::Unlimited)];
    let plan = compile(&[Rule { overrides, ..denying }], &[]);
    assert!(plan.select(&Call::of("alice").facts(), now()).denied_by_missing.is_none());
    assert!(plan.select(&Call::of("bob").facts(), now()).denied_by_missing.is_some());
}

#[test]
fn a_rule_that_exempts_keeps_its_place_in_its_group() {
    let group = || Some("tiers".to_owned());
    let overrides = vec![of_subject("alice", OverrideAmount::Unlimited)];
    let first = Rule { priority: 9, override_group: group(), overrides, ..rule(1) };
    let second = Rule { override_group: group(), ..rule(2) };
    let plan = compile(&[first, second], &[]);
    assert_eq!(names(&plan, &Call::of("bob")), ["rule 1"]);
    assert!(names(&plan, &Call::of("alice")).is_empty());
    let told = reasons(&plan, &Call::of("alice"));
    let expected = [("rule 1", Unselected::Unlimited), ("rule 2", Unselected::Overridden)];
    assert_eq!(told, expected.map(|(name, why)| (name.to_owned(), why)));
}
