//! How a store answers: when it did last, and what it has failed with since.

use std::fmt::Display;

use parking_lot::Mutex;
use rateguard_core::time::Millis;

/// How a store stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreState {
    /// Which, in words.
    pub store: &'static str,
    /// How long ago it answered last, in milliseconds.
    pub age_ms: i64,
    /// What it has failed with since; `None` while it answers.
    pub failure: Option<String>,
}

/// What is known of one store.
#[derive(Debug)]
pub(crate) struct Pulse(Mutex<Seen>);

#[derive(Debug)]
struct Seen {
    answered_at: Millis,
    failure: Option<String>,
}

impl Pulse {
    /// A store that answers at `now`.
    pub(crate) fn new(now: Millis) -> Self {
        Self(Mutex::new(Seen { answered_at: now, failure: None }))
    }

    /// Notes what came of a call that was made at `now`.
    pub(crate) fn note<T>(&self, now: Millis, outcome: &Result<T, impl Display>) {
        let mut seen = self.0.lock();
        match outcome {
            Ok(_) => {
                seen.answered_at = seen.answered_at.max(now);
                seen.failure = None;
            }
            Err(error) => seen.failure = Some(error.to_string()),
        }
    }

    /// How long ago the store answered last.
    pub(crate) fn age_ms(&self, now: Millis) -> i64 {
        now.since(self.0.lock().answered_at)
    }

    /// How the store stands.
    pub(crate) fn state(&self, store: &'static str, now: Millis) -> StoreState {
        let seen = self.0.lock();
        StoreState { store, age_ms: now.since(seen.answered_at), failure: seen.failure.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Millis {
        Millis::new(ms)
    }

    #[test]
    fn a_failure_stands_until_the_store_answers_and_the_age_grows_meanwhile() {
        let pulse = Pulse::new(at(100));
        assert_eq!(pulse.state("x", at(150)), StoreState { store: "x", age_ms: 50, failure: None });
        pulse.note(at(200), &Err::<(), _>("away"));
        let away = StoreState { store: "x", age_ms: 150, failure: Some("away".to_owned()) };
        assert_eq!(pulse.state("x", at(250)), away);
        pulse.note(at(300), &Ok::<_, String>(()));
        assert_eq!(pulse.state("x", at(300)), StoreState { store: "x", age_ms: 0, failure: None });
    }

    #[test]
    fn an_answer_to_an_older_call_makes_nothing_older() {
        let pulse = Pulse::new(at(100));
        pulse.note(at(90), &Ok::<_, String>(()));
        assert_eq!(pulse.age_ms(at(110)), 10);
    }
}
