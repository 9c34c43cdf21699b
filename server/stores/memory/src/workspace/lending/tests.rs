use rateguard_core::decision::Charge;
use rateguard_core::lease::{LeaseOutcome, LeaseRequest};
use rateguard_core::time::Millis;
use rateguard_engine::ports::{LeaseCommand, StoreError};
use rateguard_store_suite::counter_store::Stop;
use rateguard_store_suite::counter_store::world::{
    Ask, Caller, World, a_minute, an_hour, any_minute, ask, at, bucket,
};

use crate::testing::MemoryBackend;

const LENT: i64 = 500;

async fn lend(caller: &Caller, limited: &Ask, now: Millis) -> Result<Vec<LeaseOutcome>, StoreError> {
    let Charge { counter, overflow, limit, .. } = limited.charge;
    let request = LeaseRequest { counter, overflow, limit, asked: LENT, least: LENT };
    let workspace = caller.workspace.clone();
    let command = LeaseCommand { workspace, now, returns: Vec::new(), requests: vec![request] };
    caller.store.lease(&command).await
}

#[tokio::test]
async fn what_is_lent_outlives_a_crash_of_the_server_that_lent_it() {
    let limits = [a_minute(32_000), any_minute(32_000), an_hour(32_000), bucket(32_000, 1)];
    for (number, limit) in limits.into_iter().enumerate() {
        let backend = MemoryBackend::default();
        let mut world = World::open(&backend).await;
        let limited = ask(u8::try_from(number + 1).expect("few limits"), limit, 1);
        assert!(lend(&world, &limited, at(0)).await.expect("the disk is well")[0].lease.is_some());
        world.reopen(Stop::Crash, at(10)).await;
        assert!(world.used(&limited, at(11)).await >= i128::from(LENT), "{limit:?}");
    }
}

#[tokio::test]
async fn a_bucket_does_not_refill_after_a_crash_what_a_holder_still_has() {
    let backend = MemoryBackend::default();
    let mut world = World::open(&backend).await;
    // It would be full again within a second.
    let limited = ask(1, bucket(32_000, 60 * 32_000), 1);
    // The lead of the first lease covers the second, which is on disk all the same.
    for ms in [0, 1] {
        assert!(lend(&world, &limited, at(ms)).await.expect("the disk is well")[0].lease.is_some());
    }
    world.reopen(Stop::Crash, at(10)).await;
    assert!(world.used(&limited, at(999)).await >= i128::from(2 * LENT));
    assert_eq!(world.used(&limited, at(10_000)).await, 0, "and then it does");
}

#[tokio::test]
async fn a_lease_that_is_not_written_down_is_not_told_of() {
    let backend = MemoryBackend::default();
    let caller = Caller::new(backend.load(at(0)).await, 1);
    backend.disk.fails.store(true, std::sync::atomic::Ordering::SeqCst);
    for limited in [ask(1, a_minute(32_000), 1), ask(2, bucket(32_000, 1), 1)] {
        let refused = lend(&caller, &limited, at(0)).await;
        assert!(matches!(refused, Err(StoreError::OutcomeUnknown { .. })), "{refused:?}");
    }
}
