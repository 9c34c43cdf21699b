//! Counters in Redis, for many processes: one script call a decision, by the core's arithmetic in Lua.
//!
//! All that there is of one workspace stands under one hash tag, so a script has it for itself, alone
//! and in a cluster; nothing is atomic across workspaces. In a cluster [`SpreadCounterStore`] gives each shard of
//! spread rules a hash tag of its own. What Redis keeps is the state itself: a
//! process that dies takes nothing with it. What Redis may forget (a flush, a failover that lost the
//! last writes) is noticed by a generation and a sequence number in each workspace.

mod calls;
mod config;
mod decode;
mod encode;
mod link;
mod pack;
mod reply;
mod scripts;
mod spread;
mod store;
mod tending;
mod workspaces;

pub use config::{
    BATCH_DEADLINE_DEFAULT, CONNECT_TIMEOUT_DEFAULT, DEADLINE_DEFAULT, KEY_PREFIX_DEFAULT,
    RedisCounterStoreConfig, ScriptClock, Topology,
};
pub use spread::SpreadCounterStore;
pub use store::RedisCounterStore;
