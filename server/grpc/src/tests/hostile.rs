//! What hardly anybody sends by mistake: refused by name, each where it stands.

use prost_types::{FieldMask, Timestamp};
use rateguard_engine::manage::ResourceFilter;
use rateguard_proto::v1;
use rateguard_proto::v1::ErrorReason as R;
use rateguard_proto::v1::key_service_client::KeyServiceClient;
use rateguard_proto::v1::price_service_client::PriceServiceClient;
use rateguard_proto::v1::quota_service_client::QuotaServiceClient;
use rateguard_proto::v1::rule_service_client::RuleServiceClient;
use rateguard_proto::v1::usage_service_client::UsageServiceClient;
use tonic::Code;

use super::managed::{fixed_window, mask};
use super::world::{World, told};
use crate::listing::{ListMethod, page_fields};

fn rule(display_name: &str) -> v1::Rule {
    let algorithm = fixed_window(10);
    v1::Rule { display_name: display_name.to_owned(), algorithm, ..v1::Rule::default() }
}

fn key() -> v1::Key {
    v1::Key { display_name: "key".to_owned(), scopes: vec![1], ..v1::Key::default() }
}

fn invalid(reason: R, field: &str) -> (Code, R, String) {
    (Code::InvalidArgument, reason, field.to_owned())
}

/// A zero byte, a line break, an escape, and characters that turn the direction or break the line.
const MISLEADING: [&str; 7] =
    ["a\0b", "a\nb", "a\u{1b}[2Jb", "a\u{85}b", "a\u{202e}b", "a\u{2066}b", "a\u{2028}b"];

#[tokio::test]
async fn a_name_that_shows_as_another_is_refused() {
    let world = World::new().await;
    let mut rules = RuleServiceClient::new(world.transport());
    let mut keys = KeyServiceClient::new(world.transport());
    for name in MISLEADING {
        let request = v1::CreateRuleRequest { rule: Some(rule(name)), request_id: String::new() };
        let error = rules.create_rule(request).await.unwrap_err();
        assert_eq!(told(&error), invalid(R::FieldOutOfBounds, "rule.display_name"), "{name:?}");
        let named = v1::Key { display_name: name.to_owned(), ..key() };
        let error = keys
            .create_key(v1::CreateKeyRequest { key: Some(named), request_id: String::new() })
            .await
            .unwrap_err();
        assert_eq!(told(&error), invalid(R::FieldOutOfBounds, "key.display_name"), "{name:?}");
    }
    // What people write from right to left they may.
    let request = v1::CreateRuleRequest { rule: Some(rule("גבול יומי")), request_id: String::new() };
    rules.create_rule(request).await.unwrap();
}

#[tokio::test]
async fn control_characters_are_refused_wherever_a_text_stands() {
    let world = World::new().await;
    let zero = || "a\0b".to_owned();
    let matching = |matches: v1::CallMatch| v1::Rule { r#match: Some(matches), ..rule("r") };
    let none = v1::CallMatch::default;
    let mut rules = RuleServiceClient::new(world.transport());
    let attributes = [("plan".to_owned(), zero())].into();
    for (matches, reason, field) in [
        (v1::CallMatch { endpoints: vec![zero()], ..none() }, R::FieldMalformed, "rule.match.endpoints[0]"),
        (v1::CallMatch { models: vec![zero()], ..none() }, R::FieldMalformed, "rule.match.models[0]"),
        (v1::CallMatch { methods: vec![zero()], ..none() }, R::FieldOutOfBounds, "rule.match.methods[0]"),
        (v1::CallMatch { subjects: vec![zero()], ..none() }, R::FieldOutOfBounds, "rule.match.subjects[0]"),
        (v1::CallMatch { attributes, ..none() }, R::FieldOutOfBounds, "rule.match.attributes[\"plan\"]"),
    ] {
        let request = v1::CreateRuleRequest { rule: Some(matching(matches)), request_id: String::new() };
        let error = rules.create_rule(request).await.unwrap_err();
        assert_eq!(told(&error), invalid(reason, field));
    }
    let mut quota = QuotaServiceClient::new(world.transport());
    let attributes = [("a\0".to_owned(), String::new())].into();
    let check = v1::CheckQuotaRequest { attributes, ..v1::CheckQuotaRequest::default() };
    assert_eq!(
        told(&quota.check_quota(check).await.unwrap_err()),
        invalid(R::FieldOutOfBounds, "attributes")
    );
    let mut prices = PriceServiceClient::new(world.transport());
    let model = v1::ListPricesRequest { model: zero(), ..v1::ListPricesRequest::default() };
    assert_eq!(told(&prices.list_prices(model).await.unwrap_err()), invalid(R::FieldOutOfBounds, "model"));
    let request = v1::GetPriceRequest { id: zero() };
    assert_eq!(told(&prices.get_price(request).await.unwrap_err()), invalid(R::FieldOutOfBounds, "id"));
}

#[tokio::test]
async fn an_instant_that_is_none_is_refused() {
    let world = World::new().await;
    let mut keys = KeyServiceClient::new(world.transport());
    for (seconds, nanos) in [
        (-1, 0),
        (-1, 999_999_999),
        (0, -1),
        (1, 1_000_000_000),
        (1, 2_000_000_000),
        (1, i32::MIN),
        (i64::MIN, 0),
        (i64::MAX, 999_999_999),
        (253_402_300_800, 0),
    ] {
        let expiring = v1::Key { expire_time: Some(Timestamp { seconds, nanos }), ..key() };
        let error = keys
            .create_key(v1::CreateKeyRequest { key: Some(expiring), request_id: String::new() })
            .await
            .unwrap_err();
        assert_eq!(told(&error), invalid(R::FieldMalformed, "key.expire_time"), "{seconds} {nanos}");
    }
}

#[tokio::test]
async fn a_mask_may_repeat_itself_but_not_reach_beyond_its_resource() {
    let world = World::new().await;
    let mut client = RuleServiceClient::new(world.transport());
    let request = v1::CreateRuleRequest { rule: Some(rule("before")), request_id: String::new() };
    let made = client.create_rule(request).await.unwrap().into_inner().rule.unwrap();
    let mut update = async |mask: Option<FieldMask>| {
        let rule = Some(v1::Rule { id: made.id.clone(), ..rule("after") });
        client.update_rule(v1::UpdateRuleRequest { rule, update_mask: mask }).await
    };
    for paths in [&["match.api_ids"][..], &["display_name.x"], &[""], &["display_name", "a\0"], &["*", "*"]] {
        let error = update(mask(paths)).await.unwrap_err();
        let named = told(&error);
        assert_eq!((named.0, named.1), (Code::InvalidArgument, R::UpdateMaskInvalid), "{paths:?}");
        assert!(named.2.starts_with("update_mask.paths["), "{paths:?}: {}", named.2);
    }
    let renamed = update(mask(&["display_name", "display_name"])).await.unwrap().into_inner().rule.unwrap();
    assert_eq!(renamed.display_name, "after");
}

#[tokio::test]
async fn an_endless_id_neither_passes_nor_makes_the_answer_endless() {
    let world = World::new().await;
    let mut client = UsageServiceClient::new(world.transport());
    let record = |event_id: String| v1::UsageRecord { event_id, ..v1::UsageRecord::default() };
    let endless = format!("{}ü{}", "x".repeat(127), "x".repeat(4 * 1024 * 1024));
    let records = vec![record(endless), record("good".to_owned())];
    let results = client.report_usage(v1::ReportUsageRequest { records }).await.unwrap().into_inner().results;
    assert_eq!((results[0].status(), results[0].field.as_str()), (v1::RecordStatus::Rejected, "event_id"));
    assert_eq!(results[0].event_id, "x".repeat(127));
    assert_eq!(results[1].status(), v1::RecordStatus::Accepted);
}

#[tokio::test]
async fn a_forged_token_shows_nothing_and_breaks_nothing() {
    let world = World::new().await;
    let mut client = RuleServiceClient::new(world.transport());
    for token in ["x".to_owned(), "=".repeat(3_000), crate::page::next_token("rule_", &"rule")] {
        let request = v1::ListRulesRequest { page_token: token, ..v1::ListRulesRequest::default() };
        let error = client.list_rules(request).await.unwrap_err();
        assert_eq!(told(&error), invalid(R::PageTokenInvalid, "page_token"));
    }
    // Whoever knows how tokens are made still sees the rules of their workspace alone.
    let lists = [
        ("id", "rule_\0", false),
        ("id", "'; DROP TABLE rules", true),
        ("id", "", true),
        ("create_time", "rule_", false),
        ("create_time desc", "rule_ 1e3", false),
        ("create_time", "rule_ 99999999999999999999", false),
        ("update_time desc", "rule_ -9223372036854775808", true),
        ("display_name", "rule_", false),
        ("display_name desc", "  ", true),
    ];
    for (order_by, place, is_read) in lists {
        let method = ListMethod::of_resources("rule");
        let fields = page_fields(0, "", order_by);
        let turn = method.turn(world.workspace.as_str(), &ResourceFilter::default(), fields).unwrap();
        let request = v1::ListRulesRequest {
            page_token: turn.token_of(place),
            order_by: order_by.to_owned(),
            ..v1::ListRulesRequest::default()
        };
        match client.list_rules(request).await {
            Ok(page) => assert!(is_read && page.into_inner().rules.is_empty(), "{order_by} {place:?}"),
            Err(error) => {
                assert_eq!(told(&error), invalid(R::PageTokenInvalid, "page_token"));
                assert!(!is_read, "{order_by} {place:?}");
            }
        }
    }
    let mut events = UsageServiceClient::new(world.transport());
    let list = ("usage events", world.workspace.as_str(), &v1::UsageEventFilter::default());
    for place in ["-1", "1.5", "99999999999999999999", ""] {
        let page_token = crate::page::next_token(place, &list);
        let request = v1::ListUsageEventsRequest { page_token, ..v1::ListUsageEventsRequest::default() };
        let error = events.list_usage_events(request).await.unwrap_err();
        assert_eq!(told(&error), invalid(R::PageTokenInvalid, "page_token"), "{place}");
    }
    let page_token = crate::page::next_token(u64::MAX, &list);
    let request = v1::ListUsageEventsRequest { page_token, ..v1::ListUsageEventsRequest::default() };
    assert!(events.list_usage_events(request).await.unwrap().into_inner().events.is_empty());
}
