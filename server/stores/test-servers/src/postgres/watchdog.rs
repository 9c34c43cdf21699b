//! What cleans up after a server, however its test ended.
//!
//! A test process may be killed, and statics are never dropped. So a small shell outside of it holds
//! the reading end of a pipe: when the writing end is gone, by a drop or with the whole process, it
//! stops the server and removes its folder.

use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Stdio};

use super::account::Account;
use crate::ServerError;

/// `$1` is the server's folder. The server removes its `postmaster.pid` when it ends in order; a
/// paused one has to be woken for that. The bound (200 times 50 ms) is twice what the server gives
/// its own processes before it kills them.
const SCRIPT: &str = r#"
read -r _
pid=$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null)
if [ -n "$pid" ]; then
  kill -CONT "$pid"
  kill -QUIT "$pid"
  tries=0
  while [ -e "$1/data/postmaster.pid" ] && [ $tries -lt 200 ]; do
    sleep 0.05
    tries=$((tries + 1))
  done
fi
rm -rf "$1"
"#;

/// The shell that outlives the test, and the pipe's end that tells it to begin.
#[derive(Debug)]
pub(super) struct Watchdog {
    shell: Child,
    alive: Option<ChildStdin>,
}

impl Watchdog {
    pub(super) fn over(folder: &Path, account: &Account) -> Result<Self, ServerError> {
        let mut command = account.command(&PathBuf::from("/bin/sh"), Path::new("/"));
        command.args(["-c", SCRIPT, "watchdog"]).arg(folder);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut shell = command.spawn().map_err(ServerError::system("start the server's watchdog"))?;
        let alive = shell.stdin.take();
        Ok(Self { shell, alive })
    }
}

impl Drop for Watchdog {
    /// Waits, so that the folder is gone when the test goes on. Failing to wait is harmless: the
    /// shell does its work all the same.
    fn drop(&mut self) {
        drop(self.alive.take());
        self.shell.wait().ok();
    }
}
