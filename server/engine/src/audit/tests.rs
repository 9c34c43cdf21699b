//! What entries and their hashes are made of.

use serde_json::{Value, json};

use super::*;

fn entry() -> AuditEntry {
    AuditEntry {
        workspace: "ws_1".to_owned(),
        sequence: 7,
        at: Millis::new(1_000),
        actor_kind: "key".to_owned(),
        actor_id: "key_1".to_owned(),
        method: "rateguard.v1.RuleService/CreateRule".to_owned(),
        kind: "rule".to_owned(),
        id: "rule_1".to_owned(),
        before: None,
        after: Some("{}".to_owned()),
        ip: Some("192.0.2.1".to_owned()),
        user_agent: Some("curl/8".to_owned()),
        request_id: None,
        previous_hash: [3; 32],
        hash: GENESIS,
    }
}

fn shown(document: Value, secret: Option<&str>) -> Option<Shown> {
    let Value::Object(document) = document else { panic!("a sample is an object") };
    Some(Shown { document, secret: secret.map(|secret| ("secret", secret.as_bytes().to_vec())) })
}

#[test]
fn a_hash_covers_every_field() {
    let changes: [fn(&mut AuditEntry); 15] = [
        |e| e.workspace.push('2'),
        |e| e.sequence += 1,
        |e| e.at = Millis::new(1_001),
        |e| e.actor_kind = "person".to_owned(),
        |e| e.actor_id = "key_2".to_owned(),
        |e| e.method.clear(),
        |e| e.kind = "api".to_owned(),
        |e| e.id = "rule_2".to_owned(),
        |e| e.before = Some(String::new()),
        |e| e.after = None,
        |e| e.after = Some("{ }".to_owned()),
        |e| e.ip = None,
        |e| e.user_agent = None,
        |e| e.request_id = Some("r".to_owned()),
        |e| e.previous_hash = GENESIS,
    ];
    let hash = entry().chained_hash();
    for (number, change) in changes.iter().enumerate() {
        let mut changed = entry();
        change(&mut changed);
        assert_ne!(changed.chained_hash(), hash, "change {number}");
    }
    assert_eq!(AuditEntry { hash: [9; 32], ..entry() }.chained_hash(), hash);
}

#[test]
fn what_moves_from_one_field_to_the_next_is_another_entry() {
    let moved = AuditEntry { actor_kind: "ke".to_owned(), actor_id: "ykey_1".to_owned(), ..entry() };
    assert_ne!(moved.chained_hash(), entry().chained_hash());
    let absent = AuditEntry { before: Some("{}".to_owned()), after: None, ..entry() };
    assert_ne!(absent.chained_hash(), entry().chained_hash());
}

#[test]
fn what_is_shown_has_its_members_in_order_at_every_depth() {
    let (before, after) = render(None, shown(json!({"b": [{"z": 1, "a": null}], "a": "x"}), None));
    assert_eq!(before, None);
    assert_eq!(after.as_deref(), Some(r#"{"a":"x","b":[{"a":null,"z":1}]}"#));
}

#[test]
fn a_secret_is_masked_and_only_that_it_changed_is_told() {
    let thing = |secret| shown(json!({"id": "x"}), secret);
    let (before, after) = render(thing(Some("one")), thing(Some("one")));
    assert_eq!(before.as_deref(), Some(r#"{"id":"x","secret":"[masked]"}"#));
    assert_eq!(after, before);
    let (before, after) = render(thing(Some("one")), thing(Some("two")));
    assert_eq!(before.as_deref(), Some(r#"{"id":"x","secret":"[masked]"}"#));
    assert_eq!(after.as_deref(), Some(r#"{"id":"x","secret":"[masked, changed]"}"#));
    let (before, after) = render(thing(None), thing(Some("two")));
    assert_eq!(before.as_deref(), Some(r#"{"id":"x"}"#));
    assert_eq!(after.as_deref(), Some(r#"{"id":"x","secret":"[masked]"}"#));
}

#[test]
fn an_origin_names_the_method_or_what_the_server_does() {
    let call = Origin { service: "rateguard.v1.KeyService", method: "CreateKey", ..Origin::default() };
    assert_eq!(call.to_string(), "rateguard.v1.KeyService/CreateKey");
    assert_eq!(Origin::server("OpenBudget").to_string(), "OpenBudget");
}

#[test]
fn every_kind_has_a_name_of_its_own() {
    let names: std::collections::HashSet<_> = AuditKind::ALL.iter().map(|kind| kind.as_str()).collect();
    assert_eq!(names.len(), AuditKind::ALL.len());
}

#[test]
fn what_a_client_calls_itself_is_kept_within_its_bound() {
    assert_eq!(user_agent("a\tbrowser\u{7f} 1.0"), Some("abrowser 1.0".to_owned()));
    assert_eq!(user_agent("\r\n"), None);
    assert_eq!(user_agent(&"x".repeat(USER_AGENT_BYTES_MAX + 1)).map(|kept| kept.len()), Some(256));
    // A character that does not fit whole is left out.
    assert_eq!(user_agent(&"€".repeat(100)).map(|kept| kept.len()), Some(255));
}
