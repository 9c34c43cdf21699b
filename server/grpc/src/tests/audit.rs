//! The audit trail, as those who manage see it.

use std::net::SocketAddr;

use axum::extract::ConnectInfo;
use prost_types::Timestamp;
use rateguard_engine::resources::Scope;
use rateguard_proto::v1;
use rateguard_proto::v1::ErrorReason as R;
use rateguard_proto::v1::api_service_client::ApiServiceClient;
use rateguard_proto::v1::audit_service_client::AuditServiceClient;
use rateguard_proto::v1::key_service_client::KeyServiceClient;
use rateguard_proto::v1::rule_service_client::RuleServiceClient;
use rateguard_proto::v1::{AuditActorKind as Actor, AuditResourceKind as Kind};
use tonic::service::interceptor::InterceptedService;
use tonic::{Code, Request, Status};

use super::managed::{api, make_api, make_rule, mask, ten_a_minute};
use super::persons::{PASSWORD, login, secret, tokens};
use super::world::{START_MS, Transport, World, plain_key, reason, told};

/// The entries that a filter leaves, the newest first.
pub async fn listed(
    transport: Transport,
    filter: v1::AuditEntryFilter,
) -> Result<Vec<v1::AuditEntry>, Status> {
    let request = v1::ListAuditEntriesRequest {
        filter: Some(filter),
        page_size: 1_000,
        ..v1::ListAuditEntriesRequest::default()
    };
    Ok(AuditServiceClient::new(transport).list_audit_entries(request).await?.into_inner().entries)
}

/// Every entry of the first key's workspace.
async fn all(world: &World) -> Vec<v1::AuditEntry> {
    listed(world.transport(), v1::AuditEntryFilter::default()).await.unwrap()
}

fn of_kind(kind: Kind) -> v1::AuditEntryFilter {
    v1::AuditEntryFilter { resource_kind: kind.into(), ..v1::AuditEntryFilter::default() }
}

#[tokio::test]
async fn a_change_by_a_key_says_which_from_where_and_what() {
    let world = World::new().await;
    let (key, peer) = (world.key.clone(), SocketAddr::from(([192, 0, 2, 7], 4_711)));
    let from_there = move |mut request: Request<()>| {
        request.metadata_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
        request.metadata_mut().insert("x-request-id", "deploy-42".parse().unwrap());
        request.metadata_mut().insert("user-agent", "terraform/1".parse().unwrap());
        request.extensions_mut().insert(ConnectInfo(peer));
        Ok(request)
    };
    let mut rules = RuleServiceClient::new(InterceptedService::new(world.public.clone(), from_there));
    let create = v1::CreateRuleRequest { rule: Some(ten_a_minute()), request_id: String::new() };
    let made = rules.create_rule(create).await.unwrap().into_inner().rule.unwrap();
    let entry = all(&world).await.remove(0);
    let caller = world.engine.authenticator().by_key(&world.key, world.engine.now()).unwrap();
    assert_eq!((entry.actor_kind(), entry.actor_id.as_str()), (Actor::Key, caller.key.id.as_str()));
    assert_eq!(entry.method, "rateguard.v1.RuleService/CreateRule");
    assert_eq!((entry.resource_kind(), &entry.resource_id), (Kind::Rule, &made.id));
    assert_eq!((entry.ip.as_str(), entry.request_id.as_str()), ("192.0.2.7", "deploy-42"));
    assert!(entry.user_agent.starts_with("terraform/1"), "{}", entry.user_agent);
    assert_eq!(entry.create_time.map(|at| at.seconds), Some(START_MS / 1_000));
    assert_eq!(entry.before_json, "");
    let after: serde_json::Value = serde_json::from_str(&entry.after_json).unwrap();
    assert_eq!((&after["id"], &after["name"]), (&made.id.into(), &"ten a minute".into()));
}

#[tokio::test]
async fn a_request_id_that_is_none_is_left_out() {
    let world = World::new().await;
    let bearer = format!("Bearer {}", world.key);
    let endless = "x".repeat(129);
    for id in ["", "two words", endless.as_str()] {
        let transport = world.transport_of(&[("authorization", bearer.as_str()), ("x-request-id", id)]);
        make_rule(&mut RuleServiceClient::new(transport), ten_a_minute()).await.unwrap();
        assert_eq!(all(&world).await[0].request_id, "", "{id:?}");
    }
}

#[tokio::test]
async fn changes_by_a_person_bear_their_name_and_so_do_their_log_ins() {
    let world = World::new().await;
    let ada = world.someone("ada").await;
    make_rule(&mut RuleServiceClient::new(world.transport_with(&ada.access)), ten_a_minute()).await.unwrap();
    let phone = tokens(world.visitor().login(login(&ada.email, PASSWORD)).await.unwrap().into_inner().grant);
    let change = v1::ChangePasswordRequest {
        current_password: secret(PASSWORD),
        new_password: secret("another password"),
    };
    world.auth(&ada).change_password(change).await.unwrap();
    assert_eq!(world.me(&phone.0).await.map_err(|status| reason(&status)).unwrap_err(), R::SessionEnded);
    let mut entries =
        listed(world.transport_with(&ada.access), v1::AuditEntryFilter::default()).await.unwrap();
    entries.reverse();
    let told: Vec<_> = entries
        .iter()
        .map(|entry| {
            let method = entry.method.rsplit('/').next().unwrap_or_default();
            (method, entry.resource_kind(), !entry.before_json.is_empty(), !entry.after_json.is_empty())
        })
        .collect();
    let expected = [
        ("Register", Kind::Workspace, false, true),
        ("Register", Kind::Member, false, true),
        ("Register", Kind::User, false, true),
        ("Register", Kind::Session, false, true),
        ("CreateRule", Kind::Rule, false, true),
        ("Login", Kind::Session, false, true),
        ("ChangePassword", Kind::User, true, true),
        ("ChangePassword", Kind::Session, true, false),
    ];
    assert_eq!(told, expected);
    for entry in &entries {
        assert_eq!((entry.actor_kind(), &entry.actor_id), (Actor::Person, &ada.id), "{entry:?}");
    }
    assert!(entries[6].after_json.contains("[masked, changed]"), "{}", entries[6].after_json);
    let places: Vec<i64> = entries.iter().map(|entry| entry.sequence).collect();
    assert_eq!(places, (1..=8).collect::<Vec<_>>());
    assert!(entries.windows(2).all(|pair| pair[1].previous_hash == pair[0].hash));
}

#[tokio::test]
async fn no_secret_is_shown_and_a_new_one_is_told() {
    let world = World::new().await;
    let credential = |text: &str| v1::Api { credential: secret(text), ..api("one") };
    let first =
        v1::Api { auth_scheme: v1::ApiAuthScheme::Bearer.into(), ..credential("sk-first-credential") };
    let made = make_api(&world, first).await.unwrap();
    let changes = v1::Api { id: made.id, ..credential("sk-second-credential") };
    let request = v1::UpdateApiRequest { api: Some(changes), update_mask: mask(&["credential"]) };
    ApiServiceClient::new(world.transport()).update_api(request).await.unwrap();
    let entries = all(&world).await;
    assert!(entries[0].before_json.contains(r#""credential":"[masked]""#), "{}", entries[0].before_json);
    assert!(entries[0].after_json.contains(r#""credential":"[masked, changed]""#));
    let key = v1::Key { display_name: "k".to_owned(), scopes: vec![1], ..v1::Key::default() };
    let mut keys = KeyServiceClient::new(world.transport());
    let made = keys
        .create_key(v1::CreateKeyRequest { key: Some(key), request_id: String::new() })
        .await
        .unwrap()
        .into_inner();
    let key_secret = made.secret.unwrap().value;
    let rotate = v1::RotateKeyRequest { id: made.key.unwrap().id, ..v1::RotateKeyRequest::default() };
    let rotated = keys.rotate_key(rotate).await.unwrap().into_inner().secret.unwrap().value;
    let ada = world.someone("ada").await;
    let invitation = world.invitation(&ada, v1::Role::Viewer).await;
    let mut shown = format!("{:?}", all(&world).await);
    let of_ada = listed(world.transport_with(&ada.access), v1::AuditEntryFilter::default()).await.unwrap();
    shown.push_str(&format!("{of_ada:?}"));
    let hash = hex::encode(rateguard_engine::secrets::key_hash(&key_secret));
    let new_hash = hex::encode(rateguard_engine::secrets::key_hash(&rotated));
    let secrets = [
        "sk-first",
        "sk-second",
        &key_secret,
        &hash,
        &rotated,
        &new_hash,
        &ada.access,
        &ada.refresh,
        &invitation,
        PASSWORD,
        "$argon2",
    ];
    for secret in secrets {
        assert!(!shown.contains(secret), "{secret}");
    }
}

#[tokio::test]
async fn a_change_that_is_refused_leaves_no_entry() {
    let world = World::new().await;
    let mut rules = RuleServiceClient::new(world.transport());
    let made = make_rule(&mut rules, ten_a_minute()).await.unwrap();
    let before = all(&world).await;
    let stale = v1::Rule { id: made.id.clone(), etag: "99".to_owned(), ..ten_a_minute() };
    let update = v1::UpdateRuleRequest { rule: Some(stale), update_mask: mask(&["display_name"]) };
    assert_eq!(reason(&rules.update_rule(update).await.unwrap_err()), R::EtagMismatch);
    let delete = v1::DeleteRuleRequest { id: made.id, etag: "99".to_owned() };
    assert_eq!(reason(&rules.delete_rule(delete).await.unwrap_err()), R::EtagMismatch);
    rules.create_rule(v1::CreateRuleRequest { rule: None, request_id: String::new() }).await.unwrap_err();
    let reader = world.add_key(plain_key(&[Scope::Read])).await;
    let after_key = all(&world).await;
    let mut read_only = RuleServiceClient::new(world.transport_with(&reader));
    make_rule(&mut read_only, ten_a_minute()).await.unwrap_err();
    assert_eq!(all(&world).await, after_key);
    assert_eq!(after_key[1..], before);
}

#[tokio::test]
async fn only_those_who_manage_see_it_and_only_their_own() {
    let world = World::new().await;
    let owner = world.someone("owner").await;
    for (role, may) in [(v1::Role::Viewer, false), (v1::Role::Member, false), (v1::Role::Admin, true)] {
        let person = world.invited_by(&owner, &format!("p{}", i32::from(role)), role).await;
        let listed = listed(world.transport_with(&person.access), v1::AuditEntryFilter::default()).await;
        assert_eq!(listed.is_ok(), may, "{role:?}");
    }
    for scope in [Scope::Quota, Scope::Usage, Scope::Read, Scope::Gateway] {
        let key = world.add_key(plain_key(&[scope])).await;
        let refused = listed(world.transport_with(&key), v1::AuditEntryFilter::default()).await.unwrap_err();
        assert_eq!(
            (refused.code(), reason(&refused)),
            (Code::PermissionDenied, R::ScopeMissing),
            "{scope:?}"
        );
    }
    let of_owner = listed(world.transport_with(&owner.access), of_kind(Kind::Member)).await.unwrap();
    assert_eq!(of_owner.len(), 4);
    assert!(all(&world).await.iter().all(|entry| entry.resource_kind() != Kind::Member));
}

#[tokio::test]
async fn entries_are_filtered_and_paged_with_tokens_of_their_own() {
    let world = World::new().await;
    let mut rules = RuleServiceClient::new(world.transport());
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(make_rule(&mut rules, ten_a_minute()).await.unwrap().id);
        world.clock.advance_ms(1_000);
    }
    ids.reverse();
    let mut client = AuditServiceClient::new(world.transport());
    let (mut seen, mut page_token) = (Vec::new(), String::new());
    let rules_only = |page_token| v1::ListAuditEntriesRequest {
        filter: Some(of_kind(Kind::Rule)),
        page_size: 2,
        page_token,
        order_by: String::new(),
    };
    loop {
        let page = client.list_audit_entries(rules_only(page_token)).await.unwrap().into_inner();
        assert!(page.entries.len() <= 2);
        seen.extend(page.entries.into_iter().map(|entry| entry.resource_id));
        if page.next_page_token.is_empty() {
            break;
        }
        page_token = page.next_page_token;
    }
    assert_eq!(seen, ids);
    let token =
        client.list_audit_entries(rules_only(String::new())).await.unwrap().into_inner().next_page_token;
    let other = v1::ListAuditEntriesRequest { filter: Some(of_kind(Kind::Key)), ..rules_only(token) };
    assert_eq!(reason(&client.list_audit_entries(other).await.unwrap_err()), R::PageTokenInvalid);
    let start = |seconds| Some(Timestamp { seconds: START_MS / 1_000 + seconds, nanos: 0 });
    let times = v1::AuditEntryFilter { start_time: start(1), end_time: start(3), ..of_kind(Kind::Rule) };
    let within = listed(world.transport(), times).await.unwrap();
    assert_eq!(within.iter().map(|entry| &entry.resource_id).collect::<Vec<_>>(), [&ids[2], &ids[3]]);
    let one = v1::AuditEntryFilter { resource_id: ids[4].clone(), ..v1::AuditEntryFilter::default() };
    assert_eq!(listed(world.transport(), one).await.unwrap().len(), 1);
    let nobody =
        v1::AuditEntryFilter { actor_id: "key_nobody".to_owned(), ..v1::AuditEntryFilter::default() };
    assert_eq!(listed(world.transport(), nobody).await.unwrap(), []);
    let wrong = [
        (
            v1::AuditEntryFilter { resource_kind: 99, ..v1::AuditEntryFilter::default() },
            "filter.resource_kind",
        ),
        (
            v1::AuditEntryFilter { actor_id: "x".repeat(65), ..v1::AuditEntryFilter::default() },
            "filter.actor_id",
        ),
        (
            v1::AuditEntryFilter {
                start_time: start(3),
                end_time: start(3),
                ..v1::AuditEntryFilter::default()
            },
            "filter.end_time",
        ),
    ];
    for (filter, field) in wrong {
        let error = listed(world.transport(), filter).await.unwrap_err();
        assert_eq!((error.code(), told(&error).2), (Code::InvalidArgument, field.to_owned()));
    }
}
