use super::*;

const SERVED: Taken = Taken::Served { asks_more: false };

fn amounts(requests: i64) -> Amounts {
    Amounts::from([("requests".to_owned(), requests)])
}

fn held(now: Instant) -> Held {
    Held::new(vec!["requests".to_owned()], now)
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn lease(id: &str, amount: i64, life_ms: i64) -> v1::LeaseQuotaResponse {
    v1::LeaseQuotaResponse {
        lease_id: id.to_owned(),
        granted: vec![unit_amount("requests", amount)],
        life_ms,
        ..v1::LeaseQuotaResponse::default()
    }
}

/// With so much held from now on.
fn holding(amount: i64, life_ms: i64, now: Instant) -> Held {
    let mut held = held(now);
    drop(held.ask(now));
    held.answer(&lease("one", amount, life_ms), now, now);
    held
}

#[test]
fn the_first_call_is_the_servers_and_later_ones_wait_for_one_lease() {
    let now = Instant::now();
    let mut held = held(now);
    assert_eq!(held.take(&amounts(1), true, now), Taken::Strict);
    assert_eq!(held.take(&amounts(1), true, now), Taken::Waits { asks: true });
    assert_eq!(held.take(&amounts(2), true, now), Taken::Waits { asks: false });
    let wish = &held.ask(now + ms(1)).wishes[0];
    assert!(wish.amount >= 3, "what waits and what comes: {wish:?}");
    assert_eq!(wish.least, 1, "the smallest that waits");
    held.answer(&lease("one", 100, 1_000), now, now);
    assert_eq!(held.take(&amounts(2), false, now), SERVED);
}

#[test]
fn as_much_is_spent_as_was_granted_and_no_more() {
    let now = Instant::now();
    let mut held = holding(10, 1_000, now);
    held.is_asking = true;
    held.answer(&lease("two", 5, 1_000), now, now);
    let served =
        (0..20).filter(|_| matches!(held.take(&amounts(2), false, now), Taken::Served { .. })).count();
    assert_eq!(served, 7, "of 15 units, two at a time, across leases");
    assert_eq!(held.end_all()[0].unspent[0].amount, 1);
}

#[test]
fn more_is_asked_for_ahead_of_use_and_once() {
    let now = Instant::now();
    let mut held = holding(100, 1_000, now);
    let asking: Vec<usize> = (1..=100)
        .filter(|_| held.take(&amounts(1), true, now) == Taken::Served { asks_more: true })
        .collect();
    assert_eq!(asking.len(), 1);
    let question = held.ask(now + ms(100));
    // A thousand in a second, for a quarter of a second.
    assert_eq!(question.wishes[0].amount, 250);
    assert_eq!(question.ended.len(), 1, "the lease that is spent is told of");
}

#[test]
fn what_has_died_is_not_spent_and_goes_back() {
    let now = Instant::now();
    let mut held = holding(10, 1_000, now);
    assert_eq!(held.take(&amounts(4), false, now + ms(999)), SERVED);
    assert_eq!(held.take(&amounts(1), false, now + ms(1_000)), Taken::Strict);
    let over = held.end_over(now + ms(1_000));
    assert_eq!((over[0].lease_id.as_str(), over[0].unspent[0].amount), ("one", 6));
    assert_eq!(held.end_over(now + ms(1_000)), [], "once");
}

#[test]
fn a_call_of_other_units_is_the_servers() {
    let now = Instant::now();
    let mut held = holding(10, 1_000, now);
    let mut both = amounts(1);
    both.insert("tokens".to_owned(), 5);
    assert_eq!(held.take(&both, true, now), Taken::Strict);
    assert_eq!(held.take(&amounts(-1), true, now), Taken::Strict);
    assert_eq!(held.take(&Amounts::new(), true, now), Taken::Strict);
}

#[test]
fn a_call_of_nothing_is_the_servers_whatever_is_held() {
    let now = Instant::now();
    let mut nothing_held = held(now);
    for _ in 0..3 {
        assert_eq!(nothing_held.take(&amounts(0), true, now), Taken::Strict);
    }
    assert_eq!(holding(10, 1_000, now).take(&amounts(0), true, now), Taken::Strict);
}

#[test]
fn a_call_that_takes_nothing_of_one_unit_is_served_only_by_a_lease_that_is_alive() {
    let now = Instant::now();
    let units = ["requests", "tokens"].map(str::to_owned);
    let call = Amounts::from(units.clone().map(|unit| (unit.clone(), i64::from(unit == "requests"))));
    let mut held = Held::new(units.into(), now);
    assert_eq!(held.take(&call, false, now), Taken::Strict);
    drop(held.ask(now));
    held.answer(&lease("one", 10, 1_000), now, now);
    assert!(matches!(held.take(&call, false, now + ms(999)), Taken::Served { .. }));
    assert_eq!(held.take(&call, false, now + ms(1_000)), Taken::Strict);
}

#[test]
fn after_nothing_was_lent_the_server_decides_for_a_while() {
    let now = Instant::now();
    let mut held = held(now);
    held.take(&amounts(1), true, now);
    held.take(&amounts(1), true, now);
    drop(held.ask(now));
    let nothing = v1::LeaseQuotaResponse { retry_after_ms: Some(300), ..v1::LeaseQuotaResponse::default() };
    held.answer(&nothing, now, now);
    assert_eq!(held.take(&amounts(1), true, now + ms(299)), Taken::Strict);
    assert_eq!(held.take(&amounts(1), true, now + ms(300)), Taken::Waits { asks: true });
}

#[test]
fn what_nobody_wants_goes_back_and_is_forgotten() {
    let now = Instant::now();
    let mut held = holding(10, 10_000, now);
    held.take(&amounts(1), true, now);
    assert_eq!(held.end_over(now + ms(1_999)), []);
    assert!(!held.is_idle(now + IDLE), "something is held");
    assert_eq!(held.end_over(now + IDLE)[0].unspent[0].amount, 9);
    assert!(held.is_idle(now + IDLE));
}

#[test]
fn a_life_is_counted_from_when_it_was_asked_for() {
    let now = Instant::now();
    let mut held = held(now);
    drop(held.ask(now));
    held.answer(&lease("one", 10, 1_000), now, now + ms(400));
    assert_eq!(held.take(&amounts(1), false, now + ms(999)), SERVED);
    assert_eq!(held.take(&amounts(1), false, now + ms(1_000)), Taken::Strict);
}
