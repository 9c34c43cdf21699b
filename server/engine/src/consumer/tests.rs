//! Tests of the consumer: who rolls up, and floors that reports on other processes raced.

use std::sync::atomic::Ordering;

use rateguard_core::counter::Position;
use rateguard_core::reservation::ReservationState;
use rateguard_core::usage::EventFlags;

use super::*;
use crate::ports::{EventLog as _, ExpiredReservation, UsageStore as _};
use crate::testing::{
    FakeConfig, FakeLog, World, event, record, reservation, reservation_id, start, workspace,
};

/// A report that another process took, which did not know its reservation.
fn from_elsewhere(id: &str) -> UsageEvent {
    let mut report = UsageEvent { reservation: Some(reservation_id(1)), ..event(id, 70) };
    report.flags.insert(EventFlags::RESERVATION_UNKNOWN);
    report
}

fn floor_of_it() -> UsageEvent {
    let reservation = reservation(1, ReservationState::Expired);
    floor::expired(&ExpiredReservation { workspace: workspace(), reservation }, start())
}

/// What is in a log after these events, all appended by others, were rolled up.
async fn rolled_up(events: &[UsageEvent], shared: bool) -> Vec<String> {
    let log = std::sync::Arc::new(FakeLog::default());
    log.append(events).await.unwrap();
    let world = World::on(log.clone(), std::sync::Arc::new(FakeConfig::default()), shared).await;
    assert_eq!(world.engine.roll_up().await, Ok(true));
    log.ids()
}

#[tokio::test]
async fn only_one_process_rolls_up_and_another_takes_its_place() {
    let [leader, other] = World::pair().await;
    other.engine.report(&other.caller, vec![record("one", 1)]).await.unwrap();
    assert_eq!(other.engine.roll_up().await, Ok(false));
    assert_eq!(other.usage.cursor().await, Ok(Position(0)));
    assert_eq!(leader.engine.roll_up().await, Ok(true));
    assert_eq!(leader.usage.cursor().await, Ok(Position(1)));
    leader.usage.follows.store(true, Ordering::SeqCst);
    other.usage.follows.store(false, Ordering::SeqCst);
    assert_eq!(leader.engine.roll_up().await, Ok(false));
    assert_eq!(other.engine.roll_up().await, Ok(true));
    assert_eq!(other.usage.cursor().await, Ok(Position(1)));
}

#[tokio::test]
async fn a_floor_that_raced_its_report_on_another_process_is_taken_back() {
    let (report, floor) = (from_elsewhere("report"), floor_of_it());
    let correction = floor::correction(&floor, start()).event_id.to_string();
    let expected = ["report".to_owned(), floor.event_id.to_string(), correction];
    assert_eq!(rolled_up(&[report, floor], true).await, expected);
}

#[tokio::test]
async fn a_floor_is_kept_behind_what_did_not_end_its_reservation() {
    let partial = UsageEvent { is_final: false, ..from_elsewhere("partial") };
    let in_time = UsageEvent { flags: EventFlags::default(), ..from_elsewhere("in-time") };
    let other = UsageEvent { reservation: Some(reservation_id(2)), ..from_elsewhere("other") };
    for report in [partial, in_time, other] {
        assert_eq!(rolled_up(&[report, floor_of_it()], true).await.len(), 2);
    }
    assert_eq!(rolled_up(&[floor_of_it()], true).await.len(), 1);
}

#[tokio::test]
async fn a_log_of_ones_own_has_no_such_race() {
    assert_eq!(rolled_up(&[from_elsewhere("report"), floor_of_it()], false).await.len(), 2);
}

#[tokio::test]
async fn a_store_of_usage_that_is_away_is_told_of_until_it_is_back() {
    let world = World::start().await;
    world.usage.away.store(true, Ordering::SeqCst);
    world.engine.report(&world.caller, vec![record("one", 1)]).await.unwrap();
    world.engine.roll_up().await.unwrap_err();
    let usage = || world.engine.standing().stores.remove(2);
    assert!(usage().failure.is_some(), "{:?}", usage());
    world.usage.away.store(false, Ordering::SeqCst);
    assert_eq!(world.engine.roll_up().await, Ok(true));
    assert_eq!(usage().failure, None);
}
