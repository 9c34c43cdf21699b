use super::*;

fn fixed(limit: i64, window_ms: i64) -> Limit {
    Limit::FixedWindow { limit, window_ms }
}

#[test]
fn a_lead_is_a_twentieth_or_ten_seconds_of_the_limit() {
    assert_eq!(fixed(1_000, 3_600_000).lead_units_max(), 50);
    assert_eq!(fixed(19, 3_600_000).lead_units_max(), 0);
    assert_eq!(fixed(60, 60_000).lead_units_max(), 10);
    assert_eq!(fixed(7, 10_000).lead_units_max(), 7);
    assert_eq!(fixed(7, 9_999).lead_units_max(), i64::MAX);
    assert_eq!(fixed(i64::MAX, 10_000).lead_units_max(), i64::MAX);
    let bucket = |capacity, units| Limit::TokenBucket {
        capacity,
        refill: Refill::new(units, 60_000, capacity).unwrap(),
    };
    assert_eq!(bucket(60, 60).lead_units_max(), 10);
    assert_eq!(bucket(6, 60).lead_units_max(), i64::MAX, "it fills up in six seconds");
    assert_eq!(bucket(0, 60).lead_units_max(), i64::MAX);
}

#[test]
fn units_are_within_a_lead_up_to_the_largest() {
    for limit in [fixed(1_000, 3_600_000), fixed(19, 3_600_000), fixed(60, 60_000), fixed(7, 500)] {
        let most = limit.lead_units_max();
        assert!(limit.leads_by(0) && limit.leads_by(most), "{limit:?}");
        assert!(most == i64::MAX || !limit.leads_by(most + 1), "{limit:?}");
    }
}

#[test]
fn a_window_that_is_over_owes_nothing_and_a_full_one_no_more() {
    let limit = fixed(100, 60_000);
    let start = Millis::new(NOON - NOON % 60_000);
    let mut counter = Counter::fresh(&limit, start);
    counter.owe(&limit, 10, start.plus(-1), start);
    assert_eq!(counter.read(&limit, 0, start).used, 0);
    counter.take(&limit, 95, start);
    counter.owe(&limit, 10, start, start.plus(5));
    assert_eq!(counter.read(&limit, 0, start.plus(5)).used, 100);
    counter.charge(&limit, 30, start, start.plus(5));
    counter.owe(&limit, 10, start.plus(5), start.plus(6));
    assert_eq!(counter.read(&limit, 0, start.plus(6)).used, 130, "debt stays as it is");
}

proptest! {
    /// What is forgotten and counted again as a lead leaves the counter no lower than it was, now
    /// and ever after.
    #[test]
    fn a_lead_is_no_less_than_what_was_lost(
        limit in any_renewing_limit(),
        before in any_history(),
        lost in prop::collection::vec((any_step_ms(), 1_i64..5), 0..10),
        down_ms in any_step_ms(),
        later in prop::collection::vec(any_step_ms(), 1..10),
    ) {
        let mut truth = Driven::after(limit, before);
        let mut written = truth.counter.clone();
        let most = truth.limit.at(truth.now).lead_units_max();
        let mut units = 0;
        for (step_ms, amount) in lost {
            truth.now = truth.now.plus(step_ms);
            let (now, is_led) = (truth.now, units + amount <= most);
            let limit = truth.limit.at(now);
            if is_led && truth.counter.read(&limit, amount, now).denied.is_none() {
                truth.counter.take(&limit, amount, now);
                units += amount;
            }
        }
        let at = truth.now.plus(down_ms);
        let mut now = at;
        for (turn, step_ms) in later.into_iter().enumerate() {
            now = now.plus(step_ms);
            let limit = truth.limit.at(now);
            if turn == 0 {
                written.owe(&limit, units, at, now);
            }
            let (used, lost) = (written.read(&limit, 0, now).used, truth.counter.read(&limit, 0, now).used);
            prop_assert!(used >= lost, "{used} used of {limit:?}, and before the crash {lost}");
        }
    }
}
