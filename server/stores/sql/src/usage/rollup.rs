//! Which rollups there are, and the folding of events into their rows.

use std::borrow::Cow;
use std::collections::HashMap;

use rateguard_core::ids::ApiId;
use rateguard_core::usage::UsageEvent;
use smallvec::SmallVec;

use super::sums::Sums;

pub(super) const MINUTE_MS: i64 = 60 * 1_000;
pub(super) const HOUR_MS: i64 = 60 * MINUTE_MS;
pub(super) const DAY_MS: i64 = 24 * HOUR_MS;

/// What usage is told apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dimension {
    Api,
    Key,
    Status,
    Error,
    Endpoint,
    Method,
    Subject,
    Model,
}

impl Dimension {
    /// The column of a rollup.
    pub fn column(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Key => "key_id",
            Self::Status => "status",
            Self::Error => "error_type",
            Self::Endpoint => "endpoint",
            Self::Method => "method",
            Self::Subject => "subject",
            Self::Model => "model",
        }
    }

    /// The same text from a raw event.
    pub fn raw_column(self) -> &'static str {
        match self {
            Self::Status => "cast(status as text)",
            other => other.column(),
        }
    }

    fn of(self, event: &UsageEvent) -> Cow<'_, str> {
        let call = &event.call;
        match self {
            Self::Api => call.api.as_ref().map_or("", ApiId::as_str).into(),
            Self::Key => call.key.as_str().into(),
            Self::Status => event.outcome.status_code.to_string().into(),
            Self::Error => event.outcome.error_type.as_str().into(),
            Self::Endpoint => call.endpoint.as_str().into(),
            Self::Method => call.method.as_str().into(),
            Self::Subject => call.subject.as_str().into(),
            Self::Model => call.model.as_str().into(),
        }
    }
}

/// One table of sums.
pub(super) struct Rollup {
    /// The table.
    pub table: &'static str,
    /// What its rows are told apart by, besides workspace and time.
    pub dimensions: &'static [Dimension],
    /// The lengths of its pieces of time, coarsest first.
    pub grains_ms: &'static [i64],
}

/// All rollups; a query takes the first that answers it.
pub(super) const ROLLUPS: [Rollup; 3] = [
    Rollup {
        table: "usage_by_key",
        dimensions: &[Dimension::Api, Dimension::Key, Dimension::Status, Dimension::Error],
        grains_ms: &[DAY_MS, HOUR_MS, MINUTE_MS],
    },
    Rollup {
        table: "usage_by_endpoint",
        dimensions: &[Dimension::Api, Dimension::Endpoint, Dimension::Method],
        grains_ms: &[DAY_MS, HOUR_MS],
    },
    Rollup {
        table: "usage_by_subject",
        dimensions: &[Dimension::Api, Dimension::Subject, Dimension::Model],
        grains_ms: &[DAY_MS, HOUR_MS],
    },
];

/// Which row of a rollup.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct RowKey<'a> {
    pub workspace: &'a str,
    pub grain_ms: i64,
    pub start: i64,
    /// In the order of the rollup's dimensions.
    pub values: SmallVec<[Cow<'a, str>; 4]>,
}

impl Rollup {
    /// Folds events into rows, in the order of their keys. Coarse rows are folded from finer ones.
    pub fn fold<'a>(&self, events: &[&'a UsageEvent]) -> Vec<(RowKey<'a>, Sums)> {
        let mut rows = Vec::new();
        let mut level: HashMap<RowKey<'a>, Sums> = HashMap::new();
        for grain_ms in self.grains_ms.iter().rev() {
            level = match rows.is_empty() {
                true => self.fold_events(*grain_ms, events),
                false => coarser(*grain_ms, &level),
            };
            rows.extend(level.iter().map(|(key, sums)| (key.clone(), sums.clone())));
        }
        rows.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        rows
    }

    fn fold_events<'a>(&self, grain_ms: i64, events: &[&'a UsageEvent]) -> HashMap<RowKey<'a>, Sums> {
        let mut rows: HashMap<RowKey<'a>, Sums> = HashMap::new();
        for event in events {
            rows.entry(self.key(grain_ms, event)).or_default().add_event(event);
        }
        rows
    }

    fn key<'a>(&self, grain_ms: i64, event: &'a UsageEvent) -> RowKey<'a> {
        RowKey {
            workspace: event.workspace.as_str(),
            grain_ms,
            start: floor(event.accounted_at.get(), grain_ms),
            values: self.dimensions.iter().map(|dimension| dimension.of(event)).collect(),
        }
    }
}

fn coarser<'a>(grain_ms: i64, finer: &HashMap<RowKey<'a>, Sums>) -> HashMap<RowKey<'a>, Sums> {
    let mut rows: HashMap<RowKey<'a>, Sums> = HashMap::new();
    for (key, sums) in finer {
        let key = RowKey { grain_ms, start: floor(key.start, grain_ms), ..key.clone() };
        rows.entry(key).or_default().add(sums);
    }
    rows
}

/// The start of the piece of time that holds an instant.
pub(super) fn floor(at: i64, grain_ms: i64) -> i64 {
    at - at.rem_euclid(grain_ms)
}
