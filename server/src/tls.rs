//! How the listeners of a server encrypt, as it is configured.

use std::io;
use std::sync::Arc;

use anyhow::Context;
use rateguard_serving::tls::{Certificates, Tls};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::config::Config;

/// The certificate of a server with what its listeners make of it.
pub struct Encryption {
    /// What both listeners serve.
    pub certificates: Arc<Certificates>,
    /// Of the public listener.
    pub public: Tls,
    /// Of the listener for gateways of other processes.
    pub gateways: Tls,
    hangup: Signal,
}

impl Encryption {
    /// Reads the certificate; `None` where everything is served in clear, which is warned of where it
    /// can leave the machine.
    ///
    /// # Errors
    /// When a file cannot be used, or signals cannot be received.
    pub fn load(config: &Config) -> anyhow::Result<Option<Self>> {
        let tls = &config.server.tls;
        let Some(files) = tls.files() else {
            if config.server.is_open_in_clear() {
                let address = config.server.listen;
                tracing::warn!(%address, "keys, tokens and prompts pass in clear: server.tls is not set");
            }
            return Ok(None);
        };
        let certificates = Certificates::load(files).context("server.tls")?;
        Ok(Some(Self {
            public: certificates.tls(tls.of_clients()).context("server.tls")?,
            gateways: certificates.tls(tls.of_gateways()).context("server.tls")?,
            certificates,
            // From here on it ends the process no more.
            hangup: signal(SignalKind::hangup()).context("signals cannot be received")?,
        }))
    }

    /// Looks after the files, and tells of the certificate's end, until `stopping`.
    ///
    /// # Errors
    /// As [`Certificates::keep_current`].
    pub async fn keep_current(self, stopping: CancellationToken) -> io::Result<()> {
        self.certificates.keep_current(self.hangup, stopping).await
    }
}
