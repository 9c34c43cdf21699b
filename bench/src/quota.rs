//! P1: `CheckQuota` over gRPC, beside a bare tonic echo of the same messages.

use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use anyhow::ensure;
use hdrhistogram::Histogram;
use prost::Message;
use rateguard_proto::v1;
use rateguard_proto::v1::quota_service_client::QuotaServiceClient;
use tonic::Request;

use crate::figures::{Comparison, Series, Unit, per_second};
use crate::load::{Calls, Target, Throughput, closed, open, runtime};
use crate::machine::Machine;
use crate::process::{Server, data_folder};
use crate::seed::{API, MODEL, SUBJECTS, install};
use crate::table::say;

const PATH: &str = "/rateguard.v1.QuotaService/CheckQuota";
/// How often subject and baseline take turns.
const ROUNDS: usize = 5;
const IN_FLIGHT: [usize; 2] = [64, 256];
const WARM_UP: Duration = Duration::from_millis(300);
const CLOSED: Duration = Duration::from_millis(1_500);
const OPEN: Duration = Duration::from_millis(2_000);
/// Longer, before anything is measured: every subject's counter is made.
const FIRST_WARM_UP: Duration = Duration::from_millis(1_500);
/// `decision: ALLOWED`, the first field of an answer.
const ALLOWED: [u8; 2] = [0x08, 0x01];

/// Measures calls a second, processor time a call, and latencies at half the load.
///
/// # Errors
/// When a server or a call fails.
pub fn measure(machine: &Machine) -> anyhow::Result<Vec<Comparison>> {
    let folder = data_folder()?;
    let key = install(folder.path())?;
    let subject = Server::rateguard(machine, folder.path())?;
    let answer = folder.path().join("answer");
    fs::write(&answer, runtime()?.block_on(one_answer(&subject, &key))?.encode_to_vec())?;
    let baseline = Server::echo(machine, &answer)?;
    let pair = Pair { subject: target(&subject, &key), baseline: target(&baseline, &key) };
    let mut checks = Checks::default();
    closed(&pair.subject, &mut checks, IN_FLIGHT[0], WARM_UP, FIRST_WARM_UP)?;
    let mut measured = Vec::new();
    for in_flight in IN_FLIGHT {
        measured.extend(pair.throughput(&mut checks, in_flight)?);
    }
    let half = measured.first().map_or(0, |at_64: &Comparison| at_64.subject.median() / 2);
    measured.extend(pair.latency(&mut checks, half)?);
    Ok(measured)
}

fn target<'a>(server: &Server, key: &'a str) -> Target<'a> {
    Target { address: server.address, process: server.process(), path: PATH, key }
}

/// A real answer, so that the echo's has the same fields and size.
async fn one_answer(server: &Server, key: &str) -> anyhow::Result<v1::CheckQuotaResponse> {
    let mut client = QuotaServiceClient::connect(format!("http://{}", server.address)).await?;
    let mut request = Request::new(Checks::default().message);
    request.metadata_mut().insert("authorization", format!("Bearer {key}").parse()?);
    let answer = client.check_quota(request).await?.into_inner();
    ensure!(answer.limits.len() == 3, "a check is decided over three limits");
    Ok(answer)
}

struct Pair<'a> {
    subject: Target<'a>,
    baseline: Target<'a>,
}

impl Pair<'_> {
    fn throughput(&self, checks: &mut Checks, in_flight: usize) -> anyhow::Result<[Comparison; 2]> {
        let mut rate = Comparison::new(format!("P1 checks, {in_flight} in flight"), Unit::PerSecond);
        let mut per_busy_second =
            Comparison::new(format!("P1 checks a CPU second, {in_flight} in flight"), Unit::PerSecond);
        for _ in 0..ROUNDS {
            let parts = [
                (&self.subject, &mut rate.subject, &mut per_busy_second.subject),
                (&self.baseline, &mut rate.baseline, &mut per_busy_second.baseline),
            ];
            for (target, rates, per_busy_second) in parts {
                let found = closed(target, checks, in_flight, WARM_UP, CLOSED)?;
                note(&found, rates, per_busy_second)?;
            }
        }
        Ok([rate, per_busy_second])
    }

    fn latency(&self, checks: &mut Checks, checks_per_second: u64) -> anyhow::Result<[Comparison; 2]> {
        say(&format!("open loop at {checks_per_second} checks a second"))?;
        let mut p50 = Comparison::new("P1 p50 at half load", Unit::Nanos);
        let mut p99 = Comparison::new("P1 p99 at half load", Unit::Nanos);
        for _ in 0..ROUNDS {
            let parts = [
                (&self.subject, &mut p50.subject, &mut p99.subject),
                (&self.baseline, &mut p50.baseline, &mut p99.baseline),
            ];
            for (target, p50, p99) in parts {
                let latencies = open(target, checks, checks_per_second, OPEN)?;
                note_latencies(&latencies, p50, p99);
            }
        }
        Ok([p50, p99])
    }
}

fn note(found: &Throughput, rates: &mut Series, per_busy_second: &mut Series) -> anyhow::Result<()> {
    let rate = per_second(found.calls, found.elapsed);
    let busy_percent = found.busy.as_nanos() * 100 / found.elapsed.as_nanos().max(1);
    say(&format!("  {rate} calls/s, server busy {busy_percent} %"))?;
    rates.push(rate);
    per_busy_second.push(per_second(found.calls, found.busy));
    Ok(())
}

fn note_latencies(latencies: &Histogram<u64>, p50: &mut Series, p99: &mut Series) {
    p50.push(latencies.value_at_quantile(0.50));
    p99.push(latencies.value_at_quantile(0.99));
}

/// Checks of changing subjects, each with an id of its own.
struct Checks {
    message: v1::CheckQuotaRequest,
    made: u64,
}

impl Default for Checks {
    fn default() -> Self {
        let message = v1::CheckQuotaRequest {
            request_id: "check-0".to_owned(),
            api: API.to_owned(),
            endpoint: "/v1/chat/completions".to_owned(),
            method: "POST".to_owned(),
            subject: "user-0".to_owned(),
            model: MODEL.to_owned(),
            ..v1::CheckQuotaRequest::default()
        };
        Self { message, made: 0 }
    }
}

impl Calls for Checks {
    fn next(&mut self, message: &mut Vec<u8>) -> anyhow::Result<()> {
        self.made += 1;
        self.message.request_id.clear();
        write!(self.message.request_id, "check-{}", self.made)?;
        self.message.subject.clear();
        write!(self.message.subject, "user-{}", self.made % SUBJECTS)?;
        Ok(self.message.encode(message)?)
    }

    fn check(&self, message: &[u8]) -> anyhow::Result<()> {
        ensure!(message.starts_with(&ALLOWED), "a check was not allowed");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_check_has_an_id_of_its_own_and_subjects_return() {
        let mut checks = Checks::default();
        let mut next = || {
            let mut bytes = Vec::new();
            checks.next(&mut bytes).expect("a small message");
            v1::CheckQuotaRequest::decode(bytes.as_slice()).expect("what was encoded")
        };
        let first = next();
        let again = (1..=SUBJECTS).map(|_| next()).last().expect("more than none");
        assert_ne!(first.request_id, again.request_id);
        assert_eq!(first.subject, again.subject);
    }

    #[test]
    fn an_allowed_answer_is_told_from_a_denied_one() {
        let answer = |decision: v1::Decision| v1::CheckQuotaResponse {
            decision: decision.into(),
            limiting_limit_id: "rule_x".to_owned(),
            ..v1::CheckQuotaResponse::default()
        };
        let checks = Checks::default();
        assert!(checks.check(&answer(v1::Decision::Allowed).encode_to_vec()).is_ok());
        assert!(checks.check(&answer(v1::Decision::Denied).encode_to_vec()).is_err());
    }
}
