//! Replicas whose counters are in one Redis decide as one.

use rateguard_proto::v1;
use rateguard_test_servers::{Keeping, RedisServer};
use tokio::task::JoinSet;

use crate::clients::{Clients, eventually, record};
use crate::database::Database;
use crate::http::Http;
use crate::process::{Installation, Server};
use crate::sdk::{calls_at_once, leased_rule, leasing};

const CALLERS: usize = 64;
const CALLS_EACH: usize = 20;
/// Longer than a machine that does other things as well keeps an answer back: here no rule may have to decide by
/// its failure policy.
const DEADLINE_MS: u32 = 10_000;
/// Where it has to.
const SHORT_DEADLINE_MS: u32 = 200;

/// Two replicas over one database and one Redis.
struct Pair {
    redis: RedisServer,
    _database: Database,
    installation: Installation,
    _other: Installation,
    servers: [Server; 2],
}

impl Pair {
    async fn start() -> Self {
        let database = Database::shared().await;
        let redis = RedisServer::start(Keeping::Writes).await.unwrap();
        let installation =
            Installation::make_on(&database.url).await.with_counters_in(&redis.url(), DEADLINE_MS);
        let other = installation.replica(&database.url).with_counters_in(&redis.url(), DEADLINE_MS);
        let servers = [installation.serve().await, other.serve().await];
        Self { redis, _database: database, installation, _other: other, servers }
    }

    async fn manager(&self) -> Clients {
        self.installation.administer(&self.servers[0]).await
    }

    /// Clients of both with a key of everything that an app needs.
    async fn callers(&self) -> [Clients; 2] {
        let scopes = [v1::KeyScope::Quota, v1::KeyScope::Usage, v1::KeyScope::Read];
        let key = self.manager().await.make_key(&scopes).await;
        let [here, there] = &self.servers;
        let callers = [here.connect(&key).await, there.connect(&key).await];
        let peek = || v1::CheckQuotaRequest { mode: v1::CheckMode::Peek.into(), ..Default::default() };
        eventually("the other replica knows the key", async || callers[1].check(peek()).await.is_ok()).await;
        callers
    }

    async fn stop(self) {
        for server in self.servers {
            assert!(server.interrupt().await.success());
        }
    }
}

/// Waits until a replica counts by a limit.
async fn knows(client: &Clients, id: &str) {
    let knows = async || client.limits().await.iter().any(|limit| limit.id == id);
    eventually("the replica knows the limit", knows).await;
}

/// Calls again and again, and says how many calls were allowed.
async fn calls_allowed(client: Clients) -> usize {
    let mut allowed = 0;
    for _ in 0..CALLS_EACH {
        let answer = client.check(v1::CheckQuotaRequest::default()).await.unwrap();
        allowed += usize::from(answer.decision() == v1::Decision::Allowed);
    }
    allowed
}

async fn left(client: &Clients, rule: &v1::Rule) -> i64 {
    client.limits().await.into_iter().find(|limit| limit.id == rule.id).unwrap().remaining
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_64_callers_on_two_replicas_exactly_what_the_smaller_limit_allows_passes() {
    let pair = Pair::start().await;
    let manager = pair.manager().await;
    let wide = manager.make_rule("a thousand", 1_000).await;
    let narrow = manager.make_rule("five hundred", 500).await;
    let callers = pair.callers().await;
    for client in &callers {
        knows(client, &narrow.id).await;
    }

    let mut calling = JoinSet::new();
    for place in 0..CALLERS {
        calling.spawn(calls_allowed(callers[place % 2].clone()));
    }
    let admitted: usize = calling.join_all().await.into_iter().sum();
    assert_eq!(admitted, 500);
    for client in &callers {
        assert_eq!((left(client, &wide).await, left(client, &narrow).await), (500, 0));
    }
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_replica_has_decided_the_other_repeats_settles_and_releases() {
    let pair = Pair::start().await;
    let manager = pair.manager().await;
    let rule = manager.make_rule("three", 3).await;
    let budget = manager.make_budget("shared", 1_000).await;
    let [here, there] = pair.callers().await;
    knows(&there, &rule.id).await;
    eventually("the budget is open", async || {
        let peek = v1::CheckQuotaRequest {
            mode: v1::CheckMode::Peek.into(),
            subject: "shared".to_owned(),
            ..Default::default()
        };
        there.check(peek).await.unwrap().limits.iter().any(|limit| limit.id == budget.id)
    })
    .await;

    let question = v1::CheckQuotaRequest { request_id: "asked-twice".to_owned(), ..Default::default() };
    let first = here.check(question.clone()).await.unwrap();
    let again = there.check(question).await.unwrap();
    assert_eq!((first.replayed, again.replayed, again.decision()), (false, true, v1::Decision::Allowed));
    assert_eq!(left(&here, &rule).await, 2);

    let settled = here.reserve("shared", 400).await.reservation_id;
    let report = v1::UsageRecord { reservation_id: settled, ..record("settles", "shared", 300) };
    let result = there.report_one(report).await;
    assert_eq!((result.status(), result.flags), (v1::RecordStatus::Accepted, Vec::new()));
    let released = here.reserve("shared", 500).await.reservation_id;
    let request = v1::ReleaseReservationRequest { reservation_id: released };
    let state = there.quota().release_reservation(request).await.unwrap().into_inner().state();
    assert_eq!(state, v1::ReservationState::Released);
    eventually("both know what is spent", async || {
        let state = manager.budget_state(&budget.id).await;
        (state.spent_nanos, state.held_nanos) == (300, 0)
    })
    .await;
    assert_eq!(left(&there, &rule).await, 1);
    pair.stop().await;
}

#[tokio::test]
async fn a_start_waits_for_a_redis_that_does_not_answer_until_it_is_told_to_stop() {
    let database = Database::shared().await;
    let redis = RedisServer::start(Keeping::Writes).await.unwrap();
    let installation = Installation::make_on(&database.url).await.with_counters_in(&redis.url(), DEADLINE_MS);
    redis.pause().unwrap();
    let mut starting = installation.begin_to_serve();
    starting.logs("waiting for Redis").await;
    redis.resume().unwrap();
    starting.is_ready().await;
    starting.interrupt().await;
    assert!(starting.ended().await.success());

    redis.pause().unwrap();
    let mut starting = installation.begin_to_serve();
    starting.logs("waiting for Redis").await;
    starting.interrupt().await;
    starting.logs("stopped before it was ready").await;
    assert!(starting.ended().await.success(), "it is no failure to be told to stop");
    redis.resume().unwrap();
}

/// What `/metrics` tells of a series.
async fn figure(server: &Server, series: &str) -> u64 {
    let told = Http::new().read(&format!("{}/metrics", server.address)).await;
    let figure = told.lines().find_map(|line| line.strip_prefix(series)).expect(series);
    figure.trim().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_tell_of_decisions_without_the_counters_by_policy() {
    let database = Database::shared().await;
    let redis = RedisServer::start(Keeping::Writes).await.unwrap();
    let installation = Installation::make_on(&database.url).await;
    let installation = installation.with_counters_in(&redis.url(), SHORT_DEADLINE_MS);
    let server = installation.serve().await;
    let manager = installation.administer(&server).await;
    let client = server.connect(&manager.make_key(&[v1::KeyScope::Quota]).await).await;
    let check = async || client.check(v1::CheckQuotaRequest::default()).await;
    eventually("the key is known", async || check().await.is_ok_and(|answer| !answer.degraded)).await;
    redis.pause().unwrap();
    assert!(check().await.unwrap().degraded);
    let allowed = r#"rateguard_degraded_decisions_total{policy="open",decision="allowed"}"#;
    for series in [allowed, "rateguard_unheard_checks_total"] {
        assert!(figure(&server, series).await >= 1, "{series}");
    }
    redis.resume().unwrap();
    eventually("the check is undone", async || {
        figure(&server, r#"rateguard_unheard_checks_ended_total{outcome="undone"}"#).await >= 1
    })
    .await;
    assert!(server.interrupt().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_memory_is_noticed_and_budgets_are_counted_again_from_the_events() {
    let pair = Pair::start().await;
    let manager = pair.manager().await;
    let budget = manager.make_budget("kept", 1_000).await;
    let [here, there] = pair.callers().await;
    here.report_one(record("before", "kept", 700)).await;
    eventually("the spending counts", async || manager.budget_state(&budget.id).await.spent_nanos == 700)
        .await;

    pair.redis.ask(&["FLUSHALL"]).await.unwrap();
    // Until they are counted again budgets deny; then exactly what was left is there.
    assert_eq!(there.reserve("kept", 301).await.decision(), v1::Decision::Denied);
    eventually("the budget is counted again", async || {
        let reserved = there.reserve("kept", 300).await;
        reserved.decision() == v1::Decision::Allowed
    })
    .await;
    assert_eq!(here.reserve("kept", 1).await.decision(), v1::Decision::Denied);
    let state = manager.budget_state(&budget.id).await;
    assert_eq!((state.spent_nanos, state.held_nanos), (700, 300));
    let [here, there] = &pair.servers;
    let rebuilt = async |server| figure(server, "rateguard_lost_counters_rebuilt_total").await;
    eventually("the loss is told", async || rebuilt(here).await + rebuilt(there).await > 0).await;
    let found = async |server| figure(server, "rateguard_lost_counters_total").await;
    assert!(found(here).await + found(there).await > 0, "at once, not with the next look at the store");
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_lease_of_two_replicas_admit_no_more_than_a_limit_together() {
    const LIMIT: i64 = 10_000;
    let pair = Pair::start().await;
    let manager = pair.manager().await;
    let key = manager.make_key(&[v1::KeyScope::Quota]).await;
    let rule = leased_rule(&manager, LIMIT).await;
    let observers = pair.callers().await;
    for observer in &observers {
        knows(observer, &rule.id).await;
    }
    let clients = [leasing(&pair.servers[0], &key), leasing(&pair.servers[1], &key)];
    let (here, there) = tokio::join!(calls_at_once(&clients[0], LIMIT), calls_at_once(&clients[1], LIMIT));
    for client in &clients {
        client.close().await;
        eprintln!("a client of one of two replicas: {:?}", client.figures());
    }
    let answers = async || observers[0].quota().get_quota(v1::GetQuotaRequest::default()).await.is_ok();
    eventually("the counters answer in time", answers).await;
    let remaining = left(&observers[0], &rule).await;
    eprintln!("{here} and {there} admitted, {remaining} left");
    assert!(clients.iter().any(|client| client.figures().decided_here > 0));
    assert!(here + there + remaining <= LIMIT, "{here} and {there} and {remaining}");
    pair.stop().await;
}
