//! An OpenID Connect provider, spoken with in the authorization code flow with PKCE (OpenID Connect Core
//! 1.0, section 3.1; RFC 7636). Its word, the ID token, is checked in full before it counts.
//!
//! Signatures are verified by `ring`, which TLS brings along anyhow. The decision about that is in
//! `docs/decisions`.

mod discovery;
mod fetch;
mod id_token;
mod keys;

use std::path::PathBuf;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rateguard_core::time::Millis;
use rateguard_engine::people::{
    AuthorizationAnswer, AuthorizationRequest, IdentityProvider, ProviderError, Vouched,
};
use rateguard_engine::secrets::SecretText;
use serde::Deserialize;
use thiserror::Error;
use tokio::sync::Mutex;
use url::form_urlencoded::{Serializer, byte_serialize};
use url::{Host, Url};

use discovery::{Discovery, Endpoints};
use fetch::{Fetched, Fetcher};
use id_token::{Expected, read};
use keys::{KeySet, Keys};

/// The scope that makes a log-in one of OpenID Connect.
const OPENID: &str = "openid";
/// The key of the issuer.
const ISSUER: &str = "issuer";
/// What a token endpoint answers to a code that is spent, forged or another client's (RFC 6749, section
/// 5.2).
const INVALID_GRANT: &str = "invalid_grant";

/// How a provider is reached, and as whom.
#[derive(Clone, Debug)]
pub struct OidcConfig {
    /// Its issuer, as its discovery document has it: `https`, or `http` on this machine.
    pub issuer: String,
    /// What it calls this installation.
    pub client_id: String,
    /// The secret that goes with it; `None` for a public client.
    pub client_secret: Option<SecretText>,
    /// The page that it sends people back to.
    pub redirect_url: String,
    /// What is asked for besides `openid`.
    pub scopes: Vec<String>,
    /// The authorities that its certificate is under; `None` for the roots of the web.
    pub ca_file: Option<PathBuf>,
}

/// Why a provider cannot be used as it is configured.
#[derive(Debug, Error)]
pub enum OidcConfigError {
    /// A URL that cannot be used.
    #[error(
        "{key} must be an https URL, or an http one on this machine, without user and fragment; an issuer without query"
    )]
    Url {
        /// The key.
        key: &'static str,
    },
    /// The authorities cannot be read.
    #[error("the certificate authorities in {path} cannot be used: {detail}")]
    Authorities {
        /// The file.
        path: PathBuf,
        /// Why.
        detail: String,
    },
    /// TLS cannot be set up.
    #[error("tls cannot be set up: {0}")]
    Tls(String),
}

/// A provider. Its documents are fetched when they are needed, and kept for a while.
pub struct OidcProvider {
    config: OidcConfig,
    fetcher: Fetcher,
    /// One log-in at a time fetches; the others wait, within their deadline, and find it.
    discovery: Mutex<Discovery>,
    keys: Mutex<Keys>,
}

/// The answer of a token endpoint, of which one field counts.
#[derive(Deserialize)]
struct TokenAnswer {
    id_token: String,
}

/// The refusal of a token endpoint.
#[derive(Deserialize)]
struct TokenRefusal {
    error: String,
}

impl OidcProvider {
    /// Takes the configuration. The provider is not spoken with yet: it may be away.
    ///
    /// # Errors
    /// [`OidcConfigError`].
    pub fn new(config: OidcConfig) -> Result<Self, OidcConfigError> {
        for (key, text) in [(ISSUER, &config.issuer), ("redirect_url", &config.redirect_url)] {
            let url = usable_url(text).ok_or(OidcConfigError::Url { key })?;
            // Behind an issuer comes the path of its document.
            if key == ISSUER && url.query().is_some() {
                return Err(OidcConfigError::Url { key });
            }
        }
        let fetcher = Fetcher::new(config.ca_file.as_deref())?;
        Ok(Self { config, fetcher, discovery: Mutex::default(), keys: Mutex::default() })
    }

    async fn endpoints(&self, now: Millis) -> Result<Endpoints, ProviderError> {
        self.discovery.lock().await.endpoints(&self.fetcher, &self.config.issuer, now).await
    }

    /// Gives the code away for an ID token.
    async fn exchange(
        &self,
        endpoints: &Endpoints,
        answer: &AuthorizationAnswer,
    ) -> Result<String, ProviderError> {
        let (form, basic) = self.form(endpoints, answer);
        let fetched = self.fetcher.post(&endpoints.token_endpoint, form, basic).await?;
        id_token_of(&fetched)
    }

    /// What is sent for the token, and what the header shows.
    fn form(&self, endpoints: &Endpoints, answer: &AuthorizationAnswer) -> (String, Option<SecretText>) {
        let mut form = Serializer::new(String::new());
        form.append_pair("grant_type", "authorization_code");
        // Both are for the provider.
        form.append_pair("code", answer.code.expose());
        form.append_pair("code_verifier", answer.verifier.expose());
        form.append_pair("redirect_uri", &self.config.redirect_url);
        let basic = self.authenticate(endpoints, &mut form);
        (form.finish(), basic)
    }

    /// Shows who asks: in the header that it gives, or in the form (RFC 6749, section 2.3.1).
    fn authenticate(&self, endpoints: &Endpoints, form: &mut Serializer<'_, String>) -> Option<SecretText> {
        let id = &self.config.client_id;
        let Some(secret) = &self.config.client_secret else {
            form.append_pair("client_id", id);
            return None;
        };
        // For the provider.
        let secret = secret.expose();
        if endpoints.takes_basic {
            let encoded = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
            let pair = format!("{}:{}", encoded(id), encoded(secret));
            return Some(SecretText::new(format!("Basic {}", STANDARD.encode(pair))));
        }
        form.append_pair("client_id", id);
        form.append_pair("client_secret", secret);
        None
    }

    /// The keys, and whether they are fresh from the provider.
    async fn key_set(&self, endpoints: &Endpoints, now: Millis) -> Result<KeySet, ProviderError> {
        self.keys.lock().await.current(&self.fetcher, &endpoints.jwks_uri, now).await
    }

    /// Newer keys than those; `None` where the provider was asked a moment ago.
    async fn newer_keys(&self, endpoints: &Endpoints, now: Millis) -> Result<Option<KeySet>, ProviderError> {
        self.keys.lock().await.newer(&self.fetcher, &endpoints.jwks_uri, now).await
    }

    async fn check(
        &self,
        endpoints: &Endpoints,
        token: &str,
        expected: &Expected<'_>,
    ) -> Result<Vouched, ProviderError> {
        let keys = self.key_set(endpoints, expected.now).await?;
        let verified = match read(token, &keys) {
            // The provider may have changed its keys since they were fetched.
            Err(id_token::Refusal::UnknownKey) => {
                let newer = self.newer_keys(endpoints, expected.now).await?;
                newer.map_or(Err(id_token::Refusal::UnknownKey), |keys| read(token, &keys))
            }
            verified => verified,
        };
        let checked = verified.and_then(|claims| claims.check(expected));
        checked.map_err(|refusal| ProviderError::Refused(refusal.to_string()))
    }
}

#[async_trait]
impl IdentityProvider for OidcProvider {
    async fn authorization_url(
        &self,
        request: AuthorizationRequest,
        now: Millis,
    ) -> Result<String, ProviderError> {
        fetch::within_deadline(async {
            let mut url = self.endpoints(now).await?.authorization_endpoint;
            let scopes = std::iter::once(OPENID).chain(self.config.scopes.iter().map(String::as_str));
            let scope = scopes.collect::<Vec<_>>().join(" ");
            // The provider gets both by way of the person's browser.
            let (state, nonce) = (request.state.expose(), request.nonce.expose());
            url.query_pairs_mut()
                .append_pair("response_type", "code")
                .append_pair("client_id", &self.config.client_id)
                .append_pair("redirect_uri", &self.config.redirect_url)
                .append_pair("scope", &scope)
                .append_pair("state", state)
                .append_pair("nonce", nonce)
                .append_pair("code_challenge", &request.challenge)
                .append_pair("code_challenge_method", "S256");
            Ok(url.into())
        })
        .await
    }

    async fn vouch(&self, answer: AuthorizationAnswer, now: Millis) -> Result<Vouched, ProviderError> {
        fetch::within_deadline(async {
            let endpoints = self.endpoints(now).await?;
            let token = self.exchange(&endpoints, &answer).await?;
            let expected = Expected {
                issuer: &self.config.issuer,
                client_id: &self.config.client_id,
                nonce: &answer.nonce,
                now,
            };
            self.check(&endpoints, &token, &expected).await
        })
        .await
    }
}

/// A URL that the provider, or the person, may be sent to: in clear on this machine alone.
fn usable_url(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let is_local = match url.host()? {
        Host::Domain(name) => name == "localhost",
        Host::Ipv4(ip) => ip.is_loopback(),
        Host::Ipv6(ip) => ip.is_loopback(),
    };
    let is_private = url.scheme() == "https" || (url.scheme() == "http" && is_local);
    let is_plain = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    (is_private && is_plain).then_some(url)
}

fn id_token_of(fetched: &Fetched) -> Result<String, ProviderError> {
    if fetched.status.is_success() {
        return Ok(fetched.json::<TokenAnswer>("token endpoint")?.id_token);
    }
    let refusal = serde_json::from_slice::<TokenRefusal>(&fetched.body).ok();
    match refusal {
        Some(TokenRefusal { error }) if fetched.status.is_client_error() && error == INVALID_GRANT => {
            Err(ProviderError::Refused("the provider refuses the code".to_owned()))
        }
        _ => Err(ProviderError::Unavailable(format!("the token endpoint answers {}", fetched.status))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_in_clear_are_for_this_machine() {
        for text in
            ["https://id.example.com", "http://localhost:8080/x", "http://127.0.0.1", "http://[::1]:1"]
        {
            assert!(usable_url(text).is_some(), "{text}");
        }
        for text in [
            "http://id.example.com",
            "ftp://localhost",
            "https://a:b@example.com",
            "https://example.com/#x",
            "id.example.com",
            "",
        ] {
            assert!(usable_url(text).is_none(), "{text}");
        }
    }
}
