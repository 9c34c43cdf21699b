//! Checks whose counters are elsewhere, while these do not answer.

mod alone;

use std::sync::atomic::Ordering;
use std::time::Duration;

use rateguard_core::ids::{BudgetId, DisplayName, RuleId};
use rateguard_core::matching::{Match, Scope as CallScope};
use rateguard_core::rule::{Algorithm, Budget, BudgetPeriod, FailurePolicy, Rule, RulePolicies};
use tokio::time::{Instant, sleep, timeout};

use super::*;
use crate::clock::{Clock, ManualClock};
use crate::degraded::DegradedFigures;
use crate::engine::{Background, Stores};
use crate::gate::{COUNTERS_DEADLINE, CancelFigures};
use crate::ports::Resource;
use crate::testing::{
    EmptyTrail, FakeConfig, FakeLog, FakeUsage, Road, SharedCounters, caller, engine_on, start,
};

/// The window of the tests' rules.
const WINDOW_MS: i64 = 10_000;
/// Longer than any pause before it is tried again whether the counters answer.
const LONG: Duration = Duration::from_secs(2);

/// Largest that a check may be before it is begun, in bytes: it is moved some times on its way through the
/// adapter.
const CHECK_BYTES_MAX: usize = 512;

#[tokio::test]
async fn a_check_does_not_carry_room_for_what_seldom_happens() {
    let world = crate::testing::World::start().await;
    let (caller, request) = (caller(), request(Mode::Consume, None));
    let check = world.engine.check(&caller, &request);
    let bytes = size_of_val(&check);
    assert!(bytes <= CHECK_BYTES_MAX, "{bytes}");
}

/// An engine on counters that others share.
struct Replica {
    engine: Arc<Engine>,
    background: Background,
}

/// Engines, and what they share.
pub(super) struct World {
    pub(super) counters: Arc<SharedCounters>,
    clock: Arc<ManualClock>,
    replicas: Vec<Replica>,
}

fn limit(size: i64) -> Limit {
    Limit::FixedWindow { limit: size, window_ms: WINDOW_MS }
}

fn rule_of(number: u8, size: i64, failure: FailurePolicy) -> Rule {
    Rule {
        id: RuleId::from_random([number; 16]),
        name: DisplayName::parse("name", &format!("rule {number}")).unwrap(),
        matches: Match::default(),
        scope: CallScope::default(),
        unit: Unit::Requests,
        algorithm: Algorithm::FixedWindow { limit: size, window_ms: WINDOW_MS },
        enforcement: Enforcement::Enforced,
        priority: i32::from(number),
        override_group: None,
        overrides: Vec::new(),
        last_reset_at: None,
        policies: RulePolicies { failure, ..RulePolicies::default() },
        active: true,
    }
}

fn budget() -> Budget {
    Budget {
        id: BudgetId::from_random([3; 16]),
        name: DisplayName::parse("name", "money").unwrap(),
        matches: Match::default(),
        scope: CallScope::default(),
        amount: Nanos::from_stored(1_000_000),
        topped_up: Nanos::ZERO,
        period: BudgetPeriod::Prepaid,
        enforcement: Enforcement::Enforced,
        active: true,
        opened_after: None,
    }
}

fn request(mode: Mode, id: Option<&str>) -> CheckRequest {
    CheckRequest {
        request_id: id.map(|id| RequestId::parse("request_id", id).unwrap()),
        call: Call::default(),
        amounts: Amounts::default(),
        estimate: Estimate::default(),
        mode,
        reservation_ttl_ms: 60_000,
        explain: false,
    }
}

impl World {
    pub(super) async fn start(replicas: usize, limits: Vec<Resource>) -> Self {
        let (counters, config) = (Arc::new(SharedCounters::default()), Arc::new(FakeConfig::default()));
        let (log, clock) = (Arc::new(FakeLog::default()), Arc::new(ManualClock::at(start())));
        let mut world = Self { counters, clock, replicas: Vec::new() };
        for _ in 0..replicas {
            let stores = Stores {
                audit: Arc::new(EmptyTrail),
                config: config.clone(),
                counters: world.counters.clone(),
                log: log.clone(),
                usage: Arc::new(FakeUsage::of(log.clone())),
                shared: true,
            };
            let (engine, background) = engine_on(stores, world.clock.clone()).await;
            world.replicas.push(Replica { engine, background });
        }
        for limit in limits {
            world.replicas[0].engine.create(&caller().into(), limit).await.unwrap();
        }
        for replica in &world.replicas {
            replica.engine.directory().refresh(world.clock.now()).await.unwrap();
        }
        world
    }

    async fn with(limits: Vec<Resource>) -> Self {
        Self::start(1, limits).await
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.replicas[0].engine
    }

    async fn check(&self, mode: Mode, id: Option<&str>) -> CheckResponse {
        self.engine().check(&caller(), &request(mode, id)).await.unwrap()
    }

    async fn consume(&self) -> CheckResponse {
        self.check(Mode::Consume, None).await
    }

    /// Lets time pass for everybody.
    pub(super) async fn pass(&self, time: Duration) {
        self.clock.advance_ms(i64::try_from(time.as_millis()).unwrap());
        sleep(time).await;
    }

    /// Waits until so many cancels are done or given up.
    async fn ended(&self, count: u64) -> CancelFigures {
        let figures = || self.engine().cancel_figures();
        let all = async {
            while figures().done + figures().dropped < count {
                sleep(Duration::from_millis(1)).await;
            }
        };
        assert!(timeout(LONG, all).await.is_ok(), "{:?}", figures());
        figures()
    }

    pub(super) async fn stop(self) {
        self.counters.set_road(Road::Fine);
        for replica in self.replicas {
            replica.background.stop().await.unwrap();
        }
    }
}

fn open(number: u8) -> Resource {
    Resource::Rule(rule_of(number, 10, FailurePolicy::Open))
}

fn closed(number: u8) -> Resource {
    Resource::Rule(rule_of(number, 10, FailurePolicy::Closed))
}

fn local(number: u8) -> Resource {
    let failure = FailurePolicy::Local { share_percent: 50, replicas_max: 1 };
    Resource::Rule(rule_of(number, 10, failure))
}

fn shadow(number: u8) -> Resource {
    let rule = rule_of(number, 10, FailurePolicy::Closed);
    Resource::Rule(Rule { enforcement: Enforcement::Shadow, ..rule })
}

#[tokio::test(start_paused = true)]
async fn a_check_whose_counters_hang_is_answered_in_time_and_later_ones_at_once() {
    let world = World::with(vec![open(1)]).await;
    world.counters.set_road(Road::LosesCalls);
    for _ in 0..5 {
        let asked = Instant::now();
        let answer = world.consume().await;
        assert_eq!((answer.allowed, answer.degraded), (true, Some(Degraded::Open)));
        assert!(asked.elapsed() <= COUNTERS_DEADLINE + Duration::from_millis(1));
    }
    let (asked, calls) = (Instant::now(), world.counters.calls.load(Ordering::SeqCst));
    assert_eq!(world.consume().await.degraded, Some(Degraded::Open));
    assert_eq!(asked.elapsed(), Duration::ZERO, "the counters are not asked any more");
    assert_eq!(world.counters.calls.load(Ordering::SeqCst), calls);
    assert_eq!(
        world.engine().degraded_figures(),
        DegradedFigures { open_allowed: 6, ..DegradedFigures::default() }
    );
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn counters_that_answer_again_decide_again() {
    let world = World::with(vec![open(1)]).await;
    world.counters.set_road(Road::Closed);
    for _ in 0..10 {
        assert_eq!(world.consume().await.degraded, Some(Degraded::Open));
    }
    world.counters.set_road(Road::Fine);
    world.pass(LONG).await;
    let answer = world.consume().await;
    assert_eq!((answer.degraded, answer.limits.len()), (None, 1));
    assert_eq!(world.counters.used(&limit(10), world.clock.now()), 1);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_strictest_policy_of_the_limits_that_deny_decides() {
    use Degraded::{Closed, Local, Open};
    let money = || Resource::Budget(budget());
    let soft = || Resource::Budget(Budget { enforcement: Enforcement::Soft, ..budget() });
    let cases = [
        (vec![], Open, true),
        (vec![open(1)], Open, true),
        (vec![open(1), shadow(2)], Open, true),
        (vec![open(1), soft()], Open, true),
        (vec![open(1), closed(2)], Closed, false),
        (vec![open(1), money()], Closed, false),
        (vec![open(1), local(2)], Local, true),
        (vec![local(1), closed(2), open(3)], Closed, false),
        (vec![local(1), shadow(2)], Local, true),
    ];
    for (limits, policy, allowed) in cases {
        let kinds = format!("{limits:?}");
        let world = World::with(limits).await;
        world.pass(Duration::from_secs(20)).await;
        world.counters.set_road(Road::Closed);
        for mode in [Mode::Peek, Mode::Consume, Mode::Reserve] {
            let answer = world.check(mode, None).await;
            assert_eq!((answer.degraded, answer.allowed), (Some(policy), allowed), "{mode:?} {kinds}");
            assert_eq!(answer.reservation, None, "nothing can be reserved");
            assert_eq!(answer.retry_after_ms.is_some(), !allowed, "{mode:?} {kinds}");
            assert_eq!(answer.limiting.is_some(), !allowed, "{mode:?} {kinds}");
        }
        world.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_check_took_whose_answer_was_lost_is_given_back() {
    let world = World::with(vec![closed(1)]).await;
    world.counters.set_road(Road::LosesAnswers);
    assert!(!world.consume().await.allowed);
    assert_eq!(world.counters.used(&limit(10), world.clock.now()), 1, "it has arrived");
    world.counters.set_road(Road::Fine);
    assert_eq!(world.ended(1).await, CancelFigures { queued: 1, done: 1, dropped: 0 });
    assert_eq!(world.counters.used(&limit(10), world.clock.now()), 0);
    world.stop().await;
}

/// Its attempt counts as answered, and would keep the first one from being undone.
#[tokio::test(start_paused = true)]
async fn what_a_refused_repetition_did_not_hear_of_is_given_back() {
    for mode in [Mode::Consume, Mode::Reserve] {
        let world = World::with(vec![closed(1)]).await;
        world.counters.set_road(Road::LosesAnswers);
        assert!(!world.check(mode, Some("once")).await.allowed);
        let call = Call { api: "gone".to_owned(), ..Call::default() };
        let refused = CheckRequest { call, ..request(mode, Some("once")) };
        assert!(world.engine().check(&caller(), &refused).await.is_err());
        world.counters.set_road(Road::Fine);
        assert_eq!(world.ended(2).await, CancelFigures { queued: 2, done: 2, dropped: 0 });
        assert_eq!(world.counters.used(&limit(10), world.clock.now()), 0, "{mode:?}");
        world.stop().await;
    }
}

/// What becomes of the cancel of a check that the counters answered unheard, when they are back by this road.
async fn cancelled_by(road: Road, away: Duration) -> CancelFigures {
    let world = World::with(vec![closed(1)]).await;
    world.counters.set_road(Road::LosesAnswers);
    assert!(!world.consume().await.allowed);
    world.counters.set_road(Road::Closed);
    world.pass(away).await;
    world.counters.set_road(road);
    let figures = world.ended(1).await;
    world.stop().await;
    figures
}

#[tokio::test(start_paused = true)]
async fn a_cancel_of_which_the_counters_know_nothing_any_more_counts_as_given_up() {
    // Longer than the id of a CONSUME stands.
    let figures = cancelled_by(Road::Fine, Duration::from_secs(61)).await;
    assert_eq!(figures, CancelFigures { queued: 1, done: 0, dropped: 1 });
}

#[tokio::test(start_paused = true)]
async fn a_cancel_that_meets_damaged_data_is_given_up_at_once() {
    let figures = cancelled_by(Road::Damaged, Duration::ZERO).await;
    assert_eq!(figures, CancelFigures { queued: 1, done: 0, dropped: 1 });
}

#[tokio::test(start_paused = true)]
async fn a_check_that_arrives_after_it_was_given_up_takes_nothing() {
    let world = World::with(vec![closed(1)]).await;
    world.counters.set_road(Road::Holds);
    assert!(!world.consume().await.allowed);
    world.counters.set_road(Road::Fine);
    assert_eq!(world.ended(1).await.done, 1);
    world.counters.deliver();
    assert_eq!(world.counters.used(&limit(10), world.clock.now()), 0);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_repetition_after_an_unknown_outcome_takes_once() {
    for road in [Road::LosesAnswers, Road::LosesCalls] {
        let world = World::with(vec![closed(1)]).await;
        world.counters.set_road(road);
        assert!(!world.check(Mode::Consume, Some("once")).await.allowed);
        world.counters.set_road(Road::Fine);
        // Before the first attempt is undone, and once more after it.
        let again = world.check(Mode::Consume, Some("once")).await;
        assert_eq!((again.allowed, again.degraded), (true, None));
        assert_eq!(world.ended(1).await.done, 1);
        assert!(world.check(Mode::Consume, Some("once")).await.replayed);
        assert_eq!(world.counters.used(&limit(10), world.clock.now()), 1, "{road:?}");
        world.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_check_that_arrives_twice_takes_once() {
    let world = World::with(vec![closed(1)]).await;
    world.counters.set_road(Road::Doubles);
    assert!(world.consume().await.allowed);
    assert!(world.check(Mode::Consume, Some("named")).await.allowed);
    assert_eq!(world.counters.used(&limit(10), world.clock.now()), 2);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_check_that_surely_did_not_arrive_is_not_undone() {
    let world = World::with(vec![closed(1)]).await;
    world.counters.set_road(Road::Closed);
    assert!(!world.consume().await.allowed);
    world.counters.set_road(Road::LosesCalls);
    assert!(!world.check(Mode::Peek, None).await.allowed, "a PEEK takes nothing");
    assert_eq!(world.engine().cancel_figures(), CancelFigures::default());
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_undone_before_the_stop_is_counted_as_dropped() {
    let world = World::with(vec![open(1)]).await;
    world.counters.set_road(Road::LosesCalls);
    assert!(world.consume().await.allowed);
    let World { replicas, .. } = world;
    let engine = replicas[0].engine.clone();
    for replica in replicas {
        replica.background.stop().await.unwrap();
    }
    assert_eq!(engine.cancel_figures(), CancelFigures { queued: 1, done: 0, dropped: 1 });
}

#[tokio::test(start_paused = true)]
async fn reading_and_releasing_fail_in_time_while_the_counters_hang() {
    let world = World::with(vec![open(1)]).await;
    world.counters.set_road(Road::LosesCalls);
    let asked = Instant::now();
    let quota = world.engine().quota(&caller(), &Call::default()).await;
    assert_eq!(quota.unwrap_err().reason, Reason::OutcomeUnknown);
    let id = ReservationId::from_bits(1);
    assert!(world.engine().release(&caller(), &id).await.is_err());
    assert!(asked.elapsed() <= COUNTERS_DEADLINE * 3);
    world.stop().await;
}
