//! Where PostgreSQL's programs are.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::ServerError;

/// The oldest major version that the product supports.
const VERSION_MIN: u32 = 15;

/// Where Debian keeps each major version in a folder of its own, none of them on PATH.
const DEBIAN_ROOT: &str = "/usr/lib/postgresql";

/// The folder that holds `initdb`, `postgres` and `psql` of one version.
#[derive(Debug, Clone)]
pub(super) struct Binaries {
    folder: PathBuf,
}

impl Binaries {
    /// The oldest version found that will do: what passes on it passes on the newer ones.
    pub(super) fn find() -> Result<Self, ServerError> {
        candidates()
            .into_iter()
            .filter_map(|folder| Some((version_of(&folder)?, folder)))
            .filter(|(version, _)| *version >= VERSION_MIN)
            .min_by_key(|(version, _)| *version)
            .map(|(_, folder)| Self { folder })
            .ok_or(ServerError::NotInstalled { version_min: VERSION_MIN })
    }

    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

fn candidates() -> Vec<PathBuf> {
    let debian = std::fs::read_dir(DEBIAN_ROOT).into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = debian.map(|entry| entry.path().join("bin")).collect();
    folders.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    folders.retain(|folder| ["initdb", "postgres", "psql"].iter().all(|name| folder.join(name).is_file()));
    folders
}

/// The major version that `postgres --version` names, as in `postgres (PostgreSQL) 15.10`.
fn version_of(folder: &Path) -> Option<u32> {
    let output = Command::new(folder.join("postgres")).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let version = text.split_once("(PostgreSQL)")?.1.trim_start();
    let digits = version.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(version.len());
    version[..digits].parse().ok()
}
