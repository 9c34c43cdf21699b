//! Undone: an attempt whose outcome its caller does not know is as if it had never been made.

use rateguard_core::decision::Mode;
use rateguard_core::ids::ReservationId;
use rateguard_core::reservation::ReservationState;
use rateguard_engine::ports::{
    ATTEMPTS_MAX, Attempt, CancelOutcome, CheckCommand, CheckOutcome, RequestFingerprint, SLOT_MARGIN_MS,
    Slot, SlotClaim, SlotHolder, StoreError,
};

use super::CounterBackend;
use super::world::{
    Ask, MINUTE_MS, RESERVATION_MS, World, a_minute, an_hour, any_minute, ask, at, bucket, prepaid, request,
};

/// How long the suite's slots are held.
const SLOT_MS: i64 = 10_000;

/// One attempt at a check, `ms` after the first instant.
fn attempt(world: &World<'_>, mode: Mode, limited: &[Ask], number: u32, ms: i64) -> CheckCommand {
    let attempt = Some(Attempt(number));
    let expires_at = at(if mode == Mode::Reserve { RESERVATION_MS } else { ms + MINUTE_MS });
    let request = Some(RequestFingerprint { attempt, expires_at, ..request(1, 1) });
    CheckCommand { request, ..world.command(mode, limited, at(ms)) }
}

async fn cancel(world: &World<'_>, command: &CheckCommand, ms: i64) {
    let outcome = world.store.cancel(command, at(ms)).await;
    assert_eq!(outcome, Ok(CancelOutcome::Undone));
}

async fn used_of_all(world: &World<'_>, limited: &[Ask], ms: i64) -> Vec<i128> {
    let mut used = Vec::new();
    for one in limited {
        used.push(world.used(one, at(ms)).await);
    }
    used
}

/// What was taken of every limit is given back where it was taken, and nothing else.
pub async fn gives_back_what_a_cancelled_attempt_took(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    let limited = [
        ask(1, a_minute(10), 3),
        ask(2, any_minute(10), 3),
        ask(3, bucket(10, 1), 3),
        ask(4, an_hour(10), 3),
        ask(5, a_minute(2), 3).shadow(),
    ];
    assert!(world.consume(&limited, at(0)).await);
    let command = attempt(&world, Mode::Consume, &limited, 1, 1);
    assert!(world.decide(command.clone()).await.verdict.allowed);
    assert_eq!(used_of_all(&world, &limited, 1).await, [6, 6, 6, 6, 0]);
    cancel(&world, &command, 1).await;
    assert_eq!(used_of_all(&world, &limited, 1).await, [3, 3, 3, 3, 0]);
    cancel(&world, &command, 1).await;
    assert_eq!(used_of_all(&world, &limited, 1).await, [3, 3, 3, 3, 0], "once");
}

/// Under other limits than at the decision nobody knows what it took, and a recall names none: it stays taken, and the
/// cancel says so.
pub async fn says_that_what_was_taken_under_other_limits_stands(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    for (number, others) in [(1, [ask(1, a_minute(20), 4)]), (2, [ask(1, a_minute(10), 0)])] {
        let taken = attempt(&world, Mode::Consume, &[ask(1, a_minute(10), 4)], number, 0);
        let request = taken.request.map(|request| RequestFingerprint { id: number.into(), ..request });
        let taken = CheckCommand { request, ..taken };
        assert!(world.decide(taken.clone()).await.verdict.allowed);
        let other = CheckCommand { request, ..attempt(&world, Mode::Consume, &others, number, 0) };
        for _ in 0..2 {
            let outcome = world.store.cancel(&other, at(1)).await;
            assert_eq!(outcome, Ok(CancelOutcome::Stands), "again says the same");
        }
    }
    assert_eq!(world.used(&ask(1, a_minute(10), 4), at(1)).await, 8);
}

/// One decision that answers more attempts than are remembered: these, and what it has reserved.
async fn answered_too_often(
    world: &World<'_>,
    mode: Mode,
    limited: &[Ask],
) -> (Vec<CheckCommand>, Option<ReservationId>) {
    let numbers = 0..=u32::try_from(ATTEMPTS_MAX).expect("they are few");
    let attempts: Vec<_> = numbers.map(|number| attempt(world, mode, limited, number, 0)).collect();
    let mut reserved = None;
    for command in &attempts {
        let decided = world.decide(command.clone()).await;
        assert!(decided.verdict.allowed);
        reserved = decided.reservation.map(|(id, _)| id);
    }
    (attempts, reserved)
}

/// Of more attempts than are remembered none undoes the decision, and each cancel says so: of a reservation for as
/// long as it is open.
pub async fn says_that_what_answered_too_many_attempts_stands(backend: &impl CounterBackend) {
    let consuming = World::open(backend).await;
    let reserving = consuming.in_workspace(2);
    let limited = [ask(1, a_minute(10), 4)];
    let (consumed, _) = answered_too_often(&consuming, Mode::Consume, &limited).await;
    let (reserved, id) = answered_too_often(&reserving, Mode::Reserve, &limited).await;
    let id = id.expect("there is room");
    for (world, attempts) in [(&consuming, &consumed), (&reserving, &reserved)] {
        for command in attempts {
            assert_eq!(world.store.cancel(command, at(1)).await, Ok(CancelOutcome::Stands));
        }
        assert_eq!(used_of_all(world, &limited, 1).await, [4]);
    }
    assert_eq!(reserving.reservation(&id).await.map(|kept| kept.state), Some(ReservationState::Open));
    reserving.release(&id, at(2)).await;
    for command in &reserved {
        cancel(&reserving, command, 3).await;
    }
    assert_eq!(used_of_all(&reserving, &limited, 3).await, [0]);
}

/// Whoever is undone last may be a recall, which names no amounts: another one has.
pub async fn gives_back_what_any_cancelled_attempt_names(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    let asking = |first, second| [ask(1, a_minute(10), first), ask(2, any_minute(10), second)];
    let limited = asking(4, 3);
    let taken = attempt(&world, Mode::Consume, &limited, 1, 0);
    assert!(world.decide(taken.clone()).await.verdict.allowed);
    let [recall, later] = [2, 3].map(|number| attempt(&world, Mode::Consume, &asking(0, 0), number, 0));
    assert!(matches!(world.store.recall(&recall).await, Ok(Some(CheckOutcome::Decided(_)))));
    cancel(&world, &taken, 1).await;
    assert!(matches!(world.store.recall(&later).await, Ok(Some(CheckOutcome::Decided(_)))));
    assert_eq!(used_of_all(&world, &limited, 1).await, [4, 3]);
    cancel(&world, &recall, 1).await;
    cancel(&world, &later, 1).await;
    assert_eq!(used_of_all(&world, &limited, 1).await, [0, 0]);
}

/// A window that is over is not given back to, and neither is the next one.
pub async fn gives_nothing_back_to_a_later_window(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    let limited = [ask(1, a_minute(10), 4)];
    let command = attempt(&world, Mode::Consume, &limited, 1, 59_000);
    assert!(world.decide(command.clone()).await.verdict.allowed);
    assert!(world.consume(&limited, at(MINUTE_MS)).await);
    cancel(&world, &command, MINUTE_MS + 1).await;
    assert_eq!(used_of_all(&world, &limited, MINUTE_MS + 1).await, [4]);
}

/// When the time of its id is over nobody knows what an attempt took: the cancel says so, and the attempt is
/// refused all the same.
pub async fn says_that_a_cancel_comes_too_late(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    let limited = [ask(1, an_hour(10), 4)];
    let [taken, unheard] = [1, 2].map(|number| attempt(&world, Mode::Consume, &limited, number, 0));
    assert!(world.decide(taken.clone()).await.verdict.allowed);
    for command in [&taken, &unheard] {
        let outcome = world.store.cancel(command, at(MINUTE_MS)).await;
        assert_eq!(outcome, Ok(CancelOutcome::TooLate));
        let late = world.store.check(command).await;
        assert!(matches!(late, Err(StoreError::AttemptRefused { .. })), "{late:?}");
    }
    assert_eq!(used_of_all(&world, &limited, MINUTE_MS + 1).await, [4], "it stays taken");
}

/// Whoever repeated a check has longer than the decision: when that is over, what it took stays taken, and the cancel
/// says so.
pub async fn says_that_a_cancel_comes_too_late_for_its_decision(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    let limited = [ask(1, an_hour(10), 4)];
    let [first, second] =
        [(1, 0), (2, 30_000)].map(|(number, ms)| attempt(&world, Mode::Consume, &limited, number, ms));
    assert!(!world.decide(first.clone()).await.replayed);
    assert!(world.decide(second.clone()).await.replayed);
    cancel(&world, &first, 31_000).await;
    let outcome = world.store.cancel(&second, at(75_000)).await;
    assert_eq!(outcome, Ok(CancelOutcome::TooLate));
    assert_eq!(used_of_all(&world, &limited, 75_000).await, [4]);
}

/// An attempt that arrives after its cancel takes nothing, for as long as its id would have stood.
pub async fn refuses_an_attempt_that_was_cancelled_before(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    let limited = [ask(1, a_minute(10), 4)];
    let command = attempt(&world, Mode::Consume, &limited, 1, 0);
    cancel(&world, &command, 1).await;
    let late = world.store.check(&command).await;
    assert!(matches!(late, Err(StoreError::AttemptRefused { .. })), "{late:?}");
    let recalled = world.store.recall(&command).await;
    assert!(matches!(recalled, Err(StoreError::AttemptRefused { .. })), "{recalled:?}");
    assert_eq!(used_of_all(&world, &limited, 2).await, [0]);
}

/// The next attempt at the same request is decided for itself, and takes once.
pub async fn decides_the_next_attempt_for_itself(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    let limited = [ask(1, a_minute(10), 4)];
    let first = attempt(&world, Mode::Consume, &limited, 1, 0);
    assert!(world.decide(first.clone()).await.verdict.allowed);
    cancel(&world, &first, 1).await;
    let second = world.decide(attempt(&world, Mode::Consume, &limited, 2, 2)).await;
    assert!(second.verdict.allowed && !second.replayed);
    cancel(&world, &first, 3).await;
    assert_eq!(used_of_all(&world, &limited, 3).await, [4]);
}

/// What another attempt was answered with stands when the first one is cancelled.
pub async fn keeps_what_another_attempt_was_answered_with(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    let limited = [ask(1, a_minute(10), 4)];
    let [first, second] = [1, 2].map(|number| attempt(&world, Mode::Consume, &limited, number, 0));
    assert!(!world.decide(first.clone()).await.replayed);
    assert!(world.decide(second.clone()).await.replayed);
    cancel(&world, &first, 1).await;
    assert_eq!(used_of_all(&world, &limited, 1).await, [4]);
    assert!(world.decide(attempt(&world, Mode::Consume, &limited, 3, 2)).await.replayed);
    cancel(&world, &attempt(&world, Mode::Consume, &limited, 3, 2), 3).await;
    cancel(&world, &second, 3).await;
    assert_eq!(used_of_all(&world, &limited, 3).await, [0], "nobody is left who was answered");
}

/// What was taken before a reset is not given back into what others took after it.
pub async fn cancels_nothing_from_before_a_reset(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    let limited = [
        ask(1, a_minute(10), 4),
        ask(2, any_minute(10), 4),
        ask(3, bucket(10, 1), 4),
        ask(4, an_hour(10), 4),
    ];
    let command = attempt(&world, Mode::Consume, &limited, 1, 0);
    assert!(world.decide(command.clone()).await.verdict.allowed);
    for one in &limited[..3] {
        world.reset(one, at(1)).await;
    }
    assert!(world.consume(&limited, at(10)).await);
    cancel(&world, &command, 11).await;
    assert_eq!(used_of_all(&world, &limited, 11).await, [4, 4, 4, 4], "the last was not set back");
}

/// A reservation that nobody was told of is released.
pub async fn releases_what_a_cancelled_attempt_reserved(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    let limited = [ask(1, prepaid(100), 60), ask(2, a_minute(10), 4)];
    let command = attempt(&world, Mode::Reserve, &limited, 1, 0);
    let reserved = world.decide(command.clone()).await.reservation;
    assert!(reserved.is_some());
    cancel(&world, &command, 1).await;
    assert_eq!(world.held(&limited[0], at(1)).await, 0);
    assert_eq!(used_of_all(&world, &limited, 1).await, [0, 0]);
    let again = world.decide(attempt(&world, Mode::Reserve, &limited, 2, 2)).await;
    assert!(!again.replayed && again.reservation.is_some());
    let id = |reserved: Option<(ReservationId, _)>| reserved.map(|(id, _)| id);
    assert_ne!(id(again.reservation), id(reserved));
}

/// A reservation that was renewed is known to its caller, whatever became of the answer to the check.
pub async fn undoes_no_reservation_that_was_renewed(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    let limited = [ask(1, prepaid(100), 60), ask(2, a_minute(10), 4)];
    let command = attempt(&world, Mode::Reserve, &limited, 1, 0);
    let (id, _) = world.decide(command.clone()).await.reservation.expect("there is room");
    world.renew(&id, at(2 * RESERVATION_MS), at(1)).await;
    cancel(&world, &command, 2).await;
    assert_eq!(used_of_all(&world, &limited, 2).await, [60, 4]);
    assert_eq!(world.reservation(&id).await.map(|kept| kept.state), Some(ReservationState::Open));
}

/// A denied attempt took nothing, and a PEEK is nothing that could be undone.
pub async fn cancels_what_took_nothing_without_a_trace(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    let limited = [ask(1, a_minute(3), 4)];
    let denied = attempt(&world, Mode::Consume, &limited, 1, 0);
    assert!(!world.decide(denied.clone()).await.verdict.allowed);
    cancel(&world, &denied, 1).await;
    cancel(&world, &attempt(&world, Mode::Peek, &limited, 2, 1), 1).await;
    assert_eq!(used_of_all(&world, &limited, 1).await, [0]);
}

fn claim(holder: u64, last: Option<u16>, ms: i64) -> SlotClaim {
    let holder = SlotHolder(holder);
    SlotClaim { holder, last, life_ms: SLOT_MS, settling_ms: 2_000, slots_max: 2, now: at(ms) }
}

async fn hold(world: &World<'_>, claim: SlotClaim) -> Option<Slot> {
    world.store.hold_slot(&claim).await.expect("a store that is well has slots")
}

/// Each slot has one holder; it is free when the holder gives it up, or long after its last claim.
pub async fn gives_each_slot_to_one_holder(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    let number = |slot: Option<Slot>| slot.map(|slot| slot.number);
    assert_eq!(hold(&world, claim(1, None, 0)).await, Some(Slot { number: 0, usable_in_ms: 2_000 }));
    assert_eq!(hold(&world, claim(2, None, 500)).await, Some(Slot { number: 1, usable_in_ms: 1_500 }));
    assert_eq!(hold(&world, claim(3, None, 600)).await, None);
    assert_eq!(hold(&world, claim(1, Some(0), 3_000)).await, Some(Slot { number: 0, usable_in_ms: 0 }));
    world.store.free_slot(SlotHolder(3), 1).await.expect("a slot of somebody else's stays");
    assert_eq!(hold(&world, claim(3, None, 3_000)).await, None);
    world.store.free_slot(SlotHolder(1), 0).await.expect("a store that is well frees");
    assert_eq!(number(hold(&world, claim(3, None, 3_000)).await), Some(0));
    assert_eq!(hold(&world, claim(4, None, 500 + SLOT_MS)).await, None, "the store counts longer");
    let over = claim(4, None, 500 + SLOT_MS + SLOT_MARGIN_MS);
    assert_eq!(number(hold(&world, over).await), Some(1));
    assert_eq!(hold(&world, claim(2, Some(1), 500 + SLOT_MS + SLOT_MARGIN_MS)).await, None);
}
