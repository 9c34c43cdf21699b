//! The measured processes: built, started, told apart, ended.

use std::env;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context, bail, ensure};

use crate::machine::Machine;

/// What a server prints before its address once it answers.
const READY: &str = "ready at http://";

/// Builds the server as it is released, when cargo is what runs the benchmarks.
///
/// # Errors
/// When it does not build.
pub fn build_server() -> anyhow::Result<()> {
    let Some(cargo) = env::var_os("CARGO") else { return Ok(()) };
    let built = Command::new(cargo)
        .args(["build", "--release", "--quiet", "--package", "rateguard-server", "--bin", "rateguard"])
        .status()?;
    ensure!(built.success(), "the server does not build");
    Ok(())
}

/// The server's program: it lies beside this one.
///
/// # Errors
/// When it is not there.
pub fn server_program() -> anyhow::Result<PathBuf> {
    let program = env::current_exe()?.with_file_name("rateguard");
    ensure!(program.exists(), "{} is missing; run the benchmarks with cargo", program.display());
    Ok(program)
}

/// A folder for data on the disk that the program is on, removed when it is dropped. (A folder for
/// temporary files may be in memory, where syncing costs nothing.)
///
/// # Errors
/// When it cannot be made.
pub fn data_folder() -> anyhow::Result<tempfile::TempDir> {
    let program = env::current_exe()?;
    let beside = program.parent().context("a program lies in a folder")?;
    Ok(tempfile::Builder::new().prefix("bench-").tempdir_in(beside)?)
}

/// What the bare echo answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Echoed {
    /// `CheckQuota`.
    Checks,
    /// Envoy's `ShouldRateLimit`.
    Descriptors,
}

/// A server in a process of its own, killed when it is dropped: its data is thrown away.
pub struct Server {
    child: Child,
    /// Where it answers.
    pub address: SocketAddr,
    // Open as long as the server: it may have more to say.
    _output: BufReader<ChildStdout>,
}

impl Server {
    /// Starts RateGuard on a folder that was made and seeded before, with these variables.
    ///
    /// # Errors
    /// When it does not get ready.
    pub fn rateguard(
        machine: &Machine,
        folder: &Path,
        environment: &[(&str, String)],
    ) -> anyhow::Result<Self> {
        let mut command = machine.on_server_core(&server_program()?);
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        Self::start(command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(folder))
    }

    /// Starts the bare echo with the answer in a file.
    ///
    /// # Errors
    /// When it does not get ready.
    pub fn echo(machine: &Machine, answer: &Path, echoed: Echoed) -> anyhow::Result<Self> {
        let mut command = machine.on_server_core(&env::current_exe()?);
        command.args(["echo", "--answer"]).arg(answer);
        if echoed == Echoed::Descriptors {
            command.arg("--descriptors");
        }
        Self::start(&mut command)
    }

    fn start(command: &mut Command) -> anyhow::Result<Self> {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let mut output = BufReader::new(child.stdout.take().context("the server's output is piped")?);
        let mut line = String::new();
        output.read_line(&mut line)?;
        let address = line.trim_end().strip_prefix(READY).map(str::parse);
        match address {
            Some(Ok(address)) => Ok(Self { child, address, _output: output }),
            _ => {
                drop(child.kill());
                bail!("the server did not get ready: {line:?}");
            }
        }
    }

    /// Its process.
    pub fn process(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself, which is what is wanted here.
        if self.child.kill().is_ok() {
            drop(self.child.wait());
        }
    }
}
