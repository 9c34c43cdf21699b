//! Rules that are spread: what stands in a shard, what beside it, and what becomes of a call between the two.
//! What all stores promise holds of them, too: see the suite.

use rateguard_core::counter::{Limit, Shard};
use rateguard_core::decision::Mode;
use rateguard_core::ids::WorkspaceId;
use rateguard_engine::ports::{
    Attempt, CancelOutcome, CheckCommand, CheckOutcome, CounterStore, RequestFingerprint, StoreError,
};
use rateguard_store_suite::counter_store::CounterBackend;
use rateguard_store_suite::counter_store::world::{
    Ask, MINUTE_MS, Report, World, a_minute, ask, at, prepaid, request,
};
use rateguard_test_servers::RedisServer;

use crate::backend::RedisBackend;

/// A limit that is spread, and one beside it.
fn both(spread: i64, beside: i64) -> [Ask; 2] {
    [ask(1, a_minute(spread), 3), ask(2, a_minute(beside), 3)]
}

async fn used(world: &World<'_>, limited: &[Ask; 2]) -> [i128; 2] {
    [world.used(&limited[0], at(9)).await, world.used(&limited[1], at(9)).await]
}

fn attempt(world: &World<'_>, limited: &[Ask], number: u32) -> CheckCommand {
    let request = RequestFingerprint { attempt: Some(Attempt(number)), ..request(1, 1) };
    CheckCommand { request: Some(request), ..world.command(Mode::Consume, limited, at(0)) }
}

/// The name of the shard that a limit's counter stands in.
fn shard_name(world: &World<'_>, spread: &Ask) -> WorkspaceId {
    world.workspace.shard(shard_of(&world.command(Mode::Peek, std::slice::from_ref(spread), at(0))))
}

fn shard_of(command: &CheckCommand) -> Shard {
    command.charges.iter().find_map(|charge| charge.counter.shard()).expect("one is spread")
}

/// The part of a command that stands in its shard, as that alone would be sent there.
fn in_shard(command: &CheckCommand) -> CheckCommand {
    let mut part = command.clone();
    part.workspace = command.workspace.shard(shard_of(command));
    part.charges.retain(|charge| charge.counter.shard().is_some());
    part
}

async fn keys(backend: &RedisBackend, of: &WorkspaceId) -> String {
    let server = RedisServer::shared().await.expect("a Redis can be started");
    let listed = server.ask(&["KEYS", &format!("{}:{{{of}}}:*", backend.prefix())]).await;
    listed.expect("a Redis that is well lists its keys")
}

#[tokio::test]
async fn what_is_spread_has_keys_of_its_own() {
    let backend = RedisBackend::alone().spread();
    let world = World::open(&backend).await;
    let [spread, beside] = both(10, 10);
    assert!(world.consume(std::slice::from_ref(&beside), at(0)).await);
    let shard = shard_name(&world, &spread);
    assert_eq!(keys(&backend, &shard).await.trim(), "");
    assert!(world.consume(&[spread, beside], at(0)).await);
    let listed = keys(&backend, &shard).await;
    assert!(listed.lines().any(|key| key.ends_with(":c")), "{listed}");
    let server = RedisServer::shared().await.unwrap();
    for key in listed.lines() {
        assert_ne!(server.ask(&["PTTL", key]).await.unwrap().trim(), "-1", "{key} never expires");
    }
}

#[tokio::test]
async fn what_a_shard_took_is_given_back_where_the_rest_fails() {
    let backend = RedisBackend::alone().spread();
    let world = World::open(&backend).await;
    let (limited, server) = (both(10, 10), RedisServer::shared().await.unwrap());
    assert!(world.consume(&limited, at(0)).await);
    // What is beside the shard is damaged for a while.
    let key = format!("{}:{{{}}}:c", backend.prefix(), world.workspace);
    server.ask(&["RENAME", &key, &format!("{key}aside")]).await.unwrap();
    server.ask(&["SET", &key, "no counters"]).await.unwrap();
    let failed = world.store.check(&world.command(Mode::Consume, &limited, at(1))).await;
    assert!(matches!(failed, Err(StoreError::Corrupt { .. })), "{failed:?}");
    server.ask(&["RENAME", &format!("{key}aside"), &key]).await.unwrap();
    assert_eq!(used(&world, &limited).await, [3, 3]);
}

#[tokio::test]
async fn an_attempt_that_reached_its_shard_alone_is_completed_by_the_next() {
    let backend = RedisBackend::alone().spread();
    let world = World::open(&backend).await;
    let limited = both(10, 10);
    let (first, second) = (attempt(&world, &limited, 1), attempt(&world, &limited, 2));
    let alone = backend.beneath().await.check(&in_shard(&first)).await;
    assert!(matches!(alone, Ok(CheckOutcome::Decided(decided)) if decided.verdict.allowed));
    assert_eq!(used(&world, &limited).await, [3, 0]);
    assert!(world.decide(second.clone()).await.verdict.allowed);
    assert_eq!(used(&world, &limited).await, [3, 3], "only what was missing is taken");
    assert_eq!(world.store.cancel(&first, at(1)).await, Ok(CancelOutcome::Undone));
    assert_eq!(used(&world, &limited).await, [3, 3], "another attempt was answered with it");
    assert_eq!(world.store.cancel(&second, at(1)).await, Ok(CancelOutcome::Undone));
    assert_eq!(used(&world, &limited).await, [0, 0]);
}

#[tokio::test]
async fn an_attempt_that_reached_its_shard_alone_is_undone() {
    let backend = RedisBackend::alone().spread();
    let world = World::open(&backend).await;
    let limited = both(10, 10);
    let first = attempt(&world, &limited, 1);
    assert!(backend.beneath().await.check(&in_shard(&first)).await.is_ok());
    assert_eq!(world.store.cancel(&first, at(1)).await, Ok(CancelOutcome::Undone));
    assert_eq!(used(&world, &limited).await, [0, 0]);
    let late = world.store.check(&first).await;
    assert!(matches!(late, Err(StoreError::AttemptRefused { .. })), "it arrives too late: {late:?}");
}

#[tokio::test]
async fn a_denial_beside_the_shard_counts_in_it_what_counts_denied_amounts() {
    let backend = RedisBackend::alone().spread();
    let world = World::open(&backend).await;
    let counting = [ask(1, a_minute(10), 3).counting_denied(), ask(2, a_minute(2), 3)];
    assert!(!world.consume(&counting, at(0)).await);
    assert_eq!(used(&world, &counting).await, [3, 0]);
    let counting = [ask(3, a_minute(2), 3), ask(4, a_minute(10), 3).counting_denied()];
    assert!(!world.consume(&counting, at(0)).await);
    assert_eq!(used(&world, &counting).await, [0, 3]);
}

#[tokio::test]
async fn a_report_on_a_reservation_charges_a_shard_only_for_what_it_holds_there() {
    let backend = RedisBackend::alone().spread();
    let world = World::open(&backend).await;
    let [spread, beside] = both(10, 10);
    let unit = spread.unit.clone();
    let held = world.reserve(&[spread.clone(), beside.clone()], at(0)).await.expect("there is room");
    let mut others = [ask(3, a_minute(10), 1), ask(1, a_minute(10), 1).scoped(1)];
    let bob = world.on_behalf_of("bob");
    others[1].charge = bob.placed(others[1].charge);
    assert_ne!(others[1].charge.counter.shard(), world.placed(others[0].charge).counter.shard());
    let report = Report::settling(&held, 0).used(unit, 5).charging(&spread, 5).charging(&beside, 5);
    world.report(report.charging(&others[0], 5).charging(&others[1], 5), at(1)).await;
    assert_eq!(used(&world, &[spread, beside]).await, [5, 5]);
    for other in others {
        assert_eq!(world.used(&other, at(1)).await, 0, "it was not among what was reserved");
    }
}

#[tokio::test]
async fn a_report_counts_in_full_in_a_shard_that_lost_the_reservation() {
    let backend = RedisBackend::alone().spread();
    let world = World::open(&backend).await;
    let day = Limit::FixedWindow { limit: 100, window_ms: 86_400_000 };
    let [spread, beside] = [ask(1, day, 3), ask(2, day, 3)];
    let held = world.reserve(&[spread.clone(), beside.clone()], at(0)).await.expect("there is room");
    let server = RedisServer::shared().await.unwrap();
    for key in keys(&backend, &shard_name(&world, &spread)).await.lines() {
        server.ask(&["DEL", key]).await.unwrap();
    }
    let report = Report::settling(&held, 0).used(spread.unit.clone(), 5);
    world.report(report.charging(&spread, 5).charging(&beside, 5), at(1)).await;
    assert_eq!(used(&world, &[spread, beside]).await, [5, 5]);
}

#[tokio::test]
async fn a_denial_stands_where_the_rest_cannot_be_told_of_it() {
    let backend = RedisBackend::alone().spread();
    let world = World::open(&backend).await;
    let (limited, server) = (both(2, 10), RedisServer::shared().await.unwrap());
    let key = format!("{}:{{{}}}:c", backend.prefix(), world.workspace);
    server.ask(&["SET", &key, "no counters"]).await.unwrap();
    assert!(!world.consume(&limited, at(0)).await);
    server.ask(&["DEL", &key]).await.unwrap();
    assert_eq!(used(&world, &limited).await, [0, 0]);
}

/// Where a limit was spread after the decision, that stands as it was taken.
#[tokio::test]
async fn a_repeated_reservation_holds_nothing_in_a_shard_that_its_id_does_not_tell() {
    let backend = RedisBackend::alone().spread();
    let world = World::open(&backend).await;
    let [spread, beside] = both(10, 10);
    let reserve = |limited: &[Ask], number| {
        let request = RequestFingerprint { attempt: Some(Attempt(number)), ..request(1, 1) };
        CheckCommand { request: Some(request), ..world.command(Mode::Reserve, limited, at(0)) }
    };
    let first =
        world.decide(reserve(std::slice::from_ref(&beside), 10)).await.reservation.expect("there is room");
    let again = reserve(&[spread.clone(), beside.clone()], 20);
    let again = world.decide(again).await;
    assert_eq!(again.reservation.as_ref(), Some(&first));
    assert!(again.replayed);
    assert_eq!(used(&world, &[spread.clone(), beside.clone()]).await, [0, 3]);
    world.release(&first.0, at(1)).await;
    assert_eq!(used(&world, &[spread, beside]).await, [0, 0]);
}

/// A shard that has forgotten what it held holds it again, under the same reservation.
#[tokio::test]
async fn a_repeated_reservation_holds_again_where_its_shard_forgot_it() {
    let backend = RedisBackend::alone().spread();
    let world = World::open(&backend).await;
    let day = Limit::FixedWindow { limit: 100, window_ms: 86_400_000 };
    let limited = [ask(1, day, 3), ask(2, day, 3)];
    let reserve = |number| {
        let request = RequestFingerprint { attempt: Some(Attempt(number)), ..request(1, 1) };
        CheckCommand { request: Some(request), ..world.command(Mode::Reserve, &limited, at(0)) }
    };
    let first = world.decide(reserve(10)).await.reservation.expect("there is room");
    let server = RedisServer::shared().await.unwrap();
    for key in keys(&backend, &shard_name(&world, &limited[0])).await.lines() {
        server.ask(&["DEL", key]).await.unwrap();
    }
    assert_eq!(world.decide(reserve(20)).await.reservation, Some(first.clone()));
    assert_eq!(used(&world, &limited).await, [3, 3]);
    world.release(&first.0, at(1)).await;
    assert_eq!(used(&world, &limited).await, [0, 0], "nothing is held under another id");
}

/// Whoever is not told an earlier answer is none of those who were.
#[tokio::test]
async fn a_recall_that_one_place_cannot_answer_keeps_nobody_from_being_undone() {
    let backend = RedisBackend::alone().spread();
    let world = World::open(&backend).await;
    let (limited, server) = (both(10, 10), RedisServer::shared().await.unwrap());
    let [first, again] = [1, 2].map(|number| attempt(&world, &limited, number));
    assert!(world.decide(first.clone()).await.verdict.allowed);
    let id = first.request.unwrap().id;
    // What is beside the shard does not know the id for a while.
    let ids = keys(&backend, &world.workspace).await;
    let ids: Vec<&str> = ids.lines().filter(|key| !key.ends_with(":c")).collect();
    assert!(!ids.is_empty(), "nothing keeps {id}");
    for key in &ids {
        server.ask(&["RENAME", key, &format!("{key}aside")]).await.unwrap();
    }
    assert_eq!(world.store.recall(&again).await, Ok(None));
    for key in &ids {
        server.ask(&["RENAME", &format!("{key}aside"), key]).await.unwrap();
    }
    assert_eq!(world.store.cancel(&first, at(1)).await, Ok(CancelOutcome::Undone));
    assert_eq!(used(&world, &limited).await, [0, 0]);
}

/// A shard that is asked again, to hold under the reservation of an earlier attempt, gives that back as well.
#[tokio::test]
async fn an_attempt_that_followed_an_earlier_reservation_is_undone_whole() {
    let backend = RedisBackend::alone().spread();
    let world = World::open(&backend).await;
    let limited = both(10, 10);
    let [first, second] = [10, 20].map(|number| {
        let request = RequestFingerprint { attempt: Some(Attempt(number)), ..request(1, 1) };
        CheckCommand { request: Some(request), ..world.command(Mode::Reserve, &limited, at(0)) }
    });
    let mut beside = first.clone();
    beside.charges.retain(|charge| charge.counter.shard().is_none());
    assert!(backend.beneath().await.check(&beside).await.is_ok());
    let held = |command: &CheckCommand| command.reservation.as_ref().map(|made| made.id.clone());
    let followed = world.decide(second.clone()).await.reservation;
    assert_eq!(followed.map(|(id, _)| id), held(&first));
    assert_eq!(used(&world, &limited).await, [3, 3]);
    for attempt in [&second, &first] {
        assert_eq!(world.store.cancel(attempt, at(1)).await, Ok(CancelOutcome::Undone));
    }
    assert_eq!(used(&world, &limited).await, [0, 0]);
}

/// While one attempt is being undone and another holds already, nobody can say which reservation stands.
#[tokio::test]
async fn a_recall_of_places_that_hold_under_different_reservations_tells_nothing() {
    let backend = RedisBackend::alone().spread();
    let world = World::open(&backend).await;
    let limited = both(10, 10);
    let reserve = |number| {
        let request = RequestFingerprint { attempt: Some(Attempt(number)), ..request(1, 1) };
        CheckCommand { request: Some(request), ..world.command(Mode::Reserve, &limited, at(0)) }
    };
    let (first, second, beneath) = (reserve(10), reserve(20), backend.beneath().await);
    assert!(world.decide(first.clone()).await.reservation.is_some());
    assert_eq!(beneath.cancel(&in_shard(&first), at(1)).await, Ok(CancelOutcome::Undone));
    assert!(beneath.check(&in_shard(&second)).await.is_ok());
    let recalled = world.store.recall(&reserve(30)).await;
    assert!(matches!(recalled, Err(StoreError::AttemptRefused { .. })), "{recalled:?}");
    for attempt in [&first, &second] {
        assert_eq!(world.store.cancel(attempt, at(1)).await, Ok(CancelOutcome::Undone));
    }
    assert_eq!(used(&world, &limited).await, [0, 0]);
}

#[tokio::test]
async fn lost_shards_have_nothing_to_be_counted_again() {
    let backend = RedisBackend::alone().spread();
    let world = World::open(&backend).await;
    let [spread, beside] = both(10, 10);
    let budget = ask(4, prepaid(1_000), 100);
    assert!(world.consume(&[spread.clone(), beside.clone()], at(0)).await);
    let server = RedisServer::shared().await.unwrap();
    let shard = shard_name(&world, &spread);
    for key in keys(&backend, &shard).await.lines() {
        server.ask(&["DEL", key]).await.unwrap();
    }
    assert!(
        !world.consume(&[spread.clone(), beside.clone()], at(1)).await,
        "its open windows count as used up"
    );
    assert_eq!(world.store.lost().await, Ok(Vec::new()), "and nobody has to do anything");
    assert!(world.reserve(&[budget], at(2)).await.is_some(), "money is beside the shards");
    assert!(world.consume(&[spread, beside], at(MINUTE_MS + 1)).await);
}

#[tokio::test]
async fn too_many_counters_of_a_shard_are_told_of_its_workspace() {
    let backend = RedisBackend::alone().spread();
    let world = World::open(&backend).await;
    let limited = ask(1, a_minute(2), 1);
    for value in 0..=backend.live_counters_max() as u128 {
        assert!(world.consume(&[limited.clone().scoped(value)], at(0)).await);
    }
    let overflowed = world.store.health().await.unwrap().overflowed;
    let told: Vec<_> = overflowed.iter().map(|told| (&told.workspace, told.charges)).collect();
    assert_eq!(told, [(&world.workspace, 1)]);
}
