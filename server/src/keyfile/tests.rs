//! Whose eyes a key is for, what a file of keys holds, and how it is replaced.

use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use rateguard_engine::secrets::{KEYS_PER_RING_MAX, KeySource as _};
use tempfile::TempDir;

use super::*;

fn made() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("encryption.key");
    create_encryption_key(&path).unwrap();
    (folder, path)
}

fn key(number: u8) -> EncryptionKey {
    EncryptionKey::new(&[number; 32]).unwrap()
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_key_that_others_can_read_is_refused_with_the_command_that_mends_it() {
    let (_folder, path) = made();
    read_encryption_key(&path).unwrap();
    for mode in [0o644, 0o640, 0o604, 0o660] {
        set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let refused = read_encryption_key(&path).unwrap_err().to_string();
        assert!(
            refused.contains(&format!("(mode {mode:04o}); run: chmod 600 {}", path.display())),
            "{refused}"
        );
    }
    for mode in [0o600, 0o400] {
        set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        read_encryption_key(&path).unwrap();
    }
}

#[test]
fn a_file_that_is_too_long_is_refused_and_not_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    let longest = usize::try_from(FILE_BYTES_MAX).unwrap();
    create(&path, &"x".repeat(longest)).unwrap();
    assert_eq!(read_private(&path).unwrap().expose().len(), longest);
    std::fs::write(&path, "x".repeat(longest + 1)).unwrap();
    let refused = format!("{:#}", read_private(&path).unwrap_err());
    assert!(refused.contains("is longer than 16384 bytes"), "{refused}");
}

#[test]
fn a_key_that_is_missing_or_no_key_is_refused_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("encryption.key");
    let missing = format!("{:#}", read_encryption_key(&path).unwrap_err());
    assert!(missing.contains("encryption.key; restore it from a backup"), "{missing}");
    let good = hex::encode([7; 32]);
    for (text, said) in [
        ("not a key".to_owned(), "line 1 must hold 64 hexadecimal digits"),
        (String::new(), "must hold 64 hexadecimal digits in its first line"),
        (format!("next {good}\n"), "must hold 64 hexadecimal digits in its first line"),
        (format!("{good}\n{good}ff\n"), "line 2 must hold 64 hexadecimal digits"),
        (format!("{good}\nnext {good}\nnext {good}\n"), "only one line"),
        (format!("{good}\n").repeat(KEYS_PER_RING_MAX + 1), "at most 16 keys"),
    ] {
        let path = folder.path().join("other.key");
        create(&path, &text).unwrap();
        let refused = read_encryption_key(&path).unwrap_err().to_string();
        assert!(refused.contains("other.key") && refused.contains(said), "{refused}");
        assert!(!refused.contains(&good) && !refused.contains("not a key"), "{refused}");
        std::fs::remove_file(&path).unwrap();
    }
}

#[test]
fn a_file_of_one_key_is_what_it_always_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("encryption.key");
    create(&path, &format!("{}\n", hex::encode([7; 32]))).unwrap();
    let keys = KeyFile::read(&path).unwrap();
    assert_eq!(keys, KeyFile::of(key(7)));
    assert!(keys.is_settled());
    assert_eq!(keys.to_text().expose(), std::fs::read_to_string(&path).unwrap());
}

#[test]
fn the_next_key_opens_before_it_seals_and_the_old_one_after() {
    let (_folder, path) = made();
    let before = KeyFile { next: Some(key(2)), ..KeyFile::of(key(1)) };
    let after = before.clone().promoted();
    assert_eq!(after, KeyFile { old: vec![key(1)], ..KeyFile::of(key(2)) });
    for (keys, sealing) in [(before, 1), (after, 2)] {
        replace(&path, &keys).unwrap();
        let read = KeyFile::read(&path).unwrap();
        assert_eq!(read, keys);
        assert_eq!(read.ring().sealing(), &key(sealing));
        assert_eq!(read.ring().keys().count(), 2);
        assert!(!read.is_settled());
    }
}

#[test]
fn a_file_is_replaced_for_its_owner_alone_also_after_a_replacement_that_was_cut_off() {
    let (folder, path) = made();
    let left_behind = folder.path().join("encryption.key.new");
    std::fs::write(&left_behind, "half a k").unwrap();
    set_permissions(&left_behind, Permissions::from_mode(0o644)).unwrap();
    replace(&path, &KeyFile::of(key(3))).unwrap();
    assert_eq!((KeyFile::read(&path).unwrap(), mode(&path)), (KeyFile::of(key(3)), MODE));
    assert!(!left_behind.exists());
}

#[test]
fn a_link_to_a_file_stays_one() {
    let (folder, path) = made();
    let link = folder.path().join("link.key");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    replace(&link, &KeyFile::of(key(3))).unwrap();
    assert!(link.symlink_metadata().unwrap().is_symlink());
    assert_eq!(KeyFile::read(&path).unwrap(), KeyFile::of(key(3)));
}

#[test]
fn a_file_that_cannot_be_replaced_is_as_it_was() {
    let (folder, path) = made();
    let before = KeyFile::read(&path).unwrap();
    // A folder in the place of the unfinished file cannot be removed as a file, not even by root.
    std::fs::create_dir(folder.path().join("encryption.key.new")).unwrap();
    let error = format!("{:#}", replace(&path, &KeyFile::of(key(3))).unwrap_err());
    assert!(error.contains("encryption.key cannot be replaced; it is as it was"), "{error}");
    assert_eq!(KeyFile::read(&path).unwrap(), before);
}

#[test]
fn one_rotates_at_a_time() {
    let (_folder, path) = made();
    let lock = RotationLock::take(&path).unwrap();
    let refused = RotationLock::take(&path).unwrap_err().to_string();
    assert!(refused.contains("somebody else is rotating the keys of"), "{refused}");
    drop(lock);
    RotationLock::take(&path).unwrap();
}

#[test]
fn a_source_gives_keys_once_for_each_change_of_its_file() {
    let (_folder, path) = made();
    let (source, keys) = KeyFileSource::open(&path).unwrap();
    assert_eq!(source.changed(), None);
    let more = KeyFile { old: vec![keys.sealing.clone()], ..KeyFile::of(key(9)) };
    replace(&path, &more).unwrap();
    assert_eq!(source.changed(), Some(more.ring()));
    assert_eq!(source.changed(), None);
}

#[test]
fn a_file_that_cannot_be_read_for_a_while_changes_nothing_until_it_can() {
    let (_folder, path) = made();
    let (source, keys) = KeyFileSource::open(&path).unwrap();
    set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    assert_eq!(source.changed(), None);
    set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    assert_eq!(source.changed(), Some(keys.ring()));
    std::fs::remove_file(&path).unwrap();
    assert_eq!((source.changed(), source.changed()), (None, None));
    create(&path, keys.to_text().expose()).unwrap();
    assert_eq!(source.changed(), Some(keys.ring()));
}
