//! Replicas that decide by their share of a limit.

use std::collections::BTreeMap;

use rateguard_core::counter::Refill;

use super::*;
use crate::report::RecordOutcome;
use crate::testing::record;

/// Of each window: what the counters admitted, and what replicas admitted alone.
type Admitted = BTreeMap<i64, [i64; 2]>;

fn share(number: u8, size: i64, share_percent: u8, replicas_max: u16) -> Resource {
    Resource::Rule(rule_of(number, size, FailurePolicy::Local { share_percent, replicas_max }))
}

impl World {
    /// Everybody takes what they get.
    async fn take_all(&self, admitted: &mut Admitted) {
        for replica in &self.replicas {
            loop {
                let answer = replica.engine.check(&caller(), &request(Mode::Consume, None)).await.unwrap();
                if !answer.allowed {
                    break;
                }
                let by_whom = usize::from(answer.degraded.is_some());
                admitted.entry(self.clock.now().get() / WINDOW_MS).or_default()[by_whom] += 1;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_counters_admit_the_limit_without_its_share_and_say_so() {
    let world = World::with(vec![share(1, 10, 30, 1)]).await;
    let mut admitted = Admitted::new();
    world.take_all(&mut admitted).await;
    assert_eq!(admitted.values().copied().collect::<Vec<_>>(), [[7, 0]]);
    let shown = world.engine().quota(&caller(), &Call::default()).await.unwrap().remove(0);
    assert_eq!((shown.limit.size(), shown.reading.remaining), (7, 0));
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_reported_is_held_against_the_limit_without_its_share_too() {
    let refill = Refill::new(10, 1_000, 100).unwrap();
    let policy = FailurePolicy::Local { share_percent: 40, replicas_max: 2 };
    let bucket = Algorithm::TokenBucket { capacity: 100, refill };
    let world =
        World::with(vec![Resource::Rule(Rule { algorithm: bucket, ..rule_of(1, 100, policy) })]).await;
    let reported = world.engine().report(&caller(), vec![record("one", 5)]).await.unwrap();
    assert!(matches!(reported[..], [RecordOutcome::Accepted { .. }]), "{reported:?}");
    let without_share = Limit::TokenBucket { capacity: 100, refill }.without_share(40);
    assert_eq!(world.counters.settled_limits(), [without_share]);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn shares_and_counters_together_never_admit_more_than_the_limit_over_window_edges() {
    let world = World::start(3, vec![share(1, 100, 40, 2)]).await;
    let mut admitted = Admitted::new();
    // Down and up at every place of a window: half of one is no multiple of this.
    for step in 0..200 {
        let road = [Road::Fine, Road::Fine, Road::Closed, Road::LosesAnswers, Road::LosesCalls];
        world.counters.set_road(road[(step / 7) % road.len()]);
        world.take_all(&mut admitted).await;
        world.pass(Duration::from_millis(777)).await;
    }
    for (window, [by_counters, alone]) in &admitted {
        assert!(by_counters + alone <= 100, "{window}: {by_counters} and {alone}");
        assert!(*by_counters <= 60 && *alone <= 40, "{window}: {by_counters} and {alone}");
    }
    assert!(admitted.values().any(|[by_counters, alone]| *by_counters == 60 && *alone == 40));
    assert!(admitted.values().any(|[by_counters, alone]| *by_counters == 0 && *alone == 40));
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_replica_admits_nothing_alone_in_the_window_in_which_it_took_its_slot() {
    let world = World::with(vec![share(1, 10, 50, 1)]).await;
    world.pass(Duration::from_millis(10)).await;
    world.counters.set_road(Road::Closed);
    let early = world.consume().await;
    assert_eq!((early.allowed, early.degraded), (false, Some(Degraded::Local)));
    assert_eq!(early.retry_after_ms, Some(1_000));
    world.pass(Duration::from_millis(9_991)).await;
    let mut admitted = Admitted::new();
    world.take_all(&mut admitted).await;
    assert_eq!(admitted.values().copied().collect::<Vec<_>>(), [[0, 5]]);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_slot_is_used_for_its_life_and_no_longer() {
    let world = World::with(vec![share(1, 10, 50, 1)]).await;
    world.pass(Duration::from_secs(20)).await;
    world.counters.set_road(Road::Closed);
    world.pass(Duration::from_secs(9 * 60)).await;
    assert!(world.consume().await.allowed);
    world.pass(Duration::from_secs(2 * 60)).await;
    let late = world.consume().await;
    assert_eq!((late.allowed, late.degraded), (false, Some(Degraded::Local)));
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_repetition_takes_once_of_a_share_and_other_content_is_refused() {
    let world = World::with(vec![share(1, 10, 50, 1)]).await;
    world.pass(Duration::from_secs(20)).await;
    world.counters.set_road(Road::Closed);
    let first = world.check(Mode::Consume, Some("once")).await;
    let again = world.check(Mode::Consume, Some("once")).await;
    assert_eq!((first.replayed, again.replayed, again.allowed), (false, true, true));
    assert_eq!(again.limits[0].reading.remaining, 4);
    let other = request(Mode::Consume, Some("once"));
    let other = CheckRequest { call: Call { method: "PUT".to_owned(), ..Call::default() }, ..other };
    let refused = world.engine().check(&caller(), &other).await.unwrap_err();
    assert_eq!(refused.reason, Reason::RequestIdReused);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn all_shares_are_taken_of_or_none() {
    let world = World::with(vec![share(1, 10, 50, 1), share(2, 6, 50, 1)]).await;
    world.pass(Duration::from_secs(20)).await;
    world.counters.set_road(Road::Closed);
    let mut admitted = Admitted::new();
    world.take_all(&mut admitted).await;
    assert_eq!(admitted.values().copied().collect::<Vec<_>>(), [[0, 3]]);
    let full = world.check(Mode::Peek, None).await;
    let remaining: Vec<i64> = full.limits.iter().map(|status| status.reading.remaining).collect();
    assert_eq!((full.allowed, remaining), (false, vec![0, 2]), "by falling priority");
    world.stop().await;
}
