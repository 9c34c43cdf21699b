//! A server in a process of its own, on a data folder that outlives it.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// Longest wait for a server to be ready.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_rateguard");

/// A data folder with an installation in it.
pub struct Installation {
    folder: TempDir,
    /// The first key: manage and read.
    pub first_key: String,
}

impl Installation {
    /// Makes one with `rateguard init`.
    pub async fn make() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let output = Command::new(PROGRAM)
            .args(["init", "--workspace", "test", "--data-dir"])
            .arg(folder.path())
            .output()
            .await
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let first_key = text.split_whitespace().find(|word| word.starts_with("rg_live_")).unwrap().to_owned();
        Self { folder, first_key }
    }

    /// The data folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Starts a server on it.
    pub async fn serve(&self) -> Server {
        self.serve_under(Command::new(PROGRAM)).await
    }

    /// Starts a server through another program, which is given the server's command line.
    pub async fn serve_under(&self, mut command: Command) -> Server {
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(self.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = tokio::time::timeout(READY_WITHIN, lines.next_line()).await.expect("not ready in time");
        let line = ready.unwrap().expect("the server ended before it was ready");
        let address = line.strip_prefix("ready at ").unwrap().to_owned();
        Server { child, address }
    }
}

/// A running server.
pub struct Server {
    child: Child,
    /// Its address, as a URL.
    pub address: String,
}

impl Server {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// Ends it as a power cut would end a process, and waits until it is gone.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Asks it to stop, as Ctrl-C does, and returns its exit status.
    pub async fn interrupt(mut self) -> std::process::ExitStatus {
        let pid = self.pid().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().await.unwrap().success());
        tokio::time::timeout(READY_WITHIN, self.child.wait()).await.expect("it did not stop").unwrap()
    }
}
