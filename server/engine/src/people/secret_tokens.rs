//! Opaque tokens: random bits that only their holder knows, and of which stores have hashes.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use crate::error::EngineError;
use crate::ports::RefreshHashes;
use crate::secrets::{SecretText, random};

/// Bytes that all refresh tokens of one session have in common.
const FAMILY_BYTES: usize = 16;
/// Bytes drawn anew for each refresh token, and those of an invitation's token.
const SECRET_BYTES: usize = 32;
/// What a refresh token begins with.
const REFRESH_PREFIX: &str = "rgr_";
/// What an invitation's token begins with.
const INVITATION_PREFIX: &str = "rgi_";
/// What the secret of a log-in at a provider begins with.
const LOGIN_PREFIX: &str = "rgo_";
/// Longest text that is looked at.
const TOKEN_BYTES_MAX: usize = 128;

/// A refresh token. Its first part names the family and is known only to those who have held one of
/// its tokens; so a token with a known family and another second part is an old one, used again.
pub(super) struct RefreshToken {
    family: [u8; FAMILY_BYTES],
    secret: [u8; SECRET_BYTES],
}

impl RefreshToken {
    /// The first of a new family.
    pub(super) fn draw() -> Result<Self, EngineError> {
        Ok(Self { family: draw()?, secret: draw()? })
    }

    /// The next of the same family.
    pub(super) fn next(&self) -> Result<Self, EngineError> {
        Ok(Self { family: self.family, secret: draw()? })
    }

    /// Reads one; `None` for a text that is none.
    pub(super) fn read(text: &SecretText) -> Option<Self> {
        // It is hashed, and never kept.
        let bytes = decoded(REFRESH_PREFIX, text.expose())?;
        let (family, secret) = bytes.split_first_chunk::<FAMILY_BYTES>()?;
        Some(Self { family: *family, secret: secret.try_into().ok()? })
    }

    pub(super) fn text(&self) -> SecretText {
        encoded(REFRESH_PREFIX, &[&self.family[..], &self.secret[..]].concat())
    }

    pub(super) fn hashes(&self) -> RefreshHashes {
        RefreshHashes { family_sha256: sha256(&self.family), secret_sha256: sha256(&self.secret) }
    }
}

/// Draws the token of an invitation.
pub(super) fn draw_invitation() -> Result<SecretText, EngineError> {
    Ok(encoded(INVITATION_PREFIX, &draw::<SECRET_BYTES>()?))
}

/// The hash by which an invitation is known; `None` for a text that is no such token.
pub(super) fn invitation_sha256(text: &SecretText) -> Option<[u8; 32]> {
    // It is hashed, and never kept.
    let bytes = decoded(INVITATION_PREFIX, text.expose())?;
    (bytes.len() == SECRET_BYTES).then(|| sha256(&bytes))
}

/// Draws the secret of a log-in at a provider, with the hash by which it is known.
pub(super) fn draw_login() -> Result<(SecretText, [u8; 32]), EngineError> {
    let bytes = draw::<SECRET_BYTES>()?;
    Ok((encoded(LOGIN_PREFIX, &bytes), sha256(&bytes)))
}

/// The hash by which a log-in is known; `None` for a text that is no such secret.
pub(super) fn login_sha256(text: &SecretText) -> Option<[u8; 32]> {
    // It is hashed, and never kept.
    let bytes = decoded(LOGIN_PREFIX, text.expose())?;
    (bytes.len() == SECRET_BYTES).then(|| sha256(&bytes))
}

/// Draws a value that a provider sends back, or that is held back from it: 43 characters of base64url.
pub(super) fn draw_value() -> Result<SecretText, EngineError> {
    Ok(encoded("", &draw::<SECRET_BYTES>()?))
}

/// The S256 challenge of a verifier (RFC 7636, section 4.2).
pub(super) fn challenge(verifier: &SecretText) -> String {
    // Hashed for the provider.
    URL_SAFE_NO_PAD.encode(sha256(verifier.expose().as_bytes()))
}

fn draw<const N: usize>() -> Result<[u8; N], EngineError> {
    random().map_err(|error| EngineError::internal(&error.to_string()))
}

fn encoded(prefix: &str, bytes: &[u8]) -> SecretText {
    SecretText::new(format!("{prefix}{}", URL_SAFE_NO_PAD.encode(bytes)))
}

fn decoded(prefix: &str, text: &str) -> Option<Vec<u8>> {
    let body = text.strip_prefix(prefix).filter(|_| text.len() <= TOKEN_BYTES_MAX)?;
    URL_SAFE_NO_PAD.decode(body).ok()
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refresh_token_is_read_back_and_its_successor_is_of_its_family() {
        let first = RefreshToken::draw().unwrap();
        let read = RefreshToken::read(&first.text()).unwrap();
        assert_eq!(read.hashes(), first.hashes());
        let next = read.next().unwrap();
        assert_eq!(next.hashes().family_sha256, first.hashes().family_sha256);
        assert_ne!(next.hashes().secret_sha256, first.hashes().secret_sha256);
    }

    #[test]
    fn a_challenge_is_that_of_the_standard() {
        let verifier = SecretText::new("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk".to_owned());
        assert_eq!(challenge(&verifier), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    }

    #[test]
    fn what_is_no_token_is_none() {
        for text in ["", "rgr_", "rgr_AAAA", "rgi_AAAA", "rg_live_x", "rgr_!!!!", &"rgr_A".repeat(100)] {
            let text = SecretText::new(text.to_owned());
            assert!(
                RefreshToken::read(&text).is_none() && invitation_sha256(&text).is_none(),
                "{}",
                text.expose()
            );
        }
        let invitation = draw_invitation().unwrap();
        assert!(invitation_sha256(&invitation).is_some() && RefreshToken::read(&invitation).is_none());
    }
}
