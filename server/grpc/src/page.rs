//! Page tokens: opaque to callers, and good only for the query that gave them.

use std::hash::{DefaultHasher, Hash, Hasher};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rateguard_core::counter::Position;
use rateguard_engine::error::{EngineError, Reason};

/// Longest token that is looked at: a place may hold a model's name of 512 bytes, in base64.
const TOKEN_BYTES_MAX: usize = 1_024;

/// The token for the page that goes on at `place` of `query`.
pub fn next_token<P: ToString, Q: std::fmt::Debug>(place: P, query: &Q) -> String {
    URL_SAFE_NO_PAD.encode(format!("{:016x}{}", digest(query), place.to_string()))
}

/// The place that a token names; `None` for the first page.
///
/// # Errors
/// [`Reason::PageTokenInvalid`] for a token of another query, or none of ours.
pub fn place_of<Q: std::fmt::Debug>(token: &str, query: &Q) -> Result<Option<String>, EngineError> {
    if token.is_empty() {
        return Ok(None);
    }
    let decoded = (token.len() <= TOKEN_BYTES_MAX).then(|| URL_SAFE_NO_PAD.decode(token).ok()).flatten();
    // No place of ours has control characters, and stores need not be able to look for them.
    let text = decoded
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .filter(|text| !text.chars().any(char::is_control));
    let place = text.as_deref().and_then(|text| text.strip_prefix(&format!("{:016x}", digest(query))));
    place.map(|place| Some(place.to_owned())).ok_or_else(invalid_token)
}

/// The log position that a token names.
///
/// # Errors
/// As [`place_of`].
pub fn position_of<Q: std::fmt::Debug>(token: &str, query: &Q) -> Result<Option<Position>, EngineError> {
    let place = place_of(token, query)?;
    place.map(|place| place.parse().map(Position).map_err(|_| invalid_token())).transpose()
}

/// The error of a token that is none of ours.
pub fn invalid_token() -> EngineError {
    EngineError::field(
        Reason::PageTokenInvalid,
        "page_token",
        "is not a token of this query; send the same filters with it",
    )
}

/// Tokens live as long as their query, which a restart of the server may outlast: the digest only
/// keeps a token from being used with other filters.
fn digest<Q: std::fmt::Debug>(query: &Q) -> u64 {
    let mut hasher = DefaultHasher::new();
    format!("{query:?}").hash(&mut hasher);
    hasher.finish()
}
