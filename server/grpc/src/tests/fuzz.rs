//! Whatever comes, to every method of every service through the whole of the server: each answer is a
//! good one, or a refusal in the words of the contract; nothing panics, and nothing is INTERNAL.
//!
//! A run is one round of calls, or as many rounds as fit into the seconds that [`SECONDS_VARIABLE`]
//! names; each round has a server of its own, and calls every method once as it is meant.

mod bodies;
mod panics;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::ConnectInfo;
use http::{Request, Response, StatusCode, Version};
use http_body_util::BodyExt;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use prost_reflect::{DescriptorPool, DynamicMessage, Kind, MethodDescriptor, Value};
use rateguard_proto::access::METHODS;
use rateguard_proto::v1::ErrorReason as R;
use tokio::runtime::Runtime;
use tonic::{Code, Status};
use tower::ServiceExt;

use self::bodies::body;
use super::tenants::asked::{asked, path};
use super::tenants::{Headers, Tenant};
use super::wire::{call, framed};
use super::world::{ORIGIN, World, told};
use crate::auth::DECLARED_BY_OTHERS;
use crate::auth::browser::CSRF_HEADER;

/// Calls of one round: each method is called some thirty times.
const CALLS: u32 = 1_500;
/// Further calls to make a failing one smaller.
const SHRINKS_MAX: u32 = 2_000;
/// What a message for people may be long, so that it fits the head of an answer.
const MESSAGE_CHARS_MAX: usize = 2_000;
/// Bytes of a body that a failure shows.
const SHOWN_BYTES_MAX: usize = 500;
/// Bytes in front of a message: a flag and its length.
const FRAME_BYTES: usize = 5;
/// The variable that names for how long rounds are begun.
const SECONDS_VARIABLE: &str = "RATEGUARD_FUZZ_SECONDS";
/// The variable that names the seed of the first round; each round after it adds one.
const SEED_VARIABLE: &str = "RATEGUARD_SEED";
/// The reasons and their codes, as the documents have them.
const ERRORS: &str = include_str!("../../../../docs/ERRORS.md");

/// Every method of every service.
pub fn methods() -> Vec<MethodDescriptor> {
    let sets = [
        rateguard_proto::FILE_DESCRIPTOR_SET,
        rateguard_proto::INTERNAL_FILE_DESCRIPTOR_SET,
        rateguard_proto::ENVOY_FILE_DESCRIPTOR_SET,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
    ];
    let pools = sets.map(|set| DescriptorPool::decode(set).unwrap());
    let services = pools.iter().flat_map(DescriptorPool::services).collect::<Vec<_>>();
    services.iter().flat_map(|service| service.methods().collect::<Vec<_>>()).collect()
}

/// A number that a variable names, if it does.
fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text:?}")))
}

/// A method with the message and the credential that make a good call of it.
#[derive(Clone, Debug)]
struct Usual {
    method: MethodDescriptor,
    message: Vec<u8>,
    by: Headers,
}

/// One call.
#[derive(Clone)]
struct Call {
    usual: Usual,
    body: Vec<u8>,
    from_browser: bool,
    has_credential: bool,
    /// Who calls from elsewhere is counted elsewhere.
    peer: u32,
}

impl std::fmt::Debug for Call {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (path, form) = (path(&self.usual.method), if self.from_browser { "browser" } else { "plain" });
        let shown = self.body[..self.body.len().min(SHOWN_BYTES_MAX)].escape_ascii();
        write!(formatter, "{path} ({form}, {} bytes): {shown}", self.body.len())
    }
}

fn any_call(usuals: Vec<Usual>, things: Vec<String>) -> impl Strategy<Value = Call> {
    select(usuals).prop_flat_map(move |usual| {
        let body = body(&usual.method, &usual.message, &things);
        let credential = proptest::bool::weighted(0.95);
        let parts = (body, any::<bool>(), credential, any::<u32>());
        parts.prop_map(move |(body, from_browser, has_credential, peer)| Call {
            usual: usual.clone(),
            body,
            from_browser,
            has_credential,
            peer,
        })
    })
}

struct Server {
    world: World,
    usuals: Vec<Usual>,
    things: Vec<String>,
}

impl Server {
    async fn new() -> Self {
        let world = World::with_provider(|_| {}).await;
        let tenant = Tenant::build(&world, "a", false).await;
        let mut usuals = Vec::new();
        for method in methods() {
            for asked in asked(&world, &tenant, &method).await {
                usuals.push(Usual { method: method.clone(), message: asked.own, by: asked.by });
            }
        }
        Self { world, usuals, things: tenant.things.into_values().collect() }
    }

    async fn answer(&self, sent: &Call) -> Response<Body> {
        let path = path(&sent.usual.method);
        let mut request: Request<Body> = call(&path, "", sent.body.clone());
        request.headers_mut().remove("authorization");
        for (name, value) in sent.usual.by.iter().filter(|_| sent.has_credential) {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        let peer = SocketAddr::new(IpAddr::V4(Ipv4Addr::from_bits(sent.peer)), 1_234);
        request.extensions_mut().insert(ConnectInfo(peer));
        if path.starts_with("/rateguard.internal.") {
            return self.world.gateways.clone().oneshot(request).await.unwrap();
        }
        if sent.from_browser {
            *request.version_mut() = Version::HTTP_11;
            request.headers_mut().insert("content-type", "application/grpc-web+proto".parse().unwrap());
            request.headers_mut().insert("origin", ORIGIN.parse().unwrap());
            request.headers_mut().insert(CSRF_HEADER, "1".parse().unwrap());
        }
        self.world.public.clone().oneshot(request).await.unwrap()
    }

    /// Makes every good call. Those methods answer OK that can; the others are named.
    async fn as_meant(&self) -> BTreeSet<String> {
        let mut good = BTreeSet::new();
        for usual in &self.usuals {
            let sent = Call {
                usual: usual.clone(),
                body: framed(&usual.message),
                from_browser: false,
                has_credential: true,
                peer: 0,
            };
            let refused = refusal(&sent, self.answer(&sent).await).await;
            let path = path(&usual.method);
            assert!(matches!(refused, Ok(None)), "{path} does not answer OK: {refused:?}");
            good.insert(path);
        }
        good
    }
}

/// The refusal in an answer; an error where a good answer tells of something broken inside.
async fn refusal(sent: &Call, answer: Response<Body>) -> Result<Option<Status>, TestCaseError> {
    let method = &sent.usual.method;
    let is_watch = method.is_server_streaming() && !method.is_client_streaming();
    let in_head = Status::from_header_map(answer.headers());
    // A watch goes on, and a browser has its status in the body.
    if in_head.is_some() || is_watch || sent.from_browser {
        return Ok(in_head.filter(|status| status.code() != Code::Ok));
    }
    let body = answer.into_body().collect().await.map_err(|error| TestCaseError::fail(error.to_string()))?;
    let status = body.trailers().and_then(Status::from_header_map);
    let status = status.ok_or_else(|| TestCaseError::fail("a call that is over has a status"))?;
    if status.code() != Code::Ok {
        return Ok(Some(status));
    }
    let message = body.to_bytes();
    let message = message.get(FRAME_BYTES..).filter(|_| !method.is_server_streaming()).unwrap_or_default();
    let message = DynamicMessage::decode(method.output(), message);
    let message = message.map_err(|error| TestCaseError::fail(error.to_string()))?;
    prop_assert!(!tells_of_internal(&Value::Message(message.clone())), "{}: {message:?}", method.full_name());
    Ok(None)
}

/// Whether a part of an answer, as the result of one record, is that something is broken.
fn tells_of_internal(value: &Value) -> bool {
    match value {
        Value::Message(message) => message.fields().any(|(field, value)| {
            let is_reason = matches!(field.kind(), Kind::Enum(kind) if kind.name() == "ErrorReason");
            (is_reason && *value == Value::EnumNumber(R::Internal.into())) || tells_of_internal(value)
        }),
        Value::List(elements) => elements.iter().any(tells_of_internal),
        _ => false,
    }
}

/// The code of each reason.
fn documented() -> BTreeMap<&'static str, &'static str> {
    let cells = |line: &'static str| {
        let mut cells = line.split('|').skip(1).map(|cell| cell.trim().trim_matches('`'));
        Some((cells.next()?, cells.next()?))
    };
    ERRORS.lines().filter(|line| line.starts_with("| `")).filter_map(cells).collect()
}

/// A code as the documents write it: `INVALID_ARGUMENT`.
fn written(code: Code) -> String {
    let mut written = String::new();
    for letter in format!("{code:?}").chars() {
        if letter.is_uppercase() && !written.is_empty() {
            written.push('_');
        }
        written.push(letter.to_ascii_uppercase());
    }
    written
}

fn is_in_the_contracts_words(sent: &Call, status: &Status) -> Result<(), TestCaseError> {
    let path = path(&sent.usual.method);
    let (code, reason, field) = told(status);
    prop_assert!(!matches!(code, Code::Internal | Code::Unknown | Code::DataLoss), "{path}: {status:?}");
    let documented = documented().get(reason.as_error_info_reason()).copied();
    prop_assert_eq!(documented, Some(&*written(code)), "{}: {:?}", path, status);
    prop_assert!(status.message().chars().count() < MESSAGE_CHARS_MAX, "{path}: {status:?}");
    let names_a_field = matches!(reason, R::FieldMissing | R::FieldMalformed | R::FieldOutOfBounds);
    if names_a_field && path.starts_with("/rateguard.") {
        prop_assert!(!field.is_empty(), "{path}: {status:?}");
    }
    Ok(())
}

/// One round on a server of its own; how many calls were good.
fn round(runtime: &Runtime, seed: u64) -> usize {
    let server = runtime.block_on(Server::new());
    let good = runtime.block_on(server.as_meant());
    let missed: Vec<_> = methods().iter().map(path).filter(|path| !good.contains(path)).collect();
    assert!(missed.is_empty(), "never answered OK: {missed:?}");
    let config = ProptestConfig {
        cases: CALLS,
        failure_persistence: None,
        max_shrink_iters: SHRINKS_MAX,
        ..ProptestConfig::default()
    };
    let bytes: Vec<u8> = [seed, 0, 0, 0].into_iter().flat_map(u64::to_le_bytes).collect();
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let answered = AtomicUsize::new(good.len());
    let run = runner.run(&any_call(server.usuals.clone(), server.things.clone()), |sent| {
        runtime.block_on(async {
            let answer = server.answer(&sent).await;
            prop_assert_eq!(answer.status(), StatusCode::OK);
            match refusal(&sent, answer).await? {
                Some(status) => is_in_the_contracts_words(&sent, &status)?,
                None => drop(answered.fetch_add(1, Ordering::Relaxed)),
            }
            prop_assert_eq!(panics::seen(), Vec::<String>::new());
            Ok(())
        })
    });
    run.unwrap_or_else(|error| panic!("{SEED_VARIABLE}={seed} makes the same calls: {error}"));
    answered.into_inner()
}

#[test]
fn every_method_answers_whatever_comes_in_the_contracts_words_and_ok_to_a_good_call() {
    panics::watch();
    let runtime = Runtime::new().unwrap();
    let first_seed = number(SEED_VARIABLE).unwrap_or_else(|| RandomState::new().build_hasher().finish());
    let lasts = Duration::from_secs(number(SECONDS_VARIABLE).unwrap_or_default());
    let (began, mut rounds, mut good) = (Instant::now(), 0, 0);
    while rounds == 0 || began.elapsed() < lasts {
        good += round(&runtime, first_seed.wrapping_add(rounds));
        rounds += 1;
    }
    assert_eq!(panics::seen(), Vec::<String>::new());
    println!(
        "fuzz: {} methods, {rounds} rounds of {CALLS} calls in {:?}, {good} answered OK; {SEED_VARIABLE}={first_seed}",
        methods().len(),
        began.elapsed(),
    );
}

#[test]
fn the_methods_called_are_those_that_are_served() {
    let called: BTreeSet<_> = methods().iter().map(path).collect();
    let declared = METHODS.iter().map(|method| method.path).chain(DECLARED_BY_OTHERS).map(str::to_owned);
    assert_eq!(called, declared.collect());
}
