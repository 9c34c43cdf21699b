//! `rateguard-tools gen` writes the generated documents; with `--check` it only
//! tells whether they are current, and fails with the difference where not.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::bail;
use clap::{Parser, Subcommand};
use rateguard_tools::generated;

/// The repository's own tools.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write the documents that are generated from code.
    Gen {
        /// Write nothing; fail with the difference where a document is stale.
        #[arg(long)]
        check: bool,
        /// The repository's root.
        #[arg(long, default_value = ".")]
        root: PathBuf,
    },
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Gen { check: false, root } => generated::write_all(&root, &generated::documents()),
        Command::Gen { check: true, root } => check(&root),
    }
}

fn check(root: &std::path::Path) -> anyhow::Result<()> {
    let diffs = generated::differences(root, &generated::documents())?;
    if diffs.is_empty() {
        return Ok(());
    }
    std::io::stdout().write_all(diffs.concat().as_bytes())?;
    bail!("{} generated documents are stale: run `make gen` and commit them", diffs.len());
}
