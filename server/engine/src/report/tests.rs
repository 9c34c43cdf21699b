//! Tests of reports: which records are taken, at what instant they count, and what is said of
//! their reservations.

use rateguard_core::ids::KeyId;

use super::*;
use crate::error::ErrorKind;
use crate::ports::Standing;
use crate::testing::{Fault, World, record, reservation, reservation_id, start};

async fn report_one(world: &World, record: UsageRecord) -> RecordOutcome {
    world.engine.report(&world.caller, vec![record]).await.unwrap().remove(0)
}

fn at(record: UsageRecord, occurred_at: Millis) -> UsageRecord {
    UsageRecord { occurred_at: Some(occurred_at), ..record }
}

fn of_reservation(id: &str, number: u8) -> UsageRecord {
    UsageRecord { reservation: Some(reservation_id(number)), ..record(id, 40) }
}

fn reason(outcome: &RecordOutcome) -> Option<Reason> {
    match outcome {
        RecordOutcome::Rejected { error, .. } => Some(error.reason),
        RecordOutcome::Accepted { .. } | RecordOutcome::Duplicate { .. } => None,
    }
}

fn flags(outcome: &RecordOutcome) -> EventFlags {
    match outcome {
        RecordOutcome::Accepted { flags, .. } | RecordOutcome::Duplicate { flags, .. } => *flags,
        RecordOutcome::Rejected { error, .. } => panic!("rejected: {error}"),
    }
}

#[tokio::test]
async fn a_record_is_taken_up_to_its_bounds_in_time_and_not_a_millisecond_beyond() {
    let world = World::start().await;
    let (first, last) = (start().plus(-OCCURRED_BEFORE_MS_MAX), start().plus(OCCURRED_AHEAD_MS_MAX));
    let cases = [
        (first, None),
        (first.plus(-1), Some(Reason::OccurTimeTooOld)),
        (last, None),
        (last.plus(1), Some(Reason::OccurTimeInFuture)),
    ];
    for (number, (occurred_at, expected)) in cases.into_iter().enumerate() {
        let outcome = report_one(&world, at(record(&format!("record-{number}"), 1), occurred_at)).await;
        assert_eq!(reason(&outcome), expected, "at {occurred_at:?}");
    }
}

#[tokio::test]
async fn one_bad_record_never_sinks_its_batch() {
    let world = World::start().await;
    let too_old = at(record("too-old", 1), Millis::ZERO);
    let records = vec![record("first", 1), too_old, record("last", 1)];
    let outcomes = world.engine.report(&world.caller, records).await.unwrap();
    let reasons: Vec<_> = outcomes.iter().map(reason).collect();
    assert_eq!(reasons, [None, Some(Reason::OccurTimeTooOld), None]);
    assert_eq!(world.log.ids(), ["first", "last"]);
}

#[tokio::test]
async fn a_clock_that_runs_ahead_puts_no_money_into_the_future() {
    let world = World::start().await;
    let ahead = start().plus(OCCURRED_AHEAD_MS_MAX);
    report_one(&world, at(record("ahead", 1), ahead)).await;
    let event = world.log.events().remove(0).event;
    assert_eq!((event.occurred_at, event.accounted_at), (ahead, start()));
}

#[tokio::test]
async fn a_reserved_call_counts_when_it_was_decided() {
    let world = World::start().await;
    world.counters.keep(reservation(9, ReservationState::Open));
    let outcome = report_one(&world, at(of_reservation("settles", 9), start().plus(500))).await;
    assert_eq!(flags(&outcome), EventFlags::COST_EXPLICIT);
    let event = world.log.events().remove(0).event;
    assert_eq!(event.accounted_at, start().plus(9));
    assert_eq!(event.captured_budgets, [crate::testing::CAPTURED]);
}

#[tokio::test]
async fn a_report_says_what_it_found_of_its_reservation_and_settles_by_it() {
    let expired = |floor| {
        let floor = Nanos::from_stored(floor);
        Reservation { floor, ..reservation(1, ReservationState::Expired) }
    };
    let cases = [
        (None, EventFlags::RESERVATION_UNKNOWN, Standing::Unknown),
        (Some(reservation(1, ReservationState::Open)), EventFlags::default(), Standing::Known),
        (Some(reservation(1, ReservationState::Settled)), EventFlags::default(), Standing::Known),
        (Some(reservation(1, ReservationState::Released)), EventFlags::RESERVATION_RELEASED, Standing::Ended),
        // The floor is no event yet: the report takes its place.
        (Some(expired(500)), EventFlags::default(), Standing::Known),
        (Some(expired(0)), EventFlags::RESERVATION_EXPIRED, Standing::Ended),
    ];
    for (found, expected, standing) in cases {
        let world = World::start().await;
        found.clone().into_iter().for_each(|reservation| world.counters.keep(reservation));
        let outcome = report_one(&world, of_reservation("report", 1)).await;
        let mut all = expected;
        all.insert(EventFlags::COST_EXPLICIT);
        assert_eq!(flags(&outcome), all, "{found:?}");
        let settled = world.counters.settled().remove(0).reservation.unwrap();
        assert_eq!(settled.standing, standing, "{found:?}");
    }
}

#[tokio::test]
async fn an_api_that_was_deleted_in_mid_call_keeps_its_events() {
    let id = ApiId::from_random([3; 16]);
    for (named, state, keeps) in [
        ("openai", ReservationState::Open, true),
        (id.as_str(), ReservationState::Open, true),
        ("another", ReservationState::Open, false),
        ("openai", ReservationState::Released, false),
    ] {
        let world = World::start().await;
        let mut reserved = reservation(1, state);
        let call =
            CallIdentity { api: Some(id.clone()), api_name: "openai".into(), ..(*reserved.call).clone() };
        reserved.call = Arc::new(call);
        world.counters.keep(reserved);
        let record = UsageRecord { api: named.to_owned(), ..of_reservation("late", 1) };
        let outcome = report_one(&world, record).await;
        assert_eq!(flags(&outcome).contains(EventFlags::API_UNKNOWN), !keeps, "{named} {state:?}");
        let event = world.log.events().remove(0).event;
        assert_eq!(event.call.api, keeps.then(|| id.clone()), "{named} {state:?}");
    }
}

#[tokio::test]
async fn only_the_principal_that_took_a_reservation_may_report_it() {
    let world = World::start().await;
    let mine = reservation(1, ReservationState::Open);
    let of_another_key = Reservation { key: KeyId::from_random([9; 16]), ..mine.clone() };
    let of_a_gateway = Reservation { by_gateway: true, ..mine };
    for foreign in [of_another_key, of_a_gateway] {
        world.counters.keep(foreign);
        let outcome = report_one(&world, of_reservation("foreign", 1)).await;
        assert_eq!(reason(&outcome), Some(Reason::ReservationNotOwned));
    }
    assert_eq!(world.log.ids(), Vec::<String>::new());
}

#[tokio::test]
async fn a_second_event_of_an_attempt_is_told_which_was_first() {
    let world = World::start().await;
    world.counters.keep(reservation(1, ReservationState::Open));
    report_one(&world, of_reservation("first", 1)).await;
    let RecordOutcome::Rejected { error, settled_by } = report_one(&world, of_reservation("second", 1)).await
    else {
        panic!("the attempt was settled twice");
    };
    assert_eq!(error.reason, Reason::AttemptSettled);
    assert_eq!(settled_by, Some(crate::testing::event_id("first")));
}

#[tokio::test]
async fn a_duplicate_is_answered_with_the_first_copys_cost() {
    let world = World::start().await;
    report_one(&world, record("same", 5)).await;
    let again = report_one(&world, record("same", 7)).await;
    let RecordOutcome::Duplicate { cost, .. } = again else { panic!("{again:?}") };
    assert_eq!(cost.get(), 5);
}

#[tokio::test]
async fn a_log_that_is_away_fails_the_whole_call_and_says_when_to_try_again() {
    for (fault, expected) in [
        (Fault::Unavailable, Reason::StoreUnavailable),
        (Fault::UnknownAndDone, Reason::OutcomeUnknown),
        (Fault::UnknownAndLost, Reason::OutcomeUnknown),
    ] {
        let world = World::start().await;
        world.log.fail_next(fault);
        let refused = world.engine.report(&world.caller, vec![record("one", 1)]).await.unwrap_err();
        assert_eq!((refused.reason, refused.reason.kind()), (expected, ErrorKind::Unavailable));
        assert!(refused.retry_after_ms.is_some_and(|wait| wait > 0), "{fault:?}");
    }
}

#[tokio::test]
async fn pricing_alone_stores_nothing() {
    let world = World::start().await;
    let event = world.engine.price_usage(&world.caller, record("priced", 12)).await.unwrap();
    assert_eq!(event.cost.get(), 12);
    assert_eq!(world.log.ids(), Vec::<String>::new());
}
