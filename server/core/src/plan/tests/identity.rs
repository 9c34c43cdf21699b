//! A counter's identity: what changes it and what does not.

use super::*;

fn keeps(change: impl FnOnce(&mut Rule)) -> bool {
    let before = scoped(1, &[Dimension::Subject], OnMissing::Shared);
    let mut after = before.clone();
    change(&mut after);
    let kept = keeps_counters(&workspace(), &Zone::UTC, &before, &after);
    let counter = |rule: &Rule| counters(&compile(std::slice::from_ref(rule), &[]), &Call::of("alice"));
    assert_eq!(counter(&before) == counter(&after), kept, "{after:?}");
    kept
}

#[test]
fn changing_size_match_name_mode_or_order_keeps_the_counters() {
    assert!(keeps(|rule| rule.algorithm = Algorithm::FixedWindow { limit: 99, window_ms: 60_000 }));
    assert!(keeps(|rule| rule.matches = Match { subjects: vec!["alice".into()], ..Match::default() }));
    assert!(keeps(|rule| rule.name = name("another")));
    assert!(keeps(|rule| rule.enforcement = Enforcement::Shadow));
    assert!(keeps(|rule| rule.priority = 7));
    assert!(keeps(|rule| rule.override_group = Some("a".into())));
}

#[test]
fn changing_the_shape_begins_anew() {
    assert!(!keeps(|rule| rule.unit = Unit::Tokens));
    assert!(!keeps(|rule| rule.unit = Unit::Custom("pages".into())));
    assert!(!keeps(|rule| rule.algorithm = Algorithm::SlidingWindow { limit: 10, window_ms: 60_000 }));
    assert!(!keeps(|rule| rule.algorithm = Algorithm::FixedWindow { limit: 10, window_ms: 60_001 }));
    assert!(!keeps(|rule| rule.scope.dimensions = vec![Dimension::Key]));
    assert!(!keeps(|rule| rule.scope.dimensions = vec![Dimension::Subject, Dimension::Key]));
    assert!(!keeps(|rule| rule.scope.dimensions = vec![Dimension::Attribute("subject".into())]));
    assert!(!keeps(|rule| rule.id = RuleId::from_random([2; 16])));
    assert!(!keeps(|rule| rule.policies.spread_by_subject = true));
}

#[test]
fn changing_a_buckets_rate_and_capacity_keeps_its_counters() {
    let bucket = |units, capacity| Algorithm::TokenBucket {
        capacity,
        refill: Refill::new(units, 1_000, capacity).unwrap(),
    };
    let before = Rule { algorithm: bucket(1, 10), ..rule(1) };
    let after = Rule { algorithm: bucket(7, 99), ..rule(1) };
    assert!(keeps_counters(&workspace(), &Zone::UTC, &before, &after));
}

#[test]
fn a_calendars_period_and_zone_are_part_of_its_identity() {
    let calendar = |period, zone: Option<&str>| Rule {
        algorithm: Algorithm::CalendarWindow {
            limit: 10,
            period,
            zone: zone.map(|zone| Zone::parse("zone", zone).unwrap()),
        },
        ..rule(1)
    };
    let keeps = |before: &Rule, after: &Rule| keeps_counters(&workspace(), &Zone::UTC, before, after);
    let day = calendar(CalendarPeriod::Day, None);
    assert!(keeps(&day, &calendar(CalendarPeriod::Day, Some("UTC"))), "the same zone, now named");
    assert!(!keeps(&day, &calendar(CalendarPeriod::Week, None)));
    assert!(!keeps(&day, &calendar(CalendarPeriod::Day, Some("Europe/Berlin"))));
}

#[test]
fn the_same_holds_for_budgets() {
    let keeps = |change: fn(&mut Budget)| {
        let mut after = budget(1);
        change(&mut after);
        budget_keeps_counters(&workspace(), &Zone::UTC, &budget(1), &after)
    };
    assert!(keeps(|budget| budget.amount = Nanos::from_stored(5)));
    assert!(keeps(|budget| budget.name = name("another")));
    assert!(keeps(|budget| budget.enforcement = Enforcement::Soft));
    assert!(!keeps(|budget| budget.period = BudgetPeriod::Prepaid));
    assert!(!keeps(
        |budget| budget.period = BudgetPeriod::Calendar { period: CalendarPeriod::Day, zone: None }
    ));
    assert!(!keeps(|budget| budget.scope.dimensions = vec![Dimension::Key]));
}

#[test]
fn the_same_rule_of_two_workspaces_has_two_counters() {
    let other = WorkspaceId::from_random([2; 16]);
    let plan = |workspace| Plan::compile(workspace, &Zone::UTC, &[rule(1)], &[], now());
    assert_ne!(counters(&plan(&workspace()), &Call::new()), counters(&plan(&other), &Call::new()));
}

#[test]
fn an_identity_is_the_same_in_every_version_of_the_program() {
    // Counters are kept on disk under it: should this fail, they would all begin anew.
    let scope = Scope { dimensions: vec![Dimension::Subject, Dimension::Ip], on_missing: OnMissing::Shared };
    let period = CalendarPeriod::Week;
    let algorithm = Algorithm::CalendarWindow { limit: 10, period, zone: None };
    let plan = compile(&[Rule { scope, algorithm, ..rule(1) }], &[]);
    let call = Call { ip: Some("192.0.2.7".parse().unwrap()), ..Call::of("alice") };
    assert_eq!(format!("{:032x}", counters(&plan, &call)[0].0), "22f45e4fbd0d6b1c244ed717a89311d7");
    let counter = counters(&plan, &call)[0];
    let overflow = plan.limits()[0].overflow_beside(counter);
    assert_eq!(format!("{:032x}", overflow.0), "50a302c1c8bae67336189f33a89311d7");
}

#[test]
fn the_overflow_counter_is_none_of_the_others() {
    let plan = compile(&[rule(1), scoped(2, &[Dimension::Subject], OnMissing::Shared)], &[]);
    let mut all = counters(&plan, &Call::of("alice"));
    all.extend(counters(&plan, &Call::new()));
    for (limit, counter) in plan.limits().iter().zip(counters(&plan, &Call::new())) {
        assert!(!all.contains(&limit.overflow_beside(counter)));
    }
}

#[test]
fn a_spread_rules_counters_are_in_the_shard_of_their_subject() {
    let spread = |number| Rule {
        policies: RulePolicies { spread_by_subject: true, ..RulePolicies::default() },
        ..scoped(number, &[Dimension::Key, Dimension::Subject], OnMissing::Shared)
    };
    let plan = compile(&[spread(1), spread(2), scoped(3, &[Dimension::Subject], OnMissing::Shared)], &[]);
    for subject in ["", "alice", "bob"] {
        let of_call = counters(&plan, &Call::of(subject));
        let shard = Some(Shard::of_subject(subject));
        let shards: Vec<_> = of_call.iter().map(|counter| counter.shard()).collect();
        assert_eq!(shards, [shard, shard, None]);
        for (limit, counter) in plan.limits().iter().zip(of_call) {
            assert_eq!(limit.overflow_beside(counter).shard(), counter.shard());
        }
    }
}

#[test]
fn all_counters_of_a_limit_are_of_its_family_and_of_no_others() {
    let plan = compile(&[scoped(1, &[Dimension::Subject], OnMissing::Shared)], &[budget(2)]);
    let [one, other] = plan.limits() else { panic!("two limits") };
    assert_ne!(one.family(), other.family());
    for limit in [one, other] {
        for subject in ["", "alice", "bob"] {
            let counter = limit.counter(&Call::of(subject).facts()).unwrap();
            assert_eq!(counter.family(), limit.family());
            assert_eq!(limit.overflow_beside(counter).family(), limit.family());
        }
    }
}
