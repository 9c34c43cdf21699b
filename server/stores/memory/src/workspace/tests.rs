//! The store against a plain model: the core over ordered maps, one thing after another.

use std::collections::BTreeMap;

use proptest::prelude::*;
use rateguard_core::counter::{Counter, CounterId, Limit, Position, Reading};
use rateguard_core::decision::{Counters, Entry, Mode, decide};
use rateguard_core::ids::ReservationId;
use rateguard_core::reservation::{Reservation, ReservationState, Settlement, capture, charge_unreserved};
use rateguard_core::time::{Bounds, Millis};
use rateguard_core::unit::Unit;
use rateguard_engine::ports::{CheckOutcome, Decided, ReleaseOutcome, StoreError};
use rateguard_store_suite::counter_store::world::{
    Ask, Caller, RESERVATION_MS, Report, any_minute, ask, at, bucket, prepaid,
};

use crate::testing::MemoryBackend;

/// Length of the model's calendar window and budget period.
const PERIOD_MS: i64 = 150_000;
/// Limits of the model.
const LIMITS: usize = 6;

/// All limits as they are at an instant, asked for `amount`.
fn asks(now: Millis, amount: i64) -> [Ask; LIMITS] {
    let start = Millis::new(now.get() - now.get() % PERIOD_MS);
    let bounds = Bounds { start, end: start.plus(PERIOD_MS), next_end: start.plus(2 * PERIOD_MS) };
    [
        ask(1, Limit::FixedWindow { limit: 40, window_ms: 30_000 }, amount).of(Unit::Tokens),
        ask(2, any_minute(60), amount).of(Unit::Tokens),
        ask(3, bucket(50, 70), 1),
        ask(4, Limit::CalendarWindow { limit: 30, bounds }, 1),
        ask(5, prepaid(2_000), amount * 10),
        ask(6, Limit::Budget { nanos: 900, bounds: Some(bounds) }, amount * 10).shadow(),
    ]
}

#[derive(Clone, Debug)]
enum Step {
    Check { mode: Mode, limits: u8, amount: i64 },
    Settle { pick: usize, cost: i64, tokens: i64, is_final: bool, refund: bool },
    Report { limits: u8, cost: i64, age_ms: i64 },
    Release { pick: usize },
    Wait { ms: i64 },
    Sweep,
    Checkpoint,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let mode = prop_oneof![Just(Mode::Consume), Just(Mode::Peek), Just(Mode::Reserve)];
    let step = prop_oneof![
        8 => (mode, 1..64_u8, 1..30_i64)
            .prop_map(|(mode, limits, amount)| Step::Check { mode, limits, amount }),
        4 => (0..8_usize, 0..400_i64, 0..40_i64, any::<bool>(), any::<bool>()).prop_map(
            |(pick, cost, tokens, is_final, refund)| Step::Settle { pick, cost, tokens, is_final, refund }
        ),
        2 => (1..64_u8, 0..200_i64, 0..200_000_i64)
            .prop_map(|(limits, cost, age_ms)| Step::Report { limits, cost, age_ms }),
        1 => (0..8_usize).prop_map(|pick| Step::Release { pick }),
        4 => prop_oneof![-5_000..40_000_i64, Just(RESERVATION_MS)].prop_map(|ms| Step::Wait { ms }),
        1 => Just(Step::Sweep),
        1 => Just(Step::Checkpoint),
    ];
    proptest::collection::vec(step, 1..80)
}

/// Counters in an ordered map.
#[derive(Default)]
struct PlainCounters(BTreeMap<CounterId, Entry>);

impl Counters for PlainCounters {
    fn get(&self, id: CounterId) -> Option<&Entry> {
        self.0.get(&id)
    }

    fn get_mut(&mut self, id: CounterId) -> Option<&mut Entry> {
        self.0.get_mut(&id)
    }

    fn get_or_insert(&mut self, id: CounterId, limit: &Limit, now: Millis) -> &mut Entry {
        let fresh = || Entry { counter: Counter::fresh(limit, now), included: Position(0) };
        self.0.entry(id).or_insert_with(fresh)
    }
}

impl PlainCounters {
    /// Forgets full buckets. It is the one thing that shows: what was used before a bucket's last
    /// change then counts from when it was used, and not from that change.
    fn sweep(&mut self, now: Millis) {
        self.0.retain(|_, entry| {
            !(matches!(entry.counter, Counter::TokenBucket(_)) && entry.counter.is_idle(now))
        });
    }
}

/// The store and the model, side by side.
struct Pair {
    caller: Caller,
    counters: PlainCounters,
    reservations: Vec<Reservation>,
    clock: Millis,
    asked: Millis,
}

impl Pair {
    /// Takes a step on both and says what differs in the answers.
    async fn take(&mut self, step: &Step) -> Result<(), TestCaseError> {
        self.expire_due().await;
        match *step {
            Step::Check { mode, limits, amount } => return self.check(mode, limits, amount).await,
            Step::Settle { pick, cost, tokens, is_final, refund } => {
                self.settle(pick, cost, tokens, is_final, refund).await;
            }
            Step::Report { limits, cost, age_ms } => self.report(limits, cost, age_ms).await,
            Step::Release { pick } => return self.release(pick).await,
            Step::Wait { ms } => {
                self.asked = self.clock.plus(ms);
                self.clock = self.clock.max(self.asked);
            }
            Step::Sweep => {
                self.caller.sweep(self.asked).await;
                self.counters.sweep(self.clock);
            }
            Step::Checkpoint => self.caller.store.checkpoint(false).await.expect("the fake disk is well"),
        }
        Ok(())
    }

    fn chosen(&self, limits: u8, amount: i64, mode: Mode) -> Vec<Ask> {
        let chosen = asks(self.clock, amount).into_iter().enumerate();
        let chosen = chosen.filter(|(place, _)| limits >> place & 1 == 1).map(|(_, ask)| ask);
        let unknown = amount % 4 == 0;
        let is_probed = |ask: &Ask| match ask.unit {
            Unit::Cost => mode == Mode::Consume || unknown,
            _ => unknown && ask.unit == Unit::Tokens,
        };
        chosen.map(|ask| if is_probed(&ask) { ask.probe() } else { ask }).collect()
    }

    async fn check(&mut self, mode: Mode, limits: u8, amount: i64) -> Result<(), TestCaseError> {
        let asks = self.chosen(limits, amount, mode);
        let command = self.caller.command(mode, &asks, self.asked);
        let verdict = decide(&mut self.counters, &command.charges, mode, self.clock);
        if let Some(request) = command.reservation.as_ref().filter(|_| verdict.allowed) {
            self.reservations.push(Reservation {
                id: request.id.clone(),
                key: request.principal.key.clone(),
                by_gateway: request.principal.by_gateway,
                state: ReservationState::Open,
                decided_at: self.clock,
                expires_at: self.clock.plus(RESERVATION_MS),
                floor: request.floor,
                included: Position::default(),
                call: request.call.clone(),
                request_id: None,
                captured: capture(&command.charges, command.units.iter(), &verdict),
            });
        }
        let made = self.reservations.last().filter(|_| verdict.allowed && mode == Mode::Reserve);
        let reservation = made.map(|reservation| (reservation.id.clone(), reservation.expires_at));
        let expected = Decided { verdict, reservation, reserved: None, replayed: false };
        prop_assert_eq!(self.caller.send(command).await, CheckOutcome::Decided(expected));
        Ok(())
    }

    async fn settle(&mut self, pick: usize, cost: i64, tokens: i64, is_final: bool, refund: bool) {
        let mut open: Vec<_> =
            self.reservations.iter_mut().filter(|r| r.state == ReservationState::Open).collect();
        let count = open.len().max(1);
        let Some(reservation) = open.get_mut(pick % count) else { return };
        let mut report = Report::settling(reservation, cost).used(Unit::Tokens, tokens);
        report = if is_final { report } else { report.not_final() };
        report = if refund { report } else { report.guessed() };
        let command = self.caller.report(report, self.asked).await;
        let settlement = Settlement {
            position: command.position,
            amounts: &command.amounts,
            cost: command.cost,
            is_final,
            refund,
            now: self.clock,
        };
        reservation.settle(&mut self.counters, &settlement);
    }

    async fn report(&mut self, limits: u8, cost: i64, age_ms: i64) {
        let mut report = Report::of_cost(cost);
        report.accounted_at = Some(self.clock.plus(-age_ms));
        for ask in self.chosen(limits, 3, Mode::Peek) {
            let amount = if ask.unit == Unit::Cost { cost } else { 3 };
            report = report.charging(&ask, amount);
        }
        let command = self.caller.report(report, self.asked).await;
        let (position, accounted_at) = (command.position, command.accounted_at);
        for charge in command.charges {
            let (id, limit, amount) = (charge.counter, charge.limit, charge.amount);
            charge_unreserved(&mut self.counters, id, &limit, amount, position, accounted_at, self.clock);
        }
    }

    async fn release(&mut self, pick: usize) -> Result<(), TestCaseError> {
        let count = self.reservations.len().max(1);
        let Some(reservation) = self.reservations.get_mut(pick % count) else { return Ok(()) };
        if reservation.state == ReservationState::Open {
            reservation.release(&mut self.counters, self.clock);
        }
        let released = self.caller.release(&reservation.id, self.asked).await;
        prop_assert_eq!(released, ReleaseOutcome::State(reservation.state));
        Ok(())
    }

    async fn expire_due(&mut self) {
        self.caller.store.expire_due(self.asked, 100).await.expect("memory expires");
        for reservation in &mut self.reservations {
            if reservation.state == ReservationState::Open && reservation.expires_at <= self.clock {
                reservation.expire(&mut self.counters, self.clock);
            }
        }
    }

    async fn compare(&self) -> Result<(), TestCaseError> {
        let asks = asks(self.clock, 0);
        let plain = |ask: &Ask| -> Reading {
            let limit = &ask.charge.limit;
            match self.counters.get(ask.charge.counter) {
                Some(entry) => entry.counter.read(limit, 0, self.clock),
                None => Counter::fresh(limit, self.clock).read(limit, 0, self.clock),
            }
        };
        let expected: Vec<Reading> = asks.iter().map(plain).collect();
        prop_assert_eq!(self.caller.read(&asks, self.asked).await, expected);
        for reservation in &self.reservations {
            let known = self.caller.reservation(&reservation.id).await;
            let state = known.map(|known| (known.state, known.decided_at, known.expires_at));
            let expected = (reservation.state, reservation.decided_at, reservation.expires_at);
            prop_assert_eq!(state, Some(expected));
        }
        Ok(())
    }
}

proptest! {
    #[test]
    fn the_store_does_what_the_core_does(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        runtime.expect("a runtime starts").block_on(async {
            let caller = Caller::new(MemoryBackend::default().load(at(0)).await, 1);
            let (counters, reservations) = (PlainCounters::default(), Vec::new());
            let mut pair = Pair { caller, counters, reservations, clock: at(0), asked: at(0) };
            for step in &steps {
                pair.take(step).await?;
                pair.compare().await?;
            }
            Ok::<(), TestCaseError>(())
        })?;
    }
}

#[tokio::test]
async fn a_reserve_finds_the_store_full_when_all_are_open() {
    let caller = Caller::new(MemoryBackend::default().load(at(0)).await, 1);
    let limited = [ask(1, any_minute(1_000), 1)];
    assert_eq!(caller.reserve_until_denied(&limited, 500, at(0)).await, 500);
    let full = caller.store.check(&caller.command(Mode::Reserve, &limited, at(1))).await;
    assert!(matches!(full, Err(StoreError::Full { .. })), "{full:?}");
    assert_eq!(caller.used(&limited[0], at(1)).await, 500);
    assert!(caller.reserve(&limited, at(RESERVATION_MS)).await.is_some(), "the first have expired");
}

#[tokio::test]
async fn a_reservation_id_is_given_once() {
    let caller = Caller::new(MemoryBackend::default().load(at(0)).await, 1);
    let limited = [ask(1, any_minute(1_000), 1)];
    let command = caller.command(Mode::Reserve, &limited, at(0));
    assert!(caller.decide(command.clone()).await.reservation.is_some());
    let again = caller.store.check(&command).await;
    assert_eq!(again, Err(StoreError::AlreadyExists { field: "reservation id" }));
}

#[tokio::test]
async fn a_reserve_without_a_reservation_to_make_takes_nothing() {
    let caller = Caller::new(MemoryBackend::default().load(at(0)).await, 1);
    let limited = [ask(1, any_minute(1_000), 1)];
    let mut command = caller.command(Mode::Reserve, &limited, at(0));
    command.reservation = None;
    assert!(matches!(caller.store.check(&command).await, Err(StoreError::Unavailable { .. })));
    assert_eq!(caller.used(&limited[0], at(0)).await, 0);
}

#[tokio::test]
async fn a_reservation_lives_in_the_time_of_its_workspace() {
    let caller = Caller::new(MemoryBackend::default().load(at(0)).await, 1);
    let limited = [ask(1, any_minute(1_000), 1)];
    assert!(caller.consume(&limited, at(50_000)).await);
    let open = caller.reserve(&limited, at(0)).await.expect("there is room");
    assert_eq!((open.decided_at, open.expires_at), (at(50_000), at(50_000 + RESERVATION_MS)));
    let unknown = ReservationId::from_bits(99);
    assert_eq!(caller.reservation(&unknown).await, None);
}
