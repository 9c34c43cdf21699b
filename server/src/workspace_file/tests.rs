//! What is written is read back; what is wrong is told with its line.

mod messages;

use proptest::prelude::*;

use super::document::Credential;
use super::*;

const SAMPLE: &str = "\
version: 1
workspace:
  currency: USD
apis:
  - slug: openai
    base_url: https://api.openai.com/v1
    dialect: openai
    auth:
      header: x-api-key
    credential:
      env: OPENAI_KEY
    unknown_price:
      charge_default: 0.10
    timeout: 90s
keys:
  - name: app
    scopes: [quota, gateway]
    apis: [openai]
    expires: 2027-01-01T00:00:00Z
rules:
  - name: per customer
    match: {apis: [openai], keys: [app], attributes: {plan: no}}
    scope: [subject, attribute: plan]
    algorithm:
      token_bucket: {capacity: 10, refill: 100, per: 1m}
budgets:
  - name: month
    amount: 100
    period: month
prices:
  - provider: openai
    model: gpt-4o
    effective_from: 2027-01-01T00:00:00.5Z
    per_million_tokens: {input: 2.5, output: \"10\"}
";

fn nothing_needed(_: &Credential) -> Result<Option<String>, String> {
    Ok(None)
}

fn message(text: &str) -> v1::WorkspaceConfiguration {
    to_message(parse(text).unwrap(), &nothing_needed).unwrap()
}

fn replaced(from: &str, to: &str) -> String {
    assert!(SAMPLE.contains(from), "{from}");
    SAMPLE.replacen(from, to, 1)
}

fn refusal(text: &str) -> String {
    match parse(text) {
        Ok(document) => to_message(document, &nothing_needed).unwrap_err().to_string(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_file_written_by_hand_means_what_it_says() {
    let read = message(SAMPLE);
    let api = &read.apis[0];
    assert_eq!((api.auth_scheme(), api.auth_name.as_str()), (v1::ApiAuthScheme::Header, "x-api-key"));
    assert_eq!((api.credential_set, api.credential_reference.as_str()), (true, "env:OPENAI_KEY"));
    assert_eq!((api.timeout_ms, api.active), (90_000, Some(true)));
    assert_eq!(api.default_cost.as_ref().unwrap().nanos, 100_000_000);
    assert_eq!(read.keys[0].expire_time.as_ref().unwrap().seconds, 1_798_761_600);
    let matches = read.rules[0].r#match.as_ref().unwrap();
    assert_eq!(matches.attributes["plan"], "no");
    assert_eq!(read.rules[0].unit, "requests");
    let bucket = v1::TokenBucket { capacity: 10, refill_amount: 100, refill_period_ms: 60_000 };
    assert_eq!(read.rules[0].algorithm, Some(v1::rule::Algorithm::TokenBucket(bucket)));
    assert_eq!(read.budgets[0].amount.as_ref().unwrap().nanos, 100_000_000_000);
    let from = read.prices[0].effective_time.unwrap();
    assert_eq!((from.seconds, from.nanos), (1_798_761_600, 500_000_000));
    // Text all the way: 2.5 was never a float.
    assert_eq!(read.prices[0].token_rates.as_ref().unwrap().input.as_deref(), Some("2.5"));
}

#[test]
fn a_key_or_a_word_that_does_not_exist_is_told_with_its_line_its_path_and_the_nearest() {
    let cases = [
        (
            "    timeout: 90s",
            "    timeoutt: 90s",
            "line 14: apis[0].timeoutt: there is no \"timeoutt\" here; the nearest is \"timeout\"",
        ),
        ("budgets:", "budget:", "line 26: budget: there is no \"budget\" here; the nearest is \"budgets\""),
        (
            "period: month",
            "period: monthly",
            "line 29: budgets[0].period: there is no \"monthly\" here; the nearest is \"month\"",
        ),
        (
            "capacity: 10",
            "capcity: 10",
            "line 25: rules[0].algorithm.token_bucket.capcity: there is no \"capcity\" here; the nearest is \"capacity\"",
        ),
        (
            "      token_bucket",
            "      tokn_bucket",
            "line 25: rules[0].algorithm: there is no \"tokn_bucket\" here; the nearest is \"token_bucket\"",
        ),
        (
            "scopes: [quota,",
            "scopes: [quotas,",
            "line 17: keys[0].scopes[0]: there is no \"quotas\" here; the nearest is \"quota\"",
        ),
    ];
    for (from, to, expected) in cases {
        assert_eq!(refusal(&replaced(from, to)), expected);
    }
}

#[test]
fn a_value_that_is_none_is_told_with_its_line_and_its_path() {
    let cases = [
        ("timeout: 90s", "timeout: 90", "line 14: apis[0].timeout: "),
        ("amount: 100", "amount: 1e2", "line 28: budgets[0].amount: "),
        ("amount: 100", "amount: -100", "line 28: budgets[0].amount: "),
        ("capacity: 10", "capacity: many", "line 25: rules[0].algorithm.token_bucket.capacity: "),
        ("expires: 2027-01-01T00:00:00Z", "expires: tomorrow", "line 19: keys[0].expires: "),
        ("slug: openai", "slug: [openai]", "line 5: apis[0].slug: "),
        ("    amount: 100\n", "", "line 2"),
        ("  - slug: openai", "  - slug: openai\n    slug: twice", "line 6: apis[0]: "),
    ];
    for (from, to, expected) in cases {
        let told = refusal(&replaced(from, to));
        assert!(told.starts_with(expected), "{told}");
    }
}

#[test]
fn what_stands_in_a_credentials_place_is_never_said_again() {
    for written in [
        "credential: sk-literal-secret",
        "credential: [sk-literal-secret]",
        "credential: {sk-literal-secret: 1}",
        "credential: {env: [sk-literal-secret]}",
        "credential: {value: sk-literal-secret}",
        "credential: 4711",
    ] {
        let told = refusal(&replaced("credential:\n      env: OPENAI_KEY", written));
        assert!(told.contains("stored, {env: NAME} or {file: PATH}"), "{written}: {told}");
        assert!(told.contains("apis[0].credential"), "{written}: {told}");
        assert!(!told.contains("sk-literal") && !told.contains("4711"), "{written}: {told}");
    }
}

#[test]
fn what_is_wrong_with_yaml_is_told_without_the_readers_own_words() {
    let many = replaced("apis: [openai]\n", &format!("apis: [{}]\n", "a,".repeat(300_000)));
    let cases = [
        (replaced("  - slug: openai", "  - slug: openai\n    slug: twice"), "\"slug\" stands here twice"),
        (format!("{SAMPLE}---\nversion: 1\n"), "a second one begins here"),
        (replaced("slug: openai", "slug: ~"), "there has to be a text here"),
        (many, "more values, aliases or levels than is read"),
    ];
    for (text, expected) in cases {
        let told = refusal(&text);
        assert!(told.contains(expected), "{told}");
        for word in ["Options", "from_str", "Option<", "Budget", "breach"] {
            assert!(!told.contains(word), "{told}");
        }
    }
}

#[test]
fn values_that_do_not_fit_together_name_their_field() {
    let prepaid = replaced("period: month", "period: prepaid\n    time_zone: UTC");
    assert_eq!(refusal(&prepaid), "budgets[0].time_zone: a prepaid budget has none");
    assert!(refusal(&replaced("amount: 100", "amount: 0.0000000001")).starts_with("budgets[0].amount: "));
    assert!(refusal(&replaced("version: 1", "version: 2")).starts_with("version: "));
}

#[test]
fn a_credential_is_looked_up_where_the_file_says_and_a_missing_one_is_told() {
    let find = |credential: &Credential| match credential {
        Credential::Env(name) if name == "OPENAI_KEY" => Ok(Some("sk-1".to_owned())),
        other => Err(format!("{other:?}")),
    };
    let read = to_message(parse(SAMPLE).unwrap(), &find).unwrap();
    assert_eq!(read.apis[0].credential.as_ref().unwrap().value, "sk-1");
    let elsewhere = parse(&replaced("env: OPENAI_KEY", "env: OTHER")).unwrap();
    let error = to_message(elsewhere, &find).unwrap_err().to_string();
    assert!(
        error.starts_with("apis[0].credential: the credential of API \"openai\" is not there"),
        "{error}"
    );
}

#[test]
fn a_rate_is_written_for_a_time_that_people_use_where_that_is_exact() {
    let shown = |refill_amount, refill_period_ms| {
        let bucket = v1::TokenBucket { capacity: 1, refill_amount, refill_period_ms };
        let rule = v1::Rule {
            display_name: "r".to_owned(),
            unit: "requests".to_owned(),
            algorithm: Some(v1::rule::Algorithm::TokenBucket(bucket)),
            mode: v1::RuleMode::Enforced.into(),
            on_missing: v1::OnMissing::Shared.into(),
            consistency: v1::RuleConsistency::Strict.into(),
            ..v1::Rule::default()
        };
        let message = v1::WorkspaceConfiguration { rules: vec![rule], ..Default::default() };
        let document::Algorithm::TokenBucket(bucket) =
            from_message(message).unwrap().rules[0].algorithm.clone()
        else {
            panic!("a bucket stays one");
        };
        format!("{} per {}", bucket.refill, bucket.per)
    };
    assert_eq!(shown(1, 10), "100 per 1s");
    assert_eq!(shown(1, 6_000), "10 per 1m");
    assert_eq!(shown(1, 90_000), "40 per 1h");
    assert_eq!(shown(7, 172_800_000), "7 per 2d");
    assert_eq!(shown(1 << 53, 10), "9007199254740992 per 10ms");
}

#[test]
fn the_schema_knows_every_part_and_refuses_others() {
    let schema: serde_json::Value = serde_json::from_str(&schema_json()).unwrap();
    assert_eq!(schema["additionalProperties"], false);
    for part in ["apis", "keys", "rules", "budgets", "prices", "workspace", "version"] {
        assert!(schema["properties"][part].is_object(), "{part}");
    }
    assert!(schema["$defs"]["Rule"]["properties"]["match"].is_object());
}

proptest! {
    #[test]
    fn any_workspace_is_the_same_after_writing_and_reading(configuration in messages::configuration()) {
        let text = render_message(configuration.clone()).unwrap();
        let document = parse(&text).unwrap();
        prop_assert_eq!(&to_message(document.clone(), &nothing_needed).unwrap(), &configuration);
        // The same bytes again: what was read is what would be written.
        prop_assert_eq!(render(&document).unwrap(), text);
    }

    #[test]
    fn no_text_brings_the_reader_down(text in "[-a-z:\\[\\]{}&*!|>#%@`'\"\n 0-9,?~]{0,200}") {
        prop_assert!(parse(&text).is_err());
    }
}
