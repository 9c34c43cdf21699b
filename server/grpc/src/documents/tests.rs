use std::collections::HashSet;

use rateguard_proto::v1::ErrorReason;

use super::*;

/// Every reason of the contract but UNSPECIFIED.
fn wire_reasons() -> HashSet<ErrorReason> {
    let known = (i32::from(u8::MIN)..=i32::from(u8::MAX)).filter_map(|n| ErrorReason::try_from(n).ok());
    known.filter(|reason| *reason != ErrorReason::Unspecified).collect()
}

#[test]
fn each_reason_has_a_name_of_its_own_in_the_contract_and_none_is_left_over() {
    let named: Vec<ErrorReason> = REASONS.iter().map(|known| reason(*known)).collect();
    let distinct: HashSet<ErrorReason> = named.iter().copied().collect();
    assert_eq!(distinct.len(), named.len(), "two reasons share a name");
    assert_eq!(distinct, wire_reasons());
}

#[test]
fn the_code_of_each_reason_is_the_one_that_the_contract_names() {
    let files = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap().file;
    let file = files.iter().find(|file| file.name().ends_with("error_reason.proto")).unwrap();
    let locations = &file.source_code_info.as_ref().unwrap().location;
    let comments: Vec<&str> = locations.iter().map(|location| location.leading_comments()).collect();
    for known in REASONS {
        let meaning = meanings().remove(reason(known).as_str_name()).unwrap();
        assert!(!meaning.is_empty(), "{known:?} has no comment");
        let begins = format!(" {}: ", code_name(code(known.kind())));
        let told = comments.iter().any(|comment| {
            comment.starts_with(&begins)
                && comment.split_whitespace().collect::<Vec<_>>().join(" ").contains(&meaning)
        });
        assert!(told, "{known:?} is {begins} here and something else in the contract");
    }
}

#[test]
fn the_document_tells_every_reason_once() {
    let document = errors_markdown();
    for known in REASONS {
        let row = format!("| `{}` |", reason(known).as_error_info_reason());
        assert_eq!(document.matches(&row).count(), 1, "{row}");
    }
    assert_eq!(document.lines().filter(|line| line.starts_with("| `")).count(), REASONS.len());
}

#[test]
fn each_row_has_its_code_its_status_and_its_advice() {
    let document = errors_markdown();
    let row = "| `ETAG_MISMATCH` | `ABORTED` | 409 | the resource has changed since the etag was read | \
               read the resource again and repeat the change |";
    assert!(document.lines().any(|line| line == row), "{document}");
}
