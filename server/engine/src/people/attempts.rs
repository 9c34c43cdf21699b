//! How often somebody may try: token buckets of the core, one for each address and each place.

mod known;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

use parking_lot::Mutex;
use rateguard_core::counter::{Counter, Limit, Refill, RetryAfter};
use rateguard_core::time::Millis;
use xxhash_rust::xxh3::Xxh3;

use super::EmailAddress;
use crate::error::{EngineError, Reason};

use known::KnownPlaces;

/// Attempts at once from one place. Many people may share one address.
const PLACE_CAPACITY: i64 = 120;
/// One attempt from a place is given back each so often.
const PLACE_REFILL_MS: i64 = 500;
/// Attempts at once from all places of one site: ten times those of a place.
const SITE_CAPACITY: i64 = 1_200;
/// One of them is given back each so often.
const SITE_REFILL_MS: i64 = 50;
/// Attempts at once for one e-mail address from one place.
const PAIR_CAPACITY: i64 = 10;
/// One of them is given back each so often.
const PAIR_REFILL_MS: i64 = 30_000;
/// Attempts at once for one e-mail address from all places that it has not come in from: a botnet guesses no
/// faster than this.
const ADDRESS_CAPACITY: i64 = 100;
/// One of them is given back each so often.
const ADDRESS_REFILL_MS: i64 = 36_000;
/// Counters kept; beyond it new addresses and places share some. Some 10 MiB.
const COUNTERS_MAX: usize = 100_000;
/// Counters of each kind that latecomers share: whoever fills the house locks out few of them.
const SHARED_COUNTERS: u128 = 4_096;
/// While the house is full, what is over is looked for this often at most: it takes some milliseconds.
const SWEEP_APART_MS: i64 = 5_000;
/// Bits of an IPv6 address that tell places apart: a household has a /64.
const IPV6_PLACE_BITS: u32 = 64;
/// Bits of an IPv6 address that tell sites apart: whoever is given many networks has a /48 of them.
const IPV6_SITE_BITS: u32 = 48;

/// What is tried; each is counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    /// Coming in: logging in, registering, accepting an invitation.
    ComeIn,
    /// Going on with a session. Whoever presents made-up tokens keeps nobody from logging in.
    Refresh,
    /// Sending somebody mail.
    Invite,
}

/// What is counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Site,
    Place,
    Pair,
    Address,
}

impl Kind {
    fn limit(self) -> Result<Limit, EngineError> {
        let (capacity, period_ms) = match self {
            Self::Site => (SITE_CAPACITY, SITE_REFILL_MS),
            Self::Place => (PLACE_CAPACITY, PLACE_REFILL_MS),
            Self::Pair => (PAIR_CAPACITY, PAIR_REFILL_MS),
            Self::Address => (ADDRESS_CAPACITY, ADDRESS_REFILL_MS),
        };
        Ok(Limit::TokenBucket { capacity, refill: Refill::new(1, period_ms, capacity)? })
    }
}

/// Which counter of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Whose {
    /// Of one hash.
    Own(u128),
    /// Of the latecomers with this remainder.
    Latecomers(u128),
}

type Id = (Kind, Whose);

/// The counters, and the places from which accounts have come in.
#[derive(Default)]
pub(super) struct Attempts {
    counters: Mutex<Counters>,
    known: Mutex<KnownPlaces>,
}

#[derive(Default)]
struct Counters {
    kept: HashMap<Id, Counter>,
    swept_at: Option<Millis>,
}

impl Attempts {
    /// Takes one attempt from a place, for an address where one is tried: of all counters, or of none. From where
    /// the address has come in before, it counts for that place alone: what others try keeps nobody out.
    ///
    /// # Errors
    /// [`Reason::TooManyAttempts`] with the wait.
    pub(super) fn take(
        &self,
        attempt: Attempt,
        from: Option<IpAddr>,
        email: Option<&EmailAddress>,
        now: Millis,
    ) -> Result<(), EngineError> {
        let wanted = self.wanted(attempt, from, email);
        self.counters.lock().take(&wanted, now)
    }

    /// Remembers from where an address has come in.
    pub(super) fn came_in(&self, from: Option<IpAddr>, email: &EmailAddress) {
        // Unknown places are not told apart.
        if from.is_some() {
            self.known.lock().insert(hash(&[&place(from), email.as_str()]));
        }
    }

    /// What an attempt counts for, the widest first.
    fn wanted(
        &self,
        attempt: Attempt,
        from: Option<IpAddr>,
        email: Option<&EmailAddress>,
    ) -> Vec<(Kind, u128)> {
        let (what, place) = (format!("{attempt:?}"), place(from));
        let mut wanted = Vec::with_capacity(4);
        if let Some(IpAddr::V6(v6)) = from.map(|ip| ip.to_canonical()) {
            wanted.push((Kind::Site, hash(&[&what, &network(v6, IPV6_SITE_BITS).to_string()])));
        }
        wanted.push((Kind::Place, hash(&[&what, &place])));
        let Some(email) = email else { return wanted };
        wanted.push((Kind::Pair, hash(&[&what, &place, email.as_str()])));
        let is_known =
            attempt == Attempt::ComeIn && self.known.lock().contains(hash(&[&place, email.as_str()]));
        if !is_known {
            wanted.push((Kind::Address, hash(&[&what, email.as_str()])));
        }
        wanted
    }
}

impl Counters {
    fn take(&mut self, wanted: &[(Kind, u128)], now: Millis) -> Result<(), EngineError> {
        let mut charges = Vec::with_capacity(wanted.len());
        for (kind, hash) in wanted {
            let (id, limit) = (self.admitted(*kind, *hash, now), kind.limit()?);
            // One that is refused makes no counters.
            let read = |counter: &Counter| counter.read(&limit, 1, now).denied;
            if let Some(wait) = self.kept.get(&id).and_then(read) {
                return Err(too_many(wait));
            }
            charges.push((id, limit));
        }
        for (id, limit) in charges {
            self.kept.entry(id).or_insert_with(|| Counter::fresh(&limit, now)).take(&limit, 1, now);
        }
        Ok(())
    }

    /// The counter's own id, or a shared one when there is no room for another.
    fn admitted(&mut self, kind: Kind, hash: u128, now: Millis) -> Id {
        let id = (kind, Whose::Own(hash));
        if self.kept.contains_key(&id) || self.kept.len() < COUNTERS_MAX {
            return id;
        }
        self.sweep(now);
        if self.kept.len() < COUNTERS_MAX { id } else { (kind, Whose::Latecomers(hash % SHARED_COUNTERS)) }
    }

    /// Drops what is over, unless that was just done.
    fn sweep(&mut self, now: Millis) {
        let is_recent = |at: Millis| (0..SWEEP_APART_MS).contains(&now.since(at));
        if !self.swept_at.is_some_and(is_recent) {
            self.swept_at = Some(now);
            self.kept.retain(|_, counter| !counter.is_idle(now));
        }
    }
}

/// A place in words: an address of IPv4, a household of IPv6.
pub(super) fn place(from: Option<IpAddr>) -> String {
    let of_one = |ip: IpAddr| match ip.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(network(v6, IPV6_PLACE_BITS)),
        v4 => v4,
    };
    format!("{:?}", from.map(of_one))
}

/// The network of an address: its first bits.
fn network(address: Ipv6Addr, bits: u32) -> Ipv6Addr {
    Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << (Ipv6Addr::BITS - bits)))
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
mod tests;
