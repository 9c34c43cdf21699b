//! Amounts that are counted whatever was decided, and amounts that are given back.

use rateguard_core::counter::{Limit, RetryAfter};

use super::CounterBackend;
use super::world::{MINUTE_MS, World, a_minute, an_hour, any_minute, ask, at, bucket};

/// Every algorithm that counts units, `limit` each.
fn each(limit: i64) -> [Limit; 4] {
    [a_minute(limit), any_minute(limit), bucket(limit, limit), an_hour(limit)]
}

/// A limit that counts denied amounts goes into debt, denies amounts of nothing until the debt is paid, and
/// says when that is.
pub async fn counts_a_denied_amount_as_debt(backend: &impl CounterBackend) {
    let store = World::open(backend).await;
    for (number, limit) in (10..).zip(each(100)) {
        let world = store.in_workspace(number);
        let used_up = |amount| [ask(1, limit, amount).counting_denied()];
        assert!(world.consume(&used_up(0), at(0)).await, "before the call there is room");
        assert!(!world.consume(&used_up(250), at(1)).await, "its true use is more than the limit");
        assert_eq!(world.used(&used_up(0)[0], at(1)).await, 250);
        assert!(!world.consume(&used_up(0), at(2)).await, "nothing is left for the next");
        let Some(RetryAfter::Millis(wait_ms)) = world.wait_of(&used_up(0), at(2)).await else {
            panic!("the debt passes with time");
        };
        assert!(!world.consume(&used_up(0), at(2 + wait_ms - 1)).await);
        assert!(world.consume(&used_up(0), at(2 + wait_ms)).await);
    }
}

/// An amount of nothing is denied as soon as nothing is left, by limits that count denied amounts alone.
pub async fn denies_an_amount_of_nothing_where_nothing_is_left(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    let plain = |amount| [ask(1, a_minute(3), amount)];
    let counting = |amount| [ask(2, a_minute(3), amount).counting_denied()];
    assert!(world.consume(&plain(3), at(0)).await && world.consume(&counting(3), at(0)).await);
    assert!(world.consume(&plain(0), at(1)).await);
    assert!(!world.consume(&counting(0), at(1)).await);
    assert!(!world.peek(&counting(0), at(1)).await);
}

/// Whoever denied: limits that count denied amounts take theirs, all others nothing. Neither a PEEK nor a
/// RESERVE that is denied leaves a trace.
pub async fn counts_what_is_denied_only_where_it_is_to_be_counted(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    let plain = ask(1, a_minute(10), 4);
    let counting = ask(2, any_minute(100), 4).counting_denied();
    let shadow = ask(3, a_minute(1), 4).shadow().counting_denied();
    let exhausted = ask(4, a_minute(0), 1);
    let all = [plain, counting, shadow, exhausted];
    let used = async |now_ms| {
        let readings = world.read(&all, at(now_ms)).await;
        readings.iter().map(|reading| reading.used).collect::<Vec<_>>()
    };
    assert!(!world.peek(&all, at(0)).await);
    assert!(world.reserve(&all, at(0)).await.is_none());
    assert_eq!(used(0).await, [0, 0, 0, 0]);
    assert!(!world.consume(&all, at(1)).await);
    assert_eq!(used(1).await, [0, 4, 4, 0]);
    assert!(world.consume(&all[..3], at(2)).await);
    assert_eq!(used(2).await, [4, 8, 8, 0]);
}

/// What is given back can be taken again; more than was taken is not.
pub async fn gives_back_no_more_than_was_taken(backend: &impl CounterBackend) {
    let store = World::open(backend).await;
    for (number, limit) in (10..).zip(each(10)) {
        let world = store.in_workspace(number);
        let give_back = |amount| [ask(1, limit, 0).giving_back(amount)];
        assert!(world.consume(&give_back(5), at(0)).await, "nothing was taken yet");
        assert!(world.consume(&[ask(1, limit, 6)], at(0)).await);
        assert!(world.consume(&[ask(1, limit, 4)], at(2_000)).await);
        assert!(world.consume(&give_back(5), at(2_000)).await);
        assert!(!world.consume(&[ask(1, limit, 6)], at(2_000)).await);
        assert!(world.consume(&[ask(1, limit, 5)], at(2_000)).await);
        assert!(world.consume(&give_back(1_000), at(2_000)).await);
        assert!(!world.consume(&[ask(1, limit, 11)], at(2_000)).await);
        // A bucket keeps the part of a unit that it was refilling.
        assert!(world.consume(&[ask(1, limit, 9)], at(2_000)).await);
        assert!(!world.consume(&[ask(1, limit, 2)], at(2_000)).await);
    }
}

/// A call that is denied gives nothing back either.
pub async fn gives_nothing_back_with_a_denial(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    let taken = ask(1, a_minute(10), 7);
    assert!(world.consume(std::slice::from_ref(&taken), at(0)).await);
    let exhausted = ask(2, a_minute(0), 1);
    assert!(!world.consume(&[ask(1, a_minute(10), 0).giving_back(7), exhausted], at(1)).await);
    assert_eq!(world.used(&taken, at(MINUTE_MS / 2)).await, 7);
}

/// Two charges of one call on the same counter need room for both.
pub async fn counts_two_charges_on_one_counter_together(backend: &impl CounterBackend) {
    let store = World::open(backend).await;
    for (number, limit) in (10..).zip(each(10)) {
        let world = store.in_workspace(number);
        let both = |a, b| [ask(1, limit, a), ask(1, limit, b)];
        assert!(!world.consume(&both(6, 6), at(0)).await);
        assert_eq!(world.used(&both(0, 0)[0], at(0)).await, 0);
        assert!(world.consume(&both(4, 6), at(0)).await);
        assert!(!world.consume(&both(0, 1), at(0)).await);
    }
}
