//! The budget's counter: periods, late costs, and what a crash left held.

use super::*;
use crate::counter::budget::AnonymousHold;
use crate::limits::OCCURRED_BEFORE_MS_MAX;

const DAY_MS: i64 = 86_400_000;

fn limit(nanos: i64, now: Millis) -> Limit {
    Limit::Budget { nanos, bounds: Some(CalendarPeriod::Day.bounds(&Zone::UTC, now)) }
}

fn midnight() -> Millis {
    Millis::new(NOON - NOON % DAY_MS)
}

fn budget(counter: &mut Counter) -> &mut BudgetCounter {
    match counter {
        Counter::Budget(budget) => budget,
        other => panic!("{other:?} is no budget"),
    }
}

fn charged(nanos: i64, at: Millis) -> Counter {
    let mut counter = Counter::fresh(&limit(100, at), at);
    counter.charge(&limit(100, at), nanos, at, at);
    counter
}

#[test]
fn a_new_period_begins_with_nothing_spent() {
    let counter = charged(100, midnight());
    assert!(counter.read(&limit(100, midnight()), 1, midnight()).denied.is_some());
    let next = midnight().plus(DAY_MS);
    assert_eq!(counter.read(&limit(100, next), 100, next).remaining, 100);
}

#[test]
fn bounds_that_were_computed_just_before_the_period_ended_lead_into_the_next_one() {
    let stale = limit(100, midnight());
    let next = midnight().plus(DAY_MS);
    let mut counter = charged(100, midnight());
    assert_eq!(counter.read(&stale, 1, next).remaining, 100);
    counter.charge(&stale, 30, next, next);
    assert_eq!(counter.read(&limit(100, next), 0, next).remaining, 70);
}

#[test]
fn a_cost_of_the_period_before_stands_there_and_not_in_this_one() {
    let mut counter = charged(10, midnight());
    let next = midnight().plus(DAY_MS);
    counter.charge(&limit(100, next), 20, next, next);
    counter.charge(&limit(100, next), 5, midnight(), next);
    let state = *budget(&mut counter);
    assert_eq!((state.current.spent, state.previous.map(|p| p.spent)), (20, Some(15)));
}

#[test]
fn a_cost_older_than_both_periods_is_left_to_the_books() {
    let mut counter = charged(10, midnight());
    let later = midnight().plus(3 * DAY_MS);
    counter.charge(&limit(100, later), 20, later, later);
    let before = counter.clone();
    counter.charge(&limit(100, later), 5, midnight().plus(-DAY_MS), later);
    counter.charge(&limit(100, later), 5, midnight().plus(DAY_MS), later);
    assert_eq!(counter, before);
}

#[test]
fn money_a_crash_left_held_counts_until_its_time_and_is_drawn_down_by_reports() {
    let mut counter = charged(10, midnight());
    let until = midnight().plus(3_600_000);
    budget(&mut counter).anonymous = AnonymousHold { nanos: 60, until };
    let reading = counter.read(&limit(100, midnight()), 31, midnight());
    assert_eq!((reading.used, reading.held, reading.remaining), (70, 60, 30));
    budget(&mut counter).draw_down(25);
    budget(&mut counter).draw_down(-1_000);
    assert_eq!(counter.read(&limit(100, midnight()), 0, midnight()).held, 35);
    budget(&mut counter).draw_down(1_000);
    assert_eq!(counter.read(&limit(100, midnight()), 0, midnight()).held, 0);
}

#[test]
fn money_a_crash_left_held_is_free_at_its_time() {
    let mut counter = charged(10, midnight());
    let until = midnight().plus(3_600_000);
    budget(&mut counter).anonymous = AnonymousHold { nanos: 60, until };
    assert_eq!(counter.read(&limit(100, until), 0, until.plus(-1)).remaining, 30);
    assert_eq!(counter.read(&limit(100, until), 0, until).remaining, 90);
}

#[test]
fn a_budget_that_has_spent_something_is_forgotten_when_no_record_can_name_its_period() {
    let mut counter = charged(10, midnight());
    let over = midnight().plus(DAY_MS + OCCURRED_BEFORE_MS_MAX);
    assert!(!counter.is_idle(over.plus(-1)) && counter.is_idle(over));
    counter.take(&limit(100, midnight()), 5, midnight());
    assert!(!counter.is_idle(over) && !counter.is_free(over), "a reservation has money in it");
}

#[test]
fn a_budget_with_nothing_in_it_is_forgotten_at_once() {
    let mut counter = Counter::fresh(&limit(100, midnight()), midnight());
    assert!(counter.is_idle(midnight()));
    let mark = counter.take(&limit(100, midnight()), 5, midnight());
    assert!(!counter.is_idle(midnight()));
    counter.correct(mark, 5, -5, midnight());
    assert!(counter.is_idle(midnight()));
    let next = midnight().plus(DAY_MS);
    counter.charge(&limit(100, midnight()), 5, midnight(), midnight());
    counter.charge(&limit(100, next), 0, next, next);
    assert!(!counter.is_idle(next), "the period before has spent something");
}

#[test]
fn a_prepaid_budget_is_never_over() {
    let prepaid = Limit::Budget { nanos: 100, bounds: None };
    let mut counter = Counter::fresh(&prepaid, midnight());
    counter.charge(&prepaid, 5, midnight(), midnight());
    let long_after = midnight().plus(4_000 * DAY_MS);
    assert!(!counter.is_idle(long_after));
    assert!(counter.is_free(long_after), "unless it is gone itself");
}

#[test]
fn a_budget_is_not_forgotten_while_a_crash_has_left_money_held() {
    let mut counter = Counter::fresh(&limit(100, midnight()), midnight());
    let until = midnight().plus(3_600_000);
    budget(&mut counter).anonymous = AnonymousHold { nanos: 60, until };
    assert!(!counter.is_idle(until.plus(-1)) && !counter.is_free(until.plus(-1)));
    assert!(counter.is_idle(until));
}

#[test]
fn a_hold_of_the_period_before_does_not_weigh_on_this_one() {
    let mut counter = Counter::fresh(&limit(100, midnight()), midnight());
    let mark = counter.take(&limit(100, midnight()), 80, midnight());
    let next = midnight().plus(DAY_MS);
    assert_eq!(counter.read(&limit(100, next), 100, next).denied, None);
    counter.take(&limit(100, next), 50, next);
    let Mark::Budget { start, .. } = mark else { panic!("{mark:?}") };
    budget(&mut counter).settle(start, 80, 90);
    let state = *budget(&mut counter);
    assert_eq!(state.previous.map(|p| (p.spent, p.held)), Some((90, 0)));
    assert_eq!((state.current.spent, state.held()), (0, 50));
}
