//! Each header's text, as clients will read it.

use super::*;

fn limit(name: &str, limit: u64, remaining: u64) -> LimitState {
    LimitState {
        name: name.to_owned(),
        unit: LimitUnit::Requests,
        limit,
        remaining,
        window_ms: Some(60_000),
        reset_after_ms: Some(29_001),
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).map(|value| value.to_str().unwrap())
}

#[test]
fn limits_are_told_in_the_drafts_form_and_in_the_customary_one() {
    let mut headers = HeaderMap::new();
    let tokens = LimitState {
        unit: LimitUnit::Other("tokens".to_owned()),
        window_ms: None,
        reset_after_ms: None,
        ..limit("tokens a day", 1_000, 10)
    };
    add_limits(&mut headers, &[limit("per-minute", 100, 50), tokens]);
    let policy = r#""per-minute";q=100;w=60, "tokens a day";q=1000;qu="tokens""#;
    assert_eq!(text(&headers, "ratelimit-policy"), Some(policy));
    assert_eq!(text(&headers, "ratelimit"), Some(r#""per-minute";r=50;t=30, "tokens a day";r=10"#));
    assert_eq!(text(&headers, "x-ratelimit-limit"), Some("1000"));
    assert_eq!(text(&headers, "x-ratelimit-remaining"), Some("10"));
    assert_eq!(text(&headers, "x-ratelimit-reset"), None);
}

#[test]
fn the_customary_headers_tell_of_the_tightest_limit() {
    let tightest_of = |limits: &[LimitState]| tightest(limits).unwrap().name.clone();
    assert_eq!(tightest_of(&[limit("a", 10, 5), limit("b", 1_000, 400)]), "b");
    assert_eq!(tightest_of(&[limit("a", 10, 5), limit("b", 100, 50)]), "a");
    assert_eq!(tightest_of(&[limit("a", u64::MAX, u64::MAX), limit("b", u64::MAX, 0)]), "b");
    assert_eq!(tightest_of(&[limit("a", 10, 1), limit("b", 0, 0)]), "b");
    let mut headers = HeaderMap::new();
    add_limits(&mut headers, &[limit("a", 10, 5)]);
    assert_eq!(text(&headers, "x-ratelimit-reset"), Some("30"));
}

#[test]
fn no_limits_add_no_headers() {
    let mut headers = HeaderMap::new();
    add_limits(&mut headers, &[]);
    assert!(headers.is_empty());
}

#[test]
fn an_upstreams_own_rate_headers_stay() {
    let mut headers = HeaderMap::new();
    headers.insert("x-ratelimit-remaining", HeaderValue::from_static("7"));
    headers.insert("ratelimit", HeaderValue::from_static("\"theirs\";r=1"));
    add_limits(&mut headers, &[limit("ours", 10, 5)]);
    assert_eq!(text(&headers, "x-ratelimit-remaining"), Some("7"));
    assert_eq!(text(&headers, "x-ratelimit-limit"), None);
    let lists: Vec<_> = headers.get_all("ratelimit").iter().collect();
    assert_eq!(lists, ["\"theirs\";r=1", "\"ours\";r=5;t=30"]);
}

#[test]
fn names_are_structured_strings_whatever_they_hold() {
    assert_eq!(quoted("a \"b\" \\c"), r#""a \"b\" \\c""#);
    assert_eq!(quoted("tägl\u{ef}ch\r\n"), "\"t_gl_ch__\"");
    assert_eq!(quoted(&"x".repeat(500)).len(), POLICY_NAME_BYTES_MAX + 2);
}

#[test]
fn lists_and_integers_stay_within_their_bounds() {
    let many: Vec<LimitState> = (0..50).map(|_| limit("a", u64::MAX, u64::MAX)).collect();
    let mut headers = HeaderMap::new();
    add_limits(&mut headers, &many);
    let policy = text(&headers, "ratelimit-policy").unwrap();
    assert_eq!(policy.matches("q=999999999999999;").count(), LIMITS_SHOWN_MAX);
}

#[test]
fn waiting_times_are_rounded_up_to_seconds_and_exact_in_milliseconds() {
    for (retry_after_ms, seconds) in [(0, "0"), (1, "1"), (999, "1"), (1_000, "1"), (1_001, "2")] {
        let mut headers = HeaderMap::new();
        add_retry_after(&mut headers, retry_after_ms);
        assert_eq!(text(&headers, "retry-after"), Some(seconds));
        assert_eq!(text(&headers, "retry-after-ms"), Some(retry_after_ms.to_string().as_str()));
    }
}

#[test]
fn money_latency_and_identity_are_told() {
    let mut headers = HeaderMap::new();
    add_request_id(&mut headers, "req_01").unwrap();
    add_cost(&mut headers, Money::from_nanos(12_345_000));
    add_cost_estimate(&mut headers, Money::from_nanos(20_000_000));
    add_latencies(&mut headers, Duration::from_micros(214), Some(Duration::from_millis(1_500)));
    let [used, limit, remaining] = [12_500_000_000, 10_000_000_000, -2_500_000_000].map(Money::from_nanos);
    add_budget(&mut headers, &BudgetState { used, limit, remaining });
    forbid_retry(&mut headers);
    let expected = [
        ("x-rateguard-request-id", "req_01"),
        ("x-rateguard-cost", "0.012345"),
        ("x-rateguard-cost-cents", "1.2345"),
        ("x-rateguard-cost-estimate", "0.02"),
        ("x-rateguard-latency-ms", "0.214"),
        ("x-rateguard-upstream-latency-ms", "1500.000"),
        ("x-rateguard-budget-used", "12.50"),
        ("x-rateguard-budget-limit", "10.00"),
        ("x-rateguard-budget-remaining", "-2.50"),
        ("x-should-retry", "false"),
    ];
    for (name, value) in expected {
        assert_eq!(text(&headers, name), Some(value), "{name}");
    }
    assert_eq!(headers.len(), expected.len());
}

#[test]
fn what_is_not_known_is_left_out() {
    let mut headers = HeaderMap::new();
    add_latencies(&mut headers, Duration::ZERO, None);
    assert_eq!(text(&headers, "x-rateguard-latency-ms"), Some("0.000"));
    assert_eq!(headers.len(), 1);
    assert!(add_request_id(&mut headers, "a\nb").is_err());
}
