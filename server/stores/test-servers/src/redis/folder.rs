//! A folder for servers, and what cleans up after them, however their test ended.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use crate::ServerError;

/// A test process may be killed, and statics are never dropped. So a small shell outside of it reads
/// from a pipe: when the other end is gone, it kills what still runs in the folder, `$1`, and removes
/// that. A server that ended in order, or was killed by its test, has no file with its number.
const SCRIPT: &str = r#"
read -r _
for file in "$1"/*/pid; do
  [ -e "$file" ] && kill -KILL "$(cat "$file")"
done
tries=0
while ! rm -rf "$1" && [ $tries -lt 100 ]; do
  sleep 0.05
  tries=$((tries + 1))
done
"#;

/// A folder with the servers in it.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    shell: Child,
    alive: Option<ChildStdin>,
}

impl Folder {
    pub(super) fn new() -> Result<Self, ServerError> {
        let making = || ServerError::system("make a folder for Redis");
        let path = tempfile::Builder::new().prefix("rateguard-redis-").tempdir().map_err(making())?.keep();
        let mut shell = watch(&path).map_err(ServerError::system("start the servers' watchdog"))?;
        let alive = shell.stdin.take();
        Ok(Self { path, shell, alive })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

fn watch(path: &Path) -> io::Result<Child> {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", SCRIPT, "watchdog"]).arg(path).current_dir("/").process_group(0);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
}

impl Drop for Folder {
    /// Waits, so that the folder is gone when the test goes on. Failing to wait is harmless: the shell
    /// does its work all the same.
    fn drop(&mut self) {
        drop(self.alive.take());
        self.shell.wait().ok();
    }
}
