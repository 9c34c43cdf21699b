//! Answers that are whole: the right text, the right cost, the right record.

use http::{Method, StatusCode};
use rateguard_proto::v1::{ApiAuthScheme, CheckMode, UsageExactness};
use serde_json::json;

use crate::support::control::{cost, price};
use crate::support::{CHAT, MESSAGES, World, chat_body, config, eventually, message_body, start, start_with};

/// Dollars as the cost header shows them, from nano-dollars below one dollar.
fn dollars(nanos: i64) -> String {
    let digits = format!("{nanos:09}");
    let needed = digits.trim_end_matches('0').len().max(2);
    format!("0.{}", &digits[..needed])
}

#[tokio::test]
async fn a_chat_answer_comes_back_whole_and_its_tokens_are_reported() {
    let world = start().await;
    let knobs =
        [("x-demo-input-tokens", "1200"), ("x-demo-output-tokens", "40"), ("x-demo-cached-tokens", "256")];
    let answer = world.post(CHAT, &knobs, &chat_body()).await;
    assert_eq!(answer.status, StatusCode::OK);
    let json = answer.json();
    assert!(json["choices"][0]["message"]["content"].as_str().unwrap().contains("Say hello"));
    assert_eq!(json["usage"]["prompt_tokens"], 1_200);

    let record = world.report().await;
    let tokens = record.tokens.unwrap();
    assert_eq!((tokens.input_total, tokens.output, tokens.cached_input), (Some(1_200), Some(40), Some(256)));
    assert_eq!(record.model, "gpt-4o-mini-2024-07-18");
    assert_eq!(record.service_tier, "default");
    assert_eq!(record.exactness(), UsageExactness::Exact);
    assert_eq!((record.attempt, record.r#final), (Some(1), Some(true)));
    assert_eq!((record.api.as_str(), record.endpoint.as_str()), ("openai", "/v1/chat/completions"));
    assert_eq!((record.method.as_str(), record.status_code), ("POST", 200));
    assert_eq!(record.bytes_in, Some(i64::try_from(chat_body().to_string().len()).unwrap()));
    assert_eq!(record.bytes_out, Some(i64::try_from(answer.body.len()).unwrap()));
    assert_eq!(record.ip, "127.0.0.1");
    assert!(record.latency_ms.unwrap() >= record.upstream_latency_ms.unwrap());
    assert_eq!(answer.header("x-rateguard-request-id"), Some(record.request_id.as_str()));
    assert!(record.event_id.starts_with(&record.request_id));
}

#[tokio::test]
async fn the_cost_in_the_head_is_the_cost_that_is_reported() {
    let world = start().await;
    let answer = world.post(CHAT, &[("x-demo-input-tokens", "1200")], &chat_body()).await;
    let record = world.report().await;
    assert_eq!(answer.header("x-rateguard-cost"), Some(dollars(cost(&record)).as_str()));
    assert!(answer.headers.contains_key("x-rateguard-cost-cents"));
    assert!(answer.headers.contains_key("x-rateguard-latency-ms"));
    assert!(answer.headers.contains_key("x-rateguard-upstream-latency-ms"));
    let named = record.price.unwrap();
    assert_eq!((named.price_id.as_str(), named.price_version), ("price_gpt-4o-mini-2024-07-18", 3));
}

#[tokio::test]
async fn a_message_comes_back_whole_and_its_tokens_are_reported() {
    let world = start().await;
    let knobs =
        [("x-demo-input-tokens", "900"), ("x-demo-output-tokens", "30"), ("x-demo-cached-tokens", "100")];
    let answer = world.post(MESSAGES, &knobs, &message_body()).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    assert!(answer.json()["content"][0]["text"].as_str().unwrap().contains("Say hello"));
    let record = world.report().await;
    let tokens = record.tokens.unwrap();
    assert_eq!((tokens.input_total, tokens.output, tokens.cached_input), (Some(900), Some(30), Some(100)));
    assert_eq!(record.exactness(), UsageExactness::Exact);
    assert_eq!(cost(&record), price(Some(900), Some(30)));
}

#[tokio::test]
async fn what_a_call_may_use_is_reserved_first() {
    let world = start().await;
    let mut body = chat_body();
    body["n"] = json!(3);
    world.post(CHAT, &[("x-rateguard-subject", "customer-7")], &body).await;
    let check = world.control.checks().remove(0);
    assert_eq!(check.mode(), CheckMode::Reserve);
    assert_eq!((check.model.as_str(), check.subject.as_str()), ("gpt-4o-mini", "customer-7"));
    assert_eq!((check.api.as_str(), check.endpoint.as_str()), ("openai", "/v1/chat/completions"));
    assert_eq!(check.ip, "127.0.0.1");
    let estimate = check.estimate.unwrap();
    let bytes = i64::try_from(body.to_string().len()).unwrap();
    assert_eq!(estimate.input_tokens, Some(bytes.div_euclid(3) + i64::from(bytes % 3 != 0)));
    assert_eq!((estimate.max_output_tokens, estimate.choices), (Some(100), Some(3)));
    assert_eq!(check.reservation_ttl_ms, Some(3_600_000));
    let record = world.report().await;
    assert_eq!((record.reservation_id.as_str(), record.subject.as_str()), ("rsv_1", "customer-7"));
    assert_eq!(record.request_id, check.request_id);
    assert_eq!(world.control.open(), 0);
}

#[tokio::test]
async fn a_call_without_a_maximum_reserves_the_apis_own() {
    let world = start().await;
    let mut body = chat_body();
    body.as_object_mut().unwrap().remove("max_tokens");
    world.post(CHAT, &[], &body).await;
    assert_eq!(world.estimate().max_output_tokens, Some(4_096));
}

#[tokio::test]
async fn an_answer_without_usage_is_left_to_the_apis_policy_and_refunds_nothing() {
    let world = start().await;
    let answer = world.post(CHAT, &[("x-demo-no-usage", "true")], &chat_body()).await;
    assert_eq!(answer.status, StatusCode::OK);
    let record = world.report().await;
    assert_eq!((record.tokens, record.exactness()), (None, UsageExactness::Estimated));
    assert_eq!(record.cost, None);
}

#[tokio::test]
async fn an_error_of_the_upstream_passes_through_and_costs_nothing() {
    let world = start().await;
    world.control.set_budget(1_000_000_000);
    let answer = world.post(CHAT, &[("x-demo-status", "503")], &chat_body()).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.headers.contains_key("x-demo-upstream"));
    let record = world.report().await;
    assert_eq!((record.status_code, record.error_type.as_str()), (503, "upstream_error"));
    assert_eq!(record.exactness(), UsageExactness::Exact);
    assert_eq!(record.cost.as_ref().unwrap().nanos, 0);
    eventually(|| world.control.budget() == (0, 0)).await;
}

#[tokio::test]
async fn a_call_in_no_dialect_streams_both_ways_and_is_counted() {
    let world = start().await;
    let answer =
        world.send(world.request(Method::PUT, "/proxy/echo/items?a=1", &[], "x".repeat(100_000))).await;
    let json = answer.json();
    assert_eq!((json["method"].as_str(), json["path"].as_str()), (Some("PUT"), Some("/echo/items")));
    assert_eq!((json["query"].as_str(), json["body_bytes"].as_u64()), (Some("a=1"), Some(100_000)));
    let record = world.report().await;
    assert_eq!((record.bytes_in, record.endpoint.as_str()), (Some(100_000), "/items"));
    assert_eq!(record.bytes_out, Some(i64::try_from(answer.body.len()).unwrap()));
    assert_eq!((record.tokens, record.exactness()), (None, UsageExactness::Exact));
    assert_eq!(answer.header("x-rateguard-cost"), Some("0.00"));
    assert_eq!(world.control.checks()[0].estimate, None);
}

#[tokio::test]
async fn an_answer_without_a_body_is_no_answer_that_was_left() {
    let world = start().await;
    let answer = world.send(world.request(Method::HEAD, "/proxy/echo", &[], "")).await;
    assert_eq!((answer.status, answer.body.len()), (StatusCode::OK, 0));
    let record = world.report().await;
    assert_eq!((record.status_code, record.error_type.as_str()), (200, ""));
}

#[tokio::test]
async fn a_body_larger_than_a_vendor_takes_is_413_and_asks_nothing_of_anyone() {
    let mut small = config();
    small.vendor_body_bytes_max = 1_000;
    let world = start_with(small).await;
    let mut body = chat_body();
    body["messages"][0]["content"] = json!("x".repeat(1_000));
    let answer = world.post(CHAT, &[], &body).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(answer.json()["error"]["code"], "body_too_large");
    assert!(answer.json()["error"]["message"].as_str().unwrap().contains("1000"));
    assert!(world.control.checks().is_empty());
}

#[tokio::test]
async fn thirty_two_mebibytes_are_the_most_that_a_vendor_takes() {
    let world = start().await;
    let mut body = chat_body().to_string().into_bytes();
    body.resize(32 * 1024 * 1024, b' ');
    let answer = world.send(world.request(Method::POST, CHAT, &[], body.clone())).await;
    assert_eq!(answer.status, StatusCode::OK);
    body.push(b' ');
    let answer = world.send(world.request(Method::POST, CHAT, &[], body)).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn an_answer_too_large_to_be_held_passes_and_is_read_at_its_end() {
    let mut small = config();
    small.held_answer_bytes_max = 100;
    let world = start_with(small).await;
    let answer = world.post(CHAT, &[("x-demo-output-tokens", "33")], &chat_body()).await;
    assert!(answer.json()["choices"][0]["message"]["content"].as_str().unwrap().contains("Say hello"));
    assert!(answer.headers.contains_key("x-rateguard-cost-estimate"));
    assert!(!answer.headers.contains_key("x-rateguard-cost"));
    let record = world.report().await;
    assert_eq!(record.tokens.unwrap().output, Some(33));
    assert_eq!(record.exactness(), UsageExactness::Exact);
}

#[tokio::test]
async fn an_answer_too_large_to_be_read_is_estimated_by_its_bytes() {
    let mut small = config();
    small.held_answer_bytes_max = 100;
    small.read_answer_bytes_max = 200;
    let world = start_with(small).await;
    let answer = world.post(CHAT, &[], &chat_body()).await;
    let record = world.report().await;
    assert_eq!(record.exactness(), UsageExactness::Estimated);
    let most = i64::try_from(answer.body.len().div_ceil(3)).unwrap();
    assert_eq!(record.tokens.unwrap().output, Some(most.min(100)));
    assert_eq!(record.tokens.unwrap().input_total, world.estimate().input_tokens);
}

#[tokio::test]
async fn callers_are_told_of_money_only_where_the_api_allows_it() {
    let world = start().await;
    world.control.set_budget(1_000_000_000);
    let told = world.post(CHAT, &[], &chat_body()).await;
    assert!(told.headers.contains_key("x-rateguard-budget-remaining"));
    world.reports(1).await;
    world.control.edit_route("openai", |route| route.show_spend = false);
    forget_routes(&world).await;
    let answer = world.post(CHAT, &[], &chat_body()).await;
    assert_eq!(answer.status, StatusCode::OK);
    let spend = answer
        .headers
        .keys()
        .filter(|name| name.as_str().contains("cost") || name.as_str().contains("budget"));
    assert_eq!(spend.count(), 0, "{:?}", answer.headers);
    assert!(answer.headers.contains_key("x-rateguard-latency-ms"));
}

#[tokio::test]
async fn a_credential_can_go_into_the_query() {
    let world = start().await;
    world.control.edit_route("echo", |route| {
        route.auth_scheme = ApiAuthScheme::Query.into();
        route.auth_name = "token".to_owned();
    });
    let answer = world.send(world.request(Method::GET, "/proxy/echo?token=mine&a=1", &[], "")).await;
    assert_eq!(answer.json()["query"], "a=1&token=sk%2Dupstream%2Dsecret");
}

/// Tells the gateway of a change, and calls until it has heard.
async fn forget_routes(world: &World) {
    eventually(|| world.control.watchers() == 1).await;
    let resolved = world.control.resolved();
    world.control.announce("api_openai");
    // A route is asked for anew only after the change has arrived.
    while world.control.resolved() == resolved {
        world.post(CHAT, &[("x-demo-status", "400")], &chat_body()).await;
    }
}
