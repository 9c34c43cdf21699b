//! Authorities of certificates that live for one test, and files with what they issue.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use tempfile::TempDir;

use crate::tls::TlsFiles;

/// The name in every certificate.
pub(crate) const NAME: &str = "localhost";
/// A year that is far enough.
pub(crate) const FAR_YEAR: i32 = 4_000;

/// Who signs certificates.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key, in PEM.
pub(crate) struct Issued {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// A folder with the files of a listener.
pub(crate) struct Folder(TempDir);

impl Authority {
    /// One with a name of its own.
    pub(crate) fn new() -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let mut params = CertificateParams::default();
        let name = format!("authority {}", MADE.fetch_add(1, Ordering::Relaxed));
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate that begins in 1975 and ends as the year begins.
    pub(crate) fn issue(&self, end_year: i32) -> Issued {
        let mut params = CertificateParams::new([NAME.to_owned()]).unwrap();
        params.not_after = date_time_ymd(end_year, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap().pem();
        Issued { certificate, key: key.serialize_pem() }
    }
}

impl Folder {
    /// With a certificate of this authority.
    pub(crate) fn with(authority: &Authority) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.put(&authority.issue(FAR_YEAR));
        folder
    }

    pub(crate) fn put(&self, issued: &Issued) {
        self.write("certificate.pem", &issued.certificate);
        self.write("key.pem", &issued.key);
    }

    /// Writes a file for its owner alone.
    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
        self.permit(name, 0o600);
    }

    pub(crate) fn permit(&self, name: &str, mode: u32) {
        std::fs::set_permissions(self.path(name), Permissions::from_mode(mode)).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The files, of which clients need certificates of this authority if it is given.
    pub(crate) fn files(&self, clients: Option<&Authority>) -> TlsFiles {
        let client_authority = clients.map(|authority| {
            self.write("clients.pem", &authority.pem());
            self.path("clients.pem")
        });
        TlsFiles { certificate: self.path("certificate.pem"), key: self.path("key.pem"), client_authority }
    }
}

/// What a path is in a message.
pub(crate) fn shown(path: &Path) -> String {
    path.display().to_string()
}
