//! Budgets' counters that are dropped: which, when, and that no money is lost or counted twice by it.

use rateguard_core::counter::{Limit, Position};
use rateguard_core::decision::Mode;
use rateguard_core::limits::{OCCURRED_BEFORE_MS_MAX, RESERVATION_TTL_MS_MAX};
use rateguard_core::time::Bounds;
use rateguard_engine::ports::SettleCommand;

use super::world::{Ask, RESERVATION_MS, Report, World, ask, at, hourly, prepaid, this_hour};
use super::{CounterBackend, Stop};

/// Takes all places of a workspace with counters of this budget's values from 1 on, each of which was
/// held for once and given back.
async fn fill_with_empty_counters(world: &World<'_>, budget: &Ask, count: usize) {
    for value in 1..=count as u128 {
        let open = world.reserve(&[budget.clone().scoped(value)], at(0)).await.expect("there is room");
        world.release(&open.id, at(0)).await;
    }
}

/// Whether a value that was never seen has a counter of its own.
async fn has_room(world: &World<'_>, budget: &Ask, ms: i64) -> bool {
    let (new, shared) = (budget.clone().scoped(1 << 20), budget.clone().overflow());
    let before = world.used(&shared, at(ms)).await;
    let open = world.reserve(&[new], at(ms)).await.expect("there is room");
    let fell = world.used(&shared, at(ms)).await > before;
    world.release(&open.id, at(ms)).await;
    !fell
}

/// A budget's counter with nothing in it gives its place to others.
pub async fn drops_budgets_counters_with_nothing_in_them(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    let budget = ask(1, hourly(10_000), 100);
    fill_with_empty_counters(&world, &budget, backend.live_counters_max()).await;
    assert!(!has_room(&world, &budget, 1).await);
    world.checkpoint().await;
    world.sweep(at(2)).await;
    assert!(has_room(&world, &budget, 3).await);
}

/// What is spent stays for as long as records of its period are accepted, and what is held as long as
/// it is; then both go.
pub async fn drops_budgets_counters_long_after_their_period(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    let budget = ask(1, hourly(10_000), 100);
    for value in 1..=backend.live_counters_max() as u128 {
        world.report(Report::of_cost(70).charging(&budget.clone().scoped(value), 70), at(0)).await;
    }
    world.checkpoint().await;
    let over = this_hour().end.since(at(0)) + OCCURRED_BEFORE_MS_MAX;
    world.sweep(at(over - 1)).await;
    assert!(!has_room(&world, &later(&budget, over - 1), over - 1).await);
    world.sweep(at(over)).await;
    assert!(has_room(&world, &later(&budget, over), over).await);
}

/// The same budget in an hour that begins `ms` after the first.
fn later(budget: &Ask, ms: i64) -> Ask {
    let Limit::Budget { nanos, .. } = budget.charge.limit else { panic!("it is a budget") };
    let hour_ms = this_hour().end.since(this_hour().start);
    let bounds = Bounds { start: at(ms), end: at(ms + hour_ms), next_end: at(ms + 2 * hour_ms) };
    let mut later = budget.clone();
    later.charge.limit = Limit::Budget { nanos, bounds: Some(bounds) };
    later
}

/// The counters of a budget that is gone are dropped when it has been gone for an hour and nobody
/// holds anything in them; those of a budget that was only not known stay.
pub async fn drops_the_counters_of_a_budget_that_is_gone(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    let budget = ask(1, prepaid(10_000), 100);
    for value in 1..=backend.live_counters_max() as u128 {
        world.report(Report::of_cost(70).charging(&budget.clone().scoped(value), 70), at(0)).await;
    }
    world.checkpoint().await;
    world.sweep_without_budgets(at(1)).await;
    world.sweep(at(2)).await;
    world.sweep_without_budgets(at(3)).await;
    world.sweep_without_budgets(at(RESERVATION_TTL_MS_MAX + 2)).await;
    assert_eq!(world.used(&budget.clone().scoped(1), at(RESERVATION_TTL_MS_MAX + 2)).await, 70);
    world.sweep_without_budgets(at(RESERVATION_TTL_MS_MAX + 3)).await;
    assert!(has_room(&world, &budget, RESERVATION_TTL_MS_MAX + 4).await);
}

/// Money that is held stays, also of a budget that is gone, until its reservation is over.
pub async fn keeps_what_is_held_of_a_budget_that_is_gone(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    let budget = ask(1, prepaid(10_000), 100);
    let mut command = world.command(Mode::Reserve, std::slice::from_ref(&budget), at(0));
    let reservation = command.reservation.as_mut().expect("a RESERVE makes one");
    reservation.expires_at = at(3 * RESERVATION_MS + RESERVATION_TTL_MS_MAX);
    assert!(world.decide(command).await.verdict.allowed);
    world.checkpoint().await;
    world.sweep_without_budgets(at(1)).await;
    let gone = RESERVATION_TTL_MS_MAX + 1;
    world.sweep_without_budgets(at(gone)).await;
    assert_eq!(world.held(&budget, at(gone)).await, 100);
}

/// A counter that includes records which recovery would settle again is not dropped: a correction
/// among them would count without what it corrects.
pub async fn counts_no_record_again_in_a_counter_that_was_dropped(backend: &impl CounterBackend) {
    let mut world = World::open(backend).await;
    let budget = ask(1, hourly(10_000), 100);
    world.report(Report::of_cost(70).charging(&budget, 70), at(0)).await;
    world.checkpoint().await;
    world.report(Report::of_cost(-70).charging(&budget, -70), at(1)).await;
    world.sweep(at(2)).await;
    assert_eq!(world.used(&budget, at(3)).await, 0);
    world.reopen(Stop::Crash, at(10)).await;
    assert_eq!(world.used(&budget, at(11)).await, 0);
    world.checkpoint().await;
    world.sweep(at(12)).await;
    world.report(Report::of_cost(40).charging(&budget, 40), at(13)).await;
    world.reopen(Stop::Crash, at(20)).await;
    assert_eq!(world.used(&budget, at(21)).await, 40);
}

/// A counter that was dropped and made again takes nothing that it has seen before.
pub async fn settles_nothing_again_in_a_counter_that_was_dropped(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    let budget = ask(1, hourly(10_000), 100);
    let first = world.report(Report::of_cost(70).charging(&budget, 70), at(0)).await;
    let second = world.report(Report::of_cost(-70).charging(&budget, -70), at(1)).await;
    world.checkpoint().await;
    world.sweep(at(2)).await;
    let again: Vec<SettleCommand> = vec![first, second];
    world.store.settle(again.clone()).await.expect("a store that is well settles");
    assert_eq!(world.used(&budget, at(3)).await, 0);
    let third = world.report(Report::of_cost(5).charging(&budget, 5), at(4)).await;
    assert_eq!(third.position, Position(3));
    world.store.settle(again).await.expect("a store that is well settles");
    assert_eq!(world.used(&budget, at(5)).await, 5);
}
