//! Tests of reservations as bytes.

use proptest::collection::vec;
use proptest::prelude::*;
use rateguard_store_suite::checkpoint_store::samples::reservation;

use super::*;

#[test]
fn every_state_comes_back() {
    use ReservationState::{Expired, Open, Released, Settled};
    for state in [Open, Settled, Released, Expired] {
        let stored = Reservation { state, ..reservation(7) };
        assert_eq!(decode(stored.id.clone(), &encode(&stored)), Ok(stored));
    }
}

#[test]
fn a_bare_reservation_comes_back() {
    let mut bare = reservation(8);
    bare.request_id = None;
    bare.captured.clear();
    bare.call = Arc::new(CallIdentity { api: None, ..(*bare.call).clone() });
    assert_eq!(decode(bare.id.clone(), &encode(&bare)), Ok(bare));
}

proptest! {
    #[test]
    fn texts_of_any_kind_come_back(texts in vec(".{0,600}", 6), floor in -1_000_000_000_000_000_000..=1_000_000_000_000_000_000_i64) {
        let mut stored = reservation(9);
        let mut texts = texts.into_iter();
        let mut next = || texts.next().unwrap();
        stored.floor = Nanos::parse("floor", floor).unwrap();
        stored.call = Arc::new(CallIdentity {
            api_name: next(), endpoint: next(), method: next(), model: next(), service_tier: next(), subject: next(),
            ..(*stored.call).clone()
        });
        prop_assert_eq!(decode(stored.id.clone(), &encode(&stored)), Ok(stored));
    }

    #[test]
    fn a_damaged_reservation_never_panics(place in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>()) {
        let stored = reservation(10);
        let mut bytes = encode(&stored);
        prop_assert!(decode(stored.id.clone(), &bytes[..cut.index(bytes.len())]).is_err());
        let place = place.index(bytes.len());
        bytes[place] = byte;
        if let Ok(read) = decode(stored.id.clone(), &bytes) {
            prop_assert_eq!(decode(read.id.clone(), &encode(&read)), Ok(read));
        }
    }

    #[test]
    fn garbage_never_panics(bytes in vec(any::<u8>(), 0..200)) {
        let garbage = [&[VERSION][..], &bytes].concat();
        prop_assert!(decode(reservation(1).id, &garbage).is_err());
    }
}
