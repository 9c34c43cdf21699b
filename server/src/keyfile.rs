//! Files that hold a secret: made for their owner alone.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, bail, ensure};
use rateguard_engine::secrets::{CredentialCipher, random};

/// Owner reads and writes, nobody else.
const MODE: u32 = 0o600;
/// What a mode grants to the group and to everyone.
const OTHERS: u32 = 0o077;
/// The permissions of a mode.
const PERMISSIONS: u32 = 0o7777;
/// Bytes of a key that seals credentials.
const KEY_BYTES: usize = 32;

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
    create(path, &format!("{}\n", hex::encode(random::<KEY_BYTES>()?)))
}

/// Reads the key that seals credentials.
///
/// # Errors
/// When the file is missing, may be read by others, or holds anything but 64 hexadecimal digits.
pub fn read_encryption_key(path: &Path) -> anyhow::Result<CredentialCipher> {
    check_private(path)?;
    let text = std::fs::read_to_string(path).with_context(|| unreadable(path))?;
    let Ok(key) = hex::decode(text.trim()) else {
        bail!("{} must hold 64 hexadecimal digits", path.display());
    };
    CredentialCipher::new(&key).with_context(|| path.display().to_string())
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
