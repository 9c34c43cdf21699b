//! What was spent before a budget existed.
//!
//! An opening is in no record, so nothing could settle it again: it is on disk before it counts.

use hashbrown::HashMap;
use rateguard_core::counter::CounterId;
use rateguard_core::decision::Entry;
use rateguard_core::time::Millis;
use rateguard_engine::ports::{CheckpointBatch, CounterRow, SettleCharge, StoreError};

use crate::store::MemoryCounterStore;
use crate::workspace::Workspace;

/// Openings written together.
const BATCH_OPENINGS_MAX: usize = 512;

impl MemoryCounterStore {
    /// Adds openings to the period of now.
    pub(crate) async fn open(
        &self,
        workspace: &Workspace,
        openings: &[SettleCharge],
        now: Millis,
    ) -> Result<(), StoreError> {
        for openings in openings.chunks(BATCH_OPENINGS_MAX) {
            let mut disk = self.disk.lock().await;
            let (places, rows) = self.opened(workspace, openings, now);
            disk.save(CheckpointBatch { rows, ..CheckpointBatch::default() }).await?;
            let mut state = workspace.lock();
            let now = state.tick(now);
            for (opening, id) in openings.iter().zip(places) {
                let entry = state.entry_or_insert(id, &opening.limit);
                entry.counter.charge(&opening.limit, opening.amount, now, now);
            }
        }
        Ok(())
    }

    /// The counters that the openings fall on, and each with its openings as it goes to disk; in
    /// memory they may move on meanwhile.
    fn opened(
        &self,
        workspace: &Workspace,
        openings: &[SettleCharge],
        now: Millis,
    ) -> (Vec<CounterId>, Vec<CounterRow>) {
        let mut state = workspace.lock();
        let now = state.tick(now);
        let mut rows: HashMap<CounterId, CounterRow> = HashMap::new();
        let places = openings.iter().map(|opening| {
            let SettleCharge { counter, overflow, limit, amount } = opening;
            let id = state.counters.fallen(*counter, *overflow, self.shared.config.live_counters_max);
            let row = rows.entry(id).or_insert_with(|| {
                let Entry { counter, included } = state.entry_or_fresh(id, limit);
                CounterRow { workspace: workspace.id.clone(), id, included, counter }
            });
            row.counter.charge(limit, *amount, now, now);
            id
        });
        let places = places.collect();
        (places, rows.into_values().collect())
    }
}
