//! The keys about where everything is kept.

use std::fmt;
use std::path::PathBuf;

use anyhow::Context;
use serde::Deserialize;

use super::{ConfigError, Redis};
use crate::keyfile;

/// Each of the three stores writes over one connection and reads over some, one listens to changes, and
/// one stands for whoever rolls up.
pub(super) const CONNECTIONS_LEAST: u64 = 8;
/// More than any server of PostgreSQL serves well.
pub(super) const CONNECTIONS_MOST: u64 = 1_000;

/// How the URL of a database begins.
const SCHEMES: [&str; 2] = ["postgres://", "postgresql://"];

/// Where everything is kept.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stores {
    /// In what.
    pub kind: StoresKind,
    /// How PostgreSQL is reached, where it is used.
    pub postgres: Postgres,
    /// How Redis is reached, where it keeps the counters.
    pub redis: Redis,
}

/// In what everything is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoresKind {
    /// Files in the data folder.
    Sqlite,
    /// One database for all replicas.
    Postgres,
}

/// How PostgreSQL is reached.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Postgres {
    url: DatabaseUrl,
    url_file: PathBuf,
    /// Connections of this process, over all stores.
    pub connections_max: u32,
    /// Whether a start brings the schemas up to date.
    pub migrate_at_start: bool,
}

/// The URL of a database. It holds a password, and prints as `[redacted]`.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct DatabaseUrl(String);

impl DatabaseUrl {
    /// The URL itself, for whoever connects.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl Stores {
    /// Checks what must stand together.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let wrong = |key, description: &str| {
            Err(ConfigError::OutOfBounds { key, description: description.to_owned() })
        };
        self.redis.check()?;
        let Postgres { url: DatabaseUrl(url), url_file, .. } = &self.postgres;
        if self.kind == StoresKind::Sqlite {
            return Ok(());
        }
        match (url.as_str(), url_file.as_os_str().is_empty()) {
            ("", true) => {
                wrong("stores.postgres.url", "must name the database, since stores.kind is postgres")
            }
            ("", false) => Ok(()),
            (_, false) => wrong("stores.postgres.url_file", "must be empty where stores.postgres.url is set"),
            (url, true) if is_url(url) => Ok(()),
            (_, true) => wrong("stores.postgres.url", "must begin with postgres://"),
        }
    }
}

impl Postgres {
    /// The database's URL, out of the file where one is named.
    ///
    /// # Errors
    /// When the file cannot be read, others may read it too, or it holds something else.
    pub fn url(&self) -> anyhow::Result<DatabaseUrl> {
        if self.url_file.as_os_str().is_empty() {
            return Ok(self.url.clone());
        }
        let file = &self.url_file;
        let secret = keyfile::read_secret(file).context("stores.postgres.url_file")?;
        // From here on it prints as little as it did.
        let url = secret.expose();
        anyhow::ensure!(
            is_url(url),
            "stores.postgres.url_file {} must hold a URL that begins with postgres://",
            file.display()
        );
        Ok(DatabaseUrl(url.to_owned()))
    }
}

fn is_url(text: &str) -> bool {
    SCHEMES.iter().any(|scheme| text.starts_with(scheme))
}
