//! What may happen to a server.

use proptest::prelude::*;
use rateguard_core::time::CalendarPeriod;

/// Steps of one sequence: enough that most begin, crash and end several calls.
const STEPS_MIN: usize = 15;
const STEPS_MAX: usize = 30;
/// How far back a step looks: near enough that several meet the same call.
const PICKS: usize = 6;
/// Records of one report, and reports at once.
const RECORDS_MAX: usize = 4;
const CALLS_MAX: usize = 4;
/// The largest cost of a record or an estimate, in nano-units.
const COST_NANOS_MAX: i64 = 1_000_000;
const HOUR_MS: i64 = 3_600_000;

/// One thing that happens. A `pick` counts back from the newest of what there is.
#[derive(Clone, Debug)]
pub enum Step {
    /// A RESERVE.
    Reserve { subject: usize, estimate: Expected, ttl_ms: i64 },
    /// A CONSUME.
    Consume { subject: usize },
    /// One report.
    Report(Vec<Record>),
    /// Reports at once, while a budget is made or reservations expire.
    Concurrent { calls: Vec<Vec<Record>>, budget: Option<NewBudget>, expire: bool },
    /// A reservation is given back.
    Release { pick: usize },
    /// Time passes, and what is due expires.
    Advance { ms: i64 },
    /// A new budget.
    Create(NewBudget),
    /// A budget's amount changes.
    ChangeAmount { pick: usize, amount: i64 },
    /// An orderly stop, and a start.
    Restart,
    /// A crash in the middle of these reports, after so many turns of the scheduler, and a start.
    Crash { calls: Vec<Vec<Record>>, turns: u8 },
}

/// What a RESERVE says of its cost.
#[derive(Clone, Copy, Debug)]
pub enum Expected {
    /// The cost itself: no floor.
    Cost(i64),
    /// Tokens of a listed model: the input is the floor.
    Tokens { input: i64, output: i64 },
}

/// A record of a report.
#[derive(Clone, Copy, Debug)]
pub enum Record {
    /// A call that nobody reserved.
    Fresh { subject: usize, cost: i64, ago_ms: i64 },
    /// A call that was reserved.
    Reserved { pick: usize, attempt: u32, is_final: bool, exact: bool, cost: i64 },
    /// An id sent before, also naming another reservation.
    Again { pick: usize, reservation: Option<usize> },
}

/// A calendar budget.
#[derive(Clone, Copy, Debug)]
pub struct NewBudget {
    /// Whose calls.
    pub reach: Reach,
    /// Day or month.
    pub period: CalendarPeriod,
    /// Nano-units.
    pub amount: i64,
}

/// Which calls a budget counts, and in how many counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// All calls in one.
    All,
    /// The first subject's alone.
    FirstSubject,
    /// Each subject by itself.
    EachSubject,
}

/// Any sequence.
pub fn any_steps() -> impl Strategy<Value = Vec<Step>> {
    proptest::collection::vec(any_step(), STEPS_MIN..=STEPS_MAX)
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (subject(), any_expected(), 1_000..=60_000_i64)
            .prop_map(|(subject, estimate, ttl_ms)| Step::Reserve { subject, estimate, ttl_ms }),
        1 => subject().prop_map(|subject| Step::Consume { subject }),
        6 => any_call().prop_map(Step::Report),
        4 => (any_calls(), proptest::option::of(any_budget()), any::<bool>())
            .prop_map(|(calls, budget, expire)| Step::Concurrent { calls, budget, expire }),
        1 => pick().prop_map(|pick| Step::Release { pick }),
        4 => prop_oneof![3 => 1..=90_000_i64, 1 => 1..=13 * HOUR_MS].prop_map(|ms| Step::Advance { ms }),
        1 => any_budget().prop_map(Step::Create),
        1 => (pick(), any_amount()).prop_map(|(pick, amount)| Step::ChangeAmount { pick, amount }),
        1 => Just(Step::Restart),
        2 => (proptest::collection::vec(any_call(), 0..=CALLS_MAX), 0..40_u8)
            .prop_map(|(calls, turns)| Step::Crash { calls, turns }),
    ]
}

fn pick() -> impl Strategy<Value = usize> {
    0..PICKS
}

fn subject() -> impl Strategy<Value = usize> {
    0..crate::ledger::SUBJECTS.len()
}

fn cost() -> impl Strategy<Value = i64> {
    0..=COST_NANOS_MAX
}

fn any_expected() -> impl Strategy<Value = Expected> {
    prop_oneof![
        1 => cost().prop_map(Expected::Cost),
        2 => (1..=1_000_i64, 1..=1_000_i64).prop_map(|(input, output)| Expected::Tokens { input, output }),
    ]
}

fn any_call() -> impl Strategy<Value = Vec<Record>> {
    proptest::collection::vec(any_record(), 1..=RECORDS_MAX)
}

fn any_calls() -> impl Strategy<Value = Vec<Vec<Record>>> {
    proptest::collection::vec(any_call(), 1..=CALLS_MAX)
}

fn any_record() -> impl Strategy<Value = Record> {
    prop_oneof![
        2 => (subject(), cost(), prop_oneof![2 => Just(0), 1 => 0..=20 * HOUR_MS])
            .prop_map(|(subject, cost, ago_ms)| Record::Fresh { subject, cost, ago_ms }),
        5 => (pick(), 1..=3_u32, any::<bool>(), any::<bool>(), cost()).prop_map(
            |(pick, attempt, is_final, exact, cost)| Record::Reserved { pick, attempt, is_final, exact, cost }
        ),
        2 => (pick(), proptest::option::of(pick()))
            .prop_map(|(pick, reservation)| Record::Again { pick, reservation }),
    ]
}

fn any_amount() -> impl Strategy<Value = i64> {
    prop_oneof![3 => Just(1_000_000_000), 1 => 0..=3 * COST_NANOS_MAX]
}

fn any_budget() -> impl Strategy<Value = NewBudget> {
    let reach = prop_oneof![Just(Reach::All), Just(Reach::FirstSubject), Just(Reach::EachSubject)];
    let period = prop_oneof![Just(CalendarPeriod::Day), Just(CalendarPeriod::Month)];
    (reach, period, any_amount()).prop_map(|(reach, period, amount)| NewBudget { reach, period, amount })
}
