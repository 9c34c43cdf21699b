//! Sealing and opening with AES-256-GCM, by keys that may change while the process runs.

use std::fmt;
use std::sync::Arc;

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, Key as AesKey, KeyInit, Nonce};
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rateguard_core::ids::{ApiId, SigningKeyId, WorkspaceId};
use zeroize::Zeroizing;

use super::ring::{EncryptionKey, EncryptionKeyId, KEY_ID_BYTES, KeyRing};
use super::{SecretError, SecretText, random};
use crate::resources::SealedCredential;

/// Bytes of an AES-GCM nonce.
const NONCE_BYTES: usize = 12;

/// Where keys come from that may change while the process runs.
pub trait KeySource: Send + Sync + 'static {
    /// The keys as they are now, unless they were given before. A source that cannot be read says so
    /// itself, and gives none.
    fn changed(&self) -> Option<KeyRing>;
}

/// What an installation is for. The text by which its key is known says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Whatever its owner wants.
    Own,
    /// To show what there is; its secrets have been printed.
    Demo,
}

impl Purpose {
    const ALL: [Self; 2] = [Self::Own, Self::Demo];

    /// What is sealed to know a key again.
    fn text(self) -> &'static [u8] {
        match self {
            Self::Own => b"rateguard",
            Self::Demo => b"rateguard demo",
        }
    }
}

/// Where something sealed stands. It is associated data of the seal, so that a ciphertext which was
/// copied to another place does not open there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SealedPlace {
    /// The text by which the installation's key is known.
    Check,
    /// The secret half of a key that signs access tokens.
    SigningKey(SigningKeyId),
    /// The credential of an API.
    Credential(WorkspaceId, ApiId),
}

impl SealedPlace {
    fn associated(&self) -> Vec<u8> {
        match self {
            Self::Check => b"rateguard encryption check v1".to_vec(),
            Self::SigningKey(id) => format!("rateguard signing key v1\0{id}").into_bytes(),
            Self::Credential(workspace, api) => {
                format!("rateguard credential v1\0{workspace}\0{api}").into_bytes()
            }
        }
    }
}

impl fmt::Display for SealedPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Check => f.write_str("the installation's check text"),
            Self::SigningKey(id) => write!(f, "signing key {id}"),
            Self::Credential(workspace, api) => write!(f, "the credential of API {api} of {workspace}"),
        }
    }
}

/// Seals and opens what the installation keeps encrypted. Clones share their keys.
#[derive(Clone)]
pub struct CredentialCipher {
    shared: Arc<Shared>,
}

struct Shared {
    ring: ArcSwap<KeyRing>,
    source: Option<Box<dyn KeySource>>,
    /// Keys are taken in by one at a time.
    taken: Mutex<Taken>,
}

/// What the source has said last.
struct Taken {
    /// The keys of it that were taken in last.
    listed: KeyRing,
    /// Keys of it that were not, since the one in use is not among them.
    foreign: Option<KeyRing>,
}

impl fmt::Debug for CredentialCipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<EncryptionKeyId> = self.ring().keys().map(EncryptionKey::id).collect();
        f.debug_tuple("CredentialCipher").field(&ids).finish()
    }
}

impl CredentialCipher {
    /// A cipher with this 32-byte key.
    ///
    /// # Errors
    /// [`SecretError::KeyLength`].
    pub fn new(key: &[u8]) -> Result<Self, SecretError> {
        Ok(Self::of(KeyRing::new(EncryptionKey::new(key)?, Vec::new()), None))
    }

    /// A cipher with the keys of a ring.
    pub fn with_ring(ring: KeyRing) -> Self {
        Self::of(ring, None)
    }

    /// A cipher with the keys of a ring, which takes those of the source whenever they have changed.
    pub fn following(ring: KeyRing, source: impl KeySource) -> Self {
        Self::of(ring, Some(Box::new(source)))
    }

    fn of(ring: KeyRing, source: Option<Box<dyn KeySource>>) -> Self {
        let taken = Mutex::new(Taken { listed: ring.clone(), foreign: None });
        Self { shared: Arc::new(Shared { ring: ArcSwap::from_pointee(ring), source, taken }) }
    }

    /// The keys as of now.
    pub fn ring(&self) -> Arc<KeyRing> {
        self.shared.ring.load_full()
    }

    /// The name of the key that seals.
    pub fn key_id(&self) -> EncryptionKeyId {
        self.shared.ring.load().sealing().id()
    }

    /// Takes in what the source says now, and tells whether something has changed. Keys that it no longer
    /// has go on opening, for what is on its way. Keys without the one in use are not taken: see
    /// [`CredentialCipher::foreign`].
    pub fn refresh(&self) -> bool {
        let mut taken = self.shared.taken.lock();
        let Some(ring) = self.shared.source.as_ref().and_then(|source| source.changed()) else {
            return false;
        };
        if ring.find(self.key_id()).is_none() {
            taken.foreign = Some(ring);
            return false;
        }
        self.install(&mut taken, ring);
        true
    }

    /// Keys of the source that were not taken in, for the one in use is not among them: a mistake, or a
    /// rotation the middle of which was missed. What is stored tells which: see
    /// [`CredentialCipher::adopt_foreign`].
    pub fn foreign(&self) -> Option<KeyRing> {
        self.shared.taken.lock().foreign.clone()
    }

    /// Takes those keys in: it is known that the installation is sealed with one of them.
    pub fn adopt_foreign(&self) {
        let mut taken = self.shared.taken.lock();
        if let Some(ring) = taken.foreign.take() {
            self.install(&mut taken, ring);
        }
    }

    /// Forgets the keys that the source no longer has. Nothing may be sealed with them.
    pub fn forget_retired(&self) {
        let taken = self.shared.taken.lock();
        self.shared.ring.store(Arc::new(taken.listed.clone()));
    }

    fn install(&self, taken: &mut Taken, listed: KeyRing) {
        let mut ring = listed.clone();
        for key in self.ring().keys() {
            ring.add(key.clone());
        }
        self.shared.ring.store(Arc::new(ring));
        *taken = Taken { listed, foreign: None };
    }

    /// Seals a known text, by which [`CredentialCipher::knows`] finds out later whether it has the
    /// same key.
    ///
    /// # Errors
    /// [`SecretError::NoRandomness`].
    pub fn seal_check(&self, purpose: Purpose) -> Result<Vec<u8>, SecretError> {
        encrypt(self.ring().sealing(), purpose.text(), &SealedPlace::Check)
    }

    /// Whether a known text was sealed with one of the keys.
    pub fn knows(&self, check: &[u8]) -> bool {
        self.purpose(check).is_some()
    }

    /// What the installation is for of which this is the known text; `None` where another key sealed it.
    pub fn purpose(&self, check: &[u8]) -> Option<Purpose> {
        let text = self.decrypt(check, &SealedPlace::Check).ok()?;
        Purpose::ALL.into_iter().find(|purpose| *text == purpose.text())
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
        let place = SealedPlace::Credential(workspace.clone(), api.clone());
        self.seal_at(&place, secret).map(SealedCredential)
    }

    /// Decrypts a credential of one API.
    ///
    /// # Errors
    /// [`SecretError::Undecipherable`], [`SecretError::UnknownKey`].
    pub fn open(
        &self,
        workspace: &WorkspaceId,
        api: &ApiId,
        sealed: &SealedCredential,
    ) -> Result<SecretText, SecretError> {
        self.open_at(&SealedPlace::Credential(workspace.clone(), api.clone()), &sealed.0)
    }

    /// Encrypts the secret half of a key that signs access tokens.
    ///
    /// # Errors
    /// [`SecretError::NoRandomness`].
    pub fn seal_signing_key(&self, id: &SigningKeyId, secret: &SecretText) -> Result<Vec<u8>, SecretError> {
        self.seal_at(&SealedPlace::SigningKey(id.clone()), secret)
    }

    /// Decrypts the secret half of a key that signs access tokens.
    ///
    /// # Errors
    /// [`SecretError::Undecipherable`], [`SecretError::UnknownKey`].
    pub fn open_signing_key(&self, id: &SigningKeyId, sealed: &[u8]) -> Result<SecretText, SecretError> {
        self.open_at(&SealedPlace::SigningKey(id.clone()), sealed)
    }

    /// Seals again, with the key that seals now, what an older one has sealed; `None` for what that key
    /// itself has sealed.
    ///
    /// # Errors
    /// [`SecretError::Undecipherable`], [`SecretError::UnknownKey`], [`SecretError::NoRandomness`].
    pub fn reseal(&self, place: &SealedPlace, sealed: &[u8]) -> Result<Option<Vec<u8>>, SecretError> {
        let ring = self.ring();
        if EncryptionKeyId::of_sealed(sealed) == Some(ring.sealing().id()) {
            return Ok(None);
        }
        let text = self.decrypt(sealed, place)?;
        encrypt(self.ring().sealing(), &text, place).map(Some)
    }

    fn seal_at(&self, place: &SealedPlace, secret: &SecretText) -> Result<Vec<u8>, SecretError> {
        encrypt(self.ring().sealing(), secret.expose().as_bytes(), place)
    }

    fn open_at(&self, place: &SealedPlace, sealed: &[u8]) -> Result<SecretText, SecretError> {
        let opened = self.decrypt(sealed, place)?;
        let text = std::str::from_utf8(&opened).map_err(|_| SecretError::Undecipherable)?;
        Ok(SecretText::new(text.to_owned()))
    }

    /// Decrypts with the key that a ciphertext names. Another process may have sealed it with one that
    /// is not known here yet.
    fn decrypt(&self, sealed: &[u8], place: &SealedPlace) -> Result<Zeroizing<Vec<u8>>, SecretError> {
        let id = EncryptionKeyId::of_sealed(sealed).ok_or(SecretError::Undecipherable)?;
        if let Some(key) = self.ring().find(id) {
            return decrypt(key, sealed, place);
        }
        self.refresh();
        let ring = self.ring();
        decrypt(ring.find(id).ok_or(SecretError::UnknownKey(id))?, sealed, place)
    }
}

fn aes(key: &EncryptionKey) -> Aes256Gcm {
    Aes256Gcm::new(&AesKey::<Aes256Gcm>::from(*key.bytes()))
}

fn encrypt(key: &EncryptionKey, text: &[u8], place: &SealedPlace) -> Result<Vec<u8>, SecretError> {
    let nonce = random::<NONCE_BYTES>()?;
    let payload = Payload { msg: text, aad: &place.associated() };
    let sealed = aes(key).encrypt(&Nonce::from(nonce), payload).map_err(|_| SecretError::Undecipherable)?;
    Ok([&key.id().0[..], &nonce[..], &sealed[..]].concat())
}

fn decrypt(
    key: &EncryptionKey,
    sealed: &[u8],
    place: &SealedPlace,
) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    let damaged = SecretError::Undecipherable;
    let rest = sealed.get(KEY_ID_BYTES..).ok_or(damaged)?;
    let (nonce, ciphertext) = rest.split_first_chunk::<NONCE_BYTES>().ok_or(damaged)?;
    let payload = Payload { msg: ciphertext, aad: &place.associated() };
    aes(key).decrypt(&Nonce::from(*nonce), payload).map(Zeroizing::new).map_err(|_| damaged)
}
