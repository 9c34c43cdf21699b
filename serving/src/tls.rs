//! TLS for listeners: the certificate that a process serves, read from files and replaced when they
//! change, without touching a connection that is open.
//!
//! Every connection asks for the configuration of the moment. What is read anew takes its place only as
//! a whole and only if it can be used; until then the old one goes on.

mod configuration;
mod expiry;
mod files;
mod watch;

use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use parking_lot::Mutex;
use rustls::ServerConfig;

use self::configuration::Loaded;
pub use self::expiry::EXPIRY_TOLD_DAYS;
pub use self::files::{PEM_FILE_BYTES_MAX, TlsFileError, TlsFiles, read_pem, read_private_pem};
pub use self::watch::LOOK_EVERY;

/// Whether a listener wants its clients' certificates. One that is shown has to be under the clients'
/// authority in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificates {
    /// They are not asked for.
    NotAsked,
    /// Who has one may show it.
    Optional,
    /// Who shows none is not served.
    Required,
}

/// The certificate of a process, as its files hold it.
pub struct Certificates {
    files: TlsFiles,
    served: ArcSwap<Loaded>,
    hasher: RandomState,
    /// What the files held when they were last looked at, as a hash.
    seen: Mutex<u64>,
}

/// How one listener encrypts. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Tls {
    certificates: Arc<Certificates>,
    clients: ClientCertificates,
}

/// A certificate that cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// One of the files.
    #[error(transparent)]
    File(#[from] TlsFileError),
    /// Each file can be read, and yet they make no server.
    #[error("the certificate {certificate} with the key {key} cannot be used")]
    Unusable {
        /// The file with the certificate.
        certificate: String,
        /// The file with its key.
        key: String,
        /// What rustls says.
        source: rustls::Error,
    },
    /// The authority of clients is none.
    #[error("{path} holds no certificate of an authority that clients could be under")]
    ClientAuthority {
        /// The file.
        path: String,
        /// What rustls says.
        source: rustls::server::VerifierBuilderError,
    },
    /// A certificate that would replace another one has ended already.
    #[error("the certificate {certificate} ended at {ended}")]
    Ended {
        /// The file.
        certificate: String,
        /// When it ended.
        ended: Timestamp,
    },
    /// Certificates of clients are wanted, and nothing says under which authority.
    #[error("certificates of clients cannot be checked without the certificate of their authority")]
    NoClientAuthority,
}

impl Certificates {
    /// Reads the files for the first time. A certificate that has ended is served all the same, and
    /// [`Certificates::keep_current`] says so: there is nothing better.
    ///
    /// # Errors
    /// When a file cannot be read, others than its owner can read the key, or they do not fit together.
    pub fn load(files: TlsFiles) -> Result<Arc<Self>, TlsError> {
        let hasher = RandomState::new();
        let texts = files.read()?;
        let seen = Mutex::new(hasher.hash_one(&texts));
        let served = ArcSwap::from_pointee(Loaded::new(&files, &texts)?);
        Ok(Arc::new(Self { files, served, hasher, seen }))
    }

    /// How a listener encrypts with it.
    ///
    /// # Errors
    /// When clients' certificates are wanted and the files name no authority for them.
    pub fn tls(self: &Arc<Self>, clients: ClientCertificates) -> Result<Tls, TlsError> {
        if clients != ClientCertificates::NotAsked && self.files.client_authority.is_none() {
            return Err(TlsError::NoClientAuthority);
        }
        Ok(Tls { certificates: Arc::clone(self), clients })
    }

    /// When the certificate that is served ends, or the first of those above it in its file.
    pub fn ends_at(&self) -> Timestamp {
        self.served.load().ends_at
    }

    /// Reads the files anew and serves what they hold, from the next connection on.
    ///
    /// # Errors
    /// As [`Certificates::load`], and for a certificate that has ended by `now`; what was served before
    /// still is.
    pub fn reload(&self, now: Timestamp) -> Result<(), TlsError> {
        self.look(now, false).unwrap_or(Ok(()))
    }

    /// The same if the files hold something else than at the last look, whatever came of that.
    fn reload_if_changed(&self, now: Timestamp) -> Option<Result<(), TlsError>> {
        self.look(now, true)
    }

    fn look(&self, now: Timestamp, only_if_changed: bool) -> Option<Result<(), TlsError>> {
        // Held throughout, so that of two looks the later one counts.
        let mut seen = self.seen.lock();
        let texts = self.files.read();
        let hash = match &texts {
            Ok(texts) => self.hasher.hash_one(texts),
            Err(error) => self.hasher.hash_one(format!("{error:?}")),
        };
        if only_if_changed && *seen == hash {
            return None;
        }
        *seen = hash;
        Some(texts.map_err(TlsError::from).and_then(|texts| self.replace(&texts, now)))
    }

    fn replace(&self, texts: &files::Texts, now: Timestamp) -> Result<(), TlsError> {
        let loaded = Loaded::new(&self.files, texts)?;
        if loaded.ends_at <= now {
            let certificate = self.files.certificate.display().to_string();
            return Err(TlsError::Ended { certificate, ended: loaded.ends_at });
        }
        self.served.store(Arc::new(loaded));
        Ok(())
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ends_at = self.ends_at();
        formatter
            .debug_struct("Certificates")
            .field("files", &self.files)
            .field("ends_at", &ends_at)
            .finish_non_exhaustive()
    }
}

impl Tls {
    /// What the next connection is served with.
    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        let loaded = self.certificates.served.load();
        Arc::clone(match self.clients {
            ClientCertificates::NotAsked => &loaded.not_asking,
            ClientCertificates::Optional => &loaded.optional,
            ClientCertificates::Required => &loaded.required,
        })
    }
}

#[cfg(test)]
pub(crate) mod tests;
