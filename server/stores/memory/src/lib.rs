//! Counters in memory, for one process: decisions by the core under one lock for each workspace,
//! with checkpoints through a [`CheckpointStore`](rateguard_engine::ports::CheckpointStore).
//!
//! Money that is held is the only thing that memory alone must not know: a crash forgets the
//! reservations, so a budget's ceiling on disk says beforehand how much they may hold at most.
//! Everything else of worth is in the event log, from which it is settled again.

mod ceilings;
mod checkpointing;
mod config;
mod counters;
mod load;
mod openings;
mod reservations;
mod store;
#[cfg(test)]
mod testing;
mod workspace;

pub use config::MemoryCounterStoreConfig;
pub use store::MemoryCounterStore;
