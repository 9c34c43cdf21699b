//! The provider's word for a person: a signed token (RFC 7519), and the checks of OpenID Connect Core 1.0,
//! section 3.1.3.7.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rateguard_core::time::Millis;
use rateguard_engine::people::Vouched;
use rateguard_engine::ports::ExternalIdentity;
use rateguard_engine::secrets::SecretText;
use serde::Deserialize;
use thiserror::Error;

use crate::keys::{Algorithm, KeySet};

/// Longest token that is looked at, in bytes.
const TOKEN_BYTES_MAX: usize = 32 * 1_024;
/// How far the provider's clock may be from ours.
const LEEWAY_MS: i64 = 60 * 1_000;
/// Longest subject (OpenID Connect Core 1.0, section 2), in bytes.
const SUBJECT_BYTES_MAX: usize = 255;

/// What a token must say.
pub(crate) struct Expected<'a> {
    pub(crate) issuer: &'a str,
    pub(crate) client_id: &'a str,
    pub(crate) nonce: &'a SecretText,
    pub(crate) now: Millis,
}

/// Why a token does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum Refusal {
    #[error("the token is malformed")]
    Malformed,
    #[error("the token is signed in a way that is not taken")]
    Algorithm,
    #[error("the token is signed with an unknown key")]
    UnknownKey,
    #[error("the token's signature is forged")]
    Forged,
    #[error("the token is of another issuer")]
    Issuer,
    #[error("the token is for another client")]
    Audience,
    #[error("the token is of another time")]
    Time,
    #[error("the token is of another log-in")]
    Nonce,
    #[error("the token names nobody")]
    Subject,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    /// Extensions that whoever reads the token must know. None is known here.
    crit: Option<serde_json::Value>,
}

/// What a token says whose signature is right.
#[derive(Deserialize)]
pub(crate) struct Claims {
    iss: String,
    sub: String,
    aud: Audience,
    azp: Option<String>,
    exp: i64,
    iat: i64,
    nbf: Option<i64>,
    nonce: Option<String>,
    email: Option<String>,
    email_verified: Option<Verified>,
    name: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

/// Some providers write the boolean as text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Verified {
    Plain(bool),
    Text(String),
}

/// Reads a token, whose signature must be one of the keys'.
pub(crate) fn read(token: &str, keys: &KeySet) -> Result<Claims, Refusal> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(Refusal::Malformed);
    }
    let (message, signature) = token.rsplit_once('.').ok_or(Refusal::Malformed)?;
    let (header, claims) = message.split_once('.').ok_or(Refusal::Malformed)?;
    let header: Header = parsed(header)?;
    let algorithm = Algorithm::by_name(&header.alg).filter(|_| header.crit.is_none());
    let algorithm = algorithm.ok_or(Refusal::Algorithm)?;
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| Refusal::Malformed)?;
    let mut fitting = keys.fitting(algorithm, &header.alg, header.kid.as_deref()).peekable();
    fitting.peek().ok_or(Refusal::UnknownKey)?;
    if fitting.any(|key| key.verifies(algorithm, message.as_bytes(), &signature)) {
        return parsed(claims);
    }
    // Without a name it may be one that is not known yet.
    Err(if header.kid.is_some() { Refusal::Forged } else { Refusal::UnknownKey })
}

impl Claims {
    /// Holds what the token says against what it must.
    pub(crate) fn check(self, expected: &Expected<'_>) -> Result<Vouched, Refusal> {
        let must = |holds: bool, refusal: Refusal| if holds { Ok(()) } else { Err(refusal) };
        must(self.iss == expected.issuer, Refusal::Issuer)?;
        must(self.is_for(expected.client_id), Refusal::Audience)?;
        must(self.is_of(expected.now), Refusal::Time)?;
        // Compared, and drawn for this one log-in.
        must(self.nonce.as_deref() == Some(expected.nonce.expose()), Refusal::Nonce)?;
        let is_subject =
            (1..=SUBJECT_BYTES_MAX).contains(&self.sub.len()) && !self.sub.contains(char::is_control);
        must(is_subject, Refusal::Subject)?;
        let email_is_verified = match &self.email_verified {
            Some(Verified::Plain(is_verified)) => *is_verified,
            Some(Verified::Text(text)) => text == "true",
            None => false,
        };
        let identity = ExternalIdentity { issuer: self.iss, subject: self.sub };
        Ok(Vouched { identity, email: self.email, email_is_verified, name: self.name })
    }

    /// Whether the token is for a client, and given to it: with several audiences, or one that is named,
    /// the authorized party has to be the client.
    fn is_for(&self, client_id: &str) -> bool {
        let (is_among, is_alone) = match &self.aud {
            Audience::One(audience) => (audience == client_id, true),
            Audience::Many(audiences) => {
                (audiences.iter().any(|audience| audience == client_id), audiences.len() == 1)
            }
        };
        let is_given = match &self.azp {
            Some(party) => party == client_id,
            None => is_alone,
        };
        is_among && is_given
    }

    fn is_of(&self, now: Millis) -> bool {
        let at = |seconds: i64| seconds.saturating_mul(1_000);
        let (earliest, latest) = (now.get().saturating_sub(LEEWAY_MS), now.get().saturating_add(LEEWAY_MS));
        let has_begun = at(self.iat) <= latest && self.nbf.is_none_or(|nbf| at(nbf) <= latest);
        at(self.exp) > earliest && has_begun
    }
}

fn parsed<T: for<'de> Deserialize<'de>>(part: &str) -> Result<T, Refusal> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| Refusal::Malformed)?;
    serde_json::from_slice(&bytes).map_err(|_| Refusal::Malformed)
}
