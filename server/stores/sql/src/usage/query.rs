//! Answering a question about sums: which rollup has them, which pieces of time they are put
//! together from, and which bucket each stored figure belongs to.

use std::collections::BTreeMap;
use std::ops::Range;

use rateguard_core::ids::WorkspaceId;
use rateguard_core::time::{CalendarPeriod, Millis, Zone};
use rateguard_engine::ports::{
    Granularity, GroupBy, SeriesPoint, SeriesQuery, StoreError, Summary, UsageFilter,
};

use super::plan::{Segment, Source, bucket_segments, segments};
use super::rollup::{Dimension, HOUR_MS, MINUTE_MS, ROLLUPS, Rollup, floor};
use super::scan::{Scan, Scanned};
use super::sums::Sums;
use super::{SqlUsageStore, apply};
use crate::database::Scope;
use crate::events::from_position_column;

/// Days of one series: more than the longest range that may be asked for.
const DAYS_MAX: usize = 400;

/// A question about sums.
pub(super) struct Question {
    range: Range<i64>,
    /// What must have which value.
    pub conditions: Vec<(Dimension, String)>,
    /// What points are told apart by, besides time.
    pub group: Option<Dimension>,
    buckets: Buckets,
    points_max: usize,
}

/// Points by the start of their bucket and their group.
pub(super) type Points = BTreeMap<(i64, String), Sums>;

/// What was found, at one position of the log.
pub(super) struct Answer {
    pub points: Points,
    pub through: i64,
}

/// How a range is cut into points.
enum Buckets {
    /// Not at all.
    One,
    /// At every multiple of this length.
    Every(i64),
    /// At the starts of these days, of which the first may begin before the range.
    Days(Vec<i64>),
}

impl Question {
    /// One sum over a range.
    pub fn whole(filter: &UsageFilter) -> Self {
        Self {
            range: filter.accounted.start.get()..filter.accounted.end.get(),
            conditions: conditions(filter),
            group: None,
            buckets: Buckets::One,
            points_max: 1,
        }
    }

    /// Sums by time.
    pub fn series(query: &SeriesQuery) -> Result<Self, StoreError> {
        let range = &query.filter.accounted;
        let buckets = match query.granularity {
            Granularity::Minute => Buckets::Every(MINUTE_MS),
            Granularity::Hour => Buckets::Every(HOUR_MS),
            Granularity::Day => Buckets::Days(day_starts(range, &query.zone)?),
        };
        let group = query.group_by.map(dimension);
        Ok(Self { group, buckets, points_max: query.points_max, ..Self::whole(&query.filter) })
    }

    fn rollup(&self) -> Option<&'static Rollup> {
        let asked = |rollup: &Rollup, dimension: &Dimension| rollup.dimensions.contains(dimension);
        ROLLUPS.iter().find(|rollup| {
            self.conditions.iter().all(|(dimension, _)| asked(rollup, dimension))
                && self.group.iter().all(|dimension| asked(rollup, dimension))
        })
    }

    fn segments(&self, rollup: Option<&Rollup>) -> Vec<Segment> {
        let all = rollup.map_or(&[][..], |rollup| rollup.grains_ms);
        let (from, to) = (self.range.start, self.range.end);
        match &self.buckets {
            Buckets::One => segments(from, to, all),
            Buckets::Every(length_ms) => {
                let fine: Vec<i64> = all.iter().copied().filter(|grain| grain <= length_ms).collect();
                segments(from, to, &fine)
            }
            Buckets::Days(starts) => {
                let ends = starts.iter().skip(1).copied().chain([to]);
                let days = starts.iter().zip(ends).map(|(start, end)| ((*start).max(from), end.min(to)));
                bucket_segments(days, all)
            }
        }
    }

    /// The start of the bucket that holds an instant.
    fn bucket(&self, at: i64) -> i64 {
        match &self.buckets {
            Buckets::One => self.range.start,
            Buckets::Every(length_ms) => floor(at, *length_ms),
            Buckets::Days(starts) => {
                let later = starts.partition_point(|start| *start <= at);
                starts.get(later.saturating_sub(1)).copied().unwrap_or(self.range.start)
            }
        }
    }

    /// The length by which figures of a source must be told apart; `None` when one sum will do.
    fn unit_ms(&self, source: Source) -> Option<i64> {
        match (&self.buckets, source) {
            (Buckets::One, _) => None,
            (_, Source::Rollup { grain_ms }) => Some(grain_ms),
            (Buckets::Every(length_ms), Source::Raw) => Some(*length_ms),
            (Buckets::Days(_), Source::Raw) => Some(MINUTE_MS),
        }
    }

    fn collect(&self, points: &mut Points, segment: &Segment, scanned: Scanned) -> Result<(), StoreError> {
        // A unit may begin before its segment, which lies within one bucket then.
        let at = scanned.start.unwrap_or(segment.from).max(segment.from);
        points.entry((self.bucket(at), scanned.group)).or_default().add(&scanned.sums);
        if points.len() > self.points_max {
            return Err(StoreError::Full { what: "the number of points of one query" });
        }
        Ok(())
    }
}

impl SqlUsageStore {
    /// Answers a question from one state of the rollups, and from the raw events that were in them
    /// then: an event never changes.
    pub(super) async fn answer(
        &self,
        workspace: &WorkspaceId,
        question: Question,
    ) -> Result<Answer, StoreError> {
        let mut transaction = self.rollups.begin_read(Scope::Workspace(workspace)).await?;
        let through = apply::cursor(&mut transaction).await?;
        let rollup = question.rollup();
        let scan = Scan { workspace, question: &question, through };
        let mut points = Points::new();
        let mut raw = Vec::new();
        for segment in question.segments(rollup) {
            match (segment.source, rollup) {
                (Source::Rollup { grain_ms }, Some(rollup)) => {
                    let unit_ms = question.unit_ms(segment.source);
                    let statement = scan.rollup(rollup, grain_ms, unit_ms, &segment);
                    statement
                        .run(&mut transaction, |row| question.collect(&mut points, &segment, row))
                        .await?;
                }
                _ => raw.push(segment),
            }
        }
        drop(transaction);
        self.add_raw(&scan, &raw, &mut points).await?;
        Ok(Answer { points, through })
    }

    async fn add_raw(
        &self,
        scan: &Scan<'_>,
        segments: &[Segment],
        points: &mut Points,
    ) -> Result<(), StoreError> {
        if segments.is_empty() {
            return Ok(());
        }
        let _turn = self.raw_read().await?;
        let mut reader = self.log.database().reader(Scope::Workspace(scan.workspace)).await?;
        scan.check_raw_bound(&mut reader, segments).await?;
        for segment in segments {
            let statement = scan.raw(scan.question.unit_ms(Source::Raw), segment);
            statement.run(&mut reader, |row| scan.question.collect(points, segment, row)).await?;
        }
        Ok(())
    }
}

impl Answer {
    /// The points in the order of start, then group.
    pub fn into_series(self) -> Vec<SeriesPoint> {
        let through = from_position_column(self.through);
        let point = |((start, group), sums): ((i64, String), Sums)| {
            let summary: Summary = sums.into_summary(through);
            SeriesPoint { start: Millis::new(start), group, summary }
        };
        self.points.into_iter().map(point).collect()
    }
}

fn conditions(filter: &UsageFilter) -> Vec<(Dimension, String)> {
    let parts = [
        (Dimension::Api, filter.api.as_ref().map(|id| id.as_str())),
        (Dimension::Key, filter.key.as_ref().map(|id| id.as_str())),
        (Dimension::Subject, filter.subject.as_deref()),
        (Dimension::Model, filter.model.as_deref()),
    ];
    parts.into_iter().filter_map(|(dimension, value)| Some((dimension, value?.to_owned()))).collect()
}

fn dimension(group: GroupBy) -> Dimension {
    match group {
        GroupBy::Api => Dimension::Api,
        GroupBy::Key => Dimension::Key,
        GroupBy::Status => Dimension::Status,
        GroupBy::Error => Dimension::Error,
        GroupBy::Endpoint => Dimension::Endpoint,
        GroupBy::Subject => Dimension::Subject,
        GroupBy::Model => Dimension::Model,
    }
}

fn day_starts(range: &Range<Millis>, zone: &Zone) -> Result<Vec<i64>, StoreError> {
    let mut starts = Vec::new();
    let mut at = range.start;
    while at < range.end {
        if starts.len() == DAYS_MAX {
            return Err(StoreError::Full { what: "the number of days of one query" });
        }
        let day = CalendarPeriod::Day.bounds(zone, at);
        starts.push(day.start.get());
        at = day.end;
    }
    Ok(starts)
}
