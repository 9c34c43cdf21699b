//! Tests of how often somebody may try.

use super::*;

fn now() -> Millis {
    Millis::new(1_000_000)
}

fn email(text: &str) -> EmailAddress {
    EmailAddress::parse("email", text).unwrap()
}

fn ip(text: &str) -> Option<IpAddr> {
    Some(text.parse().unwrap())
}

#[test]
fn an_address_is_tried_ten_times_at_once_from_one_place() {
    let attempts = Attempts::default();
    let take = |place, at| attempts.take(Attempt::ComeIn, ip(place), Some(&email("a@example.com")), at);
    assert!((0..PAIR_CAPACITY).all(|_| take("192.0.2.1", now()).is_ok()));
    let refused = take("192.0.2.1", now()).unwrap_err();
    assert_eq!(refused.reason, Reason::TooManyAttempts);
    assert_eq!(refused.retry_after_ms, Some(PAIR_REFILL_MS));
    take("192.0.2.2", now()).unwrap();
    take("192.0.2.1", now().plus(PAIR_REFILL_MS)).unwrap();
}

#[test]
fn an_address_is_tried_a_hundred_times_at_once_from_all_places() {
    let attempts = Attempts::default();
    let take = |n: i64| {
        attempts.take(Attempt::ComeIn, ip(&format!("192.0.2.{n}")), Some(&email("a@example.com")), now())
    };
    assert!((0..ADDRESS_CAPACITY).all(|n| take(n).is_ok()));
    assert!(take(200).is_err());
}

#[test]
fn a_household_is_one_place() {
    let attempts = Attempts::default();
    let take = |n: i64| attempts.take(Attempt::ComeIn, ip(&format!("2001:db8::{n:x}")), None, now());
    assert!((0..PLACE_CAPACITY).all(|n| take(n).is_ok()));
    assert!(take(0xfff).is_err());
    attempts.take(Attempt::ComeIn, ip("2001:db8:0:1::1"), None, now()).unwrap();
}

#[test]
fn a_refused_attempt_takes_nothing_from_any_counter() {
    let attempts = Attempts::default();
    let take = |text: &str| attempts.take(Attempt::ComeIn, ip("192.0.2.1"), Some(&email(text)), now());
    assert!((0..PAIR_CAPACITY).all(|_| take("a@example.com").is_ok()));
    assert!((0..PLACE_CAPACITY).all(|_| take("a@example.com").is_err()));
    take("b@example.com").unwrap();
}

#[test]
fn what_others_try_keeps_nobody_out_of_where_they_have_come_in() {
    let attempts = Attempts::default();
    let ada = email("a@example.com");
    let take = |place: &str| attempts.take(Attempt::ComeIn, ip(place), Some(&ada), now());
    attempts.came_in(ip("203.0.113.1"), &ada);
    let others = (0..200).map(|n| take(&format!("192.0.2.{n}")));
    assert_eq!(others.filter(Result::is_err).count(), 100);
    take("203.0.113.1").unwrap();
    // Another place of theirs is new, and another person's place is none of theirs.
    assert!(take("203.0.113.2").is_err());
    attempts.came_in(ip("203.0.113.2"), &email("b@example.com"));
    assert!(take("203.0.113.2").is_err());
    // From the place itself, they try as often as anybody.
    assert!((1..PAIR_CAPACITY).all(|_| take("203.0.113.1").is_ok()));
    assert!(take("203.0.113.1").is_err());
}

#[test]
fn nobody_knows_an_unknown_place() {
    let attempts = Attempts::default();
    let ada = email("a@example.com");
    attempts.came_in(None, &ada);
    let wanted = attempts.wanted(Attempt::ComeIn, None, Some(&ada));
    assert!(wanted.iter().any(|(kind, _)| *kind == Kind::Address));
}

#[test]
fn made_up_refresh_tokens_keep_nobody_from_logging_in() {
    let attempts = Attempts::default();
    let take = |attempt| attempts.take(attempt, ip("192.0.2.1"), None, now());
    assert!((0..PLACE_CAPACITY).all(|_| take(Attempt::Refresh).is_ok()));
    assert!(take(Attempt::Refresh).is_err());
    take(Attempt::ComeIn).unwrap();
}

#[test]
fn a_site_of_many_households_is_counted_too() {
    let attempts = Attempts::default();
    let take = |n: i64| attempts.take(Attempt::ComeIn, ip(&format!("2001:db8:0:{n:x}::1")), None, now());
    assert!((0..SITE_CAPACITY).all(|n| take(n).is_ok()));
    let kept = attempts.counters.lock().kept.len();
    let refused = take(SITE_CAPACITY).unwrap_err();
    assert_eq!((refused.reason, refused.retry_after_ms), (Reason::TooManyAttempts, Some(SITE_REFILL_MS)));
    assert_eq!(attempts.counters.lock().kept.len(), kept, "a refusal makes no counters");
    attempts.take(Attempt::ComeIn, ip("2001:db8:1::1"), None, now()).unwrap();
}

/// Counters filled to the brim by others at an instant.
fn full(at: Millis) -> Counters {
    let limit = Kind::Place.limit().unwrap();
    let mut counters = Counters::default();
    for hash in 0..COUNTERS_MAX as u128 {
        let mut counter = Counter::fresh(&limit, at);
        counter.take(&limit, 1, at);
        counters.kept.insert((Kind::Place, Whose::Own(hash)), counter);
    }
    counters
}

#[test]
fn a_full_house_is_swept_once_in_a_while_and_its_latecomers_share_many_counters() {
    let mut counters = full(now());
    let late = |counters: &mut Counters, hash, at| counters.admitted(Kind::Address, u128::MAX - hash, at).1;
    let shared: std::collections::HashSet<Whose> =
        (0..SHARED_COUNTERS).map(|hash| late(&mut counters, hash, now())).collect();
    assert_eq!(shared.len(), 4_096);
    assert!(shared.iter().all(|whose| matches!(whose, Whose::Latecomers(_))));
    assert_eq!(counters.swept_at, Some(now()));
    // All are over by now, and nobody looks.
    let over = now().plus(SWEEP_APART_MS - 1);
    assert!(matches!(late(&mut counters, 0, over), Whose::Latecomers(_)));
    assert!(matches!(late(&mut counters, 0, over.plus(1)), Whose::Own(_)));
    assert!(counters.kept.is_empty());
}
