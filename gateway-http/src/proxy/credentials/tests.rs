//! Which credential counts, and where the upstream's is put.

use proptest::prelude::*;

use super::*;
use crate::proxy::target::BaseUrl;

const PLACES: [(&str, &str, CredentialSource); 5] = [
    ("x-rateguard-key", "", CredentialSource::RateGuardKey),
    ("authorization", "Bearer ", CredentialSource::Bearer),
    ("x-api-key", "", CredentialSource::XApiKey),
    ("api-key", "", CredentialSource::ApiKey),
    ("x-goog-api-key", "", CredentialSource::XGoogApiKey),
];

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(*name, HeaderValue::from_str(value).unwrap());
    }
    headers
}

fn found(pairs: &[(&'static str, &str)], query: Option<&str>) -> Option<(String, CredentialSource)> {
    let credential = presented(&headers(pairs), query)?;
    Some((credential.secret.expose().to_owned(), credential.source))
}

fn some(secret: &str, source: CredentialSource) -> Option<(String, CredentialSource)> {
    Some((secret.to_owned(), source))
}

#[test]
fn a_key_is_found_in_every_place() {
    for (name, prefix, source) in PLACES {
        let value = format!("{prefix}rg_live_1");
        assert_eq!(found(&[(name, &value)], None), some("rg_live_1", source));
    }
    assert_eq!(found(&[], Some("a=1&key=rg%5Flive_1")), some("rg_live_1", CredentialSource::QueryKey));
    assert_eq!(found(&[], Some("a=1")), None);
}

#[test]
fn the_earlier_place_counts_among_equals() {
    let all: Vec<(&str, String)> =
        PLACES.iter().map(|(name, prefix, _)| (*name, format!("{prefix}rg_{name}"))).collect();
    for start in 0..PLACES.len() {
        let sent: Vec<(&'static str, &str)> = PLACES[start..]
            .iter()
            .zip(&all[start..])
            .map(|(place, (_, value))| (place.0, value.as_str()))
            .collect();
        let expected = format!("rg_{}", PLACES[start].0);
        assert_eq!(found(&sent, Some("key=rg_query")), some(&expected, PLACES[start].2));
    }
}

#[test]
fn a_value_of_ours_wins_over_a_vendors_in_an_earlier_place() {
    let sent = [("authorization", "Bearer sk-vendor"), ("x-api-key", "rg_live_1")];
    assert_eq!(found(&sent, None), some("rg_live_1", CredentialSource::XApiKey));
    assert_eq!(found(&sent[..1], Some("key=rg_q")), some("rg_q", CredentialSource::QueryKey));
    assert_eq!(found(&sent[..1], Some("key=other")), some("sk-vendor", CredentialSource::Bearer));
    let repeated = [("x-api-key", "sk-1"), ("x-api-key", "rg_2"), ("x-api-key", "rg_3")];
    assert_eq!(found(&repeated, None), some("rg_2", CredentialSource::XApiKey));
}

#[test]
fn what_can_be_no_key_is_passed_over() {
    let long = format!("rg_{}", "x".repeat(CREDENTIAL_BYTES_MAX));
    for value in ["", "  ", "rg_with space", &long] {
        assert_eq!(found(&[("x-api-key", value)], None), None, "{value:?}");
    }
    for value in ["Basic cmdfeDp5", "Bearer", "Bearer ", "rg_live_1"] {
        assert_eq!(found(&[("authorization", value)], None), None, "{value:?}");
    }
    assert_eq!(found(&[], Some("key=rg_%00")), None);
    assert_eq!(found(&[("authorization", "bEARER  rg_1 ")], None), some("rg_1", CredentialSource::Bearer));
}

#[test]
fn a_presented_credential_is_not_printed() {
    let credential = presented(&headers(&[("x-api-key", "rg_live_private")]), None).unwrap();
    assert!(!format!("{credential:?}").contains("private"));
}

fn injected(credential: &UpstreamCredential) -> (HeaderMap, String) {
    let mut headers = headers(&[("authorization", "Bearer client"), ("x-kept", "1")]);
    let dropped: Vec<&str> = credential.query_parameter().into_iter().collect();
    let target = BaseUrl::parse("https://h").unwrap().join("/m", Some("a=1&api_key=mine"), &dropped).unwrap();
    let target = credential.inject(&mut headers, target).unwrap();
    (headers, target.uri().to_string())
}

#[test]
fn each_scheme_puts_the_credential_where_it_belongs() {
    let secret = || Secret::new("s3cret");
    let url = "https://h/m?a=1&api_key=mine";
    let (headers, sent) = injected(&UpstreamCredential::Bearer(secret()));
    assert_eq!((headers["authorization"].to_str().unwrap(), sent.as_str()), ("Bearer s3cret", url));
    let name = HeaderName::from_static("x-api-key");
    let (headers, sent) = injected(&UpstreamCredential::Header { name, secret: secret() });
    assert_eq!((headers["x-api-key"].to_str().unwrap(), sent.as_str()), ("s3cret", url));
    let basic =
        UpstreamCredential::Basic { user_name: "Aladdin".to_owned(), password: Secret::new("open sesame") };
    let (headers, _) = injected(&basic);
    assert_eq!(headers["authorization"], "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
    assert!(headers["authorization"].is_sensitive());
    let query = UpstreamCredential::Query { name: "api_key".to_owned(), secret: secret() };
    assert_eq!(injected(&query).1, "https://h/m?a=1&api%5Fkey=s3cret");
    let (headers, sent) = injected(&UpstreamCredential::None);
    assert_eq!((headers.len(), sent.as_str()), (2, url));
}

#[test]
fn a_credential_that_would_break_out_is_refused() {
    let target = || BaseUrl::parse("https://h").unwrap().join("/", None, &[]).unwrap();
    let mut headers = HeaderMap::new();
    let line_break = UpstreamCredential::Bearer(Secret::new("a\r\nb"));
    assert_eq!(line_break.inject(&mut headers, target()), Err(CredentialError::NotAHeaderValue));
    let colon = UpstreamCredential::Basic { user_name: "a:b".to_owned(), password: Secret::new("c") };
    assert_eq!(colon.inject(&mut headers, target()), Err(CredentialError::UserName));
    assert!(headers.is_empty());
}

#[test]
fn an_upstream_credential_is_not_printed() {
    let all = [
        UpstreamCredential::Bearer(Secret::new("private")),
        UpstreamCredential::Basic { user_name: "u".to_owned(), password: Secret::new("private") },
        UpstreamCredential::Query { name: "k".to_owned(), secret: Secret::new("private") },
    ];
    assert!(!format!("{all:?}").contains("private"));
}

proptest! {
    #[test]
    fn any_headers_give_the_same_plausible_answer_twice(
        values in proptest::collection::vec((0..PLACES.len(), "[ -~]{0,12}"), 0..6),
        query in proptest::option::of("[ -~]{0,16}"),
    ) {
        let pairs: Vec<(&'static str, &str)> =
            values.iter().map(|(place, value)| (PLACES[*place].0, value.as_str())).collect();
        let first = found(&pairs, query.as_deref());
        prop_assert_eq!(&first, &found(&pairs, query.as_deref()));
        if let Some((secret, _)) = first {
            prop_assert!(is_plausible(&secret));
        }
    }
}
