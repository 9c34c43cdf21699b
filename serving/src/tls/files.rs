//! The files of a certificate: read within bounds, the key's only if it is its owner's alone.

use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::private_file::{FileError, read_private, read_public};

/// Longest file in PEM, in bytes: hundreds of certificates of an authority.
pub const PEM_FILE_BYTES_MAX: u64 = 1 << 20;

/// Where a certificate lies, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, followed by those between it and its authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The certificates of the authorities that clients' ones have to be under; `None` where clients
    /// show none.
    pub client_authority: Option<PathBuf>,
}

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsFileError {
    /// It cannot be read, or others can read a key.
    #[error(transparent)]
    File(#[from] FileError),
    /// There is no certificate in it.
    #[error("{path} holds no certificate in PEM")]
    NoCertificate {
        /// Which file.
        path: String,
    },
    /// There is no key in it. What it holds instead is not told: it may be a damaged key.
    #[error("{path} holds no private key in PEM")]
    NoKey {
        /// Which file.
        path: String,
    },
}

/// What the files hold. The key is wiped when it is dropped.
#[derive(Hash)]
pub(super) struct Texts {
    pub(super) certificate: Vec<u8>,
    pub(super) key: Secret,
    pub(super) client_authority: Option<Vec<u8>>,
}

/// Bytes that are wiped when they are dropped.
pub(super) struct Secret(pub(super) Zeroizing<Vec<u8>>);

impl TlsFiles {
    pub(super) fn read(&self) -> Result<Texts, TlsFileError> {
        Ok(Texts {
            certificate: read_pem(&self.certificate)?,
            key: Secret(read_private_pem(&self.key)?),
            client_authority: self.client_authority.as_deref().map(read_pem).transpose()?,
        })
    }
}

impl Hash for Secret {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.as_slice().hash(state);
    }
}

/// Reads a file that everybody may read.
///
/// # Errors
/// When it cannot be read, is no regular file or is too long.
pub fn read_pem(path: &Path) -> Result<Vec<u8>, TlsFileError> {
    Ok(read_public(path, PEM_FILE_BYTES_MAX)?)
}

/// Reads a file with a key. It is wiped from memory when it is dropped.
///
/// # Errors
/// When it cannot be read, is no regular file or is too long, or when others than its owner can read it.
pub fn read_private_pem(path: &Path) -> Result<Zeroizing<Vec<u8>>, TlsFileError> {
    Ok(read_private(path, PEM_FILE_BYTES_MAX)?)
}
