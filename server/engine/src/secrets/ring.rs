//! The keys that seal, and which of them is in use.

use std::fmt;

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::{SecretError, SecretText, random};

/// Bytes of a key: AES-256.
pub const KEY_BYTES: usize = 32;
/// Keys of one ring: one in use, and those that something old may still be sealed with.
pub const KEYS_PER_RING_MAX: usize = 16;
/// Bytes of a key's id, which stands in front of every ciphertext.
pub(super) const KEY_ID_BYTES: usize = 4;
/// Fewer different bytes than this has no key that was drawn: 32 random ones have some 30, and below 16
/// they are with a chance of less than one in 10^16.
const DIFFERENT_BYTES_MIN: usize = 16;

/// The name of a key: the beginning of its hash.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EncryptionKeyId(pub(super) [u8; KEY_ID_BYTES]);

impl EncryptionKeyId {
    /// The key that a ciphertext names; `None` for what is too short to be one.
    pub fn of_sealed(sealed: &[u8]) -> Option<Self> {
        sealed.first_chunk().copied().map(Self)
    }
}

impl fmt::Display for EncryptionKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", u32::from_be_bytes(self.0))
    }
}

impl fmt::Debug for EncryptionKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A key that seals. It prints as its id and is wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct EncryptionKey {
    id: EncryptionKeyId,
    bytes: Zeroizing<[u8; KEY_BYTES]>,
}

impl EncryptionKey {
    /// Takes 32 bytes as a key.
    ///
    /// # Errors
    /// [`SecretError::KeyLength`].
    pub fn new(key: &[u8]) -> Result<Self, SecretError> {
        let bytes: [u8; KEY_BYTES] = key.try_into().map_err(|_| SecretError::KeyLength)?;
        let digest: [u8; 32] = Sha256::digest(key).into();
        let mut id = [0; KEY_ID_BYTES];
        id.copy_from_slice(&digest[..KEY_ID_BYTES]);
        Ok(Self { id: EncryptionKeyId(id), bytes: Zeroizing::new(bytes) })
    }

    /// Draws a new key.
    ///
    /// # Errors
    /// [`SecretError::NoRandomness`].
    pub fn draw() -> Result<Self, SecretError> {
        Self::new(Zeroizing::new(random::<KEY_BYTES>()?).as_slice())
    }

    /// Its name.
    pub fn id(&self) -> EncryptionKeyId {
        self.id
    }

    /// Its bytes as hexadecimal digits, for the file that keeps it.
    pub fn to_hex(&self) -> SecretText {
        let digits = self.bytes.iter().map(|byte| format!("{byte:02x}"));
        SecretText::new(digits.collect())
    }

    /// Whether it was surely not drawn at random: somebody has typed it, or took it out of an example.
    pub fn is_guessable(&self) -> bool {
        let different: std::collections::BTreeSet<&u8> = self.bytes.iter().collect();
        // Such as 000102…1f, whose bytes are all different.
        let mut steps = self.bytes.iter().zip(self.bytes.iter().skip(1)).map(|(a, b)| b.wrapping_sub(*a));
        let first = steps.next();
        different.len() < DIFFERENT_BYTES_MIN || steps.all(|step| Some(step) == first)
    }

    pub(super) fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.bytes
    }
}

impl fmt::Debug for EncryptionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EncryptionKey({})", self.id)
    }
}

/// The keys of an installation: the first one seals, and all of them open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRing {
    sealing: EncryptionKey,
    others: Vec<EncryptionKey>,
}

impl KeyRing {
    /// A ring of the key that seals and of others, of which the first [`KEYS_PER_RING_MAX`] are taken.
    pub fn new(sealing: EncryptionKey, others: Vec<EncryptionKey>) -> Self {
        let mut ring = Self { sealing, others: Vec::new() };
        for key in others {
            ring.add(key);
        }
        ring
    }

    /// The key that seals.
    pub fn sealing(&self) -> &EncryptionKey {
        &self.sealing
    }

    /// Whether there is more than one key.
    pub fn has_others(&self) -> bool {
        !self.others.is_empty()
    }

    /// The key of an id.
    pub fn find(&self, id: EncryptionKeyId) -> Option<&EncryptionKey> {
        self.keys().find(|key| key.id == id)
    }

    /// All of them, the one that seals first.
    pub fn keys(&self) -> impl Iterator<Item = &EncryptionKey> {
        std::iter::once(&self.sealing).chain(&self.others)
    }

    /// Adds a key that opens, unless it is there or the ring is full.
    pub(super) fn add(&mut self, key: EncryptionKey) {
        if self.find(key.id).is_none() && self.others.len() + 1 < KEYS_PER_RING_MAX {
            self.others.push(key);
        }
    }
}
