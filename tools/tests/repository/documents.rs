//! Generated documents are current.

use rateguard_tools::generated;

use crate::tree;

#[test]
fn generated_documents_are_current() {
    let diffs = generated::differences(tree::root(), &generated::documents()).unwrap();
    assert!(diffs.is_empty(), "run `make gen` and commit:\n{}", diffs.concat());
}
