//! The client for Rust, against the program.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use rateguard::{Call, Client, DecidedBy, LeaseFigures, LeasingClient};
use rateguard_proto::v1;
use rateguard_test_servers::{Flow, Proxy};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::clients::{Clients, eventually};
use crate::process::{Installation, Server};

/// The window of rules: a year.
const WINDOW_MS: i64 = 365 * 24 * 60 * 60 * 1_000;
/// Tasks that call through one client at the same time.
const CALLERS: usize = 16;
/// Longest wait for an answer: the machine may be busy.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(20);

/// A server with a key for clients.
struct World {
    _installation: Installation,
    server: Server,
    manager: Clients,
    key: String,
}

impl World {
    async fn start() -> Self {
        let installation = Installation::make().await;
        let server = installation.serve().await;
        let manager = installation.administer(&server).await;
        let scopes = [v1::KeyScope::Quota, v1::KeyScope::Usage, v1::KeyScope::Read];
        let key = manager.make_key(&scopes).await;
        Self { _installation: installation, server, manager, key }
    }

    fn client(&self) -> Client {
        Client::connect(&self.server.address, &self.key).unwrap().waiting_at_most(ANSWER_WAIT_MAX)
    }

    /// A client behind a network that fails at will, with a connection that stands.
    async fn client_behind_a_proxy(&self) -> (Client, Proxy) {
        let address = self.server.address.strip_prefix("http://").unwrap().parse().unwrap();
        let proxy = Proxy::to(address).await.unwrap();
        let client = Client::connect(&format!("http://{}", proxy.address()), &self.key).unwrap();
        let client = client.waiting_at_most(ANSWER_WAIT_MAX);
        assert!(client.release("rsv_00").await.unwrap_err().reason().is_some());
        (client, proxy)
    }

    /// Records that were counted.
    async fn events(&self) -> usize {
        self.server.connect(&self.key).await.all_events().await.len()
    }

    async fn leased_rule(&self, limit: i64) -> v1::Rule {
        leased_rule(&self.manager, limit).await
    }

    /// What the one limit has used.
    async fn used(&self) -> i64 {
        let quota = self.server.connect(&self.key).await;
        let answer = quota.quota().get_quota(v1::GetQuotaRequest::default()).await.unwrap();
        answer.into_inner().limits[0].used
    }
}

/// Makes a rule that can be leased, shared by the workspace.
pub async fn leased_rule(manager: &Clients, limit: i64) -> v1::Rule {
    let window = v1::FixedWindow { limit, window_ms: WINDOW_MS };
    let rule = v1::Rule {
        display_name: "leased".to_owned(),
        unit: "requests".to_owned(),
        algorithm: Some(v1::rule::Algorithm::FixedWindow(window)),
        consistency: v1::RuleConsistency::Leased.into(),
        ..v1::Rule::default()
    };
    let request = v1::CreateRuleRequest { rule: Some(rule), request_id: String::new() };
    manager.rules().create_rule(request).await.unwrap().into_inner().rule.unwrap()
}

/// A client that leases, patient with a busy machine.
pub fn leasing(server: &Server, key: &str) -> LeasingClient {
    Client::connect(&server.address, key).unwrap().waiting_at_most(ANSWER_WAIT_MAX).leasing()
}

fn call() -> Call {
    Call::to("")
}

/// Calls until one is denied, at most so often; says how many the limits have admitted. What was allowed
/// because the counters did not answer in time is not in them.
async fn calls(client: LeasingClient, most: i64) -> i64 {
    let mut admitted = 0;
    for _ in 0..most {
        let decision = client.check(&call()).await.unwrap();
        if !decision.is_allowed {
            break;
        }
        admitted += i64::from(decision.answer.is_none_or(|answer| !answer.degraded));
    }
    admitted
}

/// The same by several callers at the same time.
pub async fn calls_at_once(client: &LeasingClient, each: i64) -> i64 {
    let mut callers: JoinSet<i64> = (0..CALLERS).map(|_| calls(client.clone(), each)).collect();
    let mut allowed = 0;
    while let Some(done) = callers.join_next().await {
        allowed += done.unwrap();
    }
    allowed
}

fn tell(what: &str, figures: LeaseFigures) {
    let decisions = figures.decided_here + figures.asked;
    eprintln!("{what}: {} questions for {decisions} decisions, {figures:?}", figures.questions());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_clients_that_lease_admit_all_of_a_limit_together_and_no_more() {
    const LIMIT: i64 = 20_000;
    let world = World::start().await;
    world.leased_rule(LIMIT).await;
    let clients = [world.client().leasing(), world.client().leasing()];
    let (here, there) = tokio::join!(calls_at_once(&clients[0], LIMIT), calls_at_once(&clients[1], LIMIT));
    for client in &clients {
        client.close().await;
        tell("two clients to the end of a limit", client.figures());
    }
    assert!(here + there <= LIMIT, "{here} and {there}");
    assert_eq!(world.used().await, here + there, "what was not spent went back");
    let rest = calls(clients[0].clone(), LIMIT).await;
    assert_eq!(here + there + rest, LIMIT);
    let figures = clients.map(|client| client.figures());
    let here: u64 = figures.iter().map(|figures| figures.decided_here).sum();
    let questions: u64 = figures.iter().map(LeaseFigures::questions).sum();
    assert!(here > 0 && questions < LIMIT.unsigned_abs(), "{figures:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn far_from_a_limit_nearly_every_call_is_decided_here() {
    let world = World::start().await;
    world.leased_rule(10_000_000).await;
    let client = world.client().leasing();
    let allowed = calls_at_once(&client, 1_000).await;
    assert_eq!(allowed, 16_000);
    let figures = client.figures();
    tell("far from a limit", figures);
    assert!(figures.questions() * 10 < 16_000, "{figures:?}");
    client.close().await;
    assert_eq!(world.used().await, allowed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_strict_limit_beside_it_is_never_passed_by_a_lease() {
    let world = World::start().await;
    world.leased_rule(1_000_000).await;
    let client = world.client().leasing();
    // Leases are held when the strict limit comes.
    assert_eq!(calls(client.clone(), 100).await, 100);
    world.manager.make_rule("strict", 50).await;
    client.close().await;
    let client = world.client().leasing();
    assert_eq!(calls_at_once(&client, 20).await, 50);
    let figures = client.figures();
    tell("beside a strict limit", figures);
    assert_eq!(figures.decided_here, 0);
    assert!(figures.lease_questions <= 2, "it is remembered that nothing is lent: {figures:?}");
    let denied = client.check(&call()).await.unwrap();
    assert_eq!((denied.is_allowed, denied.by), (false, DecidedBy::Server));
    assert!(denied.answer.is_some());
}

#[test]
fn a_client_that_is_killed_has_spent_what_it_had() {
    let ours = Runtime::new().unwrap();
    let world = ours.block_on(World::start());
    ours.block_on(world.leased_rule(10_000));
    let theirs = Runtime::new().unwrap();
    let client = theirs.block_on(async { world.client().leasing() });
    assert_eq!(theirs.block_on(calls(client.clone(), 100)), 100);
    // Nothing of it runs any more, not even what it does when it is dropped.
    std::mem::forget(client);
    theirs.shutdown_background();
    let used = ours.block_on(world.used());
    assert!(used > 100, "it held something: {used}");
    let other = ours.block_on(async { world.client().leasing() });
    let allowed = ours.block_on(calls(other.clone(), 20_000));
    ours.block_on(other.close());
    assert_eq!(used + allowed, 10_000, "what it held is nobody's");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_reserved_is_settled_or_released_and_a_report_counts_once() {
    let world = World::start().await;
    world.manager.make_rule("all", 1_000).await;
    let client = world.client();
    let checked = client.check(&call().taking("requests", 3)).await.unwrap();
    assert!(checked.is_allowed && checked.reservation_id.is_empty());
    let estimate = v1::Estimate::default;
    let held = client.reserve(&call(), estimate(), Some(Duration::from_secs(60))).await.unwrap();
    assert_eq!(client.release(&held.reservation_id).await.unwrap(), v1::ReservationState::Released);
    assert_eq!(world.used().await, 3);
    let held = client.reserve(&call(), estimate(), None).await.unwrap();
    let record = v1::UsageRecord {
        event_id: "one".to_owned(),
        reservation_id: held.reservation_id,
        ..v1::UsageRecord::default()
    };
    let settled = client.settle(record.clone()).await.unwrap();
    assert_eq!(settled.status(), v1::RecordStatus::Accepted);
    assert_eq!(client.settle(record).await.unwrap().status(), v1::RecordStatus::Duplicate);
    // What a check has taken is not counted again.
    let taken = call().taking("requests", 3).consumed_units();
    let of_check = v1::UsageRecord { already_consumed_units: Some(taken), ..v1::UsageRecord::default() };
    assert_eq!(client.settle(of_check).await.unwrap().status(), v1::RecordStatus::Accepted);
    assert_eq!(world.used().await, 4);
    let refused = client.release("rsv_00").await.unwrap_err();
    assert_eq!(refused.reason(), Some(v1::ErrorReason::ResourceNotFound));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_done_when_the_connection_was_lost_is_asked_again_and_counts_once() {
    let world = World::start().await;
    world.manager.make_rule("all", 1_000).await;
    let (client, proxy) = world.client_behind_a_proxy().await;
    // Every question is done, and its connection is cut before the answer comes.
    let lose_the_answer = async |used, events| {
        let is_done = async || (world.used().await, world.events().await) == (used, events);
        eventually("what was asked is done", is_done).await;
        proxy.cut();
        proxy.set(Flow::Pass);
    };
    proxy.set(Flow::HoldAnswers);
    let call = call().taking("requests", 3);
    let (checked, ()) = tokio::join!(client.check(&call), lose_the_answer(3, 0));
    assert!(checked.unwrap().is_allowed);
    proxy.set(Flow::HoldAnswers);
    let (settled, ()) = tokio::join!(client.settle(v1::UsageRecord::default()), lose_the_answer(3, 1));
    assert_eq!(settled.unwrap().status(), v1::RecordStatus::Duplicate, "it was counted by the first try");
    assert_eq!((world.used().await, world.events().await), (3, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_that_stays_without_an_answer_hands_back_what_can_be_reported_again() {
    let world = World::start().await;
    let (client, proxy) = world.client_behind_a_proxy().await;
    proxy.set(Flow::HoldAnswers);
    let is_over = Cell::new(false);
    let report = async {
        let answer = client.report(vec![v1::UsageRecord::default(); 2]).await;
        is_over.set(true);
        answer
    };
    let cut_every_try = async {
        eventually("both are counted", async || world.events().await == 2).await;
        while !is_over.get() {
            proxy.cut();
            tokio::task::yield_now().await;
        }
    };
    let (unanswered, ()) = tokio::join!(report, cut_every_try);
    let records = unanswered.unwrap_err().records;
    assert!(records.iter().all(|record| !record.event_id.is_empty() && record.occur_time.is_some()));
    proxy.set(Flow::Pass);
    let results = client.report(records).await.unwrap();
    assert!(results.iter().all(|result| result.status() == v1::RecordStatus::Duplicate), "{results:?}");
    assert_eq!((results.len(), world.events().await), (2, 2));
}

/// Polls a future so often, and drops it. Whether it was done by then.
async fn dropped_after(polls: usize, future: impl Future) -> bool {
    let (mut future, mut left) = (pin!(future), polls);
    poll_fn(|context| {
        let is_done = future.as_mut().poll(context).is_ready();
        left -= 1;
        if is_done || left == 0 { Poll::Ready(is_done) } else { Poll::Pending }
    })
    .await
}

#[tokio::test]
async fn a_denied_call_that_is_given_up_at_any_point_strands_no_lease() {
    const LIMIT: i64 = 100_000;
    let world = World::start().await;
    world.leased_rule(LIMIT).await;
    let all = call().taking("requests", LIMIT);
    let mut admitted = 0;
    for polls in 1.. {
        let client = world.client().leasing();
        let mut by = DecidedBy::Server;
        while by == DecidedBy::Server {
            by = client.check(&call()).await.unwrap().by;
            admitted += 1;
        }
        let is_done = dropped_after(polls, client.check(&all)).await;
        client.close().await;
        assert_eq!(world.used().await, admitted, "given up after {polls} polls");
        if is_done {
            break;
        }
    }
}
