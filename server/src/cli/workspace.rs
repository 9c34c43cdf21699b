//! `rateguard export`, `rateguard diff` and `rateguard apply`: a workspace as a file.

mod report;

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;
use rateguard_proto::v1;

use super::{ServerArgs, print};
use crate::client::describe;
use crate::workspace_file::document::Credential;
use crate::workspace_file::{self, FindCredential};

/// Longest credential that is read from a file, in bytes; longer ones the server refuses.
const CREDENTIAL_BYTES_MAX: u64 = 8_192;

#[derive(Debug, Args)]
pub(super) struct Export {
    #[command(flatten)]
    server: ServerArgs,
    /// Write to this file instead of printing
    #[arg(long, short)]
    output: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct FileArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// The file
    file: PathBuf,
    /// Delete what the file does not name, but for the key of this call
    #[arg(long)]
    prune: bool,
}

#[derive(Debug, Args)]
pub(super) struct Diff {
    #[command(flatten)]
    file: FileArgs,
    /// Fail where something would change
    #[arg(long)]
    exit_code: bool,
}

#[derive(Debug, Args)]
pub(super) struct Apply {
    #[command(flatten)]
    file: FileArgs,
    /// Only say what would change, as diff does
    #[arg(long)]
    dry_run: bool,
    /// The state that diff has shown: fail where the workspace has changed since
    #[arg(long, default_value = "")]
    state: String,
}

impl Export {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let client = self.server.connect().await?;
        let answer = client.configurations().export_workspace(v1::ExportWorkspaceRequest {}).await;
        let configuration = answer.map_err(|s| describe(&s))?.into_inner().configuration;
        let text = workspace_file::render_message(configuration.unwrap_or_default())?;
        match self.output {
            Some(path) => {
                std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
            }
            None => print(text.trim_end_matches('\n')),
        }
    }
}

impl Diff {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let answer = self.file.send(true, String::new()).await?;
        print(&report::report(&answer, report::Tense::Would)?)?;
        if self.exit_code && report::changes(&answer) {
            bail!("the workspace is not what the file says");
        }
        Ok(())
    }
}

impl Apply {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let tense = if self.dry_run { report::Tense::Would } else { report::Tense::Did };
        let answer = self.file.send(self.dry_run, self.state).await?;
        // The new keys come first: whatever fails after this, they have been shown.
        for created in &answer.created_keys {
            let secret = created.secret.as_ref().map_or("", |secret| &secret.value);
            print(&format!("key {:?}, shown only now: {secret}", created.name))?;
        }
        print(&report::report(&answer, tense)?)
    }
}

impl FileArgs {
    async fn send(&self, dry_run: bool, etag: String) -> anyhow::Result<v1::ApplyWorkspaceResponse> {
        let in_file = || self.file.display().to_string();
        let document = workspace_file::read(&self.file).with_context(in_file)?;
        let find: FindCredential<'_> = if dry_run { &find_if_there } else { &find };
        let configuration = workspace_file::to_message(document, find).with_context(in_file)?;
        let client = self.server.connect().await?;
        let request = v1::ApplyWorkspaceRequest {
            configuration: Some(configuration),
            prune: self.prune,
            dry_run,
            etag,
        };
        let answer = client.configurations().apply_workspace(request).await;
        Ok(answer.map_err(|s| describe(&s)).with_context(in_file)?.into_inner())
    }
}

/// Reads a credential from where the file says it is.
fn find(credential: &Credential) -> Result<Option<String>, String> {
    let (place, text) = match credential {
        Credential::Stored => return Ok(None),
        Credential::Env(name) => {
            (format!("environment variable {name}"), std::env::var(name).map_err(|error| error.to_string()))
        }
        Credential::File(path) => (format!("file {path}"), read_credential(path)),
    };
    let text = text.map_err(|error| format!("{place}: {error}"))?;
    let secret = text.trim_end_matches(['\r', '\n']);
    if secret.is_empty() { Err(format!("{place} is empty")) } else { Ok(Some(secret.to_owned())) }
}

fn read_credential(path: &str) -> Result<String, String> {
    let length = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if length > CREDENTIAL_BYTES_MAX {
        return Err(format!("has more than {CREDENTIAL_BYTES_MAX} bytes"));
    }
    std::fs::read_to_string(path).map_err(|error| error.to_string())
}

/// To compare, a credential need not be at hand: then it counts as the one that is stored.
fn find_if_there(credential: &Credential) -> Result<Option<String>, String> {
    Ok(find(credential).unwrap_or_default())
}
