//! The machine: who runs on which core, and how much of a core a process has used.

use std::fs;
use std::process::Command;
use std::thread::{available_parallelism, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

/// The core of what is measured.
const SERVER_CORE: &str = "0";
/// The core of the load.
const CLIENT_CORE: &str = "1";
/// Linux tells processor time in hundredths of a second, whatever its own clock.
const TICK: Duration = Duration::from_millis(10);
/// A process is at rest that uses one tick or none in this time.
const REST: Duration = Duration::from_millis(250);
/// Longest wait for a process to come to rest.
const REST_AFTER_MAX: Duration = Duration::from_secs(20);
/// Fields of a process's `stat` after its name: user and system time.
const USER_AND_SYSTEM_TIME: [usize; 2] = [11, 12];

/// What the benchmarks run on.
pub struct Machine {
    cores: usize,
    model: String,
    pinned: bool,
}

impl Machine {
    /// Looks at the machine, and keeps this process on the client's core where there are two.
    ///
    /// # Errors
    /// When `taskset` is there and refuses.
    pub fn claim() -> anyhow::Result<Self> {
        let cores = available_parallelism()?.get();
        let has_taskset = Command::new("taskset").arg("--version").output().is_ok();
        let pinned = cores > 1 && has_taskset;
        if pinned {
            let process = std::process::id().to_string();
            let pinning = Command::new("taskset").args(["-a", "-p", "-c", CLIENT_CORE, &process]).output()?;
            ensure!(pinning.status.success(), "taskset could not pin the client");
        }
        Ok(Self { cores, model: processor_model(), pinned })
    }

    /// A command that runs on the server's core.
    pub fn on_server_core(&self, program: &std::path::Path) -> Command {
        if !self.pinned {
            return Command::new(program);
        }
        let mut command = Command::new("taskset");
        command.args(["-c", SERVER_CORE]).arg(program);
        command
    }

    /// Keeps a process that somebody else has started on the server's core.
    ///
    /// # Errors
    /// When `taskset` refuses.
    pub fn keep_on_server_core(&self, process: u32) -> anyhow::Result<()> {
        if !self.pinned {
            return Ok(());
        }
        let process = process.to_string();
        let pinning = Command::new("taskset").args(["-a", "-p", "-c", SERVER_CORE, &process]).output()?;
        ensure!(pinning.status.success(), "taskset could not pin process {process}");
        Ok(())
    }

    /// The machine in a line.
    pub fn describe(&self) -> String {
        let place = match self.pinned {
            true => "server on core 0, client on core 1",
            false => "server and client share all cores",
        };
        format!("{} cores, {}; {place}", self.cores, self.model)
    }
}

fn processor_model() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("model name"));
    line.map_or("unknown processor", |value| value.trim_start_matches([' ', '\t', ':'])).to_owned()
}

/// The processor time that a process has used so far, to a hundredth of a second.
///
/// # Errors
/// When it has ended.
pub fn processor_time(process: u32) -> anyhow::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).context("the process has ended")?;
    let (_, after_name) = stat.rsplit_once(')').context("a malformed /proc entry")?;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let mut ticks = 0_u32;
    for place in USER_AND_SYSTEM_TIME {
        ticks += fields.get(place).context("a short /proc entry")?.parse::<u32>()?;
    }
    Ok(TICK * ticks)
}

/// Waits until a process has done what it does after its last answer, so that it does not weigh on
/// what is measured next.
///
/// # Errors
/// When it goes on for 20 seconds.
pub fn wait_for_rest(process: u32) -> anyhow::Result<()> {
    let started = Instant::now();
    let mut before = processor_time(process)?;
    while started.elapsed() < REST_AFTER_MAX {
        sleep(REST);
        let now = processor_time(process)?;
        if now.saturating_sub(before) <= TICK {
            return Ok(());
        }
        before = now;
    }
    bail!("the server did not come to rest")
}
