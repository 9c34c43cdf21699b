//! P10: how a check, its memory and a start grow with what there is: each beside its own first point.
//!
//! Everything is decided in this process, authentication included, without request ids: what differs between
//! subject and baseline is how much of something there is, and nothing else.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use rateguard_engine::check::CheckRequest;
use rateguard_engine::engine::{Background, Engine};

use crate::figures::{Comparison, Unit, nanos_each, per_second};
use crate::in_process::{Kept, decide_all, request_of, start};
use crate::load::runtime;
use crate::machine::Machine;
use crate::process::data_folder;
use crate::seed::{Limits, RULES_MATCHING, install, install_many};
use crate::table::say;

/// How often the points take turns.
const ROUNDS: usize = 5;
/// Checks of one turn.
const CHECKS: u64 = 100_000;
/// Rules in the larger workspace, the few included that match.
const RULES: usize = 1_000;
/// API keys of one workspace, few and many.
const KEYS: [usize; 2] = [10, 100_000];
/// Workspaces with a key each, beside one.
const WORKSPACES: usize = 10_000;
/// Live counters at a start.
const COUNTERS_AT_START: u64 = 1_000_000;
/// Live counters that checks are made beside.
const COUNTERS: u64 = 5_000_000;
/// Checks by which memory is filled at once: few, since they are in memory too.
const FILLED_AT_ONCE: u64 = 1_000;
/// Steps from one subject to the next, so that neighbours in time are no neighbours in memory; it has no
/// divisor in common with the number of subjects.
const STRIDE: u64 = 7_368_787;
/// What a live window counter may take, in bytes.
const COUNTER_BYTES_MAX: u64 = 120;
/// What a start with [`COUNTERS_AT_START`] may take.
const START_MAX: Duration = Duration::from_secs(2);
/// Bytes of a page of memory, as `/proc` counts.
const PAGE_BYTES: u64 = 4_096;
const KIB: u64 = 1_024;

/// Measures growth by rules, keys, workspaces, and live counters.
///
/// # Errors
/// When a store fails, or a check is not allowed.
pub fn measure(_: &Machine) -> anyhow::Result<Vec<Comparison>> {
    let mut measured = vec![by_rules()?];
    // Before those that leave memory free, which counters would take without showing it.
    measured.extend(by_counters()?);
    measured.push(by_tenants("keys", [(1, KEYS[0]), (1, KEYS[1])])?);
    measured.push(by_tenants("workspaces", [(1, 1), (WORKSPACES, 1)])?);
    Ok(measured)
}

/// An engine of its own, with the key that asks it.
struct Running {
    engine: Arc<Engine>,
    background: Background,
    keys: Vec<String>,
    runtime: tokio::runtime::Runtime,
}

impl Running {
    fn on(folder: &Path, keys: Vec<String>) -> anyhow::Result<Self> {
        let runtime = runtime()?;
        let (engine, background) = runtime.block_on(start(folder, Kept::Memory))?;
        Ok(Self { engine, background, keys, runtime })
    }

    fn check(&self, requests: &[CheckRequest]) -> anyhow::Result<Duration> {
        self.runtime.block_on(decide_all(&self.engine, &self.keys, requests))
    }

    fn stop(self) -> anyhow::Result<Vec<String>> {
        self.runtime.block_on(self.background.stop())?;
        Ok(self.keys)
    }
}

fn requests(subjects: impl Iterator<Item = u64>) -> Vec<CheckRequest> {
    subjects.map(request_of).collect()
}

fn by_rules() -> anyhow::Result<Comparison> {
    let folders = [data_folder()?, data_folder()?];
    let others = [0, RULES - RULES_MATCHING];
    let mut running = Vec::new();
    for (folder, others) in folders.iter().zip(others) {
        let key = install(folder.path(), Limits::Among { others })?;
        running.push(Running::on(folder.path(), vec![key])?);
    }
    let name = format!("P10 checks beside {RULES} rules of which {RULES_MATCHING} match, and beside these");
    let mut comparison = Comparison::new(name, Unit::PerSecond);
    in_turn(running, &mut comparison)?;
    Ok(comparison)
}

/// So many workspaces with so many keys each, few and many, whose keys are asked with in turn.
fn by_tenants(what: &str, points: [(usize, usize); 2]) -> anyhow::Result<Comparison> {
    let folders = [data_folder()?, data_folder()?];
    let mut running = Vec::new();
    for (folder, (workspaces, keys_each)) in folders.iter().zip(points) {
        let keys = install_many(folder.path(), workspaces, keys_each)?;
        let resident = resident_bytes()?;
        let one = Running::on(folder.path(), keys)?;
        let taken = resident_bytes()?.saturating_sub(resident);
        say(&format!("  {workspaces} workspaces with {keys_each} keys: {} KiB in memory", taken / KIB))?;
        running.push(one);
    }
    let [few, many] = points.map(|(workspaces, keys_each)| workspaces * keys_each);
    let name = format!("P10 checks by {many} {what} in turn, and by {few}");
    let mut comparison = Comparison::new(name, Unit::PerSecond);
    in_turn(running, &mut comparison)?;
    Ok(comparison)
}

/// Measures what there is few of, and what there is much of, by turns.
fn in_turn(running: Vec<Running>, comparison: &mut Comparison) -> anyhow::Result<()> {
    let asked = requests((0..CHECKS).map(|_| 0));
    for _ in 0..ROUNDS {
        let [few, many] = [running[0].check(&asked)?, running[1].check(&asked)?];
        say(&format!("  {} ns and {} ns a check", nanos_each(CHECKS, few), nanos_each(CHECKS, many)))?;
        comparison.baseline.push(per_second(CHECKS, few));
        comparison.subject.push(per_second(CHECKS, many));
    }
    running.into_iter().try_for_each(|running| running.stop().map(drop))
}

fn by_counters() -> anyhow::Result<Vec<Comparison>> {
    let folder = data_folder()?;
    let running = Running::on(folder.path(), vec![install(folder.path(), Limits::Daily)?])?;
    let one = requests((0..CHECKS).map(|_| 0));
    let mut checks =
        Comparison::new(format!("P10 checks over {COUNTERS} subjects and over one"), Unit::PerSecond);
    for _ in 0..ROUNDS {
        checks.baseline.push(per_second(CHECKS, running.check(&one)?));
    }

    let resident = resident_bytes()?;
    fill(&running, 0..COUNTERS_AT_START)?;
    let mut memory = Comparison::new("P10 bytes a live window counter, beside what is allowed", Unit::Count);
    memory.subject.push(resident_bytes()?.saturating_sub(resident) / COUNTERS_AT_START);
    memory.baseline.push(COUNTER_BYTES_MAX);

    let keys = running.stop()?;
    let started = Instant::now();
    let running = Running::on(folder.path(), keys)?;
    let mut start =
        Comparison::new("P10 start with 1,000,000 live counters, beside two seconds", Unit::Nanos);
    start.subject.push(u64::try_from(started.elapsed().as_nanos())?);
    start.baseline.push(u64::try_from(START_MAX.as_nanos())?);
    say(&format!("  a start took {} ms", started.elapsed().as_millis()))?;

    fill(&running, COUNTERS_AT_START..COUNTERS)?;
    for round in 0..ROUNDS as u64 {
        let spread = (0..CHECKS).map(|n| (round * CHECKS + n) * STRIDE % COUNTERS);
        checks.subject.push(per_second(CHECKS, running.check(&requests(spread))?));
    }
    running.stop()?;
    Ok(vec![checks, memory, start])
}

fn fill(running: &Running, subjects: std::ops::Range<u64>) -> anyhow::Result<()> {
    for from in subjects.clone().step_by(usize::try_from(FILLED_AT_ONCE)?) {
        running.check(&requests(from..(from + FILLED_AT_ONCE).min(subjects.end)))?;
    }
    Ok(())
}

/// What this process has in memory.
fn resident_bytes() -> anyhow::Result<u64> {
    let told = fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = told.split(' ').nth(1).context("no resident pages in statm")?.parse()?;
    Ok(pages * PAGE_BYTES)
}
