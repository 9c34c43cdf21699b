//! The history of a run: every step is taken into the books and judged at once.

use std::collections::BTreeMap;

use crate::books::Books;
use crate::books::answers::{Answers, Terms};
use crate::books::decided::Foretold;
use crate::books::facts::{Facts, Kind};
use crate::invariants::{Violation, violations};
use crate::steps::Step;
use crate::trace::Trace;
use rateguard_engine::degraded::Degraded;

/// Violations that are kept of one run: the first is the one to look at.
const VIOLATIONS_MAX: usize = 8;

/// How often what happened, so that a run that shows nothing is told from one in which nothing
/// could be seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Steps by kind.
    pub steps: BTreeMap<Kind, u64>,
    /// Reservations that expired.
    pub expired: u64,
    /// Calls that had to pass by an earlier hint, and did.
    pub hints_kept: u64,
    /// Calls that had to be denied by an earlier hint, and were.
    pub hints_early: u64,
    /// Crashes of replicas.
    pub crashes: u64,
    /// Answers without the counters, by policy and outcome.
    pub degraded: BTreeMap<(Degraded, bool), u64>,
}

impl Coverage {
    /// Adds what another run saw.
    pub fn add(&mut self, other: &Self) {
        for (kind, steps) in &other.steps {
            *self.steps.entry(*kind).or_default() += steps;
        }
        self.expired += other.expired;
        self.hints_kept += other.hints_kept;
        self.hints_early += other.hints_early;
        self.crashes += other.crashes;
        for (answer, count) in &other.degraded {
            *self.degraded.entry(*answer).or_default() += count;
        }
    }

    /// All steps.
    pub fn steps(&self) -> u64 {
        self.steps.values().sum()
    }

    fn note(&mut self, facts: &Facts) {
        *self.steps.entry(facts.kind).or_default() += 1;
        self.expired += facts.expired as u64;
        match facts.decision.as_ref().and_then(|decision| decision.foretold) {
            Some(Foretold::Passes) => self.hints_kept += 1,
            Some(Foretold::Denied) => self.hints_early += 1,
            None => {}
        }
    }
}

/// What happened so far.
pub struct History {
    books: Books,
    trace: Trace,
    /// What was found.
    pub violations: Vec<Violation>,
    /// How often what happened.
    pub coverage: Coverage,
}

impl History {
    /// Nothing happened yet.
    pub fn new(terms: Terms, trace: Trace) -> Self {
        let books = Books { answers: Answers::under(terms), ..Books::default() };
        Self { books, trace, violations: Vec::new(), coverage: Coverage::default() }
    }

    /// A step happened.
    pub fn record(&mut self, at_ms: i64, step: &Step) {
        self.trace.line(at_ms, || step.to_string());
        if let Step::Answered(answered) = step
            && let Some(policy) = answered.response.degraded
        {
            *self.coverage.degraded.entry((policy, answered.response.allowed)).or_default() += 1;
        }
        let facts = self.books.take_in(step);
        self.coverage.note(&facts);
        for violation in violations(&self.books, &facts) {
            self.trace.line(at_ms, || format!("VIOLATES {}: {}", violation.invariant, violation.what));
            if self.violations.len() < VIOLATIONS_MAX {
                self.violations.push(violation);
            }
        }
    }

    /// Something else is worth a line.
    pub fn note(&mut self, at_ms: i64, what: impl FnOnce() -> String) {
        self.trace.line(at_ms, what);
    }

    /// How everything must stand.
    pub fn books(&self) -> &Books {
        &self.books
    }

    /// The lines of the trace.
    pub fn take_lines(&mut self) -> Vec<String> {
        std::mem::take(&mut self.trace).into_lines()
    }
}
