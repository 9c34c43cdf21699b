//! P6: `ReportUsage`, durable before the answer, deduplicated, priced and settled, beside the same
//! rows inserted plainly.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, ensure};
use futures::StreamExt as _;
use futures::stream;
use rateguard_proto::v1;
use rateguard_proto::v1::usage_service_client::UsageServiceClient;
use tonic::Request;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;

use crate::figures::{Comparison, Unit, per_second};
use crate::load::runtime;
use crate::machine::{Machine, processor_time, wait_for_rest};
use crate::process::{Server, data_folder};
use crate::seed::{API, Limits, MODEL, SUBJECTS, install};
use crate::table::say;

/// How often subject and baseline take turns.
const ROUNDS: usize = 3;

/// One way of reporting.
struct Shape {
    name: &'static str,
    records_per_call: usize,
    calls: usize,
    in_flight: usize,
    /// Of the baseline: as many as can be in one append.
    rows_per_commit: usize,
}

const SHAPES: [Shape; 2] = [
    Shape {
        name: "P6 records, 1,000 a call, 4 calls in flight",
        records_per_call: 1_000,
        calls: 48,
        in_flight: 4,
        rows_per_commit: 1_000,
    },
    Shape {
        name: "P6 records, 1 a call, 256 calls in flight",
        records_per_call: 1,
        calls: 25_600,
        in_flight: 256,
        rows_per_commit: 256,
    },
];

/// Measures records a second.
///
/// # Errors
/// When a server, a call or the baseline fails.
pub fn measure(machine: &Machine) -> anyhow::Result<Vec<Comparison>> {
    SHAPES.iter().map(|shape| compare(machine, shape)).collect()
}

fn compare(machine: &Machine, shape: &Shape) -> anyhow::Result<Comparison> {
    let folder = data_folder()?;
    let key = install(folder.path(), Limits::Usual)?;
    let server = Server::rateguard(machine, folder.path(), &[])?;
    let runtime = runtime()?;
    let mut reporter = runtime.block_on(Reporter::connect(&server, &key))?;
    // A first call, so that nothing is measured that happens once.
    runtime.block_on(reporter.report(1, 1, 1))?;
    let mut comparison = Comparison::new(shape.name, Unit::PerSecond);
    for _ in 0..ROUNDS {
        let after = reporter.reported;
        let (records, elapsed) = runtime.block_on(shape.report(&mut reporter, &server))?;
        comparison.subject.push(per_second(records, elapsed));
        wait_for_rest(server.process())?;
        let elapsed = shape.insert(machine, folder.path(), after)?;
        comparison.baseline.push(per_second(records, elapsed));
    }
    Ok(comparison)
}

impl Shape {
    async fn report(&self, reporter: &mut Reporter, server: &Server) -> anyhow::Result<(u64, Duration)> {
        let (busy, started) = (processor_time(server.process())?, Instant::now());
        let records = reporter.report(self.calls, self.records_per_call, self.in_flight).await?;
        let elapsed = started.elapsed();
        let busy = processor_time(server.process())?.saturating_sub(busy);
        let busy_percent = busy.as_nanos() * 100 / elapsed.as_nanos().max(1);
        say(&format!("  {} records/s, server busy {busy_percent} %", per_second(records, elapsed)))?;
        Ok((records, elapsed))
    }

    fn insert(&self, machine: &Machine, folder: &Path, after: u64) -> anyhow::Result<Duration> {
        let rows = self.calls * self.records_per_call;
        let numbers = [("--after", after.to_string()), ("--rows", rows.to_string())];
        let output = machine
            .on_server_core(&std::env::current_exe()?)
            .arg("insert")
            .arg("--from")
            .arg(folder.join("events.db"))
            .arg("--into")
            .arg(folder.join("baseline.db"))
            .args(["--rows-per-commit", &self.rows_per_commit.to_string()])
            .args(numbers.iter().flat_map(|(name, value)| [*name, value.as_str()]))
            .stderr(Stdio::inherit())
            .output()?;
        ensure!(output.status.success(), "the plain inserts failed");
        let nanos = String::from_utf8(output.stdout)?.trim().parse().context("a number of nanoseconds")?;
        Ok(Duration::from_nanos(nanos))
    }
}

/// A client that reports.
struct Reporter {
    client: UsageServiceClient<Channel>,
    bearer: MetadataValue<Ascii>,
    /// Records accepted so far: also the log's last position.
    reported: u64,
}

impl Reporter {
    async fn connect(server: &Server, key: &str) -> anyhow::Result<Self> {
        let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{}", server.address))?;
        let channel = endpoint.tcp_nodelay(true).connect().await?;
        let bearer = format!("Bearer {key}").parse()?;
        Ok(Self { client: UsageServiceClient::new(channel), bearer, reported: 0 })
    }

    /// Reports so many calls of so many records, so many at a time; says how many records.
    async fn report(&mut self, calls: usize, records: usize, in_flight: usize) -> anyhow::Result<u64> {
        let first = self.reported;
        let width = u64::try_from(records)?;
        let call = |n: usize| {
            let from = first + u64::try_from(n).unwrap_or(u64::MAX) * width;
            call(self.client.clone(), self.bearer.clone(), from..from + width)
        };
        let mut answers = stream::iter(0..calls).map(call).buffer_unordered(in_flight);
        let mut accepted = 0;
        while let Some(answer) = answers.next().await {
            accepted += answer?;
        }
        drop(answers);
        self.reported += accepted;
        Ok(accepted)
    }
}

async fn call(
    mut client: UsageServiceClient<Channel>,
    bearer: MetadataValue<Ascii>,
    numbers: std::ops::Range<u64>,
) -> anyhow::Result<u64> {
    let records: Vec<v1::UsageRecord> = numbers.map(record).collect();
    let sent = records.len();
    let mut request = Request::new(v1::ReportUsageRequest { records });
    request.metadata_mut().insert("authorization", bearer);
    let results = client.report_usage(request).await?.into_inner().results;
    let accepted = results.iter().filter(|result| result.status() == v1::RecordStatus::Accepted).count();
    ensure!(accepted == sent, "{accepted} records of {sent} were accepted");
    Ok(u64::try_from(accepted)?)
}

/// A record like those of a language model's calls: priced from its tokens.
fn record(number: u64) -> v1::UsageRecord {
    v1::UsageRecord {
        event_id: format!("event-{number}"),
        occur_time: Some(SystemTime::now().into()),
        request_id: format!("check-{number}"),
        api: API.to_owned(),
        endpoint: "/v1/chat/completions".to_owned(),
        method: "POST".to_owned(),
        status_code: 200,
        latency_ms: Some(820),
        bytes_in: Some(2_300),
        bytes_out: Some(4_100),
        subject: format!("user-{}", number % SUBJECTS),
        model: MODEL.to_owned(),
        tokens: Some(v1::TokenUsage {
            input_total: Some(1_200),
            cached_input: Some(300),
            output: Some(350),
            ..v1::TokenUsage::default()
        }),
        dimensions: [("team".to_owned(), "search".to_owned())].into(),
        ..v1::UsageRecord::default()
    }
}
