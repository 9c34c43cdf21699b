//! Keys: drawn here, shown once, kept as hashes.

use rateguard_core::ids::KeyId;

use super::Created;
use super::powers::check_powers;
use crate::caller::Identity;
use crate::engine::Engine;
use crate::error::{EngineError, Reason};
use crate::ports::{ClientRequest, Resource, ResourceChange, ResourceKind, Stored};
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

/// A key that somebody asked for, perhaps again.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyOnce {
    /// The key.
    pub stored: Stored<Resource>,
    /// Its secret; `None` when an earlier call has shown it.
    pub secret: Option<SecretText>,
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

    /// The same, once for the request that it comes with.
    ///
    /// # Errors
    /// As [`Engine::create_once`].
    pub async fn create_key_once(
        &self,
        identity: &Identity,
        draft: Key,
        request: Option<ClientRequest>,
    ) -> Result<KeyOnce, EngineError> {
        let (key, secret) = equip(draft)?;
        let Created { stored, repeated } = self.create_once(identity, Resource::Key(key), request).await?;
        Ok(KeyOnce { stored, secret: (!repeated).then_some(secret) })
    }

    /// Gives a key a new secret, once for the request that it comes with. The present one works on until
    /// the overlap ends; one that was replaced before ends at once. Everything else of the key goes on: its
    /// limits, its budgets and its history.
    ///
    /// # Errors
    /// [`Reason::ResourceNotFound`], [`Reason::EtagMismatch`], [`Reason::FieldOutOfBounds`],
    /// [`Reason::RequestIdReused`].
    pub async fn rotate_key(
        &self,
        identity: &Identity,
        rotation: Rotation,
        request: Option<ClientRequest>,
    ) -> Result<KeyOnce, EngineError> {
        if let Some(request) = &request
            && let Some(Created { stored, .. }) = self.made_before(identity, request).await?
        {
            return Ok(KeyOnce { stored, secret: None });
        }
        let before = self.get(identity, ResourceKind::Key, rotation.id.as_str()).await?;
        let expected = rotation.expected.unwrap_or(before.version);
        let (key, secret) = self.rotated(before.value.clone(), rotation)?;
        let resource = Resource::Key(key);
        check_powers(identity, Some(&before.value), &resource)?;
        let Some(request) = request else {
            let stored = self.update(identity, resource, expected).await?.stored;
            return Ok(KeyOnce { stored, secret: Some(secret) });
        };
        let change = ResourceChange::Replace { resource, expected };
        let Created { stored, repeated } = self.change_once(identity, change, &request).await?;
        Ok(KeyOnce { stored, secret: (!repeated).then_some(secret) })
    }

    fn rotated(&self, before: Resource, rotation: Rotation) -> Result<(Key, SecretText), EngineError> {
        let Rotation { id, overlap_ms, .. } = rotation;
        if !(0..=KEY_OVERLAP_MS_MAX).contains(&overlap_ms) {
            let message = format!("must be 0 to {KEY_OVERLAP_MS_MAX}");
            return Err(EngineError::field(Reason::FieldOutOfBounds, "overlap_ms", message));
        }
        let Resource::Key(key) = before else {
            return Err(EngineError::internal("the store gave a resource of another kind"));
        };
        let previous = PreviousSecret {
            secret_sha256: key.secret_sha256,
            prefix: key.prefix.clone(),
            until: self.now().plus(overlap_ms),
        };
        equip_as(id, Key { previous: Some(previous), ..key })
    }
}
