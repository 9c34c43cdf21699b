//! Counters that are set back to nothing used.

use rateguard_core::reservation::ReservationState;
use rateguard_core::unit::Unit;

use super::world::{
    Ask, MINUTE_MS, RESERVATION_MS, Report, World, a_minute, an_hour, any_minute, ask, at, at_once, bucket,
    prepaid,
};
use super::{CounterBackend, Stop};

fn of_every_kind() -> [Ask; 4] {
    [ask(1, a_minute(10), 6), ask(2, any_minute(10), 6), ask(3, bucket(10, 1), 6), ask(4, an_hour(10), 6)]
}

/// A counter that is set back is as new, and no other is touched.
pub async fn sets_one_counter_back(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    for ask in of_every_kind() {
        let other = ask.clone().scoped(7);
        assert_eq!(world.reset(&ask, at(0)).await, 0, "nothing was counted yet");
        assert!(world.consume(std::slice::from_ref(&ask), at(1)).await);
        assert!(world.consume(std::slice::from_ref(&other), at(1)).await);
        assert!(!world.consume(std::slice::from_ref(&ask), at(2)).await);
        assert_eq!(world.reset(&ask, at(3)).await, 1);
        assert_eq!((world.used(&ask, at(4)).await, world.used(&other, at(4)).await), (0, 6));
        assert!(world.consume(std::slice::from_ref(&ask), at(5)).await);
    }
}

/// All counters of a limit, the shared one too, and none of another.
pub async fn sets_all_counters_of_a_limit_back(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    let (limit, other) = (ask(1, a_minute(10), 6), ask(2, a_minute(10), 6));
    let values = [limit.clone(), limit.clone().scoped(1), limit.clone().scoped(2), limit.clone().overflow()];
    for value in values.iter().chain([&other]) {
        assert!(world.consume(std::slice::from_ref(value), at(0)).await);
    }
    assert_eq!(world.reset_all(&limit, at(1)).await, 4);
    for value in &values {
        assert_eq!(world.used(value, at(2)).await, 0);
    }
    assert_eq!(world.used(&other, at(2)).await, 6);
}

/// What a reservation took before is not given back into what others took after, however it ends.
pub async fn gives_nothing_back_from_before_a_reset(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    for (value, ends) in (1..).zip([None, Some(1), Some(9)]) {
        for ask in of_every_kind().map(|ask| ask.of(Unit::Tokens).scoped(value)) {
            let asks = std::slice::from_ref(&ask);
            let open = world.reserve(asks, at(0)).await.expect("there is room");
            assert_eq!(world.reset(&ask, at(1)).await, 1);
            let after = world.reserve(asks, at(2)).await.expect("it was set back");
            match ends {
                None => drop(world.release(&open.id, at(3)).await),
                Some(used) => {
                    drop(world.report(Report::settling(&open, 0).used(Unit::Tokens, used), at(3)).await);
                }
            }
            assert_eq!(world.used(&ask, at(4)).await, 6, "{ask:?}");
            // What was taken since is settled as ever.
            world.report(Report::settling(&after, 0).used(Unit::Tokens, 2), at(5)).await;
            assert_eq!(world.used(&ask, at(6)).await, 2, "{ask:?}");
        }
    }
}

/// Neither does an expiry.
pub async fn expires_nothing_from_before_a_reset(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    let running = ask(1, at_once(2), 2);
    let asks = std::slice::from_ref(&running);
    let open = world.reserve(asks, at(0)).await.expect("there is room");
    assert_eq!(world.reserve(asks, at(1)).await, None);
    assert_eq!(world.reset(&running, at(2)).await, 1);
    assert!(world.reserve(asks, at(MINUTE_MS)).await.is_some());
    world.expire(at(RESERVATION_MS)).await;
    assert_eq!(world.reservation(&open.id).await.map(|r| r.state), Some(ReservationState::Expired));
    assert_eq!(world.used(&running, at(RESERVATION_MS)).await, 2);
    assert_eq!(world.reserve(asks, at(RESERVATION_MS)).await, None);
}

/// Money stands in the books.
pub async fn sets_no_budget_back(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    let budget = ask(1, prepaid(100), 40);
    let open = world.reserve(std::slice::from_ref(&budget), at(0)).await.expect("there is room");
    assert_eq!((world.reset(&budget, at(1)).await, world.reset_all(&budget, at(1)).await), (0, 0));
    assert_eq!(world.held(&budget, at(2)).await, 40);
    world.report(Report::settling(&open, 30), at(3)).await;
    assert_eq!(world.used(&budget, at(4)).await, 30);
}

/// What was set back stays so, however the store ends.
pub async fn keeps_a_reset_over_a_crash(backend: &impl CounterBackend) {
    let mut world = World::open(backend).await;
    let hour = ask(1, an_hour(10), 6);
    for stop in [Stop::Clean, Stop::Crash] {
        assert!(world.consume(std::slice::from_ref(&hour), at(0)).await);
        world.checkpoint().await;
        assert_eq!(world.reset(&hour, at(1)).await, 1);
        world.reopen(stop, at(2)).await;
        assert_eq!(world.used(&hour, at(3)).await, 0);
    }
}
