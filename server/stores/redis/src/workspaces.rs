//! What this process has seen of each workspace: the generation of its memory and how far it was
//! written.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use hashbrown::HashMap;
use parking_lot::{Mutex, RwLock};
use rateguard_core::ids::WorkspaceId;
use rateguard_core::time::Millis;

use crate::pack::Packer;
use crate::reply::{Doubt, Generation, Head, Loss};

/// One workspace, as this process knows it.
pub(crate) struct Known {
    pub(crate) id: WorkspaceId,
    seen: Mutex<Seen>,
    /// Whether it stands in the list of all workspaces.
    registered: AtomicBool,
    /// As they were told last.
    figures: Mutex<Figures>,
    /// How often this process has found its memory lost or set back.
    losses: AtomicU64,
}

/// What one workspace has, and has given up.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) live: u64,
    pub(crate) overflowed: u64,
    pub(crate) forgotten: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    generation: Option<Generation>,
    sequence: i64,
    /// The loss after which its budgets have to be counted again.
    loss: Option<Doubt>,
}

impl Known {
    fn new(id: WorkspaceId) -> Self {
        Self {
            id,
            seen: Mutex::default(),
            registered: AtomicBool::new(false),
            figures: Mutex::default(),
            losses: AtomicU64::new(0),
        }
    }

    /// How every command begins: when, which generation a workspace without memory begins, and what
    /// memory the caller has seen.
    pub(crate) fn head(&self, length: usize, now: Millis, offered: Generation) -> Packer {
        let Seen { generation, sequence, .. } = *self.seen.lock();
        let mut packer = Packer::default();
        packer.array(HEAD_FIELDS + length).integer(now.get()).text(offered);
        packer.text(generation.as_ref().map_or(&[][..], |generation| generation));
        packer.integer(sequence);
        packer
    }

    /// Takes in what an answer says of the memory. Answers may come in another order than they were
    /// given.
    pub(crate) fn take_in(&self, head: &Head) {
        let mut seen = self.seen.lock();
        if seen.generation == Some(head.generation) {
            seen.sequence = seen.sequence.max(head.sequence);
        } else if head.sequence > 0 {
            if seen.generation.is_some() {
                // The list of all workspaces may be gone with what was there before.
                self.set_registered(false);
            }
            // What was never written begins with the next write, and is not lost by then.
            *seen = Seen { generation: Some(head.generation), sequence: head.sequence, loss: None };
        }
        let doubt = Doubt { generation: head.generation, number: head.loss_number };
        seen.loss = (head.loss != Loss::None).then_some(doubt);
        drop(seen);
        let (workspace, at_ms) = (&self.id, head.now.get());
        if matches!(head.loss, Loss::Gone | Loss::WentBack) {
            self.losses.fetch_add(1, Ordering::Relaxed);
        }
        match head.loss {
            Loss::None | Loss::NotRebuilt => {}
            Loss::Gone => tracing::error!(%workspace, at_ms, "the counters of a workspace were lost"),
            Loss::WentBack => tracing::error!(%workspace, at_ms, "the last writes to counters were lost"),
        }
    }

    /// The loss after which its budgets have to be counted again.
    pub(crate) fn loss(&self) -> Option<Doubt> {
        self.seen.lock().loss
    }

    pub(crate) fn figures(&self) -> Figures {
        *self.figures.lock()
    }

    pub(crate) fn set_figures(&self, figures: Figures) {
        *self.figures.lock() = figures;
    }

    pub(crate) fn is_registered(&self) -> bool {
        self.registered.load(Ordering::Acquire)
    }

    pub(crate) fn set_registered(&self, registered: bool) {
        self.registered.store(registered, Ordering::Release);
    }
}

/// Fields with which every command begins.
const HEAD_FIELDS: usize = 4;

/// All workspaces that this process knows of.
#[derive(Default)]
pub(crate) struct Workspaces {
    by_id: RwLock<HashMap<WorkspaceId, Arc<Known>>>,
    workspaces: Ring,
    /// Shards of workspaces, which have turns of their own: there are many more of them.
    shards: Ring,
}

/// What places take turns in, each kind of work by itself.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Work {
    Expiring,
    Sweeping,
    Looking,
}

const WORKS: usize = 3;

/// Places that take turns.
#[derive(Default)]
struct Ring {
    /// In the order in which they were first seen.
    order: RwLock<Vec<Arc<Known>>>,
    next: [AtomicUsize; WORKS],
}

impl Ring {
    fn next(&self, work: Work, count: usize) -> Vec<Arc<Known>> {
        let order = self.order.read();
        let count = count.min(order.len());
        let first = self.next[work as usize].fetch_add(count, Ordering::Relaxed);
        (first..first + count).filter_map(|place| order.get(place % order.len()).cloned()).collect()
    }

    fn losses(&self) -> u64 {
        self.order.read().iter().map(|known| known.losses.load(Ordering::Relaxed)).sum()
    }
}

impl Workspaces {
    pub(crate) fn get(&self, id: &WorkspaceId) -> Arc<Known> {
        if let Some(known) = self.by_id.read().get(id) {
            return known.clone();
        }
        let mut by_id = self.by_id.write();
        let known = by_id.entry(id.clone()).or_insert_with(|| {
            let known = Arc::new(Known::new(id.clone()));
            let ring = if id.of_shard().is_some() { &self.shards } else { &self.workspaces };
            ring.order.write().push(known.clone());
            known
        });
        known.clone()
    }

    /// The next ones, in turns: so many workspaces, and so many shards.
    pub(crate) fn next(&self, work: Work, workspaces: usize, shards: usize) -> Vec<Arc<Known>> {
        let mut next = self.workspaces.next(work, workspaces);
        next.extend(self.shards.next(work, shards));
        next
    }

    /// How often this process has found the memory of one of them lost.
    pub(crate) fn losses(&self) -> u64 {
        self.workspaces.losses() + self.shards.losses()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Known>> {
        let mut all = self.workspaces.order.read().clone();
        all.extend(self.shards.order.read().iter().cloned());
        all
    }
}
