//! Secrets: API keys, which are shown once and kept as hashes, and what is kept encrypted: upstream
//! credentials and the keys that sign access tokens.

mod cipher;
mod ring;

use std::fmt;

use sha2::{Digest, Sha256};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::resources::KeyLabel;

pub use cipher::{CredentialCipher, KeySource, Purpose, SealedPlace};
pub use ring::{EncryptionKey, EncryptionKeyId, KEY_BYTES, KEYS_PER_RING_MAX, KeyRing};

/// Random characters of a key.
const KEY_RANDOM_CHARS: usize = 32;
/// Characters of a key that may be shown.
pub const KEY_PREFIX_CHARS: usize = 12;
/// Longest text that can be a key; anything longer is refused before it is hashed.
pub const KEY_BYTES_MAX: usize = 64;

/// A secret as text. It prints as `[redacted]` and is wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(Zeroizing<String>);

impl SecretText {
    /// Takes a text as a secret.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The secret itself. Say why where this is called.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Why a secret could not be handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SecretError {
    /// The system gave no randomness.
    #[error("the system gave no random bytes")]
    NoRandomness,
    /// The ciphertext is damaged, or was sealed for something else.
    #[error("it cannot be decrypted with the key that it names")]
    Undecipherable,
    /// It was sealed with a key that is not configured.
    #[error("it is sealed with the encryption key {0}, which the key file does not hold")]
    UnknownKey(EncryptionKeyId),
    /// An encryption key is not 32 bytes.
    #[error("an encryption key must be 32 bytes")]
    KeyLength,
}

/// Draws random bytes for ids and secrets.
///
/// # Errors
/// [`SecretError::NoRandomness`] when the system has none.
pub fn random<const N: usize>() -> Result<[u8; N], SecretError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| SecretError::NoRandomness)?;
    Ok(bytes)
}

/// Draws a new key: `rg_live_` or `rg_test_` and 32 random characters of `[0-9A-Za-z]`, some 190
/// bits.
///
/// # Errors
/// [`SecretError::NoRandomness`].
pub fn draw_key(label: KeyLabel) -> Result<SecretText, SecretError> {
    let mut text = String::from(match label {
        KeyLabel::Live => "rg_live_",
        KeyLabel::Test => "rg_test_",
    });
    let wanted = text.len() + KEY_RANDOM_CHARS;
    while text.len() < wanted {
        // Only bytes below the largest multiple of 62 are used, so that no character is likelier.
        let usable = random::<64>()?.into_iter().filter(|byte| usize::from(*byte) < 4 * ALPHABET.len());
        text.extend(
            usable.take(wanted - text.len()).map(|b| char::from(ALPHABET[usize::from(b) % ALPHABET.len()])),
        );
    }
    Ok(SecretText::new(text))
}

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The hash under which a key is known. Keys are random, so a plain hash cannot be guessed back.
pub fn key_hash(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

/// The part of a key that may be shown.
pub fn key_prefix(secret: &str) -> String {
    secret.chars().take(KEY_PREFIX_CHARS).collect()
}

#[cfg(test)]
mod tests;
