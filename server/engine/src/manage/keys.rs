//! Keys: drawn here, shown once, kept as hashes.

use rateguard_core::ids::KeyId;

use crate::caller::Identity;
use crate::engine::Engine;
use crate::error::{EngineError, Reason};
use crate::ports::{Resource, ResourceKind, Stored};
use crate::resources::{Key, PreviousSecret};
use crate::secrets::{SecretError, SecretText, draw_key, key_hash, key_prefix, random};

/// Longest time that a replaced secret goes on working: 30 days.
pub const KEY_OVERLAP_MS_MAX: i64 = 2_592_000_000;
/// How long it does unless somebody says otherwise: a day.
pub const KEY_OVERLAP_MS_DEFAULT: i64 = 86_400_000;

/// A key just made, with the only copy of its secret.
#[derive(Clone, Debug, PartialEq)]
pub struct NewKey {
    /// The key.
    pub stored: Stored<Resource>,
    /// Its secret.
    pub secret: SecretText,
}

/// Which key gets a new secret, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// The key.
    pub id: KeyId,
    /// The version that it must be at; `None` for any.
    pub expected: Option<u64>,
    /// How long the present secret goes on working, 0 to [`KEY_OVERLAP_MS_MAX`].
    pub overlap_ms: i64,
}

/// Draws the secret of a key, and sets what is known of it. For set-up, before any caller exists.
///
/// # Errors
/// Without randomness.
pub fn equip(key: Key) -> Result<(Key, SecretText), EngineError> {
    let id = KeyId::from_random(random().map_err(internal)?);
    equip_as(id, key)
}

/// The same for a key whose id others know already.
///
/// # Errors
/// Without randomness.
pub fn equip_as(id: KeyId, mut key: Key) -> Result<(Key, SecretText), EngineError> {
    let secret = draw_key(key.label).map_err(internal)?;
    key.id = id;
    key.secret_sha256 = key_hash(secret.expose());
    key.prefix = key_prefix(secret.expose());
    Ok((key, secret))
}

fn internal(error: SecretError) -> EngineError {
    EngineError::internal(&error.to_string())
}

impl Engine {
    /// Makes a key. The draft's id, hash and prefix are drawn anew.
    ///
    /// # Errors
    /// As [`Engine::create`].
    pub async fn create_key(&self, identity: &Identity, draft: Key) -> Result<NewKey, EngineError> {
        let (key, secret) = equip(draft)?;
        let stored = self.create(identity, Resource::Key(key)).await?;
        Ok(NewKey { stored, secret })
    }

    /// Gives a key a new secret. The present one works on until the overlap ends; one that was replaced
    /// before ends at once. Everything else of the key goes on: its limits, its budgets and its history.
    ///
    /// # Errors
    /// [`Reason::ResourceNotFound`], [`Reason::EtagMismatch`], [`Reason::FieldOutOfBounds`].
    pub async fn rotate_key(&self, identity: &Identity, rotation: Rotation) -> Result<NewKey, EngineError> {
        let Rotation { id, expected, overlap_ms } = rotation;
        if !(0..=KEY_OVERLAP_MS_MAX).contains(&overlap_ms) {
            let message = format!("must be 0 to {KEY_OVERLAP_MS_MAX}");
            return Err(EngineError::field(Reason::FieldOutOfBounds, "overlap_ms", message));
        }
        let before = self.get(identity, ResourceKind::Key, id.as_str()).await?;
        let Resource::Key(key) = before.value else {
            return Err(EngineError::internal("the store gave a resource of another kind"));
        };
        let previous = PreviousSecret {
            secret_sha256: key.secret_sha256,
            prefix: key.prefix.clone(),
            until: self.now().plus(overlap_ms),
        };
        let (key, secret) = equip_as(id, Key { previous: Some(previous), ..key })?;
        let expected = expected.unwrap_or(before.version);
        let stored = self.update(identity, Resource::Key(key), expected).await?.stored;
        Ok(NewKey { stored, secret })
    }
}
