//! What becomes of calls when the server is away, silent, or has forgotten.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rateguard_core::counter::{Limit, Position, RetryAfter};
use rateguard_core::decision::Mode;
use rateguard_core::ids::WorkspaceId;
use rateguard_engine::ports::{BudgetOpening, CheckCommand, CheckOutcome, Decided, StoreError};
use rateguard_store_redis::{RedisCounterStore, RedisCounterStoreConfig, Topology};
use rateguard_store_suite::counter_store::world::{
    Ask, Caller, Report, a_minute, any_minute, ask, at, bucket, hourly, prepaid, request,
};
use rateguard_test_servers::{Flow, Keeping, Proxy, RedisCluster, RedisSentinels, RedisServer};
use tokio::time::{Instant, timeout};

use crate::backend::{config, new_prefix};

/// Short, for tests in which nobody answers.
const SHORT: Duration = Duration::from_millis(100);
/// Until a store that is well again has to answer.
const AGAIN_WITHIN: Duration = Duration::from_secs(30);

fn store(config: RedisCounterStoreConfig) -> Arc<RedisCounterStore> {
    Arc::new(RedisCounterStore::new(config).expect("the addresses are well formed"))
}

fn alone(url: String) -> RedisCounterStoreConfig {
    config(Topology::Single { url }, &new_prefix())
}

/// A caller in a workspace of a store.
fn caller(store: Arc<RedisCounterStore>) -> Caller {
    Caller::new(store, 1)
}

/// The workspaces whose budgets have to be counted again.
async fn lost(caller: &Caller) -> Vec<WorkspaceId> {
    let lost = caller.store.lost().await.expect("the store says what is lost");
    lost.into_iter().map(|lost| lost.workspace).collect()
}

/// Says that the budgets are counted again.
async fn rebuilt(caller: &Caller) {
    for lost in caller.store.lost().await.expect("the store says what is lost") {
        caller.store.rebuilt(&lost).await.expect("a store that is well is told");
    }
}

fn with_id(caller: &Caller, limited: &Ask) -> CheckCommand {
    let command = caller.command(Mode::Consume, std::slice::from_ref(limited), at(0));
    CheckCommand { request: Some(request(1, 1)), ..command }
}

/// Asks until the store answers.
async fn decided_again(caller: &Caller, command: &CheckCommand) -> Decided {
    let again = async {
        loop {
            match caller.store.check(command).await {
                Ok(CheckOutcome::Decided(decided)) => return decided,
                Ok(other) => panic!("{other:?}"),
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    timeout(AGAIN_WITHIN, again).await.expect("a store that is well again answers")
}

#[tokio::test]
async fn a_server_that_is_not_there_has_surely_done_nothing() {
    let server = RedisServer::start(Keeping::Nothing).await.unwrap();
    let url = server.url();
    drop(server);
    let caller = caller(store(RedisCounterStoreConfig { deadline: SHORT, ..alone(url) }));
    let refused = caller.store.check(&with_id(&caller, &ask(1, a_minute(5), 1))).await;
    assert!(matches!(refused, Err(StoreError::Unavailable { .. })), "{refused:?}");
}

#[tokio::test]
async fn an_answer_that_was_lost_is_unknown_and_its_repetition_consumes_once() {
    let server = RedisServer::start(Keeping::Nothing).await.unwrap();
    let proxy = Proxy::to(SocketAddr::from((Ipv4Addr::LOCALHOST, server.port()))).await.unwrap();
    let through =
        RedisCounterStoreConfig { deadline: SHORT, ..alone(format!("redis://{}", proxy.address())) };
    let caller = caller(store(through));
    let limited = ask(1, a_minute(5), 2);
    decided_again(&caller, &caller.command(Mode::Peek, std::slice::from_ref(&limited), at(0))).await;

    proxy.set(Flow::HoldAnswers);
    let begun = Instant::now();
    let unknown = caller.store.check(&with_id(&caller, &limited)).await;
    assert!(matches!(unknown, Err(StoreError::OutcomeUnknown { .. })), "{unknown:?}");
    assert!(begun.elapsed() >= SHORT);
    proxy.set(Flow::Pass);
    let again = decided_again(&caller, &with_id(&caller, &limited)).await;
    assert!(again.replayed && again.verdict.allowed, "the lost answer was a yes");
    let read = decided_again(&caller, &caller.command(Mode::Peek, &[limited], at(1))).await;
    assert_eq!(read.verdict.readings.first().map(|reading| reading.used), Some(2));
}

#[tokio::test]
async fn a_server_that_is_silent_for_long_is_given_up_for_another_connection() {
    let server = RedisServer::start(Keeping::Nothing).await.unwrap();
    let proxy = Proxy::to(SocketAddr::from((Ipv4Addr::LOCALHOST, server.port()))).await.unwrap();
    let deadline = Duration::from_millis(20);
    let through = RedisCounterStoreConfig { deadline, ..alone(format!("redis://{}", proxy.address())) };
    let caller = caller(store(through));
    let limited = ask(1, a_minute(1_000), 1);
    decided_again(&caller, &with_id(&caller, &limited)).await;
    proxy.set(Flow::BlackHole);
    for _ in 0..20 {
        assert!(caller.store.check(&with_id(&caller, &limited)).await.is_err());
    }
    proxy.cut();
    proxy.set(Flow::Pass);
    assert!(decided_again(&caller, &with_id(&caller, &limited)).await.replayed);
}

#[tokio::test]
async fn what_was_decided_stands_after_the_server_was_killed() {
    let server = RedisServer::start(Keeping::Writes).await.unwrap();
    let caller = caller(store(alone(server.url())));
    let limited = ask(1, a_minute(3), 2);
    assert!(!caller.decide(with_id(&caller, &limited)).await.replayed);
    server.kill().await.unwrap();
    assert!(caller.store.check(&with_id(&caller, &limited)).await.is_err());
    server.start_again().await.unwrap();
    assert!(decided_again(&caller, &with_id(&caller, &limited)).await.replayed);
    assert!(!caller.consume(&[limited], at(1)).await, "two of three are taken");
}

#[tokio::test]
async fn functions_that_the_server_forgot_are_taught_again() {
    let server = RedisServer::start(Keeping::Nothing).await.unwrap();
    let caller = caller(store(alone(server.url())));
    let limited = ask(1, a_minute(10), 1);
    for second in 0..3 {
        assert!(caller.consume(std::slice::from_ref(&limited), at(second)).await);
        server.ask(&["FUNCTION", "FLUSH"]).await.unwrap();
    }
    assert_eq!(caller.used(&limited, at(3)).await, 3);
}

#[tokio::test]
async fn one_decision_is_one_call() {
    let server = RedisServer::start(Keeping::Nothing).await.unwrap();
    let caller = caller(store(alone(server.url())));
    let asks = [ask(1, bucket(100, 1), 1), ask(2, a_minute(100), 1), ask(3, hourly(100), 0)];
    assert!(caller.consume(&asks, at(0)).await);
    server.ask(&["CONFIG", "RESETSTAT"]).await.unwrap();
    for call in 1..=50 {
        assert!(caller.consume(&asks, at(call)).await);
    }
    let stats = server.ask(&["INFO", "commandstats"]).await.unwrap();
    let calls = |command: &str| {
        stats.lines().find(|line| line.starts_with(&format!("cmdstat_{command}:"))).map(str::to_owned)
    };
    assert!(calls("fcall").unwrap().contains("calls=50,"), "{stats}");
    assert_eq!((calls("eval"), calls("function|load"), calls("sadd")), (None, None, None), "{stats}");
}

#[tokio::test]
async fn every_key_expires() {
    let server = RedisServer::start(Keeping::Nothing).await.unwrap();
    let store = store(alone(server.url()));
    let caller = caller(store.clone());
    let asks = [ask(1, any_minute(100), 1), ask(2, prepaid(10_000), 100)];
    let mut open = Vec::new();
    for call in 0..4 {
        open.extend(caller.reserve_with_floor(&asks, 5, at(call)).await);
    }
    assert!(caller.decide(with_id(&caller, &asks[0])).await.verdict.allowed);
    caller.report(Report::settling(&open[0], 40), at(10)).await;
    caller.release(&open[1].id, at(11)).await;
    caller.expire(at(3_600_000)).await;
    caller.checkpoint().await;
    caller.sweep_without_budgets(at(3_600_001)).await;
    let keys = server.ask(&["KEYS", "*"]).await.unwrap();
    let kinds: HashSet<&str> = keys.lines().filter_map(|key| key.rsplit(':').next()).collect();
    for kind in ["c", "r", "b", "f", "o", "workspaces", "position"] {
        assert!(kinds.contains(kind), "{kind} is not among {keys}");
    }
    for key in keys.lines() {
        let left = server.ask(&["PTTL", key]).await.unwrap();
        assert!(left.parse::<i64>().unwrap() > 0, "{key} is kept for {left}");
    }
}

#[tokio::test]
async fn a_cluster_answers_again_after_one_of_its_servers_was_killed() {
    let cluster = RedisCluster::start().await.unwrap();
    let config = config(Topology::Cluster { urls: cluster.urls() }, &new_prefix());
    let key_prefix = config.key_prefix.clone();
    let caller = caller(store(RedisCounterStoreConfig { deadline: Duration::from_secs(1), ..config }));
    let limited = ask(1, a_minute(10), 4);
    assert!(!decided_again(&caller, &with_id(&caller, &limited)).await.replayed);
    cluster.kill_master_of(&format!("{key_prefix}:{{{}}}:c", caller.workspace)).await.unwrap();
    assert!(
        decided_again(&caller, &with_id(&caller, &limited)).await.replayed,
        "its replica has the decision"
    );
}

/// What was open and short counts as used up until it has passed; what is long begins anew.
#[tokio::test]
async fn lost_memory_is_noticed_and_gives_nothing_twice() {
    let server = RedisServer::start(Keeping::Nothing).await.unwrap();
    let caller = caller(store(alone(server.url())));
    let short = [ask(1, a_minute(10), 1), ask(2, any_minute(10), 1), ask(3, bucket(10, 10), 1)];
    let day = ask(4, Limit::FixedWindow { limit: 10, window_ms: 86_400_000 }, 1);
    let budget = ask(5, prepaid(1_000), 100);
    assert!(caller.consume(&short, at(0)).await);
    caller.report(Report::of_cost(400).charging(&budget, 400), at(0)).await;
    assert_eq!(lost(&caller).await, []);

    server.ask(&["FLUSHALL"]).await.unwrap();
    for limited in &short {
        assert!(!caller.consume(std::slice::from_ref(limited), at(1)).await, "{limited:?}");
    }
    assert_eq!(lost(&caller).await, std::slice::from_ref(&caller.workspace));
    assert_eq!(caller.store.losses(), 1);
    assert!(caller.consume(&[day], at(1)).await);
    assert!(caller.reserve(std::slice::from_ref(&budget), at(1)).await.is_none());
    for limited in &short {
        assert!(caller.consume(std::slice::from_ref(limited), at(62_000)).await, "{limited:?}");
    }
}

/// Counters that count as used up after a loss are free once they were set back, and stay so.
#[tokio::test]
async fn what_was_set_back_after_a_loss_is_free() {
    let server = RedisServer::start(Keeping::Nothing).await.unwrap();
    let caller = caller(store(alone(server.url())));
    let limited = [ask(1, a_minute(10), 1), ask(2, any_minute(10), 1), ask(3, bucket(10, 1), 1)];
    assert!(caller.consume(&limited, at(0)).await);
    server.ask(&["FLUSHALL"]).await.unwrap();
    for (place, one) in limited.iter().enumerate() {
        let other = one.clone().scoped(7);
        assert_eq!((caller.used(one, at(1)).await, caller.used(&other, at(1)).await), (10, 10), "{one:?}");
        caller.reset(one, at(2)).await;
        caller.sweep_without_budgets(at(3)).await;
        assert_eq!((caller.used(one, at(4)).await, caller.used(&other, at(4)).await), (0, 10), "{one:?}");
        caller.reset_all(one, at(5)).await;
        assert_eq!(caller.used(&other, at(6)).await, 0, "limit {place}");
        assert!(caller.consume(&[other], at(7)).await);
    }
}

/// The engine counts budgets from the log; then they decide again, by what they have spent.
#[tokio::test]
async fn budgets_of_lost_memory_deny_until_they_are_counted_again() {
    let server = RedisServer::start(Keeping::Nothing).await.unwrap();
    let caller = caller(store(alone(server.url())));
    let (budget, fresh) = (ask(1, prepaid(1_000), 100), ask(2, hourly(1_000), 100));
    caller.report(Report::of_cost(400).charging(&budget, 400), at(0)).await;
    server.ask(&["FLUSHALL"]).await.unwrap();
    let second = caller.report(Report::of_cost(50).charging(&budget, 50), at(1)).await;
    for limited in [&budget, &fresh] {
        assert!(caller.reserve(std::slice::from_ref(limited), at(2)).await.is_none());
        let denied = caller.decide(with_id(&caller, limited)).await.verdict.readings[0].denied;
        assert_eq!(denied, Some(RetryAfter::Millis(1_000)), "it is counted again soon");
    }
    let open = async |spent, through| {
        caller.store.open_budget(&caller.workspace, vec![budget.charged(spent)], through, at(3)).await
    };
    let behind = open(400, Position(1)).await;
    assert_eq!(behind, Ok(BudgetOpening::Behind(second.position)), "a record came after");
    assert_eq!(open(450, second.position).await, Ok(BudgetOpening::Opened));
    assert!(
        caller.reserve(std::slice::from_ref(&budget), at(4)).await.is_none(),
        "others are not counted yet"
    );
    rebuilt(&caller).await;
    assert_eq!(lost(&caller).await, []);
    assert_eq!(caller.used(&budget, at(5)).await, 450);
    assert_eq!(caller.reserve_until_denied(std::slice::from_ref(&budget), 20, at(5)).await, 5);
    assert!(caller.reserve(&[fresh], at(5)).await.is_some());
}

/// What was counted again before a second loss is lost with it.
#[tokio::test]
async fn a_second_loss_while_budgets_are_counted_again_is_not_taken_for_the_first() {
    let server = RedisServer::start(Keeping::Nothing).await.unwrap();
    let caller = caller(store(alone(server.url())));
    let budget = ask(1, prepaid(1_000), 100);
    caller.report(Report::of_cost(400).charging(&budget, 400), at(0)).await;
    server.ask(&["FLUSHALL"]).await.unwrap();
    assert!(caller.reserve(std::slice::from_ref(&budget), at(1)).await.is_none());
    let first = caller.store.lost().await.unwrap();
    let open = async || {
        let opening = vec![budget.charged(400)];
        caller.store.open_budget(&caller.workspace, opening, Position(1), at(2)).await.unwrap()
    };
    assert_eq!(open().await, BudgetOpening::Opened);
    server.ask(&["FLUSHALL"]).await.unwrap();
    caller.store.rebuilt(&first[0]).await.unwrap();
    let second = caller.store.lost().await.unwrap();
    assert!(second.len() == 1 && second != first, "{second:?}");
    assert!(caller.reserve(std::slice::from_ref(&budget), at(3)).await.is_none());
    assert_eq!(open().await, BudgetOpening::Opened);
    caller.store.rebuilt(&second[0]).await.unwrap();
    assert_eq!((lost(&caller).await, caller.used(&budget, at(4)).await), (Vec::new(), 400));
}

/// Whoever has seen the old memory tells the new one that it is new, once for all.
#[tokio::test]
async fn lost_memory_is_noticed_also_after_one_that_had_seen_none_came_first() {
    let server = RedisServer::start(Keeping::Nothing).await.unwrap();
    let config = alone(server.url());
    let [first, second, newcomer] = [(); 3].map(|()| caller(store(config.clone())));
    let budget = ask(1, prepaid(1_000), 100);
    first.report(Report::of_cost(400).charging(&budget, 400), at(0)).await;
    assert_eq!(second.used(&budget, at(0)).await, 400);
    server.ask(&["FLUSHALL"]).await.unwrap();
    assert_eq!(newcomer.used(&budget, at(1)).await, 0);
    assert!(first.reserve(std::slice::from_ref(&budget), at(2)).await.is_none());
    assert!(newcomer.reserve(std::slice::from_ref(&budget), at(3)).await.is_none());
    for caller in [&first, &newcomer] {
        assert_eq!(lost(caller).await, std::slice::from_ref(&caller.workspace));
    }
    rebuilt(&newcomer).await;
    assert!(second.reserve(std::slice::from_ref(&budget), at(4)).await.is_some(), "it is no other loss");
    assert!(first.reserve(std::slice::from_ref(&budget), at(4)).await.is_some());
}

/// The list of workspaces may be lost while these are known: whoever knows them lists them again.
#[tokio::test]
async fn a_workspace_that_nobody_touches_is_listed_again_after_a_loss() {
    let server = RedisServer::start(Keeping::Nothing).await.unwrap();
    let config = alone(server.url());
    let list = format!("{}:{{all}}:workspaces", config.key_prefix);
    let caller = caller(store(config));
    assert!(caller.consume(&[ask(1, a_minute(5), 1)], at(0)).await);
    server.ask(&["FLUSHALL"]).await.unwrap();
    caller.expire(at(1)).await;
    assert_eq!(server.ask(&["SMEMBERS", &list]).await.unwrap().trim(), caller.workspace.as_str());
}

/// A failover may lose the last writes: the workspace's count of them went back.
#[tokio::test]
async fn lost_writes_are_noticed() {
    let server = RedisServer::start(Keeping::Nothing).await.unwrap();
    let config = alone(server.url());
    let prefix = config.key_prefix.clone();
    let caller = caller(store(config));
    let limited = ask(1, a_minute(10), 1);
    let key = format!("{prefix}:{{{}}}:c", caller.workspace);
    assert!(caller.consume(std::slice::from_ref(&limited), at(0)).await);
    server.ask(&["COPY", &key, "kept"]).await.unwrap();
    assert!(caller.consume(std::slice::from_ref(&limited), at(1)).await);
    server.ask(&["COPY", "kept", &key, "REPLACE"]).await.unwrap();
    assert!(caller.consume(std::slice::from_ref(&limited), at(2)).await);
    assert_eq!(lost(&caller).await, std::slice::from_ref(&caller.workspace));
    rebuilt(&caller).await;
    assert_eq!(caller.used(&limited, at(3)).await, 2, "one is lost");
    assert_eq!(lost(&caller).await, []);
    assert_eq!(caller.store.losses(), 1);
}

/// Servers that know nothing of an installation with a log deny budgets until they are counted.
#[tokio::test]
async fn an_empty_server_begins_where_the_log_ends() {
    let server = RedisServer::start(Keeping::Nothing).await.unwrap();
    let config = alone(server.url());
    let caller = caller(store(config.clone()));
    let workspaces = [caller.workspace.clone()];
    let budget = ask(1, prepaid(1_000), 100);
    assert_eq!(store(config.clone()).is_new_to(Position(0)).await, Ok(false), "there is no log yet");
    assert_eq!(store(config.clone()).is_new_to(Position(7)).await, Ok(true));
    assert_eq!(store(config.clone()).begin(&workspaces, Position(7)).await, Ok(()));
    assert_eq!(store(config).is_new_to(Position(9)).await, Ok(false));
    assert_eq!(caller.store.recovered_through().await, Ok(Position(7)));
    assert!(caller.reserve(std::slice::from_ref(&budget), at(0)).await.is_none());
    assert_eq!(lost(&caller).await, workspaces);
    rebuilt(&caller).await;
    assert!(caller.reserve(&[budget], at(1)).await.is_some());
}

#[tokio::test]
async fn sentinels_name_the_server_that_leads_after_another_failed() {
    let servers = RedisSentinels::start().await.unwrap();
    let (urls, service) = (servers.urls(), servers.service().to_owned());
    let topology = Topology::Sentinel { urls, service, node_url: None };
    let config =
        RedisCounterStoreConfig { deadline: Duration::from_secs(1), ..config(topology, &new_prefix()) };
    let caller = caller(store(config));
    let limited = ask(1, a_minute(10), 4);
    assert!(!decided_again(&caller, &with_id(&caller, &limited)).await.replayed);
    servers.fail_over().await.unwrap();
    assert!(decided_again(&caller, &with_id(&caller, &limited)).await.replayed);
}

/// State of a call lives in Redis as long as the library does: what a call that failed has left is not the next one's.
#[tokio::test]
async fn a_function_that_failed_leaves_nothing_to_the_next_call() {
    let server = RedisServer::start(Keeping::Nothing).await.unwrap();
    let store = store(alone(server.url()));
    let (hurt, well) = (Caller::new(store.clone(), 1), Caller::new(store, 2));
    let limited = ask(1, a_minute(10), 3);
    for caller in [&hurt, &well] {
        assert!(caller.consume(std::slice::from_ref(&limited), at(0)).await);
    }
    // Its list of due reservations is none, so that a reservation fails once it has begun to write.
    let keys = server.ask(&["KEYS", &format!("*{}*:c", hurt.workspace)]).await.unwrap();
    let due = keys.trim().trim_end_matches(":c").to_owned() + ":d";
    server.ask(&["SET", &due, "no list"]).await.unwrap();
    let reserved =
        hurt.store.check(&hurt.command(Mode::Reserve, std::slice::from_ref(&limited), at(1))).await;
    assert!(reserved.is_err(), "{reserved:?}");
    assert_eq!(well.used(&limited, at(1)).await, 3);
    assert!(well.consume(std::slice::from_ref(&limited), at(1)).await);
    assert_eq!(well.used(&limited, at(2)).await, 6);
}

#[tokio::test]
async fn a_user_who_may_not_load_functions_is_noticed_at_the_start() {
    let server = RedisServer::start(Keeping::Nothing).await.unwrap();
    server.ask(&["ACL", "SETUSER", "small", "on", ">secret", "~*", "+@all", "-function|load"]).await.unwrap();
    let as_small = server.url().replace("redis://", "redis://small:secret@");
    let refused = store(alone(as_small.clone())).is_new_to(Position::default()).await;
    let said = format!("{refused:?}");
    assert!(
        matches!(refused, Err(StoreError::Unavailable { .. })) && said.contains("cannot be loaded"),
        "{said}"
    );
    server.ask(&["ACL", "SETUSER", "small", "+function|load"]).await.unwrap();
    assert_eq!(store(alone(as_small)).is_new_to(Position::default()).await, Ok(false));
}
