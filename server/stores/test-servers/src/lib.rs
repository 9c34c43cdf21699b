//! Servers for tests: a PostgreSQL of their own, and a connection that can be broken at will.
//!
//! Only tests depend on this crate. A test that needs a server which is not installed fails and says
//! what to install; it never passes by leaving its work out.

mod error;
mod ports;
mod postgres;
mod proxy;

pub use error::ServerError;
pub use postgres::PostgresServer;
pub use proxy::{Flow, Proxy};
