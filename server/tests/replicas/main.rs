//! Two engines over one installation's configuration, event log and rollups, each with counters of its
//! own: what one of them accepts counts on both, once.

#![cfg(test)]

mod hangs;
mod pair;

use std::time::Duration;

use rateguard_core::decision::Mode;
use rateguard_core::usage::EventFlags;
use rateguard_engine::report::RecordOutcome;

use crate::pair::{Pair, budget, check, record};

/// Calls that each replica reports at once.
const CALLS: usize = 150;
/// What one of them costs.
const NANOS: i64 = 7;
/// Longest wait for something that is bound to happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// Reports a call of an id; what came of it.
async fn report(pair: &Pair, at: usize, id: &str) -> RecordOutcome {
    let replica = &pair.replicas[at];
    replica.engine.report(&replica.caller, vec![record(id, NANOS)]).await.unwrap().remove(0)
}

/// Reports many calls from both at once, every fifth of which both know, and says how many different
/// ones there were.
async fn report_many(pair: &Pair) -> i64 {
    let id = |at: usize, number: usize| match number % 5 {
        0 => format!("both-{number}"),
        _ => format!("{at}-{number}"),
    };
    let calls = (0..2).flat_map(|at| (0..CALLS).map(move |number| (at, number)));
    let ids: std::collections::HashSet<String> = calls.clone().map(|(at, number)| id(at, number)).collect();
    let reports = calls.map(|(at, number)| async move { report(pair, at, &id(at, number)).await });
    let outcomes = futures::future::join_all(reports).await;
    let accepted =
        outcomes.iter().filter(|outcome| matches!(outcome, RecordOutcome::Accepted { .. })).count();
    assert_eq!(accepted, ids.len(), "each id is accepted once");
    i64::try_from(accepted).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_either_replica_accepts_is_spent_on_both_and_summed_once() {
    let pair = Pair::start().await;
    let before = report_many(&pair).await * NANOS;
    let made = pair.create(0, budget(1_000_000)).await;
    pair.both_have_spent(&made, before).await;

    report(&pair, 1, "after").await;
    let spent = before + NANOS;
    pair.both_have_spent(&made, spent).await;
    assert_eq!(pair.summed().await, i128::from(spent));
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_that_is_made_while_both_report_has_seen_every_record_on_both() {
    let pair = Pair::start().await;
    let (made, accepted) = tokio::join!(pair.create(1, budget(1_000_000)), report_many(&pair));
    pair.both_have_spent(&made, accepted * NANOS).await;
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_that_one_replica_exhausts_denies_on_the_other() {
    let pair = Pair::start().await;
    pair.create(0, budget(NANOS)).await;
    report(&pair, 1, "last").await;
    let denied = async {
        while pair.check(0, &check(Mode::Peek, 1)).await.allowed {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, denied).await.expect("what is spent there counts here");
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reservation_of_one_replica_that_is_reported_on_the_other_is_settled_once() {
    let pair = Pair::start().await;
    let made = pair.create(0, budget(1_000_000)).await;
    let reserved = pair.check(0, &check(Mode::Reserve, 500)).await;
    let (id, _) = reserved.reservation.expect("there is room");
    assert_eq!(pair.held(0, &made).await, 500);

    let there = &pair.replicas[1];
    let settling = rateguard_engine::report::UsageRecord { reservation: Some(id), ..record("there", NANOS) };
    let outcome = there.engine.report(&there.caller, vec![settling.clone()]).await.unwrap().remove(0);
    let RecordOutcome::Accepted { flags, .. } = outcome else { panic!("{outcome:?}") };
    assert!(flags.contains(EventFlags::RESERVATION_UNKNOWN), "{flags:?}");
    pair.both_have_spent(&made, NANOS).await;
    assert_eq!((pair.held(0, &made).await, pair.held(1, &made).await), (0, 0));

    // The same attempt again, where the reservation is: it was settled there by the event from here.
    let here = &pair.replicas[0];
    let again = rateguard_engine::report::UsageRecord { event_id: record("again", 1).event_id, ..settling };
    let outcome = here.engine.report(&here.caller, vec![again]).await.unwrap().remove(0);
    assert!(matches!(outcome, RecordOutcome::Rejected { settled_by: Some(_), .. }), "{outcome:?}");
    pair.both_have_spent(&made, NANOS).await;
    pair.stop().await;
}
