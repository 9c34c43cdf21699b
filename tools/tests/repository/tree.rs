//! The repository's files, less what git ignores.

use std::path::{Path, PathBuf};

use ignore::WalkBuilder;

/// One text file of the repository.
pub struct TextFile {
    /// Relative to the repository's root, with forward slashes.
    pub path: String,
    pub text: String,
}

impl TextFile {
    /// The part after the last dot of the name, or nothing.
    pub fn extension(&self) -> &str {
        Path::new(&self.path).extension().and_then(|extension| extension.to_str()).unwrap_or_default()
    }

    pub fn line_count(&self) -> usize {
        self.text.lines().count()
    }

    /// Whether the file holds tests only: it lies in a folder `tests`, or is the
    /// child file `tests.rs` of a module.
    pub fn is_test(&self) -> bool {
        self.path.split('/').any(|part| part == "tests" || part == "tests.rs")
    }
}

/// The repository's root: the folder above this crate.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this crate lies below the root")
}

/// Every text file that git does not ignore; a file that is no UTF-8 is left out.
pub fn text_files() -> Vec<TextFile> {
    let files: Vec<TextFile> = walk().filter_map(|path| read(&path)).collect();
    assert!(files.iter().any(|file| file.path == "Cargo.toml"), "the walk must see the repository");
    files
}

/// The Rust files among [`text_files`].
pub fn rust_files() -> Vec<TextFile> {
    text_files().into_iter().filter(|file| file.extension() == "rs").collect()
}

fn walk() -> impl Iterator<Item = PathBuf> {
    WalkBuilder::new(root())
        .hidden(false)
        .parents(false)
        .git_global(false)
        .git_exclude(false)
        .require_git(false)
        .filter_entry(|entry| entry.file_name() != ".git")
        .build()
        .map(|entry| entry.expect("the tree is readable"))
        .filter(|entry| entry.file_type().is_some_and(|kind| kind.is_file()))
        .map(ignore::DirEntry::into_path)
}

fn read(path: &Path) -> Option<TextFile> {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let text = String::from_utf8(bytes).ok()?;
    let relative = path.strip_prefix(root()).expect("the walk stays below the root");
    Some(TextFile { path: relative.to_string_lossy().replace('\\', "/"), text })
}
