//! Many callers at once: a decision over several counters is one step.

use std::sync::Arc;

use futures::future::join_all;
use rateguard_core::decision::Mode;
use rateguard_core::ids::ReservationId;
use rateguard_core::reservation::ReservationState;
use rateguard_core::unit::Unit;
use rateguard_engine::ports::{CheckCommand, CheckOutcome, CounterStore};

use super::CounterBackend;
use super::world::{Ask, Caller, Report, World, a_minute, any_minute, ask, at, prepaid, request};

/// Callers at once.
const CALLERS: usize = 64;

/// Sends commands from a task for each caller, and counts what is allowed.
async fn allowed_among(store: &Arc<dyn CounterStore>, calls: Vec<Vec<CheckCommand>>) -> usize {
    let callers = calls.into_iter().map(|commands| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut allowed = 0;
            for command in commands {
                let outcome = store.check(&command).await.expect("a store that is well decides");
                allowed += usize::from(matches!(outcome, CheckOutcome::Decided(d) if d.verdict.allowed));
                tokio::task::yield_now().await;
            }
            allowed
        })
    });
    join_all(callers).await.into_iter().map(|allowed| allowed.expect("no caller panics")).sum()
}

fn calls(callers: usize, each: usize, command: impl Fn() -> CheckCommand) -> Vec<Vec<CheckCommand>> {
    (0..callers).map(|_| (0..each).map(|_| command()).collect()).collect()
}

/// 64 callers against a limit of 1,000 and one of 500: exactly 500 pass, and the denied ones have
/// burnt nothing of the first.
pub async fn admits_exactly_the_smaller_limit_to_concurrent_callers(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    let both = [ask(1, a_minute(1_000), 1), ask(2, any_minute(500), 1)];
    let commands = calls(CALLERS, 16, || world.command(Mode::Consume, &both, at(0)));
    assert_eq!(allowed_among(&world.store, commands).await, 500);
    let left: Vec<i64> = world.read(&both, at(1)).await.iter().map(|reading| reading.remaining).collect();
    assert_eq!(left, [500, 0]);
}

/// 64 callers against a budget worth 20 calls: exactly 20 hold.
pub async fn holds_a_budget_exactly_for_concurrent_callers(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    let asks = [ask(1, prepaid(20_000), 1_000), ask(2, a_minute(1_000), 1)];
    let commands = calls(CALLERS, 4, || world.command(Mode::Reserve, &asks, at(0)));
    assert_eq!(allowed_among(&world.store, commands).await, 20);
    let used: Vec<i128> = world.read(&asks, at(1)).await.iter().map(|reading| reading.used).collect();
    assert_eq!(used, [20_000, 20]);
}

/// The same request id from many callers at once takes once, consumed or reserved.
pub async fn takes_once_for_concurrent_repetitions(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    for (id, mode) in [(1, Mode::Consume), (2, Mode::Reserve)] {
        let limit = if mode == Mode::Reserve { prepaid(1_000) } else { a_minute(1_000) };
        let limited = ask(u8::try_from(id).unwrap_or(0), limit, 7);
        let repeated = || {
            let mut command = world.command(mode, std::slice::from_ref(&limited), at(0));
            command.request = Some(request(id, 1));
            command
        };
        assert_eq!(allowed_among(&world.store, calls(CALLERS, 1, repeated)).await, CALLERS);
        assert_eq!(world.used(&limited, at(1)).await, 7);
    }
}

/// A small generator of its own, so that a failure repeats.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// Consumed = settled + reserved, whatever happens at once: at the end nothing is held but by what
/// is open, and what is spent is the sum of the records.
pub async fn conserves_what_is_taken_under_random_concurrency(backend: &impl CounterBackend) {
    let world = World::open(backend).await;
    let lives = (1..=8).map(|seed| tokio::spawn(random_life(Caller::clone(&world), seed)));
    let charged = join_all(lives).await.into_iter().map(|life| life.expect("no caller panics"));
    let (cost, tokens) = charged.fold((0, 0), |sum, life| (sum.0 + life.0, sum.1 + life.1));
    assert!(cost > 0 && tokens > 0);
    let [budget, limit] = shared_limits();
    assert_eq!(world.held(&budget, at(1_000)).await, 0);
    assert_eq!(world.used(&budget, at(1_000)).await, i128::from(cost));
    assert_eq!(world.used(&limit, at(1_000)).await, i128::from(tokens));
}

fn shared_limits() -> [Ask; 2] {
    [ask(1, prepaid(5_000), 100), ask(2, any_minute(10_000), 50).of(Unit::Tokens)]
}

/// Takes and ends reservations at random, and says what it was charged in all.
async fn random_life(world: Caller, seed: u64) -> (i64, i64) {
    let (mut dice, mut charged, mut open) = (Dice(seed * 7_919), (0, 0), Vec::<ReservationId>::new());
    for now in 0..60 {
        match (dice.roll(3), open.pop()) {
            (0, Some(id)) => drop(world.release(&id, at(now)).await),
            (1, Some(id)) => {
                let (cost, tokens) = (dice_amount(&mut dice, 160), dice_amount(&mut dice, 80));
                settle(&world, &id, cost, tokens, now).await;
                charged = (charged.0 + cost, charged.1 + tokens);
            }
            (_, kept) => {
                open.extend(kept);
                open.extend(world.reserve(&shared_limits(), at(now)).await.map(|taken| taken.id));
            }
        }
        tokio::task::yield_now().await;
    }
    for id in open {
        world.release(&id, at(60)).await;
    }
    charged
}

fn dice_amount(dice: &mut Dice, sides: u64) -> i64 {
    i64::try_from(dice.roll(sides)).unwrap_or(0)
}

async fn settle(world: &Caller, id: &ReservationId, cost: i64, tokens: i64, now: i64) {
    let open = world.reservation(id).await.expect("it stands");
    assert_eq!(open.state, ReservationState::Open);
    let [budget, limit] = shared_limits();
    let report = Report::settling(&open, cost).used(Unit::Tokens, tokens);
    world.report(report.charging(&budget, cost).charging(&limit, tokens), at(now)).await;
}
