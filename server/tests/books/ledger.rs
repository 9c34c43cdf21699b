//! What the test remembers of what it did and was answered.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use rateguard_core::ids::{BudgetId, EventId, ReservationId};
use rateguard_core::money::Nanos;
use rateguard_core::rule::Budget;
use rateguard_core::time::Millis;
use rateguard_core::usage::{CallOutcome, Exactness, TokenCounts};
use rateguard_engine::error::EngineError;
use rateguard_engine::report::{RecordOutcome, UsageRecord};

use crate::steps::{Reach, Record};

/// Who is charged.
pub const SUBJECTS: [&str; 3] = ["first", "second", "third"];

/// A reservation that was allowed.
#[derive(Clone, Debug)]
pub struct Reserved {
    pub id: ReservationId,
    pub subject: &'static str,
    pub nanos: i64,
    pub floor: i64,
    pub decided_at: Millis,
    pub expires_at: Millis,
    pub is_released: bool,
    /// Whether a crash came after it.
    pub is_forgotten: bool,
}

/// A budget that was made.
#[derive(Clone, Debug)]
pub struct Made {
    pub budget: Budget,
    pub reach: Reach,
    /// The reservations that there were before: they hold nothing of it.
    pub reserved_before: usize,
}

impl Made {
    pub fn id(&self) -> &BudgetId {
        &self.budget.id
    }
}

/// A report with its answer.
pub type Answered = (Vec<UsageRecord>, Result<Vec<RecordOutcome>, EngineError>);

/// Everything that was done.
#[derive(Default)]
pub struct Ledger {
    pub reservations: Vec<Reserved>,
    pub budgets: Vec<Made>,
    /// The cost by id of every record that was accepted.
    pub accepted: BTreeMap<EventId, i64>,
    /// Ids whose report was cut off by a crash.
    pub unknown: BTreeSet<EventId>,
    sent: Vec<UsageRecord>,
    /// Until when a crash may leave money held.
    pub crash_holds_until: Millis,
}

impl Ledger {
    /// The record as it is sent.
    pub fn record(&mut self, record: Record, now: Millis) -> UsageRecord {
        let fresh = self.fresh(now);
        let record = match record {
            Record::Fresh { subject, cost, ago_ms } => UsageRecord {
                subject: SUBJECTS[subject].to_owned(),
                occurred_at: Some(now.plus(-ago_ms)),
                cost: Some(Nanos::from_stored(cost)),
                ..fresh
            },
            Record::Reserved { pick, attempt, is_final, exact, cost } => {
                let record = self.naming(fresh, pick);
                let exactness = if exact { Exactness::Exact } else { Exactness::Partial };
                UsageRecord { attempt, is_final, exactness, cost: Some(Nanos::from_stored(cost)), ..record }
            }
            Record::Again { pick, reservation } => match picked(&self.sent, pick).cloned() {
                Some(before) => reservation.map_or(before.clone(), |pick| self.naming(before, pick)),
                None => fresh,
            },
        };
        self.sent.push(record.clone());
        record
    }

    fn naming(&self, record: UsageRecord, pick: usize) -> UsageRecord {
        match picked(&self.reservations, pick) {
            Some(reserved) => UsageRecord {
                reservation: Some(reserved.id.clone()),
                subject: reserved.subject.to_owned(),
                ..record
            },
            None => record,
        }
    }

    fn fresh(&self, now: Millis) -> UsageRecord {
        UsageRecord {
            event_id: EventId::parse("event_id", &format!("event-{}", self.sent.len())).unwrap(),
            occurred_at: Some(now),
            request_id: None,
            reservation: None,
            attempt: 1,
            is_final: true,
            api: String::new(),
            endpoint: String::new(),
            method: String::new(),
            subject: SUBJECTS[0].to_owned(),
            model: String::new(),
            service_tier: String::new(),
            outcome: CallOutcome::default(),
            tokens: TokenCounts::default(),
            amounts: rateguard_core::amounts::Amounts::default(),
            cost: Some(Nanos::from_stored(1_000)),
            price: None,
            dimensions: Vec::new(),
            exactness: Exactness::Exact,
            already_consumed: Vec::new(),
            ip: None,
        }
    }

    /// Takes answers of reports that ran at once. Only a crash may leave one open.
    pub fn take(&mut self, calls: Vec<Answered>, crashed: bool) -> Result<(), TestCaseError> {
        let mut others = Vec::new();
        for (records, answer) in calls {
            match answer {
                Ok(outcomes) => {
                    prop_assert_eq!(outcomes.len(), records.len(), "each record is answered");
                    others.extend(self.accept(records, outcomes)?);
                }
                Err(_) if crashed => self.unknown.extend(records.into_iter().map(|r| r.event_id)),
                Err(error) => prop_assert!(false, "a report failed: {}", error),
            }
        }
        others.iter().try_for_each(|(record, outcome)| self.is_known(record, outcome))
    }

    fn accept(
        &mut self,
        records: Vec<UsageRecord>,
        outcomes: Vec<RecordOutcome>,
    ) -> Result<Vec<(UsageRecord, RecordOutcome)>, TestCaseError> {
        let mut others = Vec::new();
        for (record, outcome) in records.into_iter().zip(outcomes) {
            if let RecordOutcome::Accepted { cost, .. } = outcome {
                let before = self.accepted.insert(record.event_id.clone(), cost.get());
                prop_assert_eq!(before, None, "{} was accepted twice", record.event_id);
            } else {
                others.push((record, outcome));
            }
        }
        Ok(others)
    }

    fn is_known(&self, record: &UsageRecord, outcome: &RecordOutcome) -> Result<(), TestCaseError> {
        let id = &record.event_id;
        match outcome {
            RecordOutcome::Duplicate { cost, .. } if !self.unknown.contains(id) => {
                prop_assert_eq!(self.accepted.get(id).copied(), Some(cost.get()), "the first copy of {}", id);
            }
            RecordOutcome::Rejected { error, settled_by } => match settled_by {
                Some(first) => prop_assert!(
                    self.accepted.contains_key(first) || self.unknown.contains(first),
                    "{} settled the attempt of {}, but was never accepted",
                    first,
                    id
                ),
                None => prop_assert!(false, "{} was refused: {}", id, error),
            },
            RecordOutcome::Accepted { .. } | RecordOutcome::Duplicate { .. } => {}
        }
        Ok(())
    }
}

/// What a pick chooses among what there is, counted back from the newest.
pub fn picked<T>(among: &[T], pick: usize) -> Option<&T> {
    among.iter().rev().nth(pick.checked_rem(among.len())?)
}
