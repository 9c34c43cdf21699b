use super::*;

const KNOWN: &str = "https://console.example.com";

fn read(path: &str, headers: &[(&'static str, &str)]) -> Browser {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(*name, value.parse().unwrap());
    }
    Browser::read(&path.parse().unwrap(), &map, &[KNOWN.to_owned()])
}

fn with_cookie(origin: &str, csrf: &str) -> Browser {
    let cookie = "a=b; rateguard_refresh=rgr_x; c=d";
    read(
        REFRESH_PATH,
        &[("origin", origin), ("x-rateguard-csrf", csrf), ("cookie", cookie), ("host", "api.example.com")],
    )
}

#[test]
fn a_cookie_is_used_from_a_known_origin_and_the_servers_own_with_the_header() {
    for origin in [KNOWN, "https://api.example.com", "https://API.example.com"] {
        let cookie = with_cookie(origin, "1").cookie().map(|cookie| cookie.cloned());
        assert_eq!(cookie, Ok(Some(SecretText::new("rgr_x".to_owned()))), "{origin}");
    }
}

#[test]
fn a_cookie_from_elsewhere_or_without_the_header_is_refused() {
    for (origin, csrf) in [
        ("https://evil.example.com", "1"),
        ("https://console.example.com.evil.com", "1"),
        ("https://api.example.com:8443", "1"),
        ("null", "1"),
        ("", "1"),
        (KNOWN, ""),
        (KNOWN, "0"),
    ] {
        let refused = with_cookie(origin, csrf).cookie().unwrap_err();
        assert_eq!(refused.reason, Reason::OriginRefused, "{origin} {csrf}");
    }
    let no_origin = read(REFRESH_PATH, &[("x-rateguard-csrf", "1"), ("cookie", "rateguard_refresh=rgr_x")]);
    assert_eq!(no_origin.cookie().unwrap_err().reason, Reason::OriginRefused);
}

#[test]
fn a_cookie_is_not_looked_at_anywhere_else() {
    let headers = [("origin", KNOWN), ("x-rateguard-csrf", "1"), ("cookie", "rateguard_refresh=rgr_x")];
    let login = read("/rateguard.v1.AuthService/Login", &headers);
    assert_eq!(login.cookie(), Ok(None));
    assert_eq!(login.wants_cookie(), Ok(true));
}

#[test]
fn a_cookie_is_kept_from_scripts_other_sites_and_other_paths() {
    let text = set_cookie(&SecretText::new("rgr_x".to_owned()), 604_800_999);
    assert_eq!(
        text,
        "rateguard_refresh=rgr_x; Path=/rateguard.v1.AuthService/RefreshToken; Max-Age=604800; HttpOnly; Secure; \
         SameSite=Strict"
    );
    assert!(clear_cookie().starts_with("rateguard_refresh=; ") && clear_cookie().contains("Max-Age=0;"));
}
