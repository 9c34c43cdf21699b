//! Thousands of runs in which every invariant holds, runs that repeat line by line, and planted bugs
//! that runs find.

use std::io::Write as _;
use std::ops::Range;

use rateguard_engine::degraded::Degraded;
use rateguard_sim::books::facts::Kind;
use rateguard_sim::many::{Summary, run_many};
use rateguard_sim::run::{Options, Outcome, run};
use rateguard_sim::stores::flaws::Flaw;
use tokio::runtime::{Builder, Runtime};

/// Seeds that every build runs: what two cores do in less than two minutes without optimisation.
const SEEDS: u64 = 2_000;
/// Seeds of which each is run twice.
const REPEATED_SEEDS: u64 = 12;
/// Seeds within which every planted bug has to be found.
const SEEDS_TO_FIND_A_BUG: u64 = 300;

fn runtime() -> Runtime {
    let mut builder = Builder::new_current_thread();
    builder.enable_time().start_paused(true).build().expect("a runtime of one thread starts anywhere")
}

fn run_all(seeds: Range<u64>, flaw: Option<Flaw>) -> Summary {
    run_many(seeds, Options { flaw, traced: false }, runtime).expect("every seed can be run")
}

fn say(line: &str) {
    writeln!(std::io::stderr().lock(), "{line}").expect("somebody reads what a test says");
}

/// How to see a failed run again.
fn describe(failed: &Outcome) -> String {
    let first = failed.violations.first().map(|found| format!("{}: {}", found.invariant, found.what));
    format!(
        "seed {} violates {}; see it with: make sim REPLAY={}",
        failed.seed,
        first.unwrap_or_default(),
        failed.seed
    )
}

#[test]
fn every_invariant_holds_after_every_step_of_every_seed() {
    let seeds = std::env::var("RATEGUARD_SIM_SEEDS").ok().and_then(|seeds| seeds.parse().ok());
    let Summary { runs, coverage, failed } = run_all(0..seeds.unwrap_or(SEEDS), None);
    say(&format!("{runs} seeds, {} steps: {coverage:?}", coverage.steps()));
    let failed: Vec<String> = failed.iter().map(describe).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    let seen = [coverage.crashes, coverage.expired, coverage.hints_kept, coverage.hints_early];
    assert!(seen.iter().all(|count| *count > 0), "the runs saw too little: {coverage:?}");
    let kinds = [Kind::Refused, Kind::Cancelled, Kind::Leased, Kind::Renewed, Kind::Reset];
    let unseen: Vec<_> = kinds.iter().filter(|kind| !coverage.steps.contains_key(kind)).collect();
    assert!(unseen.is_empty(), "the runs never saw {unseen:?}");
    let answers = [
        (Degraded::Open, true),
        (Degraded::Local, true),
        (Degraded::Local, false),
        (Degraded::Closed, false),
    ];
    let unseen: Vec<_> = answers.iter().filter(|answer| !coverage.degraded.contains_key(answer)).collect();
    assert!(unseen.is_empty(), "the runs were never answered {unseen:?}");
}

#[test]
fn the_same_seed_gives_the_same_run_line_by_line() {
    let traced = Options { traced: true, flaw: None };
    for seed in 0..REPEATED_SEEDS {
        let [first, second] = [0, 1].map(|_| run(seed, traced, runtime()).expect("every seed can be run"));
        assert!(first.lines.len() > 50, "seed {seed} has a trace of {} lines", first.lines.len());
        assert_eq!(first, second, "seed {seed} ran differently");
    }
}

#[test]
fn other_seeds_give_other_runs() {
    let traced = Options { traced: true, flaw: None };
    let [first, second] = [1, 2].map(|seed| run(seed, traced, runtime()).expect("every seed can be run"));
    assert_ne!(first.lines, second.lines);
}

/// Plants a bug, and expects what is found first to be a violation of one of these invariants.
fn finds(flaw: Flaw, invariants: &[&str]) {
    let Summary { runs, failed, .. } = run_all(0..SEEDS_TO_FIND_A_BUG, Some(flaw));
    let first = failed.first().unwrap_or_else(|| panic!("{flaw:?} was not found in {runs} seeds"));
    let found = first.violations.first().expect("a failed run has a violation");
    say(&format!("{flaw:?} found by seed {} of {runs}: {} {}", first.seed, found.invariant, found.what));
    assert!(invariants.contains(&found.invariant), "{flaw:?} was found as {found:?}");
}

#[test]
fn a_refund_into_the_next_window_is_found() {
    finds(Flaw::RefundIntoNextWindow, &["Q4", "U4"]);
}

#[test]
fn a_record_that_is_settled_twice_after_a_lost_reply_is_found() {
    finds(Flaw::DoubleSettle, &["U2"]);
}

#[test]
fn a_denial_that_keeps_the_first_counter_is_found() {
    finds(Flaw::DenialKeepsFirst, &["Q2"]);
}

#[test]
fn a_lease_that_is_spent_past_its_window_is_found() {
    finds(Flaw::LeaseOutlivesWindow, &["Q1"]);
}

#[test]
fn an_expiry_that_frees_twice_is_found() {
    finds(Flaw::ExpiryFreesTwice, &["Q4"]);
}
