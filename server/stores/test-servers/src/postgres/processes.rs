//! The server's processes: the postmaster and those that it forks, one for each connection.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::ServerError;

/// A backend notices within about two seconds that the postmaster is gone.
const GONE_WITHIN: Duration = Duration::from_secs(30);

/// A running postmaster.
#[derive(Debug)]
pub(super) struct Processes {
    postmaster: Child,
    /// Every process of the server holds the writing end: at its end the last of them is gone.
    lives: ChildStdout,
}

impl Processes {
    /// Starts what `command` says, with everything it says going to the file `log`.
    pub(super) fn start(mut command: Command, log: &Path) -> Result<Self, ServerError> {
        let starting = || ServerError::system("start PostgreSQL");
        let log = File::options().create(true).append(true).open(log).map_err(starting())?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let mut postmaster = command.spawn().map_err(starting())?;
        match postmaster.stdout.take() {
            Some(lives) => Ok(Self { postmaster, lives }),
            None => Err(ServerError::NotRunning),
        }
    }

    /// Whether the postmaster has ended by itself.
    pub(super) fn have_ended(&mut self) -> bool {
        !matches!(self.postmaster.try_wait(), Ok(None))
    }

    /// Sends a signal to the postmaster alone.
    pub(super) fn signal(&self, signal: Signal) -> Result<(), ServerError> {
        send(self.pid()?, signal)
    }

    /// Stops every process of the server in its tracks: connections stand open and are not answered.
    pub(super) fn freeze(&self) -> Result<(), ServerError> {
        self.signal(Signal::STOP)?;
        self.children()?.into_iter().try_for_each(|child| send(child, Signal::STOP))
    }

    /// Lets every process go on.
    pub(super) fn thaw(&self) -> Result<(), ServerError> {
        self.children()?.into_iter().try_for_each(|child| send(child, Signal::CONT))?;
        self.signal(Signal::CONT)
    }

    /// Kills the postmaster without a word, and waits until its last process has noticed. Frozen
    /// ones are woken, since they notice nothing.
    pub(super) fn kill(self) -> Result<(), ServerError> {
        let children = self.children()?;
        self.signal(Signal::KILL)?;
        children.into_iter().try_for_each(|child| send(child, Signal::CONT))?;
        self.wait()
    }

    /// Waits until the last process is gone.
    pub(super) fn wait(mut self) -> Result<(), ServerError> {
        let (gone, last_gone) = mpsc::channel();
        let mut lives = self.lives;
        std::thread::spawn(move || gone.send(lives.read_to_end(&mut Vec::new())));
        last_gone.recv_timeout(GONE_WITHIN).map_err(|_| ServerError::StillRunning)?.ok();
        self.postmaster.wait().map_err(ServerError::system("wait for PostgreSQL"))?;
        Ok(())
    }

    fn pid(&self) -> Result<Pid, ServerError> {
        i32::try_from(self.postmaster.id()).ok().and_then(Pid::from_raw).ok_or(ServerError::NotRunning)
    }

    fn children(&self) -> Result<Vec<Pid>, ServerError> {
        let entries = std::fs::read_dir("/proc").map_err(ServerError::system("list processes in /proc"))?;
        let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        Ok(pids
            .filter(|pid| parent_of(*pid) == Some(self.postmaster.id()))
            .filter_map(Pid::from_raw)
            .collect())
    }
}

/// A process that has ended meanwhile needs no signal.
fn send(pid: Pid, signal: Signal) -> Result<(), ServerError> {
    match kill_process(pid, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(ServerError::system("signal PostgreSQL")(error.into())),
    }
}

/// The second number behind the name, which stands in brackets and may hold anything.
fn parent_of(pid: i32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, behind_name) = stat.rsplit_once(')')?;
    behind_name.split_whitespace().nth(1)?.parse().ok()
}
