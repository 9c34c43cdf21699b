//! Leases: taken in advance, spent by their holder, given back or forfeited.

use rateguard_core::counter::{Limit, Refill};
use rateguard_core::decision::Charge;
use rateguard_core::lease::{Lease, LeaseOutcome, LeaseRequest, LeaseReturn};
use rateguard_core::time::Millis;
use rateguard_engine::ports::LeaseCommand;

use super::CounterBackend;
use super::world::{Ask, Caller, MINUTE_MS, World, a_minute, an_hour, any_minute, ask, at, bucket, prepaid};

impl Caller {
    /// Takes a lease of a limit, as near to `asked` as there is.
    async fn lease(&self, ask: &Ask, asked: i64, now: Millis) -> Option<Lease> {
        let Charge { counter, overflow, limit, .. } = self.placed(ask.charge);
        let request = LeaseRequest { counter, overflow, limit, asked, least: 1 };
        self.exchange(Vec::new(), vec![request], now).await.first().and_then(|outcome| outcome.lease)
    }

    /// Ends leases.
    async fn end_leases(&self, returns: Vec<LeaseReturn>, now: Millis) {
        self.exchange(returns, Vec::new(), now).await;
    }

    async fn exchange(
        &self,
        returns: Vec<LeaseReturn>,
        requests: Vec<LeaseRequest>,
        now: Millis,
    ) -> Vec<LeaseOutcome> {
        let command = LeaseCommand { workspace: self.workspace.clone(), now, returns, requests };
        self.store.lease(&command).await.expect("a store that is well lends")
    }
}

/// Gives leases back whole.
async fn give_back(world: &Caller, lease: Lease, now: Millis) {
    let Lease { counter, mark, amount, .. } = lease;
    world.end_leases(vec![LeaseReturn { counter, mark, closed: amount, unused: amount }], now).await;
}

/// One of every algorithm that lends, `limit` each.
fn one_of_each(limit: i64) -> [Ask; 4] {
    [
        ask(1, a_minute(limit), 1),
        ask(2, any_minute(limit), 1),
        ask(3, bucket(limit, 1), 1),
        ask(4, an_hour(limit), 1),
    ]
}

/// What is lent is used, for everybody else.
pub async fn takes_what_it_lends_from_the_counter(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    for limited in one_of_each(32_000) {
        let lease = world.lease(&limited, 500, at(0)).await.expect("all of it is left");
        assert_eq!(lease.amount, 500);
        assert_eq!(lease.counter, world.placed(limited.charge).counter);
        assert_eq!(world.used(&limited, at(1)).await, 500);
        give_back(&world, lease, at(2)).await;
        assert_eq!(world.used(&limited, at(3)).await, 0);
    }
}

/// A lease is a small part of what is left, and near the limit there is none.
pub async fn lends_less_towards_the_limit_and_nothing_near_it(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    let limited = ask(1, a_minute(32_000), 1);
    let much = world.lease(&limited, 32_000, at(0)).await.expect("all of it is left");
    assert_eq!(much.amount, 31_750 / 16);
    let mut taken = much.amount;
    while let Some(lease) = world.lease(&limited, 32_000, at(1)).await {
        assert!(lease.amount <= (32_000 - taken) / 16);
        taken += lease.amount;
    }
    let left = 32_000 - taken;
    assert!((250..270).contains(&left), "{left} are for strict decisions");
    assert_eq!(world.lease(&ask(2, prepaid(1_000_000), 1), 10, at(1)).await, None, "money is never lent");
    assert_eq!(world.lease(&ask(3, a_minute(10), 1), 10, at(1)).await, None, "a small limit is not lent");
}

/// A lease lives no longer than the window, sub-window or second that it was taken in.
pub async fn lends_for_no_longer_than_it_counts(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    let lives = [(1, MINUTE_MS - 60 - 1), (2, 1_000 - 1 - 1), (3, 1_000), (4, 60 * MINUTE_MS - 3_600 - 1)];
    for (limited, (_, life_ms)) in one_of_each(32_000).iter().zip(lives) {
        let lease = world.lease(limited, 10, at(0)).await.expect("all of it is left");
        assert_eq!(lease.life_ms, life_ms);
    }
    let last_moment = world.lease(&ask(5, a_minute(32_000), 1), 10, at(MINUTE_MS - 1)).await;
    assert_eq!(last_moment, None, "a lease that dies at once is none");
}

/// What comes back after its window frees nothing of the next one.
pub async fn frees_nothing_of_the_next_window(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    for limited in one_of_each(32_000) {
        let lease = world.lease(&limited, 400, at(10)).await.expect("all of it is left");
        let later = at(90 * MINUTE_MS);
        assert!(world.consume(std::slice::from_ref(&limited), later).await);
        give_back(&world, lease, later).await;
        assert_eq!(world.used(&limited, later).await, 1);
    }
}

/// A bucket does not refill what a holder may still spend, and refills it once that has expired.
pub async fn refills_a_bucket_to_what_is_not_lent(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    let refill = Refill::new(10_000, 1_000, 10_000).expect("within bounds");
    let limited = ask(1, Limit::TokenBucket { capacity: 10_000, refill }, 1);
    let lease = world.lease(&limited, 600, at(0)).await.expect("it is full");
    assert_eq!(world.used(&limited, at(999)).await, 600, "its holder may spend it at its last moment");
    // It tells that it spent 500 and gives 100 back.
    let Lease { counter, mark, .. } = lease;
    world.end_leases(vec![LeaseReturn { counter, mark, closed: 600, unused: 100 }], at(999)).await;
    assert_eq!(world.used(&limited, at(999)).await, 500);
    assert_eq!(world.used(&limited, at(1_049)).await, 0);
    let crashed = world.lease(&limited, 600, at(2_000)).await.expect("it is full");
    assert_eq!(world.used(&limited, at(3_000)).await, 600);
    assert_eq!(world.used(&limited, at(4_500)).await, 0, "what a crash left lent is refilled in the end");
    give_back(&world, crashed, at(4_600)).await;
    assert_eq!(world.used(&limited, at(4_600)).await, 0);
}

/// Together with strict decisions nothing passes twice: what is lent and what is left is the limit.
pub async fn admits_beside_leases_what_they_leave(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    let limited = ask(1, any_minute(1_000), 7);
    let lease = world.lease(&limited, 1_000, at(0)).await.expect("all of it is left");
    let mut admitted = 0;
    while world.consume(std::slice::from_ref(&limited), at(1)).await {
        admitted += 7;
    }
    assert!((994..=1_000).contains(&(admitted + lease.amount)));
}

/// New values of a limit's scope are lent from its overflow counter once the workspace has too many.
pub async fn lends_from_the_shared_counter_beyond_the_bound(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    let limited = ask(1, a_minute(32_000), 1);
    let bound = backend.live_counters_max() as u128;
    for value in 0..bound {
        assert!(world.consume(&[limited.clone().scoped(value)], at(0)).await);
    }
    let lease = world.lease(&limited.clone().scoped(bound), 100, at(1)).await.expect("there is enough");
    assert_eq!(lease.counter, world.placed(limited.charge).overflow);
    assert_eq!(world.used(&limited.overflow(), at(1)).await, 100);
}
