//! Leases of callers on counters that are elsewhere and fail.

use std::sync::atomic::Ordering;
use std::time::Duration;

use rateguard_core::ids::{DisplayName, RuleId};
use rateguard_core::limits::CALLER_LEASES_PER_WORKSPACE_MAX;
use rateguard_core::matching::{Match, Scope};
use rateguard_core::rule::{Algorithm, Consistency, Rule, RulePolicies};

use super::*;
use crate::check::tests::World;
use crate::ports::Resource;
use crate::testing::{Road, caller};

const LIMIT: i64 = 10_000;

async fn world() -> World {
    let rule = Rule {
        id: RuleId::from_random([1; 16]),
        name: DisplayName::parse("name", "leased").unwrap(),
        matches: Match::default(),
        scope: Scope::default(),
        unit: Unit::Requests,
        algorithm: Algorithm::FixedWindow { limit: LIMIT, window_ms: 60_000 },
        enforcement: Enforcement::Enforced,
        priority: 0,
        override_group: None,
        overrides: Vec::new(),
        last_reset_at: None,
        policies: RulePolicies { consistency: Consistency::Leased, ..RulePolicies::default() },
        active: true,
    };
    World::start(1, vec![Resource::Rule(rule)]).await
}

fn question(amount: i64) -> LeaseQuestion {
    let wish = Wish { unit: Unit::Requests, amount, least: 1 };
    LeaseQuestion { request_id: None, call: Call::default(), wishes: vec![wish], ended: Vec::new() }
}

fn requests(amount: i64) -> Amounts {
    let mut amounts = Amounts::default();
    amounts.insert("amount", Unit::Requests, amount).unwrap();
    amounts
}

fn used(world: &World) -> i128 {
    let limit = Limit::FixedWindow { limit: LIMIT, window_ms: 60_000 };
    world.counters.used(&limit, world.engine().now())
}

async fn leased(world: &World, amount: i64) -> LeaseId {
    let answer = world.engine().lease_quota(&caller(), &question(amount)).await.unwrap();
    answer.lease.unwrap().id
}

#[tokio::test(start_paused = true)]
async fn what_was_surely_not_given_back_can_be_given_back_again() {
    let world = world().await;
    let id = leased(&world, 500).await;
    world.counters.set_road(Road::Closed);
    let error = world.engine().return_lease(&caller(), &id, &requests(400)).await.unwrap_err();
    assert_eq!(error.reason, Reason::StoreUnavailable);
    world.counters.set_road(Road::Fine);
    world.pass(Duration::from_secs(3)).await;
    let returned = world.engine().return_lease(&caller(), &id, &requests(400)).await.unwrap();
    assert_eq!((returned, used(&world)), (requests(400), 100));
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_perhaps_given_back_is_not_given_back_again() {
    for (road, left) in [(Road::LosesCalls, 500), (Road::LosesAnswers, 100)] {
        let world = world().await;
        let id = leased(&world, 500).await;
        world.counters.set_road(road);
        let error = world.engine().return_lease(&caller(), &id, &requests(400)).await.unwrap_err();
        assert_eq!(error.reason, Reason::OutcomeUnknown);
        world.counters.set_road(Road::Fine);
        world.pass(Duration::from_secs(3)).await;
        let returned = world.engine().return_lease(&caller(), &id, &requests(400)).await.unwrap();
        assert_eq!((returned, used(&world)), (Amounts::default(), left));
        world.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn leases_that_ended_with_a_question_that_was_not_answered_end_again() {
    let world = world().await;
    let id = leased(&world, 500).await;
    let next = LeaseQuestion { ended: vec![(id, requests(450))], ..question(10) };
    world.counters.set_road(Road::Closed);
    let error = world.engine().lease_quota(&caller(), &next).await.unwrap_err();
    assert_eq!(error.reason, Reason::StoreUnavailable);
    world.counters.set_road(Road::Fine);
    world.pass(Duration::from_secs(3)).await;
    world.engine().lease_quota(&caller(), &next).await.unwrap();
    assert_eq!(used(&world), 50 + 10);
    world.stop().await;
}

#[test]
fn two_answers_to_the_same_question_at_the_same_time_are_one_lease() {
    let (book, now) = (CallersLeases::default(), Millis::new(1_000));
    let record = |number| {
        let id = LeaseId::from_random([number; 16]);
        let lease = CallersLease { id: id.clone(), granted: requests(5), life_ms: 100 };
        let grant = Grant { granted: requests(5), parts: SmallVec::new(), life_ms: 100 };
        (id, Record::new(&caller(), Some((7, 7)), &lease, grant, now))
    };
    let ((first, kept), (second, superfluous)) = (record(1), record(2));
    assert!(book.insert(&first, kept, now).is_none());
    let (earlier, _) = book.insert(&second, superfluous, now).unwrap();
    assert_eq!(earlier.id, first);
    assert_eq!(book.end(&caller(), &second, &requests(1), now).unwrap_err().reason, Reason::ResourceNotFound);
}

#[tokio::test(start_paused = true)]
async fn a_workspace_has_so_many_leases_until_they_are_forgotten() {
    let world = World::start(1, Vec::new()).await;
    for _ in 0..CALLER_LEASES_PER_WORKSPACE_MAX {
        leased(&world, 1).await;
    }
    let calls = world.counters.calls.load(Ordering::SeqCst);
    let error = world.engine().lease_quota(&caller(), &question(1)).await.unwrap_err();
    assert_eq!(error.reason, Reason::QueueFull);
    assert_eq!(world.counters.calls.load(Ordering::SeqCst), calls, "nothing was asked for it");
    world.pass(Duration::from_secs(22)).await;
    leased(&world, 1).await;
    world.stop().await;
}
