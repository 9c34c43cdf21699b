//! Where a request goes: a base URL that an admin set, and the rest of a path that a client chose.
//!
//! Scheme, host and port are the base's, whatever the client writes. The path is normalised as RFC
//! 3986, section 6.2.2, allows (<https://www.rfc-editor.org/rfc/rfc3986>), so that what is metered
//! is what the upstream sees; anything that some server might read as a way out of the base path is
//! refused with its reason, never mended silently.

use std::borrow::Cow;
use std::fmt;
use std::net::Ipv6Addr;

use http::Uri;
use http::uri::{Authority, Scheme};
use percent_encoding::percent_decode;

use super::query;
use crate::secret::Secret;

/// Longest base URL, in bytes.
pub const BASE_URL_BYTES_MAX: usize = 2_048;

/// Longest path and query toward an upstream, in bytes; servers commonly stop at 8 to 16 KiB.
pub const TARGET_BYTES_MAX: usize = 16_384;

/// How often a path may still change when it is decoded again. Three layers are more than any
/// honest client nests, and each is checked as a server that decodes so often would see it.
pub const DECODE_ROUNDS_MAX: usize = 4;

/// The parameter that may carry a client's credential; it never goes upstream.
pub const KEY_PARAMETER: &str = "key";

/// An upstream's base URL, checked and normalised once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl {
    scheme: Scheme,
    authority: Authority,
    /// Empty, or a path without a slash at its end.
    path: String,
}

/// Where one request goes. Its query may hold a credential, so `Debug` leaves the query out.
#[derive(Clone, PartialEq, Eq)]
pub struct UpstreamTarget {
    uri: Uri,
    base_path_bytes: usize,
}

/// Why a base URL is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BaseUrlError {
    /// Longer than [`BASE_URL_BYTES_MAX`].
    #[error("the base URL must be at most {BASE_URL_BYTES_MAX} bytes")]
    TooLong,
    /// No absolute URL.
    #[error("the base URL must be an absolute URL")]
    NotAbsolute,
    /// Neither http nor https.
    #[error("the base URL must begin with http:// or https://")]
    Scheme,
    /// No host, or one with characters that no host has.
    #[error("the base URL must name a host")]
    Host,
    /// The port is no number of 1 to 65535.
    #[error("the base URL's port must be 1 to 65535")]
    Port,
    /// It holds a user name or password.
    #[error("the base URL must not hold a user name; set a credential instead")]
    UserInfo,
    /// It has a query or a fragment.
    #[error("the base URL must have neither query nor fragment")]
    Query,
    /// Its path is not plain.
    #[error("the base URL's path is refused: {0}")]
    Path(TargetError),
}

/// Why a path is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// It does not begin with a slash.
    #[error("the path must begin with a slash")]
    NotAbsolute,
    /// Longer than [`TARGET_BYTES_MAX`] with its query.
    #[error("path and query must be at most {TARGET_BYTES_MAX} bytes")]
    TooLong,
    /// Two slashes in a row, which some servers merge and others read as a host.
    #[error("the path must not have empty segments")]
    EmptySegment,
    /// A segment of dots alone, plain, encoded, or with parameters behind it.
    #[error("the path must not have dot segments")]
    DotSegment,
    /// An encoded slash.
    #[error("the path must not have encoded slashes")]
    EncodedSlash,
    /// A backslash, plain or encoded.
    #[error("the path must not have backslashes")]
    Backslash,
    /// A control character, plain or encoded.
    #[error("the path must not have control characters")]
    ControlCharacter,
    /// A character that must be encoded in a path.
    #[error("the path has a character that must be percent-encoded")]
    BareCharacter,
    /// A percent sign without two hexadecimal digits.
    #[error("the path has a broken percent-encoding")]
    BrokenEncoding,
    /// It decodes to something that is not UTF-8, where overlong forms of dots and slashes hide.
    #[error("the path must decode to UTF-8")]
    NotUtf8,
    /// Encoded more often than [`DECODE_ROUNDS_MAX`] rounds undo.
    #[error("the path is percent-encoded too many times")]
    NestedEncoding,
    /// The query has a character that no query may have.
    #[error("the query has a character that must be percent-encoded")]
    Query,
}

impl BaseUrl {
    /// Checks and normalises a base URL.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, BaseUrlError> {
        if text.len() > BASE_URL_BYTES_MAX {
            return Err(BaseUrlError::TooLong);
        }
        if text.contains(['?', '#']) {
            return Err(BaseUrlError::Query);
        }
        let parts = text.parse::<Uri>().map_err(|_| BaseUrlError::NotAbsolute)?.into_parts();
        let scheme = parts.scheme.ok_or(BaseUrlError::NotAbsolute)?;
        if scheme != Scheme::HTTP && scheme != Scheme::HTTPS {
            return Err(BaseUrlError::Scheme);
        }
        let authority = checked_authority(&parts.authority.ok_or(BaseUrlError::Host)?)?;
        let path = parts.path_and_query.map(|path| path.path().to_owned()).unwrap_or_default();
        let path = path.strip_suffix('/').unwrap_or(&path);
        let path = normalised_path(path).map_err(BaseUrlError::Path)?;
        Ok(Self { scheme, authority, path })
    }

    /// The URL that `rest`, the client's path behind the API's name, and `query` lead to. Leaves out
    /// the parameter `key` and those called `dropped`, as they are or may be credentials.
    ///
    /// # Errors
    /// Refuses what might lead out of the base path.
    pub fn join(
        &self,
        rest: &str,
        query: Option<&str>,
        dropped: &[&str],
    ) -> Result<UpstreamTarget, TargetError> {
        if rest.len() + query.map_or(0, str::len) > TARGET_BYTES_MAX {
            return Err(TargetError::TooLong);
        }
        let path = format!("{}{}", self.path, normalised_path(rest)?);
        let query = query.map(|query| kept_query(query, dropped)).transpose()?.unwrap_or_default();
        let uri = self.uri(&path, &query)?;
        Ok(UpstreamTarget { uri, base_path_bytes: self.path.len() })
    }

    fn uri(&self, path: &str, query: &str) -> Result<Uri, TargetError> {
        let slash = if path.is_empty() { "/" } else { "" };
        let mark = if query.is_empty() { "" } else { "?" };
        Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone())
            .path_and_query(format!("{slash}{path}{mark}{query}"))
            .build()
            .map_err(|_| TargetError::Query)
    }
}

impl UpstreamTarget {
    /// The whole URL.
    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// The normalised path, base path included; what a dialect is looked up by.
    pub fn path(&self) -> &str {
        self.uri.path()
    }

    /// The normalised path behind the base path, `/` at least; what rules match as the endpoint.
    pub fn endpoint(&self) -> &str {
        match &self.uri.path()[self.base_path_bytes..] {
            "" => "/",
            endpoint => endpoint,
        }
    }

    /// The same target with a credential as a parameter of its query.
    ///
    /// # Errors
    /// Fails if the URL becomes too long.
    pub fn with_query_secret(self, name: &str, secret: &Secret) -> Result<Self, TargetError> {
        let query = query::with(self.uri.query().unwrap_or_default(), name, secret.expose());
        let path_and_query = format!("{}?{query}", self.uri.path());
        if path_and_query.len() > TARGET_BYTES_MAX + BASE_URL_BYTES_MAX {
            return Err(TargetError::TooLong);
        }
        let mut parts = self.uri.into_parts();
        parts.path_and_query = Some(path_and_query.parse().map_err(|_| TargetError::Query)?);
        let uri = Uri::from_parts(parts).map_err(|_| TargetError::Query)?;
        Ok(Self { uri, base_path_bytes: self.base_path_bytes })
    }
}

impl fmt::Debug for UpstreamTarget {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, authority) = (self.uri.scheme_str(), self.uri.authority());
        let [scheme, authority] =
            [scheme.unwrap_or_default(), authority.map_or("", |authority| authority.as_str())];
        write!(formatter, "UpstreamTarget({scheme}://{authority}{})", self.path())
    }
}

fn checked_authority(authority: &Authority) -> Result<Authority, BaseUrlError> {
    if authority.as_str().contains('@') {
        return Err(BaseUrlError::UserInfo);
    }
    let host = authority.host();
    if !is_plain_host(host) {
        return Err(BaseUrlError::Host);
    }
    let has_port = authority.as_str().len() > host.len();
    if has_port && authority.port_u16().is_none_or(|port| port == 0) {
        return Err(BaseUrlError::Port);
    }
    authority.as_str().to_ascii_lowercase().parse().map_err(|_| BaseUrlError::Host)
}

fn is_plain_host(host: &str) -> bool {
    if let Some(literal) = host.strip_prefix('[') {
        return literal.strip_suffix(']').is_some_and(|literal| literal.parse::<Ipv6Addr>().is_ok());
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    !host.is_empty() && host.bytes().all(plain)
}

fn kept_query(query: &str, dropped: &[&str]) -> Result<String, TargetError> {
    // The URL parser would take a fragment for its own and forget it.
    if query.contains('#') {
        return Err(TargetError::Query);
    }
    Ok(query::without(&query::without(query, &[KEY_PARAMETER]), dropped))
}

/// `path` in its normal form: empty, or segments each behind a slash.
fn normalised_path(path: &str) -> Result<String, TargetError> {
    if path.is_empty() {
        return Ok(String::new());
    }
    let segments = path.strip_prefix('/').ok_or(TargetError::NotAbsolute)?;
    let mut normalised = String::with_capacity(path.len());
    let mut rest = Some(segments);
    while let Some(unread) = rest {
        let (segment, behind) = match unread.split_once('/') {
            Some((segment, behind)) => (segment, Some(behind)),
            None => (unread, None),
        };
        if segment.is_empty() && behind.is_some() {
            return Err(TargetError::EmptySegment);
        }
        normalised.push('/');
        push_segment(&mut normalised, segment)?;
        rest = behind;
    }
    Ok(normalised)
}

fn push_segment(normalised: &mut String, segment: &str) -> Result<(), TargetError> {
    check_every_decoding(segment.as_bytes())?;
    let bytes = segment.as_bytes();
    let mut position = 0;
    while position < bytes.len() {
        let byte = bytes[position];
        if byte != b'%' {
            normalised.push(bare_character(byte)?);
            position += 1;
            continue;
        }
        let decoded = decode_pair(&bytes[position + 1..]).ok_or(TargetError::BrokenEncoding)?;
        if is_unreserved(decoded) {
            normalised.push(char::from(decoded));
        } else {
            normalised.push_str(&format!("%{decoded:02X}"));
        }
        position += 3;
    }
    Ok(())
}

/// Looks at a segment as servers that decode it once, twice or more would.
fn check_every_decoding(segment: &[u8]) -> Result<(), TargetError> {
    let mut seen = Cow::Borrowed(segment);
    for _ in 0..DECODE_ROUNDS_MAX {
        check_segment(&seen)?;
        let decoded: Vec<u8> = percent_decode(&seen).collect();
        if *decoded == *seen {
            return Ok(());
        }
        seen = Cow::Owned(decoded);
    }
    Err(TargetError::NestedEncoding)
}

fn check_segment(segment: &[u8]) -> Result<(), TargetError> {
    if segment.contains(&b'/') {
        return Err(TargetError::EncodedSlash);
    }
    if segment.contains(&b'\\') {
        return Err(TargetError::Backslash);
    }
    let text = std::str::from_utf8(segment).map_err(|_| TargetError::NotUtf8)?;
    if text.chars().any(char::is_control) {
        return Err(TargetError::ControlCharacter);
    }
    // Servers with path parameters read `..;x` as `..`, and some drop blanks around it.
    let name = text.split(';').next().unwrap_or_default().trim();
    if !name.is_empty() && name.bytes().all(|byte| byte == b'.') {
        return Err(TargetError::DotSegment);
    }
    Ok(())
}

/// A character of RFC 3986's `pchar`, as it stands.
fn bare_character(byte: u8) -> Result<char, TargetError> {
    let allowed = is_unreserved(byte) || b"!$&'()*+,;=:@".contains(&byte);
    if allowed { Ok(char::from(byte)) } else { Err(TargetError::BareCharacter) }
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// The byte that the two hexadecimal digits at the start of `digits` stand for.
fn decode_pair(digits: &[u8]) -> Option<u8> {
    let [high, low] = digits.get(..2)? else { return None };
    let digit = |digit: u8| char::from(digit).to_digit(16);
    u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()
}

#[cfg(test)]
mod tests;
