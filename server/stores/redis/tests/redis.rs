//! The store on real servers: the promises of every store, the same arithmetic as the core's, and what
//! becomes of calls when a server is away.

#[path = "redis/backend.rs"]
mod backend;
#[path = "redis/bulk.rs"]
mod bulk;
#[path = "redis/differential.rs"]
mod differential;
#[path = "redis/dump.rs"]
mod dump;
#[path = "redis/faults.rs"]
mod faults;
#[path = "redis/leases.rs"]
mod leases;
#[path = "redis/roads.rs"]
mod roads;
#[path = "redis/spread.rs"]
mod spread;
#[path = "redis/spread_faults.rs"]
mod spread_faults;
#[path = "redis/suite.rs"]
mod suite;
#[path = "redis/wishes.rs"]
mod wishes;
