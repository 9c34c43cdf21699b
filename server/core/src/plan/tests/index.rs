//! Whatever is looked up, no limit is missed that matches.

use super::*;

const PATTERNS: [&str; 22] = [
    r"/v1\*",
    "/v1/**/completions",
    "**/chat",
    "/v1{,/chat}",
    "/v{**,1}",
    "//**",
    "/[!v]1",
    "/V1/*",
    "**",
    "*",
    "/",
    "/v1",
    "/v1/*",
    "/v1/**",
    "/v1/chat/**",
    "/v1/chat",
    "/v?/chat",
    "/v{1,2}/chat",
    "/[v]1/**",
    "/é/**",
    "/éé*",
    "/v1/chat/completions",
];
const TEXTS: [&str; 15] = [
    "/v1*",
    "//",
    "//x",
    "/x1",
    "",
    "/",
    "/v1",
    "/v1/",
    "/v1/chat",
    "/v1/chat/",
    "/v1/chat/completions",
    "/v2/chat",
    "/é",
    "/é/x",
    "/ééé",
];
const NAMES: [&str; 3] = ["anna", "ben", ""];

fn globs(places: &[usize]) -> Vec<Glob> {
    places.iter().map(|place| Glob::parse("patterns", PATTERNS[*place]).unwrap()).collect()
}

prop_compose! {
    fn matches()(
        api in proptest::option::of(0..2_u8),
        key in proptest::option::of(0..2_u8),
        subjects in proptest::collection::vec(0..NAMES.len(), 0..2),
        endpoints in proptest::collection::vec(0..PATTERNS.len(), 0..3),
        models in proptest::collection::vec(0..PATTERNS.len(), 0..2),
    ) -> Match {
        Match {
            apis: api.map(|byte| ApiId::from_random([byte; 16])).into_iter().collect(),
            keys: key.map(|byte| KeyId::from_random([byte; 16])).into_iter().collect(),
            subjects: subjects.into_iter().map(|place| NAMES[place].to_owned()).collect(),
            endpoints: globs(&endpoints),
            models: globs(&models),
            ..Match::default()
        }
    }
}

proptest! {
    #![proptest_config(cases(512))]

    #[test]
    fn a_plan_selects_what_a_look_at_every_limit_does(
        all in proptest::collection::vec(matches(), 0..24),
        (api, key) in (proptest::option::of(0..2_u8), 0..2_u8),
        (subject, endpoint, model) in (0..NAMES.len(), 0..TEXTS.len(), 0..TEXTS.len()),
    ) {
        let numbered = (0_u8..).zip(all);
        let rules: Vec<Rule> = numbered.map(|(byte, matches)| Rule { matches, ..rule(byte) }).collect();
        let plan = compile(&rules, &[]);
        let (key, api) = (KeyId::from_random([key; 16]), api.map(|byte| ApiId::from_random([byte; 16])));
        let facts = CallFacts {
            key: &key,
            api: api.as_ref(),
            endpoint: TEXTS[endpoint],
            method: "",
            model: TEXTS[model],
            subject: NAMES[subject],
            ip: None,
            attributes: &[],
        };
        let selection = plan.select(&facts, now());
        let selected: Vec<&LimitId> = selection.selected.iter().map(|selected| &selected.planned.id).collect();
        let meant = plan.limits().iter().filter(|limit| limit.matches.test(&facts).is_ok());
        prop_assert_eq!(selected, meant.map(|limit| &limit.id).collect::<Vec<_>>());
    }
}

#[test]
fn a_text_that_a_pattern_matches_begins_as_the_pattern_says() {
    for pattern in PATTERNS {
        let glob = Glob::parse("patterns", pattern).unwrap();
        for text in TEXTS.into_iter().filter(|text| glob.matches(text)) {
            assert!(text.starts_with(glob.beginning()), "{text} by {pattern}");
        }
    }
}

#[test]
fn beginnings_of_many_lengths_are_still_found() {
    let endpoint = |length: usize| format!("/{}", "é".repeat(length));
    let pattern = |length| Glob::parse("endpoints", &endpoint(length)).unwrap();
    let rules: Vec<Rule> = (1..=40_u8)
        .map(|byte| {
            let endpoints = vec![pattern(usize::from(byte))];
            Rule { matches: Match { endpoints, ..Match::default() }, ..rule(byte) }
        })
        .collect();
    let plan = compile(&rules, &[]);
    let key = KeyId::from_random([0; 16]);
    for length in 1..=40_u8 {
        let called = endpoint(usize::from(length));
        let facts = CallFacts {
            key: &key,
            api: None,
            endpoint: &called,
            method: "",
            model: "",
            subject: "",
            ip: None,
            attributes: &[],
        };
        let selection = plan.select(&facts, now());
        let selected: Vec<&LimitId> =
            selection.selected.iter().map(|selected| &selected.planned.id).collect();
        assert_eq!(selected, [&LimitId::Rule(RuleId::from_random([length; 16]))]);
    }
}
