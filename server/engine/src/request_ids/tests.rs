use super::*;

const NOW: Millis = Millis::ZERO;
/// The least that the store works with.
const BYTES: usize = 1 << 16;

fn at(ms: i64) -> Millis {
    NOW.plus(ms)
}

fn decision(content: u64, expires_at: Millis) -> Remembered {
    Remembered::new(content, expires_at, None)
}

/// Ids that all fall into one part.
fn in_one_part(number: usize) -> u128 {
    number as u128
}

#[test]
fn an_id_is_recalled_until_it_expires() {
    let ids = RequestIds::new(BYTES);
    ids.remember(1, decision(7, at(10)), NOW);
    assert_eq!(ids.recall(1, at(9)), Some(decision(7, at(10))));
    assert_eq!(ids.recall(1, at(10)), None);
    assert_eq!(ids.recall(2, NOW), None);
}

#[test]
fn an_id_that_expired_is_replaced() {
    let ids = RequestIds::new(BYTES);
    ids.remember(1, decision(7, at(10)), NOW);
    ids.remember(1, Remembered::new(8, at(90), Some(5)), at(20));
    assert_eq!(ids.recall(1, at(20)).and_then(|known| known.reservation()), Some(5));
}

#[test]
fn what_stood_for_an_id_before_does_not_come_back_when_its_successor_is_over() {
    let ids = RequestIds::new(BYTES);
    // A reservation that was renewed for long, and ended early.
    ids.remember(1, Remembered::new(7, at(10), Some(5)), NOW);
    assert!(ids.extend(1, 5, at(1_000), NOW));
    ids.remember(1, decision(7, at(20)), NOW);
    assert_eq!(ids.recall(1, at(19)), Some(decision(7, at(20))));
    assert_eq!(ids.recall(1, at(20)), None);

    // The same in an earlier generation of its own kind.
    ids.remember(2, decision(7, at(1_000)), NOW);
    for number in 3..3 + ids.generation_entries {
        ids.remember(in_one_part(number), decision(1, at(1_000)), NOW);
    }
    ids.remember(2, decision(7, at(20)), NOW);
    assert_eq!(ids.recall(2, at(20)), None);
}

#[test]
fn the_oldest_generation_is_dropped_whole_and_counted() {
    let ids = RequestIds::new(BYTES);
    let whole = ids.generation_entries * GENERATIONS_MAX;
    for number in 0..whole {
        ids.remember(in_one_part(number), decision(1, at(10)), NOW);
    }
    assert_eq!(ids.forgotten_early(), 0);
    ids.remember(in_one_part(whole), decision(1, at(10)), NOW);
    assert_eq!(ids.forgotten_early(), ids.generation_entries as u64);
    assert_eq!(ids.recall(in_one_part(0), NOW), None);
    assert!(ids.recall(in_one_part(ids.generation_entries), NOW).is_some());
    assert!(ids.recall(in_one_part(whole), NOW).is_some());
}

#[test]
fn expired_generations_make_room_without_being_counted() {
    let ids = RequestIds::new(BYTES);
    let whole = ids.generation_entries * GENERATIONS_MAX;
    for number in 0..=3 * whole {
        let now = at(i64::try_from(number).unwrap_or(0));
        ids.remember(in_one_part(number), decision(1, now.plus(1)), now);
    }
    assert_eq!(ids.forgotten_early(), 0);
}

#[test]
fn consumed_ids_never_push_out_reserved_ones() {
    let ids = RequestIds::new(BYTES);
    ids.remember(u128::MAX >> 8, Remembered::new(1, at(10), Some(3)), NOW);
    for number in 0..10 * ids.generation_entries * GENERATIONS_MAX {
        ids.remember(in_one_part(number), decision(1, at(10)), NOW);
    }
    assert!(ids.forgotten_early() > 0);
    assert!(ids.recall(u128::MAX >> 8, NOW).is_some());
}

#[test]
fn all_generations_together_stay_within_the_bound() {
    for bytes_max in [BYTES, 1 << 20, 128 << 20, 130_000_000] {
        let ids = RequestIds::new(bytes_max);
        let buckets = Generation::new(ids.generation_entries).entries.capacity() / 7 * 8;
        let bytes = PARTS * KINDS * GENERATIONS_MAX * buckets * ENTRY_BYTES;
        assert!(bytes <= bytes_max, "{bytes} of {bytes_max}");
        assert!(bytes > bytes_max / 3, "{bytes} of {bytes_max}");
    }
}

#[test]
fn a_sweep_gives_the_memory_of_expired_generations_back() {
    let ids = RequestIds::new(BYTES);
    ids.remember(1, decision(1, at(10)), NOW);
    ids.remember(2, decision(1, at(20)), NOW);
    ids.sweep(at(10));
    assert!(ids.recall(2, at(10)).is_some());
    ids.sweep(at(20));
    assert!(ids.parts.iter().all(|part| part.lock().iter().all(|kind| kind.0.is_empty())));
}
