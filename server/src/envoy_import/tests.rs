//! What a configuration becomes: the rules, and what is told of what they do not say.

use rateguard_core::descriptor::endpoint;
use rateguard_core::limits::LIMIT_MAX;
use rateguard_core::matching::Glob;

use super::*;
use crate::workspace_file::document::{Algorithm, RuleMode, Scope, Window};
use crate::workspace_file::{Length, parse, render};

fn imported(text: &str) -> Imported {
    import(text, "EUR").unwrap()
}

fn refusal(text: &str) -> String {
    import(text, "EUR").unwrap_err().to_string()
}

fn notes(imported: &Imported) -> Vec<(&str, &str)> {
    imported.notes.iter().map(|note| (note.path.as_str(), note.message.as_str())).collect()
}

fn paths(imported: &Imported) -> Vec<&str> {
    imported.notes.iter().map(|note| note.path.as_str()).collect()
}

fn window(rule: &Rule) -> Window {
    match &rule.algorithm {
        Algorithm::FixedWindow(window) => window.clone(),
        other => panic!("{other:?} is no fixed window"),
    }
}

fn a_window(limit: i64, ms: i64) -> Window {
    Window { limit, window: Length { ms } }
}

/// Whether the rule matches a descriptor with these entries.
fn matches(rule: &Rule, entries: &[(&str, &str)]) -> bool {
    let matches = rule.matches.as_ref().expect("every rule has a match");
    let endpoint = endpoint(entries.iter().copied());
    matches.endpoints.iter().any(|pattern| Glob::parse("endpoints", pattern).unwrap().matches(&endpoint))
}

/// The rule that stays of those that match, as override groups decide.
fn met<'r>(imported: &'r Imported, entries: &[(&str, &str)]) -> Option<&'r Rule> {
    let matching: Vec<&Rule> = imported.document.rules.iter().filter(|rule| matches(rule, entries)).collect();
    let first = matching.iter().copied().max_by_key(|rule| rule.priority)?;
    assert!(
        matching.len() == 1 || matching.iter().all(|rule| rule.override_group == first.override_group),
        "rules that can be met at once are one group: {matching:?}"
    );
    Some(first)
}

/// The limit that a descriptor meets; `None` where it meets none, or one that never denies.
fn limit_of(imported: &Imported, entries: &[(&str, &str)]) -> Option<i64> {
    let limit = window(met(imported, entries)?).limit;
    (limit != LIMIT_MAX).then_some(limit)
}

#[test]
fn nested_descriptors_become_rules_for_their_domain_and_each_value() {
    let imported = imported(
        "
domain: messaging
descriptors:
  - key: message_type
    value: marketing
    descriptors:
      - key: to_number
        rate_limit: {unit: day, requests_per_unit: 5}
  - key: to_number
    rate_limit: {unit: DAY, requests_per_unit: 100}
",
    );
    assert_eq!(notes(&imported), []);
    let [marketing, overall] = &imported.document.rules[..] else { panic!("two rules") };
    assert_eq!(marketing.name, "messaging: message_type=marketing, to_number");
    let matched = marketing.matches.as_ref().unwrap();
    assert_eq!(matched.endpoints, ["/message_type=marketing/to_number=*"]);
    assert_eq!(matched.attributes["envoy_domain"], "messaging");
    assert_eq!(marketing.scope, [Scope::Endpoint]);
    assert_eq!(window(marketing), a_window(5, 86_400_000));
    assert_eq!((marketing.override_group.as_deref(), marketing.priority), (None, 0));
    assert_eq!(overall.matches.as_ref().unwrap().endpoints, ["/to_number=*"]);
}

#[test]
fn every_unit_has_the_length_that_the_service_gives_it() {
    for (unit, ms) in [
        ("second", 1_000),
        ("minute", 60_000),
        ("hour", 3_600_000),
        ("day", 86_400_000),
        ("week", 604_800_000),
        ("month", 2_592_000_000),
        ("year", 31_536_000_000),
    ] {
        let text = format!(
            "domain: d\ndescriptors: [{{key: k, rate_limit: {{unit: {unit}, requests_per_unit: 1}}}}]"
        );
        assert_eq!(window(&imported(&text).document.rules[0]), a_window(1, ms), "{unit}");
    }
    let three = "domain: d\ndescriptors: [{key: k, rate_limit: {unit: hour, unit_multiplier: 3, requests_per_unit: 1}}]";
    assert_eq!(window(&imported(three).document.rules[0]), a_window(1, 10_800_000));
}

const PRECEDENCE: &str = "
domain: edge
descriptors:
  - key: address
    rate_limit: {unit: second, requests_per_unit: 10}
  - key: address
    value: 10.0.0.*
    rate_limit: {unit: second, requests_per_unit: 20}
  - key: address
    value: 10.0.*
    rate_limit: {unit: second, requests_per_unit: 30}
  - key: address
    value: 10.0.0.7
    rate_limit: {unit: second, requests_per_unit: 0}
  - key: address
    value: 10.0.0.8
  - key: address
    value: 10.0.0.9
    rate_limit: {unlimited: true}
";

#[test]
fn of_one_level_the_value_goes_before_the_first_wildcard_and_that_before_any() {
    let imported = imported(PRECEDENCE);
    let limit = |address: &str| limit_of(&imported, &[("address", address)]);
    assert_eq!(limit("192.0.2.1"), Some(10));
    assert_eq!(limit("10.0.0.1"), Some(20), "the first of two that fit");
    assert_eq!(limit("10.0.1.1"), Some(30));
    assert_eq!(limit("10.0.0.7"), Some(0));
    assert_eq!(limit("10.0.0.8"), None, "it is on the list without a limit");
    assert_eq!(limit("10.0.0.9"), None, "it has no limit");
    assert!(met(&imported, &[("address", "10.0.0.9")]).is_some(), "and is told so");
    assert_eq!(notes(&imported), []);
}

#[test]
fn what_is_unlimited_watches_alone() {
    let imported = imported("domain: d\ndescriptors: [{key: ldap, rate_limit: {unlimited: true}}]");
    let rule = &imported.document.rules[0];
    assert_eq!((rule.mode, window(rule).limit), (RuleMode::Shadow, LIMIT_MAX));
    assert!(rule.scope.is_empty(), "one counter is enough for what counts nothing");
}

#[test]
fn a_turn_that_was_taken_is_not_taken_back() {
    let imported = imported(
        "
domain: d
descriptors:
  - key: a
    value: one
    descriptors:
      - key: b
        value: two
        rate_limit: {unit: hour, requests_per_unit: 1}
  - key: a
    descriptors:
      - key: b
        rate_limit: {unit: hour, requests_per_unit: 2}
      - key: c
        rate_limit: {unit: hour, requests_per_unit: 3}
",
    );
    assert_eq!(limit_of(&imported, &[("a", "one"), ("b", "two")]), Some(1));
    assert_eq!(limit_of(&imported, &[("a", "one"), ("b", "other")]), None);
    assert_eq!(limit_of(&imported, &[("a", "one"), ("c", "x")]), None);
    assert_eq!(limit_of(&imported, &[("a", "other"), ("b", "two")]), Some(2));
    assert_eq!(limit_of(&imported, &[("a", "other"), ("c", "x")]), Some(3));
    assert_eq!(limit_of(&imported, &[("a", "one")]), None);
}

#[test]
fn a_wildcard_keeps_values_apart_unless_they_share_the_threshold() {
    let imported = imported(
        "
domain: d
descriptors:
  - key: path
    value: /files/*
    rate_limit: {unit: hour, requests_per_unit: 1}
  - key: model
    value: gpt-*
    share_threshold: true
    rate_limit: {unit: hour, requests_per_unit: 2}
  - key: user
    descriptors:
      - key: model
        value: gpt-*
        share_threshold: true
        rate_limit: {unit: hour, requests_per_unit: 3}
",
    );
    let rule = |entries: &[(&str, &str)]| met(&imported, entries).unwrap();
    assert_eq!(rule(&[("path", "/files/a/b.pdf")]).scope, [Scope::Endpoint]);
    assert!(rule(&[("model", "gpt-5")]).scope.is_empty());
    let nested = rule(&[("user", "ann"), ("model", "gpt-5")]);
    assert_eq!(nested.scope, [Scope::Attribute("envoy_value_1".to_owned())]);
    assert!(met(&imported, &[("path", "/other")]).is_none());
    assert_eq!(notes(&imported), []);
}

#[test]
fn modes_are_carried_and_what_they_mean_otherwise_here_is_told() {
    let imported = imported(
        "
domain: d
descriptors:
  - key: watched
    shadow_mode: true
    rate_limit: {unit: hour, requests_per_unit: 1}
  - key: tokens
    quota_mode: true
    rate_limit: {unit: hour, requests_per_unit: 2}
  - key: nothing
    quota_mode: true
    share_threshold: true
",
    );
    let rule = |key: &str| met(&imported, &[(key, "x")]).unwrap();
    assert_eq!((rule("watched").mode, rule("watched").counts_denied), (RuleMode::Shadow, false));
    assert_eq!((rule("tokens").mode, rule("tokens").counts_denied), (RuleMode::Enforced, true));
    assert_eq!(
        paths(&imported),
        ["descriptors[1].quota_mode", "descriptors[2].quota_mode", "descriptors[2].share_threshold"]
    );
    assert!(imported.notes[0].message.starts_with("is carried as counts_denied"));
    assert!(imported.notes[1].message.starts_with("does nothing"));
}

#[test]
fn values_in_metrics_are_told_of_as_not_carried() {
    let imported = imported(
        "
domain: d
descriptors:
  - key: a
    detailed_metric: true
    rate_limit: {unit: hour, requests_per_unit: 1}
    descriptors:
      - {key: b, value_to_metric: true, rate_limit: {unit: hour, requests_per_unit: 1}}
",
    );
    assert_eq!(
        paths(&imported),
        ["descriptors[0].descriptors[0].value_to_metric", "descriptors[0].detailed_metric"]
    );
    assert_eq!(imported.document.rules.len(), 2);
}

const REPLACING: &str = "
domain: d
descriptors:
  - key: kind
    value: read
    descriptors:
      - key: user
        rate_limit: {name: reads, unit: second, requests_per_unit: 5}
  - key: path
    value: /special
    descriptors:
      - key: user
        rate_limit: {replaces: [{name: reads}], unit: second, requests_per_unit: 10}
";

#[test]
fn a_limit_that_replaces_one_other_is_in_a_group_of_the_request_with_it() {
    let imported = imported(REPLACING);
    assert_eq!(notes(&imported), []);
    let rule = |entries: &[(&str, &str)]| met(&imported, entries).unwrap();
    let reads = rule(&[("kind", "read"), ("user", "ann")]);
    let special = rule(&[("path", "/special"), ("user", "ann")]);
    assert_eq!(reads.name, "reads");
    for (rule, priority) in [(reads, 0), (special, 1)] {
        assert_eq!((rule.override_group.as_deref(), rule.priority), (Some("request:reads"), priority));
    }
}

#[test]
fn what_no_group_can_say_of_replacing_is_told() {
    let another = "
  - key: other
    rate_limit: {replaces: [{name: reads}], unit: second, requests_per_unit: 10}
";
    let twice = imported(&format!("{REPLACING}{another}"));
    assert_eq!(
        paths(&twice),
        ["descriptors[1].descriptors[0].rate_limit.replaces", "descriptors[2].rate_limit.replaces"]
    );
    let nobody = imported(&REPLACING.replace("name: reads, unit", "unit"));
    assert!(nobody.notes[0].message.contains("0 limits here are called \"reads\""), "{:?}", nobody.notes);
    let several = imported(&REPLACING.replace("[{name: reads}]", "[{name: reads}, {name: writes}]"));
    assert!(several.notes[0].message.contains("replaces several"), "{:?}", several.notes);
    let grouped = imported(&format!(
        "{REPLACING}  - key: path\n    descriptors:\n      - {{key: user, rate_limit: {{unit: hour, requests_per_unit: 1}}}}\n"
    ));
    assert!(grouped.notes[0].message.contains("in a group already"), "{:?}", grouped.notes);
}

#[test]
fn what_descriptors_and_rules_have_no_room_for_is_told() {
    let mut deep = "rate_limit: {unit: hour, requests_per_unit: 1}".to_owned();
    for _ in 0..11 {
        deep = format!("descriptors: [{{key: k, {deep}}}]");
    }
    let deep = imported(&format!("domain: d\n{deep}"));
    assert!(deep.document.rules.is_empty());
    assert!(deep.notes[0].message.contains("at most 10 entries"), "{:?}", deep.notes);
    let limit = "rate_limit: {unit: hour, requests_per_unit: 1}";
    let long = format!("domain: d\ndescriptors: [{{key: k, value: {}, {limit}}}]", "ü".repeat(100));
    assert!(imported(&long).notes[0].message.contains("more than 512 bytes"));
    let years = "domain: d\ndescriptors: [{key: k, rate_limit: {unit: year, unit_multiplier: 2, requests_per_unit: 1}}]";
    assert!(imported(years).notes[0].message.contains("a window has at most"));
}

#[test]
fn what_is_written_can_be_applied_and_names_differ() {
    let text = "
domain: d
descriptors:
  - {key: a, rate_limit: {name: same, unit: hour, requests_per_unit: 1}}
  - {key: b, rate_limit: {name: same, unit: hour, requests_per_unit: 1}}
  - {key: 'c d', value: 80, rate_limit: {name: 'a very long name', unit: hour, requests_per_unit: 1}}
";
    let imported = imported(&text.replace("a very long name", &"ü".repeat(200)));
    let names: Vec<&str> = imported.document.rules.iter().map(|rule| rule.name.as_str()).collect();
    assert_eq!(names[..2], ["same", "same (2)"]);
    assert_eq!(names[2].len(), 128);
    let written = render(&imported.document).unwrap();
    assert_eq!(parse(&written).unwrap(), imported.document);
    assert!(written.contains("currency: EUR"));
    assert!(written.contains("/c%20d=80"), "{written}");
}

#[test]
fn a_bad_file_is_refused_with_the_place() {
    let of = |descriptor: &str| refusal(&format!("domain: d\ndescriptors:\n  - {descriptor}\n"));
    for (descriptor, expected) in [
        (
            "{key: k, valeu: v}",
            "line 3: descriptors[0].valeu: there is no \"valeu\" here; the nearest is \"value\"",
        ),
        ("{value: v}", "descriptors[0]"),
        ("{key: ''}", "descriptors[0].key: must not be empty"),
        (
            "{key: k, rate_limit: {requests_per_unit: 1}}",
            "descriptors[0].rate_limit.unit: must say a unit of time",
        ),
        ("{key: k, rate_limit: {unit: fortnight}}", "\"fortnight\" is no second"),
        ("{key: k, rate_limit: {unit: day, unlimited: true}}", "must not stand beside unlimited"),
        (
            "{key: k, rate_limit: {unit: day, requests_per_unit: -1}}",
            "descriptors[0].rate_limit.requests_per_unit",
        ),
        ("{key: k, rate_limit: {unit: day, unit_multiplier: 0}}", "unit_multiplier: must be at least 1"),
        (
            "{key: k, rate_limit: {unit: day, name: a, replaces: [{name: a}]}}",
            "must not be the limit's own name",
        ),
        ("{key: k, rate_limit: {unit: day, replaces: [{name: ''}]}}", "replaces[0].name: must not be empty"),
    ] {
        let told = of(descriptor);
        assert!(told.contains(expected), "{descriptor}: {told}");
    }
    let twice = refusal("domain: d\ndescriptors: [{key: k, value: v}, {key: k, value: v}]");
    assert!(twice.starts_with("descriptors[1]: has the key and the value of another one"), "{twice}");
    assert_eq!(refusal("domain: ''"), "domain: must not be empty");
    assert!(refusal("descriptors: []").contains("domain"));
}

#[test]
fn more_rules_than_a_workspace_holds_are_refused() {
    let node =
        |number: usize| format!("  - {{key: k{number}, rate_limit: {{unit: day, requests_per_unit: 1}}}}\n");
    let text: String = (0..1_001).map(node).collect();
    let told = refusal(&format!("domain: d\ndescriptors:\n{text}"));
    assert!(told.contains("1001 rules"), "{told}");
    let text: String = (0..5_001).map(node).collect();
    let told = refusal(&format!("domain: d\ndescriptors:\n{text}"));
    assert_eq!(told, "descriptors: has 5001 entries, and at most 5000 are read");
}
