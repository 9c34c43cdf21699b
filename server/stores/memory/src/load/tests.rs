use rateguard_core::counter::budget::{AnonymousHold, PeriodMoney};
use rateguard_core::counter::{BudgetCounter, Counter};
use rateguard_core::limits::RESERVATION_TTL_MS_MAX;
use rateguard_core::time::Millis;
use rateguard_engine::ports::Checkpoint;
use rateguard_store_suite::checkpoint_store::samples::row;

use super::{forget_holders, forget_holders_of};

mod crashes;

const NOW: Millis = Millis::ZERO;

fn after_a_crash(mut budget: BudgetCounter, now: Millis) -> BudgetCounter {
    forget_holders_of(&mut budget, now);
    budget
}

fn money(spent: i128, held: i128) -> PeriodMoney {
    PeriodMoney { spent, held, ..PeriodMoney::default() }
}

#[test]
fn the_ceiling_becomes_an_anonymous_hold() {
    let before = BudgetCounter {
        current: money(40, 10),
        previous: Some(money(7, 3)),
        ceiling: 90,
        ..BudgetCounter::default()
    };
    let after = after_a_crash(before, NOW);
    assert_eq!((after.current, after.previous), (money(40, 0), Some(money(7, 0))));
    assert_eq!(after.anonymous, AnonymousHold { nanos: 90, until: NOW.plus(RESERVATION_TTL_MS_MAX) });
    assert_eq!(after.ceiling, 0, "new holds raise their own");
}

#[test]
fn a_second_crash_adds_to_the_first_while_it_lasts() {
    let first = after_a_crash(BudgetCounter { ceiling: 90, ..BudgetCounter::default() }, NOW);
    let idle = after_a_crash(first, NOW.plus(500));
    assert_eq!(idle.anonymous, first.anonymous, "nothing was held since, so nothing lasts longer");
    let again = after_a_crash(BudgetCounter { ceiling: 20, ..first }, NOW.plus(500));
    let until = NOW.plus(500 + RESERVATION_TTL_MS_MAX);
    assert_eq!(again.anonymous, AnonymousHold { nanos: 110, until });
    let late = after_a_crash(BudgetCounter { ceiling: 20, ..first }, first.anonymous.until);
    assert_eq!(late.anonymous.nanos, 20);
}

#[test]
fn nothing_held_leaves_nothing_held() {
    let after = after_a_crash(BudgetCounter { current: money(40, 0), ..BudgetCounter::default() }, NOW);
    assert_eq!(after.anonymous, AnonymousHold::default());
}

#[test]
fn a_clean_stop_forgets_nobody_also_without_reservations() {
    let held = BudgetCounter { current: money(40, 10), ceiling: 90, ..BudgetCounter::default() };
    let mut row = row("ws_1", 1, 0);
    row.counter = Counter::Budget(Box::new(held));
    let mut checkpoint = Checkpoint { rows: vec![row], clean: true, ..Checkpoint::default() };
    let before = checkpoint.clone();
    assert_eq!(forget_holders(&mut checkpoint, NOW), []);
    assert_eq!(checkpoint, before);
    checkpoint.clean = false;
    assert_eq!(forget_holders(&mut checkpoint, NOW), checkpoint.rows);
    assert_eq!(forget_holders(&mut checkpoint, NOW), [], "what has changed is changed once");
}
