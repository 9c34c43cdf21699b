//! What replicas answered to their callers: the admissions as a caller sees them, wherever they were
//! decided.

use std::collections::{BTreeMap, BTreeSet};

use rateguard_core::counter::{CounterId, Limit, Refill};
use rateguard_core::ids::{RequestId, ReservationId};
use rateguard_core::rule::Enforcement;
use rateguard_core::time::Millis;
use rateguard_core::unit::Unit;
use rateguard_engine::degraded::Degraded;

use super::counter::{CounterBook, part_ms};
use super::reservation::ReservationBook;
use crate::steps::Answered;

/// An admission under one limit.
#[derive(Clone, Debug)]
struct Admission {
    from: Millis,
    to: Millis,
    amount: i64,
    reservation: Option<ReservationId>,
    /// Whether the shared counter gave it, or gave it out before.
    is_counted: bool,
}

/// One limit as it was set, with nothing of it kept back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whole {
    /// What is admitted at most.
    pub limit: Limit,
    /// Whether each subject is counted by itself.
    pub by_subject: bool,
    /// Its shared counters: by subject, or the one of all under none.
    pub counters: BTreeMap<String, CounterId>,
}

/// What everybody who answers has to keep.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// Enforced limits by their ids.
    pub limits: BTreeMap<String, Whole>,
    /// The policy by which calls are decided without the counters, if they are.
    pub without_counters: Option<Degraded>,
}

/// One limit with its admissions.
#[derive(Clone, Debug)]
struct Admitted {
    limit: Limit,
    counter: Option<CounterId>,
    unit: Unit,
    admissions: Vec<Admission>,
}

/// Admissions by limit and subject.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    limits: BTreeMap<(String, String), Admitted>,
    known: BTreeSet<RequestId>,
    terms: Terms,
    /// What was asked before counts no more.
    counted_from: Millis,
    /// Windows of a limit in which more was admitted than it allows, as of the last answer.
    pub over: Vec<String>,
}

impl Answers {
    /// No answers yet.
    pub fn under(terms: Terms) -> Self {
        Self { terms, ..Self::default() }
    }

    /// Counters were set back: what was admitted before counts no more.
    pub(super) fn forget_before(&mut self, now: Millis) {
        self.counted_from = now;
        self.limits.clear();
    }

    /// Takes an answer in. The same request admits once, however often it is answered.
    pub(super) fn take_in(
        &mut self,
        answered: &Answered,
        reservations: &BTreeMap<ReservationId, ReservationBook>,
        counted: &BTreeMap<CounterId, CounterBook>,
    ) {
        self.over.clear();
        let response = &answered.response;
        if response.degraded.is_some() && response.degraded != self.terms.without_counters {
            let (by, must) = (response.degraded, self.terms.without_counters);
            self.over.push(format!("without the counters it was decided by {by:?}, and must be by {must:?}"));
        }
        // Nobody can say when a decision was taken that is given again.
        let is_first = response.allowed && !response.replayed;
        if !is_first
            || answered.from < self.counted_from
            || !answered.request_id.clone().is_none_or(|id| self.known.insert(id))
        {
            return;
        }
        for status in response.limits.iter().filter(|status| status.enforcement == Enforcement::Enforced) {
            let amount = amount_of(answered, &status.unit);
            let id = status.id.as_str().to_owned();
            let Some(Whole { limit, by_subject, counters }) = self.terms.limits.get(&id) else { continue };
            let subject = by_subject.then(|| answered.subject.clone()).unwrap_or_default();
            let (limit, counter) = (*limit, counters.get(&subject).copied());
            let unit = status.unit.clone();
            let fresh = Admitted { limit, counter, unit, admissions: Vec::new() };
            let admitted = self.limits.entry((id, subject)).or_insert(fresh);
            let reservation = response.reservation.as_ref().map(|(id, _)| id.clone());
            let Answered { from, to, .. } = *answered;
            let is_counted = response.degraded.is_none();
            admitted.admissions.push(Admission { from, to, amount, reservation, is_counted });
            self.over.extend(admitted.over(to, reservations));
            self.over.extend(admitted.over_what_was_given(from, reservations, counted));
        }
    }
}

fn amount_of(answered: &Answered, unit: &Unit) -> i64 {
    let named = answered.amounts.iter().find(|(name, _)| name == unit.as_str()).map(|(_, amount)| *amount);
    named.unwrap_or(i64::from(*unit == Unit::Requests))
}

impl Admitted {
    /// Whether a window that ends with the last answer has more than it may. Only what was surely
    /// decided in it is counted.
    fn over(&self, to: Millis, reservations: &BTreeMap<ReservationId, ReservationBook>) -> Option<String> {
        let (since, size) = match self.limit {
            Limit::FixedWindow { limit, window_ms } => (to.get() - to.get() % window_ms, limit),
            Limit::SlidingWindow { limit, window_ms } => (to.get() - window_ms + 1, limit),
            Limit::TokenBucket { capacity, refill } => {
                return self.bucket_over(capacity, refill, to, reservations);
            }
            Limit::CalendarWindow { .. } | Limit::Budget { .. } | Limit::Concurrency { .. } => return None,
        };
        let within = self.admissions.iter().filter(|a| a.from.get() >= since && a.to <= to);
        let admitted: i64 = within.map(|admission| self.stands(admission, reservations)).sum();
        (admitted > size)
            .then(|| format!("{admitted} of {size} {} were answered as allowed since {since}", self.unit))
    }

    /// Whether more was answered since a window began than its counter has given since, leases included:
    /// then a lease was spent past its window.
    fn over_what_was_given(
        &self,
        from: Millis,
        reservations: &BTreeMap<ReservationId, ReservationBook>,
        counted: &BTreeMap<CounterId, CounterBook>,
    ) -> Option<String> {
        let since = match self.limit {
            Limit::FixedWindow { window_ms, .. } => from.get() - from.get() % window_ms,
            Limit::SlidingWindow { window_ms, .. } => from.get() - from.get() % part_ms(window_ms),
            _ => return None,
        };
        let given = counted.get(&self.counter?)?.given_since(Millis::new(since));
        let answered = self.admissions.iter().filter(|a| a.is_counted && a.from.get() >= since);
        let answered: i64 = answered.map(|admission| self.stands(admission, reservations)).sum();
        let unit = &self.unit;
        (i128::from(answered) > given)
            .then(|| format!("{answered} {unit} were answered since {since}, and {given} given out"))
    }

    /// Whether more was admitted since any instant than a bucket holds and refills.
    fn bucket_over(
        &self,
        capacity: i64,
        refill: Refill,
        to: Millis,
        reservations: &BTreeMap<ReservationId, ReservationBook>,
    ) -> Option<String> {
        let (period, units) = (i128::from(refill.period_ms()), i128::from(refill.units()));
        self.admissions.iter().find_map(|first| {
            let since = self.admissions.iter().filter(|other| other.from >= first.from);
            let admitted: i64 = since.map(|admission| self.stands(admission, reservations)).sum();
            let excess = i128::from(admitted - capacity) * period - units * i128::from(to.since(first.from));
            let from = first.from.get();
            (excess > 0).then(|| format!("{admitted} of a bucket of {capacity} were answered since {from}"))
        })
    }

    fn stands(&self, admission: &Admission, reservations: &BTreeMap<ReservationId, ReservationBook>) -> i64 {
        let book = admission.reservation.as_ref().and_then(|id| reservations.get(id));
        let takings = book.into_iter().flat_map(|book| &book.takings);
        // A reservation may have taken several limits of the unit; what was given back is the same.
        let least = takings.filter(|taking| taking.unit == self.unit).map(|taking| taking.stands).min();
        least.map_or(admission.amount, |stands| stands.min(admission.amount))
    }
}
