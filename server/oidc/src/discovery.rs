//! Where a provider's endpoints are (OpenID Connect Discovery 1.0, section 4).

use rateguard_core::time::Millis;
use rateguard_engine::people::ProviderError;
use serde::Deserialize;
use url::Url;

use crate::fetch::Fetcher;
use crate::usable_url;

/// How long endpoints are believed: an hour.
const FRESH_MS: i64 = 60 * 60 * 1_000;
/// Where the document is, behind the issuer.
const WELL_KNOWN: &str = "/.well-known/openid-configuration";
/// How a secret is shown in the header.
const BASIC: &str = "client_secret_basic";

/// What of the document counts.
#[derive(Deserialize)]
struct Document {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
}

/// The endpoints.
#[derive(Clone)]
pub(crate) struct Endpoints {
    pub(crate) authorization_endpoint: Url,
    pub(crate) token_endpoint: Url,
    pub(crate) jwks_uri: Url,
    /// Whether the token endpoint takes the secret in the header.
    pub(crate) takes_basic: bool,
}

/// The endpoints as they were fetched last.
#[derive(Default)]
pub(crate) struct Discovery {
    fetched: Option<(Millis, Endpoints)>,
}

impl Discovery {
    /// The endpoints, fetched unless that was done a while ago at most.
    pub(crate) async fn endpoints(
        &mut self,
        fetcher: &Fetcher,
        issuer: &str,
        now: Millis,
    ) -> Result<Endpoints, ProviderError> {
        if let Some((at, endpoints)) = &self.fetched
            && (0..FRESH_MS).contains(&now.since(*at))
        {
            return Ok(endpoints.clone());
        }
        let url = usable_url(&format!("{}{WELL_KNOWN}", issuer.trim_end_matches('/')));
        let url = url.ok_or_else(|| unusable("issuer"))?;
        let document = fetcher.get::<Document>(&url, "discovery document").await?;
        let endpoints = document.endpoints(issuer)?;
        self.fetched = Some((now, endpoints.clone()));
        Ok(endpoints)
    }
}

impl Document {
    fn endpoints(self, issuer: &str) -> Result<Endpoints, ProviderError> {
        // A document of another issuer would have its tokens taken for ours.
        if self.issuer != issuer {
            return Err(unusable("issuer"));
        }
        let may_be_clear = issuer.starts_with("http://");
        let url = |text: &str, what| {
            let url = usable_url(text).filter(|url| may_be_clear || url.scheme() == "https");
            url.ok_or_else(|| unusable(what))
        };
        let methods = self.token_endpoint_auth_methods_supported;
        Ok(Endpoints {
            authorization_endpoint: url(&self.authorization_endpoint, "authorization_endpoint")?,
            token_endpoint: url(&self.token_endpoint, "token_endpoint")?,
            jwks_uri: url(&self.jwks_uri, "jwks_uri")?,
            // The default where none are named (section 3).
            takes_basic: methods.is_none_or(|methods| methods.iter().any(|method| method == BASIC)),
        })
    }
}

fn unusable(what: &'static str) -> ProviderError {
    ProviderError::Unavailable(format!("the discovery document has another {what} than can be used"))
}
