//! Checkpoints: what changed is written down in batches, each taken under the lock for a moment.
//!
//! All writes go through [`Disk`], one after another, each with the state of its own moment: so a
//! counter on disk never goes back, and its ceiling there is never lower than in memory.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rateguard_core::counter::{CounterId, Position};
use rateguard_core::ids::WorkspaceId;
use rateguard_core::reservation::Reservation;
use rateguard_engine::ports::{CheckpointBatch, CheckpointStore, LeadRow, StoreError};
use tokio::sync::{Notify, OwnedMutexGuard};
use tokio::time::Instant;

use crate::store::{MemoryCounterStore, STORE};
use crate::workspace::Workspace;

/// Counters that a lock is held for, which a check waits for.
pub(crate) const LOCKED_COUNTERS_MAX: usize = 128;
/// Counters of one batch, which a check or a raised ceiling that needs the disk waits for: with this many
/// the sync at a batch's end is a small part of it.
pub(crate) const BATCH_COUNTERS_MAX: usize = 512;
/// The time over which the batches of a round are spread.
const ROUND_SPREAD_MIN: Duration = Duration::from_millis(300);
/// The same of each counter in a large round: the disk, and a processor that checks need, are to feel little of it.
const SPREAD_PER_COUNTER: Duration = Duration::from_micros(200);
/// Longest time that a round is spread over. A counter may be written first in one round and last in the next, and
/// its lead has to last as long.
const ROUND_SPREAD_MAX: Duration = Duration::from_secs(1);
/// The shortest pause that a timer keeps.
const PAUSE_MIN: Duration = Duration::from_millis(1);
/// Longest wait for one write.
const SAVE_TIMEOUT: Duration = Duration::from_secs(60);

/// The way to the disk, and what is known of what stands there.
pub(crate) struct Disk {
    store: Arc<dyn CheckpointStore>,
    position: Position,
}

impl Disk {
    pub(crate) fn new(store: Arc<dyn CheckpointStore>, position: Position) -> Self {
        Self { store, position }
    }

    /// Writes a batch, durable when it returns.
    pub(crate) async fn save(&mut self, batch: CheckpointBatch) -> Result<(), StoreError> {
        let position = batch.position;
        in_time(self.store.save(batch)).await?;
        self.position = position.unwrap_or(self.position);
        Ok(())
    }

    async fn save_reservations(
        &self,
        reservations: Vec<(WorkspaceId, Reservation)>,
    ) -> Result<(), StoreError> {
        in_time(self.store.save_reservations(reservations)).await
    }
}

async fn in_time(work: impl Future<Output = Result<(), StoreError>>) -> Result<(), StoreError> {
    tokio::time::timeout(SAVE_TIMEOUT, work).await.unwrap_or_else(|_| {
        let detail = "the checkpoint was not written in time".to_owned();
        Err(StoreError::OutcomeUnknown { store: STORE, detail })
    })
}

/// The changes of one workspace that a checkpoint writes down, in the order of their ids: so
/// neighbours on disk are written together, and a page once instead of for every counter on it.
///
/// What does not arrive stands as changed again, also when the checkpoint is given up in the middle.
pub(crate) struct Changes {
    pub(crate) workspace: Arc<Workspace>,
    ids: Vec<CounterId>,
    /// How many of them are on disk.
    arrived: usize,
    /// How many of them are on disk or in the batch under way.
    sent: usize,
}

impl Changes {
    pub(crate) fn new(workspace: Arc<Workspace>, ids: Vec<CounterId>) -> Self {
        Self { workspace, ids, arrived: 0, sent: 0 }
    }

    fn of(workspace: Arc<Workspace>) -> Option<Self> {
        let ids = workspace.lock().counters.take_changed();
        (!ids.is_empty()).then(|| Self::new(workspace, ids))
    }

    /// Puts at most `room` of them into a batch, or as many as a lock is held for, and says how many.
    pub(crate) fn send(&mut self, room: usize, batch: &mut CheckpointBatch) -> usize {
        let count = room.min(LOCKED_COUNTERS_MAX).min(self.ids.len() - self.sent);
        let ids = &self.ids[self.sent..self.sent + count];
        self.workspace.lock().counters.write_down(&self.workspace.id, ids, batch);
        self.sent += count;
        count
    }

    /// Notes that what was sent is on disk.
    pub(crate) fn arrive(&mut self) {
        let ids = &self.ids[self.arrived..self.sent];
        self.workspace.lock().counters.arrived(ids);
        self.arrived = self.sent;
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        if self.arrived < self.ids.len() {
            let counters = &mut self.workspace.lock().counters;
            counters.put_back(&self.ids[self.arrived..self.sent]);
            counters.give_back(&self.ids[self.sent..]);
        }
    }
}

/// All that was changed when a checkpoint began and is not on disk yet.
struct Round {
    changes: VecDeque<Changes>,
    /// Workspaces in which leads fall with its end.
    falling: Vec<Arc<Workspace>>,
    /// Keeps other rounds away until all that did not arrive is given back, wherever that is.
    _alone: OwnedMutexGuard<()>,
}

impl Round {
    /// Sorts on a thread of its own: with a million changes, that takes longer than a check may
    /// wait.
    async fn of(workspaces: Vec<Arc<Workspace>>, alone: OwnedMutexGuard<()>) -> Result<Self, StoreError> {
        let falls = |workspace: &&Arc<Workspace>| workspace.lock().counters.leads.begin_round();
        let falling = workspaces.iter().filter(falls).cloned().collect();
        let changes = workspaces.into_iter().filter_map(Changes::of).collect();
        let round = Self { changes, falling, _alone: alone };
        let sorting = tokio::task::spawn_blocking(move || round.sorted());
        sorting.await.map_err(|error| StoreError::Unavailable { store: STORE, detail: error.to_string() })
    }

    fn sorted(mut self) -> Self {
        for changes in &mut self.changes {
            changes.ids.sort_unstable();
            // A counter is in no batch twice.
            changes.ids.dedup();
        }
        self
    }

    fn next(&mut self) -> CheckpointBatch {
        let (mut batch, mut room) = (CheckpointBatch::default(), BATCH_COUNTERS_MAX);
        for changes in &mut self.changes {
            while room > 0
                && let sent @ 1.. = changes.send(room, &mut batch)
            {
                room -= sent;
            }
            if room == 0 {
                break;
            }
        }
        batch
    }

    /// Notes that the last batch is on disk.
    fn arrived(&mut self) {
        for changes in &mut self.changes {
            if changes.arrived == changes.sent {
                break;
            }
            changes.arrive();
        }
        while self.changes.pop_front_if(|changes| changes.arrived == changes.ids.len()).is_some() {}
    }

    /// The leads that fall with its end.
    fn fallen(&self) -> Vec<LeadRow> {
        self.falling.iter().flat_map(|w| w.lock().counters.leads.fallen(&w.id)).collect()
    }

    /// Notes that these are on disk.
    fn fell(&self, rows: &[LeadRow]) {
        for workspace in &self.falling {
            workspace.lock().counters.leads.fell(&workspace.id, rows);
        }
    }

    /// Whether the last batch has all that is left.
    fn is_sent(&self) -> bool {
        self.changes.back().is_none_or(|changes| changes.sent == changes.ids.len())
    }

    /// Counters that are still to be sent.
    fn left(&self) -> usize {
        self.changes.iter().map(|changes| changes.ids.len() - changes.sent).sum()
    }
}

/// Spreads the batches of a round over time, so that they take turns with checks instead of standing
/// in their way one after the other.
struct Pace {
    ends: Instant,
}

impl Pace {
    /// For a round of so many counters.
    fn new(counters: usize) -> Self {
        let spread = SPREAD_PER_COUNTER.saturating_mul(u32::try_from(counters).unwrap_or(u32::MAX));
        Self { ends: Instant::now() + spread.clamp(ROUND_SPREAD_MIN, ROUND_SPREAD_MAX) }
    }

    /// Waits until the next batch is due of those that so many counters make, or somebody waits for them.
    async fn wait(&self, counters: usize, haste: &Haste) {
        let left = self.ends.saturating_duration_since(Instant::now());
        let batches = counters.div_ceil(BATCH_COUNTERS_MAX);
        let pause = left / u32::try_from(batches).unwrap_or(u32::MAX).max(1);
        let somebody_comes = haste.came.notified();
        if pause < PAUSE_MIN || haste.waiting.load(Ordering::Acquire) > 0 {
            return tokio::task::yield_now().await;
        }
        tokio::time::timeout(pause, somebody_comes).await.ok();
    }
}

/// Those who wait for a checkpoint: also the round that is under way then takes no pauses.
#[derive(Default)]
pub(crate) struct Haste {
    waiting: AtomicUsize,
    came: Notify,
}

impl Haste {
    fn wait(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::AcqRel);
        self.came.notify_waiters();
        Waiting(self)
    }
}

/// One who waits.
struct Waiting<'h>(&'h Haste);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

impl MemoryCounterStore {
    pub(crate) async fn write_down(&self, clean: bool) -> Result<(), StoreError> {
        if !clean {
            return self.write_counters().await.map(drop);
        }
        self.suspend_leads();
        let _waiting = self.haste.wait();
        let _written = self.write_counters().await?;
        self.writes.disk.lock().await.save_reservations(self.all_reservations()).await
    }

    /// Writes everything that changed, for somebody who waits.
    pub(crate) async fn write_now(&self) -> Result<(), StoreError> {
        let _waiting = self.haste.wait();
        self.write_counters().await.map(drop)
    }

    /// Every counter that a record up to here has changed is among the changes of the round, so
    /// with its last batch all counters on disk include that position.
    async fn write_counters(&self) -> Result<Round, StoreError> {
        let alone = self.rounds.clone().lock_owned().await;
        let through = self.settled_through();
        let mut round = Round::of(self.all_workspaces(), alone).await?;
        let pace = Pace::new(round.left());
        while !self.write_batch(&mut round, through).await? {
            pace.wait(round.left(), &self.haste).await;
        }
        Ok(round)
    }

    /// Writes the next batch and says whether it was the last.
    async fn write_batch(&self, round: &mut Round, through: Position) -> Result<bool, StoreError> {
        let mut disk = self.writes.disk.lock().await;
        let mut batch = round.next();
        let is_last = round.is_sent();
        batch.position = Some(through).filter(|through| is_last && *through > disk.position);
        let fallen = if is_last { round.fallen() } else { Vec::new() };
        batch.leads.clone_from(&fallen);
        if batch != CheckpointBatch::default() {
            disk.save(batch).await?;
        }
        round.arrived();
        round.fell(&fallen);
        self.written_through.store(disk.position.0, Ordering::Release);
        Ok(is_last)
    }

    fn all_reservations(&self) -> Vec<(WorkspaceId, Reservation)> {
        let mut all = Vec::new();
        for workspace in self.all_workspaces() {
            all.extend(workspace.lock().reservations.all().map(|r| (workspace.id.clone(), r.clone())));
        }
        all
    }
}

#[cfg(test)]
mod tests;
