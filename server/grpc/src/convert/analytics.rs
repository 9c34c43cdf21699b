//! Analytics: what is asked, and the figures that answer it.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Range;

use rateguard_core::limits::{POINTS_MAX, QUERY_SPAN_MS_MAX, SERIES_DEFAULT, SERIES_MAX};
use rateguard_core::money::Currency;
use rateguard_core::time::{CalendarPeriod, Millis, Zone};
use rateguard_engine::directory::WorkspaceView;
use rateguard_engine::error::{EngineError, Reason};
use rateguard_engine::ports::{Granularity, GroupBy, SeriesPoint, SeriesQuery, Summary, UsageFilter};
use rateguard_proto::v1;
use rateguard_proto::v1::Metric;

use super::usage::{api_filter, key_filter, non_empty};
use super::{enumeration, instant, missing, nano_sum, out_of_bounds, sum, text, timestamp, zone};

/// Points read for one answer, over all groups: the largest of them are chosen only then.
pub const POINTS_READ_MAX: usize = 100_000;
/// Metrics of one query: there are no more.
const METRICS_MAX: usize = 10;

/// Which usage a query sums.
///
/// # Errors
/// Those of its fields; a span that is empty or longer than 366 days.
pub fn usage_filter(
    range: Option<v1::TimeRange>,
    filter: Option<v1::AnalyticsFilter>,
    view: &WorkspaceView,
) -> Result<UsageFilter, EngineError> {
    let filter = filter.unwrap_or_default();
    Ok(UsageFilter {
        accounted: span(range.unwrap_or_default())?,
        api: api_filter("filter.api", &filter.api, view)?,
        key: key_filter(&filter.key_id)?,
        subject: non_empty(text("filter.subject", filter.subject)?),
        model: non_empty(text("filter.model", filter.model)?),
    })
}

fn span(range: v1::TimeRange) -> Result<Range<Millis>, EngineError> {
    let start = range.start_time.ok_or_else(|| missing("range.start_time"))?;
    let end = range.end_time.ok_or_else(|| missing("range.end_time"))?;
    let span = instant("range.start_time", &start)?..instant("range.end_time", &end)?;
    if span.is_empty() {
        return Err(out_of_bounds("range.end_time", "must be after range.start_time"));
    }
    if span.end.since(span.start) > QUERY_SPAN_MS_MAX {
        return Err(out_of_bounds("range", format!("must span at most {QUERY_SPAN_MS_MAX} ms")));
    }
    Ok(span)
}

/// A question for figures over time.
#[derive(Clone, Debug, PartialEq)]
pub struct TimeSeriesQuery {
    /// What the engine is asked.
    pub query: SeriesQuery,
    /// Which figures are wanted.
    pub metrics: Vec<Metric>,
    /// How many series at most.
    pub series_max: usize,
}

/// A question for figures over time.
///
/// # Errors
/// Those of its fields; [`Reason::QueryTooLarge`] when the answer would have too many points.
pub fn time_series_query(
    message: v1::QueryTimeSeriesRequest,
    view: &WorkspaceView,
) -> Result<TimeSeriesQuery, EngineError> {
    let metrics = metrics(&message.metrics)?;
    let granularity = granularity(message.granularity)?;
    let group_by = group_by(message.group_by)?;
    let zone = zone("time_zone", message.time_zone)?.unwrap_or_else(|| view.workspace.zone.clone());
    let asked = series_max(message.series_max)?;
    let series_max = if group_by.is_none() { 1 } else { asked };
    let filter = usage_filter(message.range, message.filter, view)?;
    if granules(&filter.accounted, granularity, &zone).saturating_mul(series_max) > POINTS_MAX {
        let message = format!("the answer may have at most {POINTS_MAX} points: granules times series");
        return Err(EngineError::field(Reason::QueryTooLarge, "granularity", message));
    }
    let query = SeriesQuery { filter, granularity, group_by, zone, points_max: POINTS_READ_MAX };
    Ok(TimeSeriesQuery { query, metrics, series_max })
}

fn metrics(values: &[i32]) -> Result<Vec<Metric>, EngineError> {
    if values.is_empty() {
        return Err(missing("metrics"));
    }
    if values.len() > METRICS_MAX {
        return Err(out_of_bounds("metrics", format!("must have at most {METRICS_MAX} values")));
    }
    let mut metrics = Vec::with_capacity(values.len());
    for (place, value) in values.iter().enumerate() {
        let field = format!("metrics[{place}]");
        let metric = enumeration(&field, *value)?;
        if metric == Metric::Unspecified {
            return Err(missing(&field));
        }
        if metrics.contains(&metric) {
            return Err(out_of_bounds(field, "must not be named twice"));
        }
        metrics.push(metric);
    }
    Ok(metrics)
}

fn granularity(value: i32) -> Result<Granularity, EngineError> {
    Ok(match enumeration("granularity", value)? {
        v1::Granularity::Unspecified => return Err(missing("granularity")),
        v1::Granularity::Minute => Granularity::Minute,
        v1::Granularity::Hour => Granularity::Hour,
        v1::Granularity::Day => Granularity::Day,
    })
}

fn group_by(value: i32) -> Result<Option<GroupBy>, EngineError> {
    Ok(Some(match enumeration("group_by", value)? {
        v1::GroupBy::Unspecified => return Ok(None),
        v1::GroupBy::Api => GroupBy::Api,
        v1::GroupBy::Key => GroupBy::Key,
        v1::GroupBy::Status => GroupBy::Status,
        v1::GroupBy::Endpoint => GroupBy::Endpoint,
        v1::GroupBy::Subject => GroupBy::Subject,
        v1::GroupBy::Model => GroupBy::Model,
        v1::GroupBy::Error => GroupBy::Error,
    }))
}

fn series_max(value: i32) -> Result<usize, EngineError> {
    match usize::try_from(value) {
        Ok(0) => Ok(SERIES_DEFAULT),
        Ok(count) if count <= SERIES_MAX => Ok(count),
        _ => Err(out_of_bounds("series_max", format!("must be 0 to {SERIES_MAX}"))),
    }
}

/// How many granules a span touches.
fn granules(span: &Range<Millis>, granularity: Granularity, zone: &Zone) -> usize {
    let touched = |length_ms: i64| {
        let last = span.end.get() - 1;
        usize::try_from(last / length_ms - span.start.get() / length_ms + 1).unwrap_or(usize::MAX)
    };
    match granularity {
        Granularity::Minute => touched(60_000),
        Granularity::Hour => touched(3_600_000),
        Granularity::Day => days(span, zone),
    }
}

fn days(span: &Range<Millis>, zone: &Zone) -> usize {
    let next = |at: &Millis| Some(CalendarPeriod::Day.bounds(zone, *at).end).filter(|end| end > at);
    std::iter::successors(Some(span.start), next).take_while(|at| *at < span.end).count()
}

/// Sums for the wire.
///
/// # Errors
/// [`Reason::SumOutOfRange`].
pub fn usage_summary(summary: &Summary, currency: Currency) -> Result<v1::UsageSummary, EngineError> {
    let percentile = |place: usize| summary.latency_ms_percentiles.map(|percentiles| percentiles[place]);
    Ok(v1::UsageSummary {
        request_count: summary.requests,
        error_count: summary.errors,
        rate_limited_count: summary.rate_limited,
        cache_hit_count: summary.cache_hits,
        cost: Some(nano_sum("summary.cost", summary.cost_nanos, currency)?),
        tokens: Some(v1::TokenTotals {
            input_total: summary.input_tokens,
            cached_input: summary.cached_input_tokens,
            output: summary.output_tokens,
        }),
        latency_p50_ms: percentile(0),
        latency_p95_ms: percentile(1),
        latency_p99_ms: percentile(2),
    })
}

/// The largest series by the first metric, the largest first.
///
/// # Errors
/// [`Reason::SumOutOfRange`].
pub fn time_series(
    points: Vec<SeriesPoint>,
    metrics: &[Metric],
    series_max: usize,
    currency: Currency,
) -> Result<v1::QueryTimeSeriesResponse, EngineError> {
    let mut groups: BTreeMap<String, Vec<SeriesPoint>> = BTreeMap::new();
    for point in points {
        groups.entry(point.group.clone()).or_default().push(point);
    }
    let mut ranked: Vec<(String, Vec<SeriesPoint>)> = groups.into_iter().collect();
    if let Some(first) = metrics.first() {
        let size = |points: &[SeriesPoint]| -> i128 {
            points.iter().filter_map(|point| figure(&point.summary, *first)).fold(0, i128::saturating_add)
        };
        ranked.sort_by_cached_key(|(_, points)| Reverse(size(points)));
    }
    let omitted = ranked.len().saturating_sub(series_max);
    ranked.truncate(series_max);
    let series = ranked.into_iter().map(|(group, points)| one_series(group, &points, metrics));
    Ok(v1::QueryTimeSeriesResponse {
        series: series.collect::<Result<_, _>>()?,
        omitted_series_count: i64::try_from(omitted).unwrap_or(i64::MAX),
        currency_code: currency.as_str().to_owned(),
    })
}

fn one_series(
    group: String,
    points: &[SeriesPoint],
    metrics: &[Metric],
) -> Result<v1::TimeSeries, EngineError> {
    let points = points.iter().map(|point| {
        let values = metrics.iter().map(|metric| metric_value(&point.summary, *metric));
        Ok(v1::TimeSeriesPoint {
            start_time: Some(timestamp(point.start)),
            values: values.collect::<Result<_, _>>()?,
        })
    });
    Ok(v1::TimeSeries { group, points: points.collect::<Result<_, EngineError>>()? })
}

fn metric_value(summary: &Summary, metric: Metric) -> Result<v1::MetricValue, EngineError> {
    let value = figure(summary, metric).map(|figure| sum("series.points.values", figure)).transpose()?;
    Ok(v1::MetricValue { metric: metric.into(), value })
}

fn figure(summary: &Summary, metric: Metric) -> Option<i128> {
    let percentile =
        |place: usize| summary.latency_ms_percentiles.map(|percentiles| percentiles[place].into());
    match metric {
        Metric::Unspecified => None,
        Metric::Requests => Some(summary.requests.into()),
        Metric::Errors => Some(summary.errors.into()),
        Metric::RateLimited => Some(summary.rate_limited.into()),
        Metric::CacheHits => Some(summary.cache_hits.into()),
        Metric::Cost => Some(summary.cost_nanos),
        Metric::InputTokens => Some(summary.input_tokens.into()),
        Metric::OutputTokens => Some(summary.output_tokens.into()),
        Metric::LatencyP50 => percentile(0),
        Metric::LatencyP95 => percentile(1),
        Metric::LatencyP99 => percentile(2),
    }
}
