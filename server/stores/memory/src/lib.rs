//! Counters in memory, for one process: decisions by the core under one lock for each workspace,
//! with checkpoints through a [`CheckpointStore`](rateguard_engine::ports::CheckpointStore).
//!
//! Two things memory alone must not know. A crash forgets the reservations, so a budget's ceiling on
//! disk says beforehand how much money they may hold at most. And what calls take of plain limits is
//! in no log, so a lead on disk says beforehand how much that may be.
//! Everything else of worth is in the event log, from which it is settled again.

mod attempts;
mod ceilings;
mod checkpointing;
mod config;
mod counters;
mod covering;
mod leads;
mod load;
mod openings;
mod reservations;
mod slots;
mod store;
#[cfg(test)]
mod testing;
mod workspace;
mod writes;

pub use config::MemoryCounterStoreConfig;
pub use store::MemoryCounterStore;
