//! P1: `CheckQuota` over gRPC, beside a bare tonic echo of the same messages.

use std::fs;
use std::time::Duration;

use anyhow::ensure;
use prost::Message;
use rateguard_proto::v1;
use rateguard_proto::v1::quota_service_client::QuotaServiceClient;
use tonic::Request;

use crate::figures::Comparison;
use crate::load::{Calls, Target, closed, runtime};
use crate::machine::Machine;
use crate::pair::{Pair, WARM_UP};
use crate::process::{Echoed, Server, data_folder};
use crate::seed::{API, Limits, MODEL, SUBJECTS, install};

/// The method.
pub const PATH: &str = "/rateguard.v1.QuotaService/CheckQuota";
/// Calls open at once.
pub const IN_FLIGHT: [usize; 2] = [64, 256];
/// Of a limit, so much is asked for where it is counted how many pass.
pub const ADMITTED_OF_PERCENT: u64 = 120;
/// Longer, before anything is measured: every subject's counter is made.
pub const FIRST_WARM_UP: Duration = Duration::from_millis(1_500);
/// `decision: ALLOWED`, the first field of an answer.
const ALLOWED: [u8; 2] = [0x08, 0x01];

/// Measures calls a second, processor time a call, and latencies at half the load.
///
/// # Errors
/// When a server or a call fails.
pub fn measure(machine: &Machine) -> anyhow::Result<Vec<Comparison>> {
    let folder = data_folder()?;
    let key = install(folder.path(), Limits::Usual)?;
    let subject = Server::rateguard(machine, folder.path(), &[])?;
    let answer = folder.path().join("answer");
    fs::write(&answer, runtime()?.block_on(one_answer(&subject, &key))?.encode_to_vec())?;
    let baseline = Server::echo(machine, &answer, Echoed::Checks)?;
    let (subject, baseline) = (Target::new(&[&subject], PATH, &key), Target::new(&[&baseline], PATH, &key));
    let pair = Pair { id: "P1", what: "checks", each: [1, 1], subject, baseline };
    let (mut checks, mut echoed) = (Checks::default(), Checks::default());
    closed(&pair.subject, &mut checks, IN_FLIGHT[0], WARM_UP, FIRST_WARM_UP)?;
    let mut measured = Vec::new();
    for in_flight in IN_FLIGHT {
        measured.extend(pair.throughput(&mut checks, &mut echoed, in_flight)?);
    }
    let half = measured.first().map_or(0, |at_64: &Comparison| at_64.subject.median() / 2);
    measured.extend(pair.latency(&mut checks, half)?);
    Ok(measured)
}

/// A real answer, so that the echo's has the same fields and size.
///
/// # Errors
/// When the server does not answer by the three limits.
pub async fn one_answer(server: &Server, key: &str) -> anyhow::Result<v1::CheckQuotaResponse> {
    let mut client = QuotaServiceClient::connect(format!("http://{}", server.address)).await?;
    let mut request = Request::new(Checks::default().message);
    request.metadata_mut().insert("authorization", format!("Bearer {key}").parse()?);
    let answer = client.check_quota(request).await?.into_inner();
    ensure!(answer.limits.len() == 3, "a check is decided over three limits");
    Ok(answer)
}

/// Checks of changing subjects, each with an id of its own.
pub struct Checks {
    message: v1::CheckQuotaRequest,
    made: u64,
}

impl Checks {
    /// Checks whose ids no others have that begin far from here.
    pub fn numbered_from(number: u64) -> Self {
        Self { made: number, ..Self::default() }
    }

    /// The next of them.
    pub fn next_request(&mut self) -> &v1::CheckQuotaRequest {
        self.made += 1;
        self.message.request_id = format!("check-{}", self.made);
        self.message.subject = format!("user-{}", self.made % SUBJECTS);
        &self.message
    }
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
        Ok(self.next_request().encode(message)?)
    }

    fn check(&mut self, message: &[u8]) -> anyhow::Result<()> {
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
        let mut checks = Checks::default();
        assert!(checks.check(&answer(v1::Decision::Allowed).encode_to_vec()).is_ok());
        assert!(checks.check(&answer(v1::Decision::Denied).encode_to_vec()).is_err());
    }
}
