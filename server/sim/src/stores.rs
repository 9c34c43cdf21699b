//! The stores of a run: one of each, shared by all replicas, behind links that fail.

pub mod audit;
pub mod config;
pub mod counters;
pub mod flaws;
pub mod log;
pub mod usage;
