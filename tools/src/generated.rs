//! Documents that come from code: what they are, writing them, and telling
//! whether the ones on disk are current.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::Context;
use similar::TextDiff;

/// One document, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generated {
    /// Where it lies, relative to the repository's root.
    pub path: &'static str,
    /// What it says, ending in a line break.
    pub text: String,
}

/// Every generated document, in the order in which they are written.
pub fn documents() -> Vec<Generated> {
    vec![
        Generated { path: "docs/CONFIGURATION.md", text: rateguard_server::config::reference::markdown() },
        Generated {
            path: "docs/workspace.schema.json",
            text: rateguard_server::workspace_file::schema_json(),
        },
        Generated { path: "docs/ERRORS.md", text: rateguard_grpc::documents::errors_markdown() },
        Generated { path: "docs/PERMISSIONS.md", text: rateguard_grpc::documents::permissions_markdown() },
    ]
}

/// Writes `documents` below `root`, making the folders that they lie in.
///
/// # Errors
///
/// Where a folder or file cannot be written; the message names it.
pub fn write_all(root: &Path, documents: &[Generated]) -> anyhow::Result<()> {
    documents.iter().try_for_each(|document| write(root, document))
}

/// Unified diffs from what lies below `root` to what should; none where all is
/// current. A document that does not exist differs whole.
///
/// # Errors
///
/// Where a file exists and cannot be read; the message names it.
pub fn differences(root: &Path, documents: &[Generated]) -> anyhow::Result<Vec<String>> {
    let mut diffs = Vec::new();
    for document in documents {
        let found = read_or_empty(&root.join(document.path))?;
        if found != document.text {
            diffs.push(unified_diff(document, &found));
        }
    }
    Ok(diffs)
}

fn write(root: &Path, document: &Generated) -> anyhow::Result<()> {
    let path = root.join(document.path);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    fs::write(&path, &document.text).with_context(|| format!("cannot write {}", path.display()))
}

fn read_or_empty(path: &Path) -> anyhow::Result<String> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
        read => read.with_context(|| format!("cannot read {}", path.display())),
    }
}

fn unified_diff(document: &Generated, found: &str) -> String {
    TextDiff::from_lines(found, &document.text)
        .unified_diff()
        .header(document.path, &format!("{} (generated)", document.path))
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors_page(text: &str) -> Vec<Generated> {
        vec![Generated { path: "docs/ERRORS.md", text: text.to_owned() }]
    }

    #[test]
    fn what_was_written_is_current() {
        let root = tempfile::tempdir().unwrap();
        let documents = errors_page("one\ntwo\n");
        write_all(root.path(), &documents).unwrap();
        assert_eq!(differences(root.path(), &documents).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn a_stale_document_shows_as_a_diff_that_names_it() {
        let root = tempfile::tempdir().unwrap();
        write_all(root.path(), &errors_page("one\ntwo\n")).unwrap();
        let diffs = differences(root.path(), &errors_page("one\nthree\n")).unwrap();
        assert_eq!(diffs.len(), 1);
        assert!(diffs[0].starts_with("--- docs/ERRORS.md\n"), "{}", diffs[0]);
        assert!(diffs[0].contains("-two\n+three\n"), "{}", diffs[0]);
    }

    #[test]
    fn a_missing_document_differs_whole() {
        let root = tempfile::tempdir().unwrap();
        let diffs = differences(root.path(), &errors_page("one\n")).unwrap();
        assert_eq!(diffs.len(), 1);
        assert!(diffs[0].contains("+one\n"), "{}", diffs[0]);
    }
}
