//! Once: a repetition of an allowed decision is that decision.

use rateguard_core::decision::Mode;
use rateguard_core::money::Nanos;
use rateguard_engine::ports::{CheckCommand, CheckOutcome, Decided, RequestFingerprint};

use super::CounterBackend;
use super::world::{Ask, MINUTE_MS, RESERVATION_MS, Report, World, a_minute, ask, at, prepaid, request};

fn with_id(mut command: CheckCommand, id: RequestFingerprint) -> CheckCommand {
    command.request = Some(id);
    command
}

async fn consume(world: &World<'_>, limited: &Ask, id: RequestFingerprint, ms: i64) -> Decided {
    let command = world.command(Mode::Consume, std::slice::from_ref(limited), at(ms));
    world.decide(with_id(command, id)).await
}

async fn reserve(world: &World<'_>, limited: &Ask, id: RequestFingerprint, ms: i64) -> Decided {
    let command = world.command(Mode::Reserve, std::slice::from_ref(limited), at(ms));
    world.decide(with_id(command, id)).await
}

/// The id of a reservation lives as long as it.
fn request_to_reserve(id: u128) -> RequestFingerprint {
    RequestFingerprint { expires_at: at(RESERVATION_MS), ..request(id, 1) }
}

/// The repetition gives the decision again, with the limits as they are now.
pub async fn repeats_an_allowed_decision_without_taking(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    let limited = ask(1, a_minute(2), 1);
    let first = consume(&world, &limited, request(1, 1), 0).await;
    assert!(first.verdict.allowed && !first.replayed);
    assert!(world.consume(std::slice::from_ref(&limited), at(1)).await);
    let again = consume(&world, &limited, request(1, 1), 2).await;
    assert!(again.verdict.allowed && again.replayed, "although nothing is left by now");
    assert_eq!(again.verdict.readings.first().map(|reading| reading.remaining), Some(0));
    assert_eq!(world.used(&limited, at(3)).await, 2);
}

/// A repetition can be recalled without deciding; what is none is left open.
pub async fn recalls_a_decision_without_deciding(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    let limited = ask(1, a_minute(2), 1);
    let command = |id, ms| with_id(world.command(Mode::Consume, std::slice::from_ref(&limited), at(ms)), id);
    let recall = async |command| world.store.recall(&command).await.expect("a store that is well reads");
    assert_eq!(recall(command(request(1, 1), 0)).await, None);
    let first = consume(&world, &limited, request(1, 1), 1).await;
    let Some(CheckOutcome::Decided(again)) = recall(command(request(1, 1), 2)).await else {
        panic!("the decision stands");
    };
    assert!(again.replayed && again.verdict.allowed);
    assert_eq!(again.verdict.readings, first.verdict.readings);
    assert_eq!(recall(command(request(1, 2), 3)).await, Some(CheckOutcome::ContentDiffers));
    assert_eq!(world.used(&limited, at(4)).await, 1);
    assert_eq!(recall(command(request(1, 1), MINUTE_MS)).await, None, "its time is over");
}

/// The repetition of a RESERVE tells the cost for which it was made, whatever it would be by now.
pub async fn repeats_what_was_reserved(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    let budget = ask(1, prepaid(1_000), 100);
    let reserve_for = async |cost: i64, ms: i64| {
        let mut command = world.command(Mode::Reserve, std::slice::from_ref(&budget), at(ms));
        command.reservation.as_mut().expect("a RESERVE makes one").cost = Some(Nanos::from_stored(cost));
        world.decide(with_id(command, request_to_reserve(1))).await
    };
    let (first, again) = (reserve_for(100, 0).await, reserve_for(250, 1).await);
    assert_eq!((first.reserved, first.replayed), (Some(Nanos::from_stored(100)), false));
    assert_eq!((again.reserved, again.replayed), (Some(Nanos::from_stored(100)), true));
}

/// A denial consumed nothing, so its id is free.
pub async fn decides_a_denial_anew(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    let limited = ask(1, a_minute(1), 1);
    let id = RequestFingerprint { expires_at: at(3 * MINUTE_MS), ..request(1, 1) };
    assert!(world.consume(std::slice::from_ref(&limited), at(0)).await);
    assert!(!consume(&world, &limited, id, 1).await.verdict.allowed);
    let anew = consume(&world, &limited, id, MINUTE_MS).await;
    assert!(anew.verdict.allowed && !anew.replayed);
}

/// An id stands for one content.
pub async fn refuses_an_id_with_other_content(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    let limited = ask(1, a_minute(5), 1);
    assert!(consume(&world, &limited, request(1, 1), 0).await.verdict.allowed);
    let command = world.command(Mode::Consume, std::slice::from_ref(&limited), at(1));
    let other = world.send(with_id(command, request(1, 2))).await;
    assert_eq!(other, CheckOutcome::ContentDiffers);
    assert_eq!(world.used(&limited, at(2)).await, 1);
}

/// Past its time an id is new.
pub async fn forgets_an_id_after_its_time(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    let limited = ask(1, prepaid(5), 0);
    assert!(!consume(&world, &limited, request(1, 1), 0).await.replayed);
    assert!(consume(&world, &limited, request(1, 1), MINUTE_MS - 1).await.replayed);
    let later = RequestFingerprint { expires_at: at(2 * MINUTE_MS), ..request(1, 2) };
    assert!(!consume(&world, &limited, later, MINUTE_MS).await.replayed);
}

/// A PEEK may carry an id without using it.
pub async fn remembers_no_id_of_a_peek(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    let limited = ask(1, a_minute(5), 1);
    let command = world.command(Mode::Peek, std::slice::from_ref(&limited), at(0));
    assert!(world.decide(with_id(command, request(1, 1))).await.verdict.allowed);
    let taken = consume(&world, &limited, request(1, 2), 1).await;
    assert!(taken.verdict.allowed && !taken.replayed);
}

/// The repetition of a RESERVE gives the same reservation, also when it is settled by then.
pub async fn repeats_a_reservation_while_it_stands(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    let budget = ask(1, prepaid(1_000), 400);
    let first = reserve(&world, &budget, request_to_reserve(1), 0).await;
    let again = reserve(&world, &budget, request_to_reserve(1), 1).await;
    assert!(again.replayed && again.verdict.allowed);
    assert_eq!(again.reservation, first.reservation);
    assert_eq!(world.held(&budget, at(2)).await, 400);
    let (id, _) = first.reservation.expect("it was allowed");
    let open = world.reservation(&id).await.expect("it stands");
    world.report(Report::settling(&open, 300).charging(&budget, 300), at(3)).await;
    let settled = reserve(&world, &budget, request_to_reserve(1), 4).await;
    assert_eq!(settled.reservation.map(|(id, _)| id), Some(id));
    assert_eq!((world.held(&budget, at(5)).await, world.used(&budget, at(5)).await), (0, 300));
}

/// Released or expired: nothing stands for the decision any more, so it is taken anew.
pub async fn decides_anew_once_a_reservation_was_given_back(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    let budget = ask(1, prepaid(500), 400);
    let (first, _) = reserve(&world, &budget, request_to_reserve(1), 0).await.reservation.expect("room");
    world.release(&first, at(1)).await;
    let anew = reserve(&world, &budget, request_to_reserve(1), 2).await;
    assert!(!anew.replayed);
    assert_ne!(anew.reservation.map(|(id, _)| id), Some(first));
    let late = RequestFingerprint { expires_at: at(3 * RESERVATION_MS), ..request(1, 2) };
    let after_expiry = reserve(&world, &budget, late, RESERVATION_MS + 2).await;
    assert!(after_expiry.verdict.allowed && !after_expiry.replayed);
    assert_eq!(world.held(&budget, at(RESERVATION_MS + 3)).await, 400);
}
