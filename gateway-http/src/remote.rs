//! The way from a gateway of its own process to its server.

use std::time::Duration;

use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

/// Longest wait for a connection to the server, and then for its handshake of TLS.
pub const SERVER_CONNECT_WAIT_MAX: Duration = Duration::from_secs(5);

/// How often the server is asked whether it is still there, also while there is nothing to say: the
/// watch of routes is silent for long, and must not be silent on a dead connection.
pub const SERVER_PING_EVERY: Duration = Duration::from_secs(15);

/// Longest wait for the server's answer to that.
pub const SERVER_PONG_WAIT_MAX: Duration = Duration::from_secs(10);

/// The server cannot be spoken to in this way.
#[derive(Debug, thiserror::Error)]
#[error("the server's address cannot be used")]
pub struct ServerAddressError(#[from] tonic::transport::Error);

/// How a server is known that speaks https, and how this gateway is known to it. Each file's text is PEM.
#[derive(Clone, Copy, Default)]
pub struct ServerTls<'text> {
    /// The authorities that the server's certificate is under; `None` for the roots of the web.
    pub certificate_authority: Option<&'text [u8]>,
    /// The certificate to show to the server, and its key.
    pub client: Option<(&'text [u8], &'text [u8])>,
}

/// A channel to the server at `url` (`http://…` or `https://…`), which connects when it is first used
/// and again when it was lost. `TCP_NODELAY` is set. `tls` counts for https alone.
///
/// # Errors
/// Fails if the URL, a certificate or a key cannot be used.
pub fn channel(url: &str, tls: ServerTls<'_>) -> Result<Channel, ServerAddressError> {
    let endpoint = Endpoint::from_shared(url.to_owned())?
        .tcp_nodelay(true)
        .connect_timeout(SERVER_CONNECT_WAIT_MAX)
        .http2_keep_alive_interval(SERVER_PING_EVERY)
        .keep_alive_timeout(SERVER_PONG_WAIT_MAX)
        .keep_alive_while_idle(true);
    let endpoint = match endpoint.uri().scheme_str() {
        Some("https") => endpoint.tls_config(tls.config())?,
        _ => endpoint,
    };
    Ok(endpoint.connect_lazy())
}

impl ServerTls<'_> {
    fn config(self) -> ClientTlsConfig {
        let config = ClientTlsConfig::new().timeout(SERVER_CONNECT_WAIT_MAX);
        let config = match self.certificate_authority {
            Some(pem) => config.ca_certificate(Certificate::from_pem(pem)),
            None => config.with_enabled_roots(),
        };
        match self.client {
            Some((certificate, key)) => config.identity(Identity::from_pem(certificate, key)),
            None => config,
        }
    }
}
