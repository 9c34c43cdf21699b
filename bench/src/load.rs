//! Load on a server: closed, which finds how much it does, and open, which finds how long it takes.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::ensure;
use hdrhistogram::Histogram;

use crate::machine::{processor_time, wait_for_rest};
use crate::process::Server;
use crate::wire::{Answer, Connection};

/// Connections that calls are spread over.
const CONNECTIONS: usize = 4;
/// Longest wait for the last answers of a round.
const DRAIN_MAX: Duration = Duration::from_secs(5);
/// Longest latency that is told apart, in nanoseconds.
const LATENCY_NANOS_MAX: u64 = 10_000_000_000;
/// Digits of a latency that are kept.
const LATENCY_DIGITS: u8 = 3;

/// Where load goes.
pub struct Target<'a> {
    /// The servers' addresses; connections take them in turn.
    pub addresses: Vec<SocketAddr>,
    /// The processes whose time counts.
    pub processes: Vec<u32>,
    /// The method, as a path.
    pub path: &'a str,
    /// The API key.
    pub key: &'a str,
}

impl<'a> Target<'a> {
    /// These servers, each with a part of the calls.
    pub fn new(servers: &[&Server], path: &'a str, key: &'a str) -> Self {
        Self {
            addresses: servers.iter().map(|server| server.address).collect(),
            processes: servers.iter().map(|server| server.process()).collect(),
            path,
            key,
        }
    }

    /// The same; the time of this process counts too.
    #[must_use]
    pub fn and(mut self, process: u32) -> Self {
        self.processes.push(process);
        self
    }

    fn busy(&self) -> anyhow::Result<Duration> {
        self.processes.iter().map(|process| processor_time(*process)).sum()
    }

    fn wait_for_rest(&self) -> anyhow::Result<()> {
        self.processes.iter().try_for_each(|process| wait_for_rest(*process))
    }
}

/// Makes the messages, one after the other, and looks at the answers.
pub trait Calls {
    /// Writes the next message into an empty buffer.
    ///
    /// # Errors
    /// When it cannot be encoded.
    fn next(&mut self, message: &mut Vec<u8>) -> anyhow::Result<()>;

    /// Looks at an answer.
    ///
    /// # Errors
    /// When it is not the one that the benchmark is about.
    fn check(&mut self, message: &[u8]) -> anyhow::Result<()>;
}

/// What closed load has found.
pub struct Throughput {
    /// Calls answered.
    pub calls: u64,
    /// In this time.
    pub elapsed: Duration,
    /// Of it, the time that the server's process has used a processor.
    pub busy: Duration,
}

/// A runtime of one thread, for what is not measured and for clients.
///
/// # Errors
/// When the system has no more resources.
pub fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

/// Keeps `in_flight` calls open: `warm_up` unmeasured, then `duration`. Ends with the server at rest.
///
/// # Errors
/// When a call fails.
pub fn closed(
    target: &Target<'_>,
    calls: &mut impl Calls,
    in_flight: usize,
    warm_up: Duration,
    duration: Duration,
) -> anyhow::Result<Throughput> {
    let mut load = Load::open(target)?;
    load.saturate(calls, in_flight, warm_up)?;
    let (busy, started) = (target.busy()?, Instant::now());
    let answered = load.saturate(calls, in_flight, duration)?;
    let elapsed = started.elapsed();
    let busy = target.busy()?.saturating_sub(busy);
    load.drain(calls)?;
    target.wait_for_rest()?;
    Ok(Throughput { calls: answered, elapsed, busy })
}

/// Makes `count` calls, `in_flight` at once.
///
/// # Errors
/// When a call fails.
pub fn counted(
    target: &Target<'_>,
    calls: &mut impl Calls,
    in_flight: usize,
    count: u64,
) -> anyhow::Result<()> {
    let mut load = Load::open(target)?;
    let mut left = count;
    while left > 0 {
        while left > 0 && load.in_flight() < in_flight && load.send(calls, Instant::now())? {
            left -= 1;
        }
        load.turn(|answer| calls.check(answer.message))?;
    }
    load.drain(calls)?;
    target.wait_for_rest()
}

/// Sends `per_second` calls a second on a fixed schedule, whatever the server does, and tells how
/// long each took from when it was due. Ends with the server at rest.
///
/// # Errors
/// When a call fails.
pub fn open(
    target: &Target<'_>,
    calls: &mut impl Calls,
    per_second: u64,
    duration: Duration,
) -> anyhow::Result<Histogram<u64>> {
    let mut load = Load::open(target)?;
    let mut latencies = Histogram::new_with_bounds(1, LATENCY_NANOS_MAX, LATENCY_DIGITS)?;
    let every = Duration::from_nanos(1_000_000_000 / per_second.max(1));
    let (started, mut due) = (Instant::now(), Instant::now());
    while started.elapsed() < duration || load.in_flight() > 0 {
        ensure!(started.elapsed() < duration + DRAIN_MAX, "the server did not answer in time");
        while due <= Instant::now() && due < started + duration && load.send(calls, due)? {
            due += every;
        }
        load.turn(|answer| {
            calls.check(answer.message)?;
            let nanos = u64::try_from(answer.due.elapsed().as_nanos())?;
            latencies.saturating_record(nanos);
            Ok(())
        })?;
    }
    target.wait_for_rest()?;
    Ok(latencies)
}

/// Connections, with calls spread over them in turn.
struct Load {
    connections: Vec<Connection>,
    next: usize,
    message: Vec<u8>,
}

impl Load {
    fn open(target: &Target<'_>) -> anyhow::Result<Self> {
        let addresses = target.addresses.iter().cycle().take(CONNECTIONS);
        let connect = |address: &SocketAddr| Connection::open(*address, target.path, target.key);
        let connections = addresses.map(connect).collect::<anyhow::Result<_>>()?;
        Ok(Self { connections, next: 0, message: Vec::new() })
    }

    fn in_flight(&self) -> usize {
        self.connections.iter().map(Connection::in_flight).sum()
    }

    /// Sends the next call on the connection whose turn it is; says whether it had room.
    fn send(&mut self, calls: &mut impl Calls, due: Instant) -> anyhow::Result<bool> {
        let place = self.next % self.connections.len();
        let connection = &mut self.connections[place];
        if !connection.has_room() {
            return Ok(false);
        }
        self.message.clear();
        calls.next(&mut self.message)?;
        connection.send(&self.message, due)?;
        self.next = place + 1;
        Ok(true)
    }

    /// Keeps calls open for a time; says how many were answered.
    fn saturate(&mut self, calls: &mut impl Calls, in_flight: usize, time: Duration) -> anyhow::Result<u64> {
        let started = Instant::now();
        let mut answered = 0;
        while started.elapsed() < time {
            while self.in_flight() < in_flight && self.send(calls, Instant::now())? {}
            answered += self.turn(|answer| calls.check(answer.message))?;
        }
        Ok(answered)
    }

    /// Waits for the last answers.
    fn drain(&mut self, calls: &mut impl Calls) -> anyhow::Result<()> {
        let started = Instant::now();
        while self.in_flight() > 0 {
            ensure!(started.elapsed() < DRAIN_MAX, "the server did not answer in time");
            self.turn(|answer| calls.check(answer.message))?;
        }
        Ok(())
    }

    fn turn(&mut self, mut answered: impl FnMut(Answer<'_>) -> anyhow::Result<()>) -> anyhow::Result<u64> {
        let before = self.in_flight();
        for connection in &mut self.connections {
            connection.turn(&mut answered)?;
        }
        let done = before - self.in_flight();
        if done == 0 {
            // Where server and client share a core, this one waits.
            thread::yield_now();
        }
        Ok(u64::try_from(done)?)
    }
}
