//! An engine whose counters are in a Redis that is frozen: checks are answered by their rules' policies, and
//! once Redis goes on its counters are as if these checks had not been.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rateguard_core::decision::Mode;
use rateguard_core::ids::{DisplayName, RequestId, RuleId};
use rateguard_core::limits::WINDOW_MS_MAX;
use rateguard_core::matching::{Match, Scope as CallScope};
use rateguard_core::rule::{Algorithm, Enforcement, FailurePolicy, Rule, RulePolicies};
use rateguard_core::unit::Unit;
use rateguard_engine::check::{Call, CheckRequest, CheckResponse};
use rateguard_engine::degraded::Degraded;
use rateguard_engine::gate::COUNTERS_DEADLINE_GRACE;
use rateguard_engine::ports::Resource;
use rateguard_store_redis::{RedisCounterStore, RedisCounterStoreConfig, Topology};
use rateguard_test_servers::{Keeping, RedisServer};

use crate::PATIENCE;
use crate::pair::{Remote, check};

/// Long enough for a busy machine's Redis to answer in.
const DEADLINE: Duration = Duration::from_millis(300);
/// Checks of each kind while Redis hangs.
const CHECKS: usize = 40;

struct World {
    server: RedisServer,
    remote: Remote,
}

/// A rule for one method. Its window is over long after the test.
fn rule(method: &str, failure: FailurePolicy) -> Resource {
    Resource::Rule(Rule {
        id: RuleId::from_random([method.as_bytes()[1]; 16]),
        name: DisplayName::parse("display_name", method).unwrap(),
        matches: Match { methods: vec![method.to_owned()], ..Match::default() },
        scope: CallScope::default(),
        unit: Unit::Requests,
        algorithm: Algorithm::FixedWindow { limit: 1_000, window_ms: WINDOW_MS_MAX },
        enforcement: Enforcement::Enforced,
        priority: 0,
        override_group: None,
        overrides: Vec::new(),
        last_reset_at: None,
        policies: RulePolicies { failure, ..RulePolicies::default() },
        active: true,
    })
}

fn call(method: &str) -> Call {
    Call { method: method.to_owned(), ..Call::default() }
}

impl World {
    async fn start() -> Self {
        let server = RedisServer::start(Keeping::Nothing).await.unwrap();
        let config = RedisCounterStoreConfig {
            deadline: DEADLINE,
            ..RedisCounterStoreConfig::new(Topology::Single { url: server.url() })
        };
        let counters = Arc::new(RedisCounterStore::new(config).unwrap());
        let remote = Remote::start(counters, DEADLINE + COUNTERS_DEADLINE_GRACE).await;
        for rule in [rule("GET", FailurePolicy::Open), rule("POST", FailurePolicy::Closed)] {
            remote.engine.create(&remote.caller.clone().into(), rule).await.unwrap();
        }
        Self { server, remote }
    }

    async fn check(&self, mode: Mode, method: &str, id: Option<&str>) -> CheckResponse {
        let request_id = id.map(|id| RequestId::parse("request_id", id).unwrap());
        let estimate = rateguard_engine::costing::Estimate::default();
        let request = CheckRequest { request_id, call: call(method), estimate, ..check(mode, 0) };
        self.remote.engine.check(&self.remote.caller, &request).await.unwrap()
    }

    /// What is used of a method's limit, by the counters.
    async fn used(&self, method: &str) -> i128 {
        let read = async {
            loop {
                let call = call(method);
                match self.remote.engine.quota(&self.remote.caller, &call).await {
                    Ok(limits) => return limits[0].reading.used,
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        };
        tokio::time::timeout(PATIENCE, read).await.expect("the counters answer again")
    }

    /// Waits until everything is undone that was to be.
    async fn all_undone(&self) {
        let all = async {
            loop {
                let figures = self.remote.engine.cancel_figures();
                assert_eq!(figures.dropped, 0);
                if figures.done == figures.queued {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, all).await.expect("cancels are done once Redis goes on");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checks_while_redis_hangs_are_answered_by_policy_and_leave_nothing_behind() {
    let world = World::start().await;
    for _ in 0..3 {
        assert_eq!(world.check(Mode::Consume, "GET", None).await.degraded, None);
        assert_eq!(world.check(Mode::Reserve, "POST", None).await.degraded, None);
    }
    world.server.pause().unwrap();
    let mut waits = Vec::new();
    for number in 0..CHECKS {
        let begun = Instant::now();
        let mode = [Mode::Consume, Mode::Reserve][number % 2];
        let open = world.check(mode, "GET", None).await;
        assert_eq!((open.allowed, open.degraded), (true, Some(Degraded::Open)));
        waits.push(begun.elapsed());
        let closed = world.check(mode, "POST", None).await;
        assert_eq!((closed.allowed, closed.degraded), (false, Some(Degraded::Closed)));
        assert!(closed.retry_after_ms.is_some());
    }
    waits.sort();
    tell_waits(&waits);
    world.server.resume().unwrap();
    world.all_undone().await;
    assert!(world.remote.engine.cancel_figures().queued > 0, "the first ones waited in vain");
    assert_eq!((world.used("GET").await, world.used("POST").await), (3, 3));
    let figures = world.remote.engine.degraded_figures();
    assert_eq!((figures.open_allowed, figures.closed_denied), (CHECKS as u64, CHECKS as u64));
    world.remote.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_that_is_repeated_once_redis_goes_on_takes_once() {
    let world = World::start().await;
    assert_eq!(world.used("POST").await, 0);
    world.server.pause().unwrap();
    assert!(!world.check(Mode::Consume, "POST", Some("once")).await.allowed);
    world.server.resume().unwrap();
    let repeated = async {
        while world.check(Mode::Consume, "POST", Some("once")).await.degraded.is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, repeated).await.expect("the counters answer again");
    world.all_undone().await;
    assert!(world.check(Mode::Consume, "POST", Some("once")).await.replayed);
    assert_eq!(world.used("POST").await, 1);
    world.remote.stop().await;
}

/// How long the longest took, for whoever reads along: a busy machine proves nothing.
fn tell_waits(waits: &[Duration]) {
    let longest = waits.last().copied().unwrap_or_default();
    let middle = waits.get(waits.len() / 2).copied().unwrap_or_default();
    eprintln!(
        "answers while Redis hangs: {middle:?} in the middle, {longest:?} at most ({DEADLINE:?} allowed)"
    );
}
