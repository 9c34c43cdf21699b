//! What replicas answered to their callers: the admissions as a caller sees them, wherever they were
//! decided.

use std::collections::{BTreeMap, BTreeSet};

use rateguard_core::counter::{Limit, Refill};
use rateguard_core::ids::{RequestId, ReservationId};
use rateguard_core::rule::Enforcement;
use rateguard_core::time::Millis;
use rateguard_core::unit::Unit;

use super::reservation::ReservationBook;
use crate::steps::Answered;

/// An admission under one limit.
#[derive(Clone, Debug)]
struct Admission {
    from: Millis,
    to: Millis,
    amount: i64,
    reservation: Option<ReservationId>,
}

/// One limit with its admissions.
#[derive(Clone, Debug)]
struct Admitted {
    limit: Limit,
    unit: Unit,
    admissions: Vec<Admission>,
}

/// Admissions by limit and subject.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    limits: BTreeMap<(String, String), Admitted>,
    known: BTreeSet<RequestId>,
    /// Limits that count each subject by itself.
    by_subject: BTreeSet<String>,
    /// Windows of a limit in which more was admitted than it allows, as of the last answer.
    pub over: Vec<String>,
}

impl Answers {
    /// No answers yet, where these limits count each subject by itself.
    pub fn under(by_subject: BTreeSet<String>) -> Self {
        Self { by_subject, ..Self::default() }
    }

    /// Takes an answer in. The same request admits once, however often it is answered.
    pub(super) fn take_in(
        &mut self,
        answered: &Answered,
        reservations: &BTreeMap<ReservationId, ReservationBook>,
    ) {
        self.over.clear();
        let response = &answered.response;
        let is_new = answered.request_id.clone().is_none_or(|id| self.known.insert(id));
        // Nobody can say when a decision was taken that is given again.
        if !response.allowed || !is_new || response.replayed {
            return;
        }
        for status in response.limits.iter().filter(|status| status.enforcement == Enforcement::Enforced) {
            let amount = amount_of(answered, &status.unit);
            let id = status.id.as_str().to_owned();
            let subject = self.by_subject.contains(&id).then(|| answered.subject.clone());
            let place = (id, subject.unwrap_or_default());
            let (limit, unit) = (status.limit, status.unit.clone());
            let admitted =
                self.limits.entry(place).or_insert(Admitted { limit, unit, admissions: Vec::new() });
            admitted.limit = limit;
            let reservation = response.reservation.as_ref().map(|(id, _)| id.clone());
            let Answered { from, to, .. } = *answered;
            admitted.admissions.push(Admission { from, to, amount, reservation });
            self.over.extend(admitted.over(to, reservations));
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
            Limit::CalendarWindow { .. } | Limit::Budget { .. } => return None,
        };
        let within = self.admissions.iter().filter(|a| a.from.get() >= since && a.to <= to);
        let admitted: i64 = within.map(|admission| self.stands(admission, reservations)).sum();
        (admitted > size)
            .then(|| format!("{admitted} of {size} {} were answered as allowed since {since}", self.unit))
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
