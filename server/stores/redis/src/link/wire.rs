//! Connections, to one server, to the one that Sentinels name, or to a cluster.

use std::sync::Once;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{Route, RoutingInfo, SingleNodeRoutingInfo, SlotAddr};
use redis::io::tcp::TcpSettings;
use redis::sentinel::{Sentinel, SentinelNodeConnectionInfo};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion,
    RedisResult, TlsMode, Value,
};
use tokio::sync::Mutex;

use crate::config::{RedisCounterStoreConfig, Topology};

/// Where connections are made.
pub(super) enum Door {
    /// One server.
    Single(Client),
    /// Whoever leads.
    Sentinel { sentinel: Box<Mutex<Sentinel>>, service: String, node: SentinelNodeConnectionInfo },
    /// A cluster.
    Cluster(ClusterClient),
}

/// One connection, shared by all calls.
pub(super) enum Wire {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

/// What is asked of which server of a cluster.
#[derive(Clone, Copy)]
pub(super) enum Asked<'c> {
    /// A command that names keys, and goes to who has them.
    ByItsKeys(&'c Cmd),
    /// A command that names none, for who has this key.
    ServerOf(&'c str, &'c Cmd),
}

impl Door {
    pub(super) fn new(config: &RedisCounterStoreConfig) -> RedisResult<Self> {
        choose_cryptography();
        Ok(match &config.topology {
            Topology::Single { url } => Self::Single(Client::open(of_url(url)?)?),
            Topology::Sentinel { urls, service, node_url } => Self::Sentinel {
                sentinel: Box::new(Mutex::new(Sentinel::build(of_urls(urls)?)?)),
                service: service.clone(),
                node: node_of(node_url.as_deref())?,
            },
            Topology::Cluster { urls } => Self::Cluster(cluster(config, urls)?),
        })
    }

    /// A new connection.
    pub(super) async fn open(&self) -> RedisResult<Wire> {
        match self {
            Self::Single(client) => open_one(client).await,
            Self::Sentinel { sentinel, service, node } => {
                let client = sentinel.lock().await.async_master_for(service, Some(node)).await?;
                open_one(&client).await
            }
            Self::Cluster(client) => Ok(Wire::Cluster(client.get_async_connection().await?)),
        }
    }
}

impl Wire {
    pub(super) async fn send(&self, asked: Asked<'_>) -> RedisResult<Value> {
        match (self, asked) {
            (Self::One(connection), Asked::ByItsKeys(command) | Asked::ServerOf(_, command)) => {
                connection.clone().req_packed_command(command).await
            }
            (Self::Cluster(connection), Asked::ByItsKeys(command)) => {
                connection.clone().req_packed_command(command).await
            }
            (Self::Cluster(connection), Asked::ServerOf(key, command)) => {
                let leader = SingleNodeRoutingInfo::SpecificNode(Route::with_key(key, SlotAddr::Master));
                connection.clone().route_command(command.clone(), RoutingInfo::SingleNode(leader)).await
            }
        }
        .and_then(Value::extract_error)
    }

    /// Whether it connects again by itself.
    pub(super) fn mends_itself(&self) -> bool {
        matches!(self, Self::Cluster(_))
    }
}

async fn open_one(client: &Client) -> RedisResult<Wire> {
    // Every call has a deadline of its own.
    let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
    Ok(Wire::One(client.get_multiplexed_async_connection_with_config(&config).await?))
}

/// A cluster whose client tries nothing again: it could not tell what was done from what was not.
fn cluster(config: &RedisCounterStoreConfig, urls: &[String]) -> RedisResult<ClusterClient> {
    ClusterClient::builder(of_urls(urls)?)
        .retries(0)
        .connection_timeout(config.connect_timeout)
        .response_timeout(config.batch_deadline.max(config.deadline))
        .tcp_settings(TcpSettings::default().set_nodelay(true))
        .use_protocol(ProtocolVersion::RESP3)
        .build()
}

fn of_urls(urls: &[String]) -> RedisResult<Vec<ConnectionInfo>> {
    urls.iter().map(|url| of_url(url)).collect()
}

fn of_url(url: &str) -> RedisResult<ConnectionInfo> {
    let info = url.into_connection_info()?;
    let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    Ok(info.set_tcp_settings(TcpSettings::default().set_nodelay(true)).set_redis_settings(settings))
}

fn node_of(url: Option<&str>) -> RedisResult<SentinelNodeConnectionInfo> {
    let plain = || of_url("redis://any-host");
    let info = url.map_or_else(plain, of_url)?;
    let node = SentinelNodeConnectionInfo::default()
        .set_redis_connection_info(info.redis_settings().clone())
        .set_tcp_settings(TcpSettings::default().set_nodelay(true));
    Ok(match info.addr() {
        ConnectionAddr::TcpTls { .. } => node.set_tls_mode(TlsMode::Secure),
        _ => node,
    })
}

/// The client takes whatever cryptography the process has chosen, and has none of its own.
fn choose_cryptography() {
    static CHOSEN: Once = Once::new();
    CHOSEN.call_once(|| {
        // Where it was chosen before, that one stays.
        rustls::crypto::ring::default_provider().install_default().unwrap_or_default();
    });
}
