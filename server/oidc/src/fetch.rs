//! Calls to the provider: bounded in time and size, and no further than it was asked.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rateguard_engine::people::ProviderError;
use rateguard_engine::secrets::SecretText;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use serde::de::DeserializeOwned;
use tokio::time::timeout;
use url::Url;

use crate::OidcConfigError;

/// Longest wait for one answer of the provider.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Longest wait for all that one call of ours asks of it, turns included; below the longest deadline of a
/// call.
const WHOLE_MAX: Duration = Duration::from_secs(12);
/// Largest answer: a set of some hundred keys.
const ANSWER_BYTES_MAX: usize = 256 * 1_024;

/// The client of the provider. It follows no redirection.
pub(crate) struct Fetcher {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

/// An answer.
pub(crate) struct Fetched {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

impl Fetcher {
    pub(crate) fn new(ca_file: Option<&Path>) -> Result<Self, OidcConfigError> {
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls(ca_file)?)
            // The URLs have been looked at: in clear go those to this machine.
            .https_or_http()
            .enable_http1()
            .build();
        Ok(Self { client: Client::builder(TokioExecutor::new()).build(connector) })
    }

    /// Fetches a document.
    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        url: &Url,
        what: &'static str,
    ) -> Result<T, ProviderError> {
        let request = Request::get(url.as_str()).header(ACCEPT, "application/json");
        let fetched = self.send(request.body(Full::default())).await?;
        if fetched.status != StatusCode::OK {
            return Err(ProviderError::Unavailable(format!("the {what} answers {}", fetched.status)));
        }
        fetched.json(what)
    }

    /// Sends a form.
    pub(crate) async fn post(
        &self,
        url: &Url,
        form: String,
        authorization: Option<SecretText>,
    ) -> Result<Fetched, ProviderError> {
        let mut request = Request::post(url.as_str())
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        if let Some(authorization) = authorization {
            // For the provider; the log shows it to nobody.
            let mut value = HeaderValue::from_str(authorization.expose()).map_err(unavailable)?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        self.send(request.body(form.into())).await
    }

    async fn send(&self, request: http::Result<Request<Full<Bytes>>>) -> Result<Fetched, ProviderError> {
        let request = request.map_err(unavailable)?;
        let answered = timeout(ANSWER_MAX, async {
            let (head, body) = self.client.request(request).await.map_err(unavailable)?.into_parts();
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(unavailable)?;
            Ok(Fetched { status: head.status, body: body.to_bytes() })
        });
        answered.await.unwrap_or_else(|_| Err(late()))
    }
}

impl Fetched {
    /// What the answer holds.
    pub(crate) fn json<T: DeserializeOwned>(&self, what: &'static str) -> Result<T, ProviderError> {
        // The parser's own message may show a token.
        serde_json::from_slice(&self.body)
            .map_err(|_| ProviderError::Unavailable(format!("the {what} answers something else")))
    }
}

/// Runs what one call asks of the provider.
pub(crate) async fn within_deadline<T>(
    work: impl Future<Output = Result<T, ProviderError>>,
) -> Result<T, ProviderError> {
    timeout(WHOLE_MAX, work).await.unwrap_or_else(|_| Err(late()))
}

fn tls(ca_file: Option<&Path>) -> Result<ClientConfig, OidcConfigError> {
    let provider = rustls::crypto::ring::default_provider();
    let config = ClientConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .map_err(|error| OidcConfigError::Tls(error.to_string()))?;
    let config = match ca_file {
        None => config.with_webpki_roots(),
        Some(path) => config.with_root_certificates(authorities(path)?),
    };
    Ok(config.with_no_client_auth())
}

fn authorities(path: &Path) -> Result<RootCertStore, OidcConfigError> {
    let unusable = |detail: String| OidcConfigError::Authorities { path: path.to_owned(), detail };
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| unusable(error.to_string()))?;
    for certificate in certificates {
        let added = certificate
            .map_err(|error| error.to_string())
            .and_then(|certificate| roots.add(certificate).map_err(|error| error.to_string()));
        added.map_err(unusable)?;
    }
    if roots.is_empty() {
        return Err(unusable("there is no certificate".to_owned()));
    }
    Ok(roots)
}

/// With what lies behind an error: a client says no more by itself than that it could not connect.
fn unavailable(error: impl Into<Box<dyn Error + Send + Sync>>) -> ProviderError {
    let error = error.into();
    let causes = std::iter::successors(error.source(), |cause| (*cause).source());
    let detail = causes.fold(error.to_string(), |detail, cause| format!("{detail}: {cause}"));
    ProviderError::Unavailable(detail)
}

fn late() -> ProviderError {
    ProviderError::Unavailable("it did not answer in time".to_owned())
}
