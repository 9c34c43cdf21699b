use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::counter::Refill;
use crate::counter::tests::{any_limit, any_step_ms};
use crate::time::{CalendarPeriod, Zone};

/// Counters in memory, as simple as can be.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct MemoryCounters(pub(crate) BTreeMap<CounterId, Entry>);

impl Counters for MemoryCounters {
    fn get(&self, id: CounterId) -> Option<&Entry> {
        self.0.get(&id)
    }

    fn get_mut(&mut self, id: CounterId) -> Option<&mut Entry> {
        self.0.get_mut(&id)
    }

    fn get_or_insert(&mut self, id: CounterId, limit: &Limit, now: Millis) -> &mut Entry {
        self.0
            .entry(id)
            .or_insert_with(|| Entry { counter: Counter::fresh(limit, now), included: Position::default() })
    }
}

impl MemoryCounters {
    /// Forgets what equals a fresh counter, as stores do.
    pub(crate) fn sweep(&mut self, now: Millis) {
        self.0.retain(|_, entry| !entry.counter.is_idle(now));
    }
}

/// How many cases a property is tried on. Failures are told, not written into the source.
pub(crate) fn cases(count: u32) -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(count) }
}

/// Any instant to begin at.
pub(crate) const NOON: i64 = 1_700_000_000_000;

pub(crate) fn charge(counter: u128, limit: Limit, amount: i64) -> Charge {
    Charge {
        counter: CounterId(counter),
        overflow: CounterId(u128::MAX),
        limit,
        demand: Demand::take(amount),
        enforcement: Enforcement::Enforced,
        counts_denied: false,
    }
}

fn fixed(limit: i64) -> Limit {
    Limit::FixedWindow { limit, window_ms: 60_000 }
}

fn used(counters: &MemoryCounters, charge: &Charge, now: Millis) -> i128 {
    read(counters, charge, 0, now).used
}

#[test]
fn a_call_denied_by_one_limit_burns_nothing_of_the_others() {
    let (mut counters, now) = (MemoryCounters::default(), Millis::new(NOON));
    let charges = [charge(1, fixed(1_000), 1), charge(2, fixed(500), 1)];
    let admitted = (0..1_000).filter(|_| decide(&mut counters, &charges, Mode::Consume, now).allowed).count();
    assert_eq!(admitted, 500);
    assert_eq!(read(&counters, &charges[0], 0, now).remaining, 500);
    assert_eq!(read(&counters, &charges[1], 0, now).remaining, 0);
}

#[test]
fn a_soft_limit_counts_and_tells_but_never_denies() {
    let (mut counters, now) = (MemoryCounters::default(), Millis::new(NOON));
    let soft = Charge { enforcement: Enforcement::Soft, ..charge(1, fixed(10), 8) };
    assert!(decide(&mut counters, &[soft], Mode::Consume, now).allowed);
    let second = decide(&mut counters, &[soft], Mode::Consume, now);
    assert!(second.allowed && second.readings[0].denied.is_some());
    assert_eq!(used(&counters, &soft, now), 16);
    assert_eq!(second.limiting(&[soft]), None);
}

#[test]
fn a_shadow_limit_moves_only_when_it_would_have_allowed_and_the_call_passed() {
    let (mut counters, now) = (MemoryCounters::default(), Millis::new(NOON));
    let shadow = Charge { enforcement: Enforcement::Shadow, ..charge(1, fixed(10), 8) };
    let refused = [shadow, charge(2, fixed(7), 8)];
    assert!(!decide(&mut counters, &refused, Mode::Consume, now).allowed);
    assert_eq!(used(&counters, &shadow, now), 0);
    assert!(decide(&mut counters, &[shadow], Mode::Consume, now).allowed);
    let would_deny = decide(&mut counters, &[shadow], Mode::Consume, now);
    assert!(would_deny.allowed && would_deny.readings[0].denied.is_some() && would_deny.marks[0].is_none());
    assert_eq!(used(&counters, &shadow, now), 8);
}

#[test]
fn a_probe_takes_nothing_and_fails_only_when_nothing_is_left() {
    let (mut counters, now) = (MemoryCounters::default(), Millis::new(NOON));
    let probe = Charge { demand: Demand::PROBE, ..charge(1, fixed(10), 0) };
    assert!(decide(&mut counters, &[probe], Mode::Consume, now).allowed);
    assert_eq!(counters, MemoryCounters::default());
    assert!(decide(&mut counters, &[charge(1, fixed(10), 10)], Mode::Consume, now).allowed);
    assert!(!decide(&mut counters, &[probe], Mode::Consume, now).allowed);
}

#[test]
fn a_limit_that_counts_denied_amounts_goes_into_debt_and_denies_amounts_of_nothing() {
    let (mut counters, now) = (MemoryCounters::default(), Millis::new(NOON));
    let of = |amount| Charge { counts_denied: true, ..charge(1, fixed(10), amount) };
    assert!(decide(&mut counters, &[of(0)], Mode::Consume, now).allowed);
    assert!(!decide(&mut counters, &[of(25)], Mode::Consume, now).allowed);
    assert_eq!(used(&counters, &of(0), now), 25);
    let asked = decide(&mut counters, &[of(0)], Mode::Consume, now);
    assert!(!asked.allowed && matches!(asked.readings[0].denied, Some(RetryAfter::Millis(_))));
    assert!(decide(&mut counters, &[charge(1, fixed(10), 0)], Mode::Consume, now).allowed, "an unmarked one");
}

#[test]
fn a_denied_amount_is_taken_by_marked_limits_of_a_consume_alone() {
    let (mut counters, now) = (MemoryCounters::default(), Millis::new(NOON));
    let marked = Charge { counts_denied: true, ..charge(1, fixed(10), 3) };
    let charges = [charge(2, fixed(10), 3), marked, charge(3, fixed(0), 1)];
    for mode in [Mode::Peek, Mode::Reserve] {
        assert!(!decide(&mut counters, &charges, mode, now).allowed);
        assert_eq!(counters, MemoryCounters::default());
    }
    assert!(!decide(&mut counters, &charges, Mode::Consume, now).allowed);
    assert_eq!(charges.map(|charge| used(&counters, &charge, now)), [0, 3, 0]);
}

#[test]
fn giving_back_makes_no_counter_and_no_credit() {
    let (mut counters, now) = (MemoryCounters::default(), Millis::new(NOON));
    let back = Charge { demand: Demand::give_back(5), ..charge(1, fixed(10), 0) };
    assert!(decide(&mut counters, &[back], Mode::Consume, now).allowed);
    assert_eq!(counters, MemoryCounters::default());
    assert!(decide(&mut counters, &[charge(1, fixed(10), 3)], Mode::Consume, now).allowed);
    assert!(decide(&mut counters, &[back], Mode::Consume, now).allowed);
    assert_eq!(used(&counters, &back, now), 0);
}

#[test]
fn charges_on_one_counter_are_asked_together() {
    let (mut counters, now) = (MemoryCounters::default(), Millis::new(NOON));
    let of = |amount| charge(1, fixed(10), amount);
    let denied = decide(&mut counters, &[of(6), of(6)], Mode::Consume, now);
    assert!(denied.readings[0].denied.is_none());
    assert_eq!(denied.readings[1].denied, Some(RetryAfter::Never), "both never fit");
    assert!(decide(&mut counters, &[of(6), of(0), of(4)], Mode::Consume, now).allowed);
}

#[test]
fn the_limiting_rule_is_the_one_that_is_waited_for_longest_and_never_outlasts_all() {
    let (mut counters, now) = (MemoryCounters::default(), Millis::new(NOON - NOON % 60_000));
    let hour = Limit::FixedWindow { limit: 1, window_ms: 3_600_000 };
    let charges = [charge(1, fixed(1), 1), charge(2, hour, 1), charge(3, hour, 1)];
    assert!(decide(&mut counters, &charges, Mode::Consume, now).allowed);
    let denied = decide(&mut counters, &charges, Mode::Consume, now);
    let until_the_hour_ms = 3_600_000 - now.get() % 3_600_000;
    assert_eq!(denied.limiting(&charges), Some((1, RetryAfter::Millis(until_the_hour_ms))));
    let with_prepaid = [charges[0], charges[1], charge(4, Limit::Budget { nanos: 5, bounds: None }, 6)];
    let denied = decide(&mut counters, &with_prepaid, Mode::Reserve, now);
    assert_eq!(denied.limiting(&with_prepaid), Some((2, RetryAfter::Never)));
}

#[test]
fn a_reading_after_the_decision_shows_what_it_took() {
    let (mut counters, now) = (MemoryCounters::default(), Millis::new(NOON));
    let bounds = CalendarPeriod::Month.bounds(&Zone::UTC, now);
    let refill = Refill::new(1, 1_000, 10).unwrap();
    let charges = [
        charge(1, Limit::Budget { nanos: 100, bounds: Some(bounds) }, 30),
        charge(2, Limit::TokenBucket { capacity: 10, refill }, 4),
    ];
    let verdict = decide(&mut counters, &charges, Mode::Reserve, now);
    assert_eq!((verdict.readings[0].held, verdict.readings[0].remaining), (30, 70));
    assert_eq!(verdict.readings[0].reset_at, Some(bounds.end));
    assert_eq!(verdict.readings[1].remaining, 6);
    assert_eq!(verdict.readings[1].reset_at, Some(now.plus(4_000)));
}

fn any_enforcement() -> impl Strategy<Value = Enforcement> {
    prop_oneof![
        4 => Just(Enforcement::Enforced),
        1 => Just(Enforcement::Soft),
        2 => Just(Enforcement::Shadow)
    ]
}

fn any_mode() -> impl Strategy<Value = Mode> {
    prop::sample::select(vec![Mode::Consume, Mode::Reserve, Mode::Peek])
}

prop_compose! {
    fn any_call()(
        step_ms in any_step_ms(),
        mode in any_mode(),
        amounts in prop::collection::vec(0_i64..12, 4),
        which in prop::collection::vec(any::<bool>(), 4),
    ) -> (i64, Mode, Vec<i64>, Vec<bool>) {
        (step_ms, mode, amounts, which)
    }
}

/// What a decision must have done to one counter, told from the state before it alone.
fn assert_moved_rightly(
    before: &MemoryCounters,
    after: &MemoryCounters,
    charge: &Charge,
    (taken, mode): (bool, Mode),
    now: Millis,
) {
    let moved = used(after, charge, now) - used(before, charge, now);
    let would_deny = read(before, charge, charge.need(&[]), now).denied.is_some();
    let passes = taken && !(charge.enforcement == Enforcement::Shadow && would_deny);
    let moves = passes || charge.is_taken_denied(mode);
    assert_eq!(moved, if moves { i128::from(charge.demand.take) } else { 0 }, "{charge:?}");
    if taken && charge.enforcement == Enforcement::Enforced {
        assert!(!would_deny, "an enforced limit that denies let a call pass: {charge:?}");
    }
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn all_limits_move_by_their_amounts_or_none_does(
        limits in prop::collection::vec((any_limit(), any_enforcement(), any::<bool>()), 4),
        calls in prop::collection::vec(any_call(), 1..30),
    ) {
        let (mut counters, mut now) = (MemoryCounters::default(), Millis::new(NOON));
        for (step_ms, mode, amounts, which) in calls {
            now = now.plus(step_ms);
            let charges: Vec<Charge> = (0..4).filter(|i| which[*i]).map(|i| {
                let (limit, enforcement, marked) = &limits[i];
                let limit = limit.at(now);
                let counts_denied = *marked && !matches!(limit, Limit::Budget { .. });
                Charge { enforcement: *enforcement, counts_denied, ..charge(i as u128, limit, amounts[i]) }
            }).collect();
            let before = counters.clone();
            let verdict = decide(&mut counters, &charges, mode, now);
            let taken = verdict.allowed && mode != Mode::Peek;
            if !taken && !charges.iter().any(|charge| charge.is_taken_denied(mode)) {
                prop_assert_eq!(&before, &counters, "a call that took nothing changed something");
            }
            for charge in &charges {
                assert_moved_rightly(&before, &counters, charge, (taken, mode), now);
            }
            let denied = charges.iter().any(|charge| {
                charge.enforcement == Enforcement::Enforced
                    && read(&before, charge, charge.need(&[]), now).denied.is_some()
            });
            prop_assert_eq!(verdict.allowed, !denied);
            prop_assert_eq!(verdict.limiting(&charges).is_some(), denied);
        }
    }
}
