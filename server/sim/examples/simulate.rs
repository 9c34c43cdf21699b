//! Runs the simulation over many seeds, or one of them with its trace.

use std::io::Write as _;
use std::time::Instant;

use clap::Parser;
use rateguard_sim::many::{Summary, run_many};
use rateguard_sim::run::{Options, Outcome, run};
use rateguard_sim::stores::flaws::Flaw;
use tokio::runtime::{Builder, Runtime};

/// Runs seeds until one violates an invariant.
#[derive(Parser)]
struct Arguments {
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// How many seeds.
    #[arg(long, default_value_t = 10_000)]
    seeds: u64,
    /// Runs this seed alone and prints its trace.
    #[arg(long)]
    replay: Option<u64>,
    /// Plants a bug.
    #[arg(long)]
    flaw: Option<Flaw>,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let is_well = match arguments.replay {
        Some(seed) => replay(seed, arguments.flaw)?,
        None => search(&arguments)?,
    };
    if is_well { Ok(()) } else { anyhow::bail!("an invariant was violated") }
}

fn runtime() -> Runtime {
    let mut builder = Builder::new_current_thread();
    builder.enable_time().start_paused(true).build().expect("a runtime of one thread starts anywhere")
}

fn replay(seed: u64, flaw: Option<Flaw>) -> anyhow::Result<bool> {
    let outcome = run(seed, Options { flaw, traced: true }, runtime())?;
    for line in &outcome.lines {
        say(line)?;
    }
    tell(&outcome)?;
    Ok(outcome.violations.is_empty())
}

fn search(arguments: &Arguments) -> anyhow::Result<bool> {
    let began = Instant::now();
    let options = Options { flaw: arguments.flaw, traced: false };
    let seeds = arguments.from..arguments.from.saturating_add(arguments.seeds);
    let Summary { runs, coverage, failed } = run_many(seeds, options, runtime)?;
    say(&format!("{runs} seeds, {} steps, {} s", coverage.steps(), began.elapsed().as_secs()))?;
    say(&format!("{coverage:?}"))?;
    failed.iter().try_for_each(tell)?;
    Ok(failed.is_empty())
}

fn tell(outcome: &Outcome) -> anyhow::Result<()> {
    for violation in &outcome.violations {
        say(&format!("seed {} violates {}: {}", outcome.seed, violation.invariant, violation.what))?;
    }
    if outcome.violations.is_empty() {
        return Ok(());
    }
    say(&format!("see it again: make sim REPLAY={}", outcome.seed))
}

fn say(line: &str) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stdout().lock(), "{line}")?)
}
