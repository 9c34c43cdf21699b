//! P2: many checks at once, in batches of 100 and on one stream, beside P1's calls with one check each.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures::StreamExt;
use prost::Message;
use rateguard_proto::v1;
use rateguard_proto::v1::quota_service_client::QuotaServiceClient;
use rateguard_proto::v1::stream_check_quota_response::Result as Answer;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Streaming};

use crate::figures::{Comparison, Unit};
use crate::load::{Calls, Target, Throughput, closed, runtime};
use crate::machine::{Machine, processor_time, wait_for_rest};
use crate::pair::{CLOSED, Pair, ROUNDS, WARM_UP, note};
use crate::process::{Server, data_folder};
use crate::quota::{Checks, FIRST_WARM_UP, IN_FLIGHT, PATH};
use crate::seed::{Limits, install};

const BATCH_PATH: &str = "/rateguard.v1.QuotaService/BatchCheckQuota";
/// Checks of one batch.
const BATCH_CHECKS: u64 = 100;
/// Of so many batches one is looked at as a whole: looking at all would be the client's work that is
/// measured.
const LOOKED_AT_EVERY: u64 = 256;
/// Where the numbers of other checks begin, so that no id comes twice.
const ELSEWHERE: u64 = 1_000_000_000;
/// Checks on a stream that are not answered yet.
const ON_STREAM: usize = 64;

/// Measures decisions a second.
///
/// # Errors
/// When a server or a call fails.
pub fn measure(machine: &Machine) -> anyhow::Result<Vec<Comparison>> {
    let folder = data_folder()?;
    let key = install(folder.path(), Limits::Usual)?;
    let server = Server::rateguard(machine, folder.path(), &[])?;
    let calls = || Target::new(&[&server], PATH, &key);
    let mut checks = Checks::default();
    closed(&calls(), &mut checks, IN_FLIGHT[0], WARM_UP, FIRST_WARM_UP)?;
    let subject = Target::new(&[&server], BATCH_PATH, &key);
    let pair = Pair {
        id: "P2",
        what: "checks in batches of 100",
        each: [BATCH_CHECKS, 1],
        subject,
        baseline: calls(),
    };
    let mut batches = Batches { checks, answered: 0 };
    let mut measured =
        pair.throughput(&mut batches, &mut Checks::numbered_from(ELSEWHERE), IN_FLIGHT[0])?.to_vec();
    measured.extend(on_stream(&server, &key, batches.checks)?);
    Ok(measured)
}

/// Batches of changing checks.
struct Batches {
    checks: Checks,
    answered: u64,
}

impl Calls for Batches {
    fn next(&mut self, message: &mut Vec<u8>) -> anyhow::Result<()> {
        let requests = (0..BATCH_CHECKS).map(|_| self.checks.next_request().clone()).collect();
        Ok(v1::BatchCheckQuotaRequest { requests }.encode(message)?)
    }

    fn check(&mut self, message: &[u8]) -> anyhow::Result<()> {
        self.answered += 1;
        if !self.answered.is_multiple_of(LOOKED_AT_EVERY) {
            return Ok(());
        }
        let answer = v1::BatchCheckQuotaResponse::decode(message)?;
        let allowed = answer.results.iter().filter(|result| match &result.result {
            Some(v1::batch_check_result::Result::Response(response)) => is_allowed(response),
            _ => false,
        });
        ensure!(u64::try_from(allowed.count())? == BATCH_CHECKS, "a check of a batch was not allowed");
        Ok(())
    }
}

fn is_allowed(response: &v1::CheckQuotaResponse) -> bool {
    response.decision() == v1::Decision::Allowed
}

/// One stream of changing checks.
struct Asking {
    checks: Checks,
    questions: mpsc::Sender<v1::StreamCheckQuotaRequest>,
    answers: Streaming<v1::StreamCheckQuotaResponse>,
    open: usize,
}

impl Asking {
    async fn begin(server: &Server, key: &str, checks: Checks) -> anyhow::Result<Self> {
        let mut client = QuotaServiceClient::connect(format!("http://{}", server.address)).await?;
        let (questions, asked) = mpsc::channel(ON_STREAM);
        let mut request = Request::new(ReceiverStream::new(asked));
        request.metadata_mut().insert("authorization", format!("Bearer {key}").parse()?);
        let answers = client.stream_check_quota(request).await?.into_inner();
        Ok(Self { checks, questions, answers, open: 0 })
    }

    /// Keeps [`ON_STREAM`] checks open for a time; says how many were answered.
    async fn saturate(&mut self, time: Duration) -> anyhow::Result<u64> {
        let started = Instant::now();
        let mut answered = 0;
        while started.elapsed() < time {
            while self.open < ON_STREAM {
                let check = Some(self.checks.next_request().clone());
                self.questions.send(v1::StreamCheckQuotaRequest { check }).await?;
                self.open += 1;
            }
            let answer = self.answers.next().await.context("the stream has ended")??;
            let Some(Answer::Response(response)) = answer.result else {
                anyhow::bail!("a check on the stream failed");
            };
            ensure!(is_allowed(&response), "a check on the stream was not allowed");
            self.open -= 1;
            answered += 1;
        }
        Ok(answered)
    }
}

fn on_stream(server: &Server, key: &str, checks: Checks) -> anyhow::Result<[Comparison; 2]> {
    let mut rate = Comparison::new("P2 checks on one stream, 64 open", Unit::PerSecond);
    let mut per_busy_second =
        Comparison::new("P2 checks on one stream a CPU second, 64 open", Unit::PerSecond);
    let runtime = runtime()?;
    let target = Target::new(&[server], PATH, key);
    let mut unary = Checks::numbered_from(2 * ELSEWHERE);
    let mut asking = runtime.block_on(Asking::begin(server, key, checks))?;
    for _ in 0..ROUNDS {
        runtime.block_on(asking.saturate(WARM_UP))?;
        let (busy, started) = (processor_time(server.process())?, Instant::now());
        let calls = runtime.block_on(asking.saturate(CLOSED))?;
        let elapsed = started.elapsed();
        let busy = processor_time(server.process())?.saturating_sub(busy);
        let found = Throughput { calls, elapsed, busy };
        note(&found, 1, &mut rate.subject, &mut per_busy_second.subject)?;
        wait_for_rest(server.process())?;
        let found = closed(&target, &mut unary, IN_FLIGHT[0], WARM_UP, CLOSED)?;
        note(&found, 1, &mut rate.baseline, &mut per_busy_second.baseline)?;
    }
    Ok([rate, per_busy_second])
}
