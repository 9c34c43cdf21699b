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
