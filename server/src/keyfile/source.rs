//! The file of encryption keys as a server follows it.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rateguard_engine::secrets::{KeyRing, KeySource};

use super::KeyFile;

/// What tells one state of a file from another without reading it. The time of the last change of its
/// inode moves with its content, its permissions and its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    changed_seconds: i64,
    changed_nanos: i64,
    bytes: u64,
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let metadata = path.metadata().ok()?;
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            changed_seconds: metadata.ctime(),
            changed_nanos: metadata.ctime_nsec(),
            bytes: metadata.size(),
        })
    }
}

/// A file of keys that is read whenever it has changed.
#[derive(Debug)]
pub struct KeyFileSource {
    path: PathBuf,
    /// What was read last; `None` for a file that could not be looked at.
    seen: Mutex<Option<Stamp>>,
}

impl KeyFileSource {
    /// Reads a file, to follow it from then on.
    ///
    /// # Errors
    /// As [`KeyFile::read`].
    pub fn open(path: &Path) -> anyhow::Result<(Self, KeyFile)> {
        // The stamp first: a change after it is noticed.
        let seen = Stamp::of(path);
        let keys = KeyFile::read(path)?;
        Ok((Self { path: path.to_owned(), seen: Mutex::new(seen) }, keys))
    }
}

impl KeySource for KeyFileSource {
    fn changed(&self) -> Option<KeyRing> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Stamp::of(&self.path);
        if std::mem::replace(&mut *seen, now) == now {
            return None;
        }
        match KeyFile::read(&self.path) {
            Ok(keys) => Some(keys.ring()),
            Err(error) => {
                let failure = format!("{error:#}");
                tracing::error!(
                    failure,
                    "the encryption keys cannot be read; those known before stay in use"
                );
                None
            }
        }
    }
}
