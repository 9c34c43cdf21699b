//! Much at once: more than one command of a script takes, and more ids than are kept.

use std::sync::Arc;

use rateguard_core::decision::Mode;
use rateguard_core::reservation::ReservationState;
use rateguard_core::unit::Unit;
use rateguard_engine::ports::{CheckCommand, RequestFingerprint, SettleCommand, StoreError};
use rateguard_store_redis::{RedisCounterStore, RedisCounterStoreConfig, Topology};
use rateguard_store_suite::counter_store::world::{
    Ask, Caller, MINUTE_MS, RESERVATION_MS, Report, a_minute, an_hour, ask, at,
};
use rateguard_test_servers::{Keeping, RedisServer};

use crate::backend::{config, new_prefix};

/// Counters of one record or one reservation.
const VALUES: u128 = 50;
/// Records and reservations that one script takes.
const TOGETHER: u128 = 100;

/// A caller on a server of its own, with room for a great many counters.
async fn caller(server: &RedisServer) -> (Caller, String) {
    let config = config(Topology::Single { url: server.url() }, &new_prefix());
    let prefix = config.key_prefix.clone();
    let roomy = RedisCounterStoreConfig { live_counters_max: 100_000, request_ids_bytes_max: 1, ..config };
    let store = RedisCounterStore::new(roomy).expect("the address is well formed");
    (Caller::new(Arc::new(store), 1), prefix)
}

/// Counters of the part with this number, which no other part has.
fn part(number: u128) -> Vec<Ask> {
    let asks =
        (0..VALUES).map(|value| ask(1, an_hour(10), 2).of(Unit::Tokens).scoped(number * VALUES + value));
    asks.collect()
}

/// What is used of every counter of all parts, each figure once.
async fn used_of_all(caller: &Caller, ms: i64) -> Vec<i128> {
    let mut used = Vec::new();
    for number in 0..TOGETHER {
        used.extend(caller.read(&part(number), at(ms)).await.iter().map(|reading| reading.used));
    }
    assert_eq!(used.len() as u128, TOGETHER * VALUES);
    used.sort_unstable();
    used.dedup();
    used
}

#[tokio::test]
async fn one_batch_settles_on_five_thousand_counters() {
    let server = RedisServer::start(Keeping::Nothing).await.unwrap();
    let (caller, _) = caller(&server).await;
    let mut records: Vec<SettleCommand> = Vec::new();
    for number in 0..TOGETHER {
        let charging = |report: Report, ask: &Ask| report.charging(ask, 3);
        let report = part(number).iter().fold(Report::default(), charging);
        let first = caller.log_only(report, at(1)).await;
        records.push(first);
    }
    caller.store.settle(records.clone()).await.expect("a store that is well settles");
    assert_eq!(used_of_all(&caller, 2).await, [3]);
    caller.store.settle(records).await.expect("a store that is well settles again");
    assert_eq!(used_of_all(&caller, 3).await, [3], "once");
}

#[tokio::test]
async fn one_expiry_frees_five_thousand_counters() {
    let server = RedisServer::start(Keeping::Nothing).await.unwrap();
    let (caller, _) = caller(&server).await;
    for number in 0..TOGETHER {
        assert!(caller.reserve(&part(number), at(0)).await.is_some());
    }
    assert_eq!(used_of_all(&caller, 1).await, [2]);
    caller.expire(at(RESERVATION_MS)).await;
    assert_eq!(used_of_all(&caller, RESERVATION_MS).await, [0]);
}

/// A check with the id of this number, whose bucket is that of all others.
fn with_id(caller: &Caller, number: u128, ms: i64) -> CheckCommand {
    let asks = [ask(2, a_minute(1_000), 1)];
    let id = number << 120 | 5;
    let request = RequestFingerprint { id, content: 1, expires_at: at(ms + MINUTE_MS), attempt: None };
    CheckCommand { request: Some(request), ..caller.command(Mode::Consume, &asks, at(ms)) }
}

/// Ids whose time is over make room for others, before any is forgotten early.
#[tokio::test]
async fn ids_of_a_full_bucket_go_when_their_time_is_over() {
    let server = RedisServer::start(Keeping::Nothing).await.unwrap();
    let (caller, prefix) = caller(&server).await;
    let bucket = format!("{prefix}:{{{}}}:i:5", caller.workspace);
    for round in 0..20 {
        // Fewer at a time than a bucket holds.
        for place in 0..6 {
            caller.decide(with_id(&caller, (round * 6 + place) * 37 % 256, ms_of(round))).await;
        }
    }
    let kept: usize = server.ask(&["HLEN", &bucket]).await.unwrap().trim().parse().unwrap();
    assert!(kept < 40, "{kept} of 120 ids are kept");
    assert_eq!(caller.store.health().await.unwrap().request_ids_forgotten_early, 0);
}

fn ms_of(round: u128) -> i64 {
    i64::try_from(round).expect("there are few rounds") * 2 * MINUTE_MS
}

/// Many counters of a limit are set back a few at a time, and what others do in between counts as if all
/// had been set back at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_great_many_counters_are_set_back_beside_other_calls() {
    let server = RedisServer::start(Keeping::Nothing).await.unwrap();
    let (caller, _) = caller(&server).await;
    for number in 0..TOGETHER {
        assert!(caller.consume(&part(number), at(0)).await);
    }
    server.ask(&["CONFIG", "RESETSTAT"]).await.unwrap();
    let reserving = async {
        let mut open = Vec::new();
        for number in 0..TOGETHER {
            open.extend(caller.reserve(&part(number), at(1)).await);
        }
        open
    };
    let first = ask(1, an_hour(10), 2);
    let (_, open) = tokio::join!(caller.reset_all(&first, at(1)), reserving);
    assert_eq!(open.len() as u128, TOGETHER);
    let stats = server.ask(&["INFO", "commandstats"]).await.unwrap();
    assert!(stats.contains("cmdstat_hscan:") && !stats.contains("cmdstat_hkeys:"), "{stats}");
    for number in 0..TOGETHER {
        assert!(caller.consume(&part(number), at(2)).await);
    }
    for reservation in &open {
        caller.release(&reservation.id, at(3)).await;
    }
    assert_eq!(used_of_all(&caller, 4).await, [2], "what was consumed since, and nothing else");
}

/// Makes all counters of a workspace unreadable.
const BREAK: &str = "
for _, id in ipairs(redis.call('HKEYS', KEYS[1])) do
  if id ~= 'm' then redis.call('HSET', KEYS[1], id, '\\193') end
end
return 1
";

/// A script that fails in the middle has done nothing: once its cause is gone the same is done whole.
#[tokio::test]
async fn a_script_that_fails_has_done_nothing() {
    let server = RedisServer::start(Keeping::Nothing).await.unwrap();
    let (caller, prefix) = caller(&server).await;
    let key = format!("{prefix}:{{{}}}:c", caller.workspace);
    let asks = part(0);
    let open = caller.reserve(&asks, at(0)).await.expect("there is room");
    server.ask(&["COPY", &key, "kept"]).await.unwrap();
    server.ask(&["EVAL", BREAK, "1", &key]).await.unwrap();
    let failed = caller.store.expire_due(at(RESERVATION_MS), 1).await;
    assert!(matches!(failed, Err(StoreError::Corrupt { .. })), "{failed:?}");
    server.ask(&["COPY", "kept", &key, "REPLACE"]).await.unwrap();
    assert_eq!(caller.reservation(&open.id).await.map(|r| r.state), Some(ReservationState::Open));
    caller.expire(at(RESERVATION_MS)).await;
    assert_eq!(caller.reservation(&open.id).await.map(|r| r.state), Some(ReservationState::Expired));
    let used = caller.read(&asks, at(RESERVATION_MS)).await;
    assert!(used.iter().all(|reading| reading.used == 0), "{used:?}");
}
