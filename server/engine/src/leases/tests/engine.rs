//! Leases as callers of an engine see them.

use std::sync::Arc;

use rateguard_core::amounts::Amounts;
use rateguard_core::decision::Mode;
use rateguard_core::ids::{DisplayName, RequestId, RuleId};
use rateguard_core::matching::{Match, Scope};
use rateguard_core::pricing::PriceBook;
use rateguard_core::rule::{Algorithm, Consistency, Enforcement, Rule, RulePolicies};
use rateguard_core::unit::Unit;

use super::shared::{Shared, TestClock};
use crate::check::{Call, CheckRequest};
use crate::costing::Estimate;
use crate::engine::{Background, CONFIG_STALE_MS_MAX, Engine, Setup, Stores};
use crate::gate::COUNTERS_DEADLINE;
use crate::ports::{ConfigStore, Resource};
use crate::secrets::CredentialCipher;
use crate::testing::{World, caller, deed, workspace};

fn rule(number: u8, limit: i64, consistency: Consistency) -> Resource {
    Resource::Rule(Rule {
        id: RuleId::from_random([number; 16]),
        name: DisplayName::parse("name", "test").expect("a plain name"),
        matches: Match::default(),
        scope: Scope::default(),
        unit: Unit::Requests,
        algorithm: Algorithm::FixedWindow { limit, window_ms: 60_000 },
        enforcement: Enforcement::Enforced,
        priority: i32::from(number),
        override_group: None,
        overrides: Vec::new(),
        last_reset_at: None,
        policies: RulePolicies { consistency, ..RulePolicies::default() },
        active: true,
    })
}

/// An engine with these rules, on shared counters.
async fn start(rules: Vec<Resource>) -> (Arc<Shared>, Arc<Engine>, Background) {
    let world = World::start().await;
    for rule in rules {
        world.config.insert(&workspace(), rule, 10, &deed()).await.expect("there is room");
    }
    let clock = TestClock::start();
    let counters = Shared::new(clock.clone());
    let stores = Stores {
        audit: world.engine.audit.clone(),
        config: world.config.clone(),
        counters: counters.clone(),
        log: world.log.clone(),
        usage: world.usage.clone(),
        shared: true,
    };
    let setup = Setup {
        clock,
        catalogue: Arc::new(PriceBook::default()),
        cipher: CredentialCipher::new(&[7; 32]).expect("a key of 32 bytes"),
        gateway_token: None,
        config_stale_ms_max: CONFIG_STALE_MS_MAX,
        counters_deadline: COUNTERS_DEADLINE,
    };
    let (engine, background) = Engine::start(stores, setup).await.expect("the stores answer");
    (counters, engine, background)
}

fn check(mode: Mode, id: &str) -> CheckRequest {
    CheckRequest {
        request_id: Some(RequestId::parse("request_id", id).expect("a plain id")),
        call: Call::default(),
        amounts: Amounts::default(),
        estimate: Estimate::default(),
        mode,
        reservation_ttl_ms: 60_000,
        explain: false,
    }
}

#[tokio::test(start_paused = true)]
async fn a_leased_rule_is_decided_here_shown_whole_and_given_back_at_the_stop() {
    let (_, engine, background) = start(vec![rule(1, 100_000, Consistency::Leased)]).await;
    for number in 0..200 {
        let answer = engine.check(&caller(), &check(Mode::Consume, &format!("call-{number}"))).await.unwrap();
        assert!(answer.allowed && !answer.replayed);
        assert_eq!(answer.limits[0].reading.remaining, 100_000 - number - 1);
    }
    let again = engine.check(&caller(), &check(Mode::Consume, "call-7")).await.unwrap();
    assert!(again.allowed && again.replayed);
    let quota = engine.quota(&caller(), &Call::default()).await.unwrap();
    assert_eq!((quota[0].reading.used, quota[0].reading.remaining), (200, 99_800));
    let figures = engine.lease_figures();
    assert_eq!((figures.decided_here, figures.decided_by_store), (200, 0));
    assert!(figures.exchanges < 10, "{figures:?}");
    background.stop().await.unwrap();
    let figures = engine.lease_figures();
    assert_eq!(figures.units_lent - figures.units_returned, 200, "{figures:?}");
}

#[tokio::test(start_paused = true)]
async fn a_strict_rule_beside_it_is_decided_by_the_store_with_no_unit_burnt() {
    let rules = vec![rule(2, 100_000, Consistency::Leased), rule(1, 50, Consistency::Strict)];
    let (store, engine, background) = start(rules).await;
    let mut admitted = 0;
    for number in 0..80 {
        let answer = engine.check(&caller(), &check(Mode::Consume, &format!("call-{number}"))).await.unwrap();
        admitted += i128::from(answer.allowed);
        assert_eq!(answer.limits.len(), 2);
    }
    assert_eq!(admitted, 50);
    assert_eq!(store.checks.load(std::sync::atomic::Ordering::SeqCst), 80, "one decision a check");
    background.stop().await.unwrap();
    let quota = engine.quota(&caller(), &Call::default()).await.unwrap();
    let used: Vec<i128> = quota.iter().map(|limit| limit.reading.used).collect();
    assert_eq!(used, [50, 50]);
}
