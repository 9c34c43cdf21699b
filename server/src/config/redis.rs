//! The keys about counters in Redis.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use rateguard_store_redis::{RedisCounterStoreConfig, Topology};
use serde::Deserialize;

use super::{ConfigError, DatabaseUrl};
use crate::keyfile;

/// How the URL of a server begins: plain, and with TLS.
const SCHEMES: [&str; 2] = ["redis://", "rediss://"];
/// Longest prefix of keys, in bytes: each key is that much longer.
const PREFIX_BYTES_MAX: usize = 32;

/// How Redis is reached.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Redis {
    /// How the servers stand together.
    pub topology: RedisTopology,
    urls: Vec<DatabaseUrl>,
    urls_file: PathBuf,
    sentinel_service: String,
    sentinel_node_url: DatabaseUrl,
    /// What every key begins with.
    pub key_prefix: String,
    /// Longest wait for one decision.
    pub deadline_ms: u32,
    /// Longest wait for one batch of settlements, expiries or sweeps.
    pub batch_deadline_ms: u32,
    /// Longest wait for a connection.
    pub connect_timeout_ms: u32,
}

/// How the servers stand together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RedisTopology {
    /// There are none: counters are in this process.
    Off,
    /// One server.
    Single,
    /// Servers of which Sentinels name the one that leads.
    Sentinel,
    /// Redis Cluster.
    Cluster,
}

impl Redis {
    /// Checks what must stand together.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let wrong = |key, description: &str| {
            Err(ConfigError::OutOfBounds { key, description: description.to_owned() })
        };
        if self.topology == RedisTopology::Off {
            return Ok(());
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if !(1..=PREFIX_BYTES_MAX).contains(&self.key_prefix.len()) || !self.key_prefix.bytes().all(plain) {
            return wrong("stores.redis.key_prefix", "must be 1 to 32 characters of [A-Za-z0-9_-]");
        }
        if self.topology == RedisTopology::Sentinel && self.sentinel_service.is_empty() {
            return wrong("stores.redis.sentinel_service", "must name what the Sentinels watch");
        }
        let node = self.sentinel_node_url.expose();
        if !node.is_empty() && !is_url(node) {
            return wrong("stores.redis.sentinel_node_url", "must begin with redis:// or rediss://");
        }
        match (self.urls.is_empty(), self.urls_file.as_os_str().is_empty()) {
            (true, true) => {
                wrong("stores.redis.urls", "must name the servers, since stores.redis.topology is set")
            }
            (false, false) => wrong("stores.redis.urls_file", "must be empty where stores.redis.urls is set"),
            _ if !self.urls.iter().all(|url| is_url(url.expose())) => {
                wrong("stores.redis.urls", "must each begin with redis:// or rediss://")
            }
            _ if self.topology == RedisTopology::Single && self.urls.len() > 1 => {
                wrong("stores.redis.urls", "must be one, since stores.redis.topology is single")
            }
            _ => Ok(()),
        }
    }

    /// Longest wait for one decision.
    pub fn deadline(&self) -> Duration {
        Duration::from_millis(self.deadline_ms.into())
    }

    /// The store's own configuration, without its bounds; `None` where counters are in this process.
    ///
    /// # Errors
    /// When a file cannot be read, others may read it too, or it holds something else.
    pub fn store(&self) -> anyhow::Result<Option<RedisCounterStoreConfig>> {
        let topology = match self.topology {
            RedisTopology::Off => return Ok(None),
            RedisTopology::Single => {
                let url = self.urls()?.into_iter().next();
                Topology::Single { url: url.context("stores.redis.urls names no server")? }
            }
            RedisTopology::Sentinel => Topology::Sentinel {
                urls: self.urls()?,
                service: self.sentinel_service.clone(),
                node_url: Some(self.sentinel_node_url.expose().to_owned()).filter(|url| !url.is_empty()),
            },
            RedisTopology::Cluster => Topology::Cluster { urls: self.urls()? },
        };
        let within = |ms: u32| Duration::from_millis(ms.into());
        Ok(Some(RedisCounterStoreConfig {
            key_prefix: self.key_prefix.clone(),
            deadline: self.deadline(),
            batch_deadline: within(self.batch_deadline_ms),
            connect_timeout: within(self.connect_timeout_ms),
            ..RedisCounterStoreConfig::new(topology)
        }))
    }

    /// The servers' URLs, out of the file where one is named.
    fn urls(&self) -> anyhow::Result<Vec<String>> {
        let file = &self.urls_file;
        if file.as_os_str().is_empty() {
            return Ok(self.urls.iter().map(|url| url.expose().to_owned()).collect());
        }
        let named = || format!("stores.redis.urls_file {}", file.display());
        let text = keyfile::read_private(file).with_context(named)?;
        let urls: Vec<String> = text.expose().split_whitespace().map(str::to_owned).collect();
        anyhow::ensure!(
            urls.iter().all(|url| is_url(url)) && !urls.is_empty(),
            "{} must hold URLs that begin with redis:// or rediss://",
            named()
        );
        anyhow::ensure!(
            self.topology != RedisTopology::Single || urls.len() == 1,
            "{} must hold one URL, since stores.redis.topology is single",
            named()
        );
        Ok(urls)
    }
}

fn is_url(text: &str) -> bool {
    SCHEMES.iter().any(|scheme| text.starts_with(scheme))
}
