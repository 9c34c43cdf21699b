//! Starts the program and turns its end into an exit status.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use mimalloc::MiMalloc;
use rateguard_server::cli::Cli;
use tokio::runtime::Runtime;

/// A check takes some dozens of small blocks of memory, and gives them back on the thread that took them.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Longest wait, once a command is done, for threads that still read or write a file: what has to be on disk
/// has been waited for before, and a file on a network that has gone away would be waited for for ever.
const THREADS_WAIT_MAX: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rateguard: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    let runtime = Runtime::new().context("the threads of the program cannot be started")?;
    let outcome = runtime.block_on(cli.run());
    runtime.shutdown_timeout(THREADS_WAIT_MAX);
    outcome
}
