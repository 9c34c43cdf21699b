//! A reservation's life: settled, released or expired, and reported late.

use rateguard_core::decision::Mode;
use rateguard_core::ids::{KeyId, ReservationId};
use rateguard_core::reservation::ReservationState;
use rateguard_core::unit::Unit;
use rateguard_engine::ports::{ExpiredReservation, Principal, ReleaseOutcome, Standing, StoreError};

use super::CounterBackend;
use super::world::{
    Ask, MINUTE_MS, RESERVATION_MS, Report, World, a_minute, an_hour, ask, at, bucket, hourly,
};

/// Reservations named at once.
const NAMED: usize = 100;

fn money_and_tokens() -> [Ask; 2] {
    [ask(1, hourly(1_000), 100), ask(2, an_hour(1_000), 50).of(Unit::Tokens)]
}

async fn used(world: &World<'_>, ms: i64) -> (i128, i128) {
    let [budget, tokens] = money_and_tokens();
    (world.used(&budget, at(ms)).await, world.used(&tokens, at(ms)).await)
}

async fn state(world: &World<'_>, id: &ReservationId) -> Option<ReservationState> {
    world.reservation(id).await.map(|reservation| reservation.state)
}

async fn expire(world: &World<'_>, ms: i64) -> Vec<ExpiredReservation> {
    world.store.expire_due(at(ms), NAMED).await.expect("a store that is well expires")
}

/// Exact figures take the place of the estimate, in money and in units.
pub async fn corrects_a_reservation_to_what_was_used(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    let open = world.reserve(&money_and_tokens(), at(0)).await.expect("there is room");
    assert_eq!(used(&world, 1).await, (100, 50));
    assert_eq!(open.decided_at, at(0));
    world.report(Report::settling(&open, 30).used(Unit::Tokens, 20), at(2)).await;
    assert_eq!(used(&world, 3).await, (30, 20));
    assert_eq!(world.held(&money_and_tokens()[0], at(3)).await, 0);
    assert_eq!(state(&world, &open.id).await, Some(ReservationState::Settled));
    // A further attempt adds to it.
    world.report(Report::settling(&open, 5).used(Unit::Tokens, 4), at(4)).await;
    assert_eq!(used(&world, 5).await, (35, 24));
}

/// A guess never gives units back; the cost is what it is.
pub async fn gives_nothing_back_for_a_guess(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    let open = world.reserve(&money_and_tokens(), at(0)).await.expect("there is room");
    world.report(Report::settling(&open, 30).used(Unit::Tokens, 20).guessed(), at(1)).await;
    assert_eq!(used(&world, 2).await, (30, 50));
}

/// Attempts before the final one use up the hold; the final one frees what is left.
pub async fn holds_until_the_final_attempt(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    let [budget, _] = money_and_tokens();
    let open = world.reserve(&money_and_tokens(), at(0)).await.expect("there is room");
    world.report(Report::settling(&open, 30).used(Unit::Tokens, 20).not_final(), at(1)).await;
    assert_eq!((used(&world, 2).await, world.held(&budget, at(2)).await), ((100, 50), 70));
    assert_eq!(state(&world, &open.id).await, Some(ReservationState::Open));
    world.report(Report::settling(&open, 10).used(Unit::Tokens, 5), at(3)).await;
    assert_eq!((used(&world, 4).await, world.held(&budget, at(4)).await), ((40, 25), 0));
}

/// More than was held stays as debt.
pub async fn keeps_an_overshoot_as_debt(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    let open = world.reserve(&money_and_tokens(), at(0)).await.expect("there is room");
    world.report(Report::settling(&open, 1_500).used(Unit::Tokens, 1_200), at(1)).await;
    assert_eq!(used(&world, 2).await, (1_500, 1_200));
    let [budget, tokens] = money_and_tokens();
    assert!(!world.peek(&[budget.probe()], at(2)).await && !world.peek(&[tokens.probe()], at(2)).await);
}

/// A bucket may be full again, and forgotten, before a call says how much it used.
pub async fn keeps_an_overshoot_of_a_bucket_that_was_full_again(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    let tokens = ask(1, bucket(100, 10), 10).of(Unit::Tokens);
    let open = world.reserve(std::slice::from_ref(&tokens), at(0)).await.expect("there is room");
    for _ in 0..64 {
        world.sweep(at(2 * MINUTE_MS)).await;
    }
    world.report(Report::settling(&open, 0).used(Unit::Tokens, 1_010), at(2 * MINUTE_MS)).await;
    let used = world.used(&tokens, at(2 * MINUTE_MS)).await;
    assert_eq!(used, 1_010 - 20, "as if all had been taken at once: the refill gives it back once");
}

/// A release gives everything back, once, and answers the same again; what is over is not released.
pub async fn releases_a_reservation_once(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    let open = world.reserve(&money_and_tokens(), at(0)).await.expect("there is room");
    for _ in 0..2 {
        let released = world.release(&open.id, at(1)).await;
        assert_eq!(released, ReleaseOutcome::State(ReservationState::Released));
        assert_eq!(used(&world, 2).await, (0, 0));
    }
    let settled = world.reserve(&money_and_tokens(), at(3)).await.expect("there is room");
    world.report(Report::settling(&settled, 30).used(Unit::Tokens, 20), at(4)).await;
    let late = world.release(&settled.id, at(5)).await;
    assert_eq!(late, ReleaseOutcome::State(ReservationState::Settled));
    assert_eq!(used(&world, 6).await, (30, 20));
}

/// Neither another key nor the key's own gateway may release it.
pub async fn lets_only_its_holder_release(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    let open = world.reserve(&money_and_tokens(), at(0)).await.expect("there is room");
    let others = [
        Principal { key: KeyId::from_random([7; 16]), by_gateway: false },
        Principal { by_gateway: true, ..world.principal.clone() },
    ];
    for other in others {
        let refused = world.store.release(&world.workspace, &open.id, &other, at(1)).await;
        assert_eq!(refused, Ok(ReleaseOutcome::Unknown));
    }
    let unknown = ReservationId::from_bits(u128::MAX);
    assert_eq!(world.release(&unknown, at(1)).await, ReleaseOutcome::Unknown);
    assert_eq!(state(&world, &open.id).await, Some(ReservationState::Open));
}

/// Nobody settles it: all but the floor is freed, and the floor stays held until its event is
/// settled. Until then it is named.
pub async fn expires_into_the_floor(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    let [budget, _] = money_and_tokens();
    let open = world.reserve_with_floor(&money_and_tokens(), 25, at(0)).await.expect("there is room");
    assert!(expire(&world, RESERVATION_MS - 1).await.is_empty());
    for _ in 0..2 {
        let named = expire(&world, RESERVATION_MS).await;
        assert_eq!(named.len(), 1);
        assert_eq!(named[0].reservation.id, open.id);
        assert_eq!(named[0].reservation.state, ReservationState::Expired);
    }
    assert_eq!(used(&world, RESERVATION_MS).await, (25, 0));
    world.report(Report::settling(&open, 25).guessed().charging(&budget, 25), at(RESERVATION_MS + 1)).await;
    assert!(expire(&world, RESERVATION_MS + 2).await.is_empty());
    assert_eq!(used(&world, RESERVATION_MS + 2).await, (25, 0));
    assert_eq!(world.held(&budget, at(RESERVATION_MS + 2)).await, 0);
    assert_eq!(state(&world, &open.id).await, Some(ReservationState::Expired));
}

/// The input's cost is charged also where no budget holds it: the call counts in the reports.
pub async fn names_the_floor_that_no_budget_holds(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    let plain = [ask(3, an_hour(1_000), 1)];
    for (start, asks) in [(0, &plain[..]), (20 * MINUTE_MS, &[])] {
        let end = start + RESERVATION_MS;
        let open = world.reserve_with_floor(asks, 25, at(start)).await.expect("there is room");
        let named = expire(&world, end).await;
        assert_eq!(named.iter().map(|n| n.reservation.floor.get()).collect::<Vec<_>>(), [25]);
        world.report(Report::settling(&open, 25).guessed(), at(end + 1)).await;
        assert!(expire(&world, end + 2).await.is_empty());
    }
}

/// What is due is free for the next check, without waiting for a sweep.
pub async fn frees_what_is_due_with_the_next_check(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    let whole = [ask(1, hourly(100), 100)];
    assert!(world.reserve(&whole, at(0)).await.is_some());
    assert!(world.reserve(&whole, at(RESERVATION_MS - 1)).await.is_none());
    assert!(world.reserve(&whole, at(RESERVATION_MS)).await.is_some());
}

/// A report that comes before the floor's event settles the reservation after all.
pub async fn settles_a_late_report_before_the_floor_is_an_event(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    let open = world.reserve_with_floor(&money_and_tokens(), 25, at(0)).await.expect("there is room");
    assert_eq!(expire(&world, RESERVATION_MS).await.len(), 1);
    let report = Report::settling(&open, 60).used(Unit::Tokens, 30).charging(&money_and_tokens()[0], 60);
    world.report(report, at(RESERVATION_MS + 1)).await;
    assert_eq!(used(&world, RESERVATION_MS + 2).await, (60, 30));
    assert!(expire(&world, RESERVATION_MS + 3).await.is_empty());
}

/// A report after the floor's event counts in full, and the floor is taken back by a correction.
pub async fn charges_a_report_after_the_floor_in_full(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    let [budget, tokens] = money_and_tokens();
    let open = world.reserve_with_floor(&money_and_tokens(), 25, at(0)).await.expect("there is room");
    assert_eq!(expire(&world, RESERVATION_MS).await.len(), 1);
    let later = at(RESERVATION_MS + 1);
    world.report(Report::settling(&open, 25).guessed().charging(&budget, 25), later).await;
    let requests = ask(3, an_hour(1_000), 1);
    let late =
        Report::settling(&open, 60).used(Unit::Tokens, 30).standing(Standing::Ended).charging(&requests, 1);
    world.report(late.charging(&budget, 60).charging(&tokens, 30), later).await;
    world.report(Report::of_cost(-25).charging(&budget, -25), later).await;
    assert_eq!(used(&world, RESERVATION_MS + 2).await, (60, 30));
    assert_eq!(world.used(&requests, later).await, 1, "also where nothing was captured");
    assert_eq!(world.held(&budget, at(RESERVATION_MS + 2)).await, 0);
}

/// What the attempts before have cost is part of the floor: the input is charged once.
pub async fn expires_into_what_is_left_of_the_floor(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    let [budget, _] = money_and_tokens();
    for (start, (spent, left)) in (0..).step_by(20).zip([(10, 15), (25, 0), (60, 0)]) {
        let (start, end) = (start * MINUTE_MS, start * MINUTE_MS + RESERVATION_MS);
        let before = world.used(&budget, at(start)).await;
        let asks = money_and_tokens();
        let open = world.reserve_with_floor(&asks, 25, at(start)).await.expect("there is room");
        world.report(Report::settling(&open, spent).not_final(), at(start + 1)).await;
        let named = expire(&world, end).await;
        let floors: Vec<i64> = named.iter().map(|expired| expired.reservation.floor.get()).collect();
        assert_eq!(floors, if left > 0 { vec![left] } else { Vec::new() });
        assert_eq!(world.held(&budget, at(end)).await, i128::from(left));
        for floor in floors {
            let event = Report::settling(&open, floor).guessed().charging(&budget, floor);
            world.report(event, at(end + 1)).await;
        }
        assert_eq!(world.used(&budget, at(end + 2)).await - before, i128::from(spent + left));
        assert_eq!(world.held(&budget, at(end + 2)).await, 0);
    }
}

/// A limit whose amount was unknown when the call was reserved is charged what the call used.
pub async fn charges_what_was_used_of_a_limit_that_was_only_tested(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    let tokens = ask(1, an_hour(100), 1).of(Unit::Tokens).probe();
    let budget = ask(2, hourly(1_000), 1).probe();
    let asks = [tokens.clone(), budget.clone()];
    let [done, open] = [0, 1].map(|_| world.reserve(&asks, at(0)));
    let (done, open) = (done.await.expect("there is room"), open.await.expect("there is room"));
    assert_eq!((world.used(&tokens, at(1)).await, world.used(&budget, at(1)).await), (0, 0));
    let report = Report::settling(&done, 70).used(Unit::Tokens, 120).charging(&budget, 70);
    world.report(report.charging(&tokens, 120), at(2)).await;
    assert_eq!((world.used(&tokens, at(3)).await, world.used(&budget, at(3)).await), (120, 70));
    assert!(world.reserve(&asks, at(3)).await.is_none(), "the debt denies the next one");
    world.release(&open.id, at(4)).await;
    assert_eq!((world.used(&tokens, at(5)).await, world.used(&budget, at(5)).await), (120, 70));
}

/// A call that its limit denies needs no room: it is denied also where every reservation is open, and
/// drops the record of none.
pub async fn denies_also_where_there_is_no_room_for_a_reservation(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    let count_max = backend.reservations_max();
    let amount = i64::try_from(count_max).expect("the suite's stores are small");
    let (limited, other) = ([ask(1, a_minute(amount), 1)], [ask(2, a_minute(amount), 1)]);
    let first = world.reserve(&limited, at(0)).await.expect("there is room");
    assert_eq!(world.reserve_until_denied(&limited, 2 * count_max, at(0)).await, count_max - 1);
    let full = world.store.check(&world.command(Mode::Reserve, &other, at(1))).await;
    assert!(matches!(full, Err(StoreError::Full { .. })), "{full:?}");
    assert!(matches!(world.release(&first.id, at(2)).await, ReleaseOutcome::State(_)));
    assert!(world.consume(&limited, at(2)).await);
    assert_eq!(world.reserve(&limited, at(3)).await, None);
    assert!(world.reservation(&first.id).await.is_some());
    assert!(world.reserve(&other, at(4)).await.is_some());
    assert_eq!(world.reservation(&first.id).await, None);
}
