//! The engine: what happens on a check, a report and a change of configuration, over ports that
//! stores implement. It knows the core and nothing of any wire or database.

pub mod audit;
mod background;
pub mod caller;
pub mod catalogue;
pub mod check;
pub mod clock;
pub mod costing;
pub mod directory;
pub mod engine;
pub mod error;
mod floor;
pub mod gateway;
mod health;
pub mod manage;
pub mod people;
pub mod ports;
mod recorder;
pub mod report;
pub mod reseal;
pub mod resources;
pub mod secrets;
mod settlement;
#[cfg(test)]
mod testing;
pub mod usage;
