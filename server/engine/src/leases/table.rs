//! The counters that something is held of, in bounded memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hashbrown::HashMap;
use parking_lot::{Mutex, RwLock};
use rateguard_core::counter::{CounterId, Limit};
use rateguard_core::ids::WorkspaceId;
use tokio::time::Instant;

use super::local::Local;

/// Counters that something may be held of, a few hundred bytes each. Those beyond are asked each time.
pub(super) const LOCAL_COUNTERS_MAX: usize = 1 << 18;
/// Parts with a lock each.
pub(super) const PARTS: usize = 64;

type Locals = HashMap<CounterId, Arc<Local>>;

pub(super) struct Table {
    parts: Box<[RwLock<Locals>; PARTS]>,
    /// Those that something was wanted of lately: they need more looks than all the others.
    wanted: Box<[Mutex<Vec<Arc<Local>>>; PARTS]>,
    count: AtomicUsize,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            parts: Box::new(std::array::from_fn(|_| RwLock::default())),
            wanted: Box::new(std::array::from_fn(|_| Mutex::default())),
            count: AtomicUsize::new(0),
        }
    }
}

impl Table {
    fn part(&self, id: CounterId) -> &RwLock<Locals> {
        &self.parts[part_of(id)]
    }

    /// Notes that something is wanted of a counter.
    pub(super) fn want(&self, local: &Arc<Local>) {
        if local.is_first_wanted() {
            self.wanted[part_of(local.id())].lock().push(local.clone());
        }
    }

    /// Looks at the counters of one part that are wanted; those of which nothing was wanted for a while are
    /// with the others again.
    pub(super) fn tend_wanted(&self, part: usize, mut tend: impl FnMut(&Local)) {
        let wanted = std::mem::take(&mut *self.wanted[part % PARTS].lock());
        let stay = wanted.into_iter().filter(|local| {
            tend(local);
            local.is_still_wanted()
        });
        let mut stay: Vec<Arc<Local>> = stay.collect();
        self.wanted[part % PARTS].lock().append(&mut stay);
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

fn part_of(id: CounterId) -> usize {
    usize::from(id.0.to_be_bytes()[0]) % PARTS
}
