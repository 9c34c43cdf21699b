//! Whatever comes, to every method of every service through the whole of the server: each answer is a
//! good one, or a refusal in the words of the contract.

use axum::body::Body;
use http::{Request, Response, StatusCode, Version};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::TestRunner;
use prost::Message;
use prost_reflect::{DescriptorPool, MethodDescriptor};
use rateguard_engine::resources::Scope;
use rateguard_proto::access::METHODS;
use rateguard_proto::v1;
use rateguard_proto::v1::ErrorReason as R;
use tonic::{Code, Status};
use tower::ServiceExt;

use super::messages::dynamic;
use super::persons::{PASSWORD, login, registration};
use super::wire::{call, framed, status_of};
use super::world::{GATEWAY_TOKEN, ORIGIN, World, plain_key, told};
use crate::auth::DECLARED_BY_OTHERS;
use crate::auth::browser::CSRF_HEADER;

/// Calls of one run: each method is called some thirty times.
const CALLS: u32 = 1_500;
/// Further calls to make a failing one smaller.
const SHRINKS_MAX: u32 = 2_000;
/// What a message for people may be long, so that it fits the head of an answer.
const MESSAGE_CHARS_MAX: usize = 2_000;

fn methods() -> Vec<MethodDescriptor> {
    let sets = [
        rateguard_proto::FILE_DESCRIPTOR_SET,
        rateguard_proto::INTERNAL_FILE_DESCRIPTOR_SET,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
    ];
    let pools = sets.map(|set| DescriptorPool::decode(set).unwrap());
    let services = pools.iter().flat_map(DescriptorPool::services).collect::<Vec<_>>();
    services.iter().flat_map(|service| service.methods().collect::<Vec<_>>()).collect()
}

fn path(method: &MethodDescriptor) -> String {
    format!("/{}/{}", method.parent_service().full_name(), method.name())
}

/// A good call of a method, where the usual message is not the empty one.
fn usual(path: &str) -> Vec<u8> {
    let rule = v1::Rule {
        display_name: "ten a minute".to_owned(),
        algorithm: Some(v1::rule::Algorithm::FixedWindow(v1::FixedWindow { limit: 10, window_ms: 60_000 })),
        ..v1::Rule::default()
    };
    let record = v1::UsageRecord {
        event_id: "event".to_owned(),
        model: "gpt".to_owned(),
        tokens: Some(v1::TokenUsage { input_total: Some(1), ..v1::TokenUsage::default() }),
        ..v1::UsageRecord::default()
    };
    let check = v1::CheckQuotaRequest {
        request_id: "request".to_owned(),
        attributes: [("plan".to_owned(), "free".to_owned())].into(),
        amounts: vec![v1::UnitAmount { unit: "tokens".to_owned(), amount: 1 }],
        ..v1::CheckQuotaRequest::default()
    };
    let api =
        v1::Api { slug: "api".to_owned(), base_url: "https://a.example/v1".to_owned(), ..v1::Api::default() };
    let key = v1::Key { display_name: "key".to_owned(), scopes: vec![1], ..v1::Key::default() };
    let workspace = v1::Workspace { display_name: "second".to_owned(), ..v1::Workspace::default() };
    match path.rsplit('/').next().unwrap() {
        "CheckQuota" => check.encode_to_vec(),
        "BatchCheckQuota" => v1::BatchCheckQuotaRequest { requests: vec![check] }.encode_to_vec(),
        "ReportUsage" => v1::ReportUsageRequest { records: vec![record] }.encode_to_vec(),
        "CreateRule" => v1::CreateRuleRequest { rule: Some(rule), request_id: String::new() }.encode_to_vec(),
        "CreateApi" => v1::CreateApiRequest { api: Some(api), request_id: String::new() }.encode_to_vec(),
        "CreateKey" => v1::CreateKeyRequest { key: Some(key), request_id: String::new() }.encode_to_vec(),
        "Register" => registration("bob@example.com").encode_to_vec(),
        "Login" => login("ada@example.com", PASSWORD).encode_to_vec(),
        "CreateWorkspace" => {
            v1::CreateWorkspaceRequest { workspace: Some(workspace), request_id: String::new() }
                .encode_to_vec()
        }
        "InviteMember" => v1::InviteMemberRequest { role: 1, ..Default::default() }.encode_to_vec(),
        _ => Vec::new(),
    }
}

fn body(method: &MethodDescriptor) -> impl Strategy<Value = Vec<u8>> + use<> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..200);
    let usual = framed(&usual(&path(method)));
    let arbitrary = dynamic(method.input()).prop_map(|message| framed(&message.encode_to_vec()));
    let changes = proptest::collection::vec((any::<Index>(), any::<u8>()), 1..4);
    let mutated = (prop_oneof![Just(usual), arbitrary.clone()], changes).prop_map(|(mut body, changes)| {
        for (place, byte) in changes {
            let place = place.index(body.len());
            body[place] = byte;
        }
        body
    });
    prop_oneof![4 => arbitrary, 4 => mutated, 2 => bytes().prop_map(|bytes| framed(&bytes)), 1 => bytes()]
}

/// The path of any method, with any body, in either form.
fn any_call() -> impl Strategy<Value = (String, Vec<u8>, bool)> {
    select(methods()).prop_flat_map(|method| (Just(path(&method)), body(&method), any::<bool>()))
}

struct Server {
    world: World,
    app: String,
    /// Who calls what people may.
    person: String,
    /// Who logs out, and is nobody afterwards.
    leaver: String,
}

impl Server {
    async fn new() -> Self {
        let world = World::new().await;
        let app = world.add_key(plain_key(&[Scope::Gateway])).await;
        let person = world.someone("ada").await.access;
        let leaver = world.someone("eve").await.access;
        Self { world, app, person, leaver }
    }

    /// The credential that opens a method.
    fn token(&self, path: &str) -> &str {
        let of_people = ["AuthService", "WorkspaceService", "MemberService"];
        let is_of_people = of_people.iter().any(|service| path.contains(service));
        match is_of_people {
            true if path.ends_with("/Logout") => &self.leaver,
            true => &self.person,
            false => &self.world.key,
        }
    }

    async fn answer(&self, path: &str, body: Vec<u8>, from_browser: bool) -> Response<Body> {
        if path.starts_with("/rateguard.internal.") {
            let mut request = call(path, GATEWAY_TOKEN, body);
            request.headers_mut().insert("x-rateguard-on-behalf-of", self.app.parse().unwrap());
            return self.world.gateways.clone().oneshot(request).await.unwrap();
        }
        let mut request: Request<Body> = call(path, self.token(path), body);
        if from_browser {
            *request.version_mut() = Version::HTTP_11;
            request.headers_mut().insert("content-type", "application/grpc-web+proto".parse().unwrap());
            request.headers_mut().insert("origin", ORIGIN.parse().unwrap());
            request.headers_mut().insert(CSRF_HEADER, "1".parse().unwrap());
        }
        self.world.public.clone().oneshot(request).await.unwrap()
    }
}

/// Watches go on; whether one was refused stands in the head.
fn is_watch(path: &str) -> bool {
    path.ends_with("/Watch") || path.ends_with("/WatchRoutes")
}

/// The refusal in an answer. A browser's answer that is not refused has its status in the body.
async fn refusal(path: &str, from_browser: bool, answer: Response<Body>) -> Option<Status> {
    let in_head = Status::from_header_map(answer.headers());
    if in_head.is_some() || is_watch(path) || from_browser {
        return in_head.filter(|status| status.code() != Code::Ok);
    }
    let status = status_of(answer).await.expect("a call that is over has a status");
    (status.code() != Code::Ok).then_some(status)
}

fn is_in_the_contracts_words(path: &str, status: &Status) -> Result<(), TestCaseError> {
    let (code, reason, field) = told(status);
    prop_assert!(!matches!(code, Code::Internal | Code::Unknown | Code::DataLoss), "{path}: {status:?}");
    prop_assert!(status.message().chars().count() < MESSAGE_CHARS_MAX, "{path}: {status:?}");
    let names_a_field = matches!(reason, R::FieldMissing | R::FieldMalformed | R::FieldOutOfBounds);
    if names_a_field && path.starts_with("/rateguard.") {
        prop_assert!(!field.is_empty(), "{path}: {status:?}");
    }
    Ok(())
}

#[test]
fn every_method_answers_whatever_comes_in_the_contracts_words() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(Server::new());
    let config = ProptestConfig {
        cases: CALLS,
        failure_persistence: None,
        max_shrink_iters: SHRINKS_MAX,
        ..ProptestConfig::default()
    };
    let run = TestRunner::new(config).run(&any_call(), |(path, body, from_browser)| {
        runtime.block_on(async {
            let answer = server.answer(&path, body, from_browser).await;
            prop_assert_eq!(answer.status(), StatusCode::OK, "{}", path);
            match refusal(&path, from_browser, answer).await {
                Some(status) => is_in_the_contracts_words(&path, &status),
                None => Ok(()),
            }
        })
    });
    run.unwrap();
}

#[test]
fn the_usual_calls_are_good_ones_and_every_method_is_among_those_called() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(Server::new());
    let mut good = 0;
    for method in methods() {
        let path = path(&method);
        let usual = usual(&path);
        if !usual.is_empty() {
            let answer = runtime.block_on(server.answer(&path, framed(&usual), false));
            let refused = runtime.block_on(refusal(&path, false, answer));
            assert!(refused.is_none(), "{path}: {refused:?}");
            good += 1;
        }
    }
    assert_eq!(good, 10);
    assert_eq!(methods().len(), METHODS.len() + DECLARED_BY_OTHERS.len());
}
