//! Tests of floors: what an expired reservation is charged, and when it is taken back.

use std::sync::atomic::Ordering;

use rateguard_core::reservation::{Reservation, ReservationState};
use rateguard_core::usage::LoggedEvent;

use super::*;
use crate::report::UsageRecord;
use crate::testing::{
    CAPTURED, Fault, HELD_NANOS, World, event, record, reservation, reservation_id, start, workspace,
};

const FLOOR_NANOS: i64 = HELD_NANOS / 2;

fn expired_one(number: u8) -> Reservation {
    reservation(number, ReservationState::Expired)
}

fn floor_event(reservation: Reservation) -> UsageEvent {
    expired(&ExpiredReservation { workspace: workspace(), reservation }, start().plus(5_000))
}

fn late_report(id: &str) -> UsageRecord {
    UsageRecord { reservation: Some(reservation_id(1)), ..record(id, 70) }
}

fn costs_by_id(world: &World) -> Vec<(String, i64)> {
    let cost = |logged: &LoggedEvent| (logged.event.event_id.to_string(), logged.event.cost.get());
    world.log.events().iter().map(cost).collect()
}

fn floor_id() -> String {
    EventId::expired(&reservation_id(1)).to_string()
}

fn correction_id() -> String {
    EventId::corrected(&reservation_id(1)).to_string()
}

#[test]
fn a_floor_is_the_inputs_cost_at_the_instant_of_the_decision() {
    let floor = floor_event(expired_one(3));
    assert_eq!(floor.cost.get(), FLOOR_NANOS);
    assert_eq!((floor.kind, floor.exactness), (EventKind::Expired, Exactness::Partial));
    assert_eq!((floor.accounted_at, floor.received_at), (start().plus(3), start().plus(5_000)));
    assert_eq!(floor.captured_budgets, [CAPTURED]);
    assert_eq!(floor.attempt, 0, "no attempt of the caller's is taken");
}

#[test]
fn a_correction_takes_back_exactly_its_floor_where_the_floor_counted() {
    let floor = floor_event(expired_one(1));
    let correction = correction(&floor, start().plus(9_000));
    assert_eq!(correction.cost.get(), -FLOOR_NANOS);
    assert_eq!(correction.kind, EventKind::Correction);
    assert_eq!(correction.corrects.as_ref(), Some(&floor.event_id));
    assert_eq!(correction.accounted_at, floor.accounted_at);
    assert_eq!(correction.event_id.to_string(), correction_id());
}

#[test]
fn only_a_report_that_found_its_reservation_gone_came_late() {
    let flagged = |flags| UsageEvent { flags, ..event("report", 1) };
    assert!(came_late(&flagged(EventFlags::RESERVATION_EXPIRED)));
    assert!(came_late(&flagged(EventFlags::RESERVATION_UNKNOWN)));
    assert!(!came_late(&flagged(EventFlags::RESERVATION_RELEASED)));
    assert!(!came_late(&flagged(EventFlags::default())));
    let own = UsageEvent { kind: EventKind::Expired, ..flagged(EventFlags::RESERVATION_EXPIRED) };
    assert!(!came_late(&own));
}

#[tokio::test]
async fn an_expired_reservation_is_charged_its_floor_once() {
    let world = World::start().await;
    world.counters.keep(expired_one(1));
    for _ in 0..3 {
        world.engine.expire_reservations().await.unwrap();
    }
    assert_eq!(costs_by_id(&world), [(floor_id(), FLOOR_NANOS)]);
}

#[tokio::test(start_paused = true)]
async fn a_floor_that_was_not_recorded_is_charged_with_the_next_turn() {
    for fault in [Fault::Unavailable, Fault::UnknownAndLost, Fault::UnknownAndDone] {
        let world = World::start().await;
        world.log.fail_next(fault);
        world.counters.keep(expired_one(1));
        world.engine.expire_reservations().await.unwrap_err();
        world.engine.expire_reservations().await.unwrap();
        assert_eq!(costs_by_id(&world), [(floor_id(), FLOOR_NANOS)], "after {fault:?}");
    }
}

#[tokio::test]
async fn a_late_report_takes_the_floor_back_once() {
    let world = World::start().await;
    world.counters.keep(expired_one(1));
    world.engine.expire_reservations().await.unwrap();
    world.usage.away.store(true, Ordering::SeqCst);
    world.engine.report(&world.caller, vec![late_report("late")]).await.unwrap();
    // The rollup fails after the correction, and does all of it again.
    for _ in 0..3 {
        world.engine.roll_up().await.unwrap_err();
    }
    world.usage.away.store(false, Ordering::SeqCst);
    world.engine.roll_up().await.unwrap();
    let expected = [(floor_id(), FLOOR_NANOS), ("late".to_owned(), 70), (correction_id(), -FLOOR_NANOS)];
    assert_eq!(costs_by_id(&world), expected);
}

#[tokio::test]
async fn a_late_report_without_a_floor_takes_nothing_back() {
    let world = World::start().await;
    world.engine.report(&world.caller, vec![late_report("forgotten")]).await.unwrap();
    world.engine.roll_up().await.unwrap();
    assert_eq!(world.log.ids(), ["forgotten"]);
}
