use rateguard_core::counter::CounterId;

use super::*;
use crate::books::counter::Range;

const WRONG: Wrong = Wrong { counter: (CounterId(7), false), used: 3, range: Range { low: 1, high: 2 } };

fn ids(books: &Books, facts: &Facts) -> Vec<&'static str> {
    violations(books, facts).map(|violation| violation.invariant).collect()
}

fn wrong_after(kind: Kind, wrong: Wrong, expired: usize) -> Vec<&'static str> {
    ids(&Books::default(), &Facts { wrong: vec![wrong], expired, ..Facts::of(kind) })
}

#[test]
fn a_counter_that_is_wrong_violates_what_the_step_should_have_kept() {
    let budget = Wrong { counter: (CounterId(7), true), ..WRONG };
    assert_eq!(wrong_after(Kind::Denied, WRONG, 0), ["Q2"]);
    assert_eq!(wrong_after(Kind::Allowed, WRONG, 0), ["Q2"]);
    assert_eq!(wrong_after(Kind::Denied, WRONG, 1), ["Q4"]);
    assert_eq!(wrong_after(Kind::Released, WRONG, 0), ["Q4"]);
    assert_eq!(wrong_after(Kind::Tended, WRONG, 0), ["Q4"]);
    assert_eq!(wrong_after(Kind::Settled, WRONG, 0), ["U4"]);
    assert_eq!(wrong_after(Kind::Settled, budget, 0), ["U3"]);
    assert_eq!(wrong_after(Kind::SettledAgain, WRONG, 0), ["U2"]);
}

#[test]
fn an_end_at_which_a_record_is_neither_settled_nor_rolled_up_violates_both() {
    let mut books = Books::default();
    books.log.costs.insert(1, 5);
    assert_eq!(ids(&books, &Facts::of(Kind::Ended)), ["U1", "U3"]);
}

#[test]
fn a_record_that_is_accepted_without_being_in_the_log_violates_u1() {
    let mut books = Books::default();
    let event = rateguard_core::ids::EventId::parse("id", "e-1").expect("a plain id");
    books.log.accepted.insert(event.clone(), 1);
    assert_eq!(ids(&books, &Facts::of(Kind::Accepted)), ["U1"]);
    books.log.positions.insert(event.clone(), 1);
    assert_eq!(ids(&books, &Facts::of(Kind::Accepted)), Vec::<&str>::new());
    books.log.accepted.insert(event, 2);
    assert_eq!(ids(&books, &Facts::of(Kind::Accepted)), ["U2"]);
}

#[test]
fn a_step_after_which_all_stands_as_it_must_violates_nothing() {
    for kind in [Kind::Allowed, Kind::Denied, Kind::Settled, Kind::Tended, Kind::Ended] {
        assert_eq!(ids(&Books::default(), &Facts::of(kind)), Vec::<&str>::new());
    }
}

#[test]
fn a_check_that_is_refused_without_a_cancel_or_undone_after_its_answer_violates_q2() {
    for breach in [Breach::RefusedUncancelled, Breach::CancelledHeard] {
        let facts = Facts { breach: Some(breach), ..Facts::of(Kind::Cancelled) };
        assert_eq!(ids(&Books::default(), &facts), ["Q2"], "{breach:?}");
    }
    let facts = Facts { breach: Some(Breach::RenewedWrongly), ..Facts::of(Kind::Renewed) };
    assert_eq!(ids(&Books::default(), &facts), ["Q4"]);
}
