//! `rateguard import`: rules out of another product's configuration.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand};

use super::{print, tell};
use crate::envoy_import::import;
use crate::workspace_file::{read_text, render};

#[derive(Debug, Subcommand)]
pub(super) enum Import {
    /// Turn a configuration of Envoy's rate-limit service into a workspace's file, for apply
    EnvoyRatelimit(EnvoyRatelimit),
}

#[derive(Debug, Args)]
pub(super) struct EnvoyRatelimit {
    /// The configuration of one domain
    file: PathBuf,
    /// The workspace's currency, which the file has to say
    #[arg(long, default_value = "USD")]
    currency: String,
    /// Write to this file instead of printing
    #[arg(long, short)]
    output: Option<PathBuf>,
}

impl Import {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::EnvoyRatelimit(import) => import.run(),
        }
    }
}

impl EnvoyRatelimit {
    fn run(self) -> anyhow::Result<()> {
        let in_file = || self.file.display().to_string();
        let imported = import(&read_text(&self.file)?, &self.currency).with_context(in_file)?;
        for note in &imported.notes {
            tell(&format!("{}: {}: {}", self.file.display(), note.path, note.message))?;
        }
        let text = render(&imported.document)?;
        match self.output {
            Some(path) => {
                std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
            }
            None => print(text.trim_end_matches('\n')),
        }
    }
}
