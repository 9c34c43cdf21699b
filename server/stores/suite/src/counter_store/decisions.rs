//! Decisions without ids and reservations.

use rateguard_core::counter::{Reading, RetryAfter};
use rateguard_core::decision::Mode;
use rateguard_engine::ports::ReleaseOutcome;

use super::CounterBackend;
use super::world::{
    Ask, MINUTE_MS, Report, World, a_minute, an_hour, any_minute, ask, at, bucket, hourly, prepaid, request,
};

/// One of every algorithm, `limit` each.
fn one_of_each(limit: i64) -> [Ask; 4] {
    [
        ask(1, a_minute(limit), 1),
        ask(2, any_minute(limit), 1),
        ask(3, bucket(limit, limit), 1),
        ask(4, an_hour(limit), 1),
    ]
}

/// An allowed call takes from each of its limits, a denied one from none.
pub async fn takes_from_all_limits_or_from_none(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    let (wide, narrow) = (ask(1, a_minute(10), 1), ask(2, any_minute(2), 1));
    let both = [wide.clone(), narrow.clone()];
    assert!(world.consume(&both, at(0)).await);
    assert!(world.consume(&both, at(1)).await);
    assert!(!world.consume(&both, at(2)).await);
    assert_eq!((world.used(&wide, at(3)).await, world.used(&narrow, at(3)).await), (2, 2));
}

/// A shadow that would deny neither denies nor counts.
pub async fn counts_a_shadow_only_when_it_would_allow(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    let (enforced, shadow) = (ask(1, a_minute(10), 1), ask(2, a_minute(1), 1).shadow());
    for second in 0..3 {
        assert!(world.consume(&[enforced.clone(), shadow.clone()], at(second)).await);
    }
    assert_eq!((world.used(&enforced, at(3)).await, world.used(&shadow, at(3)).await), (3, 1));
}

/// Neither a PEEK nor a denial leaves a trace: everything reads as before, the whole state of
/// limits, budgets and reservations.
pub async fn changes_nothing_on_peek_and_denial(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    let mut asks = one_of_each(5).to_vec();
    asks.push(ask(5, prepaid(1_000), 100));
    let exhausted = ask(6, a_minute(0), 1);
    assert!(world.consume(&one_of_each(5), at(0)).await);
    let open = world.reserve(&asks, at(1)).await.expect("there is room");
    let before = (world.read(&asks, at(10)).await, world.reservation(&open.id).await);
    assert!(world.peek(&asks, at(10)).await);
    asks.push(exhausted);
    assert!(!world.peek(&asks, at(10)).await);
    assert!(!world.consume(&asks[..4].iter().chain(&asks[5..]).cloned().collect::<Vec<_>>(), at(10)).await);
    assert!(world.reserve(&asks, at(10)).await.is_none());
    let after = (world.read(&asks[..5], at(10)).await, world.reservation(&open.id).await);
    assert_eq!(before, after);
}

/// One millisecond before the hint the call is denied, at the hint it passes.
pub async fn says_when_a_denied_call_passes(backend: &impl CounterBackend) {
    let store = World::open(backend).await;
    for (number, limited) in (10..).zip(one_of_each(3)) {
        let (world, asks) = (store.in_workspace(number), [limited]);
        for call in 0..3 {
            assert!(world.consume(&asks, at(100 + call)).await);
        }
        let Some(RetryAfter::Millis(wait_ms)) = world.wait_of(&asks, at(500)).await else {
            panic!("three of three are taken, and the window passes");
        };
        assert!(wait_ms > 1);
        assert!(!world.consume(&asks, at(500 + wait_ms - 1)).await);
        assert!(world.consume(&asks, at(500 + wait_ms)).await);
    }
}

/// Of several limits that deny, the longest wait counts; an amount above a limit and a budget
/// without reset have none.
pub async fn says_that_waiting_does_not_help(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    let too_much = ask(1, a_minute(5), 6);
    assert_eq!(world.wait_of(&[too_much], at(0)).await, Some(RetryAfter::Never));
    let spent = ask(2, prepaid(100), 1);
    world.report(Report::of_cost(100).charging(&spent, 100), at(0)).await;
    let brief = ask(3, a_minute(0), 0);
    assert_eq!(world.wait_of(&[brief, spent], at(0)).await, Some(RetryAfter::Never));
    let hourly = ask(4, hourly(100), 1);
    world.report(Report::of_cost(100).charging(&hourly, 100), at(0)).await;
    assert_eq!(world.wait_of(&[hourly], at(0)).await, Some(RetryAfter::Millis(60 * MINUTE_MS)));
}

/// A clock that steps back renews nothing, whatever was seen last.
pub async fn renews_nothing_when_the_clock_steps_back(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    let asks = one_of_each(1);
    assert!(world.consume(&asks, at(30_000)).await);
    for back_ms in [1, 29_999, 90_000, 90 * MINUTE_MS] {
        for limited in &asks {
            assert!(!world.consume(std::slice::from_ref(limited), at(30_000 - back_ms)).await);
        }
    }
    // The wait is counted in the workspace's time, which stood still.
    let wait = world.wait_of(&asks[..1], at(0)).await;
    assert_eq!(wait, Some(RetryAfter::Millis(30_000)));
}

/// New values of a limit's scope share its overflow counter once the workspace has too many.
pub async fn shares_one_counter_beyond_the_bound(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    let limited = ask(1, a_minute(2), 1);
    let bound = backend.live_counters_max() as u128;
    for value in 0..bound {
        assert!(world.consume(&[limited.clone().scoped(value)], at(0)).await);
    }
    let new = |value: u128| [limited.clone().scoped(bound + value)];
    assert!(world.consume(&new(0), at(1)).await);
    assert!(world.consume(&new(1), at(1)).await);
    assert!(!world.consume(&new(2), at(1)).await, "the two before took what the shared counter has");
    assert!(!world.peek(&new(3), at(1)).await);
    assert!(world.consume(&[limited.clone().scoped(0)], at(1)).await, "a counter of before is its own");
    let report = Report::default().charging(&limited.clone().scoped(bound + 4), 1);
    world.report(report, at(1)).await;
    assert_eq!(world.used(&limited.overflow(), at(1)).await, 3);
}

/// A reading is of the counter that a decision would fall on: beyond the bound, a new value has what
/// its limit's overflow counter has left, and nothing of its own.
pub async fn reads_what_a_decision_would_fall_on(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    let (limited, other) = (ask(1, a_minute(5), 1), ask(3, a_minute(7), 1));
    let bound = backend.live_counters_max() as u128;
    for value in 1..bound {
        assert!(world.consume(&[limited.clone().scoped(value)], at(0)).await);
    }
    let fresh = [limited.clone().scoped(bound), other.clone().scoped(bound)];
    assert!(world.consume(&[limited.clone().overflow(), other.overflow()], at(1)).await);
    let used = |readings: Vec<Reading>| readings.iter().map(|reading| reading.used).collect::<Vec<_>>();
    assert_eq!(used(world.read(&fresh, at(2)).await), [1, 1]);
    let peek = world.command(Mode::Peek, &fresh, at(2));
    assert_eq!(used(world.decide(peek).await.verdict.readings.to_vec()), [1, 1]);
    assert_eq!(world.used(&limited.scoped(1), at(2)).await, 1, "a counter of before is its own");
}

/// The same counters, ids and reservations in another workspace are others.
pub async fn keeps_workspaces_apart(backend: &impl CounterBackend) {
    let ours = World::open(backend).await;
    let theirs = ours.in_workspace(9);
    let limited = ask(1, a_minute(1), 1);
    let id = request(7, 7);
    let command = |world: &World<'_>| {
        let mut command = world.command(Mode::Consume, std::slice::from_ref(&limited), at(0));
        command.request = Some(id);
        command
    };
    assert!(ours.decide(command(&ours)).await.verdict.allowed);
    let other = theirs.decide(command(&theirs)).await;
    assert!(other.verdict.allowed && !other.replayed);
    let open = ours.reserve(&[ask(2, prepaid(100), 60)], at(0)).await.expect("there is room");
    assert_eq!(theirs.reservation(&open.id).await, None);
    assert_eq!(theirs.release(&open.id, at(0)).await, ReleaseOutcome::Unknown);
    assert!(theirs.reserve(&[ask(2, prepaid(100), 60)], at(0)).await.is_some());
}

/// Sweeping drops what equals a fresh counter and nothing else.
pub async fn forgets_idle_counters_without_a_trace(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    let mut asks = one_of_each(5).to_vec();
    asks.push(ask(5, prepaid(1_000), 1).probe());
    assert!(world.consume(&asks, at(0)).await);
    world.report(Report::of_cost(40).charging(&asks[4], 40), at(0)).await;
    let before = world.read(&asks, at(100)).await;
    world.sweep(at(100)).await;
    assert_eq!(world.read(&asks, at(100)).await, before);
    world.sweep(at(2 * MINUTE_MS)).await;
    let used: Vec<i128> = world.read(&asks, at(2 * MINUTE_MS)).await.iter().map(|r| r.used).collect();
    assert_eq!(used, [0, 0, 0, 1, 40], "the calendar's hour and the budget still count");
}
