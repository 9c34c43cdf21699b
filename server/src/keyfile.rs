//! Files that hold a secret: made for their owner alone.

mod keys;
mod replace;
mod source;

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::Context;
use rateguard_engine::secrets::{CredentialCipher, EncryptionKey, SecretText};
use rateguard_serving::private_file::{self, FileError};

pub use keys::KeyFile;
pub use replace::{RotationLock, replace};
pub use source::KeyFileSource;

/// Owner reads and writes, nobody else.
const MODE: u32 = 0o600;
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
/// When it is missing, may be read by others, is longer than any file of a secret, or is no text.
pub fn read_private(path: &Path) -> anyhow::Result<SecretText> {
    let bytes = match private_file::read_private(path, FILE_BYTES_MAX) {
        Err(FileError::Unreadable { source, .. }) => return Err(source).with_context(|| unreadable(path)),
        read => read?,
    };
    let text = str::from_utf8(&bytes).with_context(|| format!("{} is no text", path.display()))?;
    Ok(SecretText::new(text.to_owned()))
}

/// Reads a file that holds one secret, without the ends of lines around it.
///
/// # Errors
/// As [`read_private`].
pub fn read_secret(path: &Path) -> anyhow::Result<SecretText> {
    // The one secret is taken out of the file's text, which is wiped.
    Ok(SecretText::new(read_private(path)?.expose().trim().to_owned()))
}

fn unreadable(path: &Path) -> String {
    format!("cannot read {}; restore it from a backup, or name another one", path.display())
}

#[cfg(test)]
mod tests;
