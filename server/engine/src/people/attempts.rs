//! How often somebody may try: token buckets of the core, one for each address and each place.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

use parking_lot::Mutex;
use rateguard_core::counter::{Counter, Limit, Refill, RetryAfter};
use rateguard_core::time::Millis;
use xxhash_rust::xxh3::Xxh3;

use super::EmailAddress;
use crate::error::{EngineError, Reason};

/// Attempts at once from one place. Many people may share one address.
const PLACE_CAPACITY: i64 = 120;
/// One attempt from a place is given back each so often.
const PLACE_REFILL_MS: i64 = 500;
/// Attempts at once for one e-mail address from one place.
const PAIR_CAPACITY: i64 = 10;
/// One of them is given back each so often.
const PAIR_REFILL_MS: i64 = 30_000;
/// Attempts at once for one e-mail address from all places: a botnet guesses no faster than this, and
/// must not lock the owner out for long.
const ADDRESS_CAPACITY: i64 = 100;
/// One of them is given back each so often.
const ADDRESS_REFILL_MS: i64 = 36_000;
/// Counters kept; beyond it new addresses and places share one counter of their kind. Some 10 MiB.
const COUNTERS_MAX: usize = 100_000;
/// Bits of an IPv6 address that tell places apart: a household has a /64.
const IPV6_PLACE_BITS: u32 = 64;

/// What is tried; each is counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    /// Coming in: logging in, registering, refreshing, accepting an invitation.
    ComeIn,
    /// Sending somebody mail.
    Invite,
}

/// What is counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Place,
    Pair,
    Address,
}

impl Kind {
    fn limit(self) -> Result<Limit, EngineError> {
        let (capacity, period_ms) = match self {
            Self::Place => (PLACE_CAPACITY, PLACE_REFILL_MS),
            Self::Pair => (PAIR_CAPACITY, PAIR_REFILL_MS),
            Self::Address => (ADDRESS_CAPACITY, ADDRESS_REFILL_MS),
        };
        Ok(Limit::TokenBucket { capacity, refill: Refill::new(1, period_ms, capacity)? })
    }
}

/// A counter of a kind; without a hash the one that latecomers share.
type Id = (Kind, Option<u128>);

/// The counters.
#[derive(Default)]
pub(super) struct Attempts {
    counters: Mutex<HashMap<Id, Counter>>,
}

impl Attempts {
    /// Takes one attempt from a place, for an address where one is tried: of all counters, or of none.
    ///
    /// # Errors
    /// [`Reason::TooManyAttempts`] with the wait.
    pub(super) fn take(
        &self,
        attempt: Attempt,
        place: Option<IpAddr>,
        email: Option<&EmailAddress>,
        now: Millis,
    ) -> Result<(), EngineError> {
        let (what, place) = (format!("{attempt:?}"), format!("{:?}", place.map(place_of)));
        let mut wanted = vec![(Kind::Place, hash(&[&what, &place]))];
        if let Some(email) = email {
            wanted.push((Kind::Pair, hash(&[&what, &place, email.as_str()])));
            wanted.push((Kind::Address, hash(&[&what, email.as_str()])));
        }
        let mut counters = self.counters.lock();
        let mut charges = Vec::with_capacity(wanted.len());
        for (kind, hash) in wanted {
            let (id, limit) = (admitted(&mut counters, kind, hash, now), kind.limit()?);
            let counter = counters.entry(id).or_insert_with(|| Counter::fresh(&limit, now));
            if let Some(wait) = counter.read(&limit, 1, now).denied {
                return Err(too_many(wait));
            }
            charges.push((id, limit));
        }
        for (id, limit) in charges {
            counters.entry(id).or_insert_with(|| Counter::fresh(&limit, now)).take(&limit, 1, now);
        }
        Ok(())
    }
}

/// The counter's own id, or the shared one when there is no room for another.
fn admitted(counters: &mut HashMap<Id, Counter>, kind: Kind, hash: u128, now: Millis) -> Id {
    let id = (kind, Some(hash));
    if counters.contains_key(&id) || counters.len() < COUNTERS_MAX {
        return id;
    }
    counters.retain(|_, counter| !counter.is_idle(now));
    if counters.len() < COUNTERS_MAX { id } else { (kind, None) }
}

fn place_of(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << IPV6_PLACE_BITS))),
        v4 => v4,
    }
}

fn hash(parts: &[&str]) -> u128 {
    let mut hasher = Xxh3::new();
    for part in parts {
        hasher.update(part.as_bytes());
        hasher.update(&[0]);
    }
    hasher.digest128()
}

fn too_many(wait: RetryAfter) -> EngineError {
    let error = EngineError::new(Reason::TooManyAttempts, "too many attempts; wait before the next one");
    match wait {
        RetryAfter::Millis(wait_ms) => EngineError { retry_after_ms: Some(wait_ms), ..error },
        RetryAfter::Never => error,
    }
}

#[cfg(test)]
mod tests {
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
}
