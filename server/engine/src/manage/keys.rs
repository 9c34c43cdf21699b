//! Keys: drawn here, shown once, kept as hashes.

use rateguard_core::ids::KeyId;

use crate::caller::Identity;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::ports::{Resource, Stored};
use crate::resources::Key;
use crate::secrets::{SecretError, SecretText, draw_key, key_hash, key_prefix, random};

/// A key just made, with the only copy of its secret.
#[derive(Clone, Debug, PartialEq)]
pub struct NewKey {
    /// The key.
    pub stored: Stored<Resource>,
    /// Its secret.
    pub secret: SecretText,
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
}
