//! The configuration: the commented default that is compiled in, then a file, then the environment,
//! then flags, put together as one tree and read once into types that cannot be half-set.

mod layers;
mod listeners;
mod people;
mod production;
mod redis;
pub mod reference;
mod stores;

use std::fmt::Display;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use http::HeaderName;
use ipnet::IpNet;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use thiserror::Error;

pub use layers::{DEFAULT, Mistaken, Override, merged};
pub use listeners::Tls;
use listeners::ranges;
pub use people::{Mail, MailTransport, Oidc, People, SmtpTls};
pub use redis::{Redis, RedisTopology};
pub use stores::{DatabaseUrl, Postgres, Stores, StoresKind};

/// Why a configuration cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("the configuration file {path} cannot be read")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not TOML.
    #[error("{origin} is not valid TOML")]
    Syntax {
        /// Where it came from.
        origin: String,
        /// Where in it.
        source: Box<toml::de::Error>,
    },
    /// A key that does not exist.
    #[error("{origin}: there is no key {key:?}; did you mean {nearest:?}?")]
    UnknownKey {
        /// Where it came from.
        origin: String,
        /// The key.
        key: String,
        /// The key that is most like it.
        nearest: String,
    },
    /// A value of the wrong type.
    #[error("the configuration cannot be used: {0}")]
    Value(Box<toml::de::Error>),
    /// A value out of its bounds.
    #[error("{key} {description}")]
    OutOfBounds {
        /// The key.
        key: &'static str,
        /// What it must be.
        description: String,
    },
}

/// Everything, checked.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Listeners.
    pub server: Server,
    /// Folders.
    pub data: Data,
    /// Where everything is kept.
    pub stores: Stores,
    /// Keys of the installation.
    pub secrets: Secrets,
    /// Bounds of the counters.
    pub counters: Counters,
    /// The HTTP gateway.
    pub gateway: Gateway,
    /// Accounts and sessions.
    pub people: People,
    /// How mail is sent.
    pub mail: Mail,
    /// Logging.
    pub log: Log,
    /// Variables that set nothing and look as if they were to.
    #[serde(skip)]
    pub mistaken: Vec<Mistaken>,
}

/// What the installation is for: see [`crate::production`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Trying things: nothing is refused that works.
    Development,
    /// Serving others: what would be a hole there is refused at the start.
    Production,
}

/// Listeners.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// What for.
    pub mode: Mode,
    /// Where everything is served.
    pub listen: SocketAddr,
    /// The header in which trusted proxies say who calls; `None` where the peer counts.
    #[serde(deserialize_with = "unless_empty")]
    client_address_header: Option<HeaderName>,
    /// From where these connect.
    #[serde(deserialize_with = "ranges")]
    trusted_proxies: Vec<IpNet>,
    /// Origins that browsers may call from.
    pub cors_origins: Vec<String>,
    /// Whether `/metrics` is served.
    pub metrics: bool,
    /// Whether `listen` may leave the machine without TLS.
    pub allow_clear_text: bool,
    /// How listeners encrypt.
    pub tls: Tls,
    /// Where gateways of other processes connect; `None` for nowhere.
    #[serde(deserialize_with = "unless_empty")]
    pub gateway_listen: Option<SocketAddr>,
    /// The file with their token.
    pub gateway_token_file: PathBuf,
    /// Longest drain.
    drain_seconds_max: u64,
    /// How long checks go on while the configuration's store is away.
    config_stale_seconds_max: u32,
}

/// Folders.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// The folder of the embedded stores, or of what a replica keeps for itself.
    pub folder: PathBuf,
}

/// Keys of the installation.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Secrets {
    encryption_key_file: PathBuf,
}

/// Bounds of the counters.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counters {
    /// Live counters of one workspace.
    pub live_counters_max: usize,
    /// Memory for the ids of decisions.
    pub request_ids_bytes_max: usize,
    /// Reservations on record of one workspace.
    pub reservations_max: usize,
}

/// The HTTP gateway.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gateway {
    /// Whether it is served.
    pub enabled: bool,
    /// Calls at once.
    pub concurrent_calls_max: usize,
    /// The header in which whoever calls /proxy puts the client's address; `None` where `server` says who
    /// calls. Older than what `server` says, and believed of everybody.
    #[serde(deserialize_with = "unless_empty")]
    pub client_address_header: Option<HeaderName>,
}

/// Logging.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// Which messages.
    pub filter: String,
    /// For whom.
    pub format: LogFormat,
}

/// For whom messages are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// People.
    Text,
    /// Machines.
    Json,
}

/// Bounds of numbers: key, value, smallest, largest.
type Bound = (&'static str, u64, u64, u64);

impl Config {
    /// Reads the configuration: the default, `file` if any, `environment`, then `flags`.
    ///
    /// # Errors
    /// [`ConfigError`] naming the key and where it came from.
    pub fn load(
        file: Option<&Path>,
        environment: &[(String, String)],
        flags: &[Override],
    ) -> Result<Self, ConfigError> {
        let tree = merged(file, environment, flags)?;
        let mut config: Self = tree.try_into().map_err(|error| ConfigError::Value(Box::new(error)))?;
        config.mistaken = layers::mistaken(environment);
        config.check()?;
        production::check(&config)?;
        Ok(config)
    }

    /// Longest wait for calls in flight when the server stops.
    pub fn drain_max(&self) -> Duration {
        Duration::from_secs(self.server.drain_seconds_max)
    }

    /// Where the installation is, for people.
    pub fn stores_place(&self) -> String {
        match self.stores.kind {
            StoresKind::Sqlite => self.data.folder.display().to_string(),
            StoresKind::Postgres => "the database of stores.postgres.url".to_owned(),
        }
    }

    /// How long checks go on while the configuration's store is away, in milliseconds.
    pub fn config_stale_ms_max(&self) -> i64 {
        i64::from(self.server.config_stale_seconds_max) * 1_000
    }

    /// The file with the key that seals credentials.
    pub fn encryption_key_file(&self) -> PathBuf {
        self.data.folder.join(&self.secrets.encryption_key_file)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let wide = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        let bounds: [Bound; 12] = [
            ("server.drain_seconds_max", self.server.drain_seconds_max, 1, 3_600),
            ("server.config_stale_seconds_max", self.server.config_stale_seconds_max.into(), 10, 604_800),
            ("counters.live_counters_max", wide(self.counters.live_counters_max), 1_000, 100_000_000),
            ("counters.request_ids_bytes_max", wide(self.counters.request_ids_bytes_max), 1 << 20, 1 << 36),
            ("counters.reservations_max", wide(self.counters.reservations_max), 1_000, 100_000_000),
            (
                "stores.postgres.connections_max",
                self.stores.postgres.connections_max.into(),
                stores::CONNECTIONS_LEAST,
                stores::CONNECTIONS_MOST,
            ),
            ("stores.redis.deadline_ms", self.stores.redis.deadline_ms.into(), 1, 10_000),
            ("stores.redis.batch_deadline_ms", self.stores.redis.batch_deadline_ms.into(), 10, 60_000),
            ("stores.redis.connect_timeout_ms", self.stores.redis.connect_timeout_ms.into(), 10, 60_000),
            ("people.access_token_seconds", self.people.access_token_seconds.into(), 60, 3_600),
            ("people.refresh_token_seconds", self.people.refresh_token_seconds.into(), 3_600, 7_776_000),
            ("gateway.concurrent_calls_max", wide(self.gateway.concurrent_calls_max), 1, 1_000_000),
        ];
        match bounds.into_iter().find(|(_, value, least, most)| !(least..=most).contains(&value)) {
            Some((key, value, least, most)) => {
                let description = format!("must be {least} to {most}, not {value}");
                Err(ConfigError::OutOfBounds { key, description })
            }
            None => self.check_together(),
        }
    }

    /// Checks what must stand together.
    fn check_together(&self) -> Result<(), ConfigError> {
        self.mail.check()?;
        self.people.oidc.check()?;
        self.stores.check()?;
        self.server.check()?;
        self.server.check_client_address(&self.gateway)
    }
}

/// A value that may be left out: the empty text stands for none.
fn unless_empty<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: Display>,
{
    match String::deserialize(deserializer)?.as_str() {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|error| D::Error::custom(format!("{text:?}: {error}"))),
    }
}

#[cfg(test)]
mod tests;
