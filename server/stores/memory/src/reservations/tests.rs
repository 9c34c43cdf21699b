use std::sync::Arc;

use rateguard_core::counter::Position;
use rateguard_core::ids::KeyId;
use rateguard_core::money::Nanos;
use rateguard_core::usage::CallIdentity;
use smallvec::SmallVec;

use super::*;
use crate::leads::Leads;

const NOW: Millis = Millis::ZERO;

fn id(number: u128) -> ReservationId {
    ReservationId::from_bits(number)
}

fn reservation(number: u128, expires_at: Millis) -> Reservation {
    let key = KeyId::from_random([1; 16]);
    let call = CallIdentity {
        key: key.clone(),
        api: None,
        api_name: String::new(),
        endpoint: String::new(),
        method: String::new(),
        model: String::new(),
        service_tier: String::new(),
        subject: String::new(),
    };
    Reservation {
        id: id(number),
        key,
        by_gateway: false,
        state: ReservationState::Open,
        decided_at: NOW,
        expires_at,
        floor: Nanos::ZERO,
        included: Position::default(),
        call: Arc::new(call),
        request_id: None,
        captured: SmallVec::new(),
    }
}

fn table(expiries_ms: &[i64]) -> ReservationTable {
    let mut table = ReservationTable::default();
    for (number, ms) in (1..).zip(expiries_ms) {
        table.insert(Kept { reservation: reservation(number, NOW.plus(*ms)), cost: None, request: None });
    }
    table
}

fn release(table: &mut ReservationTable, number: u128) {
    let mut counters = CounterTable::new(Position(0), Leads::default());
    table.change(&id(number), |reservation| reservation.release(&mut counters, NOW)).expect("it stands");
}

fn expired(table: &ReservationTable) -> Vec<u128> {
    let is_expired = |r: &&Reservation| r.state == ReservationState::Expired;
    let mut bits: Vec<u128> = table.all().filter(is_expired).map(|r| r.id.to_bits()).collect();
    bits.sort_unstable();
    bits
}

#[test]
fn the_first_due_expire_first_and_a_few_at_a_time() {
    let mut table = table(&[30, 10, 20, 40]);
    let mut counters = CounterTable::new(Position(0), Leads::default());
    assert!(!table.expire_due(&mut counters, NOW.plus(30), 2));
    assert_eq!(expired(&table), [2, 3]);
    assert!(table.expire_due(&mut counters, NOW.plus(30), 2));
    assert_eq!(expired(&table), [1, 2, 3]);
}

#[test]
fn what_is_over_does_not_expire() {
    let mut table = table(&[10, 10]);
    release(&mut table, 1);
    assert!(table.expire_due(&mut CounterTable::new(Position(0), Leads::default()), NOW.plus(10), 5));
    assert_eq!(expired(&table), [2]);
}

#[test]
fn room_is_made_of_what_was_over_first() {
    let mut table = table(&[10, 10, 10]);
    assert!(!table.make_room(3), "all are open");
    release(&mut table, 2);
    release(&mut table, 1);
    assert!(table.make_room(3));
    assert!(table.get(&id(2)).is_none() && table.get(&id(1)).is_some());
    assert!(table.make_room(4) && table.get(&id(1)).is_some(), "there is room already");
}

#[test]
fn a_record_stands_for_its_time() {
    let mut table = table(&[10, 10]);
    release(&mut table, 1);
    let over = NOW.plus(10 + RESERVATION_RECORD_MS);
    table.drop_old(over.plus(-1), 5);
    assert!(table.get(&id(1)).is_some());
    table.drop_old(over, 5);
    assert!(table.get(&id(1)).is_none());
    assert!(table.get(&id(2)).is_some(), "it never ended");
}

#[test]
fn an_id_that_only_looks_alike_is_another() {
    let table = table(&[10]);
    let short = ReservationId::parse("id", "rsv_1").expect("well formed");
    assert_eq!(short.to_bits(), id(1).to_bits());
    assert!(table.get(&short).is_none());
}
