//! The commands.

mod audit;
mod check;
mod demo;
mod health;
mod import;
mod init;
mod migrate;
mod rotate;
mod serve;
mod usage;
mod workspace;

use std::convert::Infallible;
use std::ffi::OsString;
use std::future::ready;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use futures::future::LocalBoxFuture;
use rateguard_engine::secrets::SecretText;

use crate::client::{Client, ServerTls};
use crate::config::{Config, Override};

/// Quota, metering and cost control for every API that a company calls or sells.
#[derive(Debug, Parser)]
#[command(name = "rateguard", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make an installation: data folder, encryption key, first workspace and key
    Init(init::Init),
    /// Run the server
    Serve(serve::Serve),
    /// Bring the stores up to this version, and say from where to where
    Migrate(migrate::Migrate),
    /// Run a server with demo data and a demo upstream, making both on first use
    Demo(demo::Demo),
    /// Ask whether a call may go ahead
    Check(check::Check),
    /// Report usage, or list what was reported
    #[command(subcommand)]
    Usage(usage::Usage),
    /// Write a whole workspace as one file
    Export(workspace::Export),
    /// Say what a file would change in a workspace
    Diff(workspace::Diff),
    /// Make a workspace what a file says, all of it or nothing
    Apply(workspace::Apply),
    /// Turn another product's configuration into a file for apply
    #[command(subcommand)]
    Import(import::Import),
    /// Change the key that seals credentials, while the server serves or while none does. Cut off, it is run
    /// again
    RotateEncryptionKey(rotate::Rotate),
    /// Ask a server whether it is ready
    Health(health::Health),
    /// Verify, print or list the audit trail of an installation
    #[command(subcommand)]
    Audit(audit::Audit),
}

impl Cli {
    /// Runs the command that was given.
    ///
    /// # Errors
    /// What went wrong, for people.
    pub async fn run(self) -> anyhow::Result<()> {
        // On the heap: a command holds the steps of opening every store.
        let work: LocalBoxFuture<'_, anyhow::Result<()>> = match self.command {
            Command::Init(init) => Box::pin(init.run()),
            Command::Serve(serve) => Box::pin(serve.run()),
            Command::Migrate(migrate) => Box::pin(migrate.run()),
            Command::Demo(demo) => Box::pin(demo.run()),
            Command::Check(check) => Box::pin(check.run()),
            Command::Usage(usage) => Box::pin(usage.run()),
            Command::Export(export) => Box::pin(export.run()),
            Command::Diff(diff) => Box::pin(diff.run()),
            Command::Apply(apply) => Box::pin(apply.run()),
            Command::Import(import) => Box::pin(ready(import.run())),
            Command::RotateEncryptionKey(rotate) => Box::pin(rotate.run()),
            Command::Health(health) => Box::pin(health.run()),
            Command::Audit(audit) => Box::pin(audit.run()),
        };
        work.await
    }
}

/// Where the configuration comes from.
#[derive(Debug, Args)]
struct ConfigArgs {
    /// A configuration file over the built-in default
    #[arg(long, env = "RATEGUARD_CONFIG")]
    config: Option<PathBuf>,
    /// The data folder (data.folder)
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// The address to listen on (server.listen)
    #[arg(long)]
    listen: Option<String>,
}

impl ConfigArgs {
    fn load(&self) -> anyhow::Result<Config> {
        let environment = environment();
        let folder = self.data_dir.as_ref().map(|folder| ("data.folder", folder.display().to_string()));
        let listen = self.listen.clone().map(|listen| ("server.listen", listen));
        let flags: Vec<Override> = folder.into_iter().chain(listen).collect();
        Ok(Config::load(self.config.as_deref(), &environment, &flags)?)
    }
}

/// Which server, and with which key.
#[derive(Debug, Args)]
struct ServerArgs {
    /// The server's address
    #[arg(
        long,
        visible_alias = "server",
        env = "RATEGUARD_ADDRESS",
        default_value = "http://127.0.0.1:8080"
    )]
    address: String,
    /// The API key
    #[arg(long, env = "RATEGUARD_KEY", hide_env_values = true, value_parser = secret)]
    key: SecretText,
    #[command(flatten)]
    tls: ServerTls,
}

impl ServerArgs {
    async fn connect(&self) -> anyhow::Result<Client> {
        Client::connect(&self.address, &self.tls, self.key.expose()).await
    }
}

/// A secret on the command line, which does not print from there on.
fn secret(text: &str) -> Result<SecretText, Infallible> {
    Ok(SecretText::new(text.to_owned()))
}

/// The environment as text. Other programs' variables need not be; in one of ours, what is no text
/// is left for its key to refuse.
fn environment() -> Vec<(String, String)> {
    let text = |(name, value): (OsString, OsString)| {
        Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
    };
    std::env::vars_os().filter_map(text).collect()
}

/// Prints what a command was asked for. A reader that has gone away is an error like any other.
fn print(text: &str) -> anyhow::Result<()> {
    use std::io::Write;
    Ok(writeln!(std::io::stdout().lock(), "{text}")?)
}

/// Tells something beside what a command prints.
fn tell(text: &str) -> anyhow::Result<()> {
    use std::io::Write;
    Ok(writeln!(std::io::stderr().lock(), "{text}")?)
}
