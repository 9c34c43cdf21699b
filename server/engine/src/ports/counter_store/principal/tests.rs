use super::*;

fn principal(number: u8, by_gateway: bool) -> Principal {
    Principal { key: KeyId::from_random([number; 16]), by_gateway }
}

#[test]
fn a_reservations_id_tells_who_took_it() {
    let holder = principal(1, true);
    let id = holder.reservation_id([7; RESERVATION_RANDOM_BYTES], None);
    assert!(holder.took(&id));
    for other in [principal(1, false), principal(2, true)] {
        assert!(!other.took(&id), "{other:?}");
    }
}

#[test]
fn an_id_that_the_server_never_gave_is_nobodys() {
    for text in ["rsv_1", "rsv_zz", "rsv_00000000000000000000000000000000"] {
        let id = ReservationId::parse("id", text).unwrap();
        assert!(!principal(1, false).took(&id), "{text}");
    }
}

#[test]
fn ids_are_as_different_as_their_random_bytes() {
    let holder = principal(1, false);
    assert_ne!(
        holder.reservation_id([1; RESERVATION_RANDOM_BYTES], None),
        holder.reservation_id([2; RESERVATION_RANDOM_BYTES], None)
    );
}

#[test]
fn a_reservations_id_tells_its_shard() {
    let holder = principal(1, false);
    for shard in [None, Shard::new(0), Shard::new(63)] {
        let id = holder.reservation_id([5; RESERVATION_RANDOM_BYTES], shard);
        assert_eq!((id.shard(), holder.took(&id)), (shard, true));
    }
}
