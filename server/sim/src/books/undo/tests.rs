use super::*;

const LIFE: u64 = 7;

fn request(attempt: u32) -> RequestFingerprint {
    let attempt = Some(Attempt(attempt));
    RequestFingerprint { id: 1, content: 1, expires_at: Millis::new(100), attempt }
}

/// A decision that was made for an attempt of a life that goes on.
fn decided() -> Undo {
    let mut undo = Undo::default();
    undo.send((1, Attempt(1)), LIFE);
    undo.decide(&request(1), vec![(CounterId(5), 0)], None);
    undo
}

#[test]
fn what_nobody_was_told_of_has_to_be_undone_as_long_as_somebody_could() {
    let mut undo = decided();
    assert!(undo.forgotten().is_some());
    undo.end_life(LIFE);
    assert!(undo.forgotten().is_none(), "nobody is left who could");
    let mut undo = decided();
    undo.hear((1, Attempt(1)));
    assert!(undo.forgotten().is_none(), "it was told");
    let mut undo = decided();
    let undone = undo.cancel(&request(1), Millis::new(100)).expect("it was the last attempt");
    assert_eq!((undone.takings, undo.forgotten().is_none()), (vec![(CounterId(5), 0)], true));
}

#[test]
fn a_decision_goes_with_the_last_attempt_that_it_has_answered() {
    let mut undo = decided();
    undo.repeat(&request(2));
    assert!(undo.cancel(&request(1), Millis::new(100)).is_none());
    assert!(undo.cancel(&request(1), Millis::new(100)).is_none());
    assert!(undo.cancel(&request(2), Millis::new(100)).is_some());
    assert!(undo.is_cancelled(&request(1), Millis::new(99)));
    assert!(!undo.is_cancelled(&request(1), Millis::new(100)), "its time is over");
    assert!(!undo.is_cancelled(&request(3), Millis::new(99)));
}

#[test]
fn what_was_set_back_is_not_given_back() {
    let mut undo = decided();
    undo.forget_takings(|id| id == CounterId(5));
    let undone = undo.cancel(&request(1), Millis::new(100)).expect("it was the last attempt");
    assert_eq!(undone.takings, Vec::new());
}
