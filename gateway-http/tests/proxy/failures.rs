//! Upstreams that cannot be reached, do not answer or must not be dialled.

use http::{Method, StatusCode};
use rateguard_demo_upstream::Endpoint;
use rateguard_proto::v1::UsageExactness;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;

use crate::support::{CHAT, chat_body, eventually, openai, start};

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
