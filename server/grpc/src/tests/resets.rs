//! Counters of rules that are set back.

use rateguard_engine::resources::Scope;
use rateguard_proto::v1;
use rateguard_proto::v1::ErrorReason as R;
use rateguard_proto::v1::quota_service_client::QuotaServiceClient;
use rateguard_proto::v1::reset_quota_request::Counters;
use rateguard_proto::v1::rule_service_client::RuleServiceClient;
use tonic::{Code, Status};

use super::audit::listed;
use super::managed::{fixed_window, make_rule, mask};
use super::world::{Transport, World, plain_key, reason, told};

fn by_subject() -> v1::Rule {
    let subject = v1::ScopeDimension { kind: v1::ScopeKind::Subject.into(), attribute: String::new() };
    v1::Rule {
        display_name: "two for each".to_owned(),
        scope: vec![subject],
        algorithm: fixed_window(2),
        ..v1::Rule::default()
    }
}

fn rules(world: &World) -> RuleServiceClient<Transport> {
    RuleServiceClient::new(world.transport())
}

async fn check(world: &World, subject: &str) -> v1::CheckQuotaResponse {
    let request = v1::CheckQuotaRequest { subject: subject.to_owned(), ..v1::CheckQuotaRequest::default() };
    QuotaServiceClient::new(world.transport()).check_quota(request).await.unwrap().into_inner()
}

/// Takes all that a subject has.
async fn use_up(world: &World, subject: &str) {
    while check(world, subject).await.decision() == v1::Decision::Allowed {}
}

async fn reset(
    world: &World,
    rule: &v1::Rule,
    counters: Option<Counters>,
) -> Result<v1::ResetQuotaResponse, Status> {
    let request = v1::ResetQuotaRequest { rule_id: rule.id.clone(), counters };
    Ok(QuotaServiceClient::new(world.transport()).reset_quota(request).await?.into_inner())
}

fn of(subject: &str) -> Option<Counters> {
    Some(Counters::Values(v1::ScopeValues { subject: subject.to_owned(), ..v1::ScopeValues::default() }))
}

fn all() -> Option<Counters> {
    Some(Counters::All(v1::AllCounters {}))
}

async fn get(world: &World, rule: &v1::Rule) -> v1::Rule {
    let get = v1::GetRuleRequest { id: rule.id.clone() };
    rules(world).get_rule(get).await.unwrap().into_inner().rule.unwrap()
}

#[tokio::test]
async fn one_subject_is_set_back_and_the_others_stay() {
    let world = World::new().await;
    let rule = make_rule(&mut rules(&world), by_subject()).await.unwrap();
    use_up(&world, "alice").await;
    use_up(&world, "bob").await;
    assert_eq!(reset(&world, &rule, of("alice")).await.unwrap().reset_counters, 1);
    assert_eq!(check(&world, "alice").await.decision(), v1::Decision::Allowed);
    assert_eq!(check(&world, "bob").await.decision(), v1::Decision::Denied);
    assert_eq!(reset(&world, &rule, of("nobody")).await.unwrap().reset_counters, 0);
}

#[tokio::test]
async fn all_of_a_rule_are_set_back_at_once_and_no_other_rule() {
    let world = World::new().await;
    let rule = make_rule(&mut rules(&world), by_subject()).await.unwrap();
    let other =
        v1::Rule { display_name: "five".to_owned(), algorithm: fixed_window(5), ..v1::Rule::default() };
    make_rule(&mut rules(&world), other).await.unwrap();
    use_up(&world, "alice").await;
    use_up(&world, "bob").await;
    assert_eq!(reset(&world, &rule, all()).await.unwrap().reset_counters, 2);
    assert_eq!(check(&world, "alice").await.decision(), v1::Decision::Allowed);
    assert_eq!(check(&world, "bob").await.decision(), v1::Decision::Denied, "the other has none left");
}

#[tokio::test]
async fn a_reservation_from_before_a_reset_gives_nothing_back() {
    let world = World::new().await;
    let rule = make_rule(&mut rules(&world), by_subject()).await.unwrap();
    let mut client = QuotaServiceClient::new(world.transport());
    let hold = v1::CheckQuotaRequest {
        subject: "alice".to_owned(),
        mode: v1::CheckMode::Reserve.into(),
        ..v1::CheckQuotaRequest::default()
    };
    let held = client.check_quota(hold).await.unwrap().into_inner().reservation_id;
    reset(&world, &rule, of("alice")).await.unwrap();
    use_up(&world, "alice").await;
    let release = v1::ReleaseReservationRequest { reservation_id: held };
    assert_eq!(
        client.release_reservation(release).await.unwrap().into_inner().state(),
        v1::ReservationState::Released
    );
    let denied = check(&world, "alice").await;
    assert_eq!((denied.decision(), denied.limits[0].used), (v1::Decision::Denied, 2));
}

#[tokio::test]
async fn a_reset_stands_with_the_rule_and_in_the_audit_trail() {
    let world = World::new().await;
    let rule = make_rule(&mut rules(&world), by_subject()).await.unwrap();
    assert_eq!(rule.last_reset_time, None);
    let at = reset(&world, &rule, all()).await.unwrap().reset_time;
    assert!(at.is_some());
    let after = get(&world, &rule).await;
    assert_eq!(after.last_reset_time, at);
    // An update says nothing of it, and changes nothing of it.
    let renamed = v1::Rule { display_name: "new".to_owned(), last_reset_time: None, ..after.clone() };
    let update = v1::UpdateRuleRequest { rule: Some(renamed), update_mask: mask(&["*"]) };
    let updated = rules(&world).update_rule(update).await.unwrap().into_inner().rule.unwrap();
    assert_eq!(updated.last_reset_time, at);
    let filter = v1::AuditEntryFilter { resource_id: rule.id.clone(), ..v1::AuditEntryFilter::default() };
    let entries = listed(world.transport(), filter).await.unwrap();
    let entry = entries.iter().find(|entry| entry.method.ends_with("/ResetQuota")).expect("an entry");
    assert!(
        entry.after_json.contains("last_reset_ms") && !entry.after_json.contains("\"last_reset_ms\":null")
    );
}

#[tokio::test]
async fn what_is_wrong_with_a_reset_is_named() {
    let world = World::new().await;
    let rule = make_rule(&mut rules(&world), by_subject()).await.unwrap();
    let key = v1::ScopeDimension { kind: v1::ScopeKind::Key.into(), attribute: String::new() };
    let by_key = v1::Rule { scope: vec![key], ..by_subject() };
    let by_key = make_rule(&mut rules(&world), by_key).await.unwrap();
    let skipping = v1::Rule { on_missing: v1::OnMissing::Skip.into(), ..by_subject() };
    let skipping = make_rule(&mut rules(&world), skipping).await.unwrap();
    let nowhere = v1::ScopeValues { api: "nowhere".to_owned(), ..v1::ScopeValues::default() };
    let nobody = v1::Rule { id: "rule_nobody".to_owned(), ..v1::Rule::default() };
    for (rule, counters, told_reason, field) in [
        (&v1::Rule::default(), all(), R::FieldMissing, "rule_id"),
        (&rule, None, R::FieldMissing, "counters"),
        (&by_key, of("alice"), R::FieldMissing, "key_id"),
        (&skipping, of(""), R::FieldMissing, "values"),
        (&rule, Some(Counters::Values(nowhere)), R::ResourceNotFound, ""),
        (&nobody, all(), R::ResourceNotFound, ""),
    ] {
        let (_, reason, at) = told(&reset(&world, rule, counters.clone()).await.unwrap_err());
        assert_eq!((reason, at.as_str()), (told_reason, field), "{counters:?}");
    }
}

#[tokio::test]
async fn only_whoever_manages_sets_back() {
    let world = World::new().await;
    let rule = make_rule(&mut rules(&world), by_subject()).await.unwrap();
    let request = v1::ResetQuotaRequest { rule_id: rule.id.clone(), counters: all() };
    for (scope, may) in [(Scope::Manage, true), (Scope::Quota, false), (Scope::Read, false)] {
        let key = world.add_key(plain_key(&[scope])).await;
        let mut client = QuotaServiceClient::new(world.transport_with(&key));
        match client.reset_quota(request.clone()).await {
            Ok(_) => assert!(may, "{scope:?}"),
            Err(refused) => {
                assert_eq!((refused.code(), reason(&refused)), (Code::PermissionDenied, R::ScopeMissing));
                assert!(!may, "{scope:?}");
            }
        }
    }
}
