//! The HTTP face of RateGuard: a reverse proxy that checks, forwards, meters and reports.
//!
//! [`Gateway`] is made over a [`Transport`], whatever carries the generated clients' calls to the
//! server, and mounted as the [`router`], which `rateguard_serving::serve` serves. Its bounds stand in
//! [`config`].
//!
//! Within, from the wire inward: `flow` is the life of one call; [`proxy`] holds what touches a request
//! or an answer on its way (where it may go, which headers it carries, who pays), [`sse`] cuts event
//! streams without changing a byte, [`usage`] reads what a vendor says was used, [`control`] and
//! `reports` speak with the server, [`routes`] keeps where calls go, and [`problem`] names every
//! failure that the gateway itself answers with.

pub mod backoff;
pub mod config;
pub mod control;
mod flow;
mod gateway;
pub mod problem;
pub mod proxy;
pub mod remote;
mod reports;
pub mod routes;
pub mod secret;
pub mod sse;
pub mod usage;

pub use config::{ClientAddress, GatewayConfig};
pub use control::Transport;
pub use gateway::{Drained, Gateway, GatewayError, router};
pub use secret::Secret;
