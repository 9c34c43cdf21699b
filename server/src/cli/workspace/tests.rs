use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::*;

fn file(path: &Path) -> Credential {
    Credential::File(path.display().to_string())
}

#[test]
fn a_credential_is_read_from_a_file_without_the_end_of_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("credential");
    for (text, found) in [("sk-1\r\n", Ok(Some("sk-1".to_owned()))), ("sk-1", Ok(Some("sk-1".to_owned())))] {
        std::fs::write(&path, text).unwrap();
        assert_eq!(find(&file(&path)), found);
    }
    std::fs::write(&path, "\n").unwrap();
    assert!(find(&file(&path)).unwrap_err().ends_with(" is empty"));
}

#[test]
fn the_longest_credential_is_read_and_nothing_longer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("credential");
    let longest = "x".repeat(SECRET_BYTES_MAX);
    std::fs::write(&path, format!("{longest}\r\n")).unwrap();
    assert_eq!(find(&file(&path)), Ok(Some(longest.clone())));
    std::fs::write(&path, format!("{longest}xxx")).unwrap();
    assert!(find(&file(&path)).unwrap_err().ends_with("a credential has at most 4096 bytes"));
}

#[test]
fn what_is_no_file_holds_no_credential_and_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    for path in [&pipe, Path::new("/dev/zero"), folder.path()] {
        assert!(find(&file(path)).unwrap_err().ends_with("it is no regular file"), "{}", path.display());
        assert_eq!(find_if_there(&file(path)), Ok(None));
    }
}

#[test]
fn what_is_no_name_of_a_variable_is_not_said_again() {
    for secret in ["sk-literal-secret", "", "1st", "a b"] {
        let told = find(&Credential::Env(secret.to_owned())).unwrap_err();
        assert!(secret.is_empty() || !told.contains(secret), "{told}");
    }
    let told = find(&Credential::Env("RATEGUARD_TESTS_SET_THIS_NEVER".to_owned())).unwrap_err();
    assert_eq!(told, "environment variable RATEGUARD_TESTS_SET_THIS_NEVER: is not set");
}
