//! The circuit breaker: calls of a store that does not answer are refused at once, but for one at a time
//! that finds out whether it answers again.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::clock::Clock;

/// Failures in a row that open the breaker: fewer may be one lost connection.
const FAILURES_MAX: u32 = 5;
/// How long it is open at first.
const OPEN_MIN: Duration = Duration::from_millis(50);
/// How long it is open when probes keep failing: the longest that a store which is back waits for calls.
const OPEN_MAX: Duration = Duration::from_millis(500);

/// Whether calls go through.
pub(super) struct Breaker {
    seen: Mutex<Seen>,
    /// Spreads the pauses, so that replicas do not all probe at once.
    clock: Arc<dyn Clock>,
}

#[derive(Debug, Default)]
struct Seen {
    state: State,
    /// How often the state has changed: what a call of an earlier state finds counts no more.
    epoch: u64,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Closed { failures: u32 },
    Open { until: Instant, pause: Duration },
    HalfOpen { pause: Duration },
}

impl Default for State {
    fn default() -> Self {
        Self::Closed { failures: 0 }
    }
}

/// Leave for one call. Dropped without an end it has found nothing out, unless its caller had waited for so long
/// that an answer was due.
pub(super) struct Pass<'b> {
    breaker: &'b Breaker,
    epoch: u64,
    answer_due: Instant,
    has_ended: bool,
}

/// What became of the breaker by one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It is as it was.
    None,
    /// It refuses calls from now on.
    Opened,
    /// It lets calls through again.
    Closed,
}

impl Breaker {
    /// One that lets everything through.
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { seen: Mutex::default(), clock }
    }

    /// Leave for a call whose answer is due within so long; `None` while calls are refused.
    pub(super) fn enter(&self, due_within: Duration) -> Option<Pass<'_>> {
        let mut seen = self.seen.lock();
        match seen.state {
            State::Closed { .. } => {}
            State::Open { until, pause } if Instant::now() >= until => seen.turn(State::HalfOpen { pause }),
            State::Open { .. } | State::HalfOpen { .. } => return None,
        }
        let answer_due = Instant::now() + due_within;
        Some(Pass { breaker: self, epoch: seen.epoch, answer_due, has_ended: false })
    }

    /// How long calls will be refused yet.
    pub(super) fn refuses_for(&self) -> Duration {
        match self.seen.lock().state {
            State::Closed { .. } => Duration::ZERO,
            State::Open { until, .. } => until.saturating_duration_since(Instant::now()),
            State::HalfOpen { pause } => pause,
        }
    }
}

impl Seen {
    fn turn(&mut self, state: State) {
        self.state = state;
        self.epoch = self.epoch.wrapping_add(1);
    }

    fn open_for(&mut self, pause: Duration, clock: &dyn Clock) {
        self.turn(State::Open { until: Instant::now() + clock.spread(pause), pause });
    }

    fn succeeded(&mut self) -> Change {
        match self.state {
            State::Closed { .. } => {
                self.state = State::default();
                Change::None
            }
            State::Open { .. } | State::HalfOpen { .. } => {
                self.turn(State::default());
                Change::Closed
            }
        }
    }

    fn failed(&mut self, clock: &dyn Clock) -> Change {
        match self.state {
            State::Closed { failures } if failures + 1 < FAILURES_MAX => {
                self.state = State::Closed { failures: failures + 1 };
                Change::None
            }
            State::Closed { .. } => {
                self.open_for(OPEN_MIN, clock);
                Change::Opened
            }
            State::Open { pause, .. } | State::HalfOpen { pause } => {
                self.open_for((pause * 2).min(OPEN_MAX), clock);
                Change::None
            }
        }
    }
}

impl Pass<'_> {
    /// Says whether the store has answered.
    pub(super) fn end(mut self, has_answered: bool) -> Change {
        self.has_ended = true;
        let mut seen = self.breaker.seen.lock();
        if seen.epoch != self.epoch {
            return Change::None;
        }
        if has_answered { seen.succeeded() } else { seen.failed(self.breaker.clock.as_ref()) }
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if self.has_ended {
            return;
        }
        let now = Instant::now();
        let mut seen = self.breaker.seen.lock();
        if seen.epoch != self.epoch {
            return;
        }
        match seen.state {
            _ if now >= self.answer_due => {
                seen.failed(self.breaker.clock.as_ref());
            }
            // The next call may probe at once.
            State::HalfOpen { pause } => seen.turn(State::Open { until: now, pause }),
            State::Closed { .. } | State::Open { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    const DUE_WITHIN: Duration = Duration::from_millis(10);

    fn closed() -> Breaker {
        Breaker::new(Arc::new(SystemClock::default()))
    }

    fn fail(breaker: &Breaker) -> Change {
        breaker.enter(DUE_WITHIN).expect("calls go through").end(false)
    }

    fn open(breaker: &Breaker) {
        let changes: Vec<Change> = (0..FAILURES_MAX).map(|_| fail(breaker)).collect();
        assert_eq!(changes.last(), Some(&Change::Opened));
        assert!(changes[..changes.len() - 1].iter().all(|change| *change == Change::None));
    }

    #[tokio::test(start_paused = true)]
    async fn it_opens_after_failures_in_a_row_and_not_after_some_between_answers() {
        let breaker = closed();
        for _ in 0..10 {
            (1..FAILURES_MAX).for_each(|_| assert_eq!(fail(&breaker), Change::None));
            assert_eq!(breaker.enter(DUE_WITHIN).expect("closed").end(true), Change::None);
        }
        open(&breaker);
        assert!(breaker.enter(DUE_WITHIN).is_none());
        assert!(breaker.refuses_for() <= OPEN_MIN * 2);
    }

    #[tokio::test(start_paused = true)]
    async fn one_call_at_a_time_finds_out_and_closes_it_for_all() {
        let breaker = closed();
        open(&breaker);
        tokio::time::advance(OPEN_MIN * 2).await;
        let probe = breaker.enter(DUE_WITHIN).expect("one may probe");
        assert!(breaker.enter(DUE_WITHIN).is_none(), "one at a time");
        assert_eq!(probe.end(true), Change::Closed);
        let both = [breaker.enter(DUE_WITHIN), breaker.enter(DUE_WITHIN)];
        assert!(both.iter().all(Option::is_some));
    }

    #[tokio::test(start_paused = true)]
    async fn failing_probes_make_the_pause_longer_up_to_its_bound() {
        let breaker = closed();
        open(&breaker);
        for _ in 0..8 {
            tokio::time::advance(OPEN_MAX * 2).await;
            assert_eq!(fail(&breaker), Change::None);
        }
        assert!(breaker.refuses_for() > OPEN_MAX / 2);
        assert!(breaker.refuses_for() < OPEN_MAX * 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_was_given_up_leaves_its_place_to_the_next() {
        let breaker = closed();
        open(&breaker);
        tokio::time::advance(OPEN_MIN * 2).await;
        drop(breaker.enter(DUE_WITHIN).expect("one may probe"));
        assert_eq!(breaker.enter(DUE_WITHIN).expect("the next one may").end(true), Change::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn what_calls_from_before_find_counts_no_more() {
        let breaker = closed();
        let early: Vec<_> = (0..20).map(|_| breaker.enter(DUE_WITHIN).expect("closed")).collect();
        open(&breaker);
        tokio::time::advance(OPEN_MIN * 2).await;
        assert_eq!(breaker.enter(DUE_WITHIN).expect("one may probe").end(true), Change::Closed);
        assert!(early.into_iter().all(|pass| pass.end(false) == Change::None));
        assert!(breaker.enter(DUE_WITHIN).is_some());
    }
}
