//! P5: Envoy's `ShouldRateLimit` with one descriptor, by counters in memory, in Redis, and by leases from
//! there, beside a bare tonic echo of the same call.

use std::fmt::Write as _;
use std::fs;

use anyhow::{bail, ensure};
use prost::Message;
use rateguard_core::rule::Consistency;
use rateguard_proto::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use rateguard_proto::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;
use rateguard_proto::envoy::service::ratelimit::v3::rate_limit_service_client::RateLimitServiceClient;
use rateguard_proto::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use tonic::Request;

use crate::figures::{Comparison, Unit};
use crate::load::{Calls, Target, closed, counted, runtime};
use crate::machine::Machine;
use crate::pair::{Pair, WARM_UP};
use crate::process::{Echoed, Server, data_folder};
use crate::quota::{ADMITTED_OF_PERCENT, FIRST_WARM_UP};
use crate::redis_server::Redis;
use crate::seed::{ADMITTED_MAX, DOMAIN, Limits, SUBJECTS, install};

const PATH: &str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";
const IN_FLIGHT: usize = 64;
/// `overall_code: OK` and `overall_code: OVER_LIMIT`, the first field of an answer.
const OK: [u8; 2] = [0x08, 0x01];
const OVER_LIMIT: [u8; 2] = [0x08, 0x02];

/// One way to the counters.
struct Way {
    what: &'static str,
    admitted: &'static str,
    consistency: Consistency,
    in_redis: bool,
}

const WAYS: [Way; 3] = [
    Way {
        what: "descriptors in memory",
        admitted: "P5 descriptors admitted in memory, of the limit",
        consistency: Consistency::Strict,
        in_redis: false,
    },
    Way {
        what: "descriptors in Redis",
        admitted: "P5 descriptors admitted in Redis, of the limit",
        consistency: Consistency::Strict,
        in_redis: true,
    },
    Way {
        what: "descriptors by leases",
        admitted: "P5 descriptors admitted by leases, of the limit",
        consistency: Consistency::Leased,
        in_redis: true,
    },
];

/// Measures calls a second, and counts how many pass a limit.
///
/// # Errors
/// When a server or a call fails, or more pass than may.
pub fn measure(machine: &Machine) -> anyhow::Result<Vec<Comparison>> {
    let mut measured = Vec::new();
    for way in &WAYS {
        measured.extend(way.measure(machine)?);
    }
    Ok(measured)
}

impl Way {
    fn measure(&self, machine: &Machine) -> anyhow::Result<[Comparison; 3]> {
        let redis = if self.in_redis { Some(Redis::start(machine)?) } else { None };
        let folder = data_folder()?;
        let key = install(folder.path(), Limits::Descriptors { consistency: self.consistency })?;
        let environment = redis.as_ref().map(Redis::environment);
        let environment = environment.as_ref().map_or(&[][..], |variables| variables);
        let server = Server::rateguard(machine, folder.path(), environment)?;
        let answer = folder.path().join("answer");
        fs::write(&answer, runtime()?.block_on(one_answer(&server, &key))?.encode_to_vec())?;
        let echo = Server::echo(machine, &answer, Echoed::Descriptors)?;
        let mut subject = Target::new(&[&server], PATH, &key);
        if let Some(redis) = &redis {
            subject = subject.and(redis.process);
        }
        let baseline = Target::new(&[&echo], PATH, &key);
        let (mut calls, mut echoed) = (Descriptors::of_users(), Descriptors::of_users());
        closed(&subject, &mut calls, IN_FLIGHT, WARM_UP, FIRST_WARM_UP)?;
        let admitted = self.admitted(&subject)?;
        let pair = Pair { id: "P5", what: self.what, each: [1, 1], subject, baseline };
        let [rate, per_busy_second] = pair.throughput(&mut calls, &mut echoed, IN_FLIGHT)?;
        Ok([rate, per_busy_second, admitted])
    }

    /// Asks for more of one value than its limit has.
    fn admitted(&self, subject: &Target<'_>) -> anyhow::Result<Comparison> {
        let limit = u64::try_from(ADMITTED_MAX)?;
        let mut calls = Descriptors::of_one();
        counted(subject, &mut calls, IN_FLIGHT, limit * ADMITTED_OF_PERCENT / 100)?;
        ensure!(calls.admitted <= limit, "{} calls passed a limit of {limit}", calls.admitted);
        let mut comparison = Comparison::new(self.admitted, Unit::Count);
        comparison.subject.push(calls.admitted);
        comparison.baseline.push(limit);
        Ok(comparison)
    }
}

/// A real answer, so that the echo's has the same fields and size.
async fn one_answer(server: &Server, key: &str) -> anyhow::Result<RateLimitResponse> {
    let mut client = RateLimitServiceClient::connect(format!("http://{}", server.address)).await?;
    let mut request = Request::new(Descriptors::of_users().message);
    request.metadata_mut().insert("authorization", format!("Bearer {key}").parse()?);
    let answer = client.should_rate_limit(request).await?.into_inner();
    let limited = answer.statuses.first().is_some_and(|status| status.current_limit.is_some());
    ensure!(limited, "a descriptor is decided by a limit");
    Ok(answer)
}

/// Calls with one descriptor of one entry.
struct Descriptors {
    message: RateLimitRequest,
    made: u64,
    /// Whether values change, and none is refused.
    many: bool,
    admitted: u64,
}

impl Descriptors {
    fn of(key: &str, value: &str, many: bool) -> Self {
        let entry = Entry { key: key.to_owned(), value: value.to_owned() };
        let descriptor = RateLimitDescriptor { entries: vec![entry], ..RateLimitDescriptor::default() };
        let message =
            RateLimitRequest { domain: DOMAIN.to_owned(), descriptors: vec![descriptor], hits_addend: 0 };
        Self { message, made: 0, many, admitted: 0 }
    }

    fn of_users() -> Self {
        Self::of("user", "user-0", true)
    }

    fn of_one() -> Self {
        Self::of("counted", "all", false)
    }
}

impl Calls for Descriptors {
    fn next(&mut self, message: &mut Vec<u8>) -> anyhow::Result<()> {
        self.made += 1;
        let entry = self.message.descriptors.first_mut().and_then(|it| it.entries.first_mut());
        if let Some(entry) = entry.filter(|_| self.many) {
            entry.value.clear();
            write!(entry.value, "user-{}", self.made % SUBJECTS)?;
        }
        Ok(self.message.encode(message)?)
    }

    fn check(&mut self, message: &[u8]) -> anyhow::Result<()> {
        match message.get(..OK.len()) {
            Some(code) if code == OK => self.admitted += 1,
            Some(code) if code == OVER_LIMIT && !self.many => {}
            _ => bail!("a call was not let pass"),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_of_users_change_and_the_counted_one_stays() {
        let value = |calls: &mut Descriptors| {
            let mut bytes = Vec::new();
            calls.next(&mut bytes).expect("a small message");
            let message = RateLimitRequest::decode(bytes.as_slice()).expect("what was encoded");
            message.descriptors[0].entries[0].value.clone()
        };
        let (mut users, mut one) = (Descriptors::of_users(), Descriptors::of_one());
        assert_ne!(value(&mut users), value(&mut users));
        assert_eq!(value(&mut one), value(&mut one));
    }

    #[test]
    fn only_the_counted_one_may_be_refused() {
        assert!(Descriptors::of_users().check(&OVER_LIMIT).is_err());
        let mut one = Descriptors::of_one();
        one.check(&OK).expect("one that passed");
        one.check(&OVER_LIMIT).expect("one that did not");
        assert_eq!(one.admitted, 1);
    }
}
