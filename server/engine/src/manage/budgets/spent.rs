//! What a period has seen before a budget begins.
//!
//! Most budgets match and count by at most one of the things that usage is summed by: for them the
//! store's sums are exact up to a position of the log, and some thousands of rows stand for
//! millions of events. For any other the events of the period are read one by one. What came after
//! is read from the log.

use std::collections::HashMap;

use rateguard_core::counter::{CounterId, Position};
use rateguard_core::ids::{ApiId, KeyId, WorkspaceId};
use rateguard_core::limits::{OCCURRED_BEFORE_MS_MAX, PAGE_SIZE_MAX};
use rateguard_core::matching::{CallFacts, Dimension};
use rateguard_core::plan::PlannedLimit;
use rateguard_core::time::{Bounds, Millis, Zone};
use rateguard_core::usage::LoggedEvent;

use crate::error::EngineError;
use crate::ports::{EventLog, Granularity, GroupBy, SeriesQuery, StoreError, UsageFilter, UsageStore};
use crate::settlement::facts;

/// Points of the sums that one budget is put together from: days of a period by values. With more
/// values than that, events are read one by one.
const POINTS_MAX: usize = 200_000;

/// What budgets' sums are put together from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// One sum.
    Whole,
    /// Sums by one thing.
    By(GroupBy),
    /// Events.
    Events,
}

/// What counters have seen, up to a position.
#[derive(Debug, Default)]
pub(super) struct Spent {
    /// In nano-units, at most what 64 bits hold.
    pub by_counter: HashMap<CounterId, i64>,
    through: Position,
}

impl Spent {
    /// Sums a period from its beginning, up to a position of the store's choice or to `barrier`.
    pub async fn sum(
        usage: &dyn UsageStore,
        workspace: &WorkspaceId,
        planned: &PlannedLimit,
        bounds: Bounds,
        barrier: Position,
    ) -> Result<Self, EngineError> {
        let summed = match source(planned) {
            Source::Whole => Self::of_summary(usage, workspace, planned, bounds).await,
            Source::By(group) => Self::of_series(usage, workspace, planned, bounds, group).await,
            Source::Events => Self::of_events(usage, workspace, planned, bounds, barrier).await,
        };
        match summed {
            // A bound of the sums; events have none, since they come page by page.
            Err(StoreError::Full { .. }) => {
                Ok(Self::of_events(usage, workspace, planned, bounds, barrier).await?)
            }
            summed => Ok(summed?),
        }
    }

    /// Nothing spent in all records up to a position.
    pub fn nothing_through(through: Position) -> Self {
        Self { through, ..Self::default() }
    }

    /// Adds the events after those that it has, up to a position, that are accounted from `since` on.
    pub async fn add_from_log(
        &mut self,
        log: &dyn EventLog,
        workspace: &WorkspaceId,
        planned: &PlannedLimit,
        since: Millis,
        last: Position,
    ) -> Result<(), StoreError> {
        while self.through < last {
            let events = log.read_after(self.through, PAGE_SIZE_MAX).await?;
            let Some(read) = events.last() else { break };
            self.through = read.position.min(last);
            let own = events.iter().filter(|e| e.position <= last && e.event.workspace == *workspace);
            own.for_each(|logged| self.add_event(planned, since, logged));
        }
        Ok(())
    }

    async fn of_summary(
        usage: &dyn UsageStore,
        workspace: &WorkspaceId,
        planned: &PlannedLimit,
        bounds: Bounds,
    ) -> Result<Self, StoreError> {
        let summary = usage.summary(workspace, &filter(bounds)).await?;
        let mut spent = Self { through: summary.through, ..Self::default() };
        if let Some(counter) = planned.only_counter() {
            spent.add(counter, summary.cost_nanos);
        }
        Ok(spent)
    }

    async fn of_series(
        usage: &dyn UsageStore,
        workspace: &WorkspaceId,
        planned: &PlannedLimit,
        bounds: Bounds,
        group: GroupBy,
    ) -> Result<Self, StoreError> {
        // Where there are no points, they say no position: there were none up to this one.
        let cursor = usage.cursor().await?;
        let query = SeriesQuery {
            filter: filter(bounds),
            granularity: Granularity::Day,
            group_by: Some(group),
            zone: Zone::UTC,
            points_max: POINTS_MAX,
        };
        let points = usage.series(workspace, &query).await?;
        let through = points.first().map_or(cursor, |point| point.summary.through);
        let mut spent = Self { through, ..Self::default() };
        for point in &points {
            let value = Value::read(group, &point.group)?;
            spent.add_call(planned, &value.facts(), point.summary.cost_nanos);
        }
        Ok(spent)
    }

    async fn of_events(
        usage: &dyn UsageStore,
        workspace: &WorkspaceId,
        planned: &PlannedLimit,
        bounds: Bounds,
        barrier: Position,
    ) -> Result<Self, StoreError> {
        let mut spent = Self { through: barrier, ..Self::default() };
        let mut after = (bounds.start, Position::default());
        loop {
            let events = usage.accounted_after(workspace, after, barrier, PAGE_SIZE_MAX).await?;
            let Some(last) = events.last() else { return Ok(spent) };
            after = (last.event.accounted_at, last.position);
            events.iter().for_each(|logged| spent.add_event(planned, bounds.start, logged));
        }
    }

    fn add_event(&mut self, planned: &PlannedLimit, since: Millis, logged: &LoggedEvent) {
        if logged.event.accounted_at >= since {
            self.add_call(planned, &facts(&logged.event), logged.event.cost.get().into());
        }
    }

    /// A call that does not match counts as nothing, and names its counter all the same: that may
    /// have the cost from when the budget matched other calls.
    fn add_call(&mut self, planned: &PlannedLimit, call: &CallFacts<'_>, nanos: i128) {
        let matches = planned.matches.test(call).is_ok();
        if let Some(counter) = planned.counter(call) {
            self.add(counter, if matches { nanos } else { 0 });
        }
    }

    fn add(&mut self, counter: CounterId, nanos: i128) {
        let sum = self.by_counter.entry(counter).or_default();
        let wide = i128::from(*sum).saturating_add(nanos);
        *sum = i64::try_from(wide).unwrap_or(if wide < 0 { i64::MIN } else { i64::MAX });
    }
}

/// The period, and as long after it as a clock may have been ahead.
fn filter(bounds: Bounds) -> UsageFilter {
    let accounted = bounds.start..bounds.end.plus(OCCURRED_BEFORE_MS_MAX);
    UsageFilter { accounted, api: None, key: None, subject: None, model: None }
}

/// From what a budget's sums can be put together.
fn source(planned: &PlannedLimit) -> Source {
    let matches = &planned.matches;
    let matched = [
        (!matches.apis.is_empty(), Some(GroupBy::Api)),
        (!matches.endpoints.is_empty(), Some(GroupBy::Endpoint)),
        (!matches.models.is_empty(), Some(GroupBy::Model)),
        (!matches.keys.is_empty(), Some(GroupBy::Key)),
        (!matches.subjects.is_empty(), Some(GroupBy::Subject)),
        (!matches.methods.is_empty() || !matches.ip_ranges.is_empty(), None),
        (!matches.attributes.is_empty(), None),
    ];
    let matched = matched.into_iter().filter(|(is_used, _)| *is_used).map(|(_, group)| group);
    let mut all = matched.chain(planned.scope.dimensions.iter().map(group_of));
    match all.next() {
        None => Source::Whole,
        Some(Some(first)) if all.all(|other| other == Some(first)) => Source::By(first),
        Some(_) => Source::Events,
    }
}

fn group_of(dimension: &Dimension) -> Option<GroupBy> {
    match dimension {
        Dimension::Key => Some(GroupBy::Key),
        Dimension::Subject => Some(GroupBy::Subject),
        Dimension::Api => Some(GroupBy::Api),
        Dimension::Endpoint => Some(GroupBy::Endpoint),
        Dimension::Model => Some(GroupBy::Model),
        Dimension::Ip | Dimension::Attribute(_) => None,
    }
}

/// The one thing that is known of the calls behind a sum; nothing else of them is asked.
struct Value<'a> {
    group: GroupBy,
    text: &'a str,
    key: KeyId,
    api: Option<ApiId>,
}

impl<'a> Value<'a> {
    fn read(group: GroupBy, text: &'a str) -> Result<Self, StoreError> {
        let corrupt = |detail: String| StoreError::Corrupt { store: "usage", detail };
        let unknown = KeyId::from_random([0; 16]);
        let mut value = Self { group, text, key: unknown, api: None };
        if group == GroupBy::Key {
            value.key = KeyId::parse("key", text).map_err(|error| corrupt(error.to_string()))?;
        }
        if group == GroupBy::Api && !text.is_empty() {
            value.api = Some(ApiId::parse("api", text).map_err(|error| corrupt(error.to_string()))?);
        }
        Ok(value)
    }

    fn facts(&self) -> CallFacts<'_> {
        let text_of = |group| if self.group == group { self.text } else { "" };
        CallFacts {
            key: &self.key,
            api: self.api.as_ref(),
            endpoint: text_of(GroupBy::Endpoint),
            method: "",
            model: text_of(GroupBy::Model),
            subject: text_of(GroupBy::Subject),
            ip: None,
            attributes: &[],
        }
    }
}
