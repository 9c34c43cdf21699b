use rateguard_proto::v1;
use rateguard_proto::v1::rule::Algorithm;

use super::*;

const RULE: Maskable = Maskable { message: "rateguard.v1.Rule", fixed: &["id", "etag"] };

fn stored() -> v1::Rule {
    v1::Rule {
        id: "rule_1".to_owned(),
        display_name: "old".to_owned(),
        priority: 5,
        algorithm: Some(Algorithm::FixedWindow(v1::FixedWindow { limit: 10, window_ms: 1_000 })),
        active: Some(true),
        etag: "1".to_owned(),
        ..v1::Rule::default()
    }
}

fn apply(changes: &v1::Rule, paths: &[&str]) -> Result<v1::Rule, EngineError> {
    let mask = FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() };
    masked(RULE, &stored(), changes, Some(&mask))
}

#[test]
fn only_the_fields_named_are_taken_over() {
    let changes = v1::Rule {
        display_name: "new".to_owned(),
        priority: 9,
        id: "rule_2".to_owned(),
        ..v1::Rule::default()
    };
    let result = apply(&changes, &["display_name"]).unwrap();
    assert_eq!(result, v1::Rule { display_name: "new".to_owned(), ..stored() });
}

#[test]
fn a_field_that_is_named_and_absent_is_cleared() {
    let result = apply(&v1::Rule::default(), &["priority", "active"]).unwrap();
    assert_eq!((result.priority, result.active), (0, None));
}

#[test]
fn a_star_takes_over_everything_that_can_change() {
    let changes = v1::Rule { display_name: "new".to_owned(), etag: "7".to_owned(), ..v1::Rule::default() };
    let result = apply(&changes, &["*"]).unwrap();
    let expected = v1::Rule {
        id: "rule_1".to_owned(),
        etag: "1".to_owned(),
        display_name: "new".to_owned(),
        ..v1::Rule::default()
    };
    assert_eq!(result, expected);
}

#[test]
fn a_member_of_a_oneof_replaces_whichever_is_set() {
    let bucket = v1::TokenBucket { capacity: 1, refill_amount: 1, refill_period_ms: 1 };
    let changes = v1::Rule { algorithm: Some(Algorithm::TokenBucket(bucket)), ..v1::Rule::default() };
    for paths in [&["token_bucket"][..], &["token_bucket", "fixed_window"], &["fixed_window", "token_bucket"]]
    {
        assert_eq!(apply(&changes, paths).unwrap().algorithm, changes.algorithm, "{paths:?}");
    }
    assert_eq!(apply(&changes, &["sliding_window"]).unwrap().algorithm, stored().algorithm);
    assert_eq!(apply(&changes, &["fixed_window"]).unwrap().algorithm, None);
}

#[test]
fn an_empty_mask_an_unknown_path_and_a_fixed_field_are_refused() {
    let changes = v1::Rule::default();
    for paths in [&[][..], &["nothing"], &["id"], &["match.api_ids"], &["*", "priority"], &["priority", ""]] {
        let error = apply(&changes, paths).unwrap_err();
        assert_eq!(error.reason, Reason::UpdateMaskInvalid, "{paths:?}");
    }
    let error = masked(RULE, &stored(), &changes, None).unwrap_err();
    assert_eq!(error.reason, Reason::UpdateMaskInvalid);
    assert_eq!(
        apply(&changes, &["priority", "x"]).unwrap_err().field.as_deref(),
        Some("update_mask.paths[1]")
    );
}

#[test]
fn a_mask_of_too_many_paths_is_refused() {
    let paths = vec!["priority"; PATHS_MAX + 1];
    assert_eq!(apply(&v1::Rule::default(), &paths).unwrap_err().reason, Reason::UpdateMaskInvalid);
}
