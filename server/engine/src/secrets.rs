//! Secrets: API keys, which are shown once and kept as hashes, and the upstream credentials, which
//! are kept encrypted.

use std::fmt;

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, Key as AesKey, KeyInit, Nonce};
use rateguard_core::ids::{ApiId, SigningKeyId, WorkspaceId};
use sha2::{Digest, Sha256};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::resources::{KeyLabel, SealedCredential};

/// Random characters of a key.
const KEY_RANDOM_CHARS: usize = 32;
/// Characters of a key that may be shown.
pub const KEY_PREFIX_CHARS: usize = 12;
/// Longest text that can be a key; anything longer is refused before it is hashed.
pub const KEY_BYTES_MAX: usize = 64;
/// Bytes of an AES-GCM nonce.
const NONCE_BYTES: usize = 12;
/// Bytes of the encryption key's id in front of a ciphertext.
const KEY_ID_BYTES: usize = 4;

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
    /// The ciphertext is damaged, was sealed for something else, or under another key.
    #[error("the credential cannot be decrypted with the configured key")]
    Undecipherable,
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

/// Seals and opens upstream credentials with AES-256-GCM. The workspace and the API are associated
/// data, so that a ciphertext copied to another row does not open there.
pub struct CredentialCipher {
    key_id: [u8; KEY_ID_BYTES],
    cipher: Aes256Gcm,
}

impl fmt::Debug for CredentialCipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CredentialCipher({:02x?})", self.key_id)
    }
}

/// What is sealed to know a key again.
const CHECK_TEXT: &[u8] = b"rateguard";
/// The associated data of that text, which no credential has.
const CHECK_ASSOCIATED: &[u8] = b"rateguard encryption check v1";

impl CredentialCipher {
    /// A cipher with this 32-byte key.
    ///
    /// # Errors
    /// [`SecretError::KeyLength`].
    pub fn new(key: &[u8]) -> Result<Self, SecretError> {
        let bytes: &[u8; 32] = key.try_into().map_err(|_| SecretError::KeyLength)?;
        let digest = Sha256::digest(key);
        let mut key_id = [0; KEY_ID_BYTES];
        key_id.copy_from_slice(&digest[..KEY_ID_BYTES]);
        Ok(Self { key_id, cipher: Aes256Gcm::new(&AesKey::<Aes256Gcm>::from(*bytes)) })
    }

    /// The key's name: the beginning of its hash, in hexadecimal digits.
    pub fn key_id(&self) -> String {
        format!("{:08x}", u32::from_be_bytes(self.key_id))
    }

    /// Seals a known text, by which [`CredentialCipher::knows`] finds out later whether it has the
    /// same key.
    ///
    /// # Errors
    /// [`SecretError::NoRandomness`].
    pub fn seal_check(&self) -> Result<Vec<u8>, SecretError> {
        self.encrypt(CHECK_TEXT, CHECK_ASSOCIATED)
    }

    /// Whether a known text was sealed with this key.
    pub fn knows(&self, check: &[u8]) -> bool {
        self.decrypt(check, CHECK_ASSOCIATED).is_ok_and(|text| text == CHECK_TEXT)
    }

    /// Encrypts a credential for one API.
    ///
    /// # Errors
    /// [`SecretError::NoRandomness`].
    pub fn seal(
        &self,
        workspace: &WorkspaceId,
        api: &ApiId,
        secret: &SecretText,
    ) -> Result<SealedCredential, SecretError> {
        self.seal_as(&associated_data(workspace, api), secret).map(SealedCredential)
    }

    /// Decrypts a credential of one API.
    ///
    /// # Errors
    /// [`SecretError::Undecipherable`].
    pub fn open(
        &self,
        workspace: &WorkspaceId,
        api: &ApiId,
        sealed: &SealedCredential,
    ) -> Result<SecretText, SecretError> {
        self.open_as(&associated_data(workspace, api), &sealed.0)
    }

    /// Encrypts the secret half of a key that signs access tokens.
    ///
    /// # Errors
    /// [`SecretError::NoRandomness`].
    pub fn seal_signing_key(&self, id: &SigningKeyId, secret: &SecretText) -> Result<Vec<u8>, SecretError> {
        self.seal_as(&signing_key_data(id), secret)
    }

    /// Decrypts the secret half of a key that signs access tokens.
    ///
    /// # Errors
    /// [`SecretError::Undecipherable`].
    pub fn open_signing_key(&self, id: &SigningKeyId, sealed: &[u8]) -> Result<SecretText, SecretError> {
        self.open_as(&signing_key_data(id), sealed)
    }

    fn seal_as(&self, associated: &[u8], secret: &SecretText) -> Result<Vec<u8>, SecretError> {
        self.encrypt(secret.expose().as_bytes(), associated)
    }

    fn open_as(&self, associated: &[u8], sealed: &[u8]) -> Result<SecretText, SecretError> {
        let opened = self.decrypt(sealed, associated)?;
        String::from_utf8(opened).map(SecretText::new).map_err(|_| SecretError::Undecipherable)
    }

    fn encrypt(&self, text: &[u8], associated: &[u8]) -> Result<Vec<u8>, SecretError> {
        let nonce = random::<NONCE_BYTES>()?;
        let payload = Payload { msg: text, aad: associated };
        let sealed =
            self.cipher.encrypt(&Nonce::from(nonce), payload).map_err(|_| SecretError::Undecipherable)?;
        Ok([&self.key_id[..], &nonce[..], &sealed[..]].concat())
    }

    fn decrypt(&self, sealed: &[u8], associated: &[u8]) -> Result<Vec<u8>, SecretError> {
        let damaged = SecretError::Undecipherable;
        let rest = sealed.strip_prefix(&self.key_id[..]).ok_or(damaged)?;
        let (nonce, ciphertext) = rest.split_first_chunk::<NONCE_BYTES>().ok_or(damaged)?;
        let payload = Payload { msg: ciphertext, aad: associated };
        self.cipher.decrypt(&Nonce::from(*nonce), payload).map_err(|_| damaged)
    }
}

fn signing_key_data(id: &SigningKeyId) -> Vec<u8> {
    format!("rateguard signing key v1\0{id}").into_bytes()
}

fn associated_data(workspace: &WorkspaceId, api: &ApiId) -> Vec<u8> {
    format!("rateguard credential v1\0{workspace}\0{api}").into_bytes()
}
