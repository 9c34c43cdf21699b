//! Tests of how budgets begin: what they find spent, and that nothing falls between.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rateguard_core::counter::Position;
use rateguard_core::ids::{BudgetId, DisplayName};
use rateguard_core::matching::{Match, Scope};
use rateguard_core::money::Nanos;
use rateguard_core::rule::Enforcement;
use rateguard_core::time::CalendarPeriod;

use super::*;
use crate::audit::{Actor, Deed, Origin};
use crate::manage::Desired;
use crate::ports::{ConfigStore as _, ResourceKind};
use crate::report::RecordOutcome;
use crate::testing::{World, deed, record, start};

fn budget(period: BudgetPeriod) -> Budget {
    Budget {
        id: BudgetId::from_random([3; 16]),
        name: DisplayName::parse("name", "money").unwrap(),
        matches: Match::default(),
        scope: Scope::default(),
        amount: Nanos::from_stored(1_000_000),
        topped_up: Nanos::ZERO,
        period,
        enforcement: Enforcement::Enforced,
        active: true,
        opened_after: None,
    }
}

fn monthly() -> Budget {
    budget(BudgetPeriod::Calendar { period: CalendarPeriod::Month, zone: None })
}

async fn report(world: &World, id: &str, nanos: i64) {
    let outcome = world.engine.report(&world.caller, vec![record(id, nanos)]).await.unwrap().remove(0);
    assert!(matches!(outcome, RecordOutcome::Accepted { .. }), "{outcome:?}");
}

async fn create(world: &World, budget: Budget) -> Result<Option<Position>, EngineError> {
    let stored = world.engine.create(&world.caller.clone().into(), Resource::Budget(budget)).await?;
    let Resource::Budget(budget) = stored.value else { panic!("not a budget: {stored:?}") };
    Ok(budget.opened_after)
}

#[tokio::test]
async fn a_new_budget_begins_with_what_its_period_has_seen() {
    let world = World::start().await;
    report(&world, "first", 30).await;
    report(&world, "second", 12).await;
    assert_eq!(create(&world, monthly()).await, Ok(Some(Position(2))));
    assert_eq!(world.counters.spent(), 42);
    report(&world, "third", 5).await;
    assert_eq!(world.counters.spent(), 47);
}

#[tokio::test]
async fn whoever_makes_a_budget_makes_it_and_the_server_opens_it() {
    let world = World::start().await;
    let origin = Origin { service: "Budgets", method: "Create", ..Origin::default() };
    let identity = Identity::from(world.caller.clone()).coming_from(origin.clone());
    world.engine.create(&identity, Resource::Budget(monthly())).await.unwrap();
    let made = Deed { actor: Actor::Key(world.caller.key.id.clone()), origin, at: start() };
    assert_eq!(*world.config.deeds.lock(), [made, Deed::of_server(OPENING, start())]);
}

#[tokio::test]
async fn what_was_spent_before_the_period_does_not_count() {
    let world = World::start().await;
    let last_month = start().plus(-34 * 24 * 60 * 60 * 1_000);
    let old = crate::report::UsageRecord { occurred_at: Some(last_month), ..record("old", 30) };
    world.engine.report(&world.caller, vec![old]).await.unwrap();
    report(&world, "new", 12).await;
    create(&world, monthly()).await.unwrap();
    assert_eq!(world.counters.spent(), 12);
}

#[tokio::test]
async fn a_prepaid_budget_begins_with_nothing() {
    let world = World::start().await;
    report(&world, "before", 30).await;
    assert_eq!(create(&world, budget(BudgetPeriod::Prepaid)).await, Ok(Some(Position(1))));
    report(&world, "after", 12).await;
    assert_eq!(world.counters.spent(), 12);
}

#[tokio::test]
async fn records_that_come_while_a_budget_opens_count_once() {
    let world = World::start().await;
    report(&world, "before", 1).await;
    let reports = async {
        for number in 0..200 {
            report(&world, &format!("meanwhile-{number}"), 1).await;
            tokio::task::yield_now().await;
        }
    };
    let (opened, ()) = tokio::join!(create(&world, monthly()), reports);
    assert!(opened.unwrap().is_some());
    assert_eq!(world.counters.spent(), 201);
}

#[tokio::test]
async fn a_budget_whose_opening_failed_is_not_in_force_and_opens_later() {
    let world = World::start().await;
    report(&world, "before", 30).await;
    world.config.frozen.store(true, Ordering::SeqCst);
    assert_eq!(create(&world, monthly()).await.unwrap(), None, "it is stored all the same");
    report(&world, "between", 12).await;
    world.config.frozen.store(false, Ordering::SeqCst);
    world.engine.directory().refresh(start()).await.unwrap();
    world.engine.open_budgets_left().await.unwrap();
    report(&world, "after", 5).await;
    assert_eq!(world.counters.spent(), 47);
}

#[tokio::test]
async fn a_budget_of_a_configuration_that_cannot_open_is_stored_with_the_rest_and_opens_later() {
    let world = World::start().await;
    let who = Identity::from(world.caller.clone());
    report(&world, "before", 30).await;
    let desired = Desired { resources: vec![Resource::Budget(monthly())], prune: false };
    let state = world.engine.workspace_state(&who).await.unwrap();
    let applied = world.engine.compare(&who, &state, &desired).unwrap();
    world.config.frozen.store(true, Ordering::SeqCst);
    world.engine.apply(&who, &applied, state.revision).await.unwrap();
    let stored = world.engine.get(&who, ResourceKind::Budget, monthly().id.as_str()).await.unwrap();
    assert_eq!(stored.value, Resource::Budget(monthly()), "it is stored, and not open");
    world.config.frozen.store(false, Ordering::SeqCst);
    world.engine.open_budgets_left().await.unwrap();
    report(&world, "after", 5).await;
    assert_eq!(world.counters.spent(), 35);
}

#[tokio::test]
async fn a_prepaid_budget_misses_nothing_while_the_feed_of_changes_is_away() {
    let world = World::start().await;
    world.config.feed_away.store(true, Ordering::SeqCst);
    assert!(create(&world, budget(BudgetPeriod::Prepaid)).await.unwrap().is_some());
    report(&world, "after", 5).await;
    assert_eq!(world.counters.spent(), 5);
}

#[tokio::test]
async fn an_opening_beside_others_happens_once() {
    let world = World::start().await;
    report(&world, "before", 30).await;
    let left = async {
        for _ in 0..20 {
            world.engine.directory().refresh(start()).await.unwrap();
            world.engine.open_budgets_left().await.unwrap();
        }
    };
    let (opened, ()) = tokio::join!(create(&world, monthly()), left);
    assert!(opened.unwrap().is_some());
    assert_eq!(world.counters.spent(), 30);
}

#[tokio::test]
async fn a_budget_that_matches_other_calls_now_begins_with_what_these_have_cost() {
    let world = World::start().await;
    let of = |method: &str| Match { methods: vec![method.to_owned()], ..Match::default() };
    let posts = Budget { matches: of("POST"), ..monthly() };
    create(&world, posts.clone()).await.unwrap();
    let record = crate::report::UsageRecord { method: "POST".to_owned(), ..record("post", 30) };
    world.engine.report(&world.caller, vec![record]).await.unwrap();
    assert_eq!(world.counters.spent(), 30);
    let gets = Budget { matches: of("GET"), ..posts };
    world.engine.update(&world.caller.clone().into(), Resource::Budget(gets), 2).await.unwrap();
    assert_eq!(world.counters.spent(), 0);
}

#[tokio::test]
async fn a_sum_of_a_period_that_is_over_opens_nothing() {
    let world = World::start().await;
    report(&world, "before", 30).await;
    let stored = world.config.insert(&world.caller.workspace, Resource::Budget(monthly()), 1, &deed()).await;
    let opening = world.engine.opening(stored.unwrap()).await.unwrap();
    world.clock.advance_ms(31 * 24 * 60 * 60 * 1_000);
    let opened = world.engine.recorder.between(move |settled| opening.finish(settled)).await.unwrap();
    assert_eq!(opened, Ok(None));
    assert_eq!(world.counters.spent(), 0);
}

/// Waits until a process has taken in what another has changed, and everything that is in the log.
async fn follows(world: &World, spent: i64) {
    let caught_up = async {
        while world.counters.spent() != spent {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(5), caught_up).await;
    waited.unwrap_or_else(|_| panic!("{} spent, not {spent}", world.counters.spent()));
}

#[tokio::test(start_paused = true)]
async fn a_budget_that_another_process_opens_begins_here_with_the_same() {
    for period in [monthly().period, BudgetPeriod::Prepaid] {
        let [here, there] = World::pair().await;
        report(&here, "before", 30).await;
        let before = if period == BudgetPeriod::Prepaid { 0 } else { 30 };
        create(&there, budget(period)).await.unwrap();
        // The one that has not heard of the budget reports on.
        report(&here, "meanwhile", 5).await;
        report(&there, "after", 7).await;
        follows(&there, before + 12).await;
        follows(&here, before + 12).await;
        report(&here, "later", 1).await;
        follows(&there, before + 13).await;
        follows(&here, before + 13).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_budget_opens_anew_everywhere_when_it_matches_other_calls() {
    let [here, there] = World::pair().await;
    report(&here, "any", 30).await;
    create(&there, monthly()).await.unwrap();
    follows(&here, 30).await;
    let posts = Match { methods: vec!["POST".to_owned()], ..Match::default() };
    let changed = Resource::Budget(Budget { matches: posts, ..monthly() });
    there.engine.update(&there.caller.clone().into(), changed, 2).await.unwrap();
    follows(&there, 0).await;
    follows(&here, 0).await;
}

#[tokio::test]
async fn a_start_takes_in_what_the_budgets_of_others_have_seen() {
    let log = Arc::new(crate::testing::FakeLog::default());
    let config = Arc::new(crate::testing::FakeConfig::default());
    let first = World::on(log.clone(), config.clone(), true).await;
    report(&first, "before", 30).await;
    create(&first, monthly()).await.unwrap();
    // Its own checkpoint has the record; what the budget saw of it is in no file of its own.
    let second = World::on(log, config, true).await;
    assert_eq!(second.counters.spent(), 30);
}

#[tokio::test]
async fn budgets_that_cannot_be_opened_are_opened_once_the_store_is_back() {
    let world = World::start().await;
    report(&world, "before", 30).await;
    world.config.frozen.store(true, Ordering::SeqCst);
    assert_eq!(create(&world, monthly()).await, Ok(None));
    world.config.frozen.store(false, Ordering::SeqCst);
    world.engine.open_budgets_left().await.unwrap();
    assert_eq!(world.engine.directory().closed_budgets().await, []);
    assert_eq!(world.counters.spent(), 30);
}

#[tokio::test(start_paused = true)]
async fn a_prepaid_budget_that_is_switched_on_again_goes_on_everywhere() {
    let [here, there] = World::pair().await;
    let prepaid = budget(BudgetPeriod::Prepaid);
    create(&there, prepaid.clone()).await.unwrap();
    follows(&here, 0).await;
    report(&here, "on", 30).await;
    follows(&there, 30).await;
    let identity = there.caller.clone().into();
    let switched = |active| Resource::Budget(Budget { active, ..prepaid.clone() });
    there.engine.update(&identity, switched(false), 2).await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    report(&here, "off", 5).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    there.engine.update(&identity, switched(true), 3).await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    report(&here, "on-again", 7).await;
    follows(&there, 37).await;
    follows(&here, 37).await;
}
