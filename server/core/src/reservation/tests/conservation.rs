//! Nothing of a budget's money is lost or made: a ledger that knows only what was asked and
//! reported must agree with the counter after every step.

use std::collections::BTreeMap;

use super::*;
use crate::counter::BudgetCounter;
use crate::decision::tests::cases;

#[derive(Clone, Debug)]
enum Step {
    Reserve { estimate: i64, floor: i64 },
    Settle { which: prop::sample::Index, cost: i64, is_final: bool },
    Release(prop::sample::Index),
    Expire(prop::sample::Index),
    FloorEvent(prop::sample::Index),
    Report { cost: i64, ago_ms: i64 },
    Correct { which: prop::sample::Index },
}

fn any_step() -> impl Strategy<Value = Step> {
    let which = any::<prop::sample::Index>;
    prop_oneof![
        5 => (0_i64..40, 0_i64..50).prop_map(|(estimate, floor)| Step::Reserve { estimate, floor }),
        5 => (which(), 0_i64..60, any::<bool>())
            .prop_map(|(which, cost, is_final)| Step::Settle { which, cost, is_final }),
        1 => which().prop_map(Step::Release),
        2 => which().prop_map(Step::Expire),
        2 => which().prop_map(Step::FloorEvent),
        1 => (0_i64..40, 0_i64..100_000_000).prop_map(|(cost, ago_ms)| Step::Report { cost, ago_ms }),
        1 => which().prop_map(|which| Step::Correct { which }),
    ]
}

/// Mostly seconds, at times most of a day, so that periods end under open reservations.
fn any_pause_ms() -> impl Strategy<Value = i64> {
    prop_oneof![5 => 0_i64..5_000, 2 => 0_i64..60_000_000]
}

/// What the ledger knows of one reservation.
struct Open {
    reservation: Reservation,
    period: Millis,
    held: i64,
    floor: i64,
    reported: i64,
    charged_floor: i64,
}

#[derive(Default)]
struct Ledger {
    spent: BTreeMap<Millis, i128>,
    open: Vec<Open>,
}

struct Run {
    counters: MemoryCounters,
    ledger: Ledger,
    prepaid: bool,
    now: Millis,
    position: u64,
}

impl Run {
    fn limit(&self) -> Limit {
        let bounds = (!self.prepaid).then(|| CalendarPeriod::Day.bounds(&Zone::UTC, self.now));
        Limit::Budget { nanos: 200, bounds }
    }

    fn period(&self, at: Millis) -> Millis {
        if self.prepaid { Millis::ZERO } else { CalendarPeriod::Day.bounds(&Zone::UTC, at).start }
    }

    fn reserve(&mut self, estimate: i64, floor: i64) {
        let asked = charge(1, self.limit(), estimate);
        let verdict = decide(&mut self.counters, &[asked], Mode::Reserve, self.now);
        if verdict.allowed {
            let captured = capture(&[asked], [Unit::Cost].iter(), &verdict);
            let mut reservation = open_reservation(captured, Nanos::from_stored(floor));
            reservation.decided_at = self.now;
            let period = self.period(self.now);
            let open = Open { reservation, period, held: estimate, floor, reported: 0, charged_floor: 0 };
            self.ledger.open.push(open);
        }
    }

    /// Settles twice at the same position: the second changes nothing.
    fn settle(&mut self, place: usize, cost: i64, is_final: bool) {
        self.position += 1;
        let (position, amounts, now) = (Position(self.position), Amounts::default(), self.now);
        let (cost_nanos, refund) = (Nanos::from_stored(cost), true);
        let settlement = Settlement { position, amounts: &amounts, cost: cost_nanos, is_final, refund, now };
        let open = &mut self.ledger.open[place];
        open.reservation.settle(&mut self.counters, &settlement);
        let (counters, reservation) = (self.counters.clone(), open.reservation.clone());
        open.reservation.settle(&mut self.counters, &settlement);
        assert_eq!((&counters, &reservation), (&self.counters, &open.reservation), "settled twice");
        open.reported += cost;
        open.held = if is_final { 0 } else { open.held - open.held.min(cost) };
        *self.ledger.spent.entry(open.period).or_default() += i128::from(cost);
    }

    fn spend(&mut self, cost: i64, accounted_at: Millis) {
        self.position += 1;
        let (limit, position) = (self.limit(), Position(self.position));
        for _ in 0..2 {
            charge_unreserved(
                &mut self.counters,
                CounterId(1),
                &limit,
                cost,
                position,
                accounted_at,
                self.now,
            );
        }
        *self.ledger.spent.entry(self.period(accounted_at)).or_default() += i128::from(cost);
    }

    fn end(&mut self, place: usize, expire: bool) {
        let open = &mut self.ledger.open[place];
        if open.reservation.state != ReservationState::Open {
            return;
        }
        if expire {
            open.reservation.expire(&mut self.counters, self.now);
            open.held = open.held.min((open.floor - open.reported).max(0));
        } else {
            open.reservation.release(&mut self.counters, self.now);
            open.held = 0;
        }
    }

    fn floor_event(&mut self, place: usize) {
        if self.ledger.open[place].reservation.awaits_floor_event() {
            let floor = self.ledger.open[place].reservation.floor.get();
            self.settle(place, floor, true);
            self.ledger.open[place].charged_floor += floor;
        }
    }

    /// The true report came late: the floor is taken back and the cost counts in full.
    fn correct(&mut self, place: usize) {
        let open = &mut self.ledger.open[place];
        let (floor, decided_at) = (open.charged_floor, open.reservation.decided_at);
        if floor > 0 {
            open.charged_floor = 0;
            self.spend(-floor, decided_at);
            self.spend(floor + 1, decided_at);
        }
    }

    fn step(&mut self, step: &Step) {
        let count = self.ledger.open.len();
        match step {
            Step::Reserve { estimate, floor } => self.reserve(*estimate, *floor),
            Step::Report { cost, ago_ms } => self.spend(*cost, self.now.plus(-ago_ms)),
            _ if count == 0 => {}
            Step::Settle { which, cost, is_final } => {
                let place = which.index(count);
                if self.ledger.open[place].reservation.state == ReservationState::Open {
                    self.settle(place, *cost, *is_final);
                }
            }
            Step::Release(which) => self.end(which.index(count), false),
            Step::Expire(which) => self.end(which.index(count), true),
            Step::FloorEvent(which) => self.floor_event(which.index(count)),
            Step::Correct { which } => self.correct(which.index(count)),
        }
    }

    fn close_all(&mut self) {
        for place in 0..self.ledger.open.len() {
            self.end(place, true);
            self.floor_event(place);
        }
    }

    fn budget(&self) -> Option<BudgetCounter> {
        match &self.counters.get(CounterId(1))?.counter {
            Counter::Budget(budget) => Some(**budget),
            other => panic!("{other:?} is no budget"),
        }
    }

    fn assert_agrees(&self) {
        let Some(budget) = self.budget() else { return };
        for period in std::iter::once(budget.current).chain(budget.previous) {
            let held: i64 = self
                .ledger
                .open
                .iter()
                .filter(|open| open.period == period.start)
                .map(|open| open.held)
                .sum();
            let spent = self.ledger.spent.get(&period.start).copied().unwrap_or(0);
            assert_eq!((period.held, period.spent), (i128::from(held), spent), "{period:?}");
            assert!(period.held >= 0 && period.spent >= 0);
        }
    }
}

proptest! {
    #![proptest_config(cases(800))]

    #[test]
    fn what_is_held_and_spent_is_what_was_asked_and_reported(
        prepaid in any::<bool>(),
        steps in prop::collection::vec((any_pause_ms(), any_step()), 1..50),
    ) {
        let (counters, ledger) = (MemoryCounters::default(), Ledger::default());
        let mut run = Run { counters, ledger, prepaid, now: Millis::new(NOON), position: 0 };
        for (pause_ms, step) in &steps {
            run.now = run.now.plus(*pause_ms);
            run.step(step);
            run.assert_agrees();
        }
        run.close_all();
        run.assert_agrees();
        prop_assert_eq!(run.budget().map_or(0, |budget| budget.held()), 0);
    }
}
