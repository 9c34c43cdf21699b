//! A route as the gateway uses it: checked once, when it is resolved.

use std::time::Duration;

use http::{HeaderName, Method};
use rateguard_proto::internal_v1::Route as RouteMessage;
use rateguard_proto::v1::{ApiAuthScheme, ApiDialect};

use crate::proxy::credentials::UpstreamCredential;
use crate::proxy::guard::UpstreamPolicy;
use crate::proxy::target::{BaseUrl, BaseUrlError, TargetError, UpstreamTarget};
use crate::secret::Secret;
use crate::usage::dialect::Vendor;
use crate::usage::{Dialect, dialect_for};

/// Everything that is needed to forward calls to one API.
#[derive(Clone, Debug)]
pub struct Route {
    /// Id of the API.
    pub api_id: String,
    /// Its slug, as callers name it.
    pub slug: String,
    /// Whose wire format it speaks, if any.
    pub vendor: Option<Vendor>,
    /// How the upstream is shown the operator's credential.
    pub credential: UpstreamCredential,
    /// Which addresses may be dialled.
    pub policy: UpstreamPolicy,
    /// Longest wait for the head of an answer, and for each next part of its body.
    pub timeout: Duration,
    /// Output tokens of a call that names no maximum.
    pub default_max_output_tokens: u64,
    /// Whether callers may be told of money.
    pub show_spend: bool,
    base_url: BaseUrl,
}

/// Why a route cannot be used. The operator has to change the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// The base URL is refused.
    #[error(transparent)]
    BaseUrl(#[from] BaseUrlError),
    /// The scheme needs a name that a header or parameter can have.
    #[error("the API's credential has no usable name")]
    AuthName,
    /// A basic credential without a colon.
    #[error("the API's credential must be user:password")]
    BasicCredential,
    /// A scheme that this gateway does not know, or none where a credential is needed.
    #[error("the API's auth scheme is not known")]
    AuthScheme,
    /// The scheme needs a credential and none is stored.
    #[error("the API has no credential")]
    NoCredential,
}

impl Route {
    /// Where a client's path and query lead.
    ///
    /// # Errors
    /// Refuses what might lead out of the base URL.
    pub fn target(&self, rest: &str, query: Option<&str>) -> Result<UpstreamTarget, TargetError> {
        self.base_url.join(rest, query, self.credential.query_parameter().as_slice())
    }

    /// The dialect in which a call at `path` (base path included) is read, if it is one of the API's vendor.
    pub fn dialect(&self, method: &Method, path: &str) -> Option<&'static dyn Dialect> {
        dialect_for(method, path).filter(|dialect| Some(dialect.vendor()) == self.vendor)
    }
}

impl TryFrom<RouteMessage> for Route {
    type Error = RouteError;

    fn try_from(message: RouteMessage) -> Result<Self, RouteError> {
        let vendor = vendor(message.dialect());
        let policy = match message.allow_private_upstream {
            true => UpstreamPolicy::PrivateAllowed,
            false => UpstreamPolicy::PublicOnly,
        };
        Ok(Self {
            vendor,
            policy,
            credential: credential(&message)?,
            base_url: BaseUrl::parse(&message.base_url)?,
            timeout: Duration::from_millis(u64::try_from(message.timeout_ms).unwrap_or_default()),
            default_max_output_tokens: u64::try_from(message.default_max_output_tokens).unwrap_or_default(),
            show_spend: message.show_spend,
            api_id: message.api_id,
            slug: message.slug,
        })
    }
}

fn vendor(dialect: ApiDialect) -> Option<Vendor> {
    match dialect {
        ApiDialect::Openai => Some(Vendor::OpenAi),
        ApiDialect::Anthropic => Some(Vendor::Anthropic),
        ApiDialect::Unspecified | ApiDialect::None => None,
    }
}

/// A scheme of a newer server reads as unspecified, and is refused: sending no credential where one
/// is meant would only move the failure to the upstream.
fn credential(message: &RouteMessage) -> Result<UpstreamCredential, RouteError> {
    let secret = || {
        let stored = message.credential.as_ref().filter(|stored| !stored.value.is_empty());
        stored.map(|stored| Secret::new(stored.value.as_str())).ok_or(RouteError::NoCredential)
    };
    match message.auth_scheme() {
        ApiAuthScheme::None => Ok(UpstreamCredential::None),
        ApiAuthScheme::Bearer => Ok(UpstreamCredential::Bearer(secret()?)),
        ApiAuthScheme::Header => {
            let name = HeaderName::from_bytes(message.auth_name.as_bytes());
            Ok(UpstreamCredential::Header {
                name: name.map_err(|_| RouteError::AuthName)?,
                secret: secret()?,
            })
        }
        ApiAuthScheme::Basic => basic(&secret()?),
        ApiAuthScheme::Query if message.auth_name.is_empty() => Err(RouteError::AuthName),
        ApiAuthScheme::Query => {
            Ok(UpstreamCredential::Query { name: message.auth_name.clone(), secret: secret()? })
        }
        ApiAuthScheme::Unspecified => Err(RouteError::AuthScheme),
    }
}

fn basic(secret: &Secret) -> Result<UpstreamCredential, RouteError> {
    let (user_name, password) = secret.expose().split_once(':').ok_or(RouteError::BasicCredential)?;
    Ok(UpstreamCredential::Basic { user_name: user_name.to_owned(), password: Secret::new(password) })
}

#[cfg(test)]
mod tests {
    use rateguard_proto::v1::SecretText;

    use super::*;

    fn message(scheme: ApiAuthScheme, name: &str, credential: Option<&str>) -> RouteMessage {
        RouteMessage {
            api_id: "api_1".to_owned(),
            slug: "openai".to_owned(),
            base_url: "https://api.example.com/v1".to_owned(),
            dialect: ApiDialect::Openai.into(),
            auth_scheme: scheme.into(),
            auth_name: name.to_owned(),
            credential: credential.map(|value| SecretText { value: value.to_owned() }),
            timeout_ms: 1_000,
            default_max_output_tokens: 4_096,
            ..RouteMessage::default()
        }
    }

    #[test]
    fn a_basic_credential_is_split_at_its_first_colon() {
        let route = Route::try_from(message(ApiAuthScheme::Basic, "", Some("user:pass:word"))).unwrap();
        let UpstreamCredential::Basic { user_name, password } = route.credential else { panic!("not basic") };
        assert_eq!((user_name.as_str(), password.expose()), ("user", "pass:word"));
    }

    #[test]
    fn a_route_that_cannot_be_used_says_why() {
        let error =
            |scheme, name, credential| Route::try_from(message(scheme, name, credential)).unwrap_err();
        assert_eq!(error(ApiAuthScheme::Basic, "", Some("no-colon")), RouteError::BasicCredential);
        assert_eq!(error(ApiAuthScheme::Header, "two words", Some("x")), RouteError::AuthName);
        assert_eq!(error(ApiAuthScheme::Query, "", Some("x")), RouteError::AuthName);
        assert_eq!(error(ApiAuthScheme::Bearer, "", None), RouteError::NoCredential);
        assert_eq!(error(ApiAuthScheme::Unspecified, "", Some("x")), RouteError::AuthScheme);
        let pathless = RouteMessage { base_url: String::new(), ..message(ApiAuthScheme::None, "", None) };
        assert!(matches!(Route::try_from(pathless), Err(RouteError::BaseUrl(_))));
    }

    #[test]
    fn only_the_dialect_of_the_apis_vendor_is_read() {
        let route = Route::try_from(message(ApiAuthScheme::Bearer, "", Some("sk-1"))).unwrap();
        let name = |path| route.dialect(&Method::POST, path).map(Dialect::name);
        assert_eq!(name("/v1/chat/completions"), Some("openai_chat"));
        assert_eq!(name("/v1/messages"), None);
        assert_eq!(name("/v1/embeddings"), None);
    }

    #[test]
    fn a_route_prints_no_credential() {
        let route = Route::try_from(message(ApiAuthScheme::Bearer, "", Some("sk-private"))).unwrap();
        assert!(!format!("{route:?}").contains("sk-private"));
    }
}
