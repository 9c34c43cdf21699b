//! The folder that holds the databases, locked against a second process.

use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::OpenError;

/// Only the owner enters the folder.
const FOLDER_MODE: u32 = 0o700;
/// Only the owner reads the files: they hold spending and sealed credentials.
const FILE_MODE: u32 = 0o600;
/// The file whose advisory lock stands for the folder.
const LOCK_FILE: &str = "rateguard.lock";

/// A data folder that this process has for itself until the last clone is dropped.
#[derive(Clone, Debug)]
pub struct DataFolder {
    path: PathBuf,
    // The lock lives as long as the file stays open.
    _lock: Arc<File>,
}

impl DataFolder {
    /// Opens a folder, making it (mode 0700) where it is missing, and locks it. The system frees
    /// the lock when the process ends, however it ends.
    ///
    /// # Errors
    /// [`OpenError::Locked`] when another process has it, [`OpenError::Folder`] when it cannot be
    /// made or written.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let refused = |source| OpenError::Folder { path: path.to_owned(), source };
        DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(path).map_err(refused)?;
        let lock = owned_file(&path.join(LOCK_FILE)).map_err(refused)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: Arc::new(lock) }),
            Err(TryLockError::WouldBlock) => Err(OpenError::Locked { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => Err(refused(source)),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of a file in it, which exists now with mode 0600. SQLite gives the files beside a
    /// database the same mode.
    pub(super) fn file(&self, name: &str) -> Result<PathBuf, OpenError> {
        let path = self.path.join(name);
        owned_file(&path).map_err(|source| OpenError::Folder { path: path.clone(), source })?;
        Ok(path)
    }
}

fn owned_file(path: &Path) -> io::Result<File> {
    let file =
        OpenOptions::new().create(true).truncate(false).write(true).read(true).mode(FILE_MODE).open(path)?;
    file.set_permissions(Permissions::from_mode(FILE_MODE))?;
    Ok(file)
}
