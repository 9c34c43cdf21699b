use std::sync::atomic::Ordering;

use proptest::prelude::*;
use rateguard_core::decision::Mode;
use rateguard_core::reservation::Reservation;
use rateguard_engine::ports::{CheckOutcome, CounterStore, StoreError};
use rateguard_store_suite::counter_store::world::{Ask, Caller, Report, a_minute, ask, at, prepaid};

use crate::testing::MemoryBackend;

/// Turns that other tasks get before a test concludes that one of them waits.
const TURNS: usize = 1_000;

async fn let_others_work() {
    for _ in 0..TURNS {
        tokio::task::yield_now().await;
    }
}

async fn caller(backend: &MemoryBackend) -> Caller {
    Caller::new(backend.load(at(0)).await, 1)
}

fn ceiling(backend: &MemoryBackend, caller: &Caller, budget: &Ask) -> i128 {
    backend.disk.ceiling(&caller.workspace, budget.charge.counter)
}

fn saves(backend: &MemoryBackend) -> usize {
    backend.disk.saves.load(Ordering::SeqCst)
}

#[tokio::test]
async fn a_ceiling_stands_a_step_above_what_is_held() {
    let backend = MemoryBackend::default();
    let caller = caller(&backend).await;
    let (small, large) = (ask(1, prepaid(1_000), 100), ask(2, prepaid(1_000_000), 100));
    assert!(caller.reserve(&[small.clone(), large.clone()], at(0)).await.is_some());
    assert_eq!(ceiling(&backend, &caller, &small), 100 + 2 * 100);
    assert_eq!(ceiling(&backend, &caller, &large), 100 + 1_000_000 / 100);
    assert_eq!(saves(&backend), 1, "one write for both");
    assert!(caller.reserve(&[small.clone(), large], at(1)).await.is_some());
    assert_eq!(saves(&backend), 1, "the step was ahead of it");
}

#[tokio::test]
async fn a_hold_waits_for_its_ceiling_and_nobody_waits_for_the_hold() {
    let backend = MemoryBackend::default();
    let caller = caller(&backend).await;
    let budget = ask(1, prepaid(1_000), 100);
    let often = ask(2, a_minute(500), 1);
    assert!(caller.consume(std::slice::from_ref(&often), at(0)).await, "its lead is on disk from now on");
    backend.disk.hold_up();
    let waiting = tokio::spawn({
        let (caller, budget) = (caller.clone(), budget.clone());
        async move { caller.reserve(&[budget], at(0)).await }
    });
    let_others_work().await;
    assert!(!waiting.is_finished());
    assert_eq!(caller.held(&budget, at(0)).await, 0);
    assert!(caller.consume(&[often, budget.clone().probe()], at(0)).await);
    backend.disk.passes.add_permits(1);
    assert!(waiting.await.expect("no caller panics").is_some());
    assert_eq!(caller.held(&budget, at(0)).await, 100);
}

#[tokio::test]
async fn callers_who_wait_share_one_write() {
    let backend = MemoryBackend::default();
    let caller = caller(&backend).await;
    backend.disk.hold_up();
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let caller = caller.clone();
        waiting.spawn(async move { caller.reserve(&[ask(1, prepaid(1_000_000), 1_000)], at(0)).await });
    }
    let_others_work().await;
    backend.disk.passes.add_permits(64);
    while let Some(reserved) = waiting.join_next().await {
        assert!(reserved.expect("no caller panics").is_some());
    }
    assert_eq!(saves(&backend), 1, "who comes first writes for all");
}

#[tokio::test]
async fn nothing_is_held_when_the_ceiling_cannot_be_written() {
    let backend = MemoryBackend::default();
    let store = backend.load(at(0)).await;
    let caller = Caller::new(store.clone(), 1);
    let budget = ask(1, prepaid(1_000), 100);
    backend.disk.fails.store(true, Ordering::SeqCst);
    let refused = store.check(&caller.command(Mode::Reserve, std::slice::from_ref(&budget), at(0))).await;
    assert!(matches!(refused, Err(StoreError::Unavailable { .. })), "{refused:?}");
    assert_eq!(
        (caller.held(&budget, at(0)).await, store.health().await.expect("memory is read").live_counters),
        (0, 0)
    );
    backend.disk.fails.store(false, Ordering::SeqCst);
    assert!(caller.reserve(&[budget], at(0)).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_does_not_answer_is_waited_for_in_bounds() {
    let backend = MemoryBackend::default();
    let store = backend.load(at(0)).await;
    let caller = Caller::new(store.clone(), 1);
    backend.disk.hold_up();
    let refused = store.check(&caller.command(Mode::Reserve, &[ask(1, prepaid(1_000), 100)], at(0))).await;
    assert!(matches!(refused, Err(StoreError::Unavailable { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_denied_hold_writes_nothing() {
    let backend = MemoryBackend::default();
    let caller = caller(&backend).await;
    assert!(caller.reserve(&[ask(1, prepaid(1_000), 1_001)], at(0)).await.is_none());
    assert!(caller.reserve(&[ask(1, prepaid(1_000), 100), ask(2, a_minute(0), 1)], at(0)).await.is_none());
    let shadow = ask(3, prepaid(1_000), 1_001).shadow();
    assert!(caller.reserve(&[shadow], at(0)).await.is_some(), "a shadow that would deny holds nothing");
    assert_eq!(saves(&backend), 0);
}

#[tokio::test]
async fn a_shadow_that_would_allow_holds_under_a_ceiling_too() {
    let backend = MemoryBackend::default();
    let caller = caller(&backend).await;
    let shadow = ask(1, prepaid(1_000), 100).shadow();
    assert!(caller.reserve(std::slice::from_ref(&shadow), at(0)).await.is_some());
    assert_eq!(ceiling(&backend, &caller, &shadow), 300);
}

#[tokio::test]
async fn with_nothing_held_the_next_checkpoint_takes_the_ceiling_away() {
    let backend = MemoryBackend::default();
    let caller = caller(&backend).await;
    let budget = ask(1, prepaid(1_000), 100);
    let open = caller.reserve(std::slice::from_ref(&budget), at(0)).await.expect("there is room");
    caller.store.checkpoint(false).await.expect("the fake disk is well");
    assert_eq!(ceiling(&backend, &caller, &budget), 300);
    caller.release(&open.id, at(1)).await;
    caller.store.checkpoint(false).await.expect("the fake disk is well");
    assert_eq!(ceiling(&backend, &caller, &budget), 0);
    assert!(caller.reserve(std::slice::from_ref(&budget), at(2)).await.is_some());
    assert_eq!(ceiling(&backend, &caller, &budget), 300, "so the next hold raises it again");
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Reserve(i64),
    Release,
    Settle(i64),
    Checkpoint,
    BreakDisk,
    MendDisk,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1..300_i64).prop_map(Step::Reserve),
        2 => Just(Step::Release),
        2 => (0..400_i64).prop_map(Step::Settle),
        2 => Just(Step::Checkpoint),
        1 => Just(Step::BreakDisk),
        1 => Just(Step::MendDisk),
    ];
    proptest::collection::vec(step, 1..60)
}

async fn take(caller: &Caller, backend: &MemoryBackend, step: Step, open: &mut Vec<Reservation>) {
    let budget = |amount| ask(1, prepaid(5_000), amount);
    match step {
        Step::Reserve(amount) => {
            let reserved = caller.store.check(&caller.command(Mode::Reserve, &[budget(amount)], at(0))).await;
            if let Ok(CheckOutcome::Decided(decided)) = reserved
                && let Some((id, _)) = decided.reservation
            {
                open.extend(caller.reservation(&id).await);
            }
        }
        Step::Release => {
            if let Some(reservation) = open.pop() {
                caller.release(&reservation.id, at(0)).await;
            }
        }
        Step::Settle(cost) => {
            if let Some(reservation) = open.pop() {
                let report = Report::settling(&reservation, cost);
                caller.report(report.charging(&budget(0), cost), at(0)).await;
            }
        }
        // It fails while the disk is broken, which changes nothing.
        Step::Checkpoint => drop(caller.store.checkpoint(false).await),
        Step::BreakDisk => backend.disk.fails.store(true, Ordering::SeqCst),
        Step::MendDisk => backend.disk.fails.store(false, Ordering::SeqCst),
    }
}

proptest! {
    /// Whenever the process is killed, what is held is known to the disk.
    #[test]
    fn what_is_held_never_passes_the_ceiling_on_disk(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        runtime.expect("a runtime starts").block_on(async {
            let backend = MemoryBackend::default();
            let (caller, mut open) = (caller(&backend).await, Vec::new());
            let budget = ask(1, prepaid(5_000), 0);
            for step in steps {
                take(&caller, &backend, step, &mut open).await;
                let held = caller.held(&budget, at(0)).await;
                let ceiling = ceiling(&backend, &caller, &budget);
                prop_assert!(held <= ceiling, "{held} held under a ceiling of {ceiling} after {step:?}");
            }
            Ok(())
        })?;
    }
}

#[test]
fn a_ceiling_is_the_larger_of_the_two_steps() {
    assert_eq!(super::ceiling_for(100, &prepaid(1_000)), 300);
    assert_eq!(super::ceiling_for(1, &prepaid(1_000)), 11);
    assert_eq!(super::ceiling_for(0, &prepaid(0)), 0);
}

/// Callers that hold and give back while checkpoints take ceilings away, all at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_open_hold_is_under_a_ceiling_on_disk_whatever_happens_at_once() {
    let backend = MemoryBackend::default();
    let caller = caller(&backend).await;
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (caller, disk) = (caller.clone(), backend.disk.clone());
        workers.spawn(async move {
            for turn in 0..300 {
                let budget = ask(1, prepaid(1_000), 100);
                let open =
                    caller.reserve(std::slice::from_ref(&budget), at(turn)).await.expect("there is room");
                tokio::task::yield_now().await;
                assert!(disk.ceiling(&caller.workspace, budget.charge.counter) >= 100);
                caller.release(&open.id, at(turn)).await;
            }
        });
    }
    let checkpoints = tokio::spawn({
        let store = caller.store.clone();
        async move {
            loop {
                store.checkpoint(false).await.expect("the fake disk is well");
                tokio::task::yield_now().await;
            }
        }
    });
    while let Some(worker) = workers.join_next().await {
        worker.expect("every hold is under its ceiling");
    }
    checkpoints.abort();
    assert!(checkpoints.await.is_err_and(|error| error.is_cancelled()));
    caller.store.checkpoint(false).await.expect("the fake disk is well");
    assert_eq!(ceiling(&backend, &caller, &ask(1, prepaid(1_000), 0)), 0);
}
