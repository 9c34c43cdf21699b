//! Replacing a file of keys so that whoever reads it finds the old one or the new one, whatever is cut
//! off in between.

use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::{KeyFile, MODE};

/// What is put behind the file's name for the one that is being written.
const UNFINISHED: &str = ".new";
/// And for the one whose lock stands for a rotation.
const LOCK: &str = ".lock";

/// Puts other keys into a file. It keeps its owner, and nobody else may read it.
///
/// # Errors
/// When nothing was written, or it may not outlive a loss of power.
pub fn replace(path: &Path, keys: &KeyFile) -> anyhow::Result<()> {
    // What the name leads to is replaced, not a link to it.
    let path = path.canonicalize().with_context(|| format!("cannot find {}", path.display()))?;
    replace_real(&path, keys).with_context(|| {
        format!("{} cannot be replaced; it is as it was, or holds all of its keys and more", path.display())
    })
}

fn replace_real(path: &Path, keys: &KeyFile) -> io::Result<()> {
    let unfinished = beside(path, UNFINISHED);
    // One that was left behind was never in use: a key is used when it stands under its name.
    match std::fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let before = path.metadata()?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(&unfinished)?;
    // A server that runs as somebody else must be able to read it.
    fchown(&file, Some(before.uid()), Some(before.gid()))?;
    // It goes to the one file that keeps it.
    file.write_all(keys.to_text().expose().as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&unfinished, path)?;
    File::open(folder_of(path))?.sync_all()
}

fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// Held by the one that rotates a file's keys, until it is dropped or its process ends.
#[derive(Debug)]
pub struct RotationLock {
    _file: File,
}

impl RotationLock {
    /// Takes it.
    ///
    /// # Errors
    /// When somebody else has it.
    pub fn take(path: &Path) -> anyhow::Result<Self> {
        let path = path.canonicalize().with_context(|| super::unreadable(path))?;
        let place = beside(&path, LOCK);
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(MODE).open(&place);
        let file = file.with_context(|| format!("cannot make {}", place.display()))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => {
                bail!("somebody else is rotating the keys of {}", path.display())
            }
            Err(TryLockError::Error(error)) => Err(error).with_context(|| place.display().to_string()),
        }
    }
}
