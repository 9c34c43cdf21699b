//! Tests of the recorder: what callers share, what faults of the stores do to them, and what is
//! cut between two appends.

mod shared;

use std::sync::atomic::Ordering;

use rateguard_core::money::Nanos;
use rateguard_core::pricing::PriceBook;
use rateguard_core::reservation::{Reservation, ReservationState};
use rateguard_core::usage::EventFlags;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::clock::ManualClock;
use crate::floor;
use crate::ports::{AppendOutcome, ExpiredReservation, Standing};
use crate::testing::{
    FakeConfig, FakeCounters, FakeLog, Fault, event, reservation, reservation_id, start, workspace,
};

/// A recorder that runs on stores in memory.
struct Recording {
    log: Arc<FakeLog>,
    counters: Arc<FakeCounters>,
    recorder: Recorder,
    stop: CancellationToken,
    running: JoinHandle<()>,
}

type Answer = JoinHandle<Result<Vec<Recorded>, EngineError>>;

impl Recording {
    async fn start() -> Self {
        Self::on(Arc::new(FakeLog::default()), Arc::new(FakeCounters::default())).await
    }

    /// Starts on stores that have something already.
    async fn on(log: Arc<FakeLog>, counters: Arc<FakeCounters>) -> Self {
        Self::beside(log, counters, false).await
    }

    /// The same, on a log that others write to as well if it is `shared`.
    async fn beside(log: Arc<FakeLog>, counters: Arc<FakeCounters>, shared: bool) -> Self {
        let catalogue = Arc::new(PriceBook::default());
        let directory = Directory::load(Arc::new(FakeConfig::default()), catalogue, start()).await.unwrap();
        let clock = Arc::new(ManualClock::at(start()));
        let (recorder, mut task) = recorder(RecorderSetup {
            log: log.clone(),
            counters: counters.clone(),
            directory: Arc::new(directory),
            clock,
            shared,
        });
        task.recover().await.unwrap();
        let stop = CancellationToken::new();
        let running = tokio::spawn(task.run(stop.clone()));
        Self { log, counters, recorder, stop, running }
    }

    /// Records one event and waits for its answer.
    async fn record(&self, id: &str) -> Result<AppendOutcome, EngineError> {
        let recorded = self.recorder.record(vec![event(id, 1)]).await?;
        Ok(recorded[0].outcome.clone())
    }

    /// Sends events without waiting for their answer; they are in the queue when it returns.
    async fn send(&self, events: Vec<UsageEvent>) -> Answer {
        let recorder = self.recorder.clone();
        let answer = tokio::spawn(async move { recorder.record(events).await });
        tokio::task::yield_now().await;
        answer
    }

    /// Holds the log up, with one event in the middle of its append.
    async fn busy(&self) -> Answer {
        self.log.hold_up();
        let answer = self.send(vec![event("busy", 1)]).await;
        tokio::task::yield_now().await;
        answer
    }
}

fn of_reservation(id: &str, number: u8, attempt: u32) -> UsageEvent {
    UsageEvent { reservation: Some(reservation_id(number)), attempt, ..event(id, 1) }
}

fn floor_of(number: u8) -> UsageEvent {
    let reservation = reservation(number, ReservationState::Expired);
    floor::expired(&ExpiredReservation { workspace: workspace(), reservation }, start())
}

fn reason<T>(answer: Result<T, EngineError>) -> Option<Reason> {
    answer.err().map(|error| error.reason)
}

fn position(at: u64) -> AppendOutcome {
    AppendOutcome::Appended(Position(at))
}

#[tokio::test(start_paused = true)]
async fn callers_that_wait_share_one_append() {
    let recording = Recording::start().await;
    let mut answers = vec![recording.busy().await];
    for number in 0..20 {
        answers.push(recording.send(vec![event(&format!("waits-{number}"), 1)]).await);
    }
    recording.log.let_go();
    for (place, answer) in answers.into_iter().enumerate() {
        let recorded = answer.await.unwrap().unwrap();
        assert_eq!(recorded[0].outcome, position(place as u64 + 1), "each gets its own answer");
    }
    assert_eq!(recording.log.batches(), [1, 20]);
}

#[tokio::test(start_paused = true)]
async fn an_answered_event_is_settled() {
    let recording = Recording::start().await;
    assert_eq!(recording.record("one").await, Ok(position(1)));
    assert_eq!(recording.counters.positions(), [1]);
    assert_eq!(*recording.recorder.settled().borrow(), Position(1));
}

#[tokio::test(start_paused = true)]
async fn a_duplicate_is_settled_once() {
    let recording = Recording::start().await;
    recording.record("one").await.unwrap();
    let again = recording.record("one").await.unwrap();
    assert!(matches!(again, AppendOutcome::Duplicate { position: Position(1), .. }), "{again:?}");
    assert_eq!(recording.counters.positions(), [1]);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_asked_of_the_log_for_no_events() {
    let recording = Recording::start().await;
    assert_eq!(recording.recorder.record(Vec::new()).await, Ok(Vec::new()));
    assert_eq!(recording.log.batches(), Vec::<usize>::new());
}

#[tokio::test(start_paused = true)]
async fn events_of_different_reservations_are_appended_together() {
    let recording = Recording::start().await;
    for number in [1, 2] {
        recording.counters.keep(reservation(number, ReservationState::Open));
    }
    let events = vec![of_reservation("first", 1, 1), of_reservation("second", 2, 1)];
    assert_eq!(recording.recorder.record(events).await.unwrap().len(), 2);
    assert_eq!(recording.log.batches(), [2]);
}

#[tokio::test(start_paused = true)]
async fn a_report_behind_a_floor_finds_its_reservation_expired() {
    let recording = Recording::start().await;
    recording.counters.keep(reservation(1, ReservationState::Expired));
    let busy = recording.busy().await;
    let floor = recording.send(vec![floor_of(1)]).await;
    let report = recording.send(vec![of_reservation("late", 1, 1)]).await;
    recording.log.let_go();
    busy.await.unwrap().unwrap();
    assert_eq!(floor.await.unwrap().unwrap()[0].outcome, position(2));
    let report = report.await.unwrap().unwrap().remove(0);
    assert!(report.flags.contains(EventFlags::RESERVATION_EXPIRED), "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn a_floor_behind_a_report_is_not_charged() {
    let recording = Recording::start().await;
    recording.counters.keep(reservation(1, ReservationState::Expired));
    let busy = recording.busy().await;
    let report = recording.send(vec![of_reservation("in-time", 1, 1)]).await;
    let floor = recording.send(vec![floor_of(1)]).await;
    recording.log.let_go();
    busy.await.unwrap().unwrap();
    let report = report.await.unwrap().unwrap().remove(0);
    assert_eq!(report.flags, EventFlags::default(), "{report:?}");
    floor.await.unwrap().unwrap();
    assert_eq!(recording.log.ids(), ["busy", "in-time"]);
}

#[tokio::test(start_paused = true)]
async fn a_floor_behind_a_partial_report_is_what_that_left_of_it() {
    let recording = Recording::start().await;
    let named = floor_of(1);
    let left = Nanos::from_stored(named.cost.get() - 1);
    let expired = reservation(1, ReservationState::Expired);
    recording.counters.keep(Reservation { floor: left, ..expired });
    assert_eq!(recording.recorder.record(vec![named]).await.unwrap()[0].cost, left);
}

#[tokio::test(start_paused = true)]
async fn a_report_that_was_priced_before_the_end_is_flagged_by_what_it_finds() {
    let recording = Recording::start().await;
    recording.counters.keep(reservation(1, ReservationState::Released));
    let report = recording.recorder.record(vec![of_reservation("late", 1, 1)]).await.unwrap().remove(0);
    assert!(report.flags.contains(EventFlags::RESERVATION_RELEASED), "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn a_queue_full_of_calls_refuses_at_once_and_says_when_to_try_again() {
    let recording = Recording::start().await;
    let busy = recording.busy().await;
    let mut waiting = Vec::new();
    for number in 0..QUEUE_CALLS_MAX {
        waiting.push(recording.send(vec![event(&format!("waits-{number}"), 1)]).await);
    }
    let refused = recording.recorder.record(vec![event("too-much", 1)]).await.unwrap_err();
    assert_eq!(refused.reason, Reason::QueueFull);
    assert_eq!(refused.reason.kind(), crate::error::ErrorKind::ResourceExhausted);
    assert!(refused.retry_after_ms.is_some_and(|wait| wait > 0));

    recording.log.let_go();
    busy.await.unwrap().unwrap();
    for answer in waiting {
        answer.await.unwrap().unwrap();
    }
    assert_eq!(recording.record("too-much").await, Ok(position(QUEUE_CALLS_MAX as u64 + 2)));
}

#[tokio::test(start_paused = true)]
async fn a_queue_full_of_events_refuses_until_they_are_answered() {
    let recording = Recording::start().await;
    let busy = recording.busy().await;
    // One place is taken by the event that is under way.
    let too_many = vec![event("same", 1); QUEUE_EVENTS_MAX];
    assert_eq!(reason(recording.recorder.record(too_many).await), Some(Reason::QueueFull));
    let waiting = recording.send(vec![event("fits", 1); 3]).await;
    recording.log.let_go();
    busy.await.unwrap().unwrap();
    assert_eq!(waiting.await.unwrap().unwrap().len(), 3);
    assert_eq!(recording.recorder.places.available_permits(), QUEUE_EVENTS_MAX);
}

#[tokio::test(start_paused = true)]
async fn what_surely_was_not_appended_may_be_sent_again() {
    let recording = Recording::start().await;
    recording.log.fail_next(Fault::Unavailable);
    assert_eq!(reason(recording.record("one").await), Some(Reason::StoreUnavailable));
    assert_eq!(recording.counters.positions(), Vec::<u64>::new());
    assert_eq!(recording.record("one").await, Ok(position(1)));
}

#[tokio::test(start_paused = true)]
async fn what_was_appended_without_a_word_is_settled_with_the_next_append() {
    let recording = Recording::start().await;
    recording.log.fail_next(Fault::UnknownAndDone);
    assert_eq!(reason(recording.record("one").await), Some(Reason::OutcomeUnknown));
    assert_eq!(recording.counters.positions(), Vec::<u64>::new());
    assert_eq!(recording.record("two").await, Ok(position(2)));
    assert_eq!(recording.counters.positions(), [1, 2]);
    let again = recording.record("one").await.unwrap();
    assert!(matches!(again, AppendOutcome::Duplicate { position: Position(1), .. }), "{again:?}");
}

#[tokio::test(start_paused = true)]
async fn what_was_lost_without_a_word_is_accepted_when_it_comes_again() {
    let recording = Recording::start().await;
    recording.log.fail_next(Fault::UnknownAndLost);
    assert_eq!(reason(recording.record("one").await), Some(Reason::OutcomeUnknown));
    assert_eq!(recording.record("one").await, Ok(position(1)));
    assert_eq!(recording.counters.positions(), [1]);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_appended_while_what_is_behind_cannot_be_read() {
    let recording = Recording::start().await;
    recording.log.fail_next(Fault::UnknownAndDone);
    recording.record("one").await.unwrap_err();
    recording.log.unreadable.store(true, Ordering::SeqCst);
    assert_eq!(reason(recording.record("two").await), Some(Reason::StoreUnavailable));
    recording.log.unreadable.store(false, Ordering::SeqCst);
    assert_eq!(recording.record("two").await, Ok(position(2)));
    assert_eq!(recording.counters.positions(), [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn records_count_although_the_counters_are_away_and_are_settled_once_they_are_back() {
    let recording = Recording::start().await;
    recording.counters.away.store(true, Ordering::SeqCst);
    assert_eq!(recording.record("one").await, Ok(position(1)));
    assert_eq!(*recording.recorder.settled().borrow(), Position(0));
    recording.counters.away.store(false, Ordering::SeqCst);
    assert_eq!(recording.record("two").await, Ok(position(2)));
    assert_eq!(recording.counters.positions(), [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_takes_too_long_is_unknown_and_the_record_counts() {
    let recording = Recording::start().await;
    let late = recording.busy().await;
    assert_eq!(reason(late.await.unwrap()), Some(Reason::OutcomeUnknown));
    recording.log.let_go();
    let again = recording.record("busy").await.unwrap();
    assert!(matches!(again, AppendOutcome::Duplicate { .. }), "{again:?}");
    assert_eq!(recording.counters.positions(), [1]);
}

#[tokio::test(start_paused = true)]
async fn what_is_done_between_two_appends_divides_the_log_exactly() {
    let recording = Recording::start().await;
    let busy = recording.busy().await;
    let before = recording.send(vec![event("before", 1)]).await;
    let (recorder, log, counters) =
        (recording.recorder.clone(), recording.log.clone(), recording.counters.clone());
    let cut = tokio::spawn(async move {
        let look = move |settled| async move { (settled, log.ids(), counters.positions()) };
        recorder.between(look).await
    });
    tokio::task::yield_now().await;
    let after = recording.send(vec![event("after", 1)]).await;
    recording.log.let_go();

    let (settled, ids, positions) = cut.await.unwrap().unwrap();
    assert_eq!((settled, positions), (Position(2), vec![1, 2]));
    assert_eq!(ids, ["busy", "before"]);
    for answer in [busy, before, after] {
        answer.await.unwrap().unwrap();
    }
    assert_eq!(recording.log.ids(), ["busy", "before", "after"]);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_done_between_appends_while_what_is_behind_cannot_be_read() {
    let recording = Recording::start().await;
    recording.log.fail_next(Fault::UnknownAndDone);
    recording.record("one").await.unwrap_err();
    recording.log.unreadable.store(true, Ordering::SeqCst);
    assert_eq!(reason(recording.recorder.barrier().await), Some(Reason::OutcomeUnknown));
    recording.log.unreadable.store(false, Ordering::SeqCst);
    assert_eq!(recording.recorder.barrier().await, Ok(Position(1)));
}

#[tokio::test(start_paused = true)]
async fn a_stop_answers_what_was_sent_before_and_refuses_what_comes_after() {
    let recording = Recording::start().await;
    let mut answers = vec![recording.busy().await];
    for number in 0..3 {
        answers.push(recording.send(vec![event(&format!("waits-{number}"), 1)]).await);
    }
    recording.stop.cancel();
    recording.log.let_go();
    for answer in answers {
        answer.await.unwrap().unwrap();
    }
    recording.running.await.unwrap();
    let refused = recording.recorder.record(vec![event("too-late", 1)]).await;
    assert_eq!(reason(refused), Some(Reason::Draining));
    assert_eq!(recording.counters.positions(), [1, 2, 3, 4]);
}

#[tokio::test(start_paused = true)]
async fn a_start_settles_what_the_log_has_beyond_the_checkpoint() {
    let before = Recording::start().await;
    for number in 0..3 {
        before.record(&format!("record-{number}")).await.unwrap();
    }
    let counters = Arc::new(FakeCounters::default());
    *counters.recovered_through.lock() = Position(1);
    let recording = Recording::on(before.log, counters).await;
    assert_eq!(recording.counters.positions(), [2, 3]);
    assert_eq!(*recording.recorder.settled().borrow(), Position(3));
}

#[tokio::test(start_paused = true)]
async fn a_log_that_refuses_is_known_to_until_an_append_works_or_the_news_is_old() {
    let recording = Recording::start().await;
    let failure = || recording.recorder.append_failure();
    assert_eq!(failure(), None);
    recording.log.fail_next(Fault::Unavailable);
    recording.record("one").await.unwrap_err();
    assert_eq!(failure(), Some(StoreFailure::Unavailable));
    recording.record("one").await.unwrap();
    assert_eq!(failure(), None);
    recording.log.fail_next(Fault::UnknownAndLost);
    recording.record("two").await.unwrap_err();
    assert!(failure().is_some());
    tokio::time::advance(APPEND_FAILURE_BELIEVED_FOR).await;
    assert_eq!(failure(), None);
}
