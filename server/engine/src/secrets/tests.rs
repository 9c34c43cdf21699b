//! Keys that change under what is sealed.

use std::sync::Arc;

use parking_lot::Mutex;
use rateguard_core::ids::{ApiId, SigningKeyId, WorkspaceId};

use super::*;

fn key(number: u8) -> EncryptionKey {
    EncryptionKey::new(&[number; KEY_BYTES]).unwrap()
}

fn ring(sealing: u8, others: &[u8]) -> KeyRing {
    KeyRing::new(key(sealing), others.iter().copied().map(key).collect())
}

fn place() -> SealedPlace {
    SealedPlace::Credential(
        WorkspaceId::parse("id", "ws_one").unwrap(),
        ApiId::parse("id", "api_one").unwrap(),
    )
}

fn sealed(cipher: &CredentialCipher, text: &str) -> Vec<u8> {
    let SealedPlace::Credential(workspace, api) = place() else { panic!("no credential") };
    cipher.seal(&workspace, &api, &SecretText::new(text.to_owned())).unwrap().0
}

fn opened(cipher: &CredentialCipher, sealed: &[u8]) -> Result<String, SecretError> {
    let SealedPlace::Credential(workspace, api) = place() else { panic!("no credential") };
    let sealed = crate::resources::SealedCredential(sealed.to_vec());
    Ok(cipher.open(&workspace, &api, &sealed)?.expose().to_owned())
}

/// A source that is told what it says.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Option<KeyRing>>>);

impl KeySource for Told {
    fn changed(&self) -> Option<KeyRing> {
        self.0.lock().take()
    }
}

impl Told {
    fn say(&self, ring: KeyRing) {
        *self.0.lock() = Some(ring);
    }
}

#[test]
fn the_first_key_seals_and_all_of_them_open() {
    let old = CredentialCipher::with_ring(ring(1, &[]));
    let both = CredentialCipher::with_ring(ring(2, &[1]));
    let before = sealed(&old, "a credential");
    assert_eq!(opened(&both, &before).as_deref(), Ok("a credential"));
    let after = sealed(&both, "a credential");
    assert_eq!(EncryptionKeyId::of_sealed(&after), Some(key(2).id()));
    assert_eq!(opened(&old, &after), Err(SecretError::UnknownKey(key(2).id())));
}

#[test]
fn what_an_older_key_has_sealed_is_sealed_again_for_the_same_place_alone() {
    let both = CredentialCipher::with_ring(ring(2, &[1]));
    let before = sealed(&CredentialCipher::with_ring(ring(1, &[])), "a credential");
    let again = both.reseal(&place(), &before).unwrap().unwrap();
    assert_eq!(both.reseal(&place(), &again), Ok(None));
    assert_eq!(opened(&CredentialCipher::with_ring(ring(2, &[])), &again).as_deref(), Ok("a credential"));
    let elsewhere = SealedPlace::SigningKey(SigningKeyId::from_random([1; 16]));
    assert_eq!(both.reseal(&elsewhere, &before), Err(SecretError::Undecipherable));
    assert_eq!(both.reseal(&place(), &before[..3]), Err(SecretError::Undecipherable));
}

#[test]
fn a_key_that_is_not_known_yet_is_looked_for_when_it_is_met() {
    let told = Told::default();
    let cipher = CredentialCipher::following(ring(1, &[]), told.clone());
    let clone = cipher.clone();
    let new = sealed(&CredentialCipher::with_ring(ring(2, &[1])), "a credential");
    assert_eq!(opened(&cipher, &new), Err(SecretError::UnknownKey(key(2).id())));
    told.say(ring(2, &[1]));
    assert_eq!(opened(&cipher, &new).as_deref(), Ok("a credential"));
    assert_eq!(clone.key_id(), key(2).id());
}

#[test]
fn a_key_that_was_dropped_opens_until_it_is_forgotten() {
    let told = Told::default();
    let cipher = CredentialCipher::following(ring(2, &[1]), told.clone());
    let old = sealed(&CredentialCipher::with_ring(ring(1, &[])), "a credential");
    told.say(ring(2, &[]));
    assert!(cipher.refresh() && cipher.ring().has_others());
    assert_eq!(opened(&cipher, &old).as_deref(), Ok("a credential"));
    cipher.forget_retired();
    assert!(!cipher.ring().has_others());
    assert_eq!(opened(&cipher, &old), Err(SecretError::UnknownKey(key(1).id())));
}

#[test]
fn keys_without_the_one_in_use_wait_for_somebodys_word() {
    let told = Told::default();
    let cipher = CredentialCipher::following(ring(1, &[]), told.clone());
    told.say(ring(3, &[]));
    assert!(!cipher.refresh());
    assert_eq!((cipher.key_id(), cipher.foreign()), (key(1).id(), Some(ring(3, &[]))));
    cipher.adopt_foreign();
    assert_eq!((cipher.key_id(), cipher.foreign()), (key(3).id(), None));
    assert!(cipher.ring().find(key(1).id()).is_some());
    told.say(ring(4, &[]));
    assert!(!cipher.refresh());
    told.say(ring(4, &[3]));
    assert!(cipher.refresh());
    assert_eq!((cipher.key_id(), cipher.foreign()), (key(4).id(), None));
}

#[test]
fn a_check_text_says_what_the_installation_is_for_to_those_who_have_its_key() {
    let cipher = CredentialCipher::with_ring(ring(1, &[]));
    let other = CredentialCipher::with_ring(ring(2, &[]));
    for purpose in [Purpose::Own, Purpose::Demo] {
        let check = cipher.seal_check(purpose).unwrap();
        assert_eq!(cipher.purpose(&check), Some(purpose));
        assert!(cipher.knows(&check) && !other.knows(&check));
        let both = CredentialCipher::with_ring(ring(2, &[1]));
        let again = both.reseal(&SealedPlace::Check, &check).unwrap().unwrap();
        assert_eq!(other.purpose(&again), Some(purpose));
    }
    assert!(!cipher.knows(&[]));
}

#[test]
fn a_ring_is_bounded_and_keeps_the_key_that_seals() {
    let many: Vec<u8> = (1..=40).collect();
    let ring = ring(0, &many);
    assert_eq!(ring.keys().count(), KEYS_PER_RING_MAX);
    assert_eq!(ring.sealing(), &key(0));
    let twice = KeyRing::new(key(1), vec![key(1), key(1)]);
    assert!(!twice.has_others());
}

#[test]
fn keys_that_nobody_drew_are_told() {
    let counted: Vec<u8> = (0..32).map(|number| number / 4).collect();
    let up: Vec<u8> = (0..32).collect();
    let down_in_sevens: Vec<u8> =
        (0..32).map(|number: u8| 100_u8.wrapping_sub(number.wrapping_mul(7))).collect();
    for typed in [vec![7; KEY_BYTES], counted, up, down_in_sevens] {
        assert!(EncryptionKey::new(&typed).unwrap().is_guessable());
    }
    assert!(!EncryptionKey::draw().unwrap().is_guessable());
    assert_eq!(EncryptionKey::new(&[7; 31]), Err(SecretError::KeyLength));
}

#[test]
fn no_key_and_no_secret_is_printed() {
    let secret = EncryptionKey::draw().unwrap();
    let digits = secret.to_hex();
    let cipher = CredentialCipher::with_ring(KeyRing::new(secret.clone(), vec![key(1)]));
    let shown = format!("{secret:?} {cipher:?} {:?} {digits:?}", cipher.ring());
    assert!(!shown.contains(digits.expose()), "{shown}");
    assert!(shown.contains(&secret.id().to_string()) && shown.contains("[redacted]"), "{shown}");
    let bytes = secret.bytes().map(|byte| byte.to_string()).join(", ");
    assert!(!shown.contains(&bytes), "{shown}");
}
