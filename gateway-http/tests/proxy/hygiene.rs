//! What the upstream and the client get to see of each other.

use http::{Method, StatusCode};
use rateguard_gateway_http::ClientAddress;

use crate::support::{APP_KEY, UPSTREAM_SECRET, config, start, start_with};

#[tokio::test]
async fn the_upstream_sees_the_operators_credential_and_nothing_of_the_clients() {
    let world = start().await;
    let headers = [
        ("x-api-key", APP_KEY),
        ("cookie", "session=1"),
        ("x-forwarded-for", "203.0.113.7"),
        ("x-rateguard-subject", "customer-7"),
        ("connection", "x-private, keep-alive"),
        ("x-private", "1"),
        ("te", "trailers"),
        ("x-kept", "yes"),
    ];
    let path = format!("/proxy/echo/items?key={APP_KEY}&a=1");
    let answer = world.send(world.request(Method::GET, &path, &headers, "")).await;
    let seen = answer.json();
    assert_eq!((seen["credential"].as_str(), seen["query"].as_str()), (Some("configured"), Some("a=1")));
    let headers = seen["headers"].as_object().unwrap();
    let mut names: Vec<&str> = headers.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["authorization", "host", "x-kept", "x-rateguard-hops"]);
    assert_eq!(headers["host"][0].as_str(), Some(world.upstream.to_string().as_str()));
    assert!(!answer.text().contains(APP_KEY));
}

#[tokio::test]
async fn the_client_sees_neither_the_credential_nor_the_upstreams_cookies() {
    let world = start().await;
    let answer = world.send(world.request(Method::GET, "/proxy/echo", &[], "")).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert!(answer.headers.contains_key("x-demo-upstream"));
    assert!(!answer.headers.contains_key("set-cookie"));
    assert!(!answer.text().contains(UPSTREAM_SECRET));
    assert!(answer.headers.values().all(|value| !value.to_str().unwrap().contains(UPSTREAM_SECRET)));
}

#[tokio::test]
async fn no_path_leads_out_of_the_base_url() {
    let world = start().await;
    let paths = ["/..", "/a/../b", "/%2e%2e/x", "//evil.example", "/a%2fb", "/a%5cb", "/%252e%252e/x"];
    for path in paths {
        let answer = world.send(world.request(Method::GET, &format!("/proxy/echo{path}"), &[], "")).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path}");
        assert_eq!(answer.json()["error"]["code"], "invalid_request", "{path}");
    }
    assert!(world.control.checks().is_empty());
}

#[tokio::test]
async fn every_call_has_an_id_that_its_client_cannot_choose() {
    let world = start().await;
    let headers = [("x-rateguard-request-id", "mine")];
    let first = world.send(world.request(Method::GET, "/proxy/echo", &headers, "")).await;
    let second = world.send(world.request(Method::GET, "/proxy/echo", &headers, "")).await;
    let ids = [&first, &second].map(|answer| answer.header("x-rateguard-request-id").unwrap());
    assert!(ids[0].starts_with("req_") && ids[1].starts_with("req_") && ids[0] != ids[1], "{ids:?}");
}

#[tokio::test]
async fn the_address_comes_from_the_header_of_a_trusted_proxy_alone() {
    let headers = [("x-forwarded-for", "198.51.100.1, 203.0.113.7")];
    let world = start().await;
    world.send(world.request(Method::GET, "/proxy/echo", &headers, "")).await;
    assert_eq!(world.control.checks()[0].ip, "127.0.0.1");
    let mut trusting = config();
    trusting.client_address = ClientAddress::Header("x-forwarded-for".parse().unwrap());
    let world = start_with(trusting).await;
    world.send(world.request(Method::GET, "/proxy/echo", &headers, "")).await;
    assert_eq!(world.control.checks()[0].ip, "203.0.113.7");
}
