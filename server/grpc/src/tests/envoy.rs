//! Envoy's rate-limit service, as Envoy calls it.

use rateguard_core::matching::Glob;
use rateguard_engine::resources::Scope;
use rateguard_proto::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use rateguard_proto::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::{
    Entry, RateLimitOverride,
};
use rateguard_proto::envoy::service::ratelimit::v3::rate_limit_response::rate_limit::Unit;
use rateguard_proto::envoy::service::ratelimit::v3::rate_limit_response::{
    Code, DescriptorStatus, RateLimit,
};
use rateguard_proto::envoy::service::ratelimit::v3::rate_limit_service_client::RateLimitServiceClient;
use rateguard_proto::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use rateguard_proto::envoy::r#type::v3::RateLimitUnit;
use rateguard_proto::v1;
use rateguard_proto::v1::ErrorReason as R;
use rateguard_proto::v1::quota_service_client::QuotaServiceClient;
use rateguard_proto::v1::rule_service_client::RuleServiceClient;
use tonic::Code as Grpc;

use super::managed::make_rule;
use super::world::{START_MS, Transport, World, plain_key, reason, told};

const DOMAIN: &str = "edge";
/// To the end of the minute in which the world begins.
const LEFT_OF_MINUTE_S: i64 = (60_000 - START_MS % 60_000) / 1_000;

/// A rule of so many a minute for descriptors that fit the glob, each value for itself.
fn rule(name: &str, pattern: &str, limit: i64) -> v1::Rule {
    let matches = v1::CallMatch {
        endpoints: vec![pattern.to_owned()],
        attributes: [("envoy_domain".to_owned(), DOMAIN.to_owned())].into(),
        ..v1::CallMatch::default()
    };
    let window = v1::FixedWindow { limit, window_ms: 60_000 };
    v1::Rule {
        display_name: name.to_owned(),
        r#match: Some(matches),
        scope: vec![v1::ScopeDimension { kind: v1::ScopeKind::Endpoint.into(), attribute: String::new() }],
        algorithm: Some(v1::rule::Algorithm::FixedWindow(window)),
        ..v1::Rule::default()
    }
}

async fn with_rules(rules: Vec<v1::Rule>) -> World {
    let world = World::new().await;
    let mut client = RuleServiceClient::new(world.transport());
    for rule in rules {
        make_rule(&mut client, rule).await.unwrap();
    }
    world
}

fn descriptor(entries: &[(&str, &str)]) -> RateLimitDescriptor {
    let entry = |(key, value): &(&str, &str)| Entry { key: (*key).to_owned(), value: (*value).to_owned() };
    RateLimitDescriptor { entries: entries.iter().map(entry).collect(), ..RateLimitDescriptor::default() }
}

fn hitting(hits: u64, entries: &[(&str, &str)]) -> RateLimitDescriptor {
    RateLimitDescriptor { hits_addend: Some(hits), ..descriptor(entries) }
}

fn request(descriptors: Vec<RateLimitDescriptor>) -> RateLimitRequest {
    RateLimitRequest { domain: DOMAIN.to_owned(), descriptors, hits_addend: 0 }
}

fn client(world: &World) -> RateLimitServiceClient<Transport> {
    RateLimitServiceClient::new(world.transport())
}

async fn ask(world: &World, descriptors: Vec<RateLimitDescriptor>) -> RateLimitResponse {
    client(world).should_rate_limit(request(descriptors)).await.unwrap().into_inner()
}

fn codes(answer: &RateLimitResponse) -> Vec<Code> {
    answer.statuses.iter().map(DescriptorStatus::code).collect()
}

fn remaining(answer: &RateLimitResponse) -> Vec<u32> {
    answer.statuses.iter().map(|status| status.limit_remaining).collect()
}

fn header<'a>(answer: &'a RateLimitResponse, name: &str) -> Option<&'a str> {
    let mut headers = answer.response_headers_to_add.iter();
    headers.find(|header| header.key == name).map(|header| header.value.as_str())
}

#[tokio::test]
async fn a_descriptor_counts_down_and_is_told_of_its_limit_in_both_families_of_headers() {
    let world = with_rules(vec![rule("per user", "/user=*", 2)]).await;
    let first = ask(&world, vec![descriptor(&[("user", "ann")])]).await;
    assert_eq!(first.overall_code(), Code::Ok);
    let status = &first.statuses[0];
    let expected = RateLimit {
        requests_per_unit: 2,
        unit: Unit::Minute.into(),
        name: "per user".to_owned(),
        unit_multiplier: None,
    };
    assert_eq!((status.current_limit.as_ref(), status.limit_remaining), (Some(&expected), 1));
    assert_eq!(status.duration_until_reset.map(|reset| reset.seconds), Some(LEFT_OF_MINUTE_S));
    assert_eq!(header(&first, "ratelimit-policy"), Some("\"per user\";q=2;w=60"));
    let state = format!("\"per user\";r=1;t={LEFT_OF_MINUTE_S}");
    assert_eq!(header(&first, "ratelimit"), Some(state.as_str()));
    assert_eq!(header(&first, "x-ratelimit-limit"), Some("2"));
    assert_eq!(header(&first, "x-ratelimit-remaining"), Some("1"));
    assert_eq!(header(&first, "x-ratelimit-reset"), Some(LEFT_OF_MINUTE_S.to_string().as_str()));
    assert_eq!(header(&first, "retry-after"), None);
    assert_eq!(remaining(&ask(&world, vec![descriptor(&[("user", "ann")])]).await), [0]);
    let denied = ask(&world, vec![descriptor(&[("user", "ann")])]).await;
    assert_eq!((denied.overall_code(), codes(&denied)), (Code::OverLimit, vec![Code::OverLimit]));
    assert_eq!(header(&denied, "retry-after"), Some(LEFT_OF_MINUTE_S.to_string().as_str()));
    let other = ask(&world, vec![descriptor(&[("user", "bob")])]).await;
    assert_eq!(remaining(&other), [1], "each value has a counter of its own");
    world.pass_ms(LEFT_OF_MINUTE_S * 1_000).await;
    assert_eq!(ask(&world, vec![descriptor(&[("user", "ann")])]).await.overall_code(), Code::Ok);
}

#[tokio::test]
async fn a_denial_by_one_descriptor_takes_nothing_of_the_others() {
    let world = with_rules(vec![rule("wide", "/route=*", 10), rule("narrow", "/user=*", 1)]).await;
    let both = || vec![descriptor(&[("route", "/a")]), descriptor(&[("user", "ann")])];
    assert_eq!(remaining(&ask(&world, both()).await), [9, 0]);
    for _ in 0..3 {
        let denied = ask(&world, both()).await;
        assert_eq!((codes(&denied), remaining(&denied)), (vec![Code::Ok, Code::OverLimit], vec![9, 0]));
    }
}

#[tokio::test]
async fn two_descriptors_on_one_counter_need_room_for_both() {
    let world = with_rules(vec![rule("per user", "/user=*", 3)]).await;
    let twice = || vec![descriptor(&[("user", "ann")]), descriptor(&[("user", "ann")])];
    assert_eq!(ask(&world, twice()).await.overall_code(), Code::Ok);
    let denied = ask(&world, twice()).await;
    assert_eq!(codes(&denied), [Code::Ok, Code::OverLimit]);
    assert_eq!(remaining(&ask(&world, vec![descriptor(&[("user", "ann")])]).await), [0]);
}

#[tokio::test]
async fn nested_entries_and_the_domain_have_to_fit() {
    let world = with_rules(vec![rule("marketing", "/type=marketing/to=*", 1)]).await;
    let met = ask(&world, vec![descriptor(&[("type", "marketing"), ("to", "+1 206")])]).await;
    assert_eq!(remaining(&met), [0]);
    for entries in [
        &[("type", "marketing")][..],
        &[("to", "+1 206"), ("type", "marketing")],
        &[("type", "other"), ("to", "+1 206")],
        &[("type", "marketing"), ("to", "+1 206"), ("more", "x")],
    ] {
        let answer = ask(&world, vec![descriptor(entries)]).await;
        let expected = DescriptorStatus { code: Code::Ok.into(), ..DescriptorStatus::default() };
        assert_eq!(answer.statuses, [expected], "{entries:?}");
        assert!(answer.response_headers_to_add.is_empty());
    }
    let elsewhere = RateLimitRequest {
        domain: "another".to_owned(),
        ..request(vec![descriptor(&[("type", "marketing"), ("to", "+1 206")])])
    };
    assert_eq!(
        client(&world).should_rate_limit(elsewhere).await.unwrap().into_inner().overall_code(),
        Code::Ok
    );
}

#[tokio::test]
async fn a_rule_that_names_no_domain_does_not_see_descriptors() {
    let everything = v1::Rule { r#match: None, ..rule("all calls", "", 0) };
    let world = with_rules(vec![everything]).await;
    assert_eq!(ask(&world, vec![descriptor(&[("user", "ann")])]).await.overall_code(), Code::Ok);
    let mut calls = QuotaServiceClient::new(world.transport());
    let check = calls.check_quota(v1::CheckQuotaRequest::default()).await.unwrap().into_inner();
    assert_eq!(check.decision(), v1::Decision::Denied);
}

#[tokio::test]
async fn hits_are_those_of_the_descriptor_then_of_the_request_then_one() {
    let world = with_rules(vec![rule("per user", "/user=*", 100)]).await;
    let user = [("user", "ann")];
    let with = |hits_addend, descriptor| RateLimitRequest { hits_addend, ..request(vec![descriptor]) };
    for (request, left) in [
        (with(0, descriptor(&user)), 99),
        (with(10, descriptor(&user)), 89),
        (with(10, hitting(3, &user)), 86),
        (with(10, hitting(0, &user)), 86),
    ] {
        let answer = client(&world).should_rate_limit(request).await.unwrap().into_inner();
        assert_eq!(remaining(&answer), [left]);
    }
}

#[tokio::test]
async fn whatever_value_anybody_sends_is_counted() {
    let world = with_rules(vec![rule("per path", "/path=*", 2)]).await;
    let long = |end: &str| format!("/{}{end}", "x".repeat(10_000));
    for odd in [long(""), long("y"), "al\tice".to_owned(), "alice\u{7f}".to_owned()] {
        let codes = [(); 3].map(|()| descriptor(&[("path", odd.as_str())]));
        for (place, asked) in codes.into_iter().enumerate() {
            let expected = if place < 2 { Code::Ok } else { Code::OverLimit };
            assert_eq!(ask(&world, vec![asked]).await.overall_code(), expected, "{place} of {:.20}", odd);
        }
    }
}

#[tokio::test]
async fn negative_hits_give_back_what_was_charged_afterwards_and_no_more() {
    let charged = v1::Rule { counts_denied: true, ..rule("per user", "/user=*", 10) };
    let world = with_rules(vec![charged, rule("per tenant", "/tenant=*", 10)]).await;
    let back = |hits, whose| RateLimitDescriptor { is_negative_hits: true, ..hitting(hits, &[whose]) };
    let user = ("user", "ann");
    assert_eq!(remaining(&ask(&world, vec![hitting(8, &[user])]).await), [2]);
    assert_eq!(remaining(&ask(&world, vec![back(3, user)]).await), [5]);
    assert_eq!(remaining(&ask(&world, vec![back(1_000, user)]).await), [10]);
    assert_eq!(ask(&world, vec![hitting(11, &[user])]).await.overall_code(), Code::OverLimit);

    // Any other limit would be lifted by whoever may call.
    let tenant = ("tenant", "acme");
    assert_eq!(remaining(&ask(&world, vec![hitting(10, &[tenant])]).await), [0]);
    let lifting = request(vec![hitting(0, &[user]), back(5, tenant)]);
    let refused = client(&world).should_rate_limit(lifting).await.unwrap_err();
    assert_eq!(
        told(&refused),
        (tonic::Code::InvalidArgument, R::FieldConflict, "descriptors[1].is_negative_hits".to_owned())
    );
    assert_eq!(remaining(&ask(&world, vec![hitting(0, &[tenant])]).await), [0]);
}

#[tokio::test]
async fn the_true_use_is_charged_afterwards_and_denies_what_comes_then() {
    let tokens =
        v1::Rule { counts_denied: true, unit: "tokens".to_owned(), ..rule("tokens", "/user=*", 100) };
    let other = v1::Rule { counts_denied: true, ..rule("tenant", "/tenant=*", 1_000) };
    let world = with_rules(vec![tokens, other]).await;
    let before = || vec![hitting(0, &[("user", "ann")]), hitting(0, &[("tenant", "acme")])];
    let after = |hits| vec![hitting(hits, &[("user", "ann")]), hitting(hits, &[("tenant", "acme")])];
    assert_eq!(ask(&world, before()).await.overall_code(), Code::Ok);
    assert_eq!(remaining(&ask(&world, after(70)).await), [30, 930]);
    assert_eq!(ask(&world, before()).await.overall_code(), Code::Ok, "something is left");
    let late = ask(&world, after(90)).await;
    assert_eq!((codes(&late), remaining(&late)), (vec![Code::OverLimit, Code::Ok], vec![0, 840]));
    let denied = ask(&world, before()).await;
    assert_eq!((codes(&denied), remaining(&denied)), (vec![Code::OverLimit, Code::Ok], vec![0, 840]));
    assert!(header(&denied, "ratelimit-policy").unwrap().contains("\"tokens\";q=100;qu=\"tokens\";w=60"));
    world.pass_ms(LEFT_OF_MINUTE_S * 1_000).await;
    assert_eq!(ask(&world, before()).await.overall_code(), Code::Ok);
}

#[tokio::test]
async fn a_limit_that_the_caller_sets_stands_in_the_place_of_the_rules() {
    let world = with_rules(vec![rule("per user", "/user=*", 1)]).await;
    let limit = |requests_per_unit, unit: RateLimitUnit, unit_multiplier| RateLimitDescriptor {
        limit: Some(RateLimitOverride { requests_per_unit, unit: unit.into(), unit_multiplier }),
        ..descriptor(&[("user", "ann")])
    };
    let hourly = limit(3, RateLimitUnit::Hour, Some(2));
    for left in [2, 1, 0] {
        let answer = ask(&world, vec![hourly.clone()]).await;
        assert_eq!((answer.overall_code(), remaining(&answer)), (Code::Ok, vec![left]));
        let told = answer.statuses[0].current_limit.as_ref().unwrap();
        assert_eq!((told.unit(), told.unit_multiplier, told.name.as_str()), (Unit::Hour, Some(2), ""));
    }
    assert_eq!(ask(&world, vec![hourly]).await.overall_code(), Code::OverLimit);
    let daily = limit(5, RateLimitUnit::Day, None);
    assert_eq!(remaining(&ask(&world, vec![daily]).await), [4], "another window is another limit");
    assert_eq!(remaining(&ask(&world, vec![descriptor(&[("user", "ann")])]).await), [0]);
}

#[tokio::test]
async fn a_limit_that_only_watches_denies_nothing_and_one_without_bound_says_so() {
    let shadow = v1::Rule { mode: v1::RuleMode::Shadow.into(), ..rule("watching", "/user=*", 0) };
    let unlimited = v1::Rule { mode: v1::RuleMode::Shadow.into(), ..rule("unlimited", "/ldap=*", 1 << 53) };
    let world = with_rules(vec![shadow, unlimited]).await;
    let answer = ask(&world, vec![descriptor(&[("user", "ann")]), descriptor(&[("ldap", "x")])]).await;
    assert_eq!((answer.overall_code(), remaining(&answer)), (Code::Ok, vec![0, u32::MAX]));
    assert!(answer.statuses[1].current_limit.is_none());
    assert!(answer.response_headers_to_add.is_empty());
}

#[tokio::test]
async fn of_a_group_the_more_special_rule_applies_in_each_descriptor() {
    let general = v1::Rule { override_group: "users".to_owned(), ..rule("any", "/user=*", 1) };
    let special = v1::Rule { override_group: "users".to_owned(), priority: 1, ..rule("ann", "/user=ann", 5) };
    let world = with_rules(vec![general, special]).await;
    let both = vec![descriptor(&[("user", "ann")]), descriptor(&[("user", "bob")])];
    assert_eq!(remaining(&ask(&world, both).await), [4, 0]);
}

#[tokio::test]
async fn a_group_of_the_request_counts_over_all_descriptors() {
    let group = "request:per user".to_owned();
    let replaced = v1::Rule { override_group: group.clone(), ..rule("replaced", "/kind=*/user=*", 1) };
    let replacing = v1::Rule { override_group: group, priority: 1, ..rule("replacing", "/path=*/user=*", 3) };
    let world = with_rules(vec![replaced, replacing]).await;
    let replaced = || descriptor(&[("kind", "read"), ("user", "ann")]);
    let replacing = || descriptor(&[("path", "/a"), ("user", "ann")]);
    for left in [2, 1] {
        let answer = ask(&world, vec![replaced(), replacing()]).await;
        assert_eq!((answer.overall_code(), remaining(&answer)), (Code::Ok, vec![0, left]));
        assert!(answer.statuses[0].current_limit.is_none(), "the other stands in its place");
    }
    assert_eq!(remaining(&ask(&world, vec![replaced()]).await), [0], "nothing was taken of it before");
    assert_eq!(ask(&world, vec![replaced()]).await.overall_code(), Code::OverLimit);
}

#[tokio::test]
async fn a_key_of_the_scope_quota_is_needed_and_keys_that_are_restricted_cannot_say_what_they_call() {
    let world = with_rules(Vec::new()).await;
    let asked = || request(vec![descriptor(&[("user", "ann")])]);
    let mut nobody = RateLimitServiceClient::new(world.public.clone());
    let refused = nobody.should_rate_limit(asked()).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused)), (Grpc::Unauthenticated, R::CredentialMissing));
    let reader = world.add_key(plain_key(&[Scope::Read])).await;
    let mut reader = RateLimitServiceClient::new(world.transport_with(&reader));
    let refused = reader.should_rate_limit(asked()).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused)), (Grpc::PermissionDenied, R::ScopeMissing));
    let mut restricted = plain_key(&[Scope::Quota]);
    restricted.models = vec![Glob::parse("models", "gpt-*").unwrap()];
    let restricted = world.add_key(restricted).await;
    let mut restricted = RateLimitServiceClient::new(world.transport_with(&restricted));
    let refused = restricted.should_rate_limit(asked()).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused)), (Grpc::PermissionDenied, R::KeyRestricted));
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_named() {
    let world = with_rules(Vec::new()).await;
    let user = [("user", "ann")];
    let many = |count, made: RateLimitDescriptor| vec![made; count];
    let long = "x".repeat(513);
    let limit = |unit, unit_multiplier| RateLimitDescriptor {
        limit: Some(RateLimitOverride { requests_per_unit: 1, unit, unit_multiplier }),
        ..descriptor(&user)
    };
    let of = |descriptor| request(vec![descriptor]);
    for (request, expected, field) in [
        (RateLimitRequest { domain: String::new(), ..of(descriptor(&user)) }, R::FieldMissing, "domain"),
        (RateLimitRequest { domain: long.clone(), ..of(descriptor(&user)) }, R::FieldOutOfBounds, "domain"),
        (request(Vec::new()), R::FieldOutOfBounds, "descriptors"),
        (request(many(33, descriptor(&user))), R::FieldOutOfBounds, "descriptors"),
        (of(descriptor(&[])), R::FieldOutOfBounds, "descriptors[0].entries"),
        (of(descriptor(&[("k", "v"); 11])), R::FieldOutOfBounds, "descriptors[0].entries"),
        (of(descriptor(&[("k", "v"), ("", "v")])), R::FieldMissing, "descriptors[0].entries[1].key"),
        (of(descriptor(&[(&long, "v")])), R::FieldOutOfBounds, "descriptors[0].entries[0].key"),
        (of(hitting(u64::MAX, &user)), R::FieldOutOfBounds, "descriptors[0].hits_addend"),
        (of(hitting(1_000_000_000_001, &user)), R::FieldOutOfBounds, "descriptors[0].hits_addend"),
        (of(limit(0, None)), R::FieldMissing, "descriptors[0].limit.unit"),
        (of(limit(77, None)), R::FieldMalformed, "descriptors[0].limit.unit"),
        (of(limit(1, Some(0))), R::FieldOutOfBounds, "descriptors[0].limit.unit_multiplier"),
        (of(limit(6, Some(2))), R::FieldOutOfBounds, "descriptors[0].limit.unit_multiplier"),
    ] {
        let error = client(&world).should_rate_limit(request.clone()).await.unwrap_err();
        assert_eq!(told(&error), (Grpc::InvalidArgument, expected, field.to_owned()), "{request:?}");
    }
}

#[tokio::test]
async fn more_limits_than_a_decision_holds_are_refused() {
    let rules = (0..3).map(|number| rule(&format!("rule {number}"), "/user=*", 9)).collect();
    let world = with_rules(rules).await;
    let users: Vec<String> = (0..22).map(|number| format!("user {number}")).collect();
    let descriptors: Vec<_> = users.iter().map(|user| descriptor(&[("user", user)])).collect();
    assert_eq!(ask(&world, descriptors[..21].to_vec()).await.overall_code(), Code::Ok);
    let refused = client(&world).should_rate_limit(request(descriptors)).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused)), (Grpc::FailedPrecondition, R::TooManyLimits));
}

#[tokio::test]
async fn what_a_value_is_missing_for_is_denied_and_takes_nothing() {
    let strict = v1::Rule {
        scope: vec![v1::ScopeDimension { kind: v1::ScopeKind::Subject.into(), attribute: String::new() }],
        on_missing: v1::OnMissing::Deny.into(),
        ..rule("per subject", "/user=*", 5)
    };
    let world = with_rules(vec![strict, rule("wide", "/route=*", 10)]).await;
    let both = || vec![descriptor(&[("route", "/a")]), descriptor(&[("user", "ann")])];
    for _ in 0..2 {
        let denied = ask(&world, both()).await;
        assert_eq!((codes(&denied), remaining(&denied)[0]), (vec![Code::Ok, Code::OverLimit], 10));
        assert_eq!(header(&denied, "retry-after"), None);
    }
}
