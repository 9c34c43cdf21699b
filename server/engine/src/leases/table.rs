//! The counters that something is held of, in bounded memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hashbrown::HashMap;
use parking_lot::RwLock;
use rateguard_core::counter::{CounterId, Limit};
use rateguard_core::ids::WorkspaceId;
use tokio::time::Instant;

use super::local::Local;

/// Counters that something may be held of, a few hundred bytes each. Those beyond are asked each time.
pub(super) const LOCAL_COUNTERS_MAX: usize = 1 << 18;
/// Parts with a lock each.
pub(super) const PARTS: usize = 64;

pub(super) struct Table {
    parts: Box<[RwLock<HashMap<CounterId, Arc<Local>>>; PARTS]>,
    count: AtomicUsize,
}

impl Default for Table {
    fn default() -> Self {
        Self { parts: Box::new(std::array::from_fn(|_| RwLock::default())), count: AtomicUsize::new(0) }
    }
}

impl Table {
    fn part(&self, id: CounterId) -> &RwLock<HashMap<CounterId, Arc<Local>>> {
        &self.parts[usize::from(id.0.to_be_bytes()[0]) % PARTS]
    }

    pub(super) fn get(&self, id: CounterId) -> Option<Arc<Local>> {
        self.part(id).read().get(&id).cloned()
    }

    /// A counter, made known where it was not; `None` when there are too many.
    pub(super) fn get_or_insert(
        &self,
        workspace: &WorkspaceId,
        [id, overflow]: [CounterId; 2],
        limit: &Limit,
        now: Instant,
    ) -> Option<Arc<Local>> {
        if let Some(known) = self.get(id) {
            return Some(known);
        }
        if self.len() >= LOCAL_COUNTERS_MAX {
            return None;
        }
        let mut part = self.part(id).write();
        let local = part.entry(id).or_insert_with(|| {
            self.count.fetch_add(1, Ordering::Relaxed);
            Arc::new(Local::new(workspace.clone(), id, overflow, *limit, now))
        });
        Some(local.clone())
    }

    /// Counters that are known.
    pub(super) fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Drops the counters of one part that are of no more interest, by a look at each.
    pub(super) fn tend(&self, part: usize, mut is_idle: impl FnMut(&Local) -> bool) {
        let locals: Vec<Arc<Local>> = self.parts[part % PARTS].read().values().cloned().collect();
        let idle: Vec<CounterId> =
            locals.iter().filter(|local| is_idle(local)).map(|local| local.id()).collect();
        drop(locals);
        if idle.is_empty() {
            return;
        }
        let mut kept = self.parts[part % PARTS].write();
        for id in idle {
            // A call that has it in hand may be about to hold something of it.
            if kept.get(&id).is_some_and(|local| Arc::strong_count(local) == 1) {
                kept.remove(&id);
                self.count.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
}
