//! A failover of a cluster loses what the follower had not been told. What that lets through beyond a limit is
//! measured, and is never more than was admitted meanwhile.

use std::time::Duration;

use rateguard_proto::v1;
use rateguard_test_servers::RedisCluster;
use tokio::time::{Instant, timeout};

use super::{Counters, Scene};
use crate::clients::{Clients, eventually, tell};
use crate::faults::rules::{Kind, Policy};

/// What the limit admits: in a window that no test sees the end of.
const LIMIT: i64 = 600;
const WINDOW_MS: i64 = 3_600_000;
/// Admitted before the follower stands still, and while it does.
const BEFORE: i64 = 200;
const LAGGING: i64 = 250;
/// Longest wait for the next leader, and for memory that is gone to be noticed.
const WITHIN: Duration = Duration::from_secs(30);
/// Questions until nothing may be left.
const ASKED_MAX: i64 = 4 * LIMIT;

const SUBJECT: &str = "failing-over";

fn rule() -> v1::Rule {
    v1::Rule {
        display_name: SUBJECT.to_owned(),
        r#match: Some(v1::CallMatch { subjects: vec![SUBJECT.to_owned()], ..Default::default() }),
        algorithm: Some(v1::rule::Algorithm::FixedWindow(v1::FixedWindow {
            limit: LIMIT,
            window_ms: WINDOW_MS,
        })),
        failure_policy: Some(v1::FailurePolicy {
            mode: v1::FailureMode::Closed.into(),
            ..Default::default()
        }),
        ..v1::Rule::default()
    }
}

/// Asks in turn until so many were allowed, and says how many were; ends early at a denial by the counters.
async fn admit(clients: &[Clients], at_most: i64) -> i64 {
    let mut admitted = 0;
    for (client, _) in clients.iter().cycle().zip(0..ASKED_MAX) {
        if admitted == at_most {
            break;
        }
        let request = v1::CheckQuotaRequest { subject: SUBJECT.to_owned(), ..Default::default() };
        let answer = client.check(request).await.unwrap();
        match answer.decision() {
            v1::Decision::Allowed => admitted += 1,
            _ if answer.degraded => tokio::task::yield_now().await,
            _ => break,
        }
    }
    admitted
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_admits_at_most_again_what_it_lost_and_lost_memory_admits_nothing() {
    let cluster = RedisCluster::start().await.unwrap();
    let watched = Kind { leased: false, policy: Policy::Closed, spread: false };
    let scene = Scene::set(Counters::Cluster(cluster), &[watched]).await;
    let Counters::Cluster(cluster) = &scene.counters else { panic!("it is one") };
    let manager = scene.replicas[0].installation.administer(scene.replicas[0].server()).await;
    let request = v1::CreateRuleRequest { rule: Some(rule()), request_id: String::new() };
    let made = manager.rules().create_rule(request).await.unwrap().into_inner().rule.unwrap();
    let clients: Vec<Clients> =
        scene.replicas.iter().filter_map(|replica| replica.client.borrow().clone()).collect();
    for client in &clients {
        eventually("the replica knows the rule", async || {
            let request = v1::GetQuotaRequest { subject: SUBJECT.to_owned(), ..Default::default() };
            let answer = client.quota().get_quota(request).await.unwrap().into_inner();
            answer.limits.iter().any(|limit| limit.id == made.id)
        })
        .await;
    }

    assert_eq!(admit(&clients, BEFORE).await, BEFORE);
    let memory = memory_of(cluster).await;
    let lag = cluster.freeze_followers_of(&memory).await.unwrap();
    let began = Instant::now();
    let lagging = admit(&clients, LAGGING).await;
    let lasted = began.elapsed();
    lag.fail_over().await.unwrap();
    timeout(WITHIN, answered(&clients[0])).await.expect("another node leads");
    let rest = admit(&clients, ASKED_MAX).await;

    let excess = (BEFORE + lagging + rest - LIMIT).max(0);
    tell(&format!(
        "failover with a lag of {lasted:?}: {lagging} of {LIMIT} admitted within it, {excess} admitted beyond the limit"
    ));
    assert!(excess <= lagging, "{excess} beyond the limit, and only {lagging} can have been lost");

    cluster.ask_masters(&["FLUSHALL"]).await.unwrap();
    assert_eq!(admit(&clients, ASKED_MAX).await, 0, "what is forgotten counts as used up");
    scene.stop().await;
}

/// Where the workspace's memory of itself is.
async fn memory_of(cluster: &RedisCluster) -> String {
    let keys = cluster.keys().await.unwrap();
    keys.into_iter().find(|key| key.ends_with("}:c")).expect("the workspace has counters")
}

/// Waits until the counters decide again.
async fn answered(client: &Clients) {
    let peek = || v1::CheckQuotaRequest {
        mode: v1::CheckMode::Peek.into(),
        subject: SUBJECT.to_owned(),
        ..Default::default()
    };
    while client.check(peek()).await.unwrap().degraded {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
