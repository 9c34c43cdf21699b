//! Two walls, one behind the other: what may be stored as a base URL, and what the gateway dials.

use proptest::prelude::*;
use proptest::sample::select;
use rateguard_gateway_http::proxy::target::BaseUrl;
use rateguard_grpc::convert::apis::upstream::base_url;

/// Parts of which URLs are made, honest and not.
const PARTS: [&str; 34] = [
    "/", "//", "a", "v1", ".", "..", "...", ";x", ":", "@", "?", "#", "%", "%2e", "%2F", "%5c", "%25", "%20",
    "%00", "%c0", "%ae", "%C3%BC", "\\", " ", "ü", "{", "\"", "[", "]", ":80", ":0", "&", "~", "host",
];

fn url() -> impl Strategy<Value = String> {
    let start =
        select(vec!["https://host", "http://127.0.0.1:1", "https://[::1]", "HTTPS://h", "ftp://h", ""]);
    (start, proptest::collection::vec(select(PARTS.to_vec()), 0..8))
        .prop_map(|(start, parts)| format!("{start}{}", parts.concat()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_may_be_stored_the_gateway_dials(url in url()) {
        if !url.is_empty() && base_url(url.clone()).is_ok() {
            prop_assert!(BaseUrl::parse(&url).is_ok(), "{:?}", BaseUrl::parse(&url));
        }
    }
}

#[test]
fn the_usual_is_stored_and_dialled() {
    for url in ["https://api.openai.com/v1", "http://127.0.0.1:9/a%20b/", "https://[2001:db8::1]:8443"] {
        assert!(base_url(url.to_owned()).is_ok() && BaseUrl::parse(url).is_ok(), "{url}");
    }
}
