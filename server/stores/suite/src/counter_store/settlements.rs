//! Records: what they charge with and without a reservation, each position once.

use rateguard_core::counter::Position;
use rateguard_core::unit::Unit;
use rateguard_engine::ports::{BudgetOpening, Standing};

use super::world::{MINUTE_MS, RESERVATION_MS, Report, World, a_minute, ask, at, hourly, prepaid};
use super::{CounterBackend, Stop};

/// A record without a reservation charges every limit that it names, never asking.
pub async fn charges_matching_limits_without_a_reservation(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    let (budget, tokens) = (ask(1, hourly(100), 1), ask(2, a_minute(50), 1).of(Unit::Tokens));
    world.report(Report::of_cost(70).charging(&budget, 70).charging(&tokens, 40), at(0)).await;
    world.report(Report::of_cost(70).charging(&budget, 70).charging(&tokens, 40), at(1)).await;
    assert_eq!((world.used(&budget, at(2)).await, world.used(&tokens, at(2)).await), (140, 80));
    assert!(!world.peek(&[budget.probe()], at(2)).await);
    // What was used in a window that has closed is corrected in the books alone.
    let past = Report { accounted_at: Some(at(3)), ..Report::default() };
    world.report(past.charging(&tokens, 40), at(MINUTE_MS)).await;
    assert_eq!(world.used(&tokens, at(MINUTE_MS)).await, 0);
}

/// A budget that matches the record and was not captured when the call was reserved gets the whole
/// cost; limits on units that were not captured get nothing.
pub async fn charges_a_budget_that_was_not_captured(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    let (captured, other) = (ask(1, prepaid(1_000), 100), ask(2, prepaid(1_000), 0));
    let requests = ask(3, a_minute(10), 1);
    let open = world.reserve(std::slice::from_ref(&captured), at(0)).await.expect("there is room");
    let report = Report::settling(&open, 80).charging(&captured, 80).charging(&other, 80);
    world.report(report.charging(&requests, 1), at(1)).await;
    let used = [&captured, &other, &requests];
    let mut figures = Vec::new();
    for limited in used {
        figures.push(world.used(limited, at(2)).await);
    }
    assert_eq!(figures, [80, 80, 0]);
}

/// A report that another process took, without knowing the reservation, frees what it holds and corrects
/// what it took of units; its cost is charged once, by its own time, as everywhere else.
pub async fn settles_a_reservation_by_a_report_from_elsewhere(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    let (budget, tokens) = (ask(1, hourly(1_000), 100), ask(2, a_minute(500), 50).of(Unit::Tokens));
    let open = world.reserve_with_floor(&[budget.clone(), tokens.clone()], 30, at(0)).await;
    let open = open.expect("there is room");
    let partial =
        Report::settling(&open, 40).used(Unit::Tokens, 20).not_final().standing(Standing::Elsewhere);
    let partial = partial.charging(&budget, 40).charging(&tokens, 20);
    world.report(partial, at(1)).await;
    assert_eq!((world.used(&budget, at(2)).await, world.held(&budget, at(2)).await), (100, 60));
    assert_eq!(world.used(&tokens, at(2)).await, 50);

    let last = Report::settling(&open, 25).used(Unit::Tokens, 10).standing(Standing::Elsewhere);
    let last = world.report(last.charging(&budget, 25).charging(&tokens, 10), at(3)).await;
    world.store.settle(vec![last]).await.expect("a store that is well settles");
    assert_eq!((world.used(&budget, at(4)).await, world.held(&budget, at(4)).await), (65, 0));
    assert_eq!(world.used(&tokens, at(4)).await, 30);
    let over = at(RESERVATION_MS + 1);
    assert_eq!(world.store.expire_due(over, 10).await.expect("a store that is well expires"), []);
}

/// Where the reservation is not known, or nothing is held for it any more, a report from elsewhere
/// counts in full, and draws nothing down of what a crash has left held.
pub async fn charges_a_report_from_elsewhere_in_full(backend: &impl CounterBackend) {
    let mut world = World::open(backend).await;
    let budget = ask(1, prepaid(1_000), 100);
    let released = world.reserve(std::slice::from_ref(&budget), at(0)).await.expect("there is room");
    world.release(&released.id, at(1)).await;
    world
        .report(Report::settling(&released, 40).standing(Standing::Elsewhere).charging(&budget, 40), at(2))
        .await;
    assert_eq!(world.used(&budget, at(3)).await, 40);

    let lost = world.reserve(std::slice::from_ref(&budget), at(4)).await.expect("there is room");
    world.reopen(Stop::Crash, at(5)).await;
    let held = world.held(&budget, at(5)).await;
    assert!(held >= 100, "{held}");
    // A store that outlives the crash knows the reservation still, and frees what it holds.
    let left = if world.reservation(&lost.id).await.is_some() { held - 100 } else { held };
    world
        .report(Report::settling(&lost, 60).standing(Standing::Elsewhere).charging(&budget, 60), at(6))
        .await;
    assert_eq!((world.used(&budget, at(7)).await, world.held(&budget, at(7)).await), (100 + left, left));
}

/// Settling a position again changes nothing, whoever does it.
pub async fn settles_every_position_once(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    let (budget, requests) = (ask(1, prepaid(1_000), 100), ask(2, a_minute(10), 1));
    let open = world.reserve(std::slice::from_ref(&budget), at(0)).await.expect("there is room");
    let reserved = world.report(Report::settling(&open, 60).charging(&budget, 60), at(1)).await;
    let plain = Report::of_cost(5).charging(&budget, 5).charging(&requests, 1);
    let plain = world.report(plain, at(2)).await;
    assert_eq!(plain.position, Position(2));
    for _ in 0..2 {
        let again = vec![reserved.clone(), plain.clone()];
        world.store.settle(again).await.expect("a store that is well settles");
    }
    assert_eq!((world.used(&budget, at(3)).await, world.used(&requests, at(3)).await), (65, 1));
}

/// What was spent before a budget was in force is set, however often it is opened; what comes after
/// adds to it.
pub async fn adds_an_opening_to_a_new_budget(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    let budget = ask(1, hourly(1_000), 100);
    world.report(Report::of_cost(30).charging(&budget, 30), at(0)).await;
    let openings = vec![budget.charged(500), ask(2, prepaid(1_000), 0).charged(70)];
    for _ in 0..2 {
        let opened = world.store.open_budget(&world.workspace, openings.clone(), Position(1), at(1)).await;
        assert_eq!(opened, Ok(BudgetOpening::Opened));
    }
    assert_eq!(world.used(&budget, at(2)).await, 500);
    assert_eq!(world.used(&ask(2, prepaid(1_000), 0), at(2)).await, 70);
    world.report(Report::of_cost(30).charging(&budget, 30), at(3)).await;
    assert_eq!(world.used(&budget, at(4)).await, 530);
}
