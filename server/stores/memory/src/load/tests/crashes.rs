//! Random histories with crashes anywhere in them: what was admitted is never admitted again.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use proptest::prelude::*;
use rateguard_core::counter::Limit;
use rateguard_core::decision::Mode;
use rateguard_core::time::Millis;
use rateguard_engine::ports::CheckOutcome;
use rateguard_store_suite::counter_store::Stop;
use rateguard_store_suite::counter_store::world::{
    Ask, Caller, Report, World, a_minute, an_hour, any_minute, ask, at, bucket,
};
use tokio::task::JoinSet;

use crate::testing::MemoryBackend;

/// Turns that other tasks get before the history goes on.
const TURNS: usize = 20;
/// Values of each limit's scope.
const VALUES: u128 = 3;

/// Limits of every kind: given back slowly and within moments, large enough for a lead and not.
fn limits() -> Vec<Limit> {
    vec![
        a_minute(60),
        any_minute(60),
        bucket(40, 40),
        an_hour(100),
        Limit::FixedWindow { limit: 5, window_ms: 1_000 },
        Limit::SlidingWindow { limit: 7, window_ms: 3_000 },
        bucket(3, 60),
        an_hour(4),
    ]
}

#[derive(Clone, Debug)]
enum Step {
    /// So many calls, one after the other, each of so much of all these limits.
    Call {
        limits: Vec<usize>,
        value: u128,
        amount: i64,
        times: usize,
    },
    /// A record of a call that nobody checked.
    Report {
        limit: usize,
        value: u128,
        amount: i64,
    },
    Wait {
        ms: i64,
    },
    Checkpoint,
    Sweep,
    /// From here on so many writes pass; any, where there is none.
    Disk {
        passes: Option<usize>,
    },
    DiskFails {
        fails: bool,
    },
    End {
        stop: Stop,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let chosen = || prop::sample::subsequence((0..limits().len()).collect::<Vec<_>>(), 1..3);
    let value = || 1..=VALUES;
    prop_oneof![
        8 => (chosen(), value(), 1_i64..4, 1_usize..15)
            .prop_map(|(limits, value, amount, times)| Step::Call { limits, value, amount, times }),
        1 => (0..limits().len(), value(), 1_i64..10)
            .prop_map(|(limit, value, amount)| Step::Report { limit, value, amount }),
        3 => prop::sample::select(vec![1, 50, 700, 5_000, 40_000]).prop_map(|ms| Step::Wait { ms }),
        3 => Just(Step::Checkpoint),
        1 => Just(Step::Sweep),
        2 => prop::option::of(0_usize..3).prop_map(|passes| Step::Disk { passes }),
        1 => any::<bool>().prop_map(|fails| Step::DiskFails { fails }),
        3 => Just(Step::End { stop: Stop::Crash }),
        1 => Just(Step::End { stop: Stop::Clean }),
    ]
}

/// What was admitted of one counter: when, and how much.
type Admitted = BTreeMap<(usize, u128), Vec<(Millis, i64)>>;

struct History<'b> {
    backend: &'b MemoryBackend,
    world: World<'b>,
    now: i64,
    /// Calls and checkpoints that wait for the disk.
    waiting: JoinSet<Option<(Step, i64)>>,
    admitted: Admitted,
}

impl<'b> History<'b> {
    async fn begin(backend: &'b MemoryBackend) -> Self {
        let world = World::open(backend).await;
        Self { backend, world, now: 0, waiting: JoinSet::new(), admitted: Admitted::new() }
    }

    async fn take(&mut self, step: Step) {
        match step {
            Step::Call { times, .. } => {
                for _ in 0..times {
                    self.waiting.spawn(call(Caller::clone(&self.world), step.clone(), self.now));
                }
            }
            Step::Report { limit, value, amount } => {
                let charged = ask(number(limit), limits()[limit], 0).scoped(value);
                self.world.report(Report::of_cost(0).charging(&charged, amount), at(self.now)).await;
            }
            Step::Wait { ms } => self.now += ms,
            Step::Checkpoint => {
                let store = self.world.store.clone();
                self.waiting.spawn(async move { store.checkpoint(false).await.ok().and(None) });
            }
            Step::Sweep => self.world.sweep(at(self.now)).await,
            Step::Disk { passes: None } => self.disk_is_well(),
            Step::Disk { passes: Some(passes) } => {
                self.backend.disk.hold_up();
                self.backend.disk.passes.add_permits(passes);
            }
            Step::DiskFails { fails } => self.backend.disk.fails.store(fails, Ordering::SeqCst),
            Step::End { stop } => self.end(stop).await,
        }
        self.let_others_work().await;
    }

    fn disk_is_well(&self) {
        self.backend.disk.fails.store(false, Ordering::SeqCst);
        self.backend.disk.passes.add_permits(1_000);
    }

    /// Whoever got no answer was not admitted.
    async fn end(&mut self, stop: Stop) {
        if stop == Stop::Clean {
            self.disk_is_well();
            while let Some(done) = self.waiting.join_next().await {
                self.note(done.expect("no caller panics"));
            }
        }
        self.waiting.shutdown().await;
        self.disk_is_well();
        self.now += 1;
        self.world.reopen(stop, at(self.now)).await;
    }

    async fn let_others_work(&mut self) {
        for _ in 0..TURNS {
            tokio::task::yield_now().await;
        }
        while let Some(done) = self.waiting.try_join_next() {
            self.note(done.expect("no caller panics"));
        }
    }

    fn note(&mut self, answered: Option<(Step, i64)>) {
        let Some((Step::Call { limits, value, amount, .. }, ms)) = answered else { return };
        for limit in limits {
            self.admitted.entry((limit, value)).or_default().push((at(ms), amount));
        }
    }
}

/// One call; gives it back when it was answered and allowed.
async fn call(caller: Caller, step: Step, now: i64) -> Option<(Step, i64)> {
    let Step::Call { limits: chosen, value, amount, .. } = &step else { return None };
    let asks: Vec<Ask> =
        chosen.iter().map(|limit| ask(number(*limit), limits()[*limit], *amount).scoped(*value)).collect();
    let decided = caller.store.check(&caller.command(Mode::Consume, &asks, at(now))).await;
    let allowed = matches!(&decided, Ok(CheckOutcome::Decided(decided)) if decided.verdict.allowed);
    allowed.then_some((step, now))
}

fn number(limit: usize) -> u8 {
    u8::try_from(limit).expect("there are few limits") + 1
}

/// The most that was admitted in any window, and how much of it the limit allows there.
fn fullest(limit: &Limit, admitted: &[(Millis, i64)]) -> (i64, i64) {
    match *limit {
        Limit::FixedWindow { limit, window_ms } => (fullest_window(admitted, window_ms), limit),
        Limit::CalendarWindow { limit, bounds } => {
            (fullest_window(admitted, bounds.end.since(bounds.start)), limit)
        }
        Limit::SlidingWindow { limit, window_ms } => {
            let in_window = |to: Millis| {
                let counts = |at: Millis| at <= to && to.since(at) < window_ms;
                admitted.iter().filter(|(at, _)| counts(*at)).map(|(_, amount)| amount).sum()
            };
            (admitted.iter().map(|(to, _)| in_window(*to)).max().unwrap_or(0), limit)
        }
        Limit::TokenBucket { capacity, refill } => {
            let mut excess = 0;
            for (from, (start, _)) in admitted.iter().enumerate() {
                let mut sum = 0;
                for (end, amount) in &admitted[from..] {
                    sum += amount;
                    excess = excess.max(sum - refill.units() * end.since(*start) / refill.period_ms());
                }
            }
            (excess, capacity)
        }
        Limit::Concurrency { .. } | Limit::Budget { .. } => (0, 0),
    }
}

fn fullest_window(admitted: &[(Millis, i64)], window_ms: i64) -> i64 {
    let mut windows: BTreeMap<i64, i64> = BTreeMap::new();
    for (at, amount) in admitted {
        *windows.entry(at.get() / window_ms).or_default() += amount;
    }
    windows.into_values().max().unwrap_or(0)
}

proptest! {
    #[test]
    fn no_crash_gives_back_what_was_admitted(steps in prop::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        runtime.expect("a runtime starts").block_on(async {
            let backend = MemoryBackend::default();
            let mut history = History::begin(&backend).await;
            for step in steps {
                history.take(step).await;
            }
            for ((limit, value), mut admitted) in std::mem::take(&mut history.admitted) {
                admitted.sort_unstable();
                let limit = limits()[limit];
                let (most, allowed) = fullest(&limit, &admitted);
                prop_assert!(most <= allowed, "{most} admitted of {limit:?} for {value}: {admitted:?}");
            }
            Ok(())
        })?;
    }
}
