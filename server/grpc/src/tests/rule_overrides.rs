//! Other amounts for single keys and subjects, on the wire.

use rateguard_proto::v1;
use rateguard_proto::v1::ErrorReason as R;
use rateguard_proto::v1::key_service_client::KeyServiceClient;
use rateguard_proto::v1::quota_service_client::QuotaServiceClient;
use rateguard_proto::v1::rule_override::{Amount, Whose};
use rateguard_proto::v1::rule_service_client::RuleServiceClient;
use tonic::Code;

use super::managed::{fixed_window, make_rule, mask, ten_a_minute};
use super::world::{Transport, World, reason, told};

fn rules(world: &World) -> RuleServiceClient<Transport> {
    RuleServiceClient::new(world.transport())
}

fn of_subject(subject: &str, amount: Amount) -> v1::RuleOverride {
    v1::RuleOverride { whose: Some(Whose::Subject(subject.to_owned())), amount: Some(amount) }
}

fn unlimited() -> Amount {
    Amount::Unlimited(v1::UnlimitedAmount {})
}

async fn new_key(world: &World) -> v1::CreateKeyResponse {
    let scopes = vec![v1::KeyScope::Quota.into()];
    let key = v1::Key { display_name: "app".to_owned(), scopes, ..v1::Key::default() };
    let create = v1::CreateKeyRequest { key: Some(key), request_id: String::new() };
    KeyServiceClient::new(world.transport()).create_key(create).await.unwrap().into_inner()
}

async fn ask(transport: Transport, subject: &str) -> v1::CheckQuotaResponse {
    let request = v1::CheckQuotaRequest {
        subject: subject.to_owned(),
        explain: true,
        ..v1::CheckQuotaRequest::default()
    };
    QuotaServiceClient::new(transport).check_quota(request).await.unwrap().into_inner()
}

#[tokio::test]
async fn keys_and_subjects_have_their_own_amounts_and_some_have_no_limit() {
    let world = World::new().await;
    let app = new_key(&world).await;
    let key_id = app.key.unwrap().id;
    let of_key = v1::RuleOverride { whose: Some(Whose::KeyId(key_id)), amount: Some(Amount::Limit(3)) };
    let overrides = vec![of_key, of_subject("big", Amount::Limit(50)), of_subject("ours", unlimited())];
    let wanted = v1::Rule { overrides: overrides.clone(), ..ten_a_minute() };
    let made = make_rule(&mut rules(&world), wanted).await.unwrap();
    assert_eq!(made.overrides, overrides);
    let by_app = || world.transport_with(&app.secret.as_ref().unwrap().value);
    for (transport, subject, limit) in [
        (world.transport(), "", 10),
        (world.transport(), "big", 50),
        (by_app(), "", 3),
        (by_app(), "big", 50),
    ] {
        assert_eq!(ask(transport, subject).await.limits[0].limit, limit, "{subject}");
    }
    let free = ask(world.transport(), "ours").await;
    assert_eq!((free.decision(), free.limits.len()), (v1::Decision::Allowed, 0));
    assert_eq!(free.explanation[0].reason(), v1::MismatchReason::Unlimited);
    assert_eq!(ask(world.transport(), "big").await.limits[0].used, 5, "all but the free share a counter");
}

#[tokio::test]
async fn overrides_change_without_new_counters_and_go_where_the_rule_goes() {
    let world = World::new().await;
    let made = make_rule(&mut rules(&world), ten_a_minute()).await.unwrap();
    ask(world.transport(), "big").await;
    let changed = v1::Rule { overrides: vec![of_subject("big", Amount::Limit(1))], ..made.clone() };
    let update = v1::UpdateRuleRequest { rule: Some(changed), update_mask: mask(&["overrides"]) };
    let updated = rules(&world).update_rule(update).await.unwrap().into_inner();
    assert!(!updated.counters_reset);
    assert_eq!(updated.rule.unwrap().display_name, made.display_name);
    assert_eq!(ask(world.transport(), "big").await.decision(), v1::Decision::Denied);
    let exported = world.exported().await;
    assert_eq!(exported.rules[0].overrides, [of_subject("big", Amount::Limit(1))]);
}

#[tokio::test]
async fn a_key_that_has_an_amount_of_its_own_cannot_go_and_is_exported_by_its_name() {
    let world = World::new().await;
    let key = new_key(&world).await.key.unwrap();
    let of_key = v1::RuleOverride { whose: Some(Whose::KeyId(key.id.clone())), amount: Some(unlimited()) };
    make_rule(&mut rules(&world), v1::Rule { overrides: vec![of_key], ..ten_a_minute() }).await.unwrap();
    let delete = v1::DeleteKeyRequest { id: key.id, etag: String::new() };
    let refused = KeyServiceClient::new(world.transport()).delete_key(delete).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused)), (Code::FailedPrecondition, R::ResourceInUse));
    let exported = world.exported().await;
    let named = &exported.rules[0].overrides[0];
    assert_eq!(named.whose, Some(Whose::KeyId("app".to_owned())));
    // Applied again it means the same key.
    let applied = world.apply(&exported).await;
    assert!(applied.differences.iter().all(|d| d.change() == v1::ConfigurationChange::Keep), "{applied:?}");
    let stranger =
        v1::RuleOverride { whose: Some(Whose::KeyId("nobody".to_owned())), amount: Some(unlimited()) };
    let mut wrong = exported.clone();
    wrong.rules[0].overrides = vec![stranger];
    let refused = world.send(super::configuration::request(&wrong)).await.unwrap_err();
    let (_, reason, field) = told(&refused);
    assert_eq!(reason, R::ResourceNotFound);
    assert!(field.ends_with("overrides[0].key_id"), "{field}");
}

#[tokio::test]
async fn what_is_wrong_with_an_override_is_named() {
    let world = World::new().await;
    let key = || Some(Whose::KeyId("key_x".to_owned()));
    let bucket = v1::TokenBucket { capacity: 5, refill_amount: 1, refill_period_ms: 1_000 };
    let of = |whose, amount| v1::RuleOverride { whose, amount };
    let matched = v1::CallMatch { subjects: vec!["alice".to_owned()], ..v1::CallMatch::default() };
    let meant = |other| v1::Rule { r#match: Some(matched.clone()), overrides: vec![other], ..ten_a_minute() };
    let with = |overrides| v1::Rule { overrides, ..ten_a_minute() };
    let limited = |limit| of_subject("alice", Amount::Limit(limit));
    for (wrong, told_reason, field) in [
        (with(vec![of(None, Some(unlimited()))]), R::FieldMissing, "rule.overrides[0].whose"),
        (with(vec![of(key(), None)]), R::FieldMissing, "rule.overrides[0].amount"),
        (with(vec![limited(-1)]), R::FieldOutOfBounds, "rule.overrides[0].limit"),
        (with(vec![limited(i64::MAX)]), R::FieldOutOfBounds, "rule.overrides[0].limit"),
        (
            with(vec![of(key(), Some(Amount::TokenBucket(bucket)))]),
            R::FieldOutOfBounds,
            "rule.overrides[0].amount",
        ),
        (with(vec![limited(1), limited(2)]), R::FieldOutOfBounds, "rule.overrides[1]"),
        (with(vec![of_subject("", unlimited())]), R::FieldOutOfBounds, "rule.overrides[0].subject"),
        (meant(of_subject("bob", unlimited())), R::FieldOutOfBounds, "rule.overrides[0].subject"),
        (
            with((0..101).map(|n| of_subject(&n.to_string(), unlimited())).collect()),
            R::FieldOutOfBounds,
            "rule.overrides",
        ),
    ] {
        let refused = make_rule(&mut rules(&world), wrong.clone()).await.unwrap_err();
        let expected = (Code::InvalidArgument, told_reason, field.to_owned());
        assert_eq!(told(&refused), expected, "{wrong:?}");
    }
}

#[tokio::test]
async fn rules_that_contradict_themselves_are_refused_with_the_reason() {
    let world = World::new().await;
    let scoped = |kinds: &[v1::ScopeKind], on_missing: v1::OnMissing| v1::Rule {
        scope: kinds
            .iter()
            .map(|kind| v1::ScopeDimension { kind: (*kind).into(), attribute: String::new() })
            .collect(),
        on_missing: on_missing.into(),
        algorithm: fixed_window(1),
        display_name: "scoped".to_owned(),
        ..v1::Rule::default()
    };
    use v1::{OnMissing, ScopeKind};
    for wrong in [
        scoped(&[], OnMissing::Deny),
        scoped(&[], OnMissing::Skip),
        scoped(&[ScopeKind::Key], OnMissing::Deny),
    ] {
        let refused = make_rule(&mut rules(&world), wrong).await.unwrap_err();
        assert_eq!(told(&refused).2, "rule.on_missing");
    }
    make_rule(&mut rules(&world), scoped(&[ScopeKind::Subject], OnMissing::Deny)).await.unwrap();
}
