use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rateguard_core::counter::{Limit, Position};
use rateguard_engine::ports::CounterStore;
use rateguard_store_suite::counter_store::world::Caller;
use rateguard_store_suite::counter_store::world::{MINUTE_MS, Report, a_minute, ask, at, prepaid};
use tokio::time::Instant;

use super::{BATCH_COUNTERS_MAX, ROUND_SPREAD_MAX, SPREAD_PER_COUNTER};
use crate::testing::MemoryBackend;
use crate::{MemoryCounterStore, MemoryCounterStoreConfig};

/// A limit under which a counter may be a few calls ahead of the disk.
fn often() -> Limit {
    a_minute(500)
}

/// Waits for the lead of a limit, so that no later call of one of its counters waits.
async fn lead_for(caller: &Caller, number: u8) {
    assert!(caller.consume(&[ask(number, often(), 1).overflow()], at(0)).await);
    caller.store.checkpoint(false).await.expect("the fake disk is well");
}

fn saves(backend: &MemoryBackend) -> usize {
    backend.disk.saves.load(Ordering::SeqCst)
}

#[tokio::test]
async fn what_changed_is_written_with_the_position_that_it_includes() {
    let backend = MemoryBackend::default();
    let store = backend.load(at(0)).await;
    let (ours, budget) = (Caller::new(store.clone(), 1), ask(1, prepaid(1_000), 0));
    ours.report(Report::of_cost(5).charging(&budget, 5), at(0)).await;
    ours.report(Report::of_cost(7), at(1)).await;
    store.checkpoint(false).await.expect("the fake disk is well");
    assert_eq!((backend.disk.position(), backend.disk.rows(), saves(&backend)), (Position(2), 1, 1));
    store.checkpoint(false).await.expect("the fake disk is well");
    assert_eq!(saves(&backend), 1, "nothing has changed since");
    ours.report(Report::of_cost(7), at(2)).await;
    store.checkpoint(false).await.expect("the fake disk is well");
    assert_eq!(backend.disk.position(), Position(3), "a record that charges nothing moves it too");
}

#[tokio::test]
async fn what_could_not_be_written_is_written_with_the_next_checkpoint() {
    let backend = MemoryBackend::default();
    let store = backend.load(at(0)).await;
    let caller = Caller::new(store.clone(), 1);
    lead_for(&caller, 1).await;
    assert!(caller.consume(&[ask(1, often(), 1)], at(0)).await);
    backend.disk.fails.store(true, Ordering::SeqCst);
    assert!(store.checkpoint(false).await.is_err());
    assert_eq!(backend.disk.rows(), 1);
    backend.disk.fails.store(false, Ordering::SeqCst);
    store.checkpoint(false).await.expect("the fake disk is well");
    assert_eq!(backend.disk.rows(), 2);
}

#[tokio::test]
async fn a_checkpoint_that_is_given_up_loses_no_change() {
    // While it sorts, or while it writes the first of two batches.
    for turns in [1, 1_000] {
        let backend = MemoryBackend::default();
        let config = MemoryCounterStoreConfig::default();
        let store =
            MemoryCounterStore::load(backend.disk.clone(), config, at(0)).await.expect("an empty disk");
        let store = Arc::new(store);
        let caller = Caller::new(store.clone(), 1);
        lead_for(&caller, 1).await;
        let values = BATCH_COUNTERS_MAX + 10;
        for value in 0..values {
            assert!(caller.consume(&[ask(1, often(), 1).scoped(value as u128)], at(0)).await);
        }
        backend.disk.hold_up();
        let writing = tokio::spawn({
            let store = store.clone();
            async move { store.checkpoint(false).await }
        });
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
        writing.abort();
        assert!(writing.await.is_err_and(|error| error.is_cancelled()));
        backend.disk.passes.add_permits(2);
        store.checkpoint(false).await.expect("the fake disk is well");
        assert_eq!(backend.disk.rows(), values + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn the_batches_of_a_round_are_spread_over_time_unless_somebody_waits_for_them() {
    let spread = SPREAD_PER_COUNTER * 7 * u32::try_from(BATCH_COUNTERS_MAX).unwrap();
    for (clean, least) in [(false, spread), (true, Duration::ZERO)] {
        let backend = MemoryBackend::default();
        let config = MemoryCounterStoreConfig::default();
        let store =
            MemoryCounterStore::load(backend.disk.clone(), config, at(0)).await.expect("an empty disk");
        let caller = Caller::new(Arc::new(store), 1);
        lead_for(&caller, 1).await;
        for value in 0..8 * BATCH_COUNTERS_MAX {
            assert!(caller.consume(&[ask(1, often(), 1).scoped(value as u128)], at(0)).await);
        }
        let began = Instant::now();
        caller.store.checkpoint(clean).await.expect("the fake disk is well");
        let took = began.elapsed();
        assert!(least <= took && took <= ROUND_SPREAD_MAX, "{took:?} for eight batches");
        assert_eq!((saves(&backend), clean && !took.is_zero()), (1 + 8, false));
    }
}

#[tokio::test(start_paused = true)]
async fn a_round_under_way_takes_no_pauses_once_somebody_waits() {
    let backend = MemoryBackend::default();
    let config = MemoryCounterStoreConfig::default();
    let store = MemoryCounterStore::load(backend.disk.clone(), config, at(0)).await.expect("an empty disk");
    let caller = Caller::new(Arc::new(store), 1);
    lead_for(&caller, 1).await;
    for value in 0..8 * BATCH_COUNTERS_MAX {
        assert!(caller.consume(&[ask(1, often(), 1).scoped(value as u128)], at(0)).await);
    }
    let round = tokio::spawn({
        let store = caller.store.clone();
        async move { store.checkpoint(false).await }
    });
    // It is in its first pause.
    tokio::time::sleep(Duration::from_millis(1)).await;
    let began = Instant::now();
    caller.store.checkpoint(true).await.expect("the fake disk is well");
    assert_eq!(began.elapsed(), Duration::ZERO);
    round.await.expect("nobody cancels it").expect("the fake disk is well");
}

#[tokio::test]
async fn neighbours_on_disk_are_written_together() {
    let backend = MemoryBackend::default();
    let config = MemoryCounterStoreConfig::default();
    let store = MemoryCounterStore::load(backend.disk.clone(), config, at(0)).await.expect("an empty disk");
    let caller = Caller::new(Arc::new(store), 1);
    lead_for(&caller, 1).await;
    for value in 0..3 * BATCH_COUNTERS_MAX {
        assert!(caller.consume(&[ask(1, often(), 1).scoped(value as u128)], at(0)).await);
    }
    caller.store.checkpoint(false).await.expect("the fake disk is well");
    let order = backend.disk.order();
    assert!(order[1..].is_sorted() && order.len() == 1 + 3 * BATCH_COUNTERS_MAX);
}

#[tokio::test]
async fn dropped_counters_leave_the_disk() {
    let backend = MemoryBackend::default();
    let store = backend.load(at(0)).await;
    let caller = Caller::new(store.clone(), 1);
    assert!(caller.consume(&[ask(1, a_minute(5), 1), ask(2, prepaid(5), 0).probe()], at(0)).await);
    caller.report(Report::of_cost(1).charging(&ask(2, prepaid(5), 0), 1), at(0)).await;
    store.checkpoint(false).await.expect("the fake disk is well");
    assert_eq!(backend.disk.rows(), 2);
    caller.sweep(at(MINUTE_MS)).await;
    store.checkpoint(false).await.expect("the fake disk is well");
    assert_eq!(backend.disk.rows(), 1);
}

#[tokio::test]
async fn many_changes_are_written_in_batches_and_the_position_with_the_last() {
    let backend = MemoryBackend::default();
    let config = MemoryCounterStoreConfig::default();
    let store = MemoryCounterStore::load(backend.disk.clone(), config, at(0)).await.expect("an empty disk");
    let store = Arc::new(store);
    let (ours, theirs) = (Caller::new(store.clone(), 1), Caller::new(store.clone(), 2));
    lead_for(&ours, 1).await;
    lead_for(&theirs, 1).await;
    let (before, values) = (backend.disk.rows(), 2 * BATCH_COUNTERS_MAX + 10);
    for value in 0..values {
        let limited = ask(1, often(), 1).scoped(value as u128);
        assert!(ours.consume(std::slice::from_ref(&limited), at(0)).await);
        if value % 2 == 0 {
            assert!(theirs.consume(&[limited], at(0)).await);
        }
    }
    ours.report(Report::of_cost(1), at(0)).await;
    backend.disk.hold_up();
    backend.disk.passes.add_permits(3);
    let writing = tokio::spawn({
        let store = store.clone();
        async move { store.checkpoint(false).await }
    });
    while saves(&backend) < 2 + 3 {
        tokio::task::yield_now().await;
    }
    let written = backend.disk.rows() - before;
    assert_eq!((backend.disk.position(), written), (Position(0), 3 * BATCH_COUNTERS_MAX));
    backend.disk.passes.add_permits(1);
    writing.await.expect("no panic").expect("the fake disk is well");
    let written = backend.disk.rows() - before;
    assert_eq!((backend.disk.position(), written), (Position(1), values + values.div_ceil(2)));
}

#[tokio::test]
async fn reservations_of_a_clean_stop_are_found_once() {
    let backend = MemoryBackend::default();
    let first = Caller::new(backend.load(at(0)).await, 1);
    let budget = ask(1, prepaid(1_000), 100);
    let open = first.reserve(std::slice::from_ref(&budget), at(0)).await.expect("there is room");
    first.store.checkpoint(true).await.expect("the fake disk is well");
    let second = Caller::new(backend.load(at(1)).await, 1);
    assert_eq!(second.reservation(&open.id).await, Some(open.clone()));
    let after_a_crash = Caller::new(backend.load(at(2)).await, 1);
    assert_eq!(after_a_crash.reservation(&open.id).await, None);
    assert_eq!(after_a_crash.held(&budget, at(2)).await, 300, "the whole ceiling, since nobody knows");
}

#[tokio::test]
async fn a_store_that_goes_on_after_its_clean_checkpoint_takes_the_reservations_back() {
    let backend = MemoryBackend::default();
    let caller = Caller::new(backend.load(at(0)).await, 1);
    let budget = ask(1, prepaid(1_000), 100);
    let open = caller.reserve(std::slice::from_ref(&budget), at(0)).await.expect("there is room");
    caller.store.checkpoint(true).await.expect("the fake disk is well");
    caller.release(&open.id, at(1)).await;
    caller.store.checkpoint(false).await.expect("the fake disk is well");
    let after_a_crash = Caller::new(backend.load(at(2)).await, 1);
    assert_eq!(after_a_crash.reservation(&open.id).await, None);
    assert_eq!(after_a_crash.held(&budget, at(2)).await, 0);
    assert!(backend.disk.counter(&caller.workspace, budget.charge.counter).is_some());
}

#[tokio::test]
async fn a_budget_is_not_dropped_while_a_crash_in_mid_round_would_settle_its_records_again() {
    let backend = MemoryBackend::default();
    let config = MemoryCounterStoreConfig::default();
    let store = MemoryCounterStore::load(backend.disk.clone(), config, at(0)).await.expect("an empty disk");
    let (store, budget) = (Arc::new(store), ask(1, prepaid(1_000), 0));
    let caller = Caller::new(store.clone(), 1);
    lead_for(&caller, 2).await;
    caller.report(Report::of_cost(70).charging(&budget, 70), at(0)).await;
    store.checkpoint(false).await.expect("the fake disk is well");
    let taken_back = caller.report(Report::of_cost(-70).charging(&budget, -70), at(1)).await;
    for value in 0..2 * BATCH_COUNTERS_MAX {
        assert!(caller.consume(&[ask(2, often(), 1).scoped(value as u128)], at(1)).await);
    }
    caller.sweep(at(2)).await;
    backend.disk.hold_up();
    backend.disk.passes.add_permits(2);
    let writing = tokio::spawn(async move { store.checkpoint(false).await });
    while saves(&backend) < 2 + 2 {
        tokio::task::yield_now().await;
    }
    writing.abort();
    assert!(writing.await.is_err_and(|error| error.is_cancelled()));
    assert_eq!(backend.disk.position(), Position(1), "two of three batches were written");
    backend.disk.passes.add_permits(1);
    let after_a_crash = Caller::new(backend.load(at(10)).await, 1);
    after_a_crash.store.settle(vec![taken_back]).await.expect("memory settles");
    assert_eq!(after_a_crash.used(&budget, at(11)).await, 0);
}
