//! Whose eyes a key is for.

use std::fs::{Permissions, set_permissions};

use super::*;

#[test]
fn a_key_that_others_can_read_is_refused_with_the_command_that_mends_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("encryption.key");
    create_encryption_key(&path).unwrap();
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
fn a_key_that_is_missing_or_no_key_is_refused_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("encryption.key");
    let missing = format!("{:#}", read_encryption_key(&path).unwrap_err());
    assert!(missing.contains("encryption.key; restore it from a backup"), "{missing}");
    create(&path, "not a key").unwrap();
    let refused = read_encryption_key(&path).unwrap_err().to_string();
    assert!(refused.contains("must hold 64 hexadecimal digits"), "{refused}");
}
