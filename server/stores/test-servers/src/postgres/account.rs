//! Whom the server runs as: it refuses root.

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::ServerError;

/// The account that the distribution's package brings.
const ACCOUNT: &str = "postgres";

/// Another account than that of the tests.
#[derive(Debug, Clone, Copy)]
struct Other {
    user: u32,
    group: u32,
}

/// Whom the server and all that goes with it run as.
#[derive(Debug, Clone, Copy)]
pub(super) struct Account {
    other: Option<Other>,
}

impl Account {
    /// Who runs the tests, or `postgres` where that is root.
    pub(super) fn choose() -> Result<Self, ServerError> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Self { other: None });
        }
        let user = id_of("-u").ok_or(ServerError::NoAccount(ACCOUNT))?;
        let group = id_of("-g").ok_or(ServerError::NoAccount(ACCOUNT))?;
        Ok(Self { other: Some(Other { user, group }) })
    }

    /// A program to run in `folder` as this account, out of reach of the terminal's Ctrl-C.
    pub(super) fn command(&self, program: &Path, folder: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(folder).process_group(0);
        if let Some(Other { user, group }) = self.other {
            command.uid(user).gid(group);
        }
        command
    }

    pub(super) fn own(&self, folder: &Path) -> std::io::Result<()> {
        match self.other {
            Some(Other { user, group }) => chown(folder, Some(user), Some(group)),
            None => Ok(()),
        }
    }
}

fn id_of(which: &str) -> Option<u32> {
    let output = Command::new("id").args([which, ACCOUNT]).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}
