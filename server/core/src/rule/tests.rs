use super::*;
use crate::ids::KeyId;
use crate::matching::{Dimension, OnMissing};

fn rule() -> Rule {
    Rule {
        id: RuleId::from_random([1; 16]),
        name: DisplayName::parse("name", "a rule").unwrap(),
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

fn running(limit: i64) -> Rule {
    Rule { algorithm: Algorithm::Concurrency { limit }, ..rule() }
}

fn fault(rule: &Rule) -> String {
    rule.check().unwrap_err().field
}

fn of_subject(subject: &str, amount: OverrideAmount) -> Override {
    Override { whose: OverrideOf::Subject(subject.to_owned()), amount }
}

fn of_key(byte: u8, amount: OverrideAmount) -> Override {
    Override { whose: OverrideOf::Key(KeyId::from_random([byte; 16])), amount }
}

fn with(overrides: Vec<Override>) -> Rule {
    Rule { overrides, ..rule() }
}

#[test]
fn calls_at_the_same_time_are_counted_strictly_by_the_shared_counters_alone() {
    running(0).check().unwrap();
    running(LIMIT_MAX).check().unwrap();
    assert_eq!(fault(&running(-1)), "limit");
    let policies = |policies| Rule { policies, ..running(3) };
    let leased = RulePolicies { consistency: Consistency::Leased, ..RulePolicies::default() };
    assert_eq!(fault(&policies(leased)), "consistency");
    let failure = FailurePolicy::Local { share_percent: 10, replicas_max: 2 };
    assert_eq!(fault(&policies(RulePolicies { failure, ..RulePolicies::default() })), "failure_policy.mode");
    let owing = RulePolicies { counts_denied: true, ..RulePolicies::default() };
    assert_eq!(fault(&policies(owing)), "counts_denied");
    assert_eq!(fault(&Rule { unit: Unit::Tokens, ..running(3) }), "unit");
}

#[test]
fn only_a_rule_that_counts_by_subject_is_spread_by_it() {
    let policies = RulePolicies { spread_by_subject: true, ..RulePolicies::default() };
    let by = |dimensions: &[Dimension]| Rule {
        policies,
        scope: Scope { dimensions: dimensions.to_vec(), on_missing: OnMissing::Shared },
        ..rule()
    };
    by(&[Dimension::Key, Dimension::Subject]).check().unwrap();
    assert_eq!(fault(&by(&[Dimension::Key])), "spread_by_subject");
    assert_eq!(fault(&by(&[])), "spread_by_subject");
}

#[test]
fn an_override_has_an_amount_of_its_rules_algorithm_and_within_its_bounds() {
    with(vec![of_key(1, OverrideAmount::Limit(0)), of_subject("a", OverrideAmount::Unlimited)])
        .check()
        .unwrap();
    let beyond = with(vec![of_subject("a", OverrideAmount::Limit(LIMIT_MAX + 1))]);
    assert_eq!(fault(&beyond), "overrides[0].limit");
    let refill = Refill::new(1, 1_000, 5).unwrap();
    let bucket = OverrideAmount::TokenBucket { capacity: 5, refill };
    assert_eq!(fault(&with(vec![of_subject("a", bucket.clone())])), "overrides[0].amount");
    let algorithm = Algorithm::TokenBucket { capacity: 1, refill };
    Rule { algorithm: algorithm.clone(), ..with(vec![of_subject("a", bucket)]) }.check().unwrap();
    let plain = with(vec![of_subject("a", OverrideAmount::Limit(5))]);
    assert_eq!(fault(&Rule { algorithm, ..plain }), "overrides[0].amount");
}

#[test]
fn an_override_is_for_whom_the_rule_means_and_there_is_one_for_each() {
    let unlimited = OverrideAmount::Unlimited;
    let twice = with(vec![of_key(1, unlimited.clone()), of_key(1, OverrideAmount::Limit(1))]);
    assert_eq!(fault(&twice), "overrides[1]");
    assert_eq!(fault(&with(vec![of_subject("", unlimited.clone())])), "overrides[0].subject");
    let matches =
        Match { keys: vec![KeyId::from_random([1; 16])], subjects: vec!["a".to_owned()], ..Match::default() };
    let meant = |overrides| Rule { matches: matches.clone(), ..with(overrides) };
    meant(vec![of_key(1, unlimited.clone()), of_subject("a", unlimited.clone())]).check().unwrap();
    assert_eq!(fault(&meant(vec![of_key(2, unlimited.clone())])), "overrides[0].key_id");
    assert_eq!(fault(&meant(vec![of_subject("b", unlimited.clone())])), "overrides[0].subject");
    let many = (0..=OVERRIDES_MAX).map(|n| of_subject(&n.to_string(), unlimited.clone()));
    assert_eq!(fault(&with(many.collect())), "overrides");
}

const OVERRIDES_MAX: usize = crate::limits::OVERRIDES_PER_RULE_MAX;

#[test]
fn what_becomes_of_missing_values_is_only_said_where_one_can_be_missing() {
    let scoped = |dimensions: &[Dimension], on_missing| Rule {
        scope: Scope { dimensions: dimensions.to_vec(), on_missing },
        ..rule()
    };
    for on_missing in [OnMissing::Deny, OnMissing::Skip] {
        assert_eq!(fault(&scoped(&[], on_missing)), "on_missing");
        assert_eq!(fault(&scoped(&[Dimension::Key], on_missing)), "on_missing");
        scoped(&[Dimension::Key, Dimension::Subject], on_missing).check().unwrap();
    }
    scoped(&[Dimension::Key], OnMissing::Shared).check().unwrap();
    let twice = [Dimension::Subject, Dimension::Key, Dimension::Subject];
    assert_eq!(fault(&scoped(&twice, OnMissing::Shared)), "scope[2]");
}
