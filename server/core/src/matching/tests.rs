use proptest::prelude::*;

use super::*;
use crate::decision::tests::cases;

fn key(byte: u8) -> KeyId {
    KeyId::from_random([byte; 16])
}

fn api(byte: u8) -> ApiId {
    ApiId::from_random([byte; 16])
}

fn glob(text: &str) -> Glob {
    Glob::parse("glob", text).unwrap()
}

/// A call about which all is known.
fn with_facts<T>(test: impl FnOnce(&CallFacts<'_>) -> T) -> T {
    let (key, api) = (key(1), api(2));
    let attributes = [("team".to_owned(), "red".to_owned())];
    test(&CallFacts {
        key: &key,
        api: Some(&api),
        endpoint: "/v1/chat/completions",
        method: "POST",
        model: "gpt-4o-mini",
        subject: "alice",
        ip: Some("192.0.2.7".parse().unwrap()),
        attributes: &attributes,
    })
}

#[test]
fn a_match_without_lists_means_every_call() {
    with_facts(|facts| assert_eq!(Match::default().test(facts), Ok(())));
}

#[test]
fn every_list_must_hold_the_calls_value_and_is_named_when_it_does_not() {
    let text = |text: &str| vec![text.to_owned()];
    let none = Match::default;
    let cases = [
        (
            Match { apis: vec![api(9), api(2)], ..none() },
            Match { apis: vec![api(9)], ..none() },
            Mismatch::Api,
        ),
        (Match { keys: vec![key(1)], ..none() }, Match { keys: vec![key(9)], ..none() }, Mismatch::Key),
        (
            Match { methods: text("post"), ..none() },
            Match { methods: text("GET"), ..none() },
            Mismatch::Method,
        ),
        (
            Match { subjects: text("alice"), ..none() },
            Match { subjects: text("Alice"), ..none() },
            Mismatch::Subject,
        ),
        (
            Match { endpoints: vec![glob("/v1/**")], ..none() },
            Match { endpoints: vec![glob("/v1/*")], ..none() },
            Mismatch::Endpoint,
        ),
        (
            Match { models: vec![glob("gpt-4*")], ..none() },
            Match { models: vec![glob("gpt-4o")], ..none() },
            Mismatch::Model,
        ),
        (
            Match { ip_ranges: vec!["192.0.2.0/24".parse().unwrap()], ..none() },
            Match { ip_ranges: vec!["192.0.3.0/24".parse().unwrap()], ..none() },
            Mismatch::Ip,
        ),
        (
            Match { attributes: vec![("team".into(), "red".into())], ..none() },
            Match {
                attributes: vec![("team".into(), "red".into()), ("plan".into(), "pro".into())],
                ..none()
            },
            Mismatch::Attribute,
        ),
    ];
    with_facts(|facts| {
        for (meant, other, mismatch) in cases {
            assert_eq!(meant.test(facts), Ok(()), "{meant:?}");
            assert_eq!(other.test(facts), Err(mismatch), "{other:?}");
        }
    });
}

#[test]
fn an_unknown_value_meets_no_list() {
    let key = key(1);
    let facts = CallFacts {
        key: &key,
        api: None,
        endpoint: "",
        method: "",
        model: "",
        subject: "",
        ip: None,
        attributes: &[],
    };
    let ranges =
        Match { ip_ranges: vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()], ..Match::default() };
    assert_eq!(ranges.test(&facts), Err(Mismatch::Ip));
    assert_eq!(Match { apis: vec![api(2)], ..Match::default() }.test(&facts), Err(Mismatch::Api));
    assert_eq!(Match::default().test(&facts), Ok(()));
}

#[test]
fn an_ipv4_address_mapped_into_ipv6_is_in_its_ipv4_range() {
    let range = Match { ip_ranges: vec!["192.0.2.0/24".parse().unwrap()], ..Match::default() };
    with_facts(|facts| {
        let mapped = CallFacts { ip: Some("::ffff:192.0.2.200".parse().unwrap()), ..*facts };
        assert_eq!(range.test(&mapped), Ok(()));
    });
}

#[test]
fn a_star_stays_within_a_segment_and_two_cross_them() {
    assert!(glob("/v1/*/runs").matches("/v1/threads/runs"));
    assert!(!glob("/v1/*/runs").matches("/v1/a/b/runs"));
    assert!(glob("/v1/**/runs").matches("/v1/a/b/runs"));
    assert!(glob("claude-{opus,sonnet}-*").matches("claude-opus-4"));
    assert!(!glob("gpt-4").matches("gpt-4o"), "a pattern matches all of the text");
}

#[test]
fn lists_that_are_too_long_are_named_with_their_bound() {
    let match_ = Match { subjects: vec![String::new(); MATCH_VALUES_MAX + 1], ..Match::default() };
    let invalid = match_.check().unwrap_err();
    assert_eq!(invalid.field, "match.subjects");
    assert!(invalid.description.contains("64"));
    let scope = Scope { dimensions: vec![Dimension::Key; 5], on_missing: OnMissing::Shared };
    assert_eq!(scope.check().unwrap_err().field, "scope");
}

#[test]
fn the_names_of_dimensions_differ() {
    let dimensions = [
        Dimension::Key,
        Dimension::Subject,
        Dimension::Ip,
        Dimension::Api,
        Dimension::Endpoint,
        Dimension::Model,
        Dimension::Attribute("key".into()),
    ];
    let names: std::collections::BTreeSet<_> = dimensions.iter().map(Dimension::as_str).collect();
    assert_eq!(names.len(), dimensions.len());
}

fn pattern_like() -> impl Strategy<Value = String> {
    let parts = vec![
        "*", "**", "?", "{", "}", ",", "[", "]", "!", "^", "-", "\\", "/", "a", "é", "\u{0}", "(", "+", ".",
    ];
    prop_oneof![
        ".{0,60}",
        prop::collection::vec(prop::sample::select(parts), 0..300).prop_map(|p| p.concat())
    ]
}

proptest! {
    #![proptest_config(cases(800))]

    #[test]
    fn no_pattern_and_no_text_panics(pattern in pattern_like(), text in pattern_like()) {
        if let Ok(glob) = Glob::parse("glob", &pattern) {
            glob.matches(&text);
            prop_assert_eq!(glob.as_str(), pattern);
        }
    }

    #[test]
    fn a_plain_text_matches_itself_alone(text in "[a-z0-9/_.-]{1,40}", other in "[a-z0-9/_.-]{1,40}") {
        let glob = Glob::parse("glob", &text).unwrap();
        prop_assert!(glob.matches(&text));
        prop_assert_eq!(glob.matches(&other), text == other);
    }
}

#[test]
fn a_pattern_as_long_and_as_deep_as_may_be_is_compiled_or_refused() {
    for part in ["*", "**/", "{a,", "[a-z]", "?", "{a,b}", "[!é]", "{*,**}", "\\", "{{"] {
        let text = part.repeat(TEXT_BYTES_MAX / part.len());
        if let Ok(glob) = Glob::parse("glob", &text) {
            glob.matches(&"a/".repeat(TEXT_BYTES_MAX / 2));
        }
    }
    assert_eq!(Glob::parse("glob", &"a".repeat(TEXT_BYTES_MAX + 1)).unwrap_err().field, "glob");
    assert_eq!(Glob::parse("glob", "").unwrap_err().field, "glob");
}
