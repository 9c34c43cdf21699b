//! A Redis of the benchmarks' own, on the server's core.

use std::time::Duration;

use anyhow::Context;
use rateguard_test_servers::{Keeping, RedisServer};
use tokio::runtime::Runtime;

use crate::load::runtime;
use crate::machine::Machine;

/// Longest wait for a decision. Longer than by default: on a shared machine a neighbour's turn must not end a
/// benchmark, or let calls pass uncounted.
pub const REDIS_DEADLINE: Duration = Duration::from_secs(2);

/// A running Redis that keeps nothing on disk; killed when it is dropped.
pub struct Redis {
    server: RedisServer,
    runtime: Runtime,
    /// Its process.
    pub process: u32,
}

impl Redis {
    /// Starts one.
    ///
    /// # Errors
    /// When it is not installed or does not start.
    pub fn start(machine: &Machine) -> anyhow::Result<Self> {
        let runtime = runtime()?;
        let server = runtime.block_on(RedisServer::start(Keeping::Nothing))?;
        let told = runtime.block_on(server.ask(&["INFO", "server"]))?;
        let process = value_of(&told, "process_id:").context("Redis does not tell its process")?.parse()?;
        machine.keep_on_server_core(process)?;
        Ok(Self { server, runtime, process })
    }

    /// Its address as a URL.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// The variables by which a server keeps its counters there.
    pub fn environment(&self) -> [(&'static str, String); 3] {
        [
            ("RATEGUARD_STORES__REDIS__DEADLINE_MS", REDIS_DEADLINE.as_millis().to_string()),
            ("RATEGUARD_STORES__REDIS__TOPOLOGY", "single".to_owned()),
            ("RATEGUARD_STORES__REDIS__URLS", format!("[{:?}]", self.url())),
        ]
    }

    /// How many scripts it has run: every call of the store is one.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn scripts_run(&self) -> anyhow::Result<u64> {
        let told = self.runtime.block_on(self.server.ask(&["INFO", "commandstats"]))?;
        let calls = |command| -> anyhow::Result<u64> {
            let said = value_of(&told, &format!("cmdstat_{command}:calls="));
            Ok(said.map(str::parse).transpose()?.unwrap_or(0))
        };
        Ok(calls("fcall")? + calls("eval")?)
    }
}

/// The number or word after a name, at the beginning of a line.
fn value_of<'t>(told: &'t str, name: &str) -> Option<&'t str> {
    let rest = told.lines().find_map(|line| line.trim_start().strip_prefix(name))?;
    rest.split([',', '\r']).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_told_by_the_whole_name_before_it() {
        let told = "# Commandstats\r\ncmdstat_fcall:calls=12,usec=7\r\ncmdstat_eval:calls=1,usec=9\r\n";
        assert_eq!(value_of(told, "cmdstat_fcall:calls="), Some("12"));
        assert_eq!(value_of(told, "cmdstat_eval:calls="), Some("1"));
        assert_eq!(value_of(told, "cmdstat_get:calls="), None);
        assert_eq!(value_of("process_id:4711\r\n", "process_id:"), Some("4711"));
    }
}
