//! From the text of the files to what rustls serves.

use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoClientAuth, NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};

use super::files::Texts;
use super::{TlsError, TlsFileError, TlsFiles, expiry};
use crate::first_bytes::Protocol;

/// A certificate that can be served, in each way in which a listener may want it.
pub(super) struct Loaded {
    pub(super) not_asking: Arc<ServerConfig>,
    pub(super) optional: Arc<ServerConfig>,
    pub(super) required: Arc<ServerConfig>,
    pub(super) ends_at: Timestamp,
}

/// What a server shows.
struct Shown<'texts> {
    files: &'texts TlsFiles,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl Loaded {
    pub(super) fn new(files: &TlsFiles, texts: &Texts) -> Result<Self, TlsError> {
        let chain = certificates(&files.certificate, &texts.certificate)?;
        let ends_at = expiry::first_end(&chain)
            .ok_or_else(|| TlsFileError::NoCertificate { path: files.certificate.display().to_string() })?;
        let key = PrivateKeyDer::from_pem_slice(&texts.key.0)
            .map_err(|_| TlsFileError::NoKey { path: files.key.display().to_string() })?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let shown = Shown { files, chain, key, provider };
        let not_asking = shown.configured(Arc::new(NoClientAuth))?;
        let (optional, required) = match (&files.client_authority, &texts.client_authority) {
            (Some(path), Some(text)) => shown.asking(path, text)?,
            // No listener is made with these two: `Certificates::tls` refuses.
            _ => (Arc::clone(&not_asking), Arc::clone(&not_asking)),
        };
        Ok(Self { not_asking, optional, required, ends_at })
    }
}

impl Shown<'_> {
    /// Configurations that let clients show certificates, and that make them.
    fn asking(&self, path: &Path, text: &[u8]) -> Result<(Arc<ServerConfig>, Arc<ServerConfig>), TlsError> {
        let unfit = |source| TlsError::ClientAuthority { path: path.display().to_string(), source };
        let mut roots = RootCertStore::empty();
        for certificate in certificates(path, text)? {
            roots.add(certificate).map_err(|source| self.unusable(source))?;
        }
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), self.provider.clone());
        let optional = builder.clone().allow_unauthenticated().build().map_err(unfit)?;
        let required = builder.build().map_err(unfit)?;
        Ok((self.configured(optional)?, self.configured(required)?))
    }

    fn configured(&self, clients: Arc<dyn ClientCertVerifier>) -> Result<Arc<ServerConfig>, TlsError> {
        let asks = clients.offer_client_auth();
        // TLS 1.2 and 1.3.
        let mut config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|source| self.unusable(source))?
            .with_client_cert_verifier(clients)
            .with_single_cert(self.chain.clone(), self.key.clone_key())
            .map_err(|source| self.unusable(source))?;
        config.alpn_protocols = Protocol::NAMES.map(|(name, _)| name.to_vec()).into();
        if asks {
            // A session that is resumed would go on with a certificate that has ended meanwhile.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        Ok(Arc::new(config))
    }

    fn unusable(&self, source: rustls::Error) -> TlsError {
        TlsError::Unusable {
            certificate: self.files.certificate.display().to_string(),
            key: self.files.key.display().to_string(),
            source,
        }
    }
}

/// The certificates of a file, at least one.
fn certificates(path: &Path, text: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsFileError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    match read {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(TlsFileError::NoCertificate { path: path.display().to_string() }),
    }
}
