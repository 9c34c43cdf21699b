use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::*;

fn now() -> Millis {
    Millis::new(1_000_000)
}

fn claims() -> Claims {
    Claims {
        session: SessionId::from_random([1; 16]),
        user: UserId::from_random([2; 16]),
        place: Some((WorkspaceId::from_random([3; 16]), Role::Admin)),
        expires_at: now().plus(900_000),
    }
}

fn cipher() -> CredentialCipher {
    CredentialCipher::new(&[7; 32]).unwrap()
}

fn sealed(number: u8, signs_from: Millis) -> SealedSigningKey {
    draw_key(SigningKeyId::from_random([number; 16]), &cipher(), now(), signs_from).unwrap()
}

fn keyring(keys: &[SealedSigningKey]) -> Keyring {
    let keyring = Keyring::default();
    keyring.install(keys, &cipher()).unwrap();
    keyring
}

fn reason(keyring: &Keyring, token: &str, now: Millis) -> Reason {
    keyring.read(token, now).unwrap_err().reason
}

#[test]
fn a_token_says_what_was_signed_until_it_is_over() {
    let keyring = keyring(&[sealed(1, now())]);
    for claims in [claims(), Claims { place: None, ..claims() }] {
        let token = keyring.sign(&claims, now()).unwrap();
        assert!(token.expose().starts_with(ACCESS_TOKEN_PREFIX));
        assert_eq!(keyring.read(token.expose(), now().plus(899_999)), Ok(claims));
        assert_eq!(reason(&keyring, token.expose(), now().plus(900_000)), Reason::SessionEnded);
    }
}

#[test]
fn whatever_is_changed_in_a_token_makes_it_unknown() {
    let keyring = keyring(&[sealed(1, now())]);
    let token = keyring.sign(&claims(), now()).unwrap();
    for place in ACCESS_TOKEN_PREFIX.len()..token.expose().len() {
        let mut bytes = token.expose().as_bytes().to_vec();
        bytes[place] = if bytes[place] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(bytes).unwrap();
        // The last character of a part may hold bits that mean nothing: those are refused too.
        assert_eq!(reason(&keyring, &changed, now()), Reason::CredentialUnknown, "{place}");
    }
}

#[test]
fn a_token_cannot_choose_how_it_is_verified() {
    let keyring = keyring(&[sealed(1, now())]);
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let body = serde_json::to_string(&Written::from(&claims())).unwrap();
    let unsigned = format!("{}.{}.", part(r#"{"alg":"none"}"#), part(&body));
    let stripped = format!("v4.public.{}.{}", part(&body), part(SigningKeyId::from_random([1; 16]).as_str()));
    for token in [unsigned.as_str(), &stripped, "v4.public.", "v4.local.AAAA", "v2.public.AAAA", "", "....."]
    {
        assert_eq!(reason(&keyring, token, now()), Reason::CredentialUnknown, "{token}");
    }
    assert_eq!(reason(&keyring, &"v4.public.A".repeat(1_000), now()), Reason::CredentialUnknown);
}

#[test]
fn a_key_signs_once_its_time_has_come_and_is_believed_before() {
    let (old, new) = (sealed(1, now()), sealed(2, now().plus(60_000)));
    let both = keyring(&[old.clone(), new.clone()]);
    let only_new = keyring(&[new]);
    let before = both.sign(&claims(), now().plus(59_999)).unwrap();
    let after = both.sign(&claims(), now().plus(60_000)).unwrap();
    assert_eq!(reason(&only_new, before.expose(), now()), Reason::CredentialUnknown);
    assert!(only_new.read(after.expose(), now()).is_ok());
    assert!(both.read(before.expose(), now()).is_ok());
}

#[test]
fn a_key_of_the_same_name_with_another_secret_is_another_key() {
    let token = keyring(&[sealed(1, now())]).sign(&claims(), now()).unwrap();
    assert_eq!(reason(&keyring(&[sealed(1, now())]), token.expose(), now()), Reason::CredentialUnknown);
}

#[test]
fn a_key_sealed_for_another_name_does_not_open() {
    let renamed = SealedSigningKey { id: SigningKeyId::from_random([9; 16]), ..sealed(1, now()) };
    let refused = Keyring::default().install(&[renamed], &cipher()).unwrap_err();
    assert_eq!(refused.reason, Reason::Internal);
}
