//! What a client remembers of what it sent and was answered.

use std::collections::BTreeMap;

use rateguard_proto::v1;

use crate::clients::{dollars, now};
use crate::price::{MODEL, cost_nanos};

/// What a call costs, or is thought to cost.
#[derive(Clone, Copy, Debug)]
pub enum Worth {
    /// Money that the caller names.
    Nanos(i64),
    /// Tokens that the server prices.
    Tokens { input: i64, output: i64 },
}

impl Worth {
    pub fn nanos(self) -> i64 {
        match self {
            Self::Nanos(nanos) => nanos,
            Self::Tokens { input, output } => cost_nanos(input, output),
        }
    }

    /// What a reservation of it is charged when it expires: its input.
    fn floor_nanos(self) -> i64 {
        match self {
            Self::Nanos(_) => 0,
            Self::Tokens { input, .. } => cost_nanos(input, 0),
        }
    }

    /// A check that reserves it.
    pub fn reserve(self, subject: &str, ttl_ms: Option<i64>) -> v1::CheckQuotaRequest {
        let (model, estimate) = match self {
            Self::Nanos(nanos) => {
                ("", v1::Estimate { cost: Some(dollars(nanos)), ..v1::Estimate::default() })
            }
            Self::Tokens { input, output } => (
                MODEL,
                v1::Estimate {
                    input_tokens: Some(input),
                    max_output_tokens: Some(output),
                    ..v1::Estimate::default()
                },
            ),
        };
        v1::CheckQuotaRequest {
            subject: subject.to_owned(),
            model: model.to_owned(),
            estimate: Some(estimate),
            mode: v1::CheckMode::Reserve.into(),
            reservation_ttl_ms: ttl_ms,
            ..v1::CheckQuotaRequest::default()
        }
    }

    /// A record of it, as it is sent now and again later.
    pub fn record(self, event_id: String, subject: &str) -> v1::UsageRecord {
        let record = v1::UsageRecord {
            event_id,
            subject: subject.to_owned(),
            occur_time: Some(now()),
            status_code: 200,
            ..v1::UsageRecord::default()
        };
        match self {
            Self::Nanos(nanos) => v1::UsageRecord { cost: Some(dollars(nanos)), ..record },
            Self::Tokens { input, output } => v1::UsageRecord {
                model: MODEL.to_owned(),
                tokens: Some(v1::TokenUsage {
                    input_total: Some(input),
                    output: Some(output),
                    ..v1::TokenUsage::default()
                }),
                ..record
            },
        }
    }
}

/// A record that was sent.
#[derive(Clone)]
pub struct Sent {
    pub record: v1::UsageRecord,
    /// What it costs.
    pub nanos: i64,
    /// Whether the answer ACCEPTED came.
    pub accepted: bool,
}

impl Sent {
    pub fn new(record: v1::UsageRecord, worth: Worth) -> Self {
        Self { record, nanos: worth.nanos(), accepted: false }
    }
}

/// A reservation that was allowed.
#[derive(Clone)]
pub struct Reserved {
    /// What it is charged when it expires.
    pub floor_nanos: i64,
    /// What it surely holds while nobody has heard of it again.
    pub surely_held_nanos: i64,
}

impl Reserved {
    pub fn of(worth: Worth, expires_soon: bool) -> Self {
        let surely_held_nanos = if expires_soon { 0 } else { worth.nanos() };
        Self { floor_nanos: worth.floor_nanos(), surely_held_nanos }
    }
}

/// Everything that one client, or several together, sent and were answered.
#[derive(Clone, Default)]
pub struct Ledger {
    /// By the event's id.
    pub sent: BTreeMap<String, Sent>,
    /// By id.
    pub reservations: BTreeMap<String, Reserved>,
    /// What all reservations together asked to hold, whether or not the answer came.
    pub asked_nanos: i64,
}

impl Ledger {
    /// Puts another's beside it.
    pub fn join(&mut self, other: Self) {
        self.sent.extend(other.sent);
        self.reservations.extend(other.reservations);
        self.asked_nanos += other.asked_nanos;
    }

    pub fn accepted(&self) -> impl Iterator<Item = (&String, &Sent)> {
        self.sent.iter().filter(|(_, sent)| sent.accepted)
    }

    pub fn surely_held_nanos(&self) -> i64 {
        self.reservations.values().map(|reserved| reserved.surely_held_nanos).sum()
    }
}
