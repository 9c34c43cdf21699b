//! A simulation of the quota engine: real engines and the real store of counters, under a seeded
//! clock, a network that fails in every way and processes that crash at any wait, held against the
//! numbered invariants after every step. The same seed gives the same run, line by line.
//!
//! Beside it stands [`fleet`], a model by events of what a thousand replicas ask of their shared
//! counters. `docs/SIMULATION.md` says how both are run.

pub mod books;
pub mod calls;
pub mod client;
pub mod clocks;
pub mod dice;
pub mod faults;
pub mod fleet;
pub mod history;
pub mod invariants;
pub mod many;
pub mod network;
pub mod replica;
pub mod run;
pub mod scenario;
pub mod steps;
pub mod stores;
pub mod trace;
