use argon2::{PasswordHasher, PasswordVerifier};
use futures::future::join_all;

use super::*;

fn secret(text: &str) -> SecretText {
    SecretText::new(text.to_owned())
}

#[tokio::test]
async fn a_password_is_right_for_its_own_hash_alone() {
    let passwords = Passwords::new().unwrap();
    let hash = passwords.hash(&secret("correct horse battery")).await.unwrap();
    assert!(hash.as_str().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", hash.as_str());
    let verify = async |text: &str| passwords.verify(&secret(text), Some(&hash)).await.unwrap();
    assert_eq!(verify("correct horse battery").await, Verdict::Right);
    assert_eq!(verify("correct horse batterz").await, Verdict::Wrong);
    assert_eq!(verify("").await, Verdict::Wrong);
}

#[tokio::test]
async fn the_same_password_has_another_hash_each_time() {
    let passwords = Passwords::new().unwrap();
    let (one, two) =
        (passwords.hash(&secret("a long password")).await, passwords.hash(&secret("a long password")).await);
    assert_ne!(one.unwrap(), two.unwrap());
}

#[tokio::test]
async fn a_hash_of_bcrypt_is_verified_and_called_weak() {
    let passwords = Passwords::new().unwrap();
    let hash = PasswordHash::stored(&bcrypt::hash("imported password", 4).unwrap());
    let verify = async |text: &str| passwords.verify(&secret(text), Some(&hash)).await.unwrap();
    assert_eq!(verify("imported password").await, Verdict::RightButWeaklyHashed);
    assert_eq!(verify("another password").await, Verdict::Wrong);
}

#[tokio::test]
async fn a_cheaper_argon2_hash_is_called_weak() {
    let passwords = Passwords::new().unwrap();
    let cheap = Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(64, 1, 1, None).unwrap());
    let hash = PasswordHash::stored(&cheap.hash_password(b"imported password").unwrap().to_string());
    let verdict = passwords.verify(&secret("imported password"), Some(&hash)).await.unwrap();
    assert_eq!(verdict, Verdict::RightButWeaklyHashed);
}

#[tokio::test]
async fn a_hash_of_another_kind_of_argon2_is_verified_with_its_own_parameters() {
    let passwords = Passwords::new().unwrap();
    let (id, d, i) = (Algorithm::Argon2id, Algorithm::Argon2d, Algorithm::Argon2i);
    let today = Version::V0x13;
    for (algorithm, version, params) in [
        (d, today, Params::new(64, 3, 1, None)),
        (i, Version::V0x10, Params::new(256, 1, 4, None)),
        (id, today, Params::new(MEMORY_KIB, PASSES, LANES, Some(48))),
        // It needs more memory than is kept.
        (id, today, Params::new(MEMORY_KIB + 1_024, PASSES, LANES, None)),
    ] {
        let elsewhere = Argon2::new(algorithm, version, params.unwrap());
        let hash = elsewhere.hash_password(b"imported password").unwrap().to_string();
        let hash = PasswordHash::stored(&hash);
        let verify = async |text: &str| passwords.verify(&secret(text), Some(&hash)).await.unwrap();
        assert_ne!(verify("imported password").await, Verdict::Wrong, "{}", hash.as_str());
        assert_eq!(verify("another password").await, Verdict::Wrong, "{}", hash.as_str());
    }
}

#[tokio::test]
async fn others_can_verify_a_hash_of_ours() {
    let passwords = Passwords::new().unwrap();
    let hash = passwords.hash(&secret("correct horse battery")).await.unwrap();
    let parsed = PhcHash::new(hash.as_str()).unwrap();
    assert_eq!(Argon2::default().verify_password(b"correct horse battery", &parsed), Ok(()));
    assert!(Argon2::default().verify_password(b"correct horse batterz", &parsed).is_err());
}

#[tokio::test]
async fn one_hash_after_the_other_works_in_the_same_memory() {
    let passwords = Passwords::new().unwrap();
    let places = passwords.memories.places();
    assert_eq!(places.len(), 1);
    for _ in 0..3 {
        passwords.verify(&secret("a wrong password"), None).await.unwrap();
        assert_eq!(passwords.memories.places(), places);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rush_of_log_ins_leaves_no_more_memory_than_there_are_turns() {
    let passwords = Passwords::new().unwrap();
    let password = secret("a wrong password");
    let verdicts = join_all((0..HASHES_AT_ONCE * 3).map(|_| passwords.verify(&password, None))).await;
    assert!(verdicts.into_iter().all(|verdict| verdict == Ok(Verdict::Wrong)));
    let places = passwords.memories.places();
    assert!((1..=HASHES_AT_ONCE).contains(&places.len()), "{places:?}");
}

#[tokio::test]
async fn nobodys_password_is_always_wrong() {
    let passwords = Passwords::new().unwrap();
    assert_eq!(passwords.verify(&secret("anything at all"), None).await.unwrap(), Verdict::Wrong);
    let damaged = PasswordHash::stored("no hash");
    assert_eq!(passwords.verify(&secret("anything at all"), Some(&damaged)).await.unwrap(), Verdict::Wrong);
}

#[test]
fn a_password_has_12_to_128_characters() {
    let of = |length: usize| check_password("password", &secret(&"ä".repeat(length))).is_ok();
    assert_eq!([of(11), of(12), of(128), of(129)], [false, true, true, false]);
    assert!(check_password("password", &secret("with a\nline break")).is_err());
}
