use proptest::prelude::*;

use super::*;
use crate::counter::{Refill, RetryAfter};
use crate::decision::tests::{MemoryCounters, NOON, charge};
use crate::decision::{Mode, decide};
use crate::time::{Bounds, CalendarPeriod, Zone};

/// A reservation that took this.
pub(crate) fn open_reservation(captured: SmallVec<[Captured; 4]>, floor: Nanos) -> Reservation {
    let key = KeyId::from_random([1; 16]);
    Reservation {
        id: ReservationId::from_bits(7),
        key: key.clone(),
        by_gateway: false,
        state: ReservationState::Open,
        decided_at: Millis::new(NOON),
        expires_at: Millis::new(NOON + 600_000),
        floor,
        included: Position::default(),
        call: Arc::new(call_of(key)),
        request_id: None,
        captured,
    }
}

fn call_of(key: KeyId) -> CallIdentity {
    CallIdentity {
        key,
        api: None,
        api_name: String::new(),
        endpoint: String::new(),
        method: String::new(),
        model: String::new(),
        service_tier: String::new(),
        subject: String::new(),
    }
}

const TOKENS_PER_MINUTE: Limit = Limit::FixedWindow { limit: 100, window_ms: 60_000 };

/// One limit, with one reservation on it.
struct Held {
    counters: MemoryCounters,
    reservation: Reservation,
    limit: Limit,
    position: u64,
}

impl Held {
    fn new(limit: Limit, unit: Unit, estimate: i64) -> Self {
        let mut counters = MemoryCounters::default();
        let asked = charge(1, limit, estimate);
        let verdict = decide(&mut counters, &[asked], Mode::Reserve, Millis::new(NOON));
        assert!(verdict.allowed);
        let captured = capture(&[asked], [unit].iter(), &verdict);
        let floor = Nanos::from_stored(3);
        Self { counters, reservation: open_reservation(captured, floor), limit, position: 0 }
    }

    fn tokens(estimate: i64) -> Self {
        Self::new(TOKENS_PER_MINUTE, Unit::Tokens, estimate)
    }

    fn report(&mut self, tokens: Option<i64>, cost: i64, is_final: bool, refund: bool, after_ms: i64) {
        let mut amounts = Amounts::default();
        if let Some(tokens) = tokens {
            amounts.insert("tokens", Unit::Tokens, tokens).unwrap();
        }
        self.position += 1;
        let settlement = Settlement {
            position: Position(self.position),
            amounts: &amounts,
            cost: Nanos::from_stored(cost),
            is_final,
            refund,
            now: Millis::new(NOON + after_ms),
        };
        self.reservation.settle(&mut self.counters, &settlement);
    }

    fn used(&self, after_ms: i64) -> i128 {
        let entry = self.counters.get(CounterId(1)).unwrap();
        entry.counter.read(&self.limit, 0, Millis::new(NOON + after_ms)).used
    }
}

#[test]
fn a_call_that_used_less_gives_the_rest_back() {
    let mut held = Held::tokens(80);
    held.report(Some(30), 0, true, true, 10);
    assert_eq!((held.used(10), held.reservation.state), (30, ReservationState::Settled));
}

#[test]
fn a_call_that_used_more_leaves_a_debt_in_its_window() {
    let mut held = Held::tokens(80);
    held.report(Some(130), 0, true, true, 10);
    assert_eq!(held.used(10), 130);
    let reading =
        held.counters.get(CounterId(1)).unwrap().counter.read(&held.limit, 1, Millis::new(NOON + 10));
    assert!(matches!(reading.denied, Some(RetryAfter::Millis(_))));
}

#[test]
fn a_window_that_has_closed_is_not_corrected_in_the_next_one() {
    let mut held = Held::tokens(80);
    let next =
        decide(&mut held.counters, &[charge(1, held.limit, 10)], Mode::Consume, Millis::new(NOON + 60_000));
    assert!(next.allowed);
    held.report(Some(130), 0, true, true, 60_010);
    assert_eq!(held.used(60_010), 10);
}

#[test]
fn only_exact_figures_refund() {
    let mut held = Held::tokens(80);
    held.report(Some(30), 0, true, false, 10);
    assert_eq!(held.used(10), 80);
    let mut held = Held::tokens(80);
    held.report(Some(90), 0, true, false, 10);
    assert_eq!(held.used(10), 90);
}

#[test]
fn an_absent_amount_keeps_the_estimate_and_a_zero_frees_it() {
    let mut held = Held::tokens(80);
    held.report(None, 0, true, true, 10);
    assert_eq!(held.used(10), 80);
    let mut held = Held::tokens(80);
    held.report(Some(0), 0, true, true, 10);
    assert_eq!(held.used(10), 0);
}

#[test]
fn several_attempts_add_up_and_only_the_final_one_frees_what_is_left() {
    let mut held = Held::tokens(80);
    held.report(Some(20), 0, false, true, 10);
    assert_eq!((held.used(10), held.reservation.state), (80, ReservationState::Open));
    held.report(Some(30), 0, false, true, 20);
    held.report(Some(15), 0, true, true, 30);
    assert_eq!(held.used(30), 65);
    held.report(Some(5), 0, true, true, 40);
    assert_eq!(held.used(40), 70);
}

#[test]
fn releasing_gives_all_back_but_what_attempts_have_used() {
    let mut held = Held::tokens(80);
    held.report(Some(20), 0, false, true, 10);
    held.reservation.release(&mut held.counters, Millis::new(NOON + 20));
    assert_eq!((held.used(20), held.reservation.state), (20, ReservationState::Released));
}

#[test]
fn a_reservation_that_is_over_is_neither_released_nor_expired_again() {
    let mut held = Held::tokens(80);
    held.report(Some(30), 0, true, false, 10);
    let settled = held.reservation.clone();
    held.reservation.release(&mut held.counters, Millis::new(NOON + 20));
    held.reservation.expire(&mut held.counters, Millis::new(NOON + 20));
    assert_eq!((held.used(20), held.reservation), (80, settled));
}

#[test]
fn a_limit_on_cost_is_corrected_by_the_cost() {
    let mut held = Held::new(TOKENS_PER_MINUTE, Unit::Cost, 80);
    held.report(None, 30, true, true, 10);
    assert_eq!(held.used(10), 30);
    let mut held = Held::new(TOKENS_PER_MINUTE, Unit::Cost, 80);
    held.report(None, 95, true, true, 10);
    assert_eq!(held.used(10), 95);
}

#[test]
fn a_bucket_that_was_forgotten_meanwhile_is_still_charged_what_was_used_beyond_the_estimate() {
    let refill = Refill::new(1, 1_000, 100).unwrap();
    let mut held = Held::new(Limit::TokenBucket { capacity: 100, refill }, Unit::Tokens, 2);
    held.counters.sweep(Millis::new(NOON + 5_000));
    assert_eq!(held.counters, MemoryCounters::default());
    held.report(Some(52), 0, true, true, 10_000);
    assert_eq!(held.used(10_000), 42, "what it would have if all had been taken at once");
}

#[test]
fn an_expired_reservation_holds_its_floor_until_its_event_is_settled() {
    let limit = Limit::Budget { nanos: 100, bounds: None };
    let mut held = Held::new(limit, Unit::Cost, 80);
    held.reservation.expire(&mut held.counters, Millis::new(NOON + 600_000));
    assert!(held.reservation.awaits_floor_event());
    assert_eq!(held.used(600_000), 3);
    held.report(None, 3, true, false, 600_000);
    assert!(!held.reservation.awaits_floor_event());
    let reading =
        held.counters.get(CounterId(1)).unwrap().counter.read(&limit, 0, Millis::new(NOON + 600_000));
    assert_eq!((reading.used, reading.held), (3, 0));
}

#[test]
fn a_floor_above_what_is_held_never_holds_more() {
    let mut held = Held::new(Limit::Budget { nanos: 100, bounds: None }, Unit::Cost, 2);
    held.reservation.expire(&mut held.counters, Millis::new(NOON + 600_000));
    assert_eq!(held.used(600_000), 2);
}

#[test]
fn what_partial_reports_have_spent_is_not_part_of_the_floor_any_more() {
    let limit = Limit::Budget { nanos: 100, bounds: None };
    for (spent, left) in [(0, 3), (2, 1), (3, 0), (40, 0)] {
        let mut held = Held::new(limit, Unit::Cost, 80);
        held.report(None, spent, false, true, 10);
        assert_eq!(held.reservation.floor, Nanos::from_stored(left));
        held.reservation.expire(&mut held.counters, Millis::new(NOON + 600_000));
        assert_eq!(held.used(600_000), i128::from(spent + left));
        assert_eq!(held.reservation.awaits_floor_event(), left > 0);
    }
}

fn every_kind() -> [Limit; 6] {
    let refill = Refill::new(1, 60_000, 100).unwrap();
    let bounds = CalendarPeriod::Hour.bounds(&Zone::UTC, Millis::new(NOON));
    [
        Limit::TokenBucket { capacity: 100, refill },
        TOKENS_PER_MINUTE,
        Limit::SlidingWindow { limit: 100, window_ms: 60_000 },
        Limit::CalendarWindow { limit: 100, bounds },
        Limit::Budget { nanos: 100, bounds: Some(bounds) },
        Limit::Budget { nanos: 100, bounds: None },
    ]
}

fn unit_of(limit: Limit) -> Unit {
    if matches!(limit, Limit::Budget { .. }) { Unit::Cost } else { Unit::Tokens }
}

#[test]
fn a_limit_that_was_only_tested_is_charged_what_the_call_used() {
    for limit in every_kind() {
        let mut held = Held::new(limit, unit_of(limit), 0);
        assert_eq!(held.counters, MemoryCounters::default(), "testing {limit:?} makes no counter");
        held.report(Some(30), 30, false, true, 10);
        held.report(Some(12), 12, true, true, 20);
        assert_eq!(held.used(20), 42, "{limit:?}");
        held.counters.sweep(Millis::new(NOON + 20));
        assert_eq!(held.used(20), 42, "{limit:?} is not forgotten");
    }
}

#[test]
fn a_tested_limit_is_charged_beside_what_others_took_of_it() {
    for limit in every_kind() {
        let mut held = Held::new(limit, unit_of(limit), 0);
        let other = decide(&mut held.counters, &[charge(1, limit, 20)], Mode::Reserve, Millis::new(NOON + 5));
        assert!(other.allowed);
        held.report(Some(30), 30, true, true, 10);
        assert_eq!(held.used(10), 50, "{limit:?}");
    }
}

#[test]
fn a_tested_limit_whose_window_has_closed_is_corrected_in_the_books_alone() {
    for limit in [TOKENS_PER_MINUTE, Limit::SlidingWindow { limit: 100, window_ms: 60_000 }] {
        let mut held = Held::new(limit, Unit::Tokens, 0);
        held.report(Some(30), 0, true, true, 120_000);
        assert_eq!(held.counters, MemoryCounters::default(), "{limit:?}");
    }
}

#[test]
fn a_tested_limit_is_charged_in_its_own_window_when_its_counter_is_of_an_older_one() {
    let hour_ms = 3_600_000;
    let hour = |now: Millis| CalendarPeriod::Hour.bounds(&Zone::UTC, now);
    let limits: [fn(Bounds) -> Limit; 4] = [
        |_| TOKENS_PER_MINUTE,
        |_| Limit::SlidingWindow { limit: 100, window_ms: 60_000 },
        |bounds| Limit::CalendarWindow { limit: 100, bounds },
        |bounds| Limit::Budget { nanos: 100, bounds: Some(bounds) },
    ];
    for limit in limits {
        let before = Millis::new(NOON - hour_ms);
        let mut held = Held::new(limit(hour(before)), unit_of(limit(hour(before))), 0);
        let old = charge(1, held.limit, 20);
        assert!(decide(&mut held.counters, &[old], Mode::Reserve, before).allowed);
        held.limit = limit(hour(Millis::new(NOON)));
        let tested = charge(1, held.limit, 0);
        let verdict = decide(&mut held.counters, &[tested], Mode::Reserve, Millis::new(NOON));
        held.reservation.captured = capture(&[tested], [unit_of(held.limit)].iter(), &verdict);
        held.report(Some(30), 30, true, true, 10);
        assert_eq!(held.used(10), 30, "{:?}", held.limit);
    }
}

#[test]
fn a_tested_limit_owes_nothing_to_a_call_that_was_given_back() {
    for limit in every_kind() {
        let mut held = Held::new(limit, unit_of(limit), 0);
        held.reservation.release(&mut held.counters, Millis::new(NOON + 10));
        assert_eq!(held.counters, MemoryCounters::default(), "{limit:?}");
    }
}

mod conservation;

#[test]
fn a_call_at_the_same_time_is_held_until_its_final_report_whatever_it_used() {
    let limit = Limit::Concurrency { limit: 4 };
    let mut held = Held::new(limit, Unit::Requests, 3);
    let used = |held: &Held| held.counters.0[&CounterId(1)].counter.read(&limit, 0, Millis::new(NOON)).used;
    held.report(None, 5, false, true, 1);
    assert_eq!(used(&held), 3);
    // Whether its figures are exact does not matter: the call is over.
    held.report(None, 5, true, false, 2);
    assert_eq!(used(&held), 0);
    held.report(None, 5, true, true, 3);
    assert_eq!((used(&held), held.reservation.captured[0].taken), (0, 0));
}

#[test]
fn a_call_at_the_same_time_ends_with_its_release_and_its_expiry() {
    let limit = Limit::Concurrency { limit: 4 };
    let ends: [fn(&mut Reservation, &mut MemoryCounters, Millis); 2] =
        [|held, counters, now| held.release(counters, now), |held, counters, now| held.expire(counters, now)];
    for end in ends {
        let mut held = Held::new(limit, Unit::Requests, 3);
        end(&mut held.reservation, &mut held.counters, Millis::new(NOON + 1));
        assert!(held.counters.0[&CounterId(1)].counter.is_idle(Millis::new(NOON + 1)));
    }
}

#[test]
fn a_renewal_never_shortens_and_has_an_end() {
    let mut reservation = open_reservation(SmallVec::new(), Nanos::ZERO);
    let before = reservation.expires_at;
    reservation.renew(before.plus(-1));
    assert_eq!(reservation.expires_at, before);
    reservation.renew(before.plus(5));
    assert_eq!(reservation.expires_at, before.plus(5));
    reservation.renew(Millis::new(i64::MAX));
    assert_eq!(reservation.expires_at, reservation.decided_at.plus(RESERVATION_LIFE_MS_MAX));
    reservation.state = ReservationState::Released;
    let ended = reservation.clone();
    reservation.renew(Millis::new(i64::MAX));
    assert_eq!(reservation, ended);
}

#[test]
fn what_was_set_back_is_neither_charged_nor_given_back_by_a_reservation_from_before() {
    for used in [2, 9] {
        let mut held = Held::tokens(5);
        held.counters.0.get_mut(&CounterId(1)).unwrap().counter.set_back();
        held.reservation.forget(|id| id == CounterId(1));
        let another = charge(1, TOKENS_PER_MINUTE, 4);
        decide(&mut held.counters, &[another], Mode::Consume, Millis::new(NOON));
        held.report(Some(used), 0, true, true, 1);
        let counter = &held.counters.0[&CounterId(1)].counter;
        assert_eq!(counter.read(&TOKENS_PER_MINUTE, 0, Millis::new(NOON + 1)).used, 4);
    }
}
