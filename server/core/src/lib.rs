//! The decision of the quota engine, pure: no clock, no I/O, no wire.

pub mod amounts;
pub mod counter;
pub mod decision;
pub mod ids;
pub mod invalid;
pub mod lease;
pub mod limits;
pub mod matching;
pub mod money;
pub mod plan;
pub mod pricing;
pub mod reservation;
pub mod rule;
pub mod time;
pub mod unit;
pub mod usage;
