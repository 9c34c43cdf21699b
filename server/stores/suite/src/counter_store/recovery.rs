//! What a start finds after a clean stop and after a crash.

use rateguard_core::counter::Position;
use rateguard_core::limits::RESERVATION_TTL_MS_MAX;
use rateguard_core::reservation::ReservationState;
use rateguard_core::unit::Unit;
use rateguard_engine::ports::{BudgetOpening, Standing};

use super::world::{
    Ask, RESERVATION_MS, Report, World, a_minute, an_hour, any_minute, ask, at, bucket, hourly, prepaid,
};
use super::{CounterBackend, Stop};

/// A budget worth 20 calls of 1,000.
fn twenty_calls() -> Ask {
    ask(1, prepaid(20_000), 1_000)
}

/// With nothing reserved a crash costs nothing: spent is exact, from the log, and exactly what is
/// left is admitted.
pub async fn admits_exactly_what_is_left_after_a_crash(backend: &impl CounterBackend) {
    let mut world = World::open(backend).await;
    let budget = twenty_calls();
    for call in 0..3 {
        world.report(Report::of_cost(1_000).charging(&budget, 1_000), at(call)).await;
    }
    world.checkpoint().await;
    for call in 3..6 {
        world.report(Report::of_cost(1_000).charging(&budget, 1_000), at(call)).await;
    }
    world.log_only(Report::of_cost(1_000).charging(&budget, 1_000), at(6)).await;
    world.reopen(Stop::Crash, at(10)).await;
    assert_eq!(world.used(&budget, at(11)).await, 7_000);
    assert_eq!(world.reserve_until_denied(&[budget], 30, at(12)).await, 13);
}

/// What open reservations held stays held: never more than the rest is admitted.
pub async fn keeps_what_was_held_after_a_crash(backend: &impl CounterBackend) {
    let mut world = World::open(backend).await;
    let budget = twenty_calls();
    let mut open = Vec::new();
    for _ in 0..4 {
        open.extend(world.reserve(std::slice::from_ref(&budget), at(0)).await);
    }
    world.checkpoint().await;
    let settled = Report::settling(&open[0], 1_000).charging(&budget, 1_000);
    world.report(settled, at(1)).await;
    world.reopen(Stop::Crash, at(10)).await;
    let used = world.used(&budget, at(11)).await;
    assert!(used >= 4_000, "one is spent and three are held, but {used} are used");
    let admitted = world.reserve_until_denied(std::slice::from_ref(&budget), 30, at(12)).await;
    assert!(admitted <= 16, "{admitted} were admitted beside four");
}

/// Past the longest life of a reservation nothing of a crash is held any more.
pub async fn frees_what_a_crash_left_held_in_time(backend: &impl CounterBackend) {
    let mut world = World::open(backend).await;
    let budget = twenty_calls();
    assert_eq!(world.reserve_until_denied(std::slice::from_ref(&budget), 3, at(0)).await, 3);
    world.reopen(Stop::Crash, at(10)).await;
    let freed = RESERVATION_TTL_MS_MAX.max(RESERVATION_MS) + 10;
    world.expire(at(freed)).await;
    assert_eq!(world.reserve_until_denied(&[budget], 30, at(freed)).await, 20);
}

/// A report on a reservation that a crash has forgotten takes the place of what was held for it,
/// so that nothing is counted twice.
pub async fn draws_a_lost_hold_down_by_its_report(backend: &impl CounterBackend) {
    let mut world = World::open(backend).await;
    let budget = twenty_calls();
    let open = world.reserve(std::slice::from_ref(&budget), at(0)).await.expect("there is room");
    world.reopen(Stop::Crash, at(10)).await;
    let before = world.used(&budget, at(11)).await;
    let report = Report::settling(&open, 800).charging(&budget, 800);
    let is_known = world.reservation(&open.id).await.is_some();
    world.report(if is_known { report } else { report.lost() }, at(12)).await;
    let after = world.used(&budget, at(13)).await;
    assert!(after <= before, "{after} used after the report, {before} before");
    let in_time = at(RESERVATION_TTL_MS_MAX + RESERVATION_MS);
    assert_eq!(world.used(&budget, in_time).await, 800);
}

/// A record that was logged against a reservation, and settled again after a crash without it,
/// charges the budgets exactly once, those that match no more included.
pub async fn settles_a_replayed_reservation_without_its_record(backend: &impl CounterBackend) {
    let mut world = World::open(backend).await;
    let (matching, unmatched) = (twenty_calls(), ask(2, prepaid(50_000), 1_000));
    let both = [matching.clone(), unmatched.clone()];
    let open = world.reserve(&both, at(0)).await.expect("there is room");
    let other = world.reserve(&both, at(0)).await.expect("there is room");
    world.checkpoint().await;
    world.report(Report::settling(&open, 700).charging(&matching, 700), at(1)).await;
    world.log_only(Report::settling(&other, 300).charging(&matching, 300), at(2)).await;
    world.reopen(Stop::Crash, at(10)).await;
    let in_time = at(RESERVATION_TTL_MS_MAX + RESERVATION_MS);
    assert_eq!(world.used(&matching, in_time).await, 1_000);
    assert_eq!(world.used(&unmatched, in_time).await, 1_000);
}

/// A clean stop forfeits nothing: reservations are found again and are settled as if nothing had
/// been.
pub async fn keeps_reservations_over_a_clean_stop(backend: &impl CounterBackend) {
    let mut world = World::open(backend).await;
    let asks = [twenty_calls(), ask(2, an_hour(1_000), 50).of(Unit::Tokens)];
    let [budget, tokens] = asks.clone();
    let open = world.reserve(&asks, at(0)).await.expect("there is room");
    let done = world.reserve(&asks, at(0)).await.expect("there is room");
    world.report(Report::settling(&done, 400).used(Unit::Tokens, 10), at(1)).await;
    world.reopen(Stop::Clean, at(10)).await;
    assert_eq!(world.reservation(&open.id).await, Some(open.clone()));
    let state = world.reservation(&done.id).await.map(|reservation| reservation.state);
    assert_eq!(state, Some(ReservationState::Settled));
    assert_eq!((world.used(&budget, at(11)).await, world.held(&budget, at(11)).await), (1_400, 1_000));
    world.report(Report::settling(&open, 600).used(Unit::Tokens, 20), at(12)).await;
    assert_eq!((world.used(&budget, at(13)).await, world.used(&tokens, at(13)).await), (1_000, 30));
    assert_eq!(world.reserve_until_denied(&[budget], 30, at(14)).await, 19);
}

/// Every kind of counter reads the same after a clean stop.
pub async fn keeps_counters_over_a_clean_stop(backend: &impl CounterBackend) {
    let mut world = World::open(backend).await;
    let asks = [
        ask(1, a_minute(10), 2),
        ask(2, any_minute(10), 3),
        ask(3, bucket(10, 7), 4),
        ask(4, an_hour(10), 5),
        ask(5, hourly(100), 0),
    ];
    assert!(world.consume(&asks, at(0)).await);
    world.report(Report::of_cost(60).charging(&asks[4], 60), at(1)).await;
    let before = world.read(&asks, at(20)).await;
    world.reopen(Stop::Clean, at(10)).await;
    assert_eq!(world.read(&asks, at(20)).await, before);
    assert_eq!(world.store.recovered_through().await, Ok(Position(1)));
}

/// An opening is in no record, so it is durable by itself.
pub async fn keeps_an_opening_over_a_crash(backend: &impl CounterBackend) {
    let mut world = World::open(backend).await;
    let budget = twenty_calls();
    world.report(Report::of_cost(1_000).charging(&budget, 1_000), at(0)).await;
    let opened =
        world.store.open_budget(&world.workspace, vec![budget.charged(5_000)], Position(1), at(1)).await;
    assert_eq!(opened, Ok(BudgetOpening::Opened));
    world.report(Report::of_cost(1_000).charging(&budget, 1_000), at(2)).await;
    world.reopen(Stop::Crash, at(10)).await;
    assert_eq!(world.used(&budget, at(11)).await, 6_000);
}

/// What a crash left held is freed in time also when a clean stop with other reservations comes in
/// between.
pub async fn frees_what_a_crash_left_held_after_a_clean_stop(backend: &impl CounterBackend) {
    let mut world = World::open(backend).await;
    let (budget, other) = (twenty_calls(), ask(2, prepaid(50_000), 1_000));
    assert_eq!(world.reserve_until_denied(std::slice::from_ref(&budget), 3, at(0)).await, 3);
    world.checkpoint().await;
    world.reopen(Stop::Crash, at(10)).await;
    assert!(world.held(&budget, at(11)).await >= 3_000);
    assert!(world.reserve(std::slice::from_ref(&other), at(12)).await.is_some());
    world.reopen(Stop::Clean, at(20)).await;
    assert!(world.held(&budget, at(21)).await >= 3_000, "an hour is not over by a restart");
    assert_eq!(world.held(&other, at(21)).await, 1_000, "the clean stop forgot nobody");
    world.expire(at(RESERVATION_TTL_MS_MAX + 10)).await;
    assert_eq!(world.held(&budget, at(RESERVATION_TTL_MS_MAX + 10)).await, 0);
    assert_eq!(world.reserve_until_denied(&[budget], 30, at(RESERVATION_TTL_MS_MAX + 11)).await, 20);
}

/// However often it is started again, what a crash left held ends when the longest of its
/// reservations must be over.
pub async fn holds_for_a_crash_no_longer_over_further_restarts(backend: &impl CounterBackend) {
    let mut world = World::open(backend).await;
    let budget = twenty_calls();
    assert_eq!(world.reserve_until_denied(std::slice::from_ref(&budget), 3, at(0)).await, 3);
    world.checkpoint().await;
    world.reopen(Stop::Crash, at(10)).await;
    let half = RESERVATION_TTL_MS_MAX / 2;
    for stop in [Stop::Crash, Stop::Clean, Stop::Crash] {
        world.reopen(stop, at(half)).await;
        assert!(world.held(&budget, at(half)).await >= 3_000, "it is not over after {stop:?}");
    }
    world.expire(at(RESERVATION_TTL_MS_MAX + 10)).await;
    assert_eq!(world.held(&budget, at(RESERVATION_TTL_MS_MAX + 10)).await, 0);
}

/// A report on a reservation that had ended before has nothing held for it: it takes nothing of
/// what a crash left held for others.
pub async fn draws_nothing_down_for_a_reservation_that_had_ended(backend: &impl CounterBackend) {
    let mut world = World::open(backend).await;
    let budget = twenty_calls();
    let ended = world.reserve(std::slice::from_ref(&budget), at(0)).await.expect("there is room");
    assert!(world.reserve(std::slice::from_ref(&budget), at(0)).await.is_some());
    world.release(&ended.id, at(1)).await;
    world
        .log_only(Report::settling(&ended, 700).standing(Standing::Ended).charging(&budget, 700), at(2))
        .await;
    world.checkpoint().await;
    world.reopen(Stop::Crash, at(10)).await;
    let held = world.held(&budget, at(11)).await;
    assert!(held >= 1_000, "the other one is held still, but {held} is");
    let used = world.used(&budget, at(11)).await;
    world
        .report(Report::settling(&ended, 300).standing(Standing::Ended).charging(&budget, 300), at(12))
        .await;
    assert_eq!(world.held(&budget, at(13)).await, held);
    assert_eq!(world.used(&budget, at(13)).await, used + 300);
}

/// What a limit was only tested for is charged by the report, also after a clean stop.
pub async fn charges_a_tested_limit_after_a_clean_stop(backend: &impl CounterBackend) {
    let mut world = World::open(backend).await;
    let tested = [
        ask(1, a_minute(10), 1).of(Unit::Tokens).probe(),
        ask(2, any_minute(10), 1).of(Unit::Tokens).probe(),
        ask(3, bucket(10, 1), 1).of(Unit::Tokens).probe(),
        ask(4, an_hour(10), 1).of(Unit::Tokens).probe(),
        ask(5, hourly(100), 1).probe(),
        ask(6, prepaid(100), 1).probe(),
    ];
    let open = world.reserve(&tested, at(0)).await.expect("there is room");
    world.reopen(Stop::Clean, at(10)).await;
    world.report(Report::settling(&open, 12).used(Unit::Tokens, 12), at(20)).await;
    for limited in tested {
        assert_eq!(world.used(&limited, at(21)).await, 12, "{limited:?}");
        assert!(!world.peek(std::slice::from_ref(&limited), at(21)).await || limited.unit == Unit::Cost);
    }
}
