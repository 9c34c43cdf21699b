//! No path leaves its base, judged by the rules of browsers and of RFC 3986 alike.

use proptest::prelude::*;

use super::*;

fn base(text: &str) -> BaseUrl {
    BaseUrl::parse(text).unwrap()
}

fn joined(rest: &str) -> Result<String, TargetError> {
    base("https://api.example.com/v1").join(rest, None, &[]).map(|target| target.uri().to_string())
}

#[test]
fn plain_paths_are_joined() {
    let cases = [
        ("https://api.example.com", "", "https://api.example.com/"),
        ("https://api.example.com/", "/v1/messages", "https://api.example.com/v1/messages"),
        ("http://Host.Example:8443/v1/", "/chat", "http://host.example:8443/v1/chat"),
        ("https://api.example.com/v1", "", "https://api.example.com/v1"),
        ("https://api.example.com/v1", "/", "https://api.example.com/v1/"),
        ("http://[::1]:80/a", "/b/", "http://[::1]:80/a/b/"),
        (
            "http://h",
            "/v1beta/models/gemini-pro:generateContent",
            "http://h/v1beta/models/gemini-pro:generateContent",
        ),
    ];
    for (base_url, rest, expected) in cases {
        assert_eq!(base(base_url).join(rest, None, &[]).unwrap().uri().to_string(), expected);
    }
}

#[test]
fn a_path_is_normalised_so_that_what_is_metered_is_what_is_sent() {
    assert_eq!(joined("/ch%61t/c%6Fmpletions").unwrap(), "https://api.example.com/v1/chat/completions");
    assert_eq!(
        joined("/a%20b%3fc%e4%bd%a0;x=1@:").unwrap(),
        "https://api.example.com/v1/a%20b%3Fc%E4%BD%A0;x=1@:"
    );
    assert_eq!(joined("/100%25").unwrap(), "https://api.example.com/v1/100%25");
    assert_eq!(joined("/a..b/...c/.well-known").unwrap(), "https://api.example.com/v1/a..b/...c/.well-known");
}

#[test]
fn ways_out_of_the_base_path_are_refused_with_their_reason() {
    use TargetError::{
        Backslash, BareCharacter, BrokenEncoding, ControlCharacter, DotSegment, EmptySegment, EncodedSlash,
        NestedEncoding, NotAbsolute, NotUtf8,
    };
    let cases = [
        ("/..", DotSegment),
        ("/../admin", DotSegment),
        ("/a/../../admin", DotSegment),
        ("/.", DotSegment),
        ("/%2e%2e/admin", DotSegment),
        ("/.%2E/admin", DotSegment),
        ("/%2e./admin", DotSegment),
        ("/%252e%252e/admin", DotSegment),
        ("/%25252e%25252e/admin", DotSegment),
        ("/..;/admin", DotSegment),
        ("/..%3b/admin", DotSegment),
        ("/..%20/admin", DotSegment),
        ("/.../admin", DotSegment),
        ("//evil.example/", EmptySegment),
        ("/a//b", EmptySegment),
        ("///", EmptySegment),
        ("/a%2f..%2fadmin", EncodedSlash),
        ("/%2F%2Fevil.example", EncodedSlash),
        ("/a%252fb", EncodedSlash),
        ("/..\\admin", Backslash),
        ("/%5c..%5cadmin", Backslash),
        ("/a%255cb", Backslash),
        ("/a%00b", ControlCharacter),
        ("/a%0d%0aHost:%20evil", ControlCharacter),
        ("/a\tb", ControlCharacter),
        ("/a%7f", ControlCharacter),
        ("/a%c2%85", ControlCharacter),
        ("/%c0%ae%c0%ae/admin", NotUtf8),
        ("/%ff", NotUtf8),
        ("/a%", BrokenEncoding),
        ("/a%2", BrokenEncoding),
        ("/a%u002e", BrokenEncoding),
        ("/a%zz", BrokenEncoding),
        ("/a b", BareCharacter),
        ("/a?b", BareCharacter),
        ("/a#b", BareCharacter),
        ("/é", BareCharacter),
        ("/a\"b", BareCharacter),
        ("@evil.example/", NotAbsolute),
        (".evil.example/", NotAbsolute),
        (":8080/", NotAbsolute),
        ("http://evil.example/", NotAbsolute),
        ("/%25252525252541", NestedEncoding),
    ];
    for (rest, reason) in cases {
        assert_eq!(joined(rest), Err(reason), "{rest}");
    }
}

#[test]
fn a_path_longer_than_the_bound_is_refused() {
    let long = format!("/{}", "a".repeat(TARGET_BYTES_MAX));
    assert_eq!(joined(&long), Err(TargetError::TooLong));
    let query = "q".repeat(TARGET_BYTES_MAX);
    assert_eq!(base("http://h").join("/", Some(&query), &[]), Err(TargetError::TooLong));
}

#[test]
fn the_query_keeps_its_bytes_but_for_credentials() {
    let target = base("https://h/v1").join("/m", Some("alt=sse&key=rg_live_x&a=%2F%2e"), &["token"]).unwrap();
    assert_eq!(target.uri().to_string(), "https://h/v1/m?alt=sse&a=%2F%2e");
    let target = base("https://h").join("/m", Some("key=x"), &[]).unwrap();
    assert_eq!(target.uri().to_string(), "https://h/m");
    let target = base("https://h").join("/m", Some("TOKEN=mine&b=1"), &["token"]).unwrap();
    assert_eq!(target.uri().to_string(), "https://h/m?b=1");
}

#[test]
fn a_query_cannot_smuggle_a_fragment_or_a_line_break() {
    for query in ["a#b", "a\r\nX: 1", "a b"] {
        assert_eq!(base("https://h").join("/", Some(query), &[]), Err(TargetError::Query), "{query:?}");
    }
}

#[test]
fn endpoint_and_path_are_told_apart() {
    let target = base("https://h/v1").join("/chat/completions", Some("a=1"), &[]).unwrap();
    assert_eq!((target.path(), target.endpoint()), ("/v1/chat/completions", "/chat/completions"));
    let bare = base("https://h/v1").join("", None, &[]).unwrap();
    assert_eq!((bare.path(), bare.endpoint()), ("/v1", "/"));
}

#[test]
fn a_credential_in_the_query_is_sent_and_not_printed() {
    let target = base("https://h").join("/m", Some("a=1"), &[]).unwrap();
    let target = target.with_query_secret("api_key", &Secret::new("s3cret&x=1")).unwrap();
    assert_eq!(target.uri().query(), Some("a=1&api%5Fkey=s3cret%26x%3D1"));
    assert_eq!(format!("{target:?}"), "UpstreamTarget(https://h/m)");
}

#[test]
fn a_base_url_must_be_plain() {
    let cases = [
        ("", BaseUrlError::NotAbsolute),
        ("/v1", BaseUrlError::NotAbsolute),
        ("api.example.com", BaseUrlError::NotAbsolute),
        ("ftp://h/", BaseUrlError::Scheme),
        ("https://user:pass@h/", BaseUrlError::UserInfo),
        ("https://user@h/", BaseUrlError::UserInfo),
        ("https://h/?a=1", BaseUrlError::Query),
        ("https://h/#a", BaseUrlError::Query),
        ("https://h:0/", BaseUrlError::Port),
        ("https://h:99999/", BaseUrlError::Port),
        ("https://h/a/../b", BaseUrlError::Path(TargetError::DotSegment)),
        ("https://h//a", BaseUrlError::Path(TargetError::EmptySegment)),
        ("https://h/%2e%2e", BaseUrlError::Path(TargetError::DotSegment)),
    ];
    for (text, error) in cases {
        assert_eq!(BaseUrl::parse(text), Err(error), "{text}");
    }
    assert_eq!(BaseUrl::parse(&format!("https://h/{}", "a".repeat(2_048))), Err(BaseUrlError::TooLong));
    assert!(BaseUrl::parse("https://h%00x/").is_err());
}

/// Paths made of the pieces that break path handling.
fn tricky_path() -> impl Strategy<Value = String> {
    let pieces = prop_oneof![
        Just("/".to_owned()),
        Just("..".to_owned()),
        Just(".".to_owned()),
        Just("%2e".to_owned()),
        Just("%252E".to_owned()),
        Just("%2f".to_owned()),
        Just("%5C".to_owned()),
        Just("\\".to_owned()),
        Just("@evil.example".to_owned()),
        Just(":80".to_owned()),
        Just(";".to_owned()),
        Just("%".to_owned()),
        Just("%25".to_owned()),
        "[a-z]{0,3}",
        ".{0,2}",
    ];
    proptest::collection::vec(pieces, 0..10).prop_map(|pieces| pieces.concat())
}

fn assert_pinned(base_text: &str, rest: &str, query: Option<&str>) -> Result<(), TestCaseError> {
    let Ok(target) = base(base_text).join(rest, query, &[]) else { return Ok(()) };
    // Another parser, which resolves dot segments and backslashes as browsers do, is the judge.
    let seen = url::Url::parse(&target.uri().to_string()).unwrap();
    let pinned = url::Url::parse(base_text).unwrap();
    prop_assert_eq!(seen.scheme(), pinned.scheme());
    prop_assert_eq!(seen.host_str(), pinned.host_str());
    prop_assert_eq!(seen.port_or_known_default(), pinned.port_or_known_default());
    prop_assert_eq!(seen.username(), "");
    prop_assert_eq!(seen.path(), target.path(), "nothing is left to resolve");
    let base_path = pinned.path().trim_end_matches('/');
    let behind = seen.path().strip_prefix(base_path);
    prop_assert!(behind.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_tricky_path_is_refused_or_stays_in_its_base(rest in tricky_path()) {
        assert_pinned("https://api.example.com:8443/v1/base", &rest, None)?;
        assert_pinned("http://api.example.com", &format!("/{rest}"), None)?;
    }

    #[test]
    fn any_text_is_refused_or_stays_in_its_base(rest in any::<String>(), query in any::<String>()) {
        assert_pinned("http://10.0.0.1/a", &rest, Some(&query))?;
        assert_pinned("http://10.0.0.1/a", &format!("/{rest}"), Some(&query))?;
    }

    #[test]
    fn a_normalised_path_is_its_own_normal_form(rest in tricky_path()) {
        if let Ok(normal) = normalised_path(&rest) {
            prop_assert_eq!(normalised_path(&normal), Ok(normal.clone()));
        }
    }

    #[test]
    fn no_base_url_panics(text in any::<String>()) {
        if let Ok(base) = BaseUrl::parse(&text) {
            prop_assert!(base.join("/x", None, &[]).is_ok());
        }
    }
}
