//! From the end of a call to the record that is reported.
//!
//! The record's event id is made of the request's id, so that a report that is sent again is the same
//! record. What counts as exact is the upstream's own figure alone; the rest is marked as what it is,
//! and never below what the input must have cost.
//!
//! An upstream that answers with an error status and states no usage bills nothing: such a call is
//! recorded with its status and counts as a request, at a cost of zero that is said explicitly.

use std::sync::Arc;
use std::time::Duration;

use prost_types::Timestamp;
use rateguard_proto::v1::{self, NanoMoney, PriceReference, UsageExactness, UsageRecord};

use super::facts::Facts;
use crate::gateway::Shared;
use crate::gateway::slots::Place;

/// The only attempt of a call: the gateway repeats none by itself.
const ATTEMPT: i32 = 1;

/// Longest latency that a record may state, in milliseconds: a day.
const LATENCY_MS_MAX: u128 = 86_400_000;

/// A call that holds a reservation, and what it owes: a report or a release.
pub(crate) struct Settlement {
    shared: Arc<Shared>,
    pub(crate) facts: Facts,
    reservation_id: String,
    place: Place,
}

/// What a call used, as far as is known.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Figures {
    /// The model that answered; the requested one stands in where it is not known.
    pub(crate) model: Option<String>,
    pub(crate) service_tier: Option<String>,
    /// Absent: nothing is known, and the API's policy decides.
    pub(crate) tokens: Option<v1::TokenUsage>,
    pub(crate) exactness: UsageExactness,
    /// The upstream bills nothing for it.
    pub(crate) is_free: bool,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ending {
    /// The status that the call was answered with; 0 where nobody was answered.
    pub(crate) status: u16,
    pub(crate) upstream_latency: Option<Duration>,
    pub(crate) bytes_out: Option<u64>,
    /// A word for the breakdown by error; empty for none.
    pub(crate) error_type: &'static str,
}

/// What a call costs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Priced {
    pub(crate) cost: NanoMoney,
    pub(crate) price: Option<PriceReference>,
    /// Whether the cost follows from a price and the upstream's figures. One that the API's policy
    /// put in their place is flagged on the event, and not told as if it were known.
    pub(crate) is_known: bool,
}

impl Figures {
    /// Everything that the upstream could state.
    pub(crate) fn nothing_stated(exactness: UsageExactness) -> Self {
        Self { model: None, service_tier: None, tokens: None, exactness, is_free: false }
    }

    /// The upstream answered with an error and bills nothing.
    pub(crate) fn free() -> Self {
        let tokens = v1::TokenUsage { input_total: Some(0), output: Some(0), ..v1::TokenUsage::default() };
        Self { tokens: Some(tokens), is_free: true, ..Self::nothing_stated(UsageExactness::Exact) }
    }

    /// The call may have reached the upstream, and nothing came back: its input at least is charged.
    pub(crate) fn input_floor(facts: &Facts) -> Self {
        let expected = facts.expected.as_ref();
        let tokens = expected.map(|expected| v1::TokenUsage {
            input_total: i64::try_from(expected.input_tokens).ok(),
            output: Some(0),
            ..v1::TokenUsage::default()
        });
        Self { tokens, ..Self::nothing_stated(UsageExactness::Partial) }
    }
}

/// Whether a flag says that the API's policy decided the cost.
fn is_of_policy(flag: v1::UsageFlag) -> bool {
    matches!(flag, v1::UsageFlag::PriceUnknown | v1::UsageFlag::UsageMissing)
}

impl Settlement {
    pub(crate) fn new(shared: Arc<Shared>, facts: Facts, reservation_id: String, place: Place) -> Self {
        Self { shared, facts, reservation_id, place }
    }

    pub(crate) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// What the call costs, for its client; `None` where the server does not say.
    pub(crate) async fn price(&self, figures: &Figures, ending: &Ending) -> Option<Priced> {
        let record = self.record(figures, ending, None);
        match self.shared.control.price(&self.facts.app, record).await {
            Ok(mut answer) => {
                let is_known = !answer.flags().any(is_of_policy);
                answer.cost.take().map(|cost| Priced { cost, price: answer.price, is_known })
            }
            Err(error) => {
                let request_id = &self.facts.request_id;
                tracing::warn!(
                    request_id,
                    cause = error.cause,
                    "a call's cost could not be told to its client"
                );
                None
            }
        }
    }

    /// Reports what the call used; under the price that its client was told, if it was told one.
    pub(crate) fn report(self, figures: &Figures, ending: &Ending, priced: Option<&Priced>) {
        let price = priced.and_then(|priced| priced.price.clone());
        let record = self.record(figures, ending, price);
        self.shared.reports.send(&self.facts.app, record, self.place);
    }

    /// Gives everything back: the call never reached its upstream. Where the counters did not answer
    /// nothing was reserved.
    pub(crate) fn release(self) {
        if self.reservation_id.is_empty() {
            return;
        }
        self.shared.reports.release(&self.facts.app, self.reservation_id, self.place);
    }

    fn record(&self, figures: &Figures, ending: &Ending, price: Option<PriceReference>) -> UsageRecord {
        UsageRecord {
            reservation_id: self.reservation_id.clone(),
            attempt: Some(ATTEMPT),
            r#final: Some(true),
            price,
            ..record(&self.facts, figures, ending)
        }
    }
}

/// Reports a call that a limit turned away: it used nothing, and shows in the analytics.
pub(crate) fn report_denied(shared: &Shared, facts: &Facts, status: u16, code: &'static str, place: Place) {
    let ending = Ending { status, error_type: code, ..Ending::default() };
    let figures = Figures { tokens: None, ..Figures::free() };
    let record = UsageRecord { rate_limited: true, ..record(facts, &figures, &ending) };
    shared.reports.send(&facts.app, record, place);
}

fn record(facts: &Facts, figures: &Figures, ending: &Ending) -> UsageRecord {
    let requested = facts.expected.as_ref().and_then(|expected| expected.model.as_ref());
    UsageRecord {
        event_id: format!("{}:{ATTEMPT}", facts.request_id),
        occur_time: Some(Timestamp::from(facts.occurred_at)),
        api: facts.route.slug.clone(),
        endpoint: facts.endpoint.clone(),
        method: facts.method.as_str().to_owned(),
        status_code: i32::from(ending.status),
        latency_ms: Some(milliseconds(facts.arrived.elapsed())),
        upstream_latency_ms: ending.upstream_latency.map(milliseconds),
        bytes_in: i64::try_from(facts.bytes_in.get()).ok(),
        bytes_out: ending.bytes_out.and_then(|bytes| i64::try_from(bytes).ok()),
        subject: facts.subject.clone(),
        model: figures.model.as_ref().or(requested).cloned().unwrap_or_default(),
        tokens: figures.tokens,
        cost: figures.is_free.then(NanoMoney::default),
        service_tier: figures.service_tier.clone().unwrap_or_default(),
        exactness: figures.exactness.into(),
        error_type: ending.error_type.to_owned(),
        request_id: facts.request_id.clone(),
        ip: facts.ip.map(|ip| ip.to_string()).unwrap_or_default(),
        ..UsageRecord::default()
    }
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis().min(LATENCY_MS_MAX)).unwrap_or(i64::MAX)
}
