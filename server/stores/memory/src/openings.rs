//! What was spent before a budget existed.
//!
//! An opening is in no record, so nothing could settle it again: it is on disk before it counts. It
//! is what is spent, not more of it, so that opening a budget again after a crash is harmless.

use hashbrown::{HashMap, HashSet};
use rateguard_core::counter::{Counter, CounterId, Limit, Position};
use rateguard_core::decision::{Counters as _, Entry};
use rateguard_core::time::Millis;
use rateguard_engine::ports::{CheckpointBatch, CounterRow, SettleCharge, StoreError};

use crate::store::MemoryCounterStore;
use crate::workspace::Workspace;

/// Openings written together.
const BATCH_OPENINGS_MAX: usize = 512;

impl MemoryCounterStore {
    /// Sets what is spent in the period of the openings' limits. Openings of one counter are told together.
    pub(crate) async fn open(
        &self,
        workspace: &Workspace,
        openings: &[SettleCharge],
        through: Position,
        now: Millis,
    ) -> Result<(), StoreError> {
        let openings = telling(workspace, openings, now);
        for openings in openings.chunks(BATCH_OPENINGS_MAX) {
            let mut disk = self.writes.disk.lock().await;
            let (places, rows) = self.opened(workspace, openings, through, now);
            disk.save(CheckpointBatch { rows, ..CheckpointBatch::default() }).await?;
            let mut state = workspace.lock();
            let now = state.tick(now);
            let mut begun = HashSet::new();
            for (opening, id) in openings.iter().zip(places) {
                let entry = state.entry_or_insert(id, &opening.limit);
                entry.included = entry.included.max(through);
                set_spent(&mut entry.counter, &opening.limit, opening.amount, begun.insert(id), now);
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
        through: Position,
        now: Millis,
    ) -> (Vec<CounterId>, Vec<CounterRow>) {
        let mut state = workspace.lock();
        let now = state.tick(now);
        let mut rows: HashMap<CounterId, CounterRow> = HashMap::new();
        let places = openings.iter().map(|opening| {
            let SettleCharge { counter, overflow, limit, amount } = opening;
            let id = state.counters.fallen(*counter, *overflow, self.shared.config.live_counters_max);
            let is_first = !rows.contains_key(&id);
            let row = rows.entry(id).or_insert_with(|| {
                let Entry { counter, included } = state.entry_or_fresh(id, limit);
                let included = included.max(through);
                CounterRow { workspace: workspace.id.clone(), id, included, counter, crashes: 0 }
            });
            set_spent(&mut row.counter, limit, *amount, is_first, now);
            id
        });
        let places = places.collect();
        (places, rows.into_values().collect())
    }
}

/// The openings without those of nothing spent, on counters that there are not. The instant has come all the same.
fn telling(workspace: &Workspace, openings: &[SettleCharge], now: Millis) -> Vec<SettleCharge> {
    let mut state = workspace.lock();
    state.tick(now);
    let exists = |id| state.counters.get(id).is_some();
    let tells = |o: &&SettleCharge| o.amount != 0 || exists(o.counter) || exists(o.overflow);
    openings.iter().filter(tells).cloned().collect()
}

/// Replaces what a budget has spent in the period that was summed, or adds to what was just set. The
/// counter may be in the next one by now.
fn set_spent(counter: &mut Counter, limit: &Limit, amount: i64, is_first: bool, now: Millis) {
    let at = match limit {
        Limit::Budget { bounds: Some(bounds), .. } => bounds.start,
        _ => now,
    };
    if is_first {
        // The counter goes into the period of now, before the sum is replaced.
        counter.charge(limit, 0, at, now);
        if let Counter::Budget(budget) = counter {
            let periods = [Some(&mut budget.current), budget.previous.as_mut()];
            let summed = periods.into_iter().flatten().find(|period| period.start <= at);
            summed.into_iter().for_each(|period| period.spent = 0);
        }
    }
    counter.charge(limit, amount, at, now);
}
