//! The way from a gateway of its own process to its server.

use std::time::Duration;

use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

/// Longest wait for a connection to the server.
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

/// A channel to the server at `url` (`http://…` or `https://…`), which connects when it is first used
/// and again when it was lost. `TCP_NODELAY` is set. With https the server must show a certificate under
/// `certificate_authority` (PEM), or where there is none under the roots of the web.
///
/// # Errors
/// Fails if the URL or the certificate cannot be used.
pub fn channel(url: &str, certificate_authority: Option<&[u8]>) -> Result<Channel, ServerAddressError> {
    let endpoint = Endpoint::from_shared(url.to_owned())?
        .tcp_nodelay(true)
        .connect_timeout(SERVER_CONNECT_WAIT_MAX)
        .http2_keep_alive_interval(SERVER_PING_EVERY)
        .keep_alive_timeout(SERVER_PONG_WAIT_MAX)
        .keep_alive_while_idle(true);
    let endpoint = match endpoint.uri().scheme_str() {
        Some("https") => endpoint.tls_config(tls(certificate_authority))?,
        _ => endpoint,
    };
    Ok(endpoint.connect_lazy())
}

fn tls(certificate_authority: Option<&[u8]>) -> ClientTlsConfig {
    match certificate_authority {
        Some(pem) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)),
        None => ClientTlsConfig::new().with_enabled_roots(),
    }
}
