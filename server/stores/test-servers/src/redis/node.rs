//! One process of Redis: a server, a node of a cluster, or a Sentinel.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::folder::Folder;
use crate::ServerError;
use crate::ports::{free_port, on_this_machine};

/// Generous, since several processes of tests may share the machine.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How often a start is looked after.
const READY_POLL: Duration = Duration::from_millis(10);
/// Longest wait for an answer to a greeting.
const GREETING_WITHIN: Duration = Duration::from_secs(1);
/// Somebody else may take a free port between its choice and its use.
const PORTS_TRIED: u32 = 5;
/// How much of the log an error shows.
const LOG_BYTES_SHOWN: usize = 2_000;

/// A process, or the place of one that was killed.
#[derive(Debug)]
pub(super) struct Node {
    folder: PathBuf,
    port: u16,
    settings: Vec<String>,
    running: Mutex<Option<Child>>,
}

impl Node {
    /// Starts a process with settings as on the command line; it saves nothing by itself.
    pub(super) fn start_on_free_port(
        folder: &Folder,
        name: &str,
        settings: &[&str],
    ) -> Result<Self, ServerError> {
        let mut last = ServerError::NotRunning;
        for _ in 0..PORTS_TRIED {
            let port = free_port().map_err(ServerError::system("find a free port"))?;
            match Self::start_on(folder, name, port, settings) {
                Ok(node) => return Ok(node),
                Err(error @ ServerError::ProgramMissing { .. }) => return Err(error),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// The same on a port that was chosen before.
    pub(super) fn start_on(
        folder: &Folder,
        name: &str,
        port: u16,
        settings: &[&str],
    ) -> Result<Self, ServerError> {
        let folder = folder.path().join(name);
        std::fs::create_dir_all(&folder).map_err(ServerError::system("make a folder for Redis"))?;
        let settings = settings.iter().map(ToString::to_string).collect();
        let node = Self { folder, port, settings, running: Mutex::new(None) };
        node.start_again()?;
        Ok(node)
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(super) fn start_again(&self) -> Result<(), ServerError> {
        let mut child = self.command().spawn().map_err(starting)?;
        let deadline = Instant::now() + READY_WITHIN;
        while greet(self.port).is_err() {
            if !matches!(child.try_wait(), Ok(None)) || Instant::now() > deadline {
                return Err(ServerError::NotReady(end_of(&self.folder.join("log"))));
            }
            std::thread::sleep(READY_POLL);
        }
        *self.running() = Some(child);
        Ok(())
    }

    fn command(&self) -> Command {
        let mut command = Command::new("redis-server");
        // A Sentinel writes into its configuration, which therefore comes first.
        let (file, others): (Vec<_>, Vec<_>) = self.settings.iter().partition(|word| word.ends_with(".conf"));
        command.args(file).args(["--bind", "127.0.0.1", "--port", &self.port.to_string()]);
        command.arg("--dir").arg(&self.folder).arg("--logfile").arg(self.folder.join("log"));
        command.arg("--pidfile").arg(self.folder.join("pid"));
        if !self.settings.iter().any(|word| word == "--sentinel") {
            command.args(["--save", ""]);
        }
        command.args(others).process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    pub(super) fn kill(&self) -> Result<(), ServerError> {
        let mut child = self.running().take().ok_or(ServerError::NotRunning)?;
        child.kill().and_then(|()| child.wait()).map_err(ServerError::system("kill Redis"))?;
        // Its number may soon be another process's, which the watchdog must not take for the server.
        match std::fs::remove_file(self.folder.join("pid")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(ServerError::system("remove the killed server's number")(error))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn signal(&self, signal: Signal) -> Result<(), ServerError> {
        let running = self.running();
        let child = running.as_ref().ok_or(ServerError::NotRunning)?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(ServerError::NotRunning)?;
        kill_process(pid, signal).map_err(|error| ServerError::system("signal Redis")(error.into()))
    }

    /// Gives the process a command, word by word.
    pub(super) fn ask(&self, words: &[impl AsRef<str>]) -> Result<String, ServerError> {
        let mut command = Command::new("redis-cli");
        command
            .args(["-p", &self.port.to_string()])
            .args(words.iter().map(AsRef::as_ref))
            .stdin(Stdio::null());
        let output = command.output().map_err(ServerError::system("run redis-cli"))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
        }
        let output = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(ServerError::Failed { program: "redis-cli", output })
    }

    fn running(&self) -> MutexGuard<'_, Option<Child>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Node {
    /// Kills the process; what fails here the watchdog does again.
    fn drop(&mut self) {
        self.kill().ok();
    }
}

fn starting(error: io::Error) -> ServerError {
    match error.kind() {
        io::ErrorKind::NotFound => {
            ServerError::ProgramMissing { program: "redis-server", package: "redis-server" }
        }
        _ => ServerError::system("start Redis")(error),
    }
}

/// Whether somebody answers a greeting; one that still loads its file answers with a refusal.
fn greet(port: u16) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&on_this_machine(port), GREETING_WITHIN)?;
    stream.set_read_timeout(Some(GREETING_WITHIN))?;
    stream.write_all(b"PING\r\n")?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer)?;
    if answer == *b"+PONG" { Ok(()) } else { Err(io::ErrorKind::NotConnected.into()) }
}

fn end_of(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let begin = text.len().saturating_sub(LOG_BYTES_SHOWN);
    text.get(begin..).unwrap_or(&text).to_owned()
}
