//! Telling of failures in the log without flooding it: at once, now and again while they last, and
//! once when they are over.

use std::fmt::Display;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// How often the same lasting failure is told of.
pub(crate) const FAILURE_TOLD_INTERVAL: Duration = Duration::from_secs(30);

/// What is told of one thing that is done again and again.
#[derive(Debug)]
pub struct Telling {
    what: &'static str,
    told: Option<Instant>,
}

impl Telling {
    /// Tells of what is named.
    pub fn of(what: &'static str) -> Self {
        Self { what, told: None }
    }

    /// Tells how a turn ended, unless that was just told. A failure is tried again with the next turn.
    pub fn tell<T>(&mut self, turn: &Result<T, impl Display>) {
        match turn {
            Ok(_) if self.told.take().is_some() => tracing::info!(task = self.what, "a task works again"),
            Ok(_) => {}
            Err(error) if self.is_due() => {
                tracing::warn!(task = self.what, %error, "a task failed and will be tried again");
                self.told = Some(Instant::now());
            }
            Err(_) => {}
        }
    }

    fn is_due(&self) -> bool {
        self.told.is_none_or(|at| at.elapsed() >= FAILURE_TOLD_INTERVAL)
    }
}

/// Keeps what many calls would tell at once to one in a while.
#[derive(Debug, Default)]
pub(crate) struct Seldom(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    told: Option<Instant>,
    untold: u64,
}

impl Seldom {
    /// One that has told nothing.
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(Kept { told: None, untold: 0 }))
    }

    /// Whether to tell now: the number of times that were kept back since the last time.
    pub(crate) fn due(&self) -> Option<u64> {
        let mut kept = self.0.lock();
        if kept.told.is_some_and(|at| at.elapsed() < FAILURE_TOLD_INTERVAL) {
            kept.untold = kept.untold.saturating_add(1);
            return None;
        }
        kept.told = Some(Instant::now());
        Some(std::mem::take(&mut kept.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_lasting_failure_is_due_again_after_a_while_and_at_once_after_a_success() {
        let mut telling = Telling::of("a task");
        let failed = Err::<(), _>("away");
        assert!(telling.is_due());
        telling.tell(&failed);
        assert!(!telling.is_due());
        tokio::time::advance(FAILURE_TOLD_INTERVAL).await;
        assert!(telling.is_due());
        telling.tell(&failed);
        telling.tell(&Ok::<_, String>(()));
        assert!(telling.is_due());
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_kept_back_is_counted() {
        let seldom = Seldom::default();
        assert_eq!(seldom.due(), Some(0));
        assert_eq!((seldom.due(), seldom.due()), (None, None));
        tokio::time::advance(FAILURE_TOLD_INTERVAL).await;
        assert_eq!(seldom.due(), Some(2));
    }
}
