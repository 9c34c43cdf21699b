use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};

use rateguard_core::decision::Mode;
use rateguard_core::unit::Unit;
use rateguard_engine::ports::{CheckOutcome, CounterStore, StoreError};
use rateguard_store_suite::counter_store::Stop;
use rateguard_store_suite::counter_store::world::{
    Caller, Report, World, a_minute, an_hour, any_minute, ask, at, bucket, prepaid, request,
};
use tokio::task::JoinSet;

use crate::testing::MemoryBackend;
use crate::{MemoryCounterStore, MemoryCounterStoreConfig};

/// Turns that other tasks get before a test concludes that one of them waits.
const TURNS: usize = 1_000;

async fn let_others_work() {
    for _ in 0..TURNS {
        tokio::task::yield_now().await;
    }
}

fn saves(backend: &MemoryBackend) -> usize {
    backend.disk.saves.load(Ordering::SeqCst)
}

async fn caller(backend: &MemoryBackend) -> Caller {
    Caller::new(backend.load(at(0)).await, 1)
}

#[tokio::test]
async fn the_first_call_of_a_limit_writes_its_lead_and_no_counter_within_it_waits() {
    let backend = MemoryBackend::default();
    let config = MemoryCounterStoreConfig::default();
    let store = MemoryCounterStore::load(backend.disk.clone(), config, at(0)).await.expect("an empty disk");
    let caller = Caller::new(Arc::new(store), 1);
    let limits = [a_minute(500), any_minute(500), bucket(500, 500)];
    for value in 0..10_000 {
        let asks = [1, 2, 3].map(|number| ask(number, limits[usize::from(number) - 1], 1).scoped(value));
        assert!(caller.consume(&asks, at(0)).await);
    }
    assert_eq!(saves(&backend), 1, "one write for 10,000 new values of three limits");
}

#[tokio::test]
async fn a_call_that_passes_its_lead_waits_and_the_lead_grows_by_it() {
    let backend = MemoryBackend::default();
    let caller = caller(&backend).await;
    let limited = [ask(1, an_hour(1_000), 1)];
    let mut waited = Vec::new();
    for call in 1..=100 {
        let before = saves(&backend);
        assert!(caller.consume(&limited, at(0)).await);
        waited.extend((saves(&backend) > before).then_some(call));
    }
    // The leads are 4, 20, and 50, the largest of this limit.
    assert_eq!(waited, [1, 6, 27, 78]);
}

#[tokio::test]
async fn a_limit_without_a_lead_is_on_disk_before_each_answer() {
    let backend = MemoryBackend::default();
    let mut world = World::open(&backend).await;
    let few = [ask(1, an_hour(5), 1)];
    for call in 1..=3 {
        assert!(world.consume(&few, at(call)).await);
        assert_eq!(saves(&backend), usize::try_from(call).expect("few calls"));
    }
    world.reopen(Stop::Crash, at(10)).await;
    assert_eq!(world.used(&few[0], at(11)).await, 3, "a crash forfeits nothing of it");
}

#[tokio::test]
async fn callers_who_wait_share_one_write() {
    let backend = MemoryBackend::default();
    let store = backend.load(at(0)).await;
    backend.disk.hold_up();
    let mut waiting = JoinSet::new();
    for number in 0..64 {
        let caller = Caller::new(store.clone(), 1 + number % 2);
        waiting.spawn(
            async move { caller.consume(&[ask(1, an_hour(5), 1).scoped(number.into())], at(0)).await },
        );
    }
    let_others_work().await;
    assert!(waiting.try_join_next().is_none());
    backend.disk.passes.add_permits(64);
    while let Some(allowed) = waiting.join_next().await {
        assert!(allowed.expect("no caller panics"));
    }
    assert_eq!(saves(&backend), 1, "who comes first writes for all");
}

#[tokio::test]
async fn a_caller_whom_nobody_drives_on_holds_up_nobody() {
    let backend = MemoryBackend::default();
    let store = backend.load(at(0)).await;
    let (slow, other) = (Caller::new(store.clone(), 1), Caller::new(store.clone(), 2));
    let limited = [ask(1, an_hour(5), 1)];
    let held = [ask(2, prepaid(1_000), 100)];
    backend.disk.hold_up();
    let mut covered = Box::pin(slow.consume(&limited, at(0)));
    let mut raised = Box::pin(slow.reserve(&held, at(0)));
    assert!(polled(&mut covered).is_pending() && polled(&mut raised).is_pending());
    let_others_work().await;
    backend.disk.passes.add_permits(64);
    assert!(other.consume(&limited, at(0)).await, "a write that was begun comes to its end");
    assert!(other.reserve(&held, at(0)).await.is_some());
    drop(covered);
    assert_eq!(slow.used(&limited[0], at(0)).await, 1, "one who goes away has taken what they asked for");
}

/// Polls once.
fn polled<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

#[tokio::test]
async fn a_denied_call_and_one_that_takes_nothing_wait_for_nothing() {
    let backend = MemoryBackend::default();
    let caller = caller(&backend).await;
    assert!(!caller.consume(&[ask(1, an_hour(5), 6)], at(0)).await);
    assert!(caller.peek(&[ask(1, an_hour(5), 5)], at(0)).await);
    assert!(caller.consume(&[ask(1, an_hour(5), 5).probe()], at(0)).await);
    assert_eq!(saves(&backend), 0);
}

#[tokio::test]
async fn a_call_whose_write_fails_may_have_been_done_and_its_id_is_answered_once_it_is_on_disk() {
    let backend = MemoryBackend::default();
    let store = backend.load(at(0)).await;
    let caller = Caller::new(store.clone(), 1);
    let limited = ask(1, an_hour(5), 1);
    let mut command = caller.command(Mode::Consume, std::slice::from_ref(&limited), at(0));
    command.request = Some(request(7, 7));
    backend.disk.fails.store(true, Ordering::SeqCst);
    for _ in 0..2 {
        let refused = store.check(&command).await;
        assert!(matches!(refused, Err(StoreError::OutcomeUnknown { .. })), "{refused:?}");
        let refused = store.recall(&command).await;
        assert!(matches!(refused, Err(StoreError::OutcomeUnknown { .. })), "{refused:?}");
    }
    backend.disk.fails.store(false, Ordering::SeqCst);
    let CheckOutcome::Decided(again) = caller.send(command).await else { panic!("it is the same call") };
    assert!(again.verdict.allowed && again.replayed);
    assert!(backend.disk.counter(&caller.workspace, limited.charge.counter).is_some());
    assert_eq!(caller.used(&limited, at(0)).await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_does_not_answer_is_waited_for_in_bounds() {
    let backend = MemoryBackend::default();
    let store = backend.load(at(0)).await;
    let caller = Caller::new(store.clone(), 1);
    backend.disk.hold_up();
    let refused = store.check(&caller.command(Mode::Consume, &[ask(1, an_hour(5), 1)], at(0))).await;
    assert!(matches!(refused, Err(StoreError::OutcomeUnknown { .. })), "{refused:?}");
}

#[tokio::test]
async fn what_reports_charge_is_no_part_of_the_lead() {
    let backend = MemoryBackend::default();
    let mut world = World::open(&backend).await;
    let limited = ask(1, an_hour(1_000), 1);
    assert!(world.consume(std::slice::from_ref(&limited), at(0)).await);
    world.report(Report::of_cost(0).charging(&limited, 300), at(1)).await;
    let before = saves(&backend);
    assert!(world.consume(std::slice::from_ref(&limited), at(2)).await);
    assert_eq!(saves(&backend), before);
    world.reopen(Stop::Crash, at(10)).await;
    assert_eq!(world.used(&limited, at(11)).await, 1 + 300 + 4, "the log has the report");
}

#[tokio::test]
async fn a_crash_forfeits_the_lead_of_each_counter_and_of_each_that_was_not_there() {
    let backend = MemoryBackend::default();
    let mut world = World::open(&backend).await;
    let (known, new) = (ask(1, an_hour(1_000), 1), ask(1, an_hour(1_000), 1).scoped(9));
    for crash in 1..=20 {
        assert!(world.consume(std::slice::from_ref(&known), at(crash)).await);
        world.reopen(Stop::Crash, at(crash)).await;
        let readings = world.read(&[known.clone(), new.clone()], at(crash)).await;
        let used: Vec<i128> = readings.iter().map(|reading| reading.used).collect();
        assert_eq!(used, [i128::from(5 * crash), i128::from(4 * crash)]);
    }
}

#[tokio::test]
async fn a_crash_before_anybody_called_forfeits_nothing() {
    let backend = MemoryBackend::default();
    let mut world = World::open(&backend).await;
    let limited = ask(1, an_hour(1_000), 1);
    assert!(world.consume(std::slice::from_ref(&limited), at(0)).await);
    for crash in 1..=5 {
        world.reopen(Stop::Crash, at(crash)).await;
    }
    assert_eq!(world.used(&limited, at(6)).await, 1 + 4);
}

#[tokio::test]
async fn a_clean_stop_forfeits_nothing_and_keeps_what_a_crash_forfeited() {
    let backend = MemoryBackend::default();
    let mut world = World::open(&backend).await;
    let (known, new) = (ask(1, an_hour(1_000), 1), ask(1, an_hour(1_000), 1).scoped(9));
    for _ in 0..3 {
        assert!(world.consume(std::slice::from_ref(&known), at(0)).await);
    }
    world.reopen(Stop::Clean, at(1)).await;
    assert_eq!((world.used(&known, at(1)).await, world.used(&new, at(1)).await), (3, 0));
    assert!(world.consume(std::slice::from_ref(&known), at(2)).await);
    world.reopen(Stop::Crash, at(3)).await;
    for start in 4..=6 {
        world.reopen(Stop::Clean, at(start)).await;
        assert_eq!((world.used(&known, at(6)).await, world.used(&new, at(6)).await), (4 + 4, 4));
    }
}

#[tokio::test]
async fn what_a_crash_may_have_lost_is_told_before_the_counter_is_used_again() {
    let backend = MemoryBackend::default();
    let mut world = World::open(&backend).await;
    let limits = [a_minute(5), any_minute(50), bucket(50, 50), an_hour(100)];
    let asks: Vec<_> = limits.iter().zip(1..).map(|(limit, number)| ask(number, *limit, 1)).collect();
    assert!(world.consume(&asks, at(0)).await);
    world.reopen(Stop::Crash, at(1)).await;
    let readings = world.read(&asks, at(1)).await;
    assert_eq!(readings.iter().map(|reading| reading.used).collect::<Vec<_>>(), [1, 1 + 4, 1 + 4, 1 + 4]);
    let later = world.read(&asks, at(3 * 60_000)).await;
    assert_eq!(later.iter().map(|reading| reading.used).collect::<Vec<_>>(), [0, 0, 0, 1 + 4]);
}

#[tokio::test]
async fn a_window_of_moments_counts_as_used_up_until_it_has_passed() {
    let backend = MemoryBackend::default();
    let mut world = World::open(&backend).await;
    let moments = rateguard_core::counter::Limit::FixedWindow { limit: 5, window_ms: 1_000 };
    let (known, new) = (ask(1, moments, 1), ask(1, moments, 1).scoped(9));
    assert!(world.consume(std::slice::from_ref(&known), at(0)).await);
    world.reopen(Stop::Crash, at(100)).await;
    assert!(!world.consume(std::slice::from_ref(&known), at(200)).await);
    assert!(!world.consume(std::slice::from_ref(&new), at(999)).await);
    assert!(world.consume(&[known], at(1_000)).await && world.consume(&[new], at(1_000)).await);
}

#[tokio::test]
async fn what_a_reservation_took_of_a_plain_limit_is_covered_too() {
    let backend = MemoryBackend::default();
    let mut world = World::open(&backend).await;
    let tokens = ask(1, an_hour(10), 4).of(Unit::Tokens);
    assert!(world.reserve(std::slice::from_ref(&tokens), at(0)).await.is_some());
    world.reopen(Stop::Crash, at(1)).await;
    assert_eq!(world.used(&tokens, at(1)).await, 4);
}

#[tokio::test]
async fn a_limit_that_was_only_tested_owes_its_loss_with_its_next_charge() {
    let backend = MemoryBackend::default();
    let mut world = World::open(&backend).await;
    let tokens = ask(1, an_hour(1_000), 1).of(Unit::Tokens);
    assert!(world.consume(&[tokens.clone().scoped(9)], at(0)).await);
    world.reopen(Stop::Crash, at(1)).await;
    let open = world.reserve(&[tokens.clone().probe()], at(2)).await.expect("there is room");
    world.report(Report::settling(&open, 0).used(Unit::Tokens, 12), at(3)).await;
    assert_eq!(world.used(&tokens, at(4)).await, 12 + 4);
}

#[tokio::test]
async fn the_clean_mark_is_taken_back_by_the_next_call() {
    let backend = MemoryBackend::default();
    let mut world = World::open(&backend).await;
    let limited = ask(1, an_hour(1_000), 1);
    assert!(world.consume(std::slice::from_ref(&limited), at(0)).await);
    world.store.checkpoint(true).await.expect("the fake disk is well");
    assert!(world.consume(std::slice::from_ref(&limited), at(1)).await);
    world.reopen(Stop::Crash, at(2)).await;
    assert!(world.used(&limited, at(3)).await >= 2);
}

#[tokio::test]
async fn what_is_given_back_in_vain_makes_no_room_in_a_lead() {
    let backend = MemoryBackend::default();
    let mut world = World::open(&backend).await;
    let limited = ask(1, an_hour(100), 1);
    assert!(world.consume(std::slice::from_ref(&limited), at(0)).await);
    assert!(world.consume(&[limited.clone().giving_back(1_000)], at(0)).await);
    for call in 1..=50 {
        assert!(world.consume(std::slice::from_ref(&limited), at(call)).await);
    }
    world.reopen(Stop::Crash, at(100)).await;
    let used = world.used(&limited, at(101)).await;
    assert!(used >= 50, "50 were admitted, and {used} are used");
}

/// What a crash has lost of a counter before it was set back is never owed again, whether the counter
/// existed then or not, and whatever is swept and whoever starts again.
#[tokio::test]
async fn what_was_set_back_after_a_crash_owes_nothing_of_it() {
    let backend = MemoryBackend::default();
    let mut world = World::open(&backend).await;
    let one = ask(1, an_hour(1_000), 1);
    let (missing, other) = (one.clone().scoped(8), one.clone().scoped(9));
    assert!(world.consume(std::slice::from_ref(&one), at(0)).await);
    world.reopen(Stop::Crash, at(1)).await;
    world.reset(&one, at(2)).await;
    world.reset(&missing, at(2)).await;
    for stop in [None, Some(Stop::Clean)] {
        if let Some(stop) = stop {
            world.reopen(stop, at(4)).await;
        }
        world.sweep(at(5)).await;
        assert_eq!((world.used(&one, at(6)).await, world.used(&missing, at(6)).await), (0, 0));
        assert_eq!(world.used(&other, at(6)).await, 4, "the lead was lost of every counter");
    }
    world.reset_all(&one, at(7)).await;
    for stop in [None, Some(Stop::Clean)] {
        if let Some(stop) = stop {
            world.reopen(stop, at(8)).await;
        }
        world.sweep(at(9)).await;
        assert_eq!((world.used(&one, at(10)).await, world.used(&other, at(10)).await), (0, 0));
    }
}
