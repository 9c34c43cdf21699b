//! Asking the shared counters: one question at a time for each place in which counters of a workspace stand, for
//! everything that has come together meanwhile. Of two places one may be away, and a command over both would
//! leave units with nobody.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hashbrown::HashMap;
use parking_lot::Mutex;
use rateguard_core::counter::Shard;
use rateguard_core::ids::WorkspaceId;
use rateguard_core::lease::LeaseReturn;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::Leases;
use super::local::Local;
use crate::gate::is_surely_not_done;
use crate::ports::{LEASES_PER_COMMAND_MAX, LeaseCommand};

/// How long a question waits for others while no call waits for its answer.
const GATHERED: Duration = Duration::from_millis(5);
/// Returns of one place that wait to be told. What is beyond is forfeited, and counted.
const RETURNS_MAX: usize = 65_536;
/// Of a command's leases one part is for what is asked for, one for what waits to be told, and the others are
/// for leases that end with what is asked for.
const PARTS_OF_COMMAND: usize = 5;
/// Longest wait for one answer. Stores have deadlines of their own, which are shorter.
const ANSWER_MAX: Duration = Duration::from_secs(1);
/// How long nothing is told after the store was away.
const AWAY_PAUSE: Duration = Duration::from_millis(100);

/// A workspace, and where in it.
pub(super) type Place = (WorkspaceId, Option<Shard>);

/// Returns of a workspace, each with those from the same place.
pub(super) fn by_place(
    workspace: &WorkspaceId,
    returns: Vec<LeaseReturn>,
) -> HashMap<Place, Vec<LeaseReturn>> {
    let mut parts: HashMap<Place, Vec<LeaseReturn>> = HashMap::new();
    for returned in returns {
        parts.entry((workspace.clone(), returned.counter.shard())).or_default().push(returned);
    }
    parts
}

/// What waits to be asked and told, by place.
#[derive(Default)]
pub(super) struct Queues(Mutex<HashMap<Place, Queue>>);

/// A place has one while somebody works on it.
#[derive(Default)]
struct Queue {
    refills: Vec<Arc<Local>>,
    returns: Vec<LeaseReturn>,
    /// Whether a call waits.
    is_urgent: bool,
    urgent: Arc<Notify>,
}

impl Queue {
    /// As much as one command may have, the oldest first.
    fn next(&mut self) -> (Vec<Arc<Local>>, Vec<LeaseReturn>) {
        let room = LEASES_PER_COMMAND_MAX / PARTS_OF_COMMAND;
        let refills: Vec<_> = self.refills.drain(..room.min(self.refills.len())).collect();
        let returns = self.returns.drain(..room.min(self.returns.len())).collect();
        // A call may wait for one of those that are left.
        self.is_urgent &= !self.refills.is_empty();
        if self.is_urgent {
            self.urgent.notify_one();
        }
        (refills, returns)
    }
}

impl Leases {
    /// Asks for more of a counter, soon or at once.
    pub(super) fn refill(self: &Arc<Self>, local: &Arc<Local>, is_urgent: bool) {
        self.enqueue(&local.place(), is_urgent, |queue| queue.refills.push(local.clone()));
    }

    /// Lets what is asked for soon be asked for at once.
    pub(super) fn hurry(self: &Arc<Self>, local: &Arc<Local>) {
        self.enqueue(&local.place(), true, |_| {});
    }

    /// Gives back what is not needed here.
    pub(super) fn give_back(self: &Arc<Self>, workspace: &WorkspaceId, returns: Vec<LeaseReturn>) {
        for (place, returns) in by_place(workspace, returns) {
            self.enqueue(&place, false, |queue| {
                let room = RETURNS_MAX.saturating_sub(queue.returns.len());
                let lost = returns.iter().skip(room).map(|lost| lost.unused.unsigned_abs()).sum();
                self.counts.forfeited.fetch_add(lost, Ordering::Relaxed);
                queue.returns.extend(returns.into_iter().take(room));
            });
        }
    }

    fn enqueue(self: &Arc<Self>, place: &Place, is_urgent: bool, add: impl FnOnce(&mut Queue)) {
        let mut queues = self.queues.0.lock();
        let is_worked_on = queues.contains_key(place);
        let queue = queues.entry(place.clone()).or_default();
        add(queue);
        if is_urgent && !queue.is_urgent {
            queue.is_urgent = true;
            queue.urgent.notify_one();
        }
        drop(queues);
        if !is_worked_on {
            self.workers.spawn(self.clone().work(place.clone()));
        }
    }

    /// Asks and tells until there is nothing more for the place.
    async fn work(self: Arc<Self>, place: Place) {
        while let Some(urgent) = self.waiting(&place) {
            if timeout(GATHERED, urgent.notified()).await.is_err() {
                tracing::trace!(workspace = %place.0, "leases were gathered");
            }
            let next = self.queues.0.lock().get_mut(&place).map(Queue::next);
            let Some((refills, returns)) = next else { return };
            if !self.exchange(&place, &refills, returns).await {
                tokio::time::sleep(AWAY_PAUSE).await;
            }
        }
    }

    /// Ends the queue where nothing waits in it.
    fn waiting(&self, place: &Place) -> Option<Arc<Notify>> {
        let mut queues = self.queues.0.lock();
        let queue = queues.get(place)?;
        if queue.refills.is_empty() && queue.returns.is_empty() {
            queues.remove(place);
            return None;
        }
        Some(queue.urgent.clone())
    }

    /// Tells and asks once. Says whether the store answered.
    pub(super) async fn exchange(
        self: &Arc<Self>,
        (workspace, _): &Place,
        refills: &[Arc<Local>],
        mut returns: Vec<LeaseReturn>,
    ) -> bool {
        let asked_at = Instant::now();
        let requests = refills.iter().map(|local| local.ask(asked_at, &mut returns)).collect();
        let command = LeaseCommand { workspace: workspace.clone(), now: self.clock.now(), returns, requests };
        self.counts.calls.fetch_add(1, Ordering::Relaxed);
        let answered = timeout(ANSWER_MAX, self.gate.lease(&command)).await;
        let now = Instant::now();
        match answered {
            Ok(Ok(outcomes)) if outcomes.len() == refills.len() => {
                let answers = refills.iter().zip(&outcomes);
                let lent: i64 = answers.map(|(local, outcome)| local.answer(outcome, asked_at, now)).sum();
                self.counts.lent.fetch_add(lent.unsigned_abs(), Ordering::Relaxed);
                let returned = command.returns.iter().map(|returned| returned.unused.unsigned_abs()).sum();
                self.counts.returned.fetch_add(returned, Ordering::Relaxed);
                true
            }
            failed => {
                refills.iter().for_each(|local| local.fail(now));
                self.after_failure(
                    workspace,
                    command.returns,
                    matches!(failed, Ok(Err(error)) if is_surely_not_done(&error)),
                );
                false
            }
        }
    }

    /// What was surely not told is told again; what may have been told is not, or it would free twice.
    fn after_failure(self: &Arc<Self>, workspace: &WorkspaceId, returns: Vec<LeaseReturn>, again: bool) {
        if again && !self.is_closed() {
            self.give_back(workspace, returns);
        } else {
            let lost = returns.iter().map(|lost| lost.unused.unsigned_abs()).sum();
            self.counts.forfeited.fetch_add(lost, Ordering::Relaxed);
        }
    }
}
