//! Prints what a fleet of replicas asks of its shared counters, by the model of `rateguard_sim::fleet`.

use std::io::Write as _;

use clap::Parser;
use rateguard_sim::fleet::{Fleet, run};

/// A fleet of replicas that share their counters.
#[derive(Parser)]
struct Arguments {
    /// Replicas.
    #[arg(long, default_value_t = Fleet::default().replicas)]
    replicas: usize,
    /// Limits.
    #[arg(long, default_value_t = Fleet::default().limits)]
    limits: usize,
    /// Checks a second over the whole fleet.
    #[arg(long, default_value_t = Fleet::default().checks_per_second)]
    checks_per_second: i64,
    /// Length of the limits' windows, in milliseconds.
    #[arg(long, default_value_t = Fleet::default().window_ms)]
    window_ms: i64,
    /// Windows to look at.
    #[arg(long, default_value_t = Fleet::default().windows)]
    windows: i64,
    /// How long a question to the shared store takes with its answer, in microseconds.
    #[arg(long, default_value_t = Fleet::default().round_trip_us)]
    round_trip_us: i64,
    /// What chance begins with.
    #[arg(long, default_value_t = Fleet::default().seed)]
    seed: u64,
}

fn main() -> std::io::Result<()> {
    let arguments = Arguments::parse();
    let fleet = Fleet {
        replicas: arguments.replicas.max(1),
        limits: arguments.limits.max(1),
        checks_per_second: arguments.checks_per_second.max(1),
        window_ms: arguments.window_ms.max(100),
        windows: arguments.windows.max(1),
        round_trip_us: arguments.round_trip_us.max(0),
        seed: arguments.seed,
        outlives_window: false,
    };
    let mut out = std::io::stdout().lock();
    writeln!(out, "{} replicas, {} limits, windows of {} ms", fleet.replicas, fleet.limits, fleet.window_ms)?;
    write!(out, "{}", run(fleet))
}
