use rateguard_engine::error::Reason;

use super::*;

#[test]
fn a_plain_url_stays_as_it_came() {
    for url in [
        "",
        "https://api.example.com",
        "https://api.example.com/",
        "http://127.0.0.1:8080/v1",
        "https://[2001:db8::1]:8443/v1/",
        "HTTPS://API.example.com/open%20ai/v1",
        "https://host/a;b=c/(d)/e@f/%C3%BC",
        "https://host/..a/b..",
    ] {
        assert_eq!(base_url(url.to_owned()).as_deref(), Ok(url));
    }
}

#[test]
fn a_url_that_the_gateway_would_refuse_is_refused_with_its_field() {
    for url in [
        "ftp://host/",
        "/path",
        "host",
        "https://",
        "https://user@host/",
        "https://user:password@host/",
        "https://host:0/",
        "https://host:/",
        "https://host:65536/",
        "https://ho$t/",
        "https://[::1/",
        "https://host/?a=b",
        "https://host/#part",
        "https://host/a/../b",
        "https://host/a/..",
        "https://host/./a",
        "https://host/a/%2e%2E/b",
        "https://host/a/..;x/b",
        "https://host/a/%20../b",
        "https://host/%252e%252e/b",
        "https://host/a%2fb",
        "https://host/a%5cb",
        "https://host/a\\b",
        "https://host/a//b",
        "https://host/a//",
        "https://host//",
        "https://host/%00",
        "https://host/%0a",
        "https://host/%c0%ae",
        "https://host/%f",
        "https://host/%zz",
        "https://host/{a}",
        "https://host/\"",
        "https://host/ü",
        "https://host/ a",
    ] {
        let error = base_url(url.to_owned()).expect_err(url);
        assert_eq!(
            (error.reason, error.field.as_deref()),
            (Reason::FieldMalformed, Some("base_url")),
            "{url}"
        );
    }
    let long = format!("https://host/{}", "x".repeat(BASE_URL_BYTES_MAX));
    assert_eq!(base_url(long).unwrap_err().reason, Reason::FieldOutOfBounds);
}

#[test]
fn a_credential_goes_into_no_header_that_frames_or_routes_a_request() {
    let header = v1::ApiAuthScheme::Header.into();
    for name in [
        "content-length",
        "Transfer-Encoding",
        "connection",
        "HOST",
        "te",
        "trailer",
        "upgrade",
        "keep-alive",
        "expect",
        "proxy-authorization",
        "Proxy-Connection",
        "x-rateguard-key",
        "content-type",
        "accept-encoding",
    ] {
        let error = auth_scheme(header, name.to_owned()).expect_err(name);
        assert_eq!(
            (error.reason, error.field.as_deref()),
            (Reason::FieldMalformed, Some("auth_name")),
            "{name}"
        );
    }
    for name in ["authorization", "x-api-key", "Ocp-Apim-Subscription-Key", "hosted", "x-rateguard"] {
        assert_eq!(auth_scheme(header, name.to_owned()), Ok(AuthScheme::Header(name.to_owned())));
    }
    // A parameter of the query is called as its upstream wants it.
    let query = v1::ApiAuthScheme::Query.into();
    assert_eq!(auth_scheme(query, "host".to_owned()), Ok(AuthScheme::Query("host".to_owned())));
}
