//! What passes and what does not, in each direction.

use super::*;

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(*name, HeaderValue::from_str(value).unwrap());
    }
    headers
}

fn names(headers: &HeaderMap) -> Vec<&str> {
    let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    names
}

#[test]
fn no_credential_of_the_client_goes_upstream() {
    let client = headers(&[
        ("authorization", "Bearer rg_live_x"),
        ("x-rateguard-key", "rg_live_x"),
        ("x-api-key", "k"),
        ("api-key", "k"),
        ("apikey", "k"),
        ("x-goog-api-key", "k"),
        ("proxy-authorization", "Basic eA=="),
        ("cookie", "session=1"),
        ("x-auth-token", "t"),
        ("content-type", "application/json"),
    ]);
    assert_eq!(names(&toward_upstream(&client, AnswerUse::PassThrough)), ["content-type"]);
}

#[test]
fn hop_by_hop_headers_and_those_that_connection_names_stop_at_the_gateway() {
    let client = headers(&[
        ("connection", "close, X-Hop"),
        ("connection", "x-other"),
        ("x-hop", "1"),
        ("x-other", "1"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("te", "trailers"),
        ("trailer", "x-t"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("http2-settings", "AAMAAABk"),
        ("x-kept", "1"),
    ]);
    assert_eq!(names(&toward_upstream(&client, AnswerUse::PassThrough)), ["x-kept"]);
    assert_eq!(names(&toward_client(&client, BodyLength::Kept)), ["x-kept"]);
}

#[test]
fn traces_of_the_client_and_what_is_made_anew_stay_behind() {
    let client = headers(&[
        ("host", "gateway.example"),
        ("content-length", "5"),
        ("expect", "100-continue"),
        ("x-forwarded-for", "10.0.0.1"),
        ("x-forwarded-anything", "1"),
        ("forwarded", "for=10.0.0.1"),
        ("x-real-ip", "10.0.0.1"),
        ("via", "1.1 edge"),
        ("x-rateguard-subject", "customer"),
        ("anthropic-version", "2023-06-01"),
        ("user-agent", "sdk"),
    ]);
    let sent = toward_upstream(&client, AnswerUse::PassThrough);
    assert_eq!(names(&sent), ["anthropic-version", "user-agent"]);
}

#[test]
fn an_answer_that_is_read_must_come_unencoded() {
    let client = headers(&[("accept-encoding", "gzip"), ("accept-encoding", "br")]);
    let read = toward_upstream(&client, AnswerUse::Read);
    assert_eq!(read.get_all("accept-encoding").iter().collect::<Vec<_>>(), ["identity"]);
    assert_eq!(toward_upstream(&client, AnswerUse::PassThrough), client);
    assert_eq!(toward_upstream(&HeaderMap::new(), AnswerUse::Read)["accept-encoding"], "identity");
}

#[test]
fn repeated_headers_keep_all_values_in_order() {
    let client = headers(&[("accept", "a"), ("x-multi", "1"), ("x-multi", "2")]);
    assert_eq!(toward_upstream(&client, AnswerUse::PassThrough), client);
    assert_eq!(toward_client(&client, BodyLength::Kept), client);
}

#[test]
fn toward_the_client_go_rate_headers_but_no_cookie_and_nothing_in_our_name() {
    let upstream = headers(&[
        ("set-cookie", "a=1"),
        ("set-cookie", "b=2"),
        ("x-rateguard-cost", "0.00"),
        ("alt-svc", "h3=\":443\""),
        ("strict-transport-security", "max-age=1"),
        ("content-length", "12"),
        ("x-ratelimit-remaining-tokens", "7"),
        ("x-request-id", "req_1"),
    ]);
    let kept = ["content-length", "x-ratelimit-remaining-tokens", "x-request-id"];
    assert_eq!(names(&toward_client(&upstream, BodyLength::Kept)), kept);
    assert_eq!(names(&toward_client(&upstream, BodyLength::MayChange)), kept[1..]);
}

#[test]
fn nonsense_in_connection_is_passed_over() {
    let client = headers(&[("connection", ", ,not a name,x-hop,"), ("x-hop", "1"), ("x-kept", "1")]);
    assert_eq!(names(&toward_upstream(&client, AnswerUse::PassThrough)), ["x-kept"]);
}

#[test]
fn what_would_lead_an_upstream_elsewhere_stays_behind() {
    let client = headers(&[
        ("x-original-url", "/admin"),
        ("x-rewrite-url", "/admin"),
        ("x-original-uri", "/admin"),
        ("x-original-host", "other.example"),
        ("x-host", "other.example"),
        ("x-kept", "1"),
    ]);
    assert_eq!(names(&toward_upstream(&client, AnswerUse::PassThrough)), ["x-kept"]);
}

#[test]
fn what_would_become_another_request_is_refused() {
    let refused = |name, value| check_carried(&headers(&[(name, value)])).unwrap_err().to_string();
    assert_eq!(refused("upgrade", "h2c, WebSocket"), "websockets are not carried");
    for name in METHOD_OVERRIDES {
        assert_eq!(refused(name, "DELETE"), format!("{name} is not carried; send the method itself"));
    }
    assert_eq!(check_carried(&headers(&[("upgrade", "h2c"), ("connection", "upgrade")])), Ok(()));
    assert_eq!(check_carried(&HeaderMap::new()), Ok(()));
}
