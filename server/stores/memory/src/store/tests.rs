use rateguard_core::counter::Position;
use rateguard_core::decision::Mode;
use rateguard_core::unit::Unit;
use rateguard_engine::ports::{CounterStore, Overflowed, SettleCommand};
use rateguard_store_suite::counter_store::world::{
    Caller, MINUTE_MS, Report, a_minute, ask, at, hourly, prepaid, request, this_hour,
};

use crate::MemoryCounterStore;
use crate::testing::MemoryBackend;

rateguard_store_suite::counter_store_suite!(MemoryBackend::default());

async fn live(store: &MemoryCounterStore) -> u64 {
    store.health().await.expect("memory is read").live_counters
}

async fn overflowed(store: &MemoryCounterStore) -> u64 {
    store.health().await.expect("memory is read").overflowed.iter().map(|of_one| of_one.charges).sum()
}

#[tokio::test]
async fn a_replayed_report_leaves_the_ceiling_to_those_that_were_open() {
    let backend = MemoryBackend::default();
    let before = Caller::new(backend.load(at(0)).await, 1);
    let (matching, unmatched) = (ask(1, prepaid(50_000), 1_000), ask(2, prepaid(50_000), 1_000));
    let both = [matching.clone(), unmatched.clone()];
    let open = before.reserve(&both, at(0)).await.expect("there is room");
    let logged = before.report(Report::settling(&open, 700).charging(&matching, 700), at(1)).await;
    let store = backend.load(at(10)).await;
    let after = Caller::new(store.clone(), 1);
    assert_eq!((after.held(&matching, at(10)).await, after.held(&unmatched, at(10)).await), (3_000, 3_000));
    store.settle(vec![SettleCommand { now: at(10), ..logged }]).await.expect("memory settles");
    for budget in both {
        let figures = (after.used(&budget, at(11)).await, after.held(&budget, at(11)).await);
        assert_eq!(figures, (3_700, 3_000));
    }
}

#[tokio::test]
async fn denied_and_peeked_checks_make_no_counter() {
    let store = MemoryBackend::default().load(at(0)).await;
    let caller = Caller::new(store.clone(), 1);
    let none_left = ask(1, a_minute(0), 1);
    for value in 0..10 {
        let fresh = [ask(2, a_minute(5), 1).scoped(value), none_left.clone()];
        assert!(!caller.consume(&fresh, at(0)).await);
        assert!(caller.reserve(&fresh, at(0)).await.is_none());
        assert!(caller.peek(&fresh[..1], at(0)).await);
        assert_eq!(caller.used(&fresh[0], at(0)).await, 0);
    }
    assert_eq!(live(&store).await, 0);
}

#[tokio::test]
async fn a_reserve_that_only_tests_makes_no_counter_and_its_report_does() {
    let store = MemoryBackend::default().load(at(0)).await;
    let caller = Caller::new(store.clone(), 1);
    let tested = [ask(1, a_minute(5), 1).probe(), ask(2, prepaid(1_000), 0).probe()];
    let open = caller.reserve(&tested, at(0)).await.expect("there is room");
    let given_back = caller.reserve(&tested, at(0)).await.expect("there is room");
    caller.release(&given_back.id, at(1)).await;
    assert_eq!(live(&store).await, 0);
    caller.report(Report::settling(&open, 30).used(Unit::Requests, 2), at(1)).await;
    assert_eq!((caller.used(&tested[0], at(2)).await, caller.used(&tested[1], at(2)).await), (2, 30));
    assert_eq!(live(&store).await, 2);
}

#[tokio::test]
async fn charges_on_the_overflow_counter_are_counted() {
    let store = MemoryBackend::default().load(at(0)).await;
    let caller = Caller::new(store.clone(), 1);
    let value = |value| [ask(1, a_minute(5), 1).scoped(value)];
    for each in 0..100 {
        assert!(caller.consume(&value(each), at(0)).await);
    }
    assert_eq!((overflowed(&store).await, live(&store).await), (0, 100));
    assert!(caller.consume(&value(100), at(0)).await);
    assert!(caller.consume(&value(101), at(0)).await);
    caller.report(Report::default().charging(&value(102)[0], 1), at(0)).await;
    assert_eq!((overflowed(&store).await, live(&store).await), (3, 101));
    caller.sweep(at(MINUTE_MS)).await;
    assert!(caller.consume(&value(103), at(MINUTE_MS)).await);
    assert_eq!(overflowed(&store).await, 3, "there is room again");
}

#[tokio::test]
async fn what_was_held_on_the_overflow_counter_is_settled_there_alone() {
    let store = MemoryBackend::default().load(at(0)).await;
    let caller = Caller::new(store.clone(), 1);
    for value in 0..100 {
        assert!(caller.consume(&[ask(1, a_minute(5), 1).scoped(value)], at(0)).await);
    }
    let budget = ask(2, prepaid(1_000), 100);
    let open = caller.reserve(std::slice::from_ref(&budget), at(0)).await.expect("there is room");
    assert_eq!(open.captured[0].counter, budget.charge.overflow);
    caller.sweep(at(MINUTE_MS)).await;
    caller.report(Report::settling(&open, 80).charging(&budget, 80), at(MINUTE_MS)).await;
    assert_eq!(caller.used(&budget, at(MINUTE_MS)).await, 0);
    assert_eq!(caller.used(&budget.overflow(), at(MINUTE_MS)).await, 80);
}

#[tokio::test]
async fn what_was_given_up_is_told_by_workspace() {
    let store = MemoryBackend::default().load(at(0)).await;
    let (ours, theirs) = (Caller::new(store.clone(), 1), Caller::new(store.clone(), 2));
    for value in 0..=100 {
        assert!(ours.consume(&[ask(1, a_minute(5), 1).scoped(value)], at(0)).await);
    }
    assert!(theirs.consume(&[ask(1, a_minute(5), 1)], at(0)).await);
    let health = store.health().await.expect("memory is read");
    let charges = vec![Overflowed { workspace: ours.workspace.clone(), charges: 1 }];
    assert_eq!((health.live_counters, health.overflowed), (102, charges));
    assert_eq!(health.request_ids_forgotten_early, 0);
    let limited = ask(2, prepaid(1), 1).probe();
    for id in 0..10_000 {
        let mut command = theirs.command(Mode::Consume, std::slice::from_ref(&limited), at(0));
        command.request = Some(request(id, 1));
        assert!(theirs.decide(command).await.verdict.allowed);
    }
    assert!(store.health().await.expect("memory is read").request_ids_forgotten_early > 0);
}

#[tokio::test]
async fn an_opening_of_nothing_makes_no_counter_and_empties_one_that_is_there() {
    let store = MemoryBackend::default().load(at(0)).await;
    let caller = Caller::new(store.clone(), 1);
    let (spent, fresh) = (ask(1, hourly(1_000), 100), ask(2, hourly(1_000), 100));
    caller.report(Report::of_cost(30).charging(&spent, 30), at(0)).await;
    let openings = vec![spent.charged(0), fresh.charged(0)];
    store.open_budget(&caller.workspace, openings, Position(1), at(1)).await.expect("memory opens");
    assert_eq!((caller.used(&spent, at(2)).await, live(&store).await), (0, 1));
}

#[tokio::test]
async fn an_opening_that_arrives_in_the_next_period_leaves_that_one_empty() {
    let store = MemoryBackend::default().load(at(0)).await;
    let caller = Caller::new(store.clone(), 1);
    let (budget, next) = (ask(1, hourly(1_000), 100), this_hour().end.plus(1));
    assert!(caller.consume(&[ask(2, a_minute(5), 1)], next).await, "the workspace's clock moves on");
    let openings = vec![budget.charged(900)];
    store.open_budget(&caller.workspace, openings, Position(0), at(1)).await.expect("memory opens");
    assert_eq!(caller.used(&budget, next).await, 0);
}
