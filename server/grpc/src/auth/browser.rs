//! Browsers, which keep the refresh token in a cookie: whether a call may set or use it.

use std::fmt;

use http::{HeaderMap, Uri};
use rateguard_engine::error::{EngineError, Reason};
use rateguard_engine::secrets::SecretText;

/// The cookie with the refresh token.
pub const REFRESH_COOKIE: &str = "rateguard_refresh";
/// The only path that the cookie goes to.
pub const REFRESH_PATH: &str = "/rateguard.v1.AuthService/RefreshToken";
/// The header by which a browser asks for the cookie. A page of another origin cannot send it unasked:
/// it needs a preflight, which only configured origins pass.
pub const CSRF_HEADER: &str = "x-rateguard-csrf";
/// Its one value.
const CSRF_VALUE: &str = "1";

/// What a call says of the browser that made it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Browser {
    asks: bool,
    is_trusted: bool,
    cookie: Option<SecretText>,
}

impl fmt::Debug for Browser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Browser(asks: {}, trusted: {})", self.asks, self.is_trusted)
    }
}

impl Browser {
    /// Reads a call's headers. The cookie is looked at where it belongs, and nowhere else.
    pub fn read(uri: &Uri, headers: &HeaderMap, origins: &[String]) -> Self {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let authority = uri.authority().map(|authority| authority.as_str()).or_else(|| text("host"));
        let is_trusted = text("origin")
            .is_some_and(|origin| origins.iter().any(|known| known == origin) || is_of(origin, authority));
        Self {
            asks: text(CSRF_HEADER) == Some(CSRF_VALUE),
            is_trusted,
            cookie: if uri.path() == REFRESH_PATH { refresh_cookie(headers) } else { None },
        }
    }

    /// Whether the refresh token goes into the cookie.
    ///
    /// # Errors
    /// [`Reason::OriginRefused`] when it is asked for from elsewhere.
    pub fn wants_cookie(&self) -> Result<bool, EngineError> {
        match (self.asks, self.is_trusted) {
            (false, _) => Ok(false),
            (true, true) => Ok(true),
            (true, false) => Err(origin_refused()),
        }
    }

    /// The refresh token in the cookie; `None` without one.
    ///
    /// # Errors
    /// [`Reason::OriginRefused`] unless a page of a trusted origin asks with the header.
    pub fn cookie(&self) -> Result<Option<&SecretText>, EngineError> {
        match &self.cookie {
            Some(_) if !(self.asks && self.is_trusted) => Err(origin_refused()),
            cookie => Ok(cookie.as_ref()),
        }
    }
}

/// A cookie as an answer sets it. Scripts cannot read it, it never leaves TLS (browsers except their own
/// machine), no page of another site sends it, and it goes to one method.
pub fn set_cookie(token: &SecretText, life_ms: i64) -> String {
    // It goes to its owner.
    cookie(token.expose(), life_ms.max(0) / 1_000)
}

/// The same for taking it back.
pub fn clear_cookie() -> String {
    cookie("", 0)
}

fn cookie(value: &str, life_seconds: i64) -> String {
    format!(
        "{REFRESH_COOKIE}={value}; Path={REFRESH_PATH}; Max-Age={life_seconds}; HttpOnly; Secure; SameSite=Strict"
    )
}

fn refresh_cookie(headers: &HeaderMap) -> Option<SecretText> {
    let lines = headers.get_all(http::header::COOKIE).into_iter().filter_map(|line| line.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let (_, value) = pairs.find(|(name, _)| *name == REFRESH_COOKIE)?;
    Some(SecretText::new(value.to_owned()))
}

/// Whether an origin is the server that was asked.
fn is_of(origin: &str, authority: Option<&str>) -> bool {
    let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
    matches!((host, authority), (Some(host), Some(authority)) if host.eq_ignore_ascii_case(authority))
}

fn origin_refused() -> EngineError {
    let message =
        format!("a cookie needs the header {CSRF_HEADER}: {CSRF_VALUE} and an origin of this server");
    EngineError::new(Reason::OriginRefused, message)
}

#[cfg(test)]
mod tests;
