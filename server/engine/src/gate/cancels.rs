//! Checks whose outcome nobody knows, to be undone: each tried in its turn until the store has done it.

use std::collections::VecDeque;
use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rateguard_core::time::Millis;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::ports::{CancelOutcome, CheckCommand, StoreError};
use crate::telling::Seldom;

/// Cancels that wait at most. The breakers let so few calls go unanswered that one silent server of three hardly makes as
/// many within the time of a request id. Whoever finds no room is given up.
pub(super) const CANCELS_MAX: usize = 10_000;
/// How long one is tried: as long as a reservation lives that nobody renews. What it held has gone by then. Of
/// others the store knows nothing any more when the time of their request ids is over, which is sooner.
const CANCEL_LIFE: Duration = Duration::from_secs(60 * 60);

/// What waits.
#[derive(Default)]
pub(super) struct Cancels {
    waiting: Mutex<VecDeque<Due>>,
    pub(super) arrived: Notify,
    counts: Counts,
    told: Seldom,
}

/// A check to undo.
#[derive(Clone)]
pub(super) struct Due {
    pub(super) command: Arc<CheckCommand>,
    since: Instant,
}

impl Due {
    /// Whether the store knows nothing of it any more, unless it came to the check late as well, as one that hung may.
    fn is_late(&self, now: Millis) -> bool {
        self.command.request.is_some_and(|request| request.expires_at <= now)
    }
}

#[derive(Default)]
struct Counts {
    queued: AtomicU64,
    done: AtomicU64,
    dropped: AtomicU64,
}

/// Cancels so far. Counts begin with the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CancelFigures {
    /// Checks, and questions of refused ones for an earlier answer, whose outcome was not known: the counters did not
    /// answer, or the caller was gone before. They took or kept something if they arrived.
    pub queued: u64,
    /// Of these, undone.
    pub done: u64,
    /// Of these, given up, too late, or of a decision that stands, as one of too many attempts does: if they arrived, what
    /// they took is given back by its limits' windows, and by the reservation's end alone.
    pub dropped: u64,
}

impl Cancels {
    /// Queues a check to be undone. One that has no number of its attempt cannot be.
    pub(super) fn queue(&self, command: &CheckCommand) {
        self.counts.queued.fetch_add(1, Ordering::Relaxed);
        if command.request.is_none_or(|request| request.attempt.is_none()) {
            return self.give_up(1, "their attempts have no number");
        }
        let mut waiting = self.waiting.lock();
        let before = waiting.len();
        if before >= CANCELS_MAX {
            waiting.retain(|due| !due.is_late(command.now));
        }
        let (late, has_room) = (before - waiting.len(), waiting.len() < CANCELS_MAX);
        if has_room {
            waiting.push_back(Due { command: Arc::new(command.clone()), since: Instant::now() });
            self.arrived.notify_one();
        }
        drop(waiting);
        self.give_up(late, "their time is over, and others need the room");
        self.give_up(usize::from(!has_room), "too many wait to be undone");
    }

    /// Takes at most so many, the oldest first; they are put back or counted as done.
    pub(super) fn take(&self, count: usize) -> Vec<Due> {
        let mut waiting = self.waiting.lock();
        let taken = count.min(waiting.len());
        waiting.drain(..taken).collect()
    }

    /// Counts one that was undone, or cannot be.
    pub(super) fn end(&self, outcome: Result<CancelOutcome, StoreError>) {
        match outcome {
            Ok(CancelOutcome::Undone) => {
                self.counts.done.fetch_add(1, Ordering::Release);
            }
            Ok(CancelOutcome::TooLate) => self.give_up(1, "the time of their request ids is over"),
            Ok(CancelOutcome::Stands) => {
                self.give_up(1, "too many attempts were answered, or nobody knows what they took")
            }
            // As data that are damaged: it would be said each time.
            Err(error) => self.give_up(1, error),
        }
    }

    /// Puts back what was not done, behind the others, unless it was tried for long enough.
    pub(super) fn put_back(&self, mut due: Vec<Due>) {
        let before = due.len();
        due.retain(|due| due.since.elapsed() < CANCEL_LIFE);
        self.give_up(before - due.len(), "the counters were away for too long");
        self.waiting.lock().extend(due);
    }

    /// Gives everything up that waits.
    pub(super) fn give_all_up(&self) {
        let count = std::mem::take(&mut *self.waiting.lock()).len();
        self.give_up(count, "the server stops");
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.lock().len()
    }

    pub(super) fn figures(&self) -> CancelFigures {
        let read = |count: &AtomicU64| count.load(Ordering::Acquire);
        // The queued ones last: otherwise more could be over than were ever queued.
        let (done, dropped) = (read(&self.counts.done), read(&self.counts.dropped));
        CancelFigures { queued: read(&self.counts.queued), done, dropped }
    }

    /// Counts what stays taken, and tells why.
    fn give_up(&self, count: usize, why: impl Display) {
        if count == 0 {
            return;
        }
        self.counts.dropped.fetch_add(count as u64, Ordering::Release);
        if let Some(untold) = self.told.due() {
            tracing::warn!(
                count,
                untold,
                %why,
                "checks whose outcome is not known were not undone: what they took stays taken"
            );
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use rateguard_core::decision::Mode;
    use rateguard_core::ids::WorkspaceId;
    use smallvec::SmallVec;

    use super::*;
    use crate::ports::{Attempt, RequestFingerprint};

    /// An attempt of a check.
    pub(in crate::gate) fn command(workspace: WorkspaceId, id: u128) -> CheckCommand {
        let request =
            RequestFingerprint { id, content: 1, expires_at: Millis::new(100), attempt: Some(Attempt(1)) };
        CheckCommand {
            workspace,
            now: Millis::ZERO,
            mode: Mode::Consume,
            charges: SmallVec::new(),
            units: SmallVec::new(),
            request: Some(request),
            reservation: None,
        }
    }

    #[test]
    fn what_could_not_be_done_lets_the_others_go_first() {
        let cancels = Cancels::default();
        (0..3).for_each(|id| cancels.queue(&command(WorkspaceId::from_random([1; 16]), id)));
        cancels.put_back(cancels.take(2));
        let order: Vec<_> = cancels.take(3).iter().filter_map(|due| Some(due.command.request?.id)).collect();
        assert_eq!(order, [2, 0, 1]);
    }

    #[test]
    fn whoever_is_late_makes_room() {
        let cancels = Cancels::default();
        let at = |now, id| {
            let command = command(WorkspaceId::from_random([1; 16]), id as u128);
            cancels.queue(&CheckCommand { now: Millis::new(now), ..command });
        };
        (0..CANCELS_MAX).for_each(|id| at(0, id));
        at(99, CANCELS_MAX);
        assert_eq!(cancels.len(), CANCELS_MAX);
        let queued = CANCELS_MAX as u64;
        assert_eq!(cancels.figures(), CancelFigures { queued: queued + 1, done: 0, dropped: 1 });
        at(100, CANCELS_MAX);
        assert_eq!(cancels.len(), 1);
        assert_eq!(cancels.figures(), CancelFigures { queued: queued + 2, done: 0, dropped: queued + 1 });
    }
}
