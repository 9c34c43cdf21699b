//! The files of a certificate: read within bounds, the key's only if it is its owner's alone.

use std::fs::File;
use std::hash::{Hash, Hasher};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::files::{open_regular, read_at_most};

/// Longest file in PEM, in bytes: hundreds of certificates of an authority.
pub const PEM_FILE_BYTES_MAX: u64 = 1 << 20;

/// What a mode grants to the group and to everyone.
const OTHERS: u32 = 0o077;
/// The permissions of a mode.
const PERMISSIONS: u32 = 0o7777;

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
    /// It cannot be read.
    #[error("{path} cannot be read")]
    Unreadable {
        /// Which file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// It is longer than [`PEM_FILE_BYTES_MAX`].
    #[error("{path} is longer than {PEM_FILE_BYTES_MAX} bytes")]
    TooLong {
        /// Which file.
        path: String,
    },
    /// Others than its owner can read a key.
    #[error(
        "{path} can be read by others than its owner (mode {:04o}); run: chmod 600 {path}",
        mode & PERMISSIONS
    )]
    NotPrivate {
        /// Which file.
        path: String,
        /// Its mode.
        mode: u32,
    },
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
    read(path, open(path)?)
}

/// Reads a file with a key. It is wiped from memory when it is dropped.
///
/// # Errors
/// When it cannot be read, is no regular file or is too long, or when others than its owner can read it.
pub fn read_private_pem(path: &Path) -> Result<Zeroizing<Vec<u8>>, TlsFileError> {
    let file = open(path)?;
    let mode = file.metadata().map_err(|source| unreadable(path, source))?.permissions().mode();
    if mode & OTHERS != 0 {
        return Err(TlsFileError::NotPrivate { path: path.display().to_string(), mode });
    }
    read(path, file).map(Zeroizing::new)
}

fn open(path: &Path) -> Result<File, TlsFileError> {
    open_regular(path).map_err(|source| unreadable(path, source))
}

fn read(path: &Path, file: File) -> Result<Vec<u8>, TlsFileError> {
    let bytes = read_at_most(file, PEM_FILE_BYTES_MAX).map_err(|source| unreadable(path, source))?;
    bytes.ok_or_else(|| TlsFileError::TooLong { path: path.display().to_string() })
}

fn unreadable(path: &Path, source: io::Error) -> TlsFileError {
    TlsFileError::Unreadable { path: path.display().to_string(), source }
}
