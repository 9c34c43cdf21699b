//! `rateguard usage report` and `rateguard usage list`.

use anyhow::bail;
use clap::{Args, Subcommand};
use rateguard_proto::v1;

use super::ServerArgs;
use super::check::amount;
use crate::client::describe;

/// Events of one page.
const PAGE_EVENTS_MAX: i32 = 1_000;

#[derive(Debug, Subcommand)]
pub(super) enum Usage {
    /// Report what one call used
    Report(Box<Report>),
    /// List reported events, newest first
    List(List),
}

impl Usage {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Report(report) => report.run().await,
            Self::List(list) => list.run().await,
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct Report {
    #[command(flatten)]
    server: ServerArgs,
    /// The event's id, unique in the workspace; the same again counts once
    #[arg(long)]
    event_id: String,
    /// The API's slug or id
    #[arg(long, default_value = "")]
    api: String,
    /// The model that answered
    #[arg(long, default_value = "")]
    model: String,
    /// Who is charged
    #[arg(long, default_value = "")]
    subject: String,
    /// The reservation that the call was made under
    #[arg(long, default_value = "")]
    reservation_id: String,
    /// Input tokens, cached ones included
    #[arg(long)]
    input_tokens: Option<i64>,
    /// Output tokens
    #[arg(long)]
    output_tokens: Option<i64>,
    /// Other amounts as unit=number
    #[arg(long = "amount", value_parser = amount)]
    amounts: Vec<v1::UnitAmount>,
    /// The HTTP status of the call
    #[arg(long, default_value_t = 200)]
    status: i32,
}

impl Report {
    async fn run(self) -> anyhow::Result<()> {
        let client = self.server.connect().await?;
        let request = v1::ReportUsageRequest { records: vec![self.record()] };
        let answer = client.usage().report_usage(request).await.map_err(|s| describe(&s))?.into_inner();
        let Some(result) = answer.results.first() else { bail!("the server answered nothing") };
        let status = result.status().as_str_name().trim_start_matches("RECORD_STATUS_");
        if result.status() == v1::RecordStatus::Rejected {
            bail!("{status}: {} {}", result.field, result.message);
        }
        let cost = result.cost.clone().unwrap_or_default();
        super::print(&format!("{status} {}: {} nano-{}", result.event_id, cost.nanos, cost.currency_code))
    }

    fn record(self) -> v1::UsageRecord {
        v1::UsageRecord {
            event_id: self.event_id,
            api: self.api,
            model: self.model,
            subject: self.subject,
            reservation_id: self.reservation_id,
            tokens: Some(v1::TokenUsage {
                input_total: self.input_tokens,
                output: self.output_tokens,
                ..v1::TokenUsage::default()
            }),
            amounts: self.amounts,
            status_code: self.status,
            ..v1::UsageRecord::default()
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct List {
    #[command(flatten)]
    server: ServerArgs,
    /// Only events of this check
    #[arg(long, default_value = "")]
    request_id: String,
    /// Only the event with this id
    #[arg(long, default_value = "")]
    event_id: String,
    /// At most so many
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(i32).range(1..))]
    limit: i32,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

impl List {
    async fn run(self) -> anyhow::Result<()> {
        let client = self.server.connect().await?;
        let filter = v1::UsageEventFilter {
            request_id: self.request_id,
            event_id: self.event_id,
            ..v1::UsageEventFilter::default()
        };
        let line = if self.json { as_json } else { as_text };
        let (mut left, mut page_token) = (self.limit, String::new());
        // A page may be empty and yet not the last.
        while left > 0 {
            let request = v1::ListUsageEventsRequest {
                filter: Some(filter.clone()),
                page_size: left.min(PAGE_EVENTS_MAX),
                page_token,
            };
            let answer =
                client.usage().list_usage_events(request).await.map_err(|s| describe(&s))?.into_inner();
            answer.events.iter().try_for_each(|event| super::print(&line(event)))?;
            left = left.saturating_sub(i32::try_from(answer.events.len()).unwrap_or(i32::MAX));
            page_token = answer.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        Ok(())
    }
}

fn as_text(event: &v1::UsageEvent) -> String {
    let record = event.record.clone().unwrap_or_default();
    let cost = event.cost.clone().unwrap_or_default();
    format!(
        "{:40} {:16} {:24} {:>14} nano-{}",
        record.event_id, record.api, record.model, cost.nanos, cost.currency_code
    )
}

fn as_json(event: &v1::UsageEvent) -> String {
    let record = event.record.clone().unwrap_or_default();
    let tokens = record.tokens.unwrap_or_default();
    serde_json::json!({
        "event_id": record.event_id,
        "request_id": record.request_id,
        "reservation_id": record.reservation_id,
        "kind": event.kind().as_str_name().trim_start_matches("USAGE_EVENT_KIND_"),
        "api": record.api,
        "model": record.model,
        "subject": record.subject,
        "status_code": record.status_code,
        "exactness": record.exactness().as_str_name().trim_start_matches("USAGE_EXACTNESS_"),
        "flags": event.flags().map(|flag| flag.as_str_name().trim_start_matches("USAGE_FLAG_")).collect::<Vec<_>>(),
        "cost_nanos": event.cost.as_ref().map(|cost| cost.nanos),
        "currency_code": event.cost.as_ref().map(|cost| cost.currency_code.clone()),
        "tokens": {
            "input_total": tokens.input_total,
            "cached_input": tokens.cached_input,
            "cache_write_5m": tokens.cache_write_5m,
            "cache_write_1h": tokens.cache_write_1h,
            "output": tokens.output,
            "reasoning": tokens.reasoning,
        },
    })
    .to_string()
}
