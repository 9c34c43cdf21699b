//! Where an API's upstream is, and where its credential goes: nothing that the gateway would refuse,
//! and nothing that would change what a request is.
//!
//! The gateway checks again what it dials. Here it is said to whoever can mend it.

use std::net::Ipv6Addr;

use http::uri::Authority;
use http::{HeaderName, Uri};
use percent_encoding::percent_decode_str;
use rateguard_core::limits::BASE_URL_BYTES_MAX;
use rateguard_engine::error::EngineError;
use rateguard_engine::resources::AuthScheme;
use rateguard_proto::v1;

use crate::convert::{conflict, enumeration, malformed, missing, name, out_of_bounds};

/// Headers that frame a request, belong to one hop, or say how its body is to be read: a credential in
/// one of them would change the request. By RFC 9110, sections 7.6.1, 8 and 10.1.1
/// (<https://www.rfc-editor.org/rfc/rfc9110>).
const RESERVED_HEADERS: [&str; 14] = [
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "te",
    "trailer",
    "trailers",
    "transfer-encoding",
    "upgrade",
];
/// What headers begin with that are a proxy's, or the gateway's own.
const RESERVED_PREFIXES: [&str; 2] = ["proxy-", "x-rateguard-"];

/// Checks what the gateway will have to dial; the text stays as it came. Empty for none.
///
/// # Errors
/// [`rateguard_engine::error::Reason::FieldOutOfBounds`] and `FieldMalformed`, saying what is wrong.
pub fn base_url(text: String) -> Result<String, EngineError> {
    if text.is_empty() {
        return Ok(text);
    }
    if text.len() > BASE_URL_BYTES_MAX {
        return Err(out_of_bounds("base_url", format!("must be at most {BASE_URL_BYTES_MAX} bytes")));
    }
    match fault(&text) {
        None => Ok(text),
        Some(message) => Err(malformed("base_url", message)),
    }
}

/// What is wrong with a URL.
fn fault(text: &str) -> Option<&'static str> {
    // The parser forgets a fragment in silence.
    if text.contains(['?', '#']) {
        return Some("must have neither query nor fragment");
    }
    let absolute = "must be http or https, a host, and optionally a port and a path";
    let Ok(uri) = text.parse::<Uri>() else { return Some(absolute) };
    let (Some("http" | "https"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Some(absolute);
    };
    authority_fault(authority).or_else(|| path_fault(uri.path()))
}

fn authority_fault(authority: &Authority) -> Option<&'static str> {
    if authority.as_str().contains('@') {
        return Some("must not hold a user name; set a credential instead");
    }
    let host = authority.host();
    let is_address =
        |literal: &str| literal.strip_suffix(']').is_some_and(|it| it.parse::<Ipv6Addr>().is_ok());
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let is_host = match host.strip_prefix('[') {
        Some(literal) => is_address(literal),
        None => !host.is_empty() && host.bytes().all(is_name),
    };
    if !is_host {
        return Some("must name a host");
    }
    let has_port = authority.as_str().len() > host.len();
    let is_port = authority.port_u16().is_some_and(|port| port > 0);
    (has_port && !is_port).then_some("must have a port of 1 to 65535, or none")
}

fn path_fault(path: &str) -> Option<&'static str> {
    let path = path.strip_suffix('/').unwrap_or(path);
    let segments = path.strip_prefix('/')?;
    (!segments.split('/').all(is_plain_segment)).then_some(
        "must have a path of plain segments: none empty or of dots, no encoded slash, backslash, percent \
         sign or control character",
    )
}

/// A segment that every server reads as the same name, however often it decodes it.
fn is_plain_segment(segment: &str) -> bool {
    let is_written = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@%".contains(&byte);
    let is_pair = |after: &str| {
        after.len() >= 2 && after.is_char_boundary(2) && after[..2].bytes().all(|b| b.is_ascii_hexdigit())
    };
    let Ok(name) = percent_decode_str(segment).decode_utf8() else { return false };
    // Servers with parameters in paths read `..;x` as `..`, and some drop blanks around it.
    let bare = name.split(';').next().unwrap_or_default().trim();
    let is_dots = !bare.is_empty() && bare.bytes().all(|byte| byte == b'.');
    segment.bytes().all(is_written)
        && segment.split('%').skip(1).all(is_pair)
        && !name.chars().any(|character| character.is_control() || "/\\%".contains(character))
        && !segment.is_empty()
        && !is_dots
}

/// How an upstream is shown the credential.
///
/// # Errors
/// Those of the two fields.
pub fn auth_scheme(value: i32, auth_name: String) -> Result<AuthScheme, EngineError> {
    use v1::ApiAuthScheme as S;
    let scheme = enumeration("auth_scheme", value)?;
    if !matches!(scheme, S::Header | S::Query) && !auth_name.is_empty() {
        return Err(conflict("auth_name", "must be empty unless the scheme is HEADER or QUERY"));
    }
    Ok(match scheme {
        S::Unspecified | S::None => AuthScheme::None,
        S::Bearer => AuthScheme::Bearer,
        S::Basic => AuthScheme::Basic,
        S::Header => AuthScheme::Header(free_header(auth_name)?),
        S::Query => AuthScheme::Query(token(auth_name)?),
    })
}

fn free_header(auth_name: String) -> Result<String, EngineError> {
    let auth_name = token(auth_name)?;
    let lower = auth_name.to_ascii_lowercase();
    let is_reserved = RESERVED_HEADERS.contains(&lower.as_str())
        || RESERVED_PREFIXES.iter().any(|prefix| lower.starts_with(prefix));
    if is_reserved {
        return Err(malformed("auth_name", "must not be a header that frames or routes the request"));
    }
    Ok(auth_name)
}

fn token(auth_name: String) -> Result<String, EngineError> {
    if auth_name.is_empty() {
        return Err(missing("auth_name"));
    }
    let auth_name = name("auth_name", auth_name)?;
    match HeaderName::from_bytes(auth_name.as_bytes()) {
        Ok(_) => Ok(auth_name),
        Err(_) => Err(malformed("auth_name", "must be an HTTP token")),
    }
}

#[cfg(test)]
mod tests;
