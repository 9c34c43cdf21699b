//! Holders of leases on one shared store, on paused time.

mod engine;
mod never_over;
mod shared;

use rateguard_core::counter::{CounterId, Limit, Refill};
use tokio::time::advance;

use self::shared::{Fault, Shared, TestClock};
use super::*;
use crate::gate::COUNTERS_DEADLINE;
use crate::testing::workspace;

const MINUTE_MS: i64 = 60_000;

fn a_minute(limit: i64) -> Limit {
    Limit::FixedWindow { limit, window_ms: MINUTE_MS }
}

fn charge(counter: u128, limit: Limit, amount: i64) -> Charge {
    Charge {
        counter: CounterId(counter << 100 | counter),
        overflow: CounterId(u128::MAX),
        limit,
        demand: Demand::take(amount),
        enforcement: Enforcement::Enforced,
        counts_denied: false,
    }
}

/// A store with holders on it.
struct World {
    clock: Arc<TestClock>,
    store: Arc<Shared>,
}

impl World {
    fn new() -> Self {
        let clock = TestClock::start();
        Self { store: Shared::new(clock.clone()), clock }
    }

    fn holder(&self) -> Arc<Leases> {
        Leases::new(self.store.clone(), self.clock.clone(), COUNTERS_DEADLINE)
    }

    fn command(&self, mode: Mode, charges: &[Charge]) -> CheckCommand {
        CheckCommand {
            workspace: workspace(),
            now: self.clock.now(),
            mode,
            charges: charges.iter().copied().collect(),
            units: SmallVec::new(),
            request: None,
            reservation: None,
        }
    }

    async fn decide(&self, holder: &Arc<Leases>, mode: Mode, charges: &[Charge]) -> Decided {
        let all = SmallVec::from_elem(true, charges.len());
        decided_of(holder.check(&self.command(mode, charges), &all).await.expect("the store answers"))
    }

    async fn consume(&self, holder: &Arc<Leases>, charge: Charge) -> bool {
        self.decide(holder, Mode::Consume, &[charge]).await.verdict.allowed
    }

    /// How many calls in a row pass.
    async fn consume_all(&self, holder: &Arc<Leases>, charge: Charge) -> i64 {
        let mut admitted = 0;
        while self.consume(holder, charge).await {
            admitted += charge.demand.take;
        }
        admitted
    }

    fn checks(&self) -> u64 {
        self.store.checks.load(Ordering::SeqCst)
    }

    fn exchanges(&self) -> u64 {
        self.store.exchanges.load(Ordering::SeqCst)
    }

    fn used(&self, charge: &Charge) -> i128 {
        self.store.used(charge.counter, &charge.limit)
    }
}

fn decided_of(outcome: CheckOutcome) -> Decided {
    match outcome {
        CheckOutcome::Decided(decided) => decided,
        CheckOutcome::ContentDiffers => panic!("the id was used for other content"),
    }
}

fn request(id: u128, content: u64, clock: &TestClock) -> Option<RequestFingerprint> {
    Some(RequestFingerprint { id, content, attempt: None, expires_at: clock.now().plus(MINUTE_MS) })
}

/// Looks through everything that is held, as often as the background does in so many milliseconds.
async fn tend_for(world: &World, holders: &[Arc<Leases>], ms: u64) {
    for _ in 0..ms / 100 {
        advance(Duration::from_millis(100)).await;
        for holder in holders {
            holder.tend(world.clock.now());
        }
        settle().await;
    }
}

/// Lets workers come to rest.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}

#[tokio::test(start_paused = true)]
async fn however_many_wait_one_question_is_on_its_way() {
    let world = World::new();
    let holder = world.holder();
    let limited = charge(1, a_minute(100_000), 1);
    let calls = (0..64).map(|_| world.consume(&holder, limited));
    assert!(futures::future::join_all(calls).await.into_iter().all(|allowed| allowed));
    assert_eq!((world.checks(), world.exchanges()), (0, 1));
    for _ in 0..5_000 {
        assert!(world.consume(&holder, limited).await);
    }
    assert_eq!(world.checks(), 0);
    assert_eq!(world.store.at_once_most.load(Ordering::SeqCst), 1);
    assert!(world.exchanges() < 30, "{} questions for 5,064 calls", world.exchanges());
    assert_eq!(holder.figures().decided_here, 5_064);
}

#[tokio::test(start_paused = true)]
async fn answers_show_what_is_left_and_never_more_than_the_limit() {
    let world = World::new();
    let holder = world.holder();
    let limited = charge(1, a_minute(100_000), 10);
    let first = world.decide(&holder, Mode::Consume, &[limited]).await.verdict.readings[0];
    assert_eq!((first.used, first.remaining, first.denied), (10, 99_990, None));
    assert!(first.reset_at.is_some());
    let peeked = world.decide(&holder, Mode::Peek, &[limited]).await.verdict.readings[0];
    assert_eq!((peeked.used, peeked.remaining), (10, 99_990));
    let query = CounterQuery { counter: limited.counter, overflow: limited.overflow, limit: limited.limit };
    let mut read = world.store.read(&workspace(), &[query], world.clock.now()).await.unwrap();
    assert!(read[0].used > 10, "the shared counter counts what is held as used");
    holder.add_held(&[query], &SmallVec::from_elem(true, 1), &mut read);
    assert_eq!((read[0].used, read[0].remaining), (10, 99_990));
}

#[tokio::test(start_paused = true)]
async fn a_small_limit_is_the_shared_stores() {
    let world = World::new();
    let holder = world.holder();
    assert_eq!(world.consume_all(&holder, charge(1, a_minute(20), 1)).await, 20);
    assert_eq!((world.checks(), world.exchanges()), (21, 0));
}

#[tokio::test(start_paused = true)]
async fn a_call_over_both_kinds_takes_of_all_or_of_none() {
    let world = World::new();
    let holder = world.holder();
    let (leased, strict) = (charge(1, a_minute(100_000), 1), charge(2, a_minute(5), 1));
    let some = SmallVec::from_slice(&[true, false]);
    let mut admitted = 0;
    for _ in 0..20 {
        let command = world.command(Mode::Consume, &[leased, strict]);
        let decided = decided_of(holder.check(&command, &some).await.unwrap());
        assert_eq!(decided.verdict.readings.len(), 2);
        admitted += i64::from(decided.verdict.allowed);
        if !decided.verdict.allowed {
            assert_eq!(decided.verdict.readings[0].used, 5, "what was spent here is put back");
        }
        settle().await;
    }
    assert_eq!(admitted, 5);
    holder.close().await;
    assert_eq!((world.used(&leased), world.used(&strict)), (5, 5));
}

#[tokio::test(start_paused = true)]
async fn a_denial_by_one_of_two_leased_rules_puts_the_other_back() {
    let world = World::new();
    let holder = world.holder();
    let (wide, narrow) = (charge(1, a_minute(100_000), 1), charge(2, a_minute(1_000), 1));
    let mut admitted = 0;
    for _ in 0..3_000 {
        admitted += i64::from(world.decide(&holder, Mode::Consume, &[wide, narrow]).await.verdict.allowed);
    }
    assert_eq!(admitted, 1_000);
    settle().await;
    holder.close().await;
    assert_eq!((world.used(&wide), world.used(&narrow)), (1_000, 1_000));
}

#[tokio::test(start_paused = true)]
async fn what_was_denied_a_moment_ago_is_denied_without_asking_again() {
    let world = World::new();
    let holder = world.holder();
    let limited = charge(1, a_minute(1_000), 1);
    assert_eq!(world.consume_all(&holder, limited).await, 1_000);
    let before = world.checks() + world.exchanges();
    for _ in 0..200 {
        let denied = world.decide(&holder, Mode::Consume, &[limited]).await.verdict;
        assert!(!denied.allowed && denied.readings[0].denied.is_some());
    }
    assert_eq!(world.checks() + world.exchanges(), before, "no time has passed");
    advance(Duration::from_millis(251)).await;
    assert!(!world.consume(&holder, limited).await);
    assert_eq!(world.checks() + world.exchanges(), before + 1);
    let wait = world.decide(&holder, Mode::Consume, &[limited]).await.verdict.readings[0].denied;
    let Some(rateguard_core::counter::RetryAfter::Millis(wait_ms)) = wait else {
        panic!("it passes in time")
    };
    advance(Duration::from_millis(wait_ms.unsigned_abs())).await;
    assert!(world.consume(&holder, limited).await, "the hint is honest");
}

#[tokio::test(start_paused = true)]
async fn everything_goes_back_at_the_stop() {
    let world = World::new();
    let holder = world.holder();
    let refill = Refill::new(1, MINUTE_MS, 50_000).unwrap();
    let limits = [
        a_minute(50_000),
        Limit::SlidingWindow { limit: 50_000, window_ms: MINUTE_MS },
        Limit::TokenBucket { capacity: 50_000, refill },
    ];
    let charges: Vec<Charge> = (1..).zip(limits).map(|(number, limit)| charge(number, limit, 3)).collect();
    for limited in &charges {
        assert!(world.consume(&holder, *limited).await);
        assert!(world.used(limited) > 3);
    }
    holder.close().await;
    for limited in &charges {
        assert_eq!(world.used(limited), 3);
    }
    assert_eq!(holder.figures().units_forfeited, 0);
    assert!(world.consume(&holder, charges[0]).await, "from here on the shared store decides");
    assert_eq!(world.used(&charges[0]), 6);
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_is_gone_has_spent_its_lease_until_the_window_ends() {
    let world = World::new();
    let limited = charge(1, a_minute(10_000), 1);
    let crashed = world.holder();
    for _ in 0..100 {
        assert!(world.consume(&crashed, limited).await);
    }
    settle().await;
    let lost = crashed.figures().units_lent - 100;
    assert!(lost > 0);
    drop(crashed);
    let other = world.holder();
    assert_eq!(world.consume_all(&other, limited).await, 9_900 - i64::try_from(lost).unwrap());
    advance(Duration::from_millis(61_000)).await;
    assert_eq!(world.consume_all(&world.holder(), limited).await, 10_000);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_wants_here_goes_to_those_who_starve() {
    let world = World::new();
    let (idle, busy) = (world.holder(), world.holder());
    let limited = charge(1, a_minute(10_000), 1);
    for _ in 0..2_000 {
        assert!(world.consume(&idle, limited).await);
        advance(Duration::from_micros(200)).await;
    }
    settle().await;
    let held = i64::try_from(idle.figures().units_lent).unwrap() - 2_000;
    assert!(held > 100, "{held} are held ahead of use");
    let before = world.consume_all(&busy, limited).await;
    assert_eq!(before, 8_000 - held);
    tend_for(&world, std::slice::from_ref(&idle), 3_000).await;
    let after = world.consume_all(&busy, limited).await;
    assert!(after >= held - 20, "{after} of {held} went back");
}

#[tokio::test(start_paused = true)]
async fn a_call_is_not_denied_for_what_its_own_replica_holds() {
    let world = World::new();
    let (holder, other) = (world.holder(), world.holder());
    let limited = charge(1, a_minute(10_000), 1);
    assert!(world.consume(&holder, limited).await);
    let held = i64::try_from(holder.figures().units_lent).unwrap() - 1;
    assert_eq!(world.consume_all(&other, limited).await, 9_999 - held);
    let all = charge(1, a_minute(10_000), held);
    assert!(world.decide(&holder, Mode::Peek, &[all]).await.verdict.allowed);
    assert!(world.decide(&holder, Mode::Reserve, &[all]).await.verdict.allowed);
    assert_eq!(world.used(&limited), 10_000);
    assert!(!world.decide(&holder, Mode::Peek, &[limited]).await.verdict.allowed);
}

#[tokio::test(start_paused = true)]
async fn a_request_id_takes_once_where_it_was_decided() {
    let world = World::new();
    let holder = world.holder();
    let limited = charge(1, a_minute(100_000), 5);
    let leased = SmallVec::from_elem(true, 1);
    let mut command = world.command(Mode::Consume, &[limited]);
    command.request = request(7, 1, &world.clock);
    for repeated in [false, true, true] {
        let decided = decided_of(holder.check(&command, &leased).await.unwrap());
        assert!(decided.verdict.allowed);
        assert_eq!((decided.replayed, decided.verdict.readings[0].used), (repeated, 5));
    }
    command.request = request(7, 2, &world.clock);
    assert_eq!(holder.check(&command, &leased).await.unwrap(), CheckOutcome::ContentDiffers);
    advance(Duration::from_millis(60_000)).await;
    command.now = world.clock.now();
    assert!(!decided_of(holder.check(&command, &leased).await.unwrap()).replayed, "its time is over");
}

#[tokio::test(start_paused = true)]
async fn a_retry_of_what_may_have_been_decided_takes_once() {
    let world = World::new();
    let holder = world.holder();
    // One unit is left, near the limit: the shared store decides.
    let limited = charge(1, a_minute(1_000), 1);
    assert!(world.consume(&world.holder(), charge(1, a_minute(1_000), 998)).await);
    assert!(world.consume(&holder, limited).await);
    world.store.faults.lock().push_back(Fault::AnswerLost);
    let leased = SmallVec::from_elem(true, 1);
    let mut command = world.command(Mode::Consume, &[limited]);
    command.request = request(7, 1, &world.clock);
    let lost = holder.check(&command, &leased).await;
    assert!(matches!(lost, Err(StoreError::OutcomeUnknown { .. })), "{lost:?}");
    let decided = decided_of(holder.check(&command, &leased).await.unwrap());
    assert!(decided.verdict.allowed && decided.replayed);
    assert_eq!(world.used(&limited), 1_000);
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_costs_its_lease_and_nothing_else() {
    let world = World::new();
    let holder = world.holder();
    let limited = charge(1, a_minute(10_000), 1);
    world.store.faults.lock().push_back(Fault::AnswerLost);
    assert!(world.consume(&holder, limited).await, "without a lease the shared store decides");
    let lost = world.used(&limited) - 1;
    assert!(lost > 0);
    let admitted = 1 + world.consume_all(&holder, limited).await;
    assert_eq!(i128::from(admitted), 10_000 - lost);
}

#[tokio::test(start_paused = true)]
async fn what_could_surely_not_be_given_back_is_given_back_later() {
    let world = World::new();
    let holder = world.holder();
    let limited = charge(1, a_minute(10_000), 1);
    for _ in 0..500 {
        assert!(world.consume(&holder, limited).await);
    }
    settle().await;
    world.store.faults.lock().extend([Fault::Away; 3]);
    tend_for(&world, std::slice::from_ref(&holder), 5_000).await;
    let held = holder.figures().units_lent - holder.figures().units_returned - 500;
    assert_eq!(world.used(&limited), 500 + i128::from(held));
    assert!(held <= 20, "{held} are still held");
    assert_eq!(holder.figures().units_forfeited, 0);
}

#[tokio::test(start_paused = true)]
async fn counters_of_no_more_interest_are_dropped() {
    let world = World::new();
    let holder = world.holder();
    for number in 1..200 {
        assert!(world.consume(&holder, charge(number, a_minute(10_000), 1)).await);
    }
    assert_eq!(holder.figures().counters, 199);
    tend_for(&world, std::slice::from_ref(&holder), 130_000).await;
    assert_eq!(holder.figures().counters, 0);
}

#[tokio::test(start_paused = true)]
async fn what_a_bucket_lent_to_a_quiet_holder_goes_back() {
    let world = World::new();
    let holder = world.holder();
    let refill = Refill::new(1, 1_000, 100_000).unwrap();
    let limited = charge(1, Limit::TokenBucket { capacity: 100_000, refill }, 1);
    for _ in 0..12 {
        assert!(world.consume(&holder, limited).await);
        tend_for(&world, std::slice::from_ref(&holder), 5_000).await;
    }
    // A unit a second comes back: more than was used.
    assert!(world.used(&limited) <= 1, "{} are still out", world.used(&limited));
}
