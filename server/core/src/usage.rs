//! Usage: what one call used, and the event that it becomes once it is priced.

use std::net::IpAddr;

use crate::amounts::Amounts;
use crate::counter::{CounterId, Position};
use crate::ids::{ApiId, EventId, KeyId, PriceId, RequestId, ReservationId, WorkspaceId};
use crate::money::{Nanos, Picos, Price};
use crate::time::Millis;
use crate::unit::Unit;

/// Token counts by class. Absent is unknown; zero is zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokenCounts {
    /// All input, cached and cache-writing tokens included.
    pub input_total: Option<i64>,
    /// Input read from a cache.
    pub cached_input: Option<i64>,
    /// Input written to a cache of 5 minutes.
    pub cache_write_5m: Option<i64>,
    /// Input written to a cache of 1 hour.
    pub cache_write_1h: Option<i64>,
    /// All output, reasoning included.
    pub output: Option<i64>,
    /// Output spent on reasoning.
    pub reasoning: Option<i64>,
    /// Audio within the input.
    pub audio_input: Option<i64>,
    /// Audio within the output.
    pub audio_output: Option<i64>,
}

impl TokenCounts {
    /// Input and output together: what a limit on tokens counts. `None` when neither is known.
    pub fn total(&self) -> Option<i64> {
        match (self.input_total, self.output) {
            (None, None) => None,
            (input, output) => Some(input.unwrap_or(0).saturating_add(output.unwrap_or(0))),
        }
    }
}

/// How much is known of what a call used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Exactness {
    /// The upstream's own figures.
    #[default]
    Exact,
    /// A guess.
    Estimated,
    /// Figures of a call that was cut off.
    Partial,
}

/// What an event stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// A reported call.
    #[default]
    Usage,
    /// The floor of a reservation that nobody settled.
    Expired,
    /// Takes another event back, with a negative cost.
    Correction,
}

/// Something about an event that its reader should know. Flags are a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct EventFlags(pub u32);

impl EventFlags {
    /// No price was known; the API's policy decided the cost.
    pub const PRICE_UNKNOWN: Self = Self(1);
    /// The reservation named is not known (any more).
    pub const RESERVATION_UNKNOWN: Self = Self(1 << 1);
    /// The reservation named had expired.
    pub const RESERVATION_EXPIRED: Self = Self(1 << 2);
    /// The reservation named had been released.
    pub const RESERVATION_RELEASED: Self = Self(1 << 3);
    /// Parts of the token counts were larger than their whole.
    pub const PARTS_EXCEED_TOTAL: Self = Self(1 << 4);
    /// The API named is not one of the workspace's.
    pub const API_UNKNOWN: Self = Self(1 << 5);
    /// The cost is the reporter's own figure.
    pub const COST_EXPLICIT: Self = Self(1 << 6);
    /// The response named no usage.
    pub const USAGE_UNKNOWN: Self = Self(1 << 7);
    /// The price that the reporter named is not known; the model's own was applied.
    pub const PRICE_REFERENCE_UNKNOWN: Self = Self(1 << 8);

    /// Whether all of `other` is in the set.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Adds to the set.
    pub fn insert(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

/// Who made a call, to what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallIdentity {
    /// The key that is charged.
    pub key: KeyId,
    /// The API, when it is one of the workspace's.
    pub api: Option<ApiId>,
    /// The API as the caller named it.
    pub api_name: String,
    /// The path within the API.
    pub endpoint: String,
    /// The method.
    pub method: String,
    /// The model that answered.
    pub model: String,
    /// The service tier that answered.
    pub service_tier: String,
    /// Who is charged, named by the key's owner.
    pub subject: String,
}

/// How a call went.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CallOutcome {
    /// The HTTP status; 0 when there was none.
    pub status_code: u16,
    /// From the call to its end.
    pub latency_ms: Option<i64>,
    /// The upstream's part of it.
    pub upstream_latency_ms: Option<i64>,
    /// Bytes of the request's body.
    pub bytes_in: Option<i64>,
    /// Bytes of the response's body.
    pub bytes_out: Option<i64>,
    /// Whether a response cache answered.
    pub cache_hit: bool,
    /// Whether a limit refused it.
    pub rate_limited: bool,
    /// A short class of error; empty when none.
    pub error_type: String,
}

/// A version of a price.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriceRef {
    /// The price.
    pub id: PriceId,
    /// Its version.
    pub version: u32,
}

/// One part of a cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CostComponent {
    /// What it is for, for example `input` or `output`.
    pub name: String,
    /// How many units.
    pub amount: i64,
    /// The price of one.
    pub price: Price,
    /// Their product, before the one rounding.
    pub cost: Picos,
}

/// One event: a record, priced, as the log keeps it for good.
#[derive(Clone, Debug, PartialEq)]
pub struct UsageEvent {
    /// The tenant.
    pub workspace: WorkspaceId,
    /// Unique in the workspace.
    pub event_id: EventId,
    /// What it stands for.
    pub kind: EventKind,
    /// The event that it takes back.
    pub corrects: Option<EventId>,
    /// The check that it belongs to.
    pub request_id: Option<RequestId>,
    /// The reservation that it settles.
    pub reservation: Option<ReservationId>,
    /// The attempt within the reservation; 0 for events of the server's own.
    pub attempt: u32,
    /// Whether the reservation is over with it.
    pub is_final: bool,
    /// When the call happened.
    pub occurred_at: Millis,
    /// When its cost counts: the reservation's decision, else when it happened, but never later than
    /// when it was received.
    pub accounted_at: Millis,
    /// When the server took it.
    pub received_at: Millis,
    /// Who and what.
    pub call: CallIdentity,
    /// Where the call came from.
    pub ip: Option<IpAddr>,
    /// How it went.
    pub outcome: CallOutcome,
    /// Tokens by class.
    pub tokens: TokenCounts,
    /// Other amounts by unit.
    pub amounts: Amounts,
    /// Units that a check has consumed before.
    pub already_consumed: Vec<Unit>,
    /// Free labels.
    pub dimensions: Vec<(String, String)>,
    /// How much is known.
    pub exactness: Exactness,
    /// The cost; negative for corrections.
    pub cost: Nanos,
    /// The cost by component.
    pub components: Vec<CostComponent>,
    /// The price that was applied.
    pub price: Option<PriceRef>,
    /// What a reader should know.
    pub flags: EventFlags,
    /// Budgets' counters that a reservation had captured.
    pub captured_budgets: Vec<CounterId>,
}

/// An event with its place in the log.
#[derive(Clone, Debug, PartialEq)]
pub struct LoggedEvent {
    /// Its place.
    pub position: Position,
    /// The event.
    pub event: UsageEvent,
}
