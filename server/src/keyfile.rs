//! Files that hold a secret: made for their owner alone.

mod keys;
mod replace;
mod source;

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, ensure};
use rateguard_engine::secrets::{CredentialCipher, EncryptionKey, SecretText};

pub use keys::KeyFile;
pub use replace::{RotationLock, replace};
pub use source::KeyFileSource;

/// Owner reads and writes, nobody else.
const MODE: u32 = 0o600;
/// What a mode grants to the group and to everyone.
const OTHERS: u32 = 0o077;
/// The permissions of a mode.
const PERMISSIONS: u32 = 0o7777;
/// Most that is read of a file: many times what it may hold.
const FILE_BYTES_MAX: u64 = 16 * 1024;

/// Writes a new file for its owner alone.
///
/// # Errors
/// When it exists already or cannot be written.
pub fn create(path: &Path, text: &str) -> anyhow::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(MODE)
        .open(path)
        .with_context(|| format!("cannot make {}", path.display()))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    Ok(())
}

/// Draws a key that seals credentials and writes it to a new file.
///
/// # Errors
/// Without randomness, or when the file cannot be written.
pub fn create_encryption_key(path: &Path) -> anyhow::Result<()> {
    // It goes to the one file that keeps it.
    create(path, KeyFile::of(EncryptionKey::draw()?).to_text().expose())
}

/// Reads the keys that seal credentials; the cipher follows the file from then on.
///
/// # Errors
/// When the file is missing, may be read by others, or holds anything but keys.
pub fn read_encryption_key(path: &Path) -> anyhow::Result<CredentialCipher> {
    let (source, keys) = KeyFileSource::open(path)?;
    Ok(CredentialCipher::following(keys.ring(), source))
}

/// Reads a file that its owner alone may read.
///
/// # Errors
/// When it is missing, may be read by others, or is no text.
pub fn read_private(path: &Path) -> anyhow::Result<SecretText> {
    check_private(path)?;
    let file = std::fs::File::open(path).with_context(|| unreadable(path))?;
    let mut text = String::new();
    file.take(FILE_BYTES_MAX).read_to_string(&mut text).with_context(|| unreadable(path))?;
    Ok(SecretText::new(text))
}

/// Refuses a file that others than its owner can read.
///
/// # Errors
/// When they can, or the file cannot be looked at.
pub fn check_private(path: &Path) -> anyhow::Result<()> {
    let mode = std::fs::metadata(path).with_context(|| unreadable(path))?.permissions().mode();
    ensure!(
        mode & OTHERS == 0,
        "{0} can be read by others than its owner (mode {1:04o}); run: chmod 600 {0}",
        path.display(),
        mode & PERMISSIONS
    );
    Ok(())
}

fn unreadable(path: &Path) -> String {
    format!("cannot read {}; restore it from a backup, or name another one", path.display())
}

#[cfg(test)]
mod tests;
