//! What is admitted when many ask at once.

use rateguard_proto::v1;
use tokio::task::JoinSet;

use crate::clients::{Clients, record};
use crate::process::Installation;

const CALLERS: usize = 64;
const CALLS_EACH: usize = 20;

/// Calls again and again, and says how many calls were allowed.
async fn calls_allowed(client: Clients) -> usize {
    let mut allowed = 0;
    for _ in 0..CALLS_EACH {
        let answer = client.check(v1::CheckQuotaRequest::default()).await.unwrap();
        allowed += usize::from(answer.decision() == v1::Decision::Allowed);
    }
    allowed
}

/// How one limit stands.
async fn limit(client: &Clients, rule: &v1::Rule) -> v1::LimitStatus {
    client.limits().await.into_iter().find(|limit| limit.id == rule.id).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_64_callers_exactly_what_the_smaller_limit_allows_passes_and_the_denied_burn_nothing() {
    let installation = Installation::make().await;
    let server = installation.serve().await;
    let first = installation.administer(&server).await;
    let wide = first.make_rule("a thousand", 1_000).await;
    first.make_rule("five hundred", 500).await;
    let key = first.make_key(&[v1::KeyScope::Quota]).await;

    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        callers.spawn(calls_allowed(server.connect(&key).await));
    }
    let admitted: usize = callers.join_all().await.into_iter().sum();
    assert_eq!(admitted, 500);

    let caller = server.connect(&key).await;
    assert_eq!(limit(&caller, &wide).await.remaining, 500);
    assert!(server.interrupt().await.success());
}

#[tokio::test]
async fn a_clean_stop_forgets_nothing() {
    let installation = Installation::make().await;
    let server = installation.serve().await;
    let first = installation.administer(&server).await;
    let three = first.make_rule("three", 3).await;
    let budget = first.make_budget("kept", 100).await;
    let key = first.make_key(&[v1::KeyScope::Quota, v1::KeyScope::Read, v1::KeyScope::Usage]).await;
    let caller = server.connect(&key).await;
    let held = caller.reserve("kept", 60).await;
    assert_eq!(held.decision(), v1::Decision::Allowed);
    assert!(server.interrupt().await.success());

    let server = installation.serve().await;
    let caller = server.connect(&key).await;
    let state = caller.budget_state(&budget.id).await;
    assert_eq!((state.spent_nanos, state.held_nanos), (0, 60));
    let report = v1::UsageRecord { reservation_id: held.reservation_id, ..record("settles-it", "kept", 40) };
    let result = caller.report_one(report).await;
    assert_eq!((result.status(), result.flags), (v1::RecordStatus::Accepted, Vec::new()));
    let state = caller.budget_state(&budget.id).await;
    assert_eq!((state.spent_nanos, state.held_nanos), (40, 0));
    assert_eq!(limit(&caller, &three).await.used, 1);
}
