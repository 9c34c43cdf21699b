//! Access tokens: PASETO v4.public (<https://github.com/paseto-standard/paseto-spec>), signed with
//! Ed25519 by keys that rotate. The version fixes the algorithm, so no token can choose another.

use std::sync::Arc;

use arc_swap::ArcSwap;
use pasetors::Public;
use pasetors::keys::{AsymmetricPublicKey, AsymmetricSecretKey};
use pasetors::token::UntrustedToken;
use pasetors::version4::{PublicToken, V4};
use rateguard_core::ids::{SessionId, SigningKeyId, UserId, WorkspaceId};
use rateguard_core::time::Millis;
use serde::{Deserialize, Serialize};

use super::Role;
use crate::error::{EngineError, Reason};
use crate::ports::SealedSigningKey;
use crate::secrets::{CredentialCipher, SecretText};

/// What every access token begins with.
pub const ACCESS_TOKEN_PREFIX: &str = PublicToken::HEADER;
/// Longest text that is looked at: claims are some 250 bytes, and base64 adds a third.
const TOKEN_BYTES_MAX: usize = 1_024;
/// Bound into every signature: a token for something else, signed with the same key, is none of ours.
const PURPOSE: &[u8] = b"rateguard access token v1";

/// What an access token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// The session that it belongs to.
    pub session: SessionId,
    /// Whose session.
    pub user: UserId,
    /// Where it is good, and what the person was there when it was signed.
    pub place: Option<(WorkspaceId, Role)>,
    /// From when on it is good for nothing.
    pub expires_at: Millis,
}

/// The claims as they are written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    ses: String,
    usr: String,
    wsp: Option<String>,
    rol: Option<u8>,
    end: i64,
}

impl Written {
    fn claims(self) -> Option<Claims> {
        let place = match (self.wsp, self.rol) {
            (Some(workspace), Some(role)) => {
                Some((WorkspaceId::parse("wsp", &workspace).ok()?, Role::from_number(role)?))
            }
            (None, None) => None,
            _ => return None,
        };
        Some(Claims {
            session: SessionId::parse("ses", &self.ses).ok()?,
            user: UserId::parse("usr", &self.usr).ok()?,
            place,
            expires_at: Millis::new(self.end),
        })
    }
}

impl From<&Claims> for Written {
    fn from(claims: &Claims) -> Self {
        Self {
            ses: claims.session.to_string(),
            usr: claims.user.to_string(),
            wsp: claims.place.as_ref().map(|(workspace, _)| workspace.to_string()),
            rol: claims.place.as_ref().map(|(_, role)| role.number()),
            end: claims.expires_at.get(),
        }
    }
}

/// One key, opened.
struct SigningKey {
    id: SigningKeyId,
    signs_from: Millis,
    secret: AsymmetricSecretKey<V4>,
    public: AsymmetricPublicKey<V4>,
}

/// The keys in use, the oldest first.
#[derive(Default)]
pub(super) struct Keyring {
    keys: ArcSwap<Vec<Arc<SigningKey>>>,
}

impl Keyring {
    /// Takes the stored keys in place of the present ones.
    pub(super) fn install(
        &self,
        sealed: &[SealedSigningKey],
        cipher: &CredentialCipher,
    ) -> Result<(), EngineError> {
        let open = |sealed: &SealedSigningKey| opened(sealed, cipher).map(Arc::new);
        let keys = sealed.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        self.keys.store(Arc::new(keys));
        Ok(())
    }

    /// Signs claims with the newest key whose time has come.
    pub(super) fn sign(&self, claims: &Claims, now: Millis) -> Result<SecretText, EngineError> {
        let keys = self.keys.load();
        let key = keys.iter().rev().find(|key| key.signs_from <= now).or_else(|| keys.first());
        let key = key.ok_or_else(|| EngineError::internal("there is no key to sign access tokens with"))?;
        let unsigned = |_| EngineError::internal("an access token cannot be signed");
        let message = serde_json::to_vec(&Written::from(claims))
            .map_err(|_| EngineError::internal("claims cannot be written"))?;
        let footer = Some(key.id.as_str().as_bytes());
        PublicToken::sign(&key.secret, &message, footer, Some(PURPOSE)).map(SecretText::new).map_err(unsigned)
    }

    /// What a token says, if one of the keys has signed it and it is not over.
    ///
    /// # Errors
    /// [`Reason::CredentialUnknown`]; [`Reason::SessionEnded`] for one that is over.
    pub(super) fn read(&self, token: &str, now: Millis) -> Result<Claims, EngineError> {
        let claims = self.verified(token).ok_or_else(|| {
            EngineError::new(Reason::CredentialUnknown, "the access token is none of this installation's")
        })?;
        if now < claims.expires_at {
            return Ok(claims);
        }
        Err(EngineError::new(Reason::SessionEnded, "the access token is too old; refresh it"))
    }

    fn verified(&self, token: &str) -> Option<Claims> {
        let token = (token.len() <= TOKEN_BYTES_MAX).then_some(token)?;
        let untrusted = UntrustedToken::<Public, V4>::try_from(token).ok()?;
        let keys = self.keys.load();
        let key = keys.iter().find(|key| key.id.as_str().as_bytes() == untrusted.untrusted_footer())?;
        let trusted = PublicToken::verify(&key.public, &untrusted, None, Some(PURPOSE)).ok()?;
        serde_json::from_str::<Written>(trusted.payload()).ok()?.claims()
    }
}

fn opened(sealed: &SealedSigningKey, cipher: &CredentialCipher) -> Result<SigningKey, EngineError> {
    let damaged = |detail: String| EngineError::internal(&format!("signing key {}: {detail}", sealed.id));
    let text =
        cipher.open_signing_key(&sealed.id, &sealed.sealed).map_err(|error| damaged(error.to_string()))?;
    // The only place where the key is in clear: where it signs.
    let bytes = from_text(&text).ok_or_else(|| damaged("it is not one".to_owned()))?;
    let secret = AsymmetricSecretKey::from(&bytes).map_err(|error| damaged(format!("{error:?}")))?;
    let public = AsymmetricPublicKey::try_from(&secret).map_err(|error| damaged(format!("{error:?}")))?;
    Ok(SigningKey { id: sealed.id.clone(), signs_from: sealed.signs_from, secret, public })
}

/// Draws a key and seals its secret half.
pub(super) fn draw_key(
    id: SigningKeyId,
    cipher: &CredentialCipher,
    created_at: Millis,
    signs_from: Millis,
) -> Result<SealedSigningKey, EngineError> {
    use pasetors::keys::{AsymmetricKeyPair, Generate};
    let pair = AsymmetricKeyPair::<V4>::generate();
    let pair = pair.map_err(|_| EngineError::internal("no key for access tokens can be drawn"))?;
    let sealed = cipher.seal_signing_key(&id, &to_text(pair.secret.as_bytes()));
    let sealed = sealed.map_err(|error| EngineError::internal(&error.to_string()))?;
    Ok(SealedSigningKey { id, sealed, created_at, signs_from })
}

fn to_text(bytes: &[u8]) -> SecretText {
    use base64::Engine as _;
    SecretText::new(base64::engine::general_purpose::STANDARD_NO_PAD.encode(bytes))
}

fn from_text(text: &SecretText) -> Option<Vec<u8>> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD_NO_PAD.decode(text.expose()).ok()
}

#[cfg(test)]
mod tests;
