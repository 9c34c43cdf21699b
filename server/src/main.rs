//! Starts the program and turns its end into an exit status.

use std::process::ExitCode;

use clap::Parser;
use rateguard_server::cli::Cli;

#[tokio::main]
async fn main() -> ExitCode {
    match Cli::parse().run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rateguard: {error:#}");
            ExitCode::FAILURE
        }
    }
}
