//! P4: checks by leases from Redis, two replicas, few hot subjects and many cold ones, beside P1's checks by
//! counters in memory.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{bail, ensure};
use prost::Message;
use rateguard_proto::v1;

use crate::figures::{Comparison, Unit};
use crate::load::{Calls, Target, closed, counted};
use crate::machine::Machine;
use crate::pair::{Pair, WARM_UP};
use crate::process::{Server, data_folder};
use crate::quota::{ADMITTED_OF_PERCENT, Checks, FIRST_WARM_UP, IN_FLIGHT, PATH};
use crate::redis_server::Redis;
use crate::seed::{ADMITTED_MAX, Limits, install};
use crate::table::say;
use crate::zipf::Zipf;

/// Subjects that calls are made for.
const HOT_AND_COLD: u64 = 100_000;
/// Draws that are made before, and then again and again.
const DRAWS: usize = 1 << 20;
/// Checks over which calls of the store are counted.
const COUNTED_CHECKS: u64 = 20_000_000;
/// Requests of a subject in a day: more than the one that is drawn most asks for in all of them.
const LIMIT: i64 = 4_000_000;
const DENIED: [u8; 2] = [0x08, 0x02];
const ALLOWED: [u8; 2] = [0x08, 0x01];

/// Measures checks a second, calls of the store a check, and how many pass a limit.
///
/// # Errors
/// When a server or a call fails, or more pass than may.
pub fn measure(machine: &Machine) -> anyhow::Result<Vec<Comparison>> {
    let redis = Redis::start(machine)?;
    let replicas = Replicas::start(machine, &redis, LIMIT)?;
    let folder = data_folder()?;
    let key = install(folder.path(), Limits::Usual)?;
    let embedded = Server::rateguard(machine, folder.path(), &[])?;
    let mut leased = Drawn::new();
    let calls_of_store = store_calls(&replicas, &redis, &mut leased)?;
    let baseline = Target::new(&[&embedded], PATH, &key);
    let mut embedded_checks = Checks::default();
    closed(&baseline, &mut embedded_checks, IN_FLIGHT[0], WARM_UP, FIRST_WARM_UP)?;
    let subject = replicas.target().and(redis.process);
    let pair = Pair { id: "P4", what: "checks by leases", each: [1, 1], subject, baseline };
    let mut measured = vec![calls_of_store];
    for in_flight in IN_FLIGHT {
        measured.extend(pair.throughput(&mut leased, &mut embedded_checks, in_flight)?);
    }
    drop(replicas);
    measured.push(admitted(machine, &redis)?);
    Ok(measured)
}

/// Two servers that share counters. Their configurations are copies of each other.
struct Replicas {
    servers: [Server; 2],
    key: String,
    _folders: [tempfile::TempDir; 2],
}

impl Replicas {
    fn start(machine: &Machine, redis: &Redis, limit: i64) -> anyhow::Result<Self> {
        let folders = [data_folder()?, data_folder()?];
        let key = install(folders[0].path(), Limits::Leased { limit })?;
        copy(folders[0].path(), folders[1].path())?;
        let environment = redis.environment();
        let start = |folder: &tempfile::TempDir| Server::rateguard(machine, folder.path(), &environment);
        Ok(Self { servers: [start(&folders[0])?, start(&folders[1])?], key, _folders: folders })
    }

    fn target(&self) -> Target<'_> {
        Target::new(&[&self.servers[0], &self.servers[1]], PATH, &self.key)
    }
}

/// Copies what is in a folder, files and folders.
fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let place = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            fs::create_dir(&place)?;
            copy(&entry.path(), &place)?;
        } else {
            fs::copy(entry.path(), place)?;
        }
    }
    Ok(())
}

/// Counts calls of the store after both replicas have seen every subject.
fn store_calls(replicas: &Replicas, redis: &Redis, checks: &mut Drawn) -> anyhow::Result<Comparison> {
    let target = replicas.target();
    for first in 0..2 {
        // Calls take the replicas in turn: the second time each subject comes to the other one.
        counted(&target, &mut InOrder { from: first, checks }, IN_FLIGHT[0], HOT_AND_COLD)?;
    }
    let before = redis.scripts_run()?;
    counted(&target, checks, IN_FLIGHT[0], COUNTED_CHECKS)?;
    let mut comparison = Comparison::new("P4 calls of the store, of all checks", Unit::Count);
    comparison.subject.push(redis.scripts_run()? - before);
    comparison.baseline.push(COUNTED_CHECKS);
    Ok(comparison)
}

/// Asks both replicas for more of one subject than its limit has.
fn admitted(machine: &Machine, redis: &Redis) -> anyhow::Result<Comparison> {
    let replicas = Replicas::start(machine, redis, ADMITTED_MAX)?;
    let limit = u64::try_from(ADMITTED_MAX)?;
    let mut calls = OfOne { checks: Drawn::new(), admitted: 0 };
    counted(&replicas.target(), &mut calls, IN_FLIGHT[0], limit * ADMITTED_OF_PERCENT / 100)?;
    say(&format!("  {} of {limit} were admitted", calls.admitted))?;
    ensure!(calls.admitted <= limit, "{} calls passed a limit of {limit}", calls.admitted);
    let mut comparison = Comparison::new("P4 checks admitted by leases, of the limit", Unit::Count);
    comparison.subject.push(calls.admitted);
    comparison.baseline.push(limit);
    Ok(comparison)
}

/// Checks for subjects as they are drawn.
struct Drawn {
    draws: Vec<usize>,
    message: v1::CheckQuotaRequest,
    made: usize,
}

impl Drawn {
    fn new() -> Self {
        let mut zipf = Zipf::new(HOT_AND_COLD);
        let draws = (0..DRAWS).map(|_| zipf.draw()).collect();
        Self { draws, message: Checks::default().next_request().clone(), made: 0 }
    }

    fn write(&mut self, subject: usize, message: &mut Vec<u8>) -> anyhow::Result<()> {
        self.made += 1;
        self.message.request_id.clear();
        write!(self.message.request_id, "check-{}", self.made)?;
        self.message.subject.clear();
        write!(self.message.subject, "user-{subject}")?;
        Ok(self.message.encode(message)?)
    }
}

impl Calls for Drawn {
    fn next(&mut self, message: &mut Vec<u8>) -> anyhow::Result<()> {
        let subject = self.draws[self.made % DRAWS];
        self.write(subject, message)
    }

    fn check(&mut self, message: &[u8]) -> anyhow::Result<()> {
        ensure!(message.starts_with(&ALLOWED), "a check was not allowed");
        Ok(())
    }
}

/// The same for every subject once.
struct InOrder<'a> {
    from: usize,
    checks: &'a mut Drawn,
}

impl Calls for InOrder<'_> {
    fn next(&mut self, message: &mut Vec<u8>) -> anyhow::Result<()> {
        let subject = self.from % usize::try_from(HOT_AND_COLD)?;
        self.from += 1;
        self.checks.write(subject, message)
    }

    fn check(&mut self, message: &[u8]) -> anyhow::Result<()> {
        self.checks.check(message)
    }
}

/// The same for one subject, which may be denied.
struct OfOne {
    checks: Drawn,
    admitted: u64,
}

impl Calls for OfOne {
    fn next(&mut self, message: &mut Vec<u8>) -> anyhow::Result<()> {
        self.checks.write(0, message)
    }

    fn check(&mut self, message: &[u8]) -> anyhow::Result<()> {
        match message.get(..ALLOWED.len()) {
            Some(decision) if decision == ALLOWED => self.admitted += 1,
            Some(decision) if decision == DENIED => {}
            _ => bail!("a check has no decision"),
        }
        Ok(())
    }
}
