//! The provider's keys (RFC 7517), and verifying with them. Only public keys of kinds that tokens are
//! signed with count: a shared secret is no key here, so none can be passed off as one.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rateguard_core::time::Millis;
use rateguard_engine::people::ProviderError;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256,
    RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde::Deserialize;
use url::Url;

use crate::fetch::Fetcher;

/// How long keys are believed: an hour. One that is taken back counts no longer.
const FRESH_MS: i64 = 60 * 60 * 1_000;
/// How often keys are asked for at most on behalf of tokens with unknown ones, which anybody can make.
const NEWER_INTERVAL_MS: i64 = 10 * 1_000;
/// Keys that are looked at.
const KEYS_MAX: usize = 100;
/// What an uncompressed point begins with (SEC 1, section 2.3.3).
const UNCOMPRESSED: u8 = 4;

/// How a token may be signed (RFC 7518, section 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Algorithm {
    Rs256,
    Ps256,
    Es256,
    Es384,
}

impl Algorithm {
    /// `None` for what is not taken: `none`, and everything with a shared secret.
    pub(crate) fn by_name(name: &str) -> Option<Self> {
        match name {
            "RS256" => Some(Self::Rs256),
            "PS256" => Some(Self::Ps256),
            "ES256" => Some(Self::Es256),
            "ES384" => Some(Self::Es384),
            _ => None,
        }
    }
}

/// A set of keys as it is published.
#[derive(Deserialize)]
struct Document {
    keys: Vec<serde_json::Value>,
}

/// A key as it is published.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

#[derive(Clone)]
enum Material {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    P256(Vec<u8>),
    P384(Vec<u8>),
}

/// A key that can verify.
#[derive(Clone)]
pub(crate) struct Key {
    kid: Option<String>,
    alg: Option<String>,
    material: Material,
}

/// All of them.
#[derive(Clone, Default)]
pub(crate) struct KeySet(Vec<Key>);

/// The keys as they were fetched last.
#[derive(Default)]
pub(crate) struct Keys {
    fetched: Option<(Millis, KeySet)>,
    asked_newer_at: Option<Millis>,
}

impl Keys {
    /// The keys, fetched unless that was done a while ago at most.
    pub(crate) async fn current(
        &mut self,
        fetcher: &Fetcher,
        url: &Url,
        now: Millis,
    ) -> Result<KeySet, ProviderError> {
        match &self.fetched {
            Some((at, keys)) if (0..FRESH_MS).contains(&now.since(*at)) => Ok(keys.clone()),
            _ => self.fetch(fetcher, url, now).await,
        }
    }

    /// The keys of this moment; `None` where they were asked for a moment ago.
    pub(crate) async fn newer(
        &mut self,
        fetcher: &Fetcher,
        url: &Url,
        now: Millis,
    ) -> Result<Option<KeySet>, ProviderError> {
        if self.asked_newer_at.is_some_and(|at| (0..NEWER_INTERVAL_MS).contains(&now.since(at))) {
            // Another log-in may have fetched them.
            return Ok(self.fetched.as_ref().map(|(_, keys)| keys.clone()));
        }
        self.asked_newer_at = Some(now);
        self.fetch(fetcher, url, now).await.map(Some)
    }

    async fn fetch(&mut self, fetcher: &Fetcher, url: &Url, now: Millis) -> Result<KeySet, ProviderError> {
        let document = fetcher.get::<Document>(url, "set of keys").await?;
        let keys = document.keys.into_iter().take(KEYS_MAX);
        // Keys of other kinds, and those for encryption, stand in the same set.
        let keys: Vec<Key> =
            keys.filter_map(|key| serde_json::from_value::<Jwk>(key).ok().and_then(Jwk::key)).collect();
        let keys = KeySet(keys);
        self.fetched = Some((now, keys.clone()));
        Ok(keys)
    }
}

impl KeySet {
    /// The keys that a token with this header may be signed with: the one that it names, or all where it
    /// names none.
    pub(crate) fn fitting<'a>(
        &'a self,
        algorithm: Algorithm,
        name: &'a str,
        kid: Option<&'a str>,
    ) -> impl Iterator<Item = &'a Key> {
        self.0.iter().filter(move |key| {
            key.fits(algorithm)
                && key.alg.as_deref().is_none_or(|alg| alg == name)
                && kid.is_none_or(|kid| key.kid.as_deref() == Some(kid))
        })
    }
}

impl Jwk {
    fn key(self) -> Option<Key> {
        if self.usage.as_deref().is_some_and(|usage| usage != "sig") {
            return None;
        }
        let material = match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => Material::Rsa { n: integer(self.n.as_deref()?)?, e: integer(self.e.as_deref()?)? },
            ("EC", Some("P-256")) => Material::P256(point(self.x.as_deref()?, self.y.as_deref()?, 32)?),
            ("EC", Some("P-384")) => Material::P384(point(self.x.as_deref()?, self.y.as_deref()?, 48)?),
            _ => return None,
        };
        Some(Key { kid: self.kid, alg: self.alg, material })
    }
}

impl Key {
    fn fits(&self, algorithm: Algorithm) -> bool {
        matches!(
            (&self.material, algorithm),
            (Material::Rsa { .. }, Algorithm::Rs256 | Algorithm::Ps256)
                | (Material::P256(_), Algorithm::Es256)
                | (Material::P384(_), Algorithm::Es384)
        )
    }

    /// Whether a signature over a message is this key's.
    pub(crate) fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        let rsa = |n: &[u8], e: &[u8], parameters: &RsaParameters| {
            RsaPublicKeyComponents { n, e }.verify(parameters, message, signature).is_ok()
        };
        match (&self.material, algorithm) {
            (Material::Rsa { n, e }, Algorithm::Rs256) => rsa(n, e, &RSA_PKCS1_2048_8192_SHA256),
            (Material::Rsa { n, e }, Algorithm::Ps256) => rsa(n, e, &RSA_PSS_2048_8192_SHA256),
            (Material::P256(point), Algorithm::Es256) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature).is_ok()
            }
            (Material::P384(point), Algorithm::Es384) => {
                UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point).verify(message, signature).is_ok()
            }
            _ => false,
        }
    }
}

/// A positive number, big-endian and without leading zeros, as the verifier wants it.
fn integer(text: &str) -> Option<Vec<u8>> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let start = bytes.iter().position(|byte| *byte != 0)?;
    Some(bytes[start..].to_vec())
}

fn point(x: &str, y: &str, bytes: usize) -> Option<Vec<u8>> {
    let (x, y) = (URL_SAFE_NO_PAD.decode(x).ok()?, URL_SAFE_NO_PAD.decode(y).ok()?);
    (x.len() == bytes && y.len() == bytes).then(|| [&[UNCOMPRESSED][..], &x, &y].concat())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// The key, the message and the signature of RFC 7515, appendix A.2.
    const MODULUS: &str = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";
    const MESSAGE: &str = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    const SIGNATURE: &str = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";

    fn key(document: Value) -> Option<Key> {
        serde_json::from_value::<Jwk>(document).ok()?.key()
    }

    #[test]
    fn the_signature_of_the_standard_is_verified_and_nothing_else() {
        let key = key(json!({ "kty": "RSA", "n": MODULUS, "e": "AQAB" })).unwrap();
        let signature = URL_SAFE_NO_PAD.decode(SIGNATURE).unwrap();
        let verifies =
            |algorithm, message: &str, signature| key.verifies(algorithm, message.as_bytes(), signature);
        assert!(verifies(Algorithm::Rs256, MESSAGE, &signature));
        assert!(!verifies(Algorithm::Rs256, &MESSAGE[1..], &signature));
        assert!(!verifies(Algorithm::Rs256, MESSAGE, &signature[1..]));
        assert!(!verifies(Algorithm::Ps256, MESSAGE, &signature));
        assert!(!verifies(Algorithm::Es256, MESSAGE, &signature));
    }

    #[test]
    fn shared_secrets_and_keys_for_encryption_are_no_keys() {
        assert!(key(json!({ "kty": "oct", "k": "AAAA" })).is_none());
        assert!(key(json!({ "kty": "RSA", "use": "enc", "n": MODULUS, "e": "AQAB" })).is_none());
        assert!(key(json!({ "kty": "RSA", "n": "", "e": "AQAB" })).is_none());
        assert!(key(json!({ "kty": "EC", "crv": "P-256", "x": "AAAA", "y": "AAAA" })).is_none());
        assert!(Algorithm::by_name("none").is_none() && Algorithm::by_name("HS256").is_none());
    }

    #[test]
    fn a_key_is_chosen_by_its_name_and_its_algorithm() {
        let document = json!({ "kty": "RSA", "kid": "a", "alg": "RS256", "n": MODULUS, "e": "AQAB" });
        let keys = KeySet(key(document).into_iter().collect());
        let fitting = |algorithm, name, kid| keys.fitting(algorithm, name, kid).count();
        assert_eq!(fitting(Algorithm::Rs256, "RS256", Some("a")), 1);
        assert_eq!(fitting(Algorithm::Rs256, "RS256", None), 1);
        assert_eq!(fitting(Algorithm::Rs256, "RS256", Some("b")), 0);
        assert_eq!(fitting(Algorithm::Ps256, "PS256", Some("a")), 0);
        assert_eq!(fitting(Algorithm::Es256, "ES256", Some("a")), 0);
    }
}
