//! Files of certificates, good and bad. What is served with them on sockets is tested with the listeners.

pub(crate) mod authority;

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use self::authority::{Authority, FAR_YEAR, Folder, shown};
use super::*;

fn year(year: i32) -> Timestamp {
    format!("{year}-01-01T00:00:00Z").parse().unwrap()
}

fn load(folder: &Folder) -> Result<Arc<Certificates>, TlsError> {
    Certificates::load(folder.files(None))
}

/// An error with everything that a log could show of it.
fn whole(error: &TlsError) -> String {
    let cause = std::error::Error::source(error).map(|source| format!("{source} {source:?}"));
    format!("{error} {error:?} {cause:?}")
}

#[test]
fn a_certificate_with_its_key_is_served_until_the_first_end_in_its_file() {
    let (authority, other) = (Authority::new(), Authority::new());
    let folder = Folder::with(&authority);
    assert_eq!(load(&folder).unwrap().ends_at(), year(FAR_YEAR));
    let sooner = other.issue(2_900).certificate;
    folder.write(
        "certificate.pem",
        &(std::fs::read_to_string(folder.path("certificate.pem")).unwrap() + &sooner),
    );
    assert_eq!(load(&folder).unwrap().ends_at(), year(2_900));
}

#[test]
fn a_key_that_others_can_read_is_refused_with_what_to_run() {
    let folder = Folder::with(&Authority::new());
    for mode in [0o640, 0o604, 0o660] {
        folder.permit("key.pem", mode);
        let refused = load(&folder).unwrap_err().to_string();
        let key = shown(&folder.path("key.pem"));
        assert!(refused.contains(&format!("(mode {mode:04o}); run: chmod 600 {key}")), "{refused}");
    }
    folder.permit("key.pem", 0o400);
    folder.permit("certificate.pem", 0o644);
    load(&folder).unwrap();
}

#[test]
fn a_file_that_is_missing_too_long_or_something_else_is_named() {
    let authority = Authority::new();
    let folder = Folder::with(&authority);
    let issued = authority.issue(FAR_YEAR);
    let too_long = "x".repeat(usize::try_from(PEM_FILE_BYTES_MAX).unwrap() + 1);
    for (name, text, said) in [
        ("certificate.pem", "nothing", "holds no certificate"),
        ("certificate.pem", &issued.key, "holds no certificate"),
        (
            "certificate.pem",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "holds no certificate",
        ),
        ("certificate.pem", &too_long, "is longer than 1048576 bytes"),
        ("key.pem", &issued.certificate, "holds no private key"),
        ("key.pem", "", "holds no private key"),
        ("key.pem", &too_long, "is longer than 1048576 bytes"),
    ] {
        folder.put(&issued);
        folder.write(name, text);
        let refused = load(&folder).unwrap_err().to_string();
        assert_eq!(refused.split_once(' ').unwrap().0, shown(&folder.path(name)));
        assert!(refused.contains(said), "{refused}");
    }
    std::fs::remove_file(folder.path("key.pem")).unwrap();
    let refused = whole(&load(&folder).unwrap_err());
    assert!(refused.contains("key.pem cannot be read") && refused.contains("NotFound"), "{refused}");
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let authority = Authority::new();
    let folder = Folder::with(&authority);
    folder.write("key.pem", &authority.issue(FAR_YEAR).key);
    let refused = whole(&load(&folder).unwrap_err());
    assert!(refused.contains("cannot be used") && refused.contains("KeyMismatch"), "{refused}");
}

#[test]
fn nothing_that_can_be_printed_holds_a_part_of_the_key() {
    let authority = Authority::new();
    let folder = Folder::with(&authority);
    let key = authority.issue(FAR_YEAR).key;
    let secret = key.lines().nth(1).unwrap();
    let damaged = [
        key.replace('\n', ""),
        key.replace("-----END", "-----"),
        key.replace("-----BEGIN PRIVATE KEY", "-----BEGIN"),
        key.replace(secret, &format!("!{secret}")),
        key.clone(),
    ];
    for text in damaged {
        folder.write("key.pem", &text);
        let refused = whole(&load(&folder).unwrap_err());
        assert!(!refused.contains(&secret[..8]), "{refused}");
        let as_numbers = format!("{:?}", &secret.as_bytes()[..8]);
        assert!(!refused.contains(as_numbers.trim_matches(['[', ']'])), "{refused}");
    }
    folder.put(&authority.issue(FAR_YEAR));
    let certificates = load(&folder).unwrap();
    let tls = certificates.tls(ClientCertificates::NotAsked).unwrap();
    let secret = std::fs::read_to_string(folder.path("key.pem")).unwrap().lines().nth(1).unwrap().to_owned();
    let printed = format!("{certificates:?} {tls:?} {:?}", tls.current());
    assert!(printed.contains("key.pem") && !printed.contains(&secret[..8]), "{printed}");
}

#[test]
fn certificates_of_clients_cannot_be_wanted_without_their_authority() {
    let authority = Authority::new();
    let folder = Folder::with(&authority);
    let certificates = load(&folder).unwrap();
    for wanted in [ClientCertificates::Optional, ClientCertificates::Required] {
        assert!(matches!(certificates.tls(wanted), Err(TlsError::NoClientAuthority)));
    }
    let mut files = folder.files(Some(&authority));
    Certificates::load(files.clone()).unwrap().tls(ClientCertificates::Required).unwrap();
    files.client_authority = Some(files.key.clone());
    let refused = Certificates::load(files).unwrap_err().to_string();
    assert!(refused.contains("key.pem holds no certificate"), "{refused}");
}

#[test]
fn what_is_broken_does_not_take_the_place_of_what_is_served() {
    let authority = Authority::new();
    let folder = Folder::with(&authority);
    let certificates = load(&folder).unwrap();
    folder.write("key.pem", "half a k");
    assert!(certificates.reload(Timestamp::now()).is_err());
    assert_eq!(certificates.ends_at(), year(FAR_YEAR));
    // The certificate is there before its key.
    let next = authority.issue(3_000);
    folder.write("certificate.pem", &next.certificate);
    assert!(certificates.reload(Timestamp::now()).is_err());
    assert_eq!(certificates.ends_at(), year(FAR_YEAR));
    folder.write("key.pem", &next.key);
    certificates.reload(Timestamp::now()).unwrap();
    assert_eq!(certificates.ends_at(), year(3_000));
}

#[test]
fn a_certificate_that_has_ended_is_served_at_start_and_never_put_in_the_place_of_another() {
    let authority = Authority::new();
    let folder = Folder::with(&authority);
    let certificates = load(&folder).unwrap();
    folder.put(&authority.issue(2_000));
    let refused = certificates.reload(Timestamp::now()).unwrap_err().to_string();
    assert!(refused.contains("certificate.pem ended at 2000-01-01T00:00:00Z"), "{refused}");
    assert_eq!(certificates.ends_at(), year(FAR_YEAR));
    assert_eq!(load(&folder).unwrap().ends_at(), year(2_000));
}

#[test]
fn the_same_files_are_read_anew_once_whether_they_are_good_or_bad() {
    let authority = Authority::new();
    let folder = Folder::with(&authority);
    let certificates = load(&folder).unwrap();
    let now = Timestamp::now();
    assert!(certificates.reload_if_changed(now).is_none());
    folder.write("key.pem", "broken");
    assert!(certificates.reload_if_changed(now).unwrap().is_err());
    assert!(certificates.reload_if_changed(now).is_none());
    std::fs::remove_file(folder.path("key.pem")).unwrap();
    assert!(certificates.reload_if_changed(now).unwrap().is_err());
    assert!(certificates.reload_if_changed(now).is_none());
    folder.put(&authority.issue(3_000));
    certificates.reload_if_changed(now).unwrap().unwrap();
    assert!(certificates.reload_if_changed(now).is_none());
}

#[tokio::test(start_paused = true)]
async fn files_that_change_are_found_by_looking_until_the_stop() {
    let authority = Authority::new();
    let folder = Folder::with(&authority);
    let certificates = load(&folder).unwrap();
    let stopping = CancellationToken::new();
    let hangup = signal(SignalKind::hangup()).unwrap();
    let watched = tokio::spawn(Arc::clone(&certificates).keep_current(hangup, stopping.clone()));
    folder.put(&authority.issue(3_000));
    // Longer than a few looks of virtual time.
    tokio::time::timeout(10 * LOOK_EVERY, async {
        while certificates.ends_at() != year(3_000) {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    })
    .await
    .unwrap();
    stopping.cancel();
    watched.await.unwrap().unwrap();
}
