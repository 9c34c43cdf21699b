//! The books over the real engine on the real stores: whatever happens, in whatever order, the
//! events, their rollups and the budgets tell the same money, and nothing stays held for good.

#![cfg(test)]

mod books;
mod expectations;
mod ledger;
mod run;
mod steps;
mod world;

use proptest::prelude::*;
use proptest::test_runner::Config;
use rateguard_core::time::CalendarPeriod;

use crate::run::Run;
use crate::steps::{Expected, NewBudget, Reach, Record, Step, any_steps};

/// Sequences tried: each starts a server of its own several times over.
const CASES: u32 = 16;
/// Attempts to find a shorter sequence that fails as well.
const SHRINK_ROUNDS_MAX: u32 = 300;

fn config() -> Config {
    Config { failure_persistence: None, max_shrink_iters: SHRINK_ROUNDS_MAX, ..Config::with_cases(CASES) }
}

fn play(steps: &[Step]) -> Result<(), TestCaseError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.unwrap().block_on(async {
        let mut run = Run::new().await;
        for step in steps {
            run.step(step).await?;
        }
        run.everything_ends().await
    })
}

fn reserve() -> Step {
    Step::Reserve { subject: 0, estimate: Expected::Tokens { input: 1_000, output: 10 }, ttl_ms: 60_000 }
}

/// A final report on the newest reservation.
fn report() -> Step {
    Step::Report(vec![Record::Reserved { pick: 0, attempt: 1, is_final: true, exact: true, cost: 7 }])
}

/// More than half a day: from the first noon into the second day.
const INTO_THE_NEXT_DAY: Step = Step::Advance { ms: 13 * 60 * 60 * 1_000 };

#[test]
fn a_new_budget_counts_a_call_of_its_period_that_is_said_to_have_happened_before() {
    let again = Step::Report(vec![Record::Again { pick: 0, reservation: Some(0) }]);
    let budget = NewBudget { reach: Reach::All, period: CalendarPeriod::Day, amount: 1_000_000_000 };
    // The second report is refused, and so may be sent again for the next day's reservation.
    let steps = [reserve(), report(), report(), INTO_THE_NEXT_DAY, reserve(), again, Step::Create(budget)];
    play(&steps).unwrap();
}

#[test]
fn a_late_report_takes_the_floor_back_also_after_a_crash() {
    let crash = Step::Crash { calls: Vec::new(), turns: 0 };
    play(&[reserve(), Step::Advance { ms: 60_001 }, crash, report()]).unwrap();
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn events_rollups_and_budgets_tell_the_same_money_whatever_happens(steps in any_steps()) {
        play(&steps)?;
    }
}
