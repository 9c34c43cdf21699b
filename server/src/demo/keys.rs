//! The demo's keys, in a file for its owner alone that a shell can read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::keyfile;

/// The file's name within the data folder.
const FILE: &str = "keys.env";

/// The secrets of the demo's keys.
#[derive(Clone, PartialEq, Eq)]
pub struct DemoKeys {
    /// May do everything by RPC: check, report, read, manage.
    pub manage: String,
    /// May call through the gateway.
    pub app: String,
    /// Like `app`, limited to two requests a minute.
    pub tight: String,
    /// Like `app`, with a budget of nothing.
    pub broke: String,
    /// The address by which the workspace's owner logs in.
    pub owner_email: String,
    /// The owner's password.
    pub owner_password: String,
}

impl std::fmt::Debug for DemoKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DemoKeys([redacted])")
    }
}

/// Where the keys of a data folder are.
pub fn path(folder: &Path) -> PathBuf {
    folder.join(FILE)
}

impl DemoKeys {
    /// Reads the keys of a data folder; `None` where no demo was made.
    ///
    /// # Errors
    /// When the file is there and a key is not in it.
    pub fn read(folder: &Path) -> anyhow::Result<Option<Self>> {
        let path = path(folder);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        let mut values: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once('=')).collect();
        let mut take = |name: &str| {
            let value = values.remove(name).with_context(|| format!("{} has no {name}", path.display()))?;
            Ok::<_, anyhow::Error>(value.to_owned())
        };
        Ok(Some(Self {
            manage: take("MANAGE_KEY")?,
            app: take("APP_KEY")?,
            tight: take("TIGHT_KEY")?,
            broke: take("BROKE_KEY")?,
            owner_email: take("OWNER_EMAIL")?,
            owner_password: take("OWNER_PASSWORD")?,
        }))
    }

    /// Writes the keys of a new demo: its last step, so that a demo with keys is whole.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn write(&self, folder: &Path) -> anyhow::Result<()> {
        let Self { manage, app, tight, broke, owner_email, owner_password } = self;
        let text = format!(
            "MANAGE_KEY={manage}\nAPP_KEY={app}\nTIGHT_KEY={tight}\nBROKE_KEY={broke}\n\
             OWNER_EMAIL={owner_email}\nOWNER_PASSWORD={owner_password}\n"
        );
        keyfile::create(&path(folder), &text)
    }
}
