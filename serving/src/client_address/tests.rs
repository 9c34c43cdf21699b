use axum::Router;
use axum::body::Body;
use axum::routing::get;
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;

use super::*;

fn proxies(ranges: &[&str]) -> TrustedProxies {
    TrustedProxies {
        header: HeaderName::from_static("x-forwarded-for"),
        ranges: ranges.iter().map(|range| range.parse().unwrap()).collect(),
    }
}

/// Who calls, by a peer and the lines of its header.
fn client(peer: &str, lines: &[&str]) -> String {
    let proxies = proxies(&["10.0.0.0/8", "2001:db8:ffff::/48"]);
    let mut headers = HeaderMap::new();
    for line in lines {
        headers.append(&proxies.header, line.parse().unwrap());
    }
    proxies.client(peer.parse().unwrap(), &headers).to_string()
}

#[test]
fn a_trusted_proxy_says_who_calls() {
    assert_eq!(client("10.0.0.1", &["203.0.113.7"]), "203.0.113.7");
    assert_eq!(client("10.0.0.1", &["203.0.113.7:4711"]), "203.0.113.7");
    assert_eq!(client("2001:db8:ffff::1", &["[2001:db8::1]:443"]), "2001:db8::1");
    assert_eq!(client("::ffff:10.0.0.1", &["::ffff:203.0.113.7"]), "203.0.113.7");
}

#[test]
fn nobody_else_is_believed() {
    assert_eq!(client("203.0.113.7", &["198.51.100.1"]), "203.0.113.7");
    assert_eq!(client("::ffff:203.0.113.7", &["198.51.100.1"]), "203.0.113.7");
    assert_eq!(client("2001:db8::1", &["10.0.0.1"]), "2001:db8::1");
}

#[test]
fn what_the_client_wrote_before_the_proxies_is_not_believed() {
    assert_eq!(client("10.0.0.1", &["198.51.100.1, 203.0.113.7"]), "203.0.113.7");
    assert_eq!(client("10.0.0.1", &["198.51.100.1", "203.0.113.7"]), "203.0.113.7");
    assert_eq!(client("10.0.0.1", &["10.0.0.9, 203.0.113.7"]), "203.0.113.7");
}

#[test]
fn proxies_behind_proxies_are_passed_over() {
    assert_eq!(client("10.0.0.1", &["198.51.100.1, 203.0.113.7, 10.0.0.3", "10.0.0.2"]), "203.0.113.7");
    assert_eq!(client("10.0.0.1", &["10.0.0.3, 10.0.0.2"]), "10.0.0.3");
    let many = ["10.0.0.2"; PROXIES_MAX].join(", ");
    assert_eq!(client("10.0.0.1", &[&format!("203.0.113.7, {many}")]), "10.0.0.2");
}

#[test]
fn a_proxy_that_says_nothing_of_use_is_the_client_itself() {
    assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
    for said in ["", "unknown", "203.0.113.7,", "203.0.113.7, _hidden"] {
        assert_eq!(client("10.0.0.1", &[said]), "10.0.0.1", "{said:?}");
    }
    assert_eq!(client("10.0.0.1", &["203.0.113.7, unknown, 10.0.0.2"]), "10.0.0.2");
}

#[tokio::test]
async fn a_router_behind_proxies_is_told_who_calls() {
    let shown = get(|ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.to_string() });
    let router = SeenThrough::new(Some(proxies(&["10.0.0.0/8"])), Router::new().route("/", shown));
    for (peer, seen) in [("10.0.0.1:4000", "203.0.113.7:0"), ("192.0.2.1:4000", "192.0.2.1:4000")] {
        let peer: SocketAddr = peer.parse().unwrap();
        let mut request =
            Request::builder().header("x-forwarded-for", "203.0.113.7").body(Body::empty()).unwrap();
        request.extensions_mut().insert(ConnectInfo(peer));
        let answer = router.clone().oneshot(request).await.unwrap();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, seen);
    }
}
