//! Top-ups of prepaid budgets.

use futures::future::{join, join_all};
use rateguard_core::ids::{BudgetId, TopUpId, WorkspaceId};
use rateguard_core::invalid::Invalid;
use rateguard_core::limits::MONEY_NANOS_MAX;
use rateguard_core::money::Nanos;
use rateguard_core::rule::{Budget, BudgetPeriod, TopUpRefusal};
use rateguard_core::time::CalendarPeriod;
use rateguard_engine::listing::SequenceQuery;
use rateguard_engine::ports::{
    ConfigStore, NewTopUp, Resource, ResourceKind, StoreError, Stored, TOP_UPS_FULL, TopUp, TopUpOutcome,
};

use super::samples::budget;
use super::{ALL_CHANGES, LIMIT, Outcome, at, by, insert_all, opened, ws};
use crate::Backend;

/// Top-ups at once; every second one repeats the one before it.
const TOP_UPS_AT_ONCE: u64 = 30;
/// Changes of the amount that go on meanwhile.
const RAISES: usize = 10;

fn valid<T>(made: Result<T, Invalid>) -> T {
    made.expect("a sample is valid")
}

/// A prepaid budget that nothing was added to.
fn prepaid(id: &str, nanos: i64) -> Budget {
    Budget { amount: Nanos::from_stored(nanos), topped_up: Nanos::ZERO, ..budget(id) }
}

/// A top-up of `bud_1`; `number` makes its id.
fn top_up(number: u64, request_id: &str, nanos: i64) -> NewTopUp {
    NewTopUp {
        id: valid(TopUpId::parse("id", &format!("top_{number}"))),
        budget: valid(BudgetId::parse("budget_id", "bud_1")),
        request_id: request_id.to_owned(),
        amount: Nanos::from_stored(nanos),
        note: "paid by \"invoice\" – 7".to_owned(),
    }
}

fn done(outcome: TopUpOutcome) -> (TopUp, Stored<Resource>) {
    match outcome {
        TopUpOutcome::Done { top_up, budget } => (*top_up, *budget),
        TopUpOutcome::Refused(refusal) => panic!("refused: {refusal:?}"),
    }
}

fn topped_up(stored: &Stored<Resource>) -> i64 {
    match &stored.value {
        Resource::Budget(budget) => budget.topped_up.get(),
        other => panic!("{} is no budget", other.id()),
    }
}

async fn sum_of(store: &impl ConfigStore, owner: &WorkspaceId) -> Result<i64, StoreError> {
    let stored = store.get(owner, ResourceKind::Budget, "bud_1").await?;
    Ok(topped_up(&stored.expect("the budget is there")))
}

/// A top-up is a change of its budget and an entry of its ledger, whose pages have the newest first.
pub async fn a_top_up_raises_the_sum_and_is_listed_the_newest_first<B: Backend<Store: ConfigStore>>(
    backend: &B,
) -> Outcome {
    let store = opened(backend, &["ws_1"]).await?;
    let owner = ws("ws_1");
    insert_all(&store, "ws_1", vec![Resource::Budget(prepaid("bud_1", 100))]).await?;
    let seen = store.snapshot().await?.revision;
    let mut made = Vec::new();
    for (number, nanos) in [(1, 50), (2, -150), (3, 7)] {
        let what = top_up(number, &format!("request-{number}"), nanos);
        let outcome = store.top_up(&owner, what.clone(), LIMIT, &by(10 + number)).await?;
        let (entry, stored) = done(outcome);
        assert_eq!((entry.sequence, &entry.what, entry.created_at), (number, &what, at(10 + number)));
        assert_eq!((entry.actor_kind.as_str(), entry.actor_id.as_str()), ("server", ""));
        assert_eq!((stored.version, stored.updated_at), (number + 1, at(10 + number)));
        assert_eq!(store.get(&owner, ResourceKind::Budget, "bud_1").await?, Some(stored));
        made.insert(0, entry);
    }
    assert_eq!(sum_of(&store, &owner).await?, -93);
    assert_eq!(store.changes_after(seen, ALL_CHANGES).await?.len(), 3);
    assert_eq!(store.top_ups(&owner, "bud_1", &part(None, 2)).await?, made[..2]);
    assert_eq!(store.top_ups(&owner, "bud_1", &part(Some(2), 2)).await?, made[2..]);
    let oldest = SequenceQuery { oldest_first: true, ..part(Some(1), 1) };
    assert_eq!(store.top_ups(&owner, "bud_1", &oldest).await?, made[1..2]);
    Ok(())
}

/// The same request id gives the first entry again; with other content it is refused.
pub async fn a_repeated_top_up_is_made_once<B: Backend<Store: ConfigStore>>(backend: &B) -> Outcome {
    let store = opened(backend, &["ws_1"]).await?;
    let owner = ws("ws_1");
    insert_all(&store, "ws_1", vec![Resource::Budget(prepaid("bud_1", 100))]).await?;
    let first = done(store.top_up(&owner, top_up(1, "one", 5), LIMIT, &by(2)).await?);
    let seen = store.snapshot().await?.revision;
    let again = done(store.top_up(&owner, top_up(2, "one", 5), LIMIT, &by(3)).await?);
    assert_eq!(again, first);
    let other = NewTopUp { note: String::new(), ..top_up(3, "one", 5) };
    for what in [top_up(3, "one", 6), other] {
        let refused = store.top_up(&owner, what, LIMIT, &by(4)).await;
        assert_eq!(refused, Err(StoreError::AlreadyExists { field: "request_id" }));
    }
    assert_eq!(store.snapshot().await?.revision, seen);
    assert_eq!(sum_of(&store, &owner).await?, 5);
    Ok(())
}

/// What is refused changes neither the budget nor its ledger nor the feed.
pub async fn a_refused_top_up_leaves_no_trace<B: Backend<Store: ConfigStore>>(backend: &B) -> Outcome {
    let store = opened(backend, &["ws_1", "ws_2"]).await?;
    let owner = ws("ws_1");
    let monthly = BudgetPeriod::Calendar { period: CalendarPeriod::Month, zone: None };
    let calendar = Budget { period: monthly, ..prepaid("bud_2", 100) };
    insert_all(&store, "ws_1", vec![Resource::Budget(prepaid("bud_1", 100)), Resource::Budget(calendar)])
        .await?;
    let before = store.snapshot().await?;
    let of_calendar = NewTopUp { budget: valid(BudgetId::parse("id", "bud_2")), ..top_up(1, "a", 1) };
    let refusals = [
        (top_up(1, "a", -101), TopUpRefusal::OutOfBounds),
        (top_up(1, "a", MONEY_NANOS_MAX), TopUpRefusal::OutOfBounds),
        (of_calendar, TopUpRefusal::NotPrepaid),
    ];
    for (what, expected) in refusals {
        let outcome = store.top_up(&owner, what, LIMIT, &by(9)).await?;
        assert_eq!(outcome, TopUpOutcome::Refused(expected));
    }
    let elsewhere = store.top_up(&ws("ws_2"), top_up(1, "a", 1), LIMIT, &by(9)).await;
    assert_eq!(elsewhere, Err(StoreError::NotFound));
    let full = store.top_up(&owner, top_up(1, "a", 1), 0, &by(9)).await;
    assert_eq!(full, Err(StoreError::Full { what: TOP_UPS_FULL }));
    assert_eq!(store.snapshot().await?, before);
    assert_eq!(store.top_ups(&owner, "bud_1", &part(None, LIMIT)).await?, []);
    Ok(())
}

/// The ledger outlives its budget, and nobody else reads it.
pub async fn a_ledger_stays_when_its_budget_goes<B: Backend<Store: ConfigStore>>(backend: &B) -> Outcome {
    let store = opened(backend, &["ws_1", "ws_2"]).await?;
    let owner = ws("ws_1");
    insert_all(&store, "ws_1", vec![Resource::Budget(prepaid("bud_1", 0))]).await?;
    let (entry, _) = done(store.top_up(&owner, top_up(1, "one", 5), LIMIT, &by(2)).await?);
    store.remove(&owner, ResourceKind::Budget, "bud_1", None, &by(3)).await?;
    assert_eq!(store.top_ups(&owner, "bud_1", &part(None, LIMIT)).await?, [entry]);
    assert_eq!(store.top_ups(&ws("ws_2"), "bud_1", &part(None, LIMIT)).await?, []);
    Ok(())
}

/// Of many at once, among them repetitions, each request counts once, and other changes of the budget
/// lose none of them.
pub async fn of_many_top_ups_at_once_each_request_counts_once<B: Backend<Store: ConfigStore>>(
    backend: &B,
) -> Outcome {
    let store = opened(backend, &["ws_1"]).await?;
    let owner = ws("ws_1");
    insert_all(&store, "ws_1", vec![Resource::Budget(prepaid("bud_1", 0))]).await?;
    let top_ups = (0..TOP_UPS_AT_ONCE).map(|number| {
        let nanos = 1 << (number / 2);
        let what = top_up(number, &format!("request-{}", number / 2), nanos);
        let (store, owner) = (&store, &owner);
        async move { store.top_up(owner, what, LIMIT, &by(number)).await }
    });
    let (made, raised) = join(join_all(top_ups), raise(&store, &owner)).await;
    raised?;
    for outcome in made {
        done(outcome?);
    }
    // Each amount is a bit of its own: the sum tells which were counted, and how often.
    let requests = TOP_UPS_AT_ONCE / 2;
    assert_eq!(sum_of(&store, &owner).await?, (1 << requests) - 1);
    let ledger = store.top_ups(&owner, "bud_1", &part(None, LIMIT)).await?;
    let places: Vec<u64> = ledger.iter().map(|entry| entry.sequence).collect();
    assert_eq!(places, (1..=requests).rev().collect::<Vec<_>>());
    Ok(())
}

/// Changes the budget's amount some times, each from what it finds.
async fn raise(store: &impl ConfigStore, owner: &WorkspaceId) -> Outcome {
    let mut raises = 0;
    while raises < RAISES {
        let stored = store.get(owner, ResourceKind::Budget, "bud_1").await?.expect("the budget is there");
        let Resource::Budget(found) = stored.value else { panic!("it is a budget") };
        let raised = Budget { amount: Nanos::from_stored(found.amount.get() + 1), ..found };
        match store.replace(owner, Resource::Budget(raised), stored.version, &by(1)).await {
            Ok(_) => raises += 1,
            Err(StoreError::VersionMismatch) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn part(after: Option<u64>, limit: usize) -> SequenceQuery {
    SequenceQuery { oldest_first: false, after, limit }
}
