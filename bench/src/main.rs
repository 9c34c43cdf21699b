//! Measures RateGuard beside baselines of the same run. `docs/BENCHMARKS.md` says how to read it.

mod echo;
mod envoy;
mod figures;
mod growth;
mod in_process;
mod insert;
mod leased;
mod load;
mod machine;
mod many;
mod pair;
mod process;
mod quota;
mod record;
mod redis_server;
mod seed;
mod strict;
mod table;
mod usage;
mod wire;
mod zipf;

use std::path::PathBuf;

use anyhow::{Context, ensure};
use clap::{Parser, Subcommand};

use crate::figures::Comparison;
use crate::machine::Machine;
use crate::process::Echoed;

/// RateGuard's benchmarks, each beside its baseline.
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    child: Option<Child>,
    /// Fail when a ratio has fallen more than 15 % below the recorded one
    #[arg(long, conflicts_with = "record")]
    check: bool,
    /// Record the ratios of this run
    #[arg(long)]
    record: bool,
    /// Run only this benchmark: P1b, P1, P2, P3, P4, P5, P6 or P10
    #[arg(long)]
    only: Option<String>,
}

/// Processes of their own, started by the benchmarks themselves.
#[derive(Debug, Subcommand)]
enum Child {
    /// Serve a fixed answer to one method
    #[command(hide = true)]
    Echo {
        /// The file with the answer
        #[arg(long)]
        answer: PathBuf,
        /// Answer Envoy's `ShouldRateLimit` instead
        #[arg(long)]
        descriptors: bool,
    },
    /// Insert events of one file into another
    #[command(hide = true)]
    Insert(insert::Insert),
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    match &cli.child {
        Some(Child::Echo { answer, descriptors }) => {
            echo::serve(answer, if *descriptors { Echoed::Descriptors } else { Echoed::Checks })
        }
        Some(Child::Insert(insert)) => insert.run(),
        None => measure(&cli),
    }
}

fn measure(cli: &Cli) -> anyhow::Result<()> {
    process::build_server()?;
    let machine = Machine::claim()?;
    table::say(&machine.describe())?;
    let measured = run_all(&machine, |name| cli.only.as_ref().is_none_or(|only| only == name))?;
    table::say(&table::render(&measured))?;
    if cli.record {
        record::write(&measured)?;
    }
    if cli.check { check(&machine, &measured) } else { Ok(()) }
}

fn run_all(machine: &Machine, wanted: impl Fn(&str) -> bool) -> anyhow::Result<Vec<Comparison>> {
    let mut measured = Vec::new();
    for (name, run) in BENCHMARKS.iter().filter(|(name, _)| wanted(name)) {
        table::say(&format!("measuring {name} …"))?;
        measured.extend(run(machine).with_context(|| format!("{name} failed"))?);
    }
    Ok(measured)
}

/// Neighbours can make a ratio fall once: only one that falls twice counts.
fn check(machine: &Machine, measured: &[Comparison]) -> anyhow::Result<()> {
    let suspects = record::fallen(measured)?;
    if suspects.is_empty() {
        return Ok(());
    }
    table::say("ratios have fallen; measuring those benchmarks once more")?;
    let again = run_all(machine, |name| suspects.iter().any(|fall| fall.benchmark() == name))?;
    table::say(&table::render(&again))?;
    let mut fallen = record::fallen(&again)?;
    fallen.retain(|fall| suspects.iter().any(|suspect| suspect.name == fall.name));
    let lines: Vec<String> = fallen.iter().map(ToString::to_string).collect();
    ensure!(lines.is_empty(), "ratios have fallen twice:\n{}", lines.join("\n"));
    Ok(())
}

type Benchmark = fn(&Machine) -> anyhow::Result<Vec<Comparison>>;

const BENCHMARKS: [(&str, Benchmark); 8] = [
    ("P1b", in_process::measure),
    ("P1", quota::measure),
    ("P2", many::measure),
    ("P3", strict::measure),
    ("P4", leased::measure),
    ("P5", envoy::measure),
    ("P6", usage::measure),
    ("P10", growth::measure),
];
