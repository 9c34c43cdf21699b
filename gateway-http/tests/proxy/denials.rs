//! Calls that may not go ahead.

use http::{Method, StatusCode};
use rateguard_demo_upstream::Endpoint;
use rateguard_proto::v1::{ErrorReason, LimitKind, LimitStatus};
use tonic::Code;

use crate::support::control::price;
use crate::support::{CHAT, MESSAGES, chat_body, config, message_body, start, start_with};

fn limit(kind: LimitKind, name: &str) -> LimitStatus {
    LimitStatus {
        kind: kind.into(),
        name: name.to_owned(),
        unit: "requests".to_owned(),
        limit: 10,
        window_ms: 60_000,
        enforced: true,
        ..LimitStatus::default()
    }
}

#[tokio::test]
async fn a_full_window_is_429_with_the_exact_wait() {
    let world = start().await;
    world.control.deny(vec![limit(LimitKind::Rule, "per minute")], Some(12_345));
    let answer = world.post(CHAT, &[], &chat_body()).await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!((answer.header("retry-after"), answer.header("retry-after-ms")), (Some("13"), Some("12345")));
    assert_eq!(answer.header("x-should-retry"), None);
    assert_eq!(answer.header("ratelimit-policy"), Some("\"per minute\";q=10;w=60"));
    assert_eq!(
        (answer.header("x-ratelimit-limit"), answer.header("x-ratelimit-remaining")),
        (Some("10"), Some("0"))
    );
    let error = &answer.json()["error"];
    assert_eq!(
        (error["type"].as_str(), error["code"].as_str()),
        (Some("rate_limit_error"), Some("rate_limited"))
    );
    assert_eq!(world.observed.requests(Endpoint::OpenAiChat), 0);
}

#[tokio::test]
async fn an_allowed_call_is_told_how_its_limits_stand() {
    let world = start().await;
    world.control.show_limits(vec![LimitStatus {
        remaining: 9,
        allowed: true,
        ..limit(LimitKind::Rule, "calls")
    }]);
    let answer = world.post(CHAT, &[], &chat_body()).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.header("ratelimit"), Some("\"calls\";r=9"));
    assert_eq!(answer.header("x-ratelimit-remaining"), Some("9"));
}

#[tokio::test]
async fn an_exhausted_budget_is_402_and_not_to_be_tried_again() {
    let world = start().await;
    world.control.set_budget(1);
    let answer = world.post(MESSAGES, &[], &message_body()).await;
    assert_eq!(answer.status, StatusCode::PAYMENT_REQUIRED);
    assert_eq!((answer.header("x-should-retry"), answer.header("retry-after")), (Some("false"), None));
    let json = answer.json();
    assert_eq!(
        (json["type"].as_str(), json["error"]["type"].as_str()),
        (Some("error"), Some("billing_error"))
    );
    assert_eq!(json["request_id"].as_str(), answer.header("x-rateguard-request-id"));
}

#[tokio::test]
async fn a_denied_call_is_reported_as_one_that_cost_nothing() {
    let world = start().await;
    world.control.deny(vec![limit(LimitKind::Rule, "per minute")], Some(1_000));
    world.post(CHAT, &[], &chat_body()).await;
    let record = world.report().await;
    assert!(record.rate_limited);
    assert_eq!((record.status_code, record.error_type.as_str()), (429, "rate_limited"));
    assert_eq!((record.cost.unwrap().nanos, record.tokens, record.reservation_id.as_str()), (0, None, ""));
    assert_eq!(record.already_consumed_units, None, "so that no limit counts the request");
}

#[tokio::test]
async fn reports_of_denied_calls_can_be_switched_off() {
    let mut quiet = config();
    quiet.denials_reported = false;
    let world = start_with(quiet).await;
    world.control.deny(vec![limit(LimitKind::Rule, "per minute")], None);
    world.post(CHAT, &[], &chat_body()).await;
    world.gateway.drain(std::time::Duration::from_secs(10)).await;
    assert!(world.control.reports().is_empty());
}

#[tokio::test]
async fn a_budget_worth_twenty_calls_admits_twenty_of_two_hundred() {
    let world = start().await;
    let knobs = [("x-demo-output-tokens", "100")];
    let check = {
        world.post(CHAT, &knobs, &chat_body()).await;
        world.reports(1).await;
        world.estimate()
    };
    // Each call costs what was estimated: the upstream reports the very tokens that were reserved.
    let input = check.input_tokens.unwrap().to_string();
    let knobs = [("x-demo-output-tokens", "100"), ("x-demo-input-tokens", input.as_str())];
    world.control.set_budget(20 * price(check.input_tokens, check.max_output_tokens));
    let mut statuses = Vec::new();
    for _ in 0..4 {
        let body = chat_body();
        let calls = (0..50).map(|_| world.post(CHAT, &knobs, &body));
        statuses
            .extend(futures::future::join_all(calls).await.into_iter().map(|answer| answer.status.as_u16()));
    }
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 20);
    assert_eq!(statuses.iter().filter(|status| **status == 402).count(), 180);
}

#[tokio::test]
async fn a_call_without_a_key_is_401_in_the_envelope_of_its_vendor() {
    let world = start().await;
    let chat = world.request_without_key(Method::POST, CHAT, &[], chat_body().to_string());
    let answer = world.send(chat).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert_eq!(answer.json()["error"]["code"], "invalid_api_key");
    assert!(answer.json()["error"]["param"].is_null());
    let plain = world.send(world.request_without_key(Method::GET, "/proxy/echo", &[], "")).await;
    assert_eq!(plain.status, StatusCode::UNAUTHORIZED);
    assert_eq!(plain.json()["requestId"].as_str(), plain.header("x-rateguard-request-id"));
    assert_eq!(world.control.resolved(), 0);
}

#[tokio::test]
async fn a_key_that_nobody_knows_is_401() {
    let world = start().await;
    let request =
        world.request_without_key(Method::GET, "/proxy/echo", &[("x-api-key", "rg_live_unknown")], "");
    let answer = world.send(request).await;
    assert_eq!(
        (answer.status, answer.json()["error"]["code"].as_str()),
        (StatusCode::UNAUTHORIZED, Some("invalid_api_key"))
    );
}

#[tokio::test]
async fn an_api_that_does_not_exist_is_404() {
    let world = start().await;
    let answer = world.send(world.request(Method::GET, "/proxy/nowhere/x", &[], "")).await;
    assert_eq!(
        (answer.status, answer.json()["error"]["code"].as_str()),
        (StatusCode::NOT_FOUND, Some("api_not_found"))
    );
}

#[tokio::test]
async fn what_the_server_refuses_has_the_status_that_the_product_names() {
    let world = start().await;
    let cases = [
        (Code::PermissionDenied, ErrorReason::KeyExpired, 403, "expired_api_key"),
        (Code::PermissionDenied, ErrorReason::KeyRestricted, 403, "forbidden"),
        (Code::FailedPrecondition, ErrorReason::ApiInactive, 403, "api_inactive"),
        (Code::FailedPrecondition, ErrorReason::PriceUnknown, 403, "forbidden"),
        (Code::InvalidArgument, ErrorReason::FieldOutOfBounds, 400, "invalid_request"),
        (Code::ResourceExhausted, ErrorReason::QueueFull, 429, "overloaded"),
        (Code::Unavailable, ErrorReason::StoreUnavailable, 503, "unavailable"),
    ];
    for (code, reason, status, word) in cases {
        world.control.refuse(code, reason);
        let answer = world.post(CHAT, &[], &chat_body()).await;
        assert_eq!((answer.status.as_u16(), answer.json()["error"]["code"].as_str()), (status, Some(word)));
        assert_eq!(answer.headers.contains_key("retry-after"), matches!(status, 429 | 503), "{reason:?}");
    }
    assert_eq!(world.observed.requests(Endpoint::OpenAiChat), 0);
}

#[tokio::test]
async fn a_body_that_cannot_be_understood_is_400_before_anything_is_reserved() {
    let world = start().await;
    let twice = "{\"model\":\"a\",\"model\":\"b\",\"messages\":[]}";
    let answer = world.send(world.request(Method::POST, CHAT, &[], twice)).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert!(answer.json()["error"]["message"].as_str().unwrap().contains("model"));
    assert!(world.control.checks().is_empty());
}

#[tokio::test]
async fn a_gateway_without_a_free_place_says_so() {
    let mut full = config();
    full.calls_max = 0;
    let world = start_with(full).await;
    let answer = world.post(CHAT, &[], &chat_body()).await;
    assert_eq!(
        (answer.status, answer.json()["error"]["code"].as_str()),
        (StatusCode::TOO_MANY_REQUESTS, Some("overloaded"))
    );
    assert!(answer.headers.contains_key("retry-after"));
}

#[tokio::test]
async fn a_doubled_authorization_is_400_and_nobody_is_asked() {
    let world = start().await;
    let headers = [("authorization", "Bearer rg_test_somebody_elses")];
    let answer = world.send(world.request(Method::GET, "/proxy/echo", &headers, "")).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert_eq!(answer.json()["error"]["code"], "invalid_request");
    assert!(world.control.checks().is_empty());
}
