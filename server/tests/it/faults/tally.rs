//! What was admitted, by rule and by window.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rateguard_proto::v1;

use super::rules::{AMOUNT, Kind, LIMIT, WINDOW_MS};

/// What one rule did in one window.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cell {
    /// Units that allowed checks took, whose window the answer itself tells.
    pub admitted: i64,
    /// Units allowed by answers that tell no window, and that were asked for and answered in this one.
    pub admitted_untold: i64,
    /// Checks that were decided, whatever the decision.
    pub decided: i64,
    /// Checks that got no decision.
    pub failed: i64,
    /// Decisions that were taken without the shared counters.
    pub degraded: i64,
    /// Of these, allowed by nobody's count.
    pub let_through: i64,
}

impl Cell {
    /// What callers asked for, of the rule's limit.
    pub fn asked_percent(&self) -> i64 {
        (self.decided + self.failed) * AMOUNT * 100 / LIMIT
    }

    /// What a rule should have admitted while the counters were there: its limit, or what was asked where the machine
    /// let callers ask for less; without those calls that failed for a reason.
    pub fn due(&self, failed_for_a_reason: bool) -> i64 {
        let failed = if failed_for_a_reason { 0 } else { self.failed };
        LIMIT.min((self.decided + failed) * AMOUNT)
    }
}

/// All of it, shared by the callers.
#[derive(Clone, Default)]
pub struct Tally(Arc<Mutex<Books>>);

#[derive(Default)]
struct Books {
    cells: BTreeMap<(Kind, i64), Cell>,
    decisions: Vec<Decision>,
}

/// When a caller asked, and was answered.
#[derive(Clone, Copy, Debug)]
struct Decision {
    kind: Kind,
    sent_ms: i64,
    answered_ms: i64,
    /// Whether it was taken without the shared counters.
    degraded: bool,
}

/// The number of the window in which an instant lies, counted from the epoch.
pub fn window_of(at_ms: i64) -> i64 {
    at_ms.div_euclid(WINDOW_MS)
}

impl Tally {
    fn books(&self) -> MutexGuard<'_, Books> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, kind: Kind, window: i64, change: impl FnOnce(&mut Cell)) {
        change(self.books().cells.entry((kind, window)).or_default());
    }

    /// Takes in a decision on a check that was sent and answered at these instants.
    pub fn decided(&self, kind: Kind, answer: &v1::CheckQuotaResponse, sent_ms: i64, answered_ms: i64) {
        let told = answer.limits.iter().find_map(|limit| limit.reset_time);
        let told = told.map(|at| window_of(at.seconds * 1_000 + i64::from(at.nanos) / 1_000_000 - 1));
        let seen = window_of(answered_ms);
        let allowed = answer.decision() == v1::Decision::Allowed;
        let decision = Decision { kind, sent_ms, answered_ms, degraded: answer.degraded };
        self.books().decisions.push(decision);
        self.change(kind, told.unwrap_or(seen), |cell| {
            cell.decided += 1;
            cell.degraded += i64::from(answer.degraded);
            let is_counted = !answer.degraded || answer.failure_mode() == v1::FailureMode::Local;
            cell.let_through += i64::from(allowed && !is_counted);
            match (allowed, told) {
                (false, _) => {}
                (true, Some(_)) => cell.admitted += AMOUNT,
                (true, None) if window_of(sent_ms) == seen => cell.admitted_untold += AMOUNT,
                // On an edge nobody can say which window it was.
                (true, None) => {}
            }
        });
    }

    /// Takes in a check that got no decision.
    pub fn failed(&self, kind: Kind, answered_ms: i64) {
        self.change(kind, window_of(answered_ms), |cell| cell.failed += 1);
    }

    /// What a rule did in a window.
    pub fn cell(&self, kind: Kind, window: i64) -> Cell {
        self.books().cells.get(&(kind, window)).copied().unwrap_or_default()
    }

    /// Decisions that were asked for in a time, and how many of them were taken without the shared counters.
    pub fn decided_in(&self, kind: Kind, time_ms: &Range<i64>) -> (usize, usize) {
        let books = self.books();
        let asked = || {
            let of_time = |decision: &&Decision| time_ms.contains(&decision.sent_ms);
            books.decisions.iter().filter(move |decision| decision.kind == kind).filter(of_time)
        };
        (asked().count(), asked().filter(|decision| decision.degraded).count())
    }

    /// Every rule's share of its limit in each window, as people read it.
    pub fn table(&self, kinds: &[Kind], windows: &[(i64, &str)]) -> String {
        let mut text = format!("{:34}", "admitted / limit (percent), by window");
        for (_, weather) in windows {
            let _ = write!(text, "{weather:>18}");
        }
        for kind in kinds {
            let _ = write!(text, "\n{:34}", kind.to_string());
            for (window, _) in windows {
                let Cell { admitted, admitted_untold, degraded, failed, .. } = self.cell(*kind, *window);
                let share = (admitted + admitted_untold) * 100 / LIMIT;
                let _ = write!(text, "{:>18}", format!("{share} ({degraded}d {failed}f)"));
            }
        }
        let _ = write!(text, "\n{}", self.waits());
        text
    }

    /// How long callers waited for an answer while the counters gave none.
    fn waits(&self) -> String {
        let waits = |books: &Books| -> Vec<i64> {
            let degraded = books.decisions.iter().filter(|decision| decision.degraded);
            degraded.map(|decision| decision.answered_ms - decision.sent_ms).collect()
        };
        let mut waits = waits(&self.books());
        waits.sort_unstable();
        let Some(longest) = waits.last() else {
            return "nothing was decided without the counters".to_owned();
        };
        let [half, most] = [50, 99].map(|percent| waits[(waits.len() - 1) * percent / 100]);
        format!(
            "{} decisions without the counters: p50 {half} ms, p99 {most} ms, longest {longest} ms",
            waits.len()
        )
    }
}
