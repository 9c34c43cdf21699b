//! Tests of recorders that write to one log, each with counters of its own.

use proptest::prelude::*;

use super::*;

/// Longest wait for a follower to have what another recorder has accepted, in the clock of the test.
const PATIENCE: Duration = Duration::from_secs(5);

/// Another recorder of the same log, beside the one that is given.
async fn another(log: &Arc<FakeLog>) -> Recording {
    Recording::beside(log.clone(), Arc::new(FakeCounters::default()), true).await
}

async fn pair() -> (Recording, Recording) {
    let log = Arc::new(FakeLog::default());
    (another(&log).await, another(&log).await)
}

impl Recording {
    /// Waits until everything up to a position is settled here.
    async fn has(&self, last: u64) {
        let mut settled = self.recorder.settled();
        let reached = settled.wait_for(|settled| settled.0 >= last);
        tokio::time::timeout(PATIENCE, reached).await.expect("it follows the log").unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn what_another_process_accepted_is_settled_before_ones_own_and_answered_after_both() {
    let (here, there) = pair().await;
    assert_eq!(there.record("theirs").await, Ok(position(1)));
    assert_eq!(here.record("ours").await, Ok(position(2)));
    assert_eq!(here.counters.positions(), [1, 2]);
    assert_eq!(*here.recorder.settled().borrow(), Position(2));
}

#[tokio::test(start_paused = true)]
async fn the_log_is_followed_while_nothing_is_reported_here() {
    let (here, there) = pair().await;
    for number in 0..3 {
        there.record(&format!("theirs-{number}")).await.unwrap();
    }
    here.has(3).await;
    assert_eq!(here.counters.positions(), [1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_log_of_ones_own_is_not_read_while_nothing_is_reported() {
    let alone = Recording::start().await;
    alone.record("one").await.unwrap();
    let reads = alone.log.reads();
    tokio::time::sleep(PATIENCE).await;
    assert_eq!(alone.log.reads(), reads);
}

#[tokio::test(start_paused = true)]
async fn a_duplicate_of_another_process_is_settled_before_it_is_answered() {
    let (here, there) = pair().await;
    there.record("same").await.unwrap();
    let again = here.record("same").await.unwrap();
    assert!(matches!(again, AppendOutcome::Duplicate { position: Position(1), .. }), "{again:?}");
    assert_eq!(here.counters.positions(), [1]);
}

#[tokio::test(start_paused = true)]
async fn what_is_cut_between_two_appends_is_cut_where_the_log_ends() {
    let (here, there) = pair().await;
    there.record("theirs").await.unwrap();
    let (log, counters) = (here.log.clone(), here.counters.clone());
    let look = move |settled| async move { (settled, log.ids(), counters.positions()) };
    let cut = here.recorder.between(look).await.unwrap();
    assert_eq!(cut, (Position(1), vec!["theirs".to_owned()], vec![1]));
}

#[tokio::test(start_paused = true)]
async fn a_log_that_cannot_be_read_is_followed_again_once_it_can() {
    let (here, there) = pair().await;
    here.log.unreadable.store(true, Ordering::SeqCst);
    there.record("theirs").await.unwrap();
    tokio::time::sleep(PATIENCE).await;
    assert_eq!(here.counters.positions(), Vec::<u64>::new());
    let state = here.recorder.log_pulse().state("event log", start());
    assert!(state.failure.is_some(), "{state:?}");
    here.log.unreadable.store(false, Ordering::SeqCst);
    here.has(1).await;
    assert_eq!(here.recorder.log_pulse().state("event log", start()).failure, None);
}

#[tokio::test(start_paused = true)]
async fn a_record_is_answered_although_what_is_before_it_cannot_be_read_and_settled_in_order_later() {
    let (here, there) = pair().await;
    there.record("theirs").await.unwrap();
    here.log.unreadable.store(true, Ordering::SeqCst);
    assert_eq!(here.record("ours").await, Ok(position(2)));
    assert_eq!(here.counters.positions(), Vec::<u64>::new(), "never before what is before it");
    here.log.unreadable.store(false, Ordering::SeqCst);
    here.has(2).await;
    assert_eq!(here.counters.positions(), [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_report_on_another_processes_reservation_is_flagged_here_and_settles_it_there() {
    let (here, owner) = pair().await;
    owner.counters.keep(reservation(1, ReservationState::Open));
    let report = here.recorder.record(vec![of_reservation("report", 1, 1)]).await.unwrap().remove(0);
    assert!(report.flags.contains(EventFlags::RESERVATION_UNKNOWN), "{report:?}");
    owner.has(1).await;
    let settled = owner.counters.settled().remove(0).reservation.unwrap();
    assert_eq!(settled.standing, Standing::Elsewhere);
    let reservation = owner.counters.reservation(&workspace(), &settled.id).await.unwrap().unwrap();
    assert_eq!(reservation.state, ReservationState::Settled);
}

#[tokio::test(start_paused = true)]
async fn a_floor_whose_report_another_process_has_taken_is_not_charged() {
    let (here, owner) = pair().await;
    owner.counters.keep(reservation(1, ReservationState::Expired));
    here.recorder.record(vec![of_reservation("in-time", 1, 1)]).await.unwrap();
    owner.recorder.record(vec![floor_of(1)]).await.unwrap();
    assert_eq!(owner.log.ids(), ["in-time"]);
}

/// What one of the recorders does.
#[derive(Clone, Debug)]
enum Step {
    /// Reports, some of them again, and with or without a fault of the log.
    Report { at: usize, ids: Vec<u8>, fault: Option<Fault> },
    /// Its counters go away, or come back.
    Counters { at: usize, away: bool },
    /// Time passes.
    Wait,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let fault = prop_oneof![
        6 => Just(None),
        1 => Just(Some(Fault::Unavailable)),
        1 => Just(Some(Fault::UnknownAndDone)),
        1 => Just(Some(Fault::UnknownAndLost)),
    ];
    let ids = proptest::collection::vec(0..60_u8, 1..5);
    let step = prop_oneof![
        8 => (0..3_usize, ids, fault).prop_map(|(at, ids, fault)| Step::Report { at, ids, fault }),
        2 => (0..3_usize, any::<bool>()).prop_map(|(at, away)| Step::Counters { at, away }),
        2 => Just(Step::Wait),
    ];
    proptest::collection::vec(step, 1..40)
}

async fn take(recordings: &[Recording], step: Step) {
    match step {
        Step::Report { at, ids, fault } => {
            fault.into_iter().for_each(|fault| recordings[at].log.fail_next(fault));
            let events = ids.iter().map(|id| event(&format!("event-{id}"), 1)).collect();
            // Whatever it is answered: what is in the log is what counts.
            drop(recordings[at].recorder.record(events).await);
        }
        Step::Counters { at, away } => recordings[at].counters.away.store(away, Ordering::SeqCst),
        Step::Wait => tokio::time::sleep(Duration::from_millis(250)).await,
    }
}

proptest! {
    /// Whoever appends what and whatever fails: each recorder settles every event of the log, once and
    /// in order.
    #[test]
    fn every_event_is_settled_once_and_in_order_by_every_recorder(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime starts").block_on(async {
            let log = Arc::new(FakeLog::default());
            let recordings = [another(&log).await, another(&log).await, another(&log).await];
            for step in steps {
                take(&recordings, step).await;
            }
            let expected: Vec<u64> = log.events().iter().map(|logged| logged.position.0).collect();
            for recording in &recordings {
                recording.counters.away.store(false, Ordering::SeqCst);
                recording.has(expected.last().copied().unwrap_or(0)).await;
                prop_assert_eq!(recording.counters.positions(), expected.clone());
            }
            Ok::<(), TestCaseError>(())
        })?;
    }
}
