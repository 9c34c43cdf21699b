//! Who asks, and with whose credential the upstream is asked.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use zeroize::Zeroizing;

use super::query;
use super::target::{KEY_PARAMETER, TargetError, UpstreamTarget};
use crate::secret::Secret;

/// Longest credential that is looked at, in bytes; longer ones are no key of ours.
pub const CREDENTIAL_BYTES_MAX: usize = 512;

/// What every key of RateGuard begins with.
pub const KEY_PREFIX: &str = "rg_";

/// Where a client may put its key, in the order in which the places are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CredentialSource {
    /// `X-RateGuard-Key`.
    RateGuardKey,
    /// `Authorization: Bearer`.
    Bearer,
    /// `x-api-key`.
    XApiKey,
    /// `api-key`.
    ApiKey,
    /// `x-goog-api-key`.
    XGoogApiKey,
    /// `?key=`.
    QueryKey,
}

/// A client's credential and where it stood.
#[derive(Clone, Debug)]
pub struct PresentedCredential {
    /// The credential.
    pub secret: Secret,
    /// Where it stood.
    pub source: CredentialSource,
}

/// How an upstream is shown the operator's credential.
#[derive(Clone, Debug)]
pub enum UpstreamCredential {
    /// It wants none.
    None,
    /// `Authorization: Bearer …`.
    Bearer(Secret),
    /// A header of its own, such as `x-api-key`.
    Header {
        /// The header.
        name: HeaderName,
        /// Its value.
        secret: Secret,
    },
    /// `Authorization: Basic …`.
    Basic {
        /// The user name; no colon in it.
        user_name: String,
        /// The password.
        password: Secret,
    },
    /// A parameter of the query.
    Query {
        /// The parameter.
        name: String,
        /// Its value.
        secret: Secret,
    },
}

/// Why a credential cannot be shown to the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// It holds bytes that no header may carry.
    #[error("the upstream credential cannot be sent in a header")]
    NotAHeaderValue,
    /// The user name holds a colon, which would move part of it into the password.
    #[error("the upstream's user name must not hold a colon")]
    UserName,
    /// The URL would become invalid or too long.
    #[error("the upstream credential cannot be sent in the URL")]
    Url(#[source] TargetError),
}

impl CredentialSource {
    const ALL: [Self; 6] =
        [Self::RateGuardKey, Self::Bearer, Self::XApiKey, Self::ApiKey, Self::XGoogApiKey, Self::QueryKey];

    /// Every value that stands in this place, in the order in which it was sent.
    fn values<'a>(self, headers: &'a HeaderMap, query: &'a str) -> Vec<Cow<'a, str>> {
        let in_header = |name: &'static str| {
            let values = headers.get_all(name).iter();
            values.filter_map(|value| value.to_str().ok()).map(str::trim)
        };
        match self {
            Self::RateGuardKey => in_header("x-rateguard-key").map(Cow::Borrowed).collect(),
            Self::Bearer => in_header("authorization").filter_map(bearer).map(Cow::Borrowed).collect(),
            Self::XApiKey => in_header("x-api-key").map(Cow::Borrowed).collect(),
            Self::ApiKey => in_header("api-key").map(Cow::Borrowed).collect(),
            Self::XGoogApiKey => in_header("x-goog-api-key").map(Cow::Borrowed).collect(),
            Self::QueryKey => query::value(query, KEY_PARAMETER).into_iter().collect(),
        }
    }
}

/// The client's credential, if it sent one that could be a key.
///
/// Several may stand in one request, as when an SDK insists on a key of its own vendor. The places
/// are asked in the order of [`CredentialSource`], repeated headers in the order sent. The first
/// value that begins with `rg_` counts; without any, the first value does, so that the refusal
/// speaks of what the client most likely meant.
pub fn presented(headers: &HeaderMap, query: Option<&str>) -> Option<PresentedCredential> {
    let query = query.unwrap_or_default();
    let mut first = None;
    for source in CredentialSource::ALL {
        for value in source.values(headers, query).iter().filter(|value| is_plausible(value)) {
            let credential = || PresentedCredential { secret: Secret::new(value.as_ref()), source };
            if value.starts_with(KEY_PREFIX) {
                return Some(credential());
            }
            first = first.or_else(|| Some(credential()));
        }
    }
    first
}

fn is_plausible(value: &str) -> bool {
    !value.is_empty()
        && value.len() <= CREDENTIAL_BYTES_MAX
        && value.bytes().all(|byte| byte.is_ascii_graphic())
}

/// The token of a bearer credential; the scheme's case does not matter (RFC 9110, section 11.1).
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

impl UpstreamCredential {
    /// The parameter that a client must not be able to set, if the credential goes into the query.
    /// To be passed to [`super::target::BaseUrl::join`].
    pub fn query_parameter(&self) -> Option<&str> {
        match self {
            Self::Query { name, .. } => Some(name),
            Self::None | Self::Bearer(_) | Self::Header { .. } | Self::Basic { .. } => None,
        }
    }

    /// Puts the credential where the upstream expects it, in place of anything there.
    ///
    /// # Errors
    /// Fails if the credential cannot be written there.
    pub fn inject(
        &self,
        headers: &mut HeaderMap,
        target: UpstreamTarget,
    ) -> Result<UpstreamTarget, CredentialError> {
        match self {
            Self::None => {}
            Self::Bearer(secret) => {
                headers.insert(header::AUTHORIZATION, header_value(secret, "Bearer ")?);
            }
            Self::Header { name, secret } => {
                headers.insert(name, header_value(secret, "")?);
            }
            Self::Basic { user_name, password } => {
                headers.insert(header::AUTHORIZATION, basic(user_name, password)?);
            }
            Self::Query { name, secret } => {
                return target.with_query_secret(name, secret).map_err(CredentialError::Url);
            }
        }
        Ok(target)
    }
}

fn basic(user_name: &str, password: &Secret) -> Result<HeaderValue, CredentialError> {
    if user_name.contains(':') {
        return Err(CredentialError::UserName);
    }
    let pair = Zeroizing::new(format!("{user_name}:{}", password.expose()));
    header_value(&Secret::new(STANDARD.encode(pair.as_bytes())), "Basic ")
}

fn header_value(secret: &Secret, prefix: &str) -> Result<HeaderValue, CredentialError> {
    secret.header_value(prefix).map_err(|_| CredentialError::NotAHeaderValue)
}

#[cfg(test)]
mod tests;
