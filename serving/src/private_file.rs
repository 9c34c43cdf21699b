//! Files that hold a secret: read within a bound, and only where they are their owner's alone. What is
//! looked at is the file that was opened, so that none is put in its place in between.

use std::fs::File;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use zeroize::Zeroizing;

use crate::files::{open_regular, read_at_most};

/// What a mode grants to the group and to everyone.
const OTHERS: u32 = 0o077;
/// The permissions of a mode.
const PERMISSIONS: u32 = 0o7777;

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("{path} cannot be read")]
    Unreadable {
        /// Which file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// It is longer than a file of its kind may be.
    #[error("{path} is longer than {bytes_max} bytes")]
    TooLong {
        /// Which file.
        path: String,
        /// How long it may be.
        bytes_max: u64,
    },
    /// Others than its owner can read a secret.
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
}

/// Reads a file with a secret. It is wiped from memory when it is dropped.
///
/// # Errors
/// When it cannot be read, is no regular file or is longer than `bytes_max`, or when others than its owner can read it.
pub fn read_private(path: &Path, bytes_max: u64) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let file = open(path)?;
    let mode = file.metadata().map_err(|source| unreadable(path, source))?.permissions().mode();
    if mode & OTHERS != 0 {
        return Err(FileError::NotPrivate { path: path.display().to_string(), mode });
    }
    read(path, file, bytes_max).map(Zeroizing::new)
}

/// Reads a file that everybody may read.
///
/// # Errors
/// When it cannot be read, is no regular file or is longer than `bytes_max`.
pub(crate) fn read_public(path: &Path, bytes_max: u64) -> Result<Vec<u8>, FileError> {
    read(path, open(path)?, bytes_max)
}

fn open(path: &Path) -> Result<File, FileError> {
    open_regular(path).map_err(|source| unreadable(path, source))
}

fn read(path: &Path, file: File, bytes_max: u64) -> Result<Vec<u8>, FileError> {
    let bytes = read_at_most(file, bytes_max).map_err(|source| unreadable(path, source))?;
    bytes.ok_or_else(|| FileError::TooLong { path: path.display().to_string(), bytes_max })
}

fn unreadable(path: &Path, source: io::Error) -> FileError {
    FileError::Unreadable { path: path.display().to_string(), source }
}
