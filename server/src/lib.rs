//! The program `rateguard`: configuration, wiring, commands. What it does lives in the engine and
//! the adapters; here it is put together, started and stopped.

pub mod cli;
pub mod client;
pub mod config;
pub mod demo;
pub mod envoy_import;
pub mod keyfile;
pub mod logging;
pub mod mail;
pub mod production;
pub mod rotation;
pub mod running;
pub mod setup;
#[cfg(test)]
mod testing;
pub mod tls;
pub mod wiring;
pub mod workspace_file;
