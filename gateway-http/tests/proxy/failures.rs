//! Upstreams that cannot be reached, do not answer or must not be dialled.

use std::time::Duration;

use http::{Method, StatusCode};
use rateguard_demo_upstream::Endpoint;
use rateguard_gateway_http::Drained;
use rateguard_proto::v1::{ErrorReason, SecretText, UsageExactness};
use rateguard_serving::DRAIN_WAIT_MAX;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tonic::{Code, Status};

use crate::support::control::status;
use crate::support::{APP_KEY, CHAT, chat_body, config, eventually, openai, start, start_with};

#[tokio::test]
async fn a_dead_upstream_is_502_and_the_reservation_is_given_back() {
    let world = start().await;
    world.control.set_budget(1_000_000_000);
    let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    world.control.set_route(openai(dead));
    let answer = world.post(CHAT, &[], &chat_body()).await;
    assert_eq!(
        (answer.status, answer.json()["error"]["code"].as_str()),
        (StatusCode::BAD_GATEWAY, Some("upstream_error"))
    );
    eventually(|| world.control.released() == ["rsv_1"]).await;
    assert_eq!(world.control.budget(), (0, 0));
    assert!(world.control.reports().is_empty());
}

#[tokio::test]
async fn the_guard_refuses_loopback_unless_the_api_allows_private_upstreams() {
    let world = start().await;
    world.control.edit_route("openai", |route| route.allow_private_upstream = false);
    let answer = world.post(CHAT, &[], &chat_body()).await;
    assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
    assert!(answer.json()["error"]["message"].as_str().unwrap().contains("not allowed"));
    assert_eq!(world.observed.requests(Endpoint::OpenAiChat), 0);
    eventually(|| world.control.released() == ["rsv_1"]).await;
}

#[tokio::test]
async fn an_upstream_that_does_not_answer_is_504_and_costs_its_input() {
    let world = start().await;
    world.control.edit_route("openai", |route| route.timeout_ms = 100);
    let answer = world.post(CHAT, &[("x-demo-delay-ms", "60000")], &chat_body()).await;
    assert_eq!(
        (answer.status, answer.json()["error"]["code"].as_str()),
        (StatusCode::GATEWAY_TIMEOUT, Some("upstream_timeout"))
    );
    let record = world.report().await;
    assert_eq!((record.status_code, record.error_type.as_str()), (504, "upstream_timeout"));
    assert_eq!(record.exactness(), UsageExactness::Partial);
    let tokens = record.tokens.unwrap();
    let reserved = world.estimate();
    assert_eq!((tokens.input_total, tokens.output), (reserved.input_tokens, Some(0)));
    eventually(|| world.observed.cancelled_before_answer(Endpoint::OpenAiChat) == 1).await;
}

#[tokio::test]
async fn an_upstream_that_hangs_up_after_the_request_costs_its_input() {
    let world = start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    world.control.set_route(openai(listener.local_addr().unwrap()));
    let hangs_up = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.read_u8().await.unwrap();
    };
    let body = chat_body();
    let (answer, ()) = tokio::join!(world.post(CHAT, &[], &body), hangs_up);
    assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
    let record = world.report().await;
    assert_eq!((record.status_code, record.exactness()), (502, UsageExactness::Partial));
    assert!(world.control.released().is_empty());
}

#[tokio::test]
async fn a_route_that_cannot_be_used_is_502_and_reserves_nothing() {
    let world = start().await;
    world.control.edit_route("echo", |route| route.base_url = "ftp://files.example".to_owned());
    let answer = world.send(world.request(Method::GET, "/proxy/echo", &[], "")).await;
    assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
    assert!(world.control.checks().is_empty());
}

#[tokio::test]
async fn what_a_check_reserved_whose_answer_was_lost_is_given_back() {
    let world = start().await;
    world.control.set_budget(1_000_000_000);
    let unknown = || status(Code::Unavailable, ErrorReason::OutcomeUnknown);
    world.control.lose_answers([Status::unavailable("the connection broke"), unknown()]);
    let answer = world.post(CHAT, &[], &chat_body()).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    eventually(|| world.control.released() == ["rsv_1"]).await;
    assert_eq!((world.control.budget(), world.control.open()), ((0, 0), 0));
    let checks = world.control.checks();
    assert_eq!(checks.len(), 3, "one that was made and two that asked what it came to");
    assert!(checks.iter().all(|check| *check == checks[0]));
    assert_eq!(world.observed.requests(Endpoint::OpenAiChat), 0);
}

#[tokio::test]
async fn a_lost_check_is_given_up_after_so_many_attempts() {
    let mut brief = config();
    brief.lost_check_repeats_max = 2;
    brief.report_backoff.longest = brief.report_backoff.shortest;
    let world = start_with(brief).await;
    world.control.lose_answers([0; 4].map(|_| Status::unavailable("the connection broke")));
    world.post(CHAT, &[], &chat_body()).await;
    assert_eq!(world.gateway.drain(DRAIN_WAIT_MAX).await, Drained::Whole);
    assert_eq!(world.control.checks().len(), 3);
    assert_eq!((world.control.open(), world.control.released().len()), (1, 0));
}

#[tokio::test]
async fn a_check_that_the_server_refused_is_not_repeated() {
    let world = start().await;
    world.control.refuse(Code::Unavailable, ErrorReason::StoreUnavailable);
    world.post(CHAT, &[], &chat_body()).await;
    assert_eq!(world.gateway.drain(DRAIN_WAIT_MAX).await, Drained::Whole);
    assert_eq!(world.control.checks().len(), 1);
}

#[tokio::test]
async fn a_call_ends_before_its_reservation_does() {
    let mut brief = config();
    brief.answer_duration_max = Duration::from_millis(100);
    let world = start_with(brief).await;
    let answer = world.post(CHAT, &[("x-demo-delay-ms", "1")], &chat_body()).await;
    assert_eq!(answer.status, StatusCode::OK);
    // The wait for the head, the time for the answer, and the wait for the report.
    assert_eq!(world.control.checks()[0].reservation_ttl_ms, Some(30_000 + 100 + 60_000));
}

#[tokio::test]
async fn a_call_that_leads_back_to_its_gateway_ends_at_the_second_pass() {
    let world = start().await;
    let mut route = openai(world.address);
    route.base_url = format!("http://{}/proxy/openai", world.address);
    route.credential = Some(SecretText { value: APP_KEY.to_owned() });
    world.control.set_route(route);
    let answer = world.post(CHAT, &[], &chat_body()).await;
    assert_eq!(
        (answer.status, answer.json()["error"]["code"].as_str()),
        (StatusCode::LOOP_DETECTED, Some("loop_detected"))
    );
    assert_eq!(world.control.checks().len(), 1, "the second pass reserves nothing");
    assert_eq!(world.report().await.status_code, 508);
}

#[tokio::test]
async fn markers_of_other_gateways_pass_and_only_so_many() {
    let world = start().await;
    let others = ["0000000000000001, 0000000000000002, 0000000000000003", "0000000000000004"];
    let request = |headers: &[(&str, &str)]| world.request(Method::GET, "/proxy/echo", headers, "");
    let passed = world.send(request(&[("x-rateguard-hops", others[0])])).await.json();
    let sent = passed["headers"]["x-rateguard-hops"][0].as_str().unwrap().to_owned();
    assert!(sent.starts_with(others[0]) && sent.len() == others[0].len() + 18, "{sent}");
    let twice = others.map(|value| ("x-rateguard-hops", value));
    let refused = world.send(request(&twice)).await;
    assert_eq!(refused.json()["error"]["code"], "loop_detected");
}
