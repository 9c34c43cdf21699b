#![doc = include_str!("../README.md")]

mod call;
mod client;
mod error;
mod leasing;
mod retry;

pub use rateguard_proto::v1;

pub use crate::call::Call;
pub use crate::client::{Client, DecidedBy, Decision};
pub use crate::error::{ConnectError, Error, ReportError};
pub use crate::leasing::{LeaseFigures, LeasingClient};
