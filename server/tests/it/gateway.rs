//! Calls through the gateway, with money that runs out while many are under way.

use http_body_util::BodyExt;
use rateguard_demo_upstream::{DemoUpstream, Endpoint};
use rateguard_proto::v1;
use tokio::task::JoinSet;

use crate::clients::{Clients, eventually};
use crate::http::{Answer, ChatCall, Http};
use crate::price::{cost_nanos, input_worth};
use crate::process::{Installation, Server};
use crate::upstream;

/// Calls of one storm, and how many of them are under way at once.
const CALLS: usize = 200;
const AT_ONCE: usize = 50;
/// How long the upstream takes for each, so that they overlap.
const UPSTREAM_MS: u32 = 20;
/// Calls that a storm's budget is worth.
const WORTH_CALLS: i64 = 20;

struct Scene {
    installation: Installation,
    server: Server,
    upstream: DemoUpstream,
    /// A key for back ends, which reads.
    reader: Clients,
    /// A key for apps.
    app_key: String,
    http: Http,
}

impl Scene {
    async fn set() -> Self {
        let installation = Installation::make().await;
        let server = installation.serve().await;
        let (upstream, upstream_address) = upstream::start().await;
        let reader = installation.administer(&server).await;
        upstream::make_api(&reader, upstream_address).await;
        let app_key = reader.make_key(&[v1::KeyScope::Gateway]).await;
        Self { installation, server, upstream, reader, app_key, http: Http::new() }
    }

    fn chat(&self) -> ChatCall {
        ChatCall::new(&self.server.address, "chat", &self.app_key)
    }

    /// Makes `CALLS` calls, `AT_ONCE` at a time.
    async fn storm(&self, make: impl Fn() -> ChatCall) -> Vec<Answer> {
        let mut answers = Vec::with_capacity(CALLS);
        let mut calls = JoinSet::new();
        for _ in 0..CALLS {
            if calls.len() == AT_ONCE {
                answers.push(calls.join_next().await.unwrap().unwrap());
            }
            let (http, call) = (self.http.clone(), make());
            calls.spawn(async move { http.call(&call).await });
        }
        answers.extend(calls.join_all().await);
        answers
    }

    /// Waits until no reservation is open under a budget.
    async fn settled(&self, budget: &str) -> v1::BudgetState {
        eventually("every call is settled", || async {
            self.reader.budget_state(budget).await.held_nanos == 0
        })
        .await;
        self.reader.budget_state(budget).await
    }
}

fn admitted(answers: &[Answer]) -> i64 {
    for answer in answers.iter().filter(|answer| answer.status != 200) {
        assert_eq!(answer.status, 402, "{answer:?}");
        assert_eq!(answer.should_retry.as_deref(), Some("false"));
    }
    i64::try_from(answers.iter().filter(|answer| answer.status == 200).count()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_estimate_equals_the_cost_a_budget_worth_20_calls_admits_exactly_20() {
    let scene = Scene::set().await;
    let input = scene.chat().input_tokens_estimated();
    let cost = cost_nanos(input, 10);
    let budget = scene.reader.make_budget("", WORTH_CALLS * cost).await;
    let make = || scene.chat().taking_ms(UPSTREAM_MS).using(input, 10);
    let answers = scene.storm(make).await;
    assert_eq!(admitted(&answers), WORTH_CALLS);
    let state = scene.settled(&budget.id).await;
    assert_eq!((state.spent_nanos, state.remaining_nanos), (WORTH_CALLS * cost, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_estimate_covers_the_cost_never_more_than_20_are_admitted() {
    let scene = Scene::set().await;
    let input = scene.chat().input_tokens_estimated() - 5;
    let cost = cost_nanos(input, 4);
    let budget = scene.reader.make_budget("", WORTH_CALLS * cost).await;
    let make = || scene.chat().taking_ms(UPSTREAM_MS).using(input, 4);
    let answers = scene.storm(make).await;
    let admitted = admitted(&answers);
    assert!((1..=WORTH_CALLS).contains(&admitted), "{admitted}");
    let state = scene.settled(&budget.id).await;
    assert_eq!(state.spent_nanos, admitted * cost);
    assert!(state.spent_nanos <= state.amount_nanos);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_estimates_at_half_the_cost_the_overshoot_is_bounded_and_stands_as_debt() {
    let scene = Scene::set().await;
    let shortest = || scene.chat().asking_at_most(1);
    let estimate = cost_nanos(shortest().input_tokens_estimated(), 1);
    // The upstream counts so many more tokens of input that the call costs twice the estimate.
    let input = input_worth(2 * estimate, 1);
    let cost = cost_nanos(input, 1);
    let budget = scene.reader.make_budget("", WORTH_CALLS * cost).await;
    let make = || shortest().taking_ms(UPSTREAM_MS).using(input, 1);
    let admitted = admitted(&scene.storm(make).await);
    let state = scene.settled(&budget.id).await;
    assert_eq!(state.spent_nanos, admitted * cost);
    let outstanding = i64::try_from(AT_ONCE).unwrap();
    let bound = WORTH_CALLS * cost + outstanding * (cost - estimate);
    assert!(state.spent_nanos <= bound, "{} is over the bound {bound}", state.spent_nanos);
    assert!(state.spent_nanos >= WORTH_CALLS * cost, "the budget was not used up");
    assert_eq!(state.remaining_nanos, 0);
    assert_eq!(scene.http.call(&make()).await.status, 402, "the debt was forgiven");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_in_mid_stream_is_charged_what_the_upstream_reported() {
    let scene = Scene::set().await;
    let budget = scene.reader.make_budget("", 1_000_000_000).await;
    let call = scene.chat().asking_at_most(400).using(1_000, 400).streaming(20, 20);
    let response = scene.http.send(&call).await;
    let request_id = response.headers()["x-rateguard-request-id"].to_str().unwrap().to_owned();
    let mut body = response.into_body();
    for _ in 0..5 {
        assert!(body.frame().await.unwrap().unwrap().is_data());
    }
    drop(body);

    let state = scene.settled(&budget.id).await;
    assert_eq!(state.spent_nanos, cost_nanos(1_000, 400));
    let events = scene.reader.all_events().await;
    let event = events.iter().find(|e| e.record.as_ref().unwrap().request_id == request_id).unwrap();
    assert_eq!(event.cost.as_ref().unwrap().nanos, state.spent_nanos);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_killed_between_answer_and_report_leaves_a_floor_and_the_budget_is_free_again() {
    let installation = Installation::make().await;
    let token_file = installation.path().join("gateway.token");
    rateguard_server::keyfile::create(&token_file, "a-token-for-gateways-of-other-processes").unwrap();
    let server = installation.serve_for_gateways(&token_file).await;
    let (_upstream, upstream_address) = upstream::start().await;
    let reader = installation.administer(&server.server).await;
    upstream::make_api(&reader, upstream_address).await;
    let app_key = reader.make_key(&[v1::KeyScope::Gateway]).await;
    let budget = reader.make_budget("", 1_000_000_000).await;

    let gateway = server.start_gateway(&token_file).await;
    let call = ChatCall::new(&gateway.address, "chat", &app_key).streaming(50, 50);
    let floor = cost_nanos(call.input_tokens_estimated(), 0);
    let http = Http::new();
    let mut body = http.send(&call).await.into_body();
    assert!(body.frame().await.unwrap().unwrap().is_data());
    assert!(reader.budget_state(&budget.id).await.held_nanos > 0);
    gateway.kill().await;

    eventually("the reservation expires into its floor", || async {
        let state = reader.budget_state(&budget.id).await;
        state.held_nanos == 0 && state.spent_nanos == floor
    })
    .await;
    let events = reader.all_events().await;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].kind(), v1::UsageEventKind::Expired);
    assert_eq!(events[0].cost.as_ref().unwrap().nanos, floor);
}

#[tokio::test]
async fn the_server_stops_cleanly_with_a_call_in_flight() {
    let scene = Scene::set().await;
    let call = scene.chat().taking_ms(300);
    let http = scene.http.clone();
    let in_flight = tokio::spawn(async move { http.call(&call).await });
    eventually("the call has reached the upstream", || async {
        scene.upstream.observations().requests(Endpoint::OpenAiChat) > 0
    })
    .await;
    assert!(scene.server.interrupt().await.success());
    assert_eq!(in_flight.await.unwrap().status, 200);

    let server = scene.installation.serve().await;
    let reader = scene.installation.administer(&server).await;
    assert_eq!(reader.all_events().await.len(), 1, "the call in flight was not reported");
}
