//! How a store answers: when it did last, and what it has failed with since.

use std::fmt;

use parking_lot::Mutex;
use rateguard_core::time::Millis;

use crate::error::{EngineError, Reason};
use crate::ports::StoreError;

/// How a store stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreState {
    /// Which, in words.
    pub store: &'static str,
    /// How long ago it answered last, in milliseconds.
    pub age_ms: i64,
    /// What it has failed with since; `None` while it answers.
    pub failure: Option<StoreFailure>,
}

/// What a store has failed with, in words for everybody. Its own words name hosts, roles and files: they are
/// for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreFailure {
    /// It cannot be reached, or refuses to write.
    Unavailable,
    /// It did not say whether something was done.
    OutcomeUnknown,
    /// It, or a queue to it, takes no more.
    Full,
    /// What it holds is not what it was given.
    Corrupt,
    /// It has refused something else.
    Refused,
}

impl fmt::Display for StoreFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unavailable => "unavailable",
            Self::OutcomeUnknown => "did not say whether something was done",
            Self::Full => "full",
            Self::Corrupt => "holds corrupt data",
            Self::Refused => "has refused something",
        })
    }
}

impl From<&StoreError> for StoreFailure {
    fn from(error: &StoreError) -> Self {
        match error {
            StoreError::Unavailable { .. } => Self::Unavailable,
            StoreError::OutcomeUnknown { .. } => Self::OutcomeUnknown,
            StoreError::Full { .. } => Self::Full,
            StoreError::Corrupt { .. } => Self::Corrupt,
            _ => Self::Refused,
        }
    }
}

impl From<&EngineError> for StoreFailure {
    fn from(error: &EngineError) -> Self {
        match error.reason {
            Reason::StoreUnavailable => Self::Unavailable,
            Reason::OutcomeUnknown => Self::OutcomeUnknown,
            Reason::QueueFull => Self::Full,
            _ => Self::Refused,
        }
    }
}

/// What is known of one store.
#[derive(Debug)]
pub(crate) struct Pulse(Mutex<Seen>);

#[derive(Debug)]
struct Seen {
    answered_at: Millis,
    failure: Option<StoreFailure>,
}

impl Pulse {
    /// A store that answers at `now`.
    pub(crate) fn new(now: Millis) -> Self {
        Self(Mutex::new(Seen { answered_at: now, failure: None }))
    }

    /// Notes what came of a call that was made at `now`.
    pub(crate) fn note<T, E>(&self, now: Millis, outcome: &Result<T, E>)
    where
        for<'e> StoreFailure: From<&'e E>,
    {
        let mut seen = self.0.lock();
        match outcome {
            Ok(_) => {
                seen.answered_at = seen.answered_at.max(now);
                seen.failure = None;
            }
            Err(error) => seen.failure = Some(error.into()),
        }
    }

    /// How long ago the store answered last.
    pub(crate) fn age_ms(&self, now: Millis) -> i64 {
        now.since(self.0.lock().answered_at)
    }

    /// How the store stands.
    pub(crate) fn state(&self, store: &'static str, now: Millis) -> StoreState {
        let seen = self.0.lock();
        StoreState { store, age_ms: now.since(seen.answered_at), failure: seen.failure }
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
        let refused = StoreError::Unavailable { store: "x", detail: "role rateguard at 10.0.0.1".to_owned() };
        pulse.note(at(200), &Err::<(), _>(refused));
        let away = StoreState { store: "x", age_ms: 150, failure: Some(StoreFailure::Unavailable) };
        assert_eq!(pulse.state("x", at(250)), away);
        pulse.note(at(300), &Ok::<_, StoreError>(()));
        assert_eq!(pulse.state("x", at(300)), StoreState { store: "x", age_ms: 0, failure: None });
    }

    #[test]
    fn an_answer_to_an_older_call_makes_nothing_older() {
        let pulse = Pulse::new(at(100));
        pulse.note(at(90), &Ok::<_, StoreError>(()));
        assert_eq!(pulse.age_ms(at(110)), 10);
    }
}
