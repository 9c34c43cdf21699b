//! Usage as it is asked for: raw events, and rollups of them.

use std::ops::Range;

use async_trait::async_trait;
use rateguard_core::counter::Position;
use rateguard_core::ids::{ApiId, EventId, KeyId, RequestId, ReservationId, WorkspaceId};
use rateguard_core::time::{Millis, Zone};
use rateguard_core::usage::LoggedEvent;

use super::StoreError;

/// Which raw events. Every part that is set must hold; the range is of `occurred_at`, half-open.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EventFilter {
    /// When they happened.
    pub occurred: Option<Range<Millis>>,
    /// The API.
    pub api: Option<ApiId>,
    /// The key.
    pub key: Option<KeyId>,
    /// The subject.
    pub subject: Option<String>,
    /// The model.
    pub model: Option<String>,
    /// The event.
    pub event_id: Option<EventId>,
    /// The check that they belong to.
    pub request_id: Option<RequestId>,
    /// The reservation that they settled.
    pub reservation: Option<ReservationId>,
}

/// One page of raw events, newest position first.
#[derive(Clone, Debug, PartialEq)]
pub struct EventQuery {
    /// Which.
    pub filter: EventFilter,
    /// Only before this position; `None` begins at the newest.
    pub before: Option<Position>,
    /// At most so many.
    pub limit: usize,
}

/// A page, with the position to go on before. A store looks through a bounded number of events for
/// one page, so that a page of a filter that few of them pass may be short or empty without being
/// the last: only [`EventPage::next_before`] tells.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EventPage {
    /// The events.
    pub events: Vec<LoggedEvent>,
    /// Where the next page begins, below every position looked at; `None` at the end.
    pub next_before: Option<Position>,
}

/// Which usage a query sums. Empty parts mean all; the range is of `accounted_at`, half-open.
#[derive(Clone, Debug, PartialEq)]
pub struct UsageFilter {
    /// When it counts.
    pub accounted: Range<Millis>,
    /// The API.
    pub api: Option<ApiId>,
    /// The key.
    pub key: Option<KeyId>,
    /// The subject.
    pub subject: Option<String>,
    /// The model.
    pub model: Option<String>,
}

/// Sums over usage. Costs are 128 bits wide: a sum of many may pass what one record can.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    /// Calls: events of kind usage.
    pub requests: i64,
    /// Calls with a status of 400 and more, or an error type.
    pub errors: i64,
    /// Calls that a limit refused.
    pub rate_limited: i64,
    /// Calls that a cache answered.
    pub cache_hits: i64,
    /// Money, corrections included, in nano-units.
    pub cost_nanos: i128,
    /// Input tokens, cached ones included.
    pub input_tokens: i64,
    /// Of these, cached ones.
    pub cached_input_tokens: i64,
    /// Output tokens.
    pub output_tokens: i64,
    /// Latency at the 50th, 95th and 99th percentile, from histograms whose buckets are at most
    /// a tenth wide; `None` where no latency was reported.
    pub latency_ms_percentiles: Option<[i64; 3]>,
    /// The log position up to which all events are in it.
    pub through: Position,
}

/// The length of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Granularity {
    /// A minute.
    Minute,
    /// An hour.
    Hour,
    /// A day of a time zone.
    Day,
}

/// What a series is split by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GroupBy {
    /// The API.
    Api,
    /// The key.
    Key,
    /// The HTTP status.
    Status,
    /// The error type.
    Error,
    /// The endpoint.
    Endpoint,
    /// The subject.
    Subject,
    /// The model.
    Model,
}

/// A series over time.
#[derive(Clone, Debug, PartialEq)]
pub struct SeriesQuery {
    /// Which usage.
    pub filter: UsageFilter,
    /// The buckets' length.
    pub granularity: Granularity,
    /// What it is split by.
    pub group_by: Option<GroupBy>,
    /// Whose days.
    pub zone: Zone,
    /// At most so many points, else an error.
    pub points_max: usize,
}

/// One point of a series.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SeriesPoint {
    /// When the bucket begins.
    pub start: Millis,
    /// The value of the split; empty without one.
    pub group: String,
    /// The sums.
    pub summary: Summary,
}

/// Raw events and their rollups.
#[async_trait]
pub trait UsageStore: Send + Sync + 'static {
    /// Rolls events up and moves the cursor past them, in one transaction. Events at or before the
    /// cursor are passed over, so that a repetition counts nothing twice.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when nothing was rolled up.
    async fn apply(&self, events: &[LoggedEvent]) -> Result<(), StoreError>;

    /// The position up to which events are rolled up.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    async fn cursor(&self) -> Result<Position, StoreError>;

    /// Whether this process is the one that rolls up now. Whoever is stays it until it is gone or
    /// this fails, and is asked before each batch; another process becomes it within seconds then.
    /// Always true for a store that belongs to one process.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: then it is not.
    async fn try_lead(&self) -> Result<bool, StoreError>;

    /// A page of raw events.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Corrupt`].
    async fn events(&self, workspace: &WorkspaceId, query: &EventQuery) -> Result<EventPage, StoreError>;

    /// At most `limit` raw events up to the position `through`, in the order of accounting time and
    /// position, after a place in that order. Position zero is before every event of its instant.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Corrupt`].
    async fn accounted_after(
        &self,
        workspace: &WorkspaceId,
        after: (Millis, Position),
        through: Position,
        limit: usize,
    ) -> Result<Vec<LoggedEvent>, StoreError>;

    /// Sums over a range.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]; [`StoreError::Full`] when a filter that no rollup answers would
    /// scan too many raw events.
    async fn summary(&self, workspace: &WorkspaceId, filter: &UsageFilter) -> Result<Summary, StoreError>;

    /// Sums by time, and by one more thing; points without use are left out. In order of start,
    /// then group.
    ///
    /// # Errors
    /// As [`UsageStore::summary`]; [`StoreError::Full`] also beyond `points_max`.
    async fn series(
        &self,
        workspace: &WorkspaceId,
        query: &SeriesQuery,
    ) -> Result<Vec<SeriesPoint>, StoreError>;
}
