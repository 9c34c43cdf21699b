//! `rateguard export`, `rateguard diff` and `rateguard apply`: a workspace as a file.

mod report;

use std::env::VarError;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use rateguard_core::limits::SECRET_BYTES_MAX;
use rateguard_proto::v1;
use rateguard_serving::files::{open_regular, read_at_most};
use tonic::Status;

use super::{ServerArgs, print};
use crate::client::{describe, is_outcome_unknown};
use crate::workspace_file::document::Credential;
use crate::workspace_file::{self, FindCredential};

/// Most that is read of a file with a credential, in bytes: the longest that the server takes, and the
/// end of its line.
const CREDENTIAL_FILE_BYTES_MAX: u64 = SECRET_BYTES_MAX as u64 + 2;

/// What to do where the answer of an application is missing.
const OUTCOME_UNKNOWN: &str = "it is not known whether the file was applied: run diff. Where it was, the secrets of the \
    keys that it made are lost: give those keys new ones (RotateKey), or delete them and apply again";

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
        let refusal = |status: Status| {
            let told = describe(&status);
            if is_outcome_unknown(&status) && !dry_run { told.context(OUTCOME_UNKNOWN) } else { told }
        };
        Ok(answer.map_err(refusal).with_context(in_file)?.into_inner())
    }
}

/// Reads a credential from where the file says it is.
fn find(credential: &Credential) -> Result<Option<String>, String> {
    let (place, text) = match credential {
        Credential::Stored => return Ok(None),
        Credential::Env(name) if !is_name_of_variable(name) => {
            return Err("env takes the name of an environment variable; what it has is none".to_owned());
        }
        Credential::Env(name) => (format!("environment variable {name}"), read_variable(name)),
        Credential::File(path) => (format!("file {path}"), read_credential(Path::new(path))),
    };
    let text = text.map_err(|error| format!("{place}: {error}"))?;
    let secret = text.trim_end_matches(['\r', '\n']);
    if secret.is_empty() { Err(format!("{place} is empty")) } else { Ok(Some(secret.to_owned())) }
}

/// Whether it is a name by POSIX. What is none may be a credential, and is not said again.
fn is_name_of_variable(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
    !name.starts_with(|c: char| c.is_ascii_digit()) && !name.is_empty() && name.chars().all(fits)
}

fn read_variable(name: &str) -> Result<String, String> {
    std::env::var(name).map_err(|error| match error {
        VarError::NotPresent => "is not set".to_owned(),
        // The error would say what it holds.
        VarError::NotUnicode(_) => "is no text".to_owned(),
    })
}

fn read_credential(path: &Path) -> Result<String, String> {
    let file = open_regular(path).map_err(|error| error.to_string())?;
    let bytes = read_at_most(file, CREDENTIAL_FILE_BYTES_MAX).map_err(|error| error.to_string())?;
    let bytes = bytes.ok_or_else(|| format!("a credential has at most {SECRET_BYTES_MAX} bytes"))?;
    String::from_utf8(bytes).map_err(|_| "is no text".to_owned())
}

/// To compare, a credential need not be at hand: then it counts as the one that is stored.
fn find_if_there(credential: &Credential) -> Result<Option<String>, String> {
    Ok(find(credential).unwrap_or_default())
}

#[cfg(test)]
mod tests;
