//! Checks on a stream in both directions, and in large batches.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::channel::mpsc::{UnboundedSender, unbounded};
use futures::stream;
use rateguard_core::limits::BATCH_CHECKS_MAX;
use rateguard_engine::resources::Scope;
use rateguard_proto::v1;
use rateguard_proto::v1::ErrorReason as R;
use rateguard_proto::v1::key_service_client::KeyServiceClient;
use rateguard_proto::v1::quota_service_client::QuotaServiceClient;
use rateguard_proto::v1::rule_service_client::RuleServiceClient;
use rateguard_proto::v1::stream_check_quota_response::Result as Answer;
use tonic::{Code, Streaming};

use super::managed::{fixed_window, make_rule, mask};
use super::world::{Transport, World, plain_key, reason, told};

/// Longest life of a stream, by the contract.
const STREAM_LIFE: Duration = Duration::from_secs(600);
/// Answers that the transport may have taken over before anybody reads them, beside those in work: far fewer
/// than there are questions.
const TAKEN_OVER_MAX: i64 = 2_000;
/// Calls of another that a test makes before it concludes that the slow one does not wait.
const ROUNDS_MAX: usize = 50;

fn question(request_id: &str) -> v1::StreamCheckQuotaRequest {
    let check =
        v1::CheckQuotaRequest { request_id: request_id.to_owned(), ..v1::CheckQuotaRequest::default() };
    v1::StreamCheckQuotaRequest { check: Some(check) }
}

async fn limit_to(world: &World, limit: i64) {
    let rule =
        v1::Rule { display_name: "all".to_owned(), algorithm: fixed_window(limit), ..v1::Rule::default() };
    make_rule(&mut RuleServiceClient::new(world.transport()), rule).await.unwrap();
}

async fn used(world: &World) -> i64 {
    let mut client = QuotaServiceClient::new(world.transport());
    client.get_quota(v1::GetQuotaRequest::default()).await.unwrap().into_inner().limits[0].used
}

/// A stream that goes on until its sender is dropped.
async fn open(
    transport: Transport,
) -> (UnboundedSender<v1::StreamCheckQuotaRequest>, Streaming<v1::StreamCheckQuotaResponse>) {
    let (sender, questions) = unbounded();
    let answers = QuotaServiceClient::new(transport).stream_check_quota(questions).await.unwrap();
    (sender, answers.into_inner())
}

/// The answers to these questions, by the ids that they carry.
async fn answers(world: &World, questions: Vec<v1::StreamCheckQuotaRequest>) -> BTreeMap<String, Answer> {
    let mut client = QuotaServiceClient::new(world.transport());
    let mut answers = client.stream_check_quota(stream::iter(questions)).await.unwrap().into_inner();
    let mut by_id = BTreeMap::new();
    while let Some(answer) = answers.message().await.unwrap() {
        assert!(by_id.insert(answer.request_id, answer.result.unwrap()).is_none());
    }
    by_id
}

fn is_allowed(answer: &Answer) -> bool {
    matches!(answer, Answer::Response(response) if response.decision() == v1::Decision::Allowed)
}

#[tokio::test]
async fn every_question_has_one_answer_under_its_id_and_no_more_pass_than_may() {
    let world = World::new().await;
    limit_to(&world, 600).await;
    let answers = answers(&world, (0..1_000).map(|n| question(&format!("q{n}"))).collect()).await;
    assert_eq!(answers.len(), 1_000);
    assert_eq!(answers.values().filter(|answer| is_allowed(answer)).count(), 600);
    assert_eq!(used(&world).await, 600);
}

#[tokio::test]
async fn a_question_that_is_asked_again_on_another_stream_takes_nothing() {
    let world = World::new().await;
    limit_to(&world, 10).await;
    for round in 0..2 {
        let answers = answers(&world, vec![question("a"), question("b")]).await;
        for answer in answers.values() {
            let Answer::Response(response) = answer else { panic!("no decision: {answer:?}") };
            assert_eq!(response.replayed, round == 1);
        }
    }
    assert_eq!(used(&world).await, 2);
}

#[tokio::test]
async fn what_is_wrong_with_one_question_is_its_answer_and_the_others_go_on() {
    let world = World::new().await;
    limit_to(&world, 10).await;
    let of_api = |request_id: &str| {
        let mut question = question(request_id);
        question.check.as_mut().unwrap().api = "nowhere".to_owned();
        question
    };
    let empty = v1::StreamCheckQuotaRequest { check: None };
    let questions = vec![question("good"), of_api("no api"), of_api("noapi"), empty, question("good-too")];
    let answers = answers(&world, questions).await;
    let error = |id: &str| match &answers[id] {
        Answer::Error(error) => (error.code, error.reason(), error.field.clone()),
        Answer::Response(response) => panic!("{response:?}"),
    };
    assert_eq!(error("noapi"), (Code::NotFound.into(), R::ResourceNotFound, String::new()));
    assert_eq!(error("no api"), (Code::InvalidArgument.into(), R::FieldOutOfBounds, "request_id".to_owned()));
    assert_eq!(error(""), (Code::InvalidArgument.into(), R::FieldMissing, "check".to_owned()));
    assert!(is_allowed(&answers["good"]) && is_allowed(&answers["good-too"]));
}

#[tokio::test]
async fn a_question_without_an_id_is_refused() {
    let world = World::new().await;
    let answers = answers(&world, vec![question("")]).await;
    let Answer::Error(error) = &answers[""] else { panic!("{answers:?}") };
    assert_eq!((error.reason(), error.field.as_str()), (R::FieldMissing, "request_id"));
}

#[tokio::test]
async fn whoever_does_not_read_answers_is_not_read_from_and_nobody_else_waits() {
    let world = World::new().await;
    limit_to(&world, 1_000_000).await;
    let (sender, mut slow) = open(world.transport()).await;
    for number in 0..50_000 {
        sender.unbounded_send(question(&format!("q{number}"))).unwrap();
    }
    slow.message().await.unwrap().unwrap();
    // The slow one is done once all that its stream holds is full; another's calls are decided at any time.
    let mut alone = false;
    for number in 0..ROUNDS_MAX {
        let taken = used(&world).await;
        assert!((1..TAKEN_OVER_MAX).contains(&taken), "{taken} of 50,000 were decided");
        let asked = format!("another-{number}");
        assert!(is_allowed(&answers(&world, vec![question(&asked)]).await[&asked]));
        alone = used(&world).await == taken + 1;
        if alone {
            break;
        }
    }
    assert!(alone, "the slow one waits");
}

#[tokio::test]
async fn a_stream_ends_when_its_key_opens_it_no_more() {
    let world = World::new().await;
    let key = world.add_key(plain_key(&[Scope::Quota])).await;
    let mut keys = KeyServiceClient::new(world.transport());
    let listed = keys.list_keys(v1::ListKeysRequest::default()).await.unwrap().into_inner().keys;
    let id = listed.into_iter().find(|listed| key.starts_with(&listed.prefix)).expect("it was added").id;
    let (sender, mut answers) = open(world.transport_with(&key)).await;
    sender.unbounded_send(question("before")).unwrap();
    assert_eq!(answers.message().await.unwrap().unwrap().request_id, "before");
    let without = v1::Key { id, scopes: vec![v1::KeyScope::Usage.into()], ..v1::Key::default() };
    let update = v1::UpdateKeyRequest { key: Some(without), update_mask: mask(&["scopes"]) };
    let id = keys.update_key(update).await.unwrap().into_inner().key.unwrap().id;
    sender.unbounded_send(question("after")).unwrap();
    let refused = answers.message().await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused)), (Code::PermissionDenied, R::ScopeMissing));
    let (sender, mut answers) = {
        let with = v1::Key { id: id.clone(), scopes: vec![v1::KeyScope::Quota.into()], ..v1::Key::default() };
        let update = v1::UpdateKeyRequest { key: Some(with), update_mask: mask(&["scopes"]) };
        keys.update_key(update).await.unwrap();
        open(world.transport_with(&key)).await
    };
    keys.delete_key(v1::DeleteKeyRequest { id, etag: String::new() }).await.unwrap();
    sender.unbounded_send(question("last")).unwrap();
    let refused = answers.message().await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused)), (Code::Unauthenticated, R::CredentialUnknown));
}

#[tokio::test]
async fn a_gateway_asks_for_an_app_on_a_stream() {
    let world = World::new().await;
    let app = world.add_key(plain_key(&[Scope::Gateway])).await;
    let (sender, mut answers) = open(world.gateway_for(&app)).await;
    sender.unbounded_send(question("a")).unwrap();
    let answer = answers.message().await.unwrap().unwrap();
    assert!(is_allowed(&answer.result.unwrap()));
    // The app's own key opens no method.
    let mut client = QuotaServiceClient::new(world.transport_with(&app));
    let refused = client.stream_check_quota(stream::iter([question("b")])).await.unwrap_err();
    assert_eq!(reason(&refused), R::ScopeMissing);
}

#[tokio::test]
async fn a_server_that_stops_answers_what_it_has_taken_and_ends_the_stream() {
    let world = World::new().await;
    let (sender, mut answers) = open(world.transport()).await;
    sender.unbounded_send(question("a")).unwrap();
    assert_eq!(answers.message().await.unwrap().unwrap().request_id, "a");
    world.drain.cancel();
    assert!(answers.message().await.unwrap().is_none());
}

#[tokio::test]
async fn a_stream_ends_after_its_longest_life() {
    let world = World::new().await;
    let (_sender, mut answers) = open(world.transport()).await;
    tokio::time::pause();
    tokio::time::advance(STREAM_LIFE).await;
    tokio::time::resume();
    assert!(answers.message().await.unwrap().is_none());
}

#[tokio::test]
async fn a_thousand_checks_are_one_batch_decided_in_order_and_one_more_is_refused() {
    let world = World::new().await;
    limit_to(&world, 700).await;
    let mut client = QuotaServiceClient::new(world.transport());
    let batch =
        |count| v1::BatchCheckQuotaRequest { requests: vec![v1::CheckQuotaRequest::default(); count] };
    let results = client.batch_check_quota(batch(BATCH_CHECKS_MAX)).await.unwrap().into_inner().results;
    let allowed = |result: &v1::BatchCheckResult| {
        matches!(&result.result, Some(v1::batch_check_result::Result::Response(response))
            if response.decision() == v1::Decision::Allowed)
    };
    assert_eq!(results.iter().take_while(|result| allowed(result)).count(), 700);
    assert_eq!((results.len(), results.iter().filter(|result| allowed(result)).count()), (1_000, 700));
    let refused = client.batch_check_quota(batch(BATCH_CHECKS_MAX + 1)).await.unwrap_err();
    assert_eq!(told(&refused), (Code::InvalidArgument, R::FieldOutOfBounds, "requests".to_owned()));
}
