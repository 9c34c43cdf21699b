//! The HTTP clients that carry requests upstream.
//!
//! There is one client for each address policy. A pool keys its connections by scheme and authority
//! alone, so one pool for both would lend a connection that an API with private upstreams opened to
//! an API that may have none. Redirects are not followed: they are the client's own business.

use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Uri;
use http_body_util::combinators::UnsyncBoxBody;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tower::Service;

use super::connector::{BoxFuture, DialError, GuardedConnector, Resolve, SystemResolver};
use super::guard::UpstreamPolicy;

/// Longest that connecting may take, dialling and TLS together.
pub const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// How long an idle connection is kept. Shorter than the idle limit of the large vendors' edges, so
/// that a connection is rarely closed under a request.
pub const IDLE_CONNECTION_LIFETIME: Duration = Duration::from_secs(50);

/// Idle connections kept for one upstream.
pub const IDLE_CONNECTIONS_PER_UPSTREAM_MAX: usize = 128;

/// Any error of a body or a connector.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of a request on its way upstream.
pub type UpstreamBody = UnsyncBoxBody<Bytes, BoxError>;

/// A client of one policy.
pub type UpstreamClient<R = SystemResolver> = Client<DeadlineConnector<R>, UpstreamBody>;

/// The clients, one for each policy, which share no connection.
#[derive(Clone, Debug)]
pub struct UpstreamClients<R: Resolve = SystemResolver> {
    public_only: UpstreamClient<R>,
    private_allowed: UpstreamClient<R>,
}

/// TCP and TLS under one deadline: the TLS layer has none of its own.
#[derive(Clone, Debug)]
pub struct DeadlineConnector<R> {
    inner: HttpsConnector<GuardedConnector<R>>,
}

impl UpstreamClients {
    /// Clients over the machine's resolver and the web's root certificates.
    ///
    /// # Errors
    /// Fails if the TLS library refuses its own defaults.
    pub fn new() -> Result<Self, rustls::Error> {
        Self::with_resolver(&SystemResolver::default())
    }
}

impl<R: Resolve> UpstreamClients<R> {
    /// Clients over another resolver.
    ///
    /// # Errors
    /// Fails if the TLS library refuses its own defaults.
    pub fn with_resolver(resolver: &R) -> Result<Self, rustls::Error> {
        let client = |policy| client(GuardedConnector::with_resolver(policy, resolver.clone()));
        Ok(Self {
            public_only: client(UpstreamPolicy::PublicOnly)?,
            private_allowed: client(UpstreamPolicy::PrivateAllowed)?,
        })
    }

    /// The client for upstreams under `policy`.
    pub fn for_policy(&self, policy: UpstreamPolicy) -> &UpstreamClient<R> {
        match policy {
            UpstreamPolicy::PublicOnly => &self.public_only,
            UpstreamPolicy::PrivateAllowed => &self.private_allowed,
        }
    }
}

fn client<R: Resolve>(guarded: GuardedConnector<R>) -> Result<UpstreamClient<R>, rustls::Error> {
    let inner = HttpsConnectorBuilder::new()
        .with_provider_and_webpki_roots(rustls::crypto::ring::default_provider())?
        .https_or_http()
        .enable_http1()
        .wrap_connector(guarded);
    let mut builder = Client::builder(TokioExecutor::new());
    builder
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_CONNECTION_LIFETIME)
        .pool_max_idle_per_host(IDLE_CONNECTIONS_PER_UPSTREAM_MAX);
    Ok(builder.build(DeadlineConnector { inner }))
}

impl<R: Resolve> Service<Uri> for DeadlineConnector<R> {
    type Response = <HttpsConnector<GuardedConnector<R>> as Service<Uri>>::Response;
    type Error = BoxError;
    type Future = BoxFuture<Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, target: Uri) -> Self::Future {
        let connecting = self.inner.call(target);
        Box::pin(async move {
            match tokio::time::timeout(CONNECT_DEADLINE, connecting).await {
                Ok(connected) => connected,
                Err(_) => Err(DialError::Deadline.into()),
            }
        })
    }
}

#[cfg(test)]
mod tests;
