//! The engine: what happens on a check, a report and a change of configuration, over ports that
//! stores implement. It knows the core and nothing of any wire or database.

pub mod audit;
mod background;
pub mod caller;
pub mod catalogue;
pub mod check;
pub mod clock;
mod consumer;
pub mod costing;
pub mod deadline;
pub mod degraded;
pub mod described;
pub mod directory;
pub mod engine;
pub mod error;
mod floor;
pub mod gate;
pub mod gateway;
pub mod health;
mod key_uses;
pub mod leases;
pub mod listing;
pub mod manage;
pub mod people;
pub mod ports;
pub mod pulse;
mod recorder;
pub mod report;
pub mod request_ids;
pub mod reseal;
pub mod resources;
pub mod secrets;
mod settlement;
pub mod telling;
#[cfg(test)]
mod testing;
pub mod usage;
mod wake;
