//! Calls at the same time, and reservations that are renewed.

use rateguard_core::counter::RetryAfter;
use rateguard_core::decision::Mode;
use rateguard_core::ids::KeyId;
use rateguard_core::limits::{RESERVATION_LIFE_MS_MAX, RESERVATION_TTL_MS_MAX};
use rateguard_core::reservation::ReservationState;
use rateguard_core::unit::Unit;
use rateguard_engine::ports::{Principal, ReleaseOutcome, RenewOutcome, Standing};

use super::world::{Ask, MINUTE_MS, RESERVATION_MS, Report, World, a_minute, ask, at, at_once, request};
use super::{CounterBackend, Stop};

fn three_at_once() -> [Ask; 1] {
    [ask(1, at_once(3), 1)]
}

/// As many run as may, whatever the time, and another one for each that ends in whichever way.
pub async fn holds_calls_at_the_same_time_until_they_end(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    let asks = three_at_once();
    let first = world.reserve(&asks, at(0)).await.expect("there is room");
    let second = world.reserve(&asks, at(0)).await.expect("there is room");
    let third = world.reserve(&asks, at(MINUTE_MS)).await.expect("there is room");
    assert_eq!(world.reserve(&asks, at(2 * MINUTE_MS)).await, None);
    assert_eq!(world.wait_of(&asks, at(2 * MINUTE_MS)).await, Some(RetryAfter::Never));
    world.report(Report::settling(&first, 0).not_final(), at(2 * MINUTE_MS)).await;
    assert_eq!(world.reserve(&asks, at(2 * MINUTE_MS)).await, None, "an attempt is not the end");
    world.report(Report::settling(&first, 0).guessed().used(Unit::Requests, 5), at(3 * MINUTE_MS)).await;
    assert_eq!(world.reserve_until_denied(&asks, 5, at(3 * MINUTE_MS)).await, 1);
    let released = world.release(&second.id, at(3 * MINUTE_MS)).await;
    assert_eq!(released, ReleaseOutcome::State(ReservationState::Released));
    assert_eq!(world.reserve_until_denied(&asks, 5, at(3 * MINUTE_MS)).await, 1);
    // The third expires a minute after the first two would have.
    world.expire(at(RESERVATION_MS + MINUTE_MS)).await;
    assert_eq!(world.reservation(&third.id).await.map(|r| r.state), Some(ReservationState::Expired));
    assert_eq!(world.used(&asks[0], at(RESERVATION_MS + MINUTE_MS)).await, 2);
}

/// What ends twice, or ends late, is given back once.
pub async fn gives_a_call_at_the_same_time_back_once(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    let asks = three_at_once();
    let ended = world.reserve(&asks, at(0)).await.expect("there is room");
    let other = world.reserve(&asks, at(0)).await.expect("there is room");
    world.report(Report::settling(&ended, 0), at(1)).await;
    world.report(Report::settling(&ended, 0), at(2)).await;
    world.release(&ended.id, at(3)).await;
    world.expire(at(RESERVATION_MS - 1)).await;
    assert_eq!(world.used(&asks[0], at(RESERVATION_MS - 1)).await, 1);
    assert_eq!(world.reservation(&other.id).await.map(|r| r.state), Some(ReservationState::Open));
}

/// A denied call holds nothing of any limit, and a repeated one nothing more.
pub async fn holds_a_call_at_the_same_time_with_all_or_none(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    let asks = [ask(1, at_once(2), 1), ask(2, a_minute(1), 1)];
    let mut command = world.command(Mode::Reserve, &asks, at(0));
    command.request = Some(request(1, 1));
    assert!(world.decide(command.clone()).await.reservation.is_some());
    assert!(world.decide(command).await.replayed);
    assert_eq!(world.reserve(&asks, at(1)).await, None);
    assert_eq!(world.used(&asks[0], at(1)).await, 1);
    assert_eq!(world.used(&asks[1], at(1)).await, 1);
}

/// A report of a call without a reservation, and one of a lost reservation, hold and free nothing.
pub async fn leaves_calls_at_the_same_time_to_their_reservations(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    let asks = three_at_once();
    let open = world.reserve(&asks, at(0)).await.expect("there is room");
    world.report(Report::of_cost(1).charging(&asks[0], 2), at(1)).await;
    let stray = Report::settling(&open, 0).standing(Standing::Ended).charging(&asks[0], 1);
    world.report(stray, at(2)).await;
    assert_eq!(world.used(&asks[0], at(3)).await, 1);
}

/// A stop keeps what runs; after a crash as many as may have run count, until none of them can any more.
pub async fn heals_calls_at_the_same_time_after_a_crash(backend: &impl CounterBackend) {
    let mut world = World::open(backend).await;
    let asks = three_at_once();
    let open = world.reserve(&asks, at(0)).await.expect("there is room");
    assert!(world.reserve(&asks, at(0)).await.is_some());
    world.reopen(Stop::Clean, at(1)).await;
    assert_eq!(world.used(&asks[0], at(1)).await, 2);
    world.report(Report::settling(&open, 0), at(2)).await;
    assert_eq!(world.used(&asks[0], at(2)).await, 1);
    world.checkpoint().await;
    world.reopen(Stop::Crash, at(3)).await;
    let used = world.used(&asks[0], at(4)).await;
    assert!(
        (1..=3).contains(&used),
        "{used} count as running: at least those that do, at most those that may"
    );
    world.expire(at(RESERVATION_MS)).await;
    let healed = at(3 + RESERVATION_TTL_MS_MAX);
    assert_eq!(world.used(&asks[0], healed).await, 0);
    assert_eq!(world.reserve_until_denied(&asks, 5, healed).await, 3);
}

/// Whoever took a reservation lets it go on; nobody else, and never a shorter time.
pub async fn renews_a_reservation_for_its_holder(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    let asks = three_at_once();
    let open = world.reserve(&asks, at(0)).await.expect("there is room");
    let later = at(RESERVATION_MS + MINUTE_MS);
    assert_eq!(world.renew(&open.id, at(5), at(1)).await, RenewOutcome::Open(at(RESERVATION_MS)));
    assert_eq!(world.renew(&open.id, later, at(1)).await, RenewOutcome::Open(later));
    assert_eq!(world.renew(&open.id, later, at(2)).await, RenewOutcome::Open(later));
    let other = Principal { key: KeyId::from_random([9; 16]), by_gateway: false };
    let gateway = Principal { by_gateway: true, ..world.principal.clone() };
    for stranger in [other, gateway] {
        let renewed = world.store.renew(&world.workspace, &open.id, &stranger, at(9_000_000), at(3)).await;
        assert_eq!(renewed.expect("a store that is well renews"), RenewOutcome::Unknown);
    }
    world.expire(at(RESERVATION_MS)).await;
    assert_eq!(world.used(&asks[0], at(RESERVATION_MS)).await, 1, "it goes on");
    world.expire(later).await;
    assert_eq!(world.used(&asks[0], later).await, 0);
    assert_eq!(
        world.renew(&open.id, at(9_000_000), later).await,
        RenewOutcome::Ended(ReservationState::Expired)
    );
}

/// A renewal that comes too late finds it expired, also where nobody has looked before.
pub async fn renews_nothing_that_is_over(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    let asks = three_at_once();
    let late = world.reserve(&asks, at(0)).await.expect("there is room");
    let released = world.reserve(&asks, at(0)).await.expect("there is room");
    let settled = world.reserve(&asks, at(0)).await.expect("there is room");
    world.release(&released.id, at(1)).await;
    world.report(Report::settling(&settled, 0), at(1)).await;
    let until = at(RESERVATION_MS + MINUTE_MS);
    let ended = RenewOutcome::Ended;
    assert_eq!(world.renew(&released.id, until, at(2)).await, ended(ReservationState::Released));
    assert_eq!(world.renew(&settled.id, until, at(2)).await, ended(ReservationState::Settled));
    assert_eq!(world.renew(&late.id, until, at(RESERVATION_MS)).await, ended(ReservationState::Expired));
    assert_eq!(world.used(&asks[0], at(RESERVATION_MS)).await, 0);
}

/// However often it is renewed, a reservation ends.
pub async fn renews_a_reservation_up_to_its_longest_life(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    let asks = three_at_once();
    let open = world.reserve(&asks, at(0)).await.expect("there is room");
    let last = at(RESERVATION_LIFE_MS_MAX);
    let mut now = 0;
    while now + RESERVATION_TTL_MS_MAX < RESERVATION_LIFE_MS_MAX {
        let until = at(now + RESERVATION_TTL_MS_MAX);
        assert_eq!(world.renew(&open.id, until, at(now)).await, RenewOutcome::Open(until));
        now += RESERVATION_TTL_MS_MAX - 1;
    }
    let until = at(now + RESERVATION_TTL_MS_MAX);
    assert_eq!(world.renew(&open.id, until, at(now)).await, RenewOutcome::Open(last));
    world.expire(last).await;
    assert_eq!(world.reservation(&open.id).await.map(|r| r.state), Some(ReservationState::Expired));
}

/// The id of a check gives its reservation again as long as that goes on.
pub async fn remembers_the_id_of_a_renewed_reservation(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    let asks = three_at_once();
    let mut command = world.command(Mode::Reserve, &asks, at(0));
    command.request = Some(request(7, 7));
    let first = world.decide(command.clone()).await;
    let (id, _) = first.reservation.expect("there is room");
    let until = at(2 * RESERVATION_MS);
    assert_eq!(world.renew(&id, until, at(1)).await, RenewOutcome::Open(until));
    // Its id was to be remembered for a minute.
    let mut again = command.clone();
    again.now = at(5 * MINUTE_MS);
    let repeated = world.decide(again).await;
    assert_eq!((repeated.replayed, repeated.reservation), (true, Some((id, until))));
    assert_eq!(world.used(&asks[0], at(5 * MINUTE_MS)).await, 1);
}
