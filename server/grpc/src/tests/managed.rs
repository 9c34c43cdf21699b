//! APIs, keys, rules and budgets: made, read, listed, changed and deleted.

use prost_types::FieldMask;
use rateguard_engine::resources::Scope;
use rateguard_proto::v1;
use rateguard_proto::v1::ErrorReason as R;
use rateguard_proto::v1::api_service_client::ApiServiceClient;
use rateguard_proto::v1::budget_service_client::BudgetServiceClient;
use rateguard_proto::v1::key_service_client::KeyServiceClient;
use rateguard_proto::v1::quota_service_client::QuotaServiceClient;
use rateguard_proto::v1::rule_service_client::RuleServiceClient;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::world::{Transport, World, reason, told};

pub fn mask(paths: &[&str]) -> Option<FieldMask> {
    Some(FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() })
}

pub fn usd(nanos: i64) -> Option<v1::NanoMoney> {
    Some(v1::NanoMoney { currency_code: "USD".to_owned(), nanos })
}

pub fn fixed_window(limit: i64) -> Option<v1::rule::Algorithm> {
    Some(v1::rule::Algorithm::FixedWindow(v1::FixedWindow { limit, window_ms: 60_000 }))
}

pub fn ten_a_minute() -> v1::Rule {
    v1::Rule { display_name: "ten a minute".to_owned(), algorithm: fixed_window(10), ..v1::Rule::default() }
}

pub async fn make_rule(
    client: &mut RuleServiceClient<Transport>,
    rule: v1::Rule,
) -> Result<v1::Rule, Status> {
    let answer =
        client.create_rule(v1::CreateRuleRequest { rule: Some(rule), request_id: String::new() }).await?;
    Ok(answer.into_inner().rule.unwrap())
}

pub async fn make_api(world: &World, api: v1::Api) -> Result<v1::Api, Status> {
    let mut client = ApiServiceClient::new(world.transport());
    Ok(client
        .create_api(v1::CreateApiRequest { api: Some(api), request_id: String::new() })
        .await?
        .into_inner()
        .api
        .unwrap())
}

pub fn api(slug: &str) -> v1::Api {
    v1::Api { slug: slug.to_owned(), base_url: "https://api.example.com/v1".to_owned(), ..v1::Api::default() }
}

#[tokio::test]
async fn a_new_rule_has_its_defaults_an_id_and_an_etag_and_is_read_back_the_same() {
    let world = World::new().await;
    let mut client = RuleServiceClient::new(world.transport());
    let ignored = v1::Rule { id: "rule_mine".to_owned(), etag: "9".to_owned(), ..ten_a_minute() };
    let made = make_rule(&mut client, ignored).await.unwrap();
    assert!(made.id.starts_with("rule_") && made.id != "rule_mine", "{}", made.id);
    assert_eq!(
        (made.unit.as_str(), made.mode(), made.on_missing()),
        ("requests", v1::RuleMode::Enforced, v1::OnMissing::Shared)
    );
    assert_eq!((made.active, made.r#match.clone()), (Some(true), None));
    assert_eq!(made.create_time, made.update_time);
    let found = client.get_rule(v1::GetRuleRequest { id: made.id.clone() }).await.unwrap().into_inner();
    assert_eq!(found.rule, Some(made));
}

#[tokio::test]
async fn what_is_wrong_with_a_rule_is_named_with_its_path() {
    let world = World::new().await;
    let mut client = RuleServiceClient::new(world.transport());
    let bucket = v1::TokenBucket { capacity: 0, refill_amount: 1, refill_period_ms: 1 };
    let scope = |kind: v1::ScopeKind, attribute: &str| v1::ScopeDimension {
        kind: kind.into(),
        attribute: attribute.to_owned(),
    };
    let wrong = [
        (v1::Rule { algorithm: None, ..ten_a_minute() }, R::FieldMissing, "rule.algorithm"),
        (
            v1::Rule { display_name: String::new(), ..ten_a_minute() },
            R::FieldOutOfBounds,
            "rule.display_name",
        ),
        (
            v1::Rule { algorithm: Some(v1::rule::Algorithm::TokenBucket(bucket)), ..ten_a_minute() },
            R::FieldOutOfBounds,
            "rule.token_bucket.capacity",
        ),
        (
            v1::Rule { algorithm: fixed_window(-1), ..ten_a_minute() },
            R::FieldOutOfBounds,
            "rule.fixed_window.limit",
        ),
        (v1::Rule { mode: 77, ..ten_a_minute() }, R::FieldMalformed, "rule.mode"),
        (v1::Rule { priority: 1_000_001, ..ten_a_minute() }, R::FieldOutOfBounds, "rule.priority"),
        (
            v1::Rule { scope: vec![scope(v1::ScopeKind::Key, "plan")], ..ten_a_minute() },
            R::FieldConflict,
            "rule.scope[0].attribute",
        ),
        (
            v1::Rule { scope: vec![scope(v1::ScopeKind::Attribute, "KEY")], ..ten_a_minute() },
            R::FieldOutOfBounds,
            "rule.scope[0].attribute",
        ),
        (
            v1::Rule { scope: vec![scope(v1::ScopeKind::Key, ""); 2], ..ten_a_minute() },
            R::FieldOutOfBounds,
            "rule.scope[1]",
        ),
        (
            v1::Rule {
                r#match: Some(v1::CallMatch {
                    ip_ranges: vec!["300.0.0.0/8".to_owned()],
                    ..Default::default()
                }),
                ..ten_a_minute()
            },
            R::FieldMalformed,
            "rule.match.ip_ranges[0]",
        ),
    ];
    for (rule, expected, field) in wrong {
        let error = make_rule(&mut client, rule.clone()).await.unwrap_err();
        assert_eq!(told(&error), (Code::InvalidArgument, expected, field.to_owned()), "{rule:?}");
    }
    let none = client
        .create_rule(v1::CreateRuleRequest { rule: None, request_id: String::new() })
        .await
        .unwrap_err();
    assert_eq!(told(&none), (Code::InvalidArgument, R::FieldMissing, "rule".to_owned()));
}

#[tokio::test]
async fn a_rule_for_an_api_that_does_not_exist_is_not_found() {
    let world = World::new().await;
    let mut client = RuleServiceClient::new(world.transport());
    let of_nobody = v1::CallMatch { api_ids: vec!["api_nobody".to_owned()], ..v1::CallMatch::default() };
    let error =
        make_rule(&mut client, v1::Rule { r#match: Some(of_nobody), ..ten_a_minute() }).await.unwrap_err();
    assert_eq!(told(&error), (Code::NotFound, R::ResourceNotFound, "rule.match.api_ids[0]".to_owned()));
}

#[tokio::test]
async fn what_is_in_use_is_not_deleted_and_the_refusal_says_by_what() {
    let world = World::new().await;
    let used = make_api(&world, api("used")).await.unwrap().id;
    let key = v1::Key { display_name: "k".to_owned(), scopes: vec![1], ..v1::Key::default() };
    let mut keys = KeyServiceClient::new(world.transport());
    let create = v1::CreateKeyRequest { key: Some(key), request_id: String::new() };
    let key_id = keys.create_key(create).await.unwrap().into_inner().key.unwrap().id;
    let matches = v1::CallMatch {
        api_ids: vec![used.clone()],
        key_ids: vec![key_id.clone()],
        ..v1::CallMatch::default()
    };
    let mut rules = RuleServiceClient::new(world.transport());
    let rule = make_rule(&mut rules, v1::Rule { r#match: Some(matches), ..ten_a_minute() }).await.unwrap();

    let mut apis = ApiServiceClient::new(world.transport());
    let delete_api = v1::DeleteApiRequest { id: used, etag: String::new() };
    let delete_key = v1::DeleteKeyRequest { id: key_id, etag: String::new() };
    let refusals = [
        apis.delete_api(delete_api.clone()).await.unwrap_err(),
        keys.delete_key(delete_key.clone()).await.unwrap_err(),
    ];
    for refused in refusals {
        assert_eq!((refused.code(), reason(&refused)), (Code::FailedPrecondition, R::ResourceInUse));
        assert!(refused.message().contains(&rule.id), "{}", refused.message());
        let details = refused.get_error_details();
        let metadata = &details.error_info().unwrap().metadata;
        assert_eq!(metadata["used_by"], format!("rule {}", rule.id));
        assert_eq!(metadata["used_by_more"], "0");
    }
    rules.delete_rule(v1::DeleteRuleRequest { id: rule.id, etag: String::new() }).await.unwrap();
    apis.delete_api(delete_api).await.unwrap();
    keys.delete_key(delete_key).await.unwrap();
}

#[tokio::test]
async fn a_rule_cannot_name_a_key_that_is_not_there() {
    let world = World::new().await;
    let matches = v1::CallMatch { key_ids: vec!["key_nobody".to_owned()], ..v1::CallMatch::default() };
    let rule = v1::Rule { r#match: Some(matches), ..ten_a_minute() };
    let refused = make_rule(&mut RuleServiceClient::new(world.transport()), rule).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused)), (Code::NotFound, R::ResourceNotFound));
}

#[tokio::test]
async fn an_update_changes_what_the_mask_names_and_the_etag() {
    let world = World::new().await;
    let mut client = RuleServiceClient::new(world.transport());
    let made = make_rule(&mut client, ten_a_minute()).await.unwrap();
    let changes = v1::Rule {
        id: made.id.clone(),
        etag: made.etag.clone(),
        algorithm: fixed_window(20),
        ..v1::Rule::default()
    };
    let request = v1::UpdateRuleRequest { rule: Some(changes), update_mask: mask(&["fixed_window"]) };
    let updated = client.update_rule(request.clone()).await.unwrap().into_inner();
    let rule = updated.rule.unwrap();
    assert_eq!((rule.display_name.as_str(), &rule.algorithm), ("ten a minute", &fixed_window(20)));
    assert!(!updated.counters_reset && rule.etag != made.etag);

    let again = client.update_rule(request).await.unwrap_err();
    assert_eq!((again.code(), reason(&again)), (Code::Aborted, R::EtagMismatch));
}

#[tokio::test]
async fn an_update_of_the_shape_says_that_counters_begin_anew() {
    let world = World::new().await;
    let mut client = RuleServiceClient::new(world.transport());
    let made = make_rule(&mut client, ten_a_minute()).await.unwrap();
    let hourly =
        v1::CalendarWindow { limit: 10, period: v1::CalendarPeriod::Hour.into(), time_zone: String::new() };
    let changes = v1::Rule {
        id: made.id,
        algorithm: Some(v1::rule::Algorithm::CalendarWindow(hourly)),
        ..v1::Rule::default()
    };
    let request = v1::UpdateRuleRequest { rule: Some(changes), update_mask: mask(&["calendar_window"]) };
    assert!(client.update_rule(request).await.unwrap().into_inner().counters_reset);
}

#[tokio::test]
async fn an_update_without_a_good_mask_an_id_or_a_rule_is_refused() {
    let world = World::new().await;
    let mut client = RuleServiceClient::new(world.transport());
    let made = make_rule(&mut client, ten_a_minute()).await.unwrap();
    let mut update = async |id: &str, etag: &str, paths: &[&str]| {
        let rule = v1::Rule { id: id.to_owned(), etag: etag.to_owned(), ..ten_a_minute() };
        let request = v1::UpdateRuleRequest { rule: Some(rule), update_mask: mask(paths) };
        told(&client.update_rule(request).await.unwrap_err())
    };
    let invalid = (Code::InvalidArgument, R::UpdateMaskInvalid);
    assert_eq!(update(&made.id, "", &[]).await, (invalid.0, invalid.1, "update_mask".to_owned()));
    assert_eq!(
        update(&made.id, "", &["etag"]).await,
        (invalid.0, invalid.1, "update_mask.paths[0]".to_owned())
    );
    assert_eq!(update("", "", &["*"]).await, (Code::InvalidArgument, R::FieldMissing, "rule.id".to_owned()));
    assert_eq!(update("rule_none", "", &["*"]).await.1, R::ResourceNotFound);
    assert_eq!(update(&made.id, "no etag", &["*"]).await.1, R::EtagMismatch);
}

#[tokio::test]
async fn pages_list_every_rule_once_and_a_token_fits_its_own_list_alone() {
    let world = World::new().await;
    let mut client = RuleServiceClient::new(world.transport());
    for number in 0..5 {
        let rule = v1::Rule { display_name: format!("rule {number}"), ..ten_a_minute() };
        make_rule(&mut client, rule).await.unwrap();
    }
    let (mut names, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = v1::ListRulesRequest {
            page_size: 2,
            page_token: page_token.clone(),
            ..v1::ListRulesRequest::default()
        };
        let page = client.list_rules(request).await.unwrap().into_inner();
        names.extend(page.rules.into_iter().map(|rule| rule.display_name));
        if page.next_page_token.is_empty() {
            break;
        }
        page_token = page.next_page_token;
    }
    names.sort();
    assert_eq!(names, (0..5).map(|number| format!("rule {number}")).collect::<Vec<_>>());

    let mut keys = KeyServiceClient::new(world.transport());
    let error = keys
        .list_keys(v1::ListKeysRequest { page_size: 2, page_token, ..v1::ListKeysRequest::default() })
        .await
        .unwrap_err();
    assert_eq!(told(&error), (Code::InvalidArgument, R::PageTokenInvalid, "page_token".to_owned()));
    for page_size in [-1, 1_001] {
        let request =
            v1::ListRulesRequest { page_size, page_token: String::new(), ..v1::ListRulesRequest::default() };
        assert_eq!(told(&client.list_rules(request).await.unwrap_err()).2, "page_size");
    }
}

#[tokio::test]
async fn a_deleted_rule_is_gone_and_an_old_etag_deletes_nothing() {
    let world = World::new().await;
    let mut client = RuleServiceClient::new(world.transport());
    let made = make_rule(&mut client, ten_a_minute()).await.unwrap();
    let stale = v1::DeleteRuleRequest { id: made.id.clone(), etag: "99".to_owned() };
    assert_eq!(reason(&client.delete_rule(stale).await.unwrap_err()), R::EtagMismatch);
    let delete = v1::DeleteRuleRequest { id: made.id.clone(), etag: made.etag };
    client.delete_rule(delete.clone()).await.unwrap();
    let again = client.delete_rule(delete).await.unwrap_err();
    assert_eq!((again.code(), reason(&again)), (Code::NotFound, R::ResourceNotFound));
    let get = client.get_rule(v1::GetRuleRequest { id: made.id }).await.unwrap_err();
    assert_eq!(get.code(), Code::NotFound);
}

#[tokio::test]
async fn an_api_is_found_by_its_slug_and_never_shows_its_credential() {
    let world = World::new().await;
    let secret = Some(v1::SecretText { value: "sk-upstream-secret".to_owned() });
    let made = make_api(&world, v1::Api { credential: secret, ..api("openai") }).await.unwrap();
    assert_eq!((made.display_name.as_str(), made.timeout_ms), ("openai", 600_000));
    assert_eq!((made.credential_set, &made.credential), (true, &None));
    let mut client = ApiServiceClient::new(world.transport());
    let found = client.get_api(v1::GetApiRequest { id: "openai".to_owned() }).await.unwrap().into_inner();
    assert_eq!(found.api, Some(made));
}

#[tokio::test]
async fn a_credential_stays_until_a_mask_names_it_and_a_star_without_one_leaves_it() {
    let world = World::new().await;
    let secret = |value: &str| Some(v1::SecretText { value: value.to_owned() });
    let made = make_api(&world, v1::Api { credential: secret("sk-1"), ..api("openai") }).await.unwrap();
    let mut client = ApiServiceClient::new(world.transport());
    let mut update = async |credential: Option<v1::SecretText>, paths: &[&str]| {
        let changes = v1::Api { id: made.id.clone(), credential, show_spend: true, ..api("openai") };
        let request = v1::UpdateApiRequest { api: Some(changes), update_mask: mask(paths) };
        client.update_api(request).await.unwrap().into_inner().api.unwrap()
    };
    assert!(update(None, &["show_spend"]).await.credential_set);
    assert!(update(None, &["*"]).await.credential_set);
    assert!(!update(secret(""), &["*"]).await.credential_set);
    assert!(update(secret("sk-2"), &["credential"]).await.credential_set);
    assert!(!update(None, &["credential"]).await.credential_set);
}

#[tokio::test]
async fn another_scheme_needs_the_credential_anew_or_none() {
    let world = World::new().await;
    let secret = |value: &str| Some(v1::SecretText { value: value.to_owned() });
    let bearer = v1::ApiAuthScheme::Bearer.into();
    let made = v1::Api { credential: secret("sk-1"), auth_scheme: bearer, ..api("openai") };
    let made = make_api(&world, made).await.unwrap();
    let mut client = ApiServiceClient::new(world.transport());
    let mut update = async |scheme: v1::ApiAuthScheme, credential: Option<v1::SecretText>, paths: &[&str]| {
        let changes =
            v1::Api { id: made.id.clone(), credential, auth_scheme: scheme.into(), ..api("openai") };
        let request = v1::UpdateApiRequest { api: Some(changes), update_mask: mask(paths) };
        client.update_api(request).await.map(drop).map_err(|status| told(&status))
    };
    let (basic, bearer) = (v1::ApiAuthScheme::Basic, v1::ApiAuthScheme::Bearer);
    let refused = |reason| Err((Code::InvalidArgument, reason, "api.credential".to_owned()));
    let both = ["auth_scheme", "credential"];
    for paths in [&["auth_scheme"][..], &["*"]] {
        assert_eq!(update(basic, None, paths).await, refused(R::FieldMissing));
    }
    assert_eq!(update(basic, secret("sk-1"), &both).await, refused(R::FieldMalformed));
    assert_eq!(update(basic, secret("user:password"), &both).await, Ok(()));
    assert_eq!(update(basic, None, &["*"]).await, Ok(()), "the same scheme keeps it");
    // Without a scheme it is not shown; to show it otherwise, it is sent anew.
    assert_eq!(update(v1::ApiAuthScheme::None, None, &["auth_scheme"]).await, Ok(()));
    assert_eq!(update(bearer, None, &["auth_scheme"]).await, refused(R::FieldMissing));
    assert_eq!(update(bearer, None, &both).await, Ok(()), "a mask that names it alone removes it");
}

#[tokio::test]
async fn two_apis_cannot_have_one_slug_and_each_bad_field_is_named() {
    let world = World::new().await;
    make_api(&world, api("openai")).await.unwrap();
    let taken = make_api(&world, api("openai")).await.unwrap_err();
    assert_eq!(told(&taken), (Code::AlreadyExists, R::SlugTaken, "api.slug".to_owned()));
    let url = |base_url: &str| v1::Api { base_url: base_url.to_owned(), ..api("x") };
    let wrong = [
        (v1::Api { slug: "Open AI".to_owned(), ..api("x") }, R::FieldOutOfBounds, "api.slug"),
        (url("ftp://example.com"), R::FieldMalformed, "api.base_url"),
        (url("https://user:pw@example.com/"), R::FieldMalformed, "api.base_url"),
        (url("https://example.com/?a=b"), R::FieldMalformed, "api.base_url"),
        (url("https://example.com/#part"), R::FieldMalformed, "api.base_url"),
        (url("/path"), R::FieldMalformed, "api.base_url"),
        (v1::Api { auth_name: "x-key".to_owned(), ..api("x") }, R::FieldConflict, "api.auth_name"),
        (
            v1::Api { auth_scheme: v1::ApiAuthScheme::Header.into(), ..api("x") },
            R::FieldMissing,
            "api.auth_name",
        ),
        (v1::Api { default_cost: usd(1), ..api("x") }, R::FieldConflict, "api.default_cost"),
        (
            v1::Api { price_per_request: Some("1e3".to_owned()), ..api("x") },
            R::FieldOutOfBounds,
            "api.price_per_request",
        ),
        (v1::Api { timeout_ms: 999, ..api("x") }, R::FieldOutOfBounds, "api.timeout_ms"),
    ];
    for (api, expected, field) in wrong {
        let error = make_api(&world, api).await.unwrap_err();
        assert_eq!(told(&error), (Code::InvalidArgument, expected, field.to_owned()));
    }
}

#[tokio::test]
async fn a_key_is_shown_once_and_opens_what_its_scopes_say() {
    let world = World::new().await;
    let mut client = KeyServiceClient::new(world.transport());
    let key = v1::Key {
        display_name: "back end".to_owned(),
        label: v1::KeyLabel::Test.into(),
        scopes: vec![v1::KeyScope::Quota.into()],
        ..v1::Key::default()
    };
    let made = client
        .create_key(v1::CreateKeyRequest { key: Some(key), request_id: String::new() })
        .await
        .unwrap()
        .into_inner();
    let (key, secret) = (made.key.unwrap(), made.secret.unwrap().value);
    assert!(secret.starts_with("rg_test_") && secret.starts_with(&key.prefix), "{}", key.prefix);
    let mut quota = QuotaServiceClient::new(world.transport_with(&secret));
    quota.check_quota(v1::CheckQuotaRequest::default()).await.unwrap();

    let disable = v1::Key { id: key.id.clone(), state: v1::KeyState::Disabled.into(), ..v1::Key::default() };
    let request = v1::UpdateKeyRequest { key: Some(disable), update_mask: mask(&["state"]) };
    let disabled = client.update_key(request).await.unwrap().into_inner().key.unwrap();
    assert_eq!((disabled.prefix, disabled.scopes), (key.prefix, key.scopes));
    let error = quota.check_quota(v1::CheckQuotaRequest::default()).await.unwrap_err();
    assert_eq!((error.code(), reason(&error)), (Code::PermissionDenied, R::KeyDisabled));

    client.delete_key(v1::DeleteKeyRequest { id: key.id, etag: String::new() }).await.unwrap();
    let error = quota.check_quota(v1::CheckQuotaRequest::default()).await.unwrap_err();
    assert_eq!((error.code(), reason(&error)), (Code::Unauthenticated, R::CredentialUnknown));
}

#[tokio::test]
async fn a_keys_label_cannot_change_and_bad_keys_are_named() {
    let world = World::new().await;
    let mut client = KeyServiceClient::new(world.transport());
    let good = v1::Key { display_name: "k".to_owned(), scopes: vec![1], ..v1::Key::default() };
    let made = client
        .create_key(v1::CreateKeyRequest { key: Some(good.clone()), request_id: String::new() })
        .await
        .unwrap()
        .into_inner();
    let relabelled = v1::Key { label: v1::KeyLabel::Test.into(), ..made.key.unwrap() };
    let request = v1::UpdateKeyRequest { key: Some(relabelled), update_mask: mask(&["label"]) };
    assert_eq!(reason(&client.update_key(request).await.unwrap_err()), R::UpdateMaskInvalid);
    let bound = v1::Key { bound_subject: "one".to_owned(), allow_subject_header: true, ..good.clone() };
    let wrong = [
        (v1::Key { scopes: vec![], ..good.clone() }, R::FieldMissing, "key.scopes"),
        (v1::Key { scopes: vec![1, 1], ..good.clone() }, R::FieldOutOfBounds, "key.scopes[1]"),
        (v1::Key { scopes: vec![9], ..good.clone() }, R::FieldMalformed, "key.scopes[0]"),
        (bound, R::FieldConflict, "key.allow_subject_header"),
        (v1::Key { models: vec!["[".to_owned()], ..good }, R::FieldMalformed, "key.models[0]"),
    ];
    for (key, expected, field) in wrong {
        let error = client
            .create_key(v1::CreateKeyRequest { key: Some(key), request_id: String::new() })
            .await
            .unwrap_err();
        assert_eq!(told(&error), (Code::InvalidArgument, expected, field.to_owned()));
    }
}

#[tokio::test]
async fn a_budget_tells_how_it_stands_and_one_with_a_scope_does_not() {
    let world = World::new().await;
    let mut client = BudgetServiceClient::new(world.transport());
    let monthly = v1::CalendarBudget { period: v1::CalendarPeriod::Month.into(), time_zone: String::new() };
    let budget = v1::Budget {
        display_name: "team".to_owned(),
        amount: usd(5_000_000_000),
        period: Some(v1::budget::Period::Calendar(monthly)),
        ..v1::Budget::default()
    };
    let mut make = async |budget: v1::Budget| {
        let answer = client
            .create_budget(v1::CreateBudgetRequest { budget: Some(budget), request_id: String::new() })
            .await;
        answer.map(|answer| answer.into_inner().budget.unwrap())
    };
    let made = make(budget.clone()).await.unwrap();
    let state = made.state.unwrap();
    assert_eq!(
        (state.amount_nanos, state.remaining_nanos, state.spent_nanos),
        (5_000_000_000, 5_000_000_000, 0)
    );
    assert_eq!(state.period_start_time.unwrap().seconds, 1_772_323_200, "the first of March");
    let by_key = vec![v1::ScopeDimension { kind: v1::ScopeKind::Key.into(), attribute: String::new() }];
    assert_eq!(make(v1::Budget { scope: by_key, ..budget.clone() }).await.unwrap().state, None);

    let euros = Some(v1::NanoMoney { currency_code: "EUR".to_owned(), nanos: 1 });
    let error = make(v1::Budget { amount: euros, ..budget.clone() }).await.unwrap_err();
    assert_eq!(told(&error).1, R::CurrencyMismatch);
    let hourly = v1::CalendarBudget { period: v1::CalendarPeriod::Hour.into(), time_zone: String::new() };
    let period = Some(v1::budget::Period::Calendar(hourly));
    let error = make(v1::Budget { period, ..budget }).await.unwrap_err();
    assert_eq!(told(&error).2, "budget.calendar.period");
}

#[tokio::test]
async fn nothing_of_one_workspace_is_seen_with_a_key_that_may_not_look() {
    let world = World::new().await;
    let blind = world.add_key(super::world::plain_key(&[Scope::Quota, Scope::Usage, Scope::Gateway])).await;
    let mut client = RuleServiceClient::new(world.transport_with(&blind));
    // Refused before anybody looks whether it exists.
    let error = client.get_rule(v1::GetRuleRequest { id: "rule_none".to_owned() }).await.unwrap_err();
    assert_eq!((error.code(), reason(&error)), (Code::PermissionDenied, R::ScopeMissing));
}
