//! The bounds that an installation may set.

/// Live counters of one workspace, by default: about 150 bytes each.
const LIVE_COUNTERS_MAX: usize = 1_000_000;
/// Reservations of one workspace, open ones and records, by default: about 700 bytes each.
const RESERVATIONS_MAX: usize = 250_000;
/// Memory for the ids of decisions, by default.
const REQUEST_IDS_BYTES_MAX: usize = 128 * 1024 * 1024;

/// Bounds of the store's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryCounterStoreConfig {
    /// Counters of one workspace; beyond it new ones share their limit's overflow counter.
    pub live_counters_max: usize,
    /// Reservations of one workspace with the records of those that are over; beyond it the oldest
    /// of these records are dropped, and when all are open a RESERVE finds the store full.
    pub reservations_max: usize,
    /// Memory for the ids of decisions over all workspaces, at least 64 KiB; beyond it the oldest
    /// are forgotten early, which is counted.
    pub request_ids_bytes_max: usize,
}

impl Default for MemoryCounterStoreConfig {
    fn default() -> Self {
        Self {
            live_counters_max: LIVE_COUNTERS_MAX,
            reservations_max: RESERVATIONS_MAX,
            request_ids_bytes_max: REQUEST_IDS_BYTES_MAX,
        }
    }
}
