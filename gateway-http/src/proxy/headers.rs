//! Which headers pass through the gateway, in each direction.
//!
//! Hop-by-hop headers are those of RFC 9110, section 7.6.1
//! (<https://www.rfc-editor.org/rfc/rfc9110#section-7.6.1>), and whatever `Connection` names.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// What may have to be read from an answer decides how it may be encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerUse {
    /// The usage is read from it, so it must come unencoded.
    Read,
    /// It only passes through.
    PassThrough,
}

/// Whether the gateway may change an answer's length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// Forwarded as it is.
    Kept,
    /// Events may be dropped from it.
    MayChange,
}

/// Belong to one connection, not to the message.
const HOP_BY_HOP: [&str; 10] = [
    "connection",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// What a client may send to say who it is, to anyone: the upstream sees the operator's credential
/// alone, and the client's own must reach no third party.
const CREDENTIALS: [&str; 12] = [
    "api-key",
    "apikey",
    "authorization",
    "cookie",
    "cookie2",
    "ocp-apim-subscription-key",
    "proxy-authorization",
    "x-access-token",
    "x-amz-security-token",
    "x-api-key",
    "x-auth-token",
    "x-goog-api-key",
];

/// What other proxies say about the client, which is not the upstream's business.
const CLIENT_TRACES: [&str; 6] =
    ["cf-connecting-ip", "forwarded", "true-client-ip", "via", "x-client-ip", "x-real-ip"];

/// By which some servers replace the path or the host that was asked for: ways around the base URL and the
/// rules for an endpoint.
const TARGET_OVERRIDES: [&str; 5] =
    ["x-host", "x-original-host", "x-original-uri", "x-original-url", "x-rewrite-url"];

/// By which some servers replace the method that was asked for.
const METHOD_OVERRIDES: [&str; 3] = ["x-http-method", "x-http-method-override", "x-method-override"];

/// Set anew for the upstream: the host by the target, the length by the body that is sent. `expect`
/// was answered by the gateway.
const REMADE: [&str; 3] = ["content-length", "expect", "host"];

/// Of an upstream's answer: state and promises for an origin that is not the gateway's.
const FOREIGN_ORIGIN: [&str; 5] =
    ["alt-svc", "clear-site-data", "set-cookie", "set-cookie2", "strict-transport-security"];

const FORWARDED_PREFIX: &str = "x-forwarded-";

/// The prefix of the gateway's own headers; nobody else's pass in either direction.
pub const OWN_PREFIX: &str = "x-rateguard-";

/// Why a request cannot be carried as it stands. The messages may be shown to the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Uncarried {
    /// It wants to leave HTTP for a protocol that nothing can be metered in.
    #[error("websockets are not carried")]
    WebSocket,
    /// Rules look at the method that was sent; the upstream would act on another.
    #[error("{0} is not carried; send the method itself")]
    MethodOverride(&'static str),
}

/// Refuses what would become another request if a header were merely left out. An offer to upgrade to
/// anything but a websocket may be ignored (RFC 9110, section 7.8).
///
/// # Errors
/// Says what is not carried.
pub fn check_carried(client: &HeaderMap) -> Result<(), Uncarried> {
    let offered =
        members(client, &header::UPGRADE).any(|protocol| protocol.eq_ignore_ascii_case(b"websocket"));
    if offered {
        return Err(Uncarried::WebSocket);
    }
    match METHOD_OVERRIDES.into_iter().find(|name| client.contains_key(*name)) {
        Some(name) => Err(Uncarried::MethodOverride(name)),
        None => Ok(()),
    }
}

/// The headers to send upstream, the credential still missing.
pub fn toward_upstream(client: &HeaderMap, answer: AnswerUse) -> HeaderMap {
    let named = named_in_connection(client);
    let mut headers = kept(client, |name| {
        let text = name.as_str();
        is_in(&[&HOP_BY_HOP, &CREDENTIALS, &CLIENT_TRACES, &TARGET_OVERRIDES, &REMADE], text)
            || text.starts_with(FORWARDED_PREFIX)
            || text.starts_with(OWN_PREFIX)
            || named.contains(name)
    });
    if answer == AnswerUse::Read {
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
    headers
}

/// The headers of an upstream's answer that go to the client, the gateway's own still missing.
pub fn toward_client(upstream: &HeaderMap, length: BodyLength) -> HeaderMap {
    let named = named_in_connection(upstream);
    kept(upstream, |name| {
        let text = name.as_str();
        is_in(&[&HOP_BY_HOP, &FOREIGN_ORIGIN], text)
            || text.starts_with(OWN_PREFIX)
            || named.contains(name)
            || (length == BodyLength::MayChange && name == header::CONTENT_LENGTH)
    })
}

fn kept(headers: &HeaderMap, is_dropped: impl Fn(&HeaderName) -> bool) -> HeaderMap {
    let kept = headers.iter().filter(|(name, _)| !is_dropped(name));
    kept.map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn is_in(lists: &[&[&str]], name: &str) -> bool {
    lists.iter().any(|list| list.contains(&name))
}

/// The headers that `Connection` declares to be for this hop alone.
fn named_in_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    members(headers, &header::CONNECTION).filter_map(|name| HeaderName::from_bytes(name).ok()).collect()
}

/// The members of a header that is a list.
fn members<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> + use<'a> {
    let values = headers.get_all(name).iter();
    values.flat_map(|value| value.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
}

#[cfg(test)]
mod tests;
