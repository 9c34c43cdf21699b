//! Where the servers are, and the bounds that an installation may set.

use std::net::IpAddr;
use std::time::Duration;

use redis::{ConnectionAddr, IntoConnectionInfo, RedisError};

/// Longest wait for a decision, by default.
pub const DEADLINE_DEFAULT: Duration = Duration::from_millis(20);
/// Longest wait for a batch: settlements, expiries, sweeps.
pub const BATCH_DEADLINE_DEFAULT: Duration = Duration::from_secs(1);
/// Longest wait for a connection with its greeting.
pub const CONNECT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(2);
/// What every key begins with, by default.
pub const KEY_PREFIX_DEFAULT: &str = "rateguard";

/// Live counters of one workspace, by default: about 150 bytes each.
const LIVE_COUNTERS_MAX: usize = 1_000_000;
/// Reservations of one workspace, open ones and records, by default.
const RESERVATIONS_MAX: usize = 250_000;
/// Memory for the ids of one workspace's decisions, by default.
const REQUEST_IDS_BYTES_MAX: usize = 128 * 1024 * 1024;

/// How the servers stand together. Addresses are `redis://` and `rediss://` (TLS) URLs.
#[derive(Clone, PartialEq, Eq)]
pub enum Topology {
    /// One server.
    Single {
        /// Its URL.
        url: String,
    },
    /// Servers of which Sentinels name the one that leads.
    Sentinel {
        /// The Sentinels' URLs.
        urls: Vec<String>,
        /// The name under which they know the servers.
        service: String,
        /// User, password, database and TLS of the servers themselves, as a URL whose host does not
        /// count; `None` where they ask for nothing.
        node_url: Option<String>,
    },
    /// Redis Cluster.
    Cluster {
        /// URLs of some of its nodes; the others are learnt from them.
        urls: Vec<String>,
    },
}

impl Topology {
    /// The first server that is reached over a network without TLS and its certificate checked, by host and
    /// port: what is sent to it can be read, or answered by somebody else, on the way. `None` where
    /// there is none. With Sentinels the servers behind them count by their own URL, wherever these are.
    ///
    /// # Errors
    /// When a URL is malformed.
    pub fn exposed_server(&self) -> Result<Option<String>, RedisError> {
        let urls = match self {
            Self::Single { url } => std::slice::from_ref(url),
            Self::Sentinel { urls, .. } | Self::Cluster { urls } => urls,
        };
        for url in urls {
            let info = url.as_str().into_connection_info()?;
            if !is_private(info.addr()) {
                return Ok(Some(info.addr().to_string()));
            }
        }
        let Self::Sentinel { urls, service, node_url } = self else { return Ok(None) };
        let sentinels_are_here = urls.iter().all(|url| {
            let info = url.as_str().into_connection_info();
            info.is_ok_and(|info| is_on_this_machine(info.addr()))
        });
        let node = node_url.as_deref().map(IntoConnectionInfo::into_connection_info).transpose()?;
        let nodes_are_private = node.is_some_and(|node| is_checked(node.addr()));
        Ok((!sentinels_are_here && !nodes_are_private).then(|| service.clone()))
    }
}

fn is_private(address: &ConnectionAddr) -> bool {
    is_checked(address) || is_on_this_machine(address)
}

/// Whether the server has to prove who it is.
fn is_checked(address: &ConnectionAddr) -> bool {
    matches!(address, ConnectionAddr::TcpTls { insecure: false, .. })
}

fn is_on_this_machine(address: &ConnectionAddr) -> bool {
    let host = match address {
        ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } => host.trim_matches(['[', ']']),
        ConnectionAddr::Unix(_) => return true,
        _ => return false,
    };
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

/// Whose clock decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ScriptClock {
    /// The Redis server's: the same for all replicas.
    #[default]
    Server,
    /// The command's own instant: for tests, which set it.
    Command,
}

/// Where and how counters are kept.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisCounterStoreConfig {
    /// The servers.
    pub topology: Topology,
    /// What every key begins with, so that installations may share a server.
    pub key_prefix: String,
    /// Longest wait for one decision, a connection included.
    pub deadline: Duration,
    /// Longest wait for one batch.
    pub batch_deadline: Duration,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// Whose clock decides.
    pub clock: ScriptClock,
    /// Counters of one workspace; beyond it new ones share their limit's overflow counter.
    pub live_counters_max: usize,
    /// Reservations of one workspace with the records of those that are over; beyond it the oldest of
    /// these records are dropped, and when all are open a RESERVE finds the store full.
    pub reservations_max: usize,
    /// Memory for the ids of one workspace's decisions; beyond it some are forgotten early, which is
    /// counted.
    pub request_ids_bytes_max: usize,
}

impl RedisCounterStoreConfig {
    /// The servers with the defaults for everything else.
    pub fn new(topology: Topology) -> Self {
        Self {
            topology,
            key_prefix: KEY_PREFIX_DEFAULT.to_owned(),
            deadline: DEADLINE_DEFAULT,
            batch_deadline: BATCH_DEADLINE_DEFAULT,
            connect_timeout: CONNECT_TIMEOUT_DEFAULT,
            clock: ScriptClock::default(),
            live_counters_max: LIVE_COUNTERS_MAX,
            reservations_max: RESERVATIONS_MAX,
            request_ids_bytes_max: REQUEST_IDS_BYTES_MAX,
        }
    }
}

#[cfg(test)]
mod tests;
