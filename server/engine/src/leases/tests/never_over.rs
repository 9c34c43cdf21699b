//! Never over, whatever holders, crashes and lost answers do, and little that is stranded.

use super::*;

/// A small generator of its own (SplitMix64), so that a failure repeats.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ (bits >> 31)) % sides
    }

    fn amount(&mut self, sides: u64) -> i64 {
        i64::try_from(self.below(sides)).unwrap_or(0)
    }
}

/// The most that any window of a limit may have admitted, held against what it has.
fn assert_never_over(limit: &Limit, log: &mut [(Millis, i64)], seed: u64) {
    log.sort_unstable();
    for (place, (first, _)) in log.iter().enumerate() {
        let mut sum = 0;
        for (at, amount) in &log[place..] {
            let elapsed_ms = at.since(*first);
            let most = match *limit {
                Limit::FixedWindow { limit, window_ms }
                    if first.get() / window_ms == at.get() / window_ms =>
                {
                    limit
                }
                Limit::SlidingWindow { limit, window_ms } if elapsed_ms <= window_ms => limit,
                Limit::TokenBucket { capacity, refill } if elapsed_ms <= 3_000 => {
                    capacity + elapsed_ms * refill.units() / refill.period_ms()
                }
                _ => break,
            };
            sum += amount;
            assert!(sum <= most, "seed {seed}: {sum} of {most} since {first:?}, {limit:?}");
        }
    }
}

/// Holders that come and go, with random calls over more than three windows. Returns what was admitted.
async fn random_life(limit: Limit, seed: u64, steps: u64) -> Vec<(Millis, i64)> {
    let world = World::new();
    let mut dice = Dice(seed);
    let mut holders: Vec<Arc<Leases>> = (0..4).map(|_| world.holder()).collect();
    let mut log = Vec::new();
    for step in 0..steps {
        let which = usize::try_from(dice.below(4)).unwrap_or(0);
        *world.store.latency.lock() = Duration::from_millis(dice.below(4));
        match dice.below(400) {
            0 => holders[which] = world.holder(),
            1 => {
                holders[which].close().await;
                holders[which] = world.holder();
            }
            2 => world.store.faults.lock().push_back(Fault::AnswerLost),
            3 => world.store.faults.lock().push_back(Fault::Away),
            _ => {}
        }
        let (holder, asked) = (&holders[which], charge(1, limit, 1 + dice.amount(6)));
        let before = holder.figures().decided_here;
        let command = world.command(Mode::Consume, &[asked]);
        if let Ok(CheckOutcome::Decided(decided)) =
            holder.check(&command, &SmallVec::from_elem(true, 1)).await
            && decided.verdict.allowed
            && holder.figures().decided_here > before
        {
            log.push((world.clock.now(), asked.demand.take));
        }
        if step.is_multiple_of(50) {
            holders.iter().for_each(|holder| holder.tend(world.clock.now()));
        }
        if dice.below(3) == 0 {
            advance(Duration::from_micros(dice.below(4_000))).await;
        }
    }
    assert!(log.len() > 100, "seed {seed}: hardly anything was decided by leases");
    // What the store admitted itself counts when it did.
    log.extend(world.store.admitted.lock().iter().copied());
    log
}

#[tokio::test(start_paused = true)]
async fn a_fixed_window_is_never_over() {
    for seed in 0..6 {
        let limit = Limit::FixedWindow { limit: 2_000, window_ms: 1_000 };
        let mut log = random_life(limit, seed, 6_000).await;
        assert_never_over(&limit, &mut log, seed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_sliding_window_is_never_over() {
    for seed in 10..13 {
        let limit = Limit::SlidingWindow { limit: 5_000, window_ms: 6_000 };
        let mut log = random_life(limit, seed, 12_000).await;
        assert_never_over(&limit, &mut log, seed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_bucket_is_never_over() {
    for seed in 20..26 {
        let refill = Refill::new(2, 1, 1_000).unwrap();
        let limit = Limit::TokenBucket { capacity: 1_000, refill };
        let mut log = random_life(limit, seed, 6_000).await;
        assert_never_over(&limit, &mut log, seed);
    }
}

/// Ten replicas whose load falls as one through the rank; together they want half as much again as the
/// limit has.
#[tokio::test(start_paused = true)]
async fn ten_replicas_under_skewed_load_strand_less_than_two_percent() {
    const WINDOW_MS: usize = 10_000;
    const LIMIT: i64 = 25_000;
    let world = World::new();
    let holders: Vec<Arc<Leases>> = (0..10).map(|_| world.holder()).collect();
    let limited = charge(1, Limit::FixedWindow { limit: LIMIT, window_ms: 10_000 }, 1);
    // 1/1 + 1/2 + .. + 1/10, in parts of 2,520.
    let weights: Vec<u64> = (1..=10).map(|rank| 2_520 / rank).collect();
    let (mut dice, mut calls) = (Dice(1), 0_u64);
    let mut admitted = [0_i64; 3];
    let start = world.clock.now();
    *world.store.latency.lock() = Duration::ZERO;
    while let Ok(ms) = usize::try_from(world.clock.now().since(start)) {
        let Some(window) = admitted.get_mut(ms / WINDOW_MS) else { break };
        for _ in 0..4 {
            let mut ball = dice.below(weights.iter().sum());
            let which = weights.iter().position(|weight| {
                let hit = ball < *weight;
                ball = ball.saturating_sub(*weight);
                hit
            });
            calls += 1;
            *window += i64::from(world.consume(&holders[which.unwrap_or(0)], limited).await);
        }
        advance(Duration::from_millis(1)).await;
        if ms.is_multiple_of(100) {
            holders.iter().for_each(|holder| holder.tend(world.clock.now()));
        }
    }
    let asked = world.checks() + world.exchanges();
    for sum in admitted {
        assert!(sum <= LIMIT && sum * 100 >= LIMIT * 98, "{admitted:?} of {LIMIT}");
    }
    assert!(asked * 20 < calls, "{asked} calls of the store for {calls} checks");
}
