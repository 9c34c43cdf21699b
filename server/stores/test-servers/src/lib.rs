//! Servers for tests: a PostgreSQL and a Redis of their own, and a connection that can be broken at
//! will.
//!
//! Only tests depend on this crate. A test that needs a server which is not installed fails and says
//! what to install; it never passes by leaving its work out.

mod error;
mod ports;
mod postgres;
mod proxy;
mod redis;

pub use error::ServerError;
pub use postgres::PostgresServer;
pub use proxy::{Flow, Proxy};
pub use redis::{Keeping, Lag, RedisCluster, RedisSentinels, RedisServer};
