//! The token bucket against the bucket that would have been: one that knew from the first what
//! every call would use.

use super::*;
use crate::counter::lows::LOWS_MAX;

/// A call whose amount was guessed, and when its true use became known.
#[derive(Clone, Debug)]
struct Guessed {
    after_ms: i64,
    estimate: i64,
    used: i64,
    known_after_ms: i64,
}

fn any_guess() -> impl Strategy<Value = Guessed> {
    (any_step_ms(), 1_i64..30, 0_i64..40, prop_oneof![Just(0_i64), 1_i64..500, 500_i64..20_000]).prop_map(
        |(after_ms, estimate, used, known_after_ms)| Guessed { after_ms, estimate, used, known_after_ms },
    )
}

fn any_guesses() -> impl Strategy<Value = Vec<Guessed>> {
    prop::collection::vec(any_guess(), 1..40)
}

/// What happens at one instant: takes before settlements.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    Take(usize),
    Learn(usize),
}

fn timeline(guesses: &[Guessed]) -> Vec<(Millis, Happening)> {
    let mut now = Millis::new(NOON);
    let mut timeline = Vec::new();
    for (place, guess) in guesses.iter().enumerate() {
        now = now.plus(guess.after_ms);
        timeline.push((now, Happening::Take(place)));
        timeline.push((now.plus(guess.known_after_ms), Happening::Learn(place)));
    }
    timeline.sort();
    timeline
}

/// The level, in parts of a unit, of a bucket with these arrivals: written anew, with nothing of
/// the bucket's own arithmetic.
fn level_parts(refill: Refill, arrivals: impl Iterator<Item = (Millis, i64)>, end: Millis) -> i128 {
    let (units, period) = (i128::from(refill.units()), i128::from(refill.period_ms()));
    let mut level = 0;
    let mut before = Millis::ZERO;
    for (at, amount) in arrivals {
        level = (level - units * i128::from(at.since(before))).max(0) + i128::from(amount) * period;
        before = at;
    }
    (level - units * i128::from(end.since(before))).max(0)
}

fn parts(counter: &Counter, refill: Refill, now: Millis) -> i128 {
    match counter {
        Counter::TokenBucket(bucket) => bucket_parts(bucket, refill, now),
        other => panic!("{other:?} is no bucket"),
    }
}

/// The level from what the bucket stores, which must be under this rate.
fn bucket_parts(bucket: &TokenBucket, refill: Refill, now: Millis) -> i128 {
    assert!(bucket.remainder == 0 || bucket.remainder_of == refill.period_ms());
    let stored = i128::from(bucket.used) * i128::from(refill.period_ms()) + i128::from(bucket.remainder);
    (stored - i128::from(refill.units()) * i128::from(now.since(bucket.at))).max(0)
}

/// Plays the timeline on a real bucket, holding it at every step against the one that would have
/// been: unknown amounts count their estimate, known ones their use.
fn play(refill: Refill, guesses: &[Guessed], capacity: i64) -> (Counter, Vec<(Millis, i64)>, Millis) {
    let limit = Limit::TokenBucket { capacity, refill };
    let mut counter = Counter::fresh(&limit, Millis::ZERO);
    let mut arrivals: Vec<(Millis, i64)> = Vec::new();
    let mut marks = vec![None; guesses.len()];
    let mut end = Millis::new(NOON);
    for (now, happening) in timeline(guesses) {
        match happening {
            Happening::Take(place) => {
                marks[place] = Some((counter.reserve(&limit, guesses[place].estimate, now), arrivals.len()));
                arrivals.push((now, guesses[place].estimate));
            }
            Happening::Learn(place) => {
                let (mark, arrival) = marks[place].expect("taken before it is known");
                let Guessed { estimate, used, .. } = guesses[place];
                counter.correct(mark, estimate, used - estimate, now);
                arrivals[arrival].1 = used;
            }
        }
        let would_be = level_parts(refill, arrivals.iter().copied(), now);
        assert!(parts(&counter, refill, now) >= would_be, "a correction let more through than the truth");
        end = now;
    }
    (counter, arrivals, end)
}

fn any_refill() -> impl Strategy<Value = Refill> {
    (1_i64..20, prop_oneof![1_i64..50, 100_i64..5_000])
        .prop_map(|(units, period_ms)| Refill::new(units, period_ms, 1).unwrap())
}

proptest! {
    #![proptest_config(cases(1_200))]

    #[test]
    fn a_corrected_bucket_never_stands_lower_than_one_that_knew_the_truth(
        refill in any_refill(), guesses in any_guesses(),
    ) {
        play(refill, &guesses, 1_000);
    }

    #[test]
    fn what_is_known_at_once_is_corrected_exactly(refill in any_refill(), guesses in any_guesses()) {
        let guesses: Vec<_> = guesses.into_iter().map(|g| Guessed { known_after_ms: 0, ..g }).collect();
        let (counter, arrivals, end) = play(refill, &guesses, 1_000);
        prop_assert_eq!(parts(&counter, refill, end), level_parts(refill, arrivals.into_iter(), end));
    }

    #[test]
    fn an_overshoot_of_a_bucket_that_was_never_empty_is_charged_exactly(
        refill in any_refill(), guesses in any_guesses(),
    ) {
        let guesses: Vec<_> = guesses.into_iter().map(|g| Guessed { used: g.used.max(g.estimate), ..g }).collect();
        let full = Guessed { after_ms: 0, estimate: 1_000_000_000, used: 1_000_000_000, known_after_ms: 0 };
        let guesses: Vec<_> = std::iter::once(full).chain(guesses).collect();
        let (counter, arrivals, end) = play(refill, &guesses, 1_000);
        prop_assert_eq!(parts(&counter, refill, end), level_parts(refill, arrivals.into_iter(), end));
    }

    #[test]
    fn a_refund_gives_back_all_that_no_refill_can_have_given_back(
        refill in any_refill(), taken in 1_i64..1_000, used in 0_i64..1_000, elapsed_ms in 0_i64..10_000,
    ) {
        let (used, limit) = (used.min(taken), Limit::TokenBucket { capacity: 1_000, refill });
        let (at, now) = (Millis::new(NOON), Millis::new(NOON + elapsed_ms));
        let mut counter = Counter::fresh(&limit, at);
        let mark = counter.take(&limit, taken, at);
        let before = parts(&counter, refill, now);
        counter.correct(mark, taken, used - taken, now);
        let expected = (i128::from(taken - used) * i128::from(refill.period_ms())).min(before);
        prop_assert_eq!(before - parts(&counter, refill, now), expected);
    }

    #[test]
    fn a_few_calls_at_the_same_time_that_use_nothing_leave_nothing(
        refill in any_refill(), guesses in prop::collection::vec(any_guess(), 1..=LOWS_MAX),
    ) {
        let guesses: Vec<_> = guesses.into_iter().map(|g| Guessed { used: 0, ..g }).collect();
        let (counter, _, end) = play(refill, &guesses, 1_000);
        prop_assert_eq!(parts(&counter, refill, end), 0);
    }

    #[test]
    fn a_few_calls_at_the_same_time_leave_what_they_used(
        refill in any_refill(), guesses in prop::collection::vec(any_guess(), 1..=LOWS_MAX),
    ) {
        let guesses: Vec<_> = guesses.into_iter().map(|g| Guessed { used: g.used.min(g.estimate), ..g }).collect();
        let (counter, arrivals, end) = play(refill, &guesses, 1_000);
        prop_assert_eq!(parts(&counter, refill, end), level_parts(refill, arrivals.into_iter(), end));
    }

    #[test]
    fn a_report_of_the_past_counts_as_if_it_had_been_taken_then(
        refill in any_refill(), amount in 1_i64..1_000, ago_ms in 0_i64..10_000,
    ) {
        let limit = Limit::TokenBucket { capacity: 1_000, refill };
        let now = Millis::new(NOON);
        let mut counter = Counter::fresh(&limit, now);
        counter.charge(&limit, amount, now.plus(-ago_ms), now);
        let would_be = level_parts(refill, std::iter::once((now.plus(-ago_ms), amount)), now);
        prop_assert_eq!(parts(&counter, refill, now), would_be);
    }

    #[test]
    fn a_changed_rate_loses_nothing_and_adds_less_than_a_part_of_the_new_one(
        refill in any_refill(), other in any_refill(), taken in 1_i64..1_000, elapsed_ms in 0_i64..10_000,
    ) {
        let at = Millis::new(NOON);
        let now = at.plus(elapsed_ms);
        let mut bucket = TokenBucket::FRESH;
        bucket.take(refill, taken, at);
        bucket.take(refill, 0, now);
        let old = bucket_parts(&bucket, refill, now);
        bucket.take(other, 0, now);
        let new = bucket_parts(&bucket, other, now);
        let (period, other_period) = (i128::from(refill.period_ms()), i128::from(other.period_ms()));
        prop_assert!(new * period >= old * other_period);
        prop_assert!((new - 1) * period < old * other_period);
    }
}

fn bucket(units: i64, period_ms: i64, capacity: i64) -> Limit {
    Limit::TokenBucket { capacity, refill: Refill::new(units, period_ms, capacity).unwrap() }
}

#[test]
fn many_calls_that_used_more_than_they_held_are_not_each_forgiven_the_same_refill() {
    // 1,000 a minute; 100 calls hold one each and use eleven, known half a minute later.
    let limit = bucket(1_000, 60_000, 1_000);
    let (at, now) = (Millis::new(NOON), Millis::new(NOON + 30_000));
    let mut counter = Counter::fresh(&limit, at);
    let marks: Vec<Mark> = (0..100).map(|_| counter.take(&limit, 1, at)).collect();
    for mark in marks {
        counter.correct(mark, 1, 10, now);
    }
    assert_eq!(counter.read(&limit, 0, now).used, 1_100 - 500);
}

#[test]
fn many_reports_of_the_past_are_not_each_forgiven_the_same_refill() {
    let limit = bucket(1_000, 60_000, 1_000);
    let (at, now) = (Millis::new(NOON), Millis::new(NOON + 30_000));
    let mut counter = Counter::fresh(&limit, at);
    for _ in 0..100 {
        counter.charge(&limit, 11, at, now);
    }
    assert_eq!(counter.read(&limit, 0, now).used, 1_100 - 500);
}

#[test]
fn a_report_older_than_the_bucket_takes_to_fill_up_is_of_a_window_that_has_closed() {
    let limit = bucket(1_000, 60_000, 1_000);
    let now = Millis::new(NOON);
    let mut counter = Counter::fresh(&limit, now);
    counter.take(&limit, 1_000, now);
    counter.charge(&limit, 500, now.plus(-60_000), now);
    assert_eq!(counter.read(&limit, 0, now).used, 1_000);
    counter.charge(&limit, 500, now.plus(-59_999), now);
    assert_eq!(counter.read(&limit, 0, now).used, 1_500);
}

#[test]
fn what_is_added_after_a_bucket_was_forgotten_is_not_given_back_by_the_refill_of_what_was_taken() {
    let refill = Refill::new(1, 100, 10).expect("within bounds");
    let limit = Limit::TokenBucket { capacity: 10, refill };
    let (taken_at, learned_at) = (Millis::new(NOON), Millis::new(NOON + 300));
    let mut kept = Counter::fresh(&limit, taken_at);
    let mark = kept.take(&limit, 1, taken_at);
    assert!(kept.is_idle(learned_at), "it ran dry meanwhile, so that it may be forgotten");
    let mut forgotten = Counter::fresh(&limit, learned_at);
    for counter in [&mut kept, &mut forgotten] {
        counter.correct(mark, 1, 6, learned_at);
        assert_eq!(counter.read(&limit, 0, learned_at).used, 4, "7 units, of which 3 were given back");
    }
    let mut tested = Counter::fresh(&limit, learned_at);
    tested.correct(tested.mark(&limit, taken_at), 0, 6, learned_at);
    assert_eq!(tested.read(&limit, 0, learned_at).used, 3, "of what only tested it nothing stood there");
}

#[test]
fn correcting_by_nothing_does_not_forgive_a_part_of_a_unit() {
    let limit = bucket(1, 60_000, 1);
    let mut counter = Counter::fresh(&limit, Millis::new(NOON));
    let mark = counter.take(&limit, 1, Millis::new(NOON));
    let now = Millis::new(NOON + 1);
    counter.charge(&limit, 0, now, now);
    counter.correct(mark, 1, 0, now);
    assert_eq!(counter.read(&limit, 1, now).denied, Some(RetryAfter::Millis(59_999)));
}

#[test]
fn what_is_held_and_released_again_and_again_is_all_there_at_the_end() {
    let limit = bucket(1, 60_000, 10);
    let mut counter = Counter::fresh(&limit, Millis::new(NOON));
    for call in 0..100 {
        let now = Millis::new(NOON + 10 * call);
        assert_eq!(counter.read(&limit, 1, now).denied, None, "call {call}");
        let mark = counter.reserve(&limit, 1, now);
        counter.correct(mark, 1, -1, now.plus(5));
    }
    assert_eq!(counter.read(&limit, 0, Millis::new(NOON + 1_000)).used, 0);
}

#[test]
fn what_was_held_at_the_same_time_is_all_there_at_the_end() {
    let limit = bucket(1, 2_000, 5);
    let (at, later) = (Millis::new(NOON), Millis::new(NOON + 2_000));
    let mut counter = Counter::fresh(&limit, at);
    let marks: Vec<Mark> = (0..5).map(|_| counter.reserve(&limit, 1, at)).collect();
    for mark in marks {
        counter.correct(mark, 1, -1, later);
    }
    assert_eq!(counter.read(&limit, 0, later).used, 0);
    // Where parts of a unit are refilled in between.
    let (limit, start) = (bucket(1, 1_000, 60), Millis::new(NOON));
    let mut counter = Counter::fresh(&limit, start);
    let marks: Vec<_> =
        (1..=10).map(|n| start.plus(7 * n)).map(|at| (at, counter.reserve(&limit, 1, at))).collect();
    for (at, mark) in marks {
        counter.correct(mark, 1, -1, at.plus(900));
    }
    assert_eq!(counter.read(&limit, 0, start.plus(970)).used, 0);
}

/// Holds calls that come one after the other, each for as long; says what is used at the end.
fn used_after(limit: &Limit, calls: i64, every_ms: i64, held_ms: i64, estimate: i64, used: i64) -> i128 {
    let start = Millis::new(NOON);
    let mut counter = Counter::fresh(limit, start);
    let mut marks = std::collections::VecDeque::new();
    let mut now = start;
    for call in 0..calls {
        now = start.plus(call * every_ms);
        while marks.front().is_some_and(|(at, _): &(Millis, Mark)| at.plus(held_ms) <= now) {
            let (_, mark) = marks.pop_front().expect("it is there");
            counter.correct(mark, estimate, used - estimate, now);
        }
        marks.push_back((now, counter.reserve(limit, estimate, now)));
    }
    for (_, mark) in marks {
        counter.correct(mark, estimate, used - estimate, now);
    }
    counter.read(limit, 0, now).used
}

#[test]
fn calls_at_the_same_time_leave_little_of_what_they_did_not_use_in_the_bucket() {
    let limit = bucket(100, 1_000, 6_000);
    // Ten at a time, of which each is remembered: what they used, 250 a second, less what was given back.
    assert_eq!(used_after(&limit, 100, 200, 2_000, 500, 50), 100 * 50 - 1_980);
    // A hundred at a time: little of what they held.
    let (held, used) = (100 * 50, 1_000 * 2 - 1_998);
    let left = used_after(&limit, 1_000, 20, 2_000, 50, 2) - used;
    assert!((0..=2 * held / LOWS_MAX as i128).contains(&left), "{left}");
}

#[test]
fn calls_that_used_what_they_held_keep_their_places_and_cost_others_little() {
    let limit = bucket(1, 1_000, 1_000);
    let (start, later) = (Millis::new(NOON), Millis::new(NOON + 10_000));
    let mut counter = Counter::fresh(&limit, start);
    let mut open: Vec<_> = (0..LOWS_MAX as i64).map(|n| counter.reserve(&limit, 10, start.plus(n))).collect();
    counter.correct(open.remove(LOWS_MAX / 2), 10, 0, start.plus(20));
    open.push(counter.reserve(&limit, 10, start.plus(21)));
    assert_eq!(open.len(), LOWS_MAX, "one more than there are levels for has not been refilled");
    for mark in open {
        counter.correct(mark, 10, -10, later);
    }
    let left = counter.read(&limit, 0, later).used;
    assert!((0..=10).contains(&left), "{left}: what was used is refilled, and of one call it was forgotten");
}

#[test]
fn a_rate_raised_between_take_and_refund_does_not_give_back_twice() {
    let (slow, fast) = (bucket(1, 1_000, 100), bucket(100, 1_000, 100));
    let (at, later) = (Millis::new(NOON), Millis::new(NOON + 1_000));
    let mut counter = Counter::fresh(&slow, at);
    let mark = counter.take(&slow, 100, at);
    // The raised rate has given all of it back, and another call has taken it.
    assert_eq!(counter.read(&fast, 100, later).denied, None);
    counter.take(&fast, 100, later);
    counter.correct(mark, 100, -100, later);
    assert_eq!(counter.read(&fast, 0, later).remaining, 0);
}

#[test]
fn a_rate_is_refused_where_its_arithmetic_would_pass_two_to_the_53() {
    use crate::limits::{LIMIT_MAX, WINDOW_MS_MAX};
    assert!(Refill::new(1, 1_000, LIMIT_MAX / 1_000).is_ok());
    assert_eq!(Refill::new(1, 1_000, LIMIT_MAX / 1_000 + 1).unwrap_err().field, "capacity");
    assert!(Refill::new(1_000, 1_000, LIMIT_MAX).is_ok(), "the reduced period counts");
    for (units, period_ms) in
        [(0, 1), (-1, 1), (LIMIT_MAX + 1, 1), (1, 0), (1, WINDOW_MS_MAX + 1), (i64::MIN, i64::MIN)]
    {
        assert!(Refill::new(units, period_ms, 1).is_err(), "{units} in {period_ms} ms");
    }
}
