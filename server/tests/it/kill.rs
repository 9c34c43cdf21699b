//! The server killed while many report: what was accepted counts exactly once, everywhere.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rateguard_proto::v1;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::clients::{Clients, eventually, record};
use crate::process::Installation;

const REPORTERS: usize = 200;
/// Connections that the reporters share.
const CONNECTIONS: usize = 8;
/// Records that must have been accepted before the kill; each round adds some.
const ACCEPTED_BEFORE_KILL: usize = 2_000;
/// The cost of every record.
const COST_NANOS: i64 = 7;
/// Calls that the budget of the reporters has room for.
const ROOM_CALLS: i64 = 1_000_000;
/// Calls that the budget with open reservations has room for, and how many are open.
const HELD_ROOM_CALLS: i64 = 100;
const HELD_CALLS: i64 = 10;

/// Rounds to run: one in `make test`, more in `make soak`.
fn rounds() -> usize {
    std::env::var("RATEGUARD_SOAK_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_accepted_before_a_kill_counts_exactly_once() {
    for round in 0..rounds() {
        one_round(round).await;
    }
}

async fn one_round(round: usize) {
    let installation = Installation::make().await;
    let server = installation.serve().await;
    let first = Clients::connect(&server.address, &installation.first_key).await;
    let reported = first.make_budget("reported", ROOM_CALLS * COST_NANOS).await;
    let held = first.make_budget("held", HELD_ROOM_CALLS * COST_NANOS).await;
    let key = first
        .make_key(&[v1::KeyScope::Quota, v1::KeyScope::Usage, v1::KeyScope::Read, v1::KeyScope::Manage])
        .await;
    let lost = reserve_some(&Clients::connect(&server.address, &key).await).await;

    let accepted = report_until_killed(server, &key, round).await;
    let server = installation.serve().await;
    let client = Clients::connect(&server.address, &key).await;

    let listed = each_accepted_id_is_listed_once(&client, &accepted).await;
    the_three_sums_are_equal(&client, &reported.id, listed).await;
    the_unreserved_budget_has_exactly_what_is_left(&client, &reported.id, listed).await;
    the_reserved_money_stays_held(&client, &held.id, &lost).await;
    a_resent_id_is_a_duplicate(&client, &accepted, &reported.id).await;
    assert!(server.interrupt().await.success());
}

async fn reserve_some(client: &Clients) -> Vec<String> {
    let mut open = Vec::new();
    for _ in 0..HELD_CALLS {
        let answer = client.reserve("held", COST_NANOS).await;
        assert_eq!(answer.decision(), v1::Decision::Allowed);
        open.push(answer.reservation_id);
    }
    open
}

/// Two hundred reporters, some of which stop by themselves, until the server is killed among them.
async fn report_until_killed(server: crate::process::Server, key: &str, round: usize) -> BTreeSet<String> {
    let count = Arc::new(AtomicUsize::new(0));
    let stop = CancellationToken::new();
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(Clients::connect(&server.address, key).await);
    }
    let mut reporters = JoinSet::new();
    for reporter in 0..REPORTERS {
        let client = connections[reporter % CONNECTIONS].clone();
        reporters.spawn(report(client, reporter, count.clone(), stop.clone()));
    }
    let enough = ACCEPTED_BEFORE_KILL + 137 * round;
    eventually("enough records were accepted", || async { count.load(Ordering::Relaxed) >= enough }).await;
    server.kill().await;
    stop.cancel();
    reporters.join_all().await.into_iter().flatten().collect()
}

async fn report(
    client: Clients,
    reporter: usize,
    count: Arc<AtomicUsize>,
    stop: CancellationToken,
) -> Vec<String> {
    let mut accepted = Vec::new();
    for batch in 0.. {
        // Every third reporter goes away on its own, in the middle of everything.
        let leaves = reporter.is_multiple_of(3) && batch > reporter % 17;
        if leaves || stop.is_cancelled() {
            break;
        }
        let ids: Vec<String> = (0..1 + reporter % 4).map(|n| format!("{reporter}-{batch}-{n}")).collect();
        let records = ids.iter().map(|id| record(id, "reported", COST_NANOS)).collect();
        let answer = client.usage().report_usage(v1::ReportUsageRequest { records }).await;
        let Ok(answer) = answer else { break };
        for result in answer.into_inner().results {
            assert_eq!(result.status(), v1::RecordStatus::Accepted, "{}", result.message);
            accepted.push(result.event_id);
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
    accepted
}

async fn each_accepted_id_is_listed_once(client: &Clients, accepted: &BTreeSet<String>) -> i64 {
    let mut times: HashMap<String, usize> = HashMap::new();
    for event in client.all_events().await {
        assert_eq!(event.cost.unwrap().nanos, COST_NANOS);
        *times.entry(event.record.unwrap().event_id).or_default() += 1;
    }
    assert!(times.values().all(|times| *times == 1), "an id is listed twice");
    let missing = accepted.iter().filter(|id| !times.contains_key(*id)).count();
    assert_eq!(missing, 0, "{missing} of {} accepted records are not listed", accepted.len());
    i64::try_from(times.len()).unwrap()
}

async fn the_three_sums_are_equal(client: &Clients, budget: &str, listed: i64) {
    assert_eq!(
        client.budget_state(budget).await.spent_nanos,
        listed * COST_NANOS,
        "events and budget differ"
    );
    eventually("the rollups equal the events", || async {
        client.rolled_up_nanos().await == listed * COST_NANOS
    })
    .await;
}

async fn the_unreserved_budget_has_exactly_what_is_left(client: &Clients, budget: &str, listed: i64) {
    let left = usize::try_from(ROOM_CALLS - listed).unwrap();
    // One call that takes all but five, then five, then none.
    let most = i64::try_from(left - 5).unwrap() * COST_NANOS;
    assert_eq!(client.reserve("reported", most).await.decision(), v1::Decision::Allowed);
    assert_eq!(client.reserve_until_denied("reported", COST_NANOS, 20).await, 5);
    assert_eq!(client.budget_state(budget).await.remaining_nanos, 0);
}

/// The ceiling rule: what was held stays held, as one amount of at most three times as much and
/// one percent of the budget; a report on a lost reservation draws it down.
async fn the_reserved_money_stays_held(client: &Clients, budget: &str, lost: &[String]) {
    let state = client.budget_state(budget).await;
    let truly = HELD_CALLS * COST_NANOS;
    let most = truly + (2 * truly).max(HELD_ROOM_CALLS * COST_NANOS / 100);
    assert_eq!(state.spent_nanos, 0);
    assert!((truly..=most).contains(&state.held_nanos), "{} of {truly} to {most}", state.held_nanos);

    let record = v1::UsageRecord { reservation_id: lost[0].clone(), ..record("late", "held", COST_NANOS) };
    let request = v1::ReportUsageRequest { records: vec![record] };
    let result = client.usage().report_usage(request).await.unwrap().into_inner().results.remove(0);
    assert_eq!(result.status(), v1::RecordStatus::Accepted);
    assert!(result.flags().any(|flag| flag == v1::UsageFlag::ReservationUnknown));
    let after = client.budget_state(budget).await;
    assert_eq!((after.spent_nanos, after.held_nanos), (COST_NANOS, state.held_nanos - COST_NANOS));
}

async fn a_resent_id_is_a_duplicate(client: &Clients, accepted: &BTreeSet<String>, budget: &str) {
    let before = client.budget_state(budget).await.spent_nanos;
    let half: Vec<&String> = accepted.iter().step_by(2).collect();
    for ids in half.chunks(500) {
        let records = ids.iter().map(|id| record(id, "reported", COST_NANOS)).collect();
        let answer = client.usage().report_usage(v1::ReportUsageRequest { records }).await.unwrap();
        for result in answer.into_inner().results {
            assert_eq!(result.status(), v1::RecordStatus::Duplicate, "{}", result.event_id);
        }
    }
    assert_eq!(client.budget_state(budget).await.spent_nanos, before);
}
