//! Log-ins at the provider that were begun: kept in memory, each for one try and ten minutes.

use std::collections::{HashMap, VecDeque};

use parking_lot::Mutex;
use rateguard_core::time::Millis;
use subtle::ConstantTimeEq;

use super::secret_tokens::{draw_login, login_sha256};
use crate::error::EngineError;
use crate::secrets::SecretText;

/// Log-ins under way at once, with those that ended since it was last looked; each takes some 500 bytes.
const PENDING_MAX: usize = 50_000;
/// At least so many are forgotten at once where all are under way, so that looking through all of them is
/// seldom.
const FORGOTTEN_MIN: usize = PENDING_MAX / 64;
/// Log-ins under way from one place: those of an office whose people all come in the same morning.
const PENDING_PER_PLACE_MAX: usize = 200;
/// Life of a log-in that was begun: ten minutes to type a password and find a telephone.
pub(super) const PENDING_LIFE_MS: i64 = 10 * 60 * 1_000;

/// What is remembered of a log-in.
pub(super) struct Pending {
    pub(super) state: SecretText,
    pub(super) nonce: SecretText,
    pub(super) verifier: SecretText,
    pub(super) expires_at: Millis,
}

/// Those under way.
#[derive(Default)]
pub(super) struct PendingLogins(Mutex<Logins>);

#[derive(Default)]
struct Logins {
    /// By the hash of the secret that whoever began one has.
    by_hash: HashMap<[u8; 32], Pending>,
    /// From where they were begun, the oldest first. Some of them may be over.
    by_place: HashMap<String, VecDeque<[u8; 32]>>,
    /// How many stand there, over all places.
    begun: usize,
}

impl PendingLogins {
    /// Remembers one that was begun from a place, and gives its secret. Where there are too many, the oldest
    /// of this place goes, or those of the places that have the most: nobody keeps others from
    /// logging in by beginning again and again.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub(super) fn keep(
        &self,
        place: String,
        pending: Pending,
        now: Millis,
    ) -> Result<SecretText, EngineError> {
        let (login_id, hash) = draw_login()?;
        let mut logins = self.0.lock();
        if logins.begun >= PENDING_MAX {
            logins.make_room(now);
        }
        logins.insert(place, hash, pending);
        Ok(login_id)
    }

    /// Takes one out: it is good once, whatever comes with it. `None` where there is none with the secret
    /// and the state, or it is too old.
    pub(super) fn take(&self, login_id: &SecretText, state: &SecretText, now: Millis) -> Option<Pending> {
        let pending = self.0.lock().by_hash.remove(&login_sha256(login_id)?)?;
        // Compared, and never kept.
        let is_same = pending.state.expose().as_bytes().ct_eq(state.expose().as_bytes());
        (bool::from(is_same) && pending.expires_at > now).then_some(pending)
    }
}

impl Logins {
    fn insert(&mut self, place: String, hash: [u8; 32], pending: Pending) {
        let Self { by_hash, by_place, begun } = self;
        by_hash.insert(hash, pending);
        let of_place = by_place.entry(place).or_default();
        of_place.push_back(hash);
        *begun += 1;
        if of_place.len() > PENDING_PER_PLACE_MAX
            && let Some(oldest) = of_place.pop_front()
        {
            by_hash.remove(&oldest);
            *begun -= 1;
        }
    }

    /// Forgets what is over; where nothing is, the older halves of the places that have begun the most.
    fn make_room(&mut self, now: Millis) {
        let Self { by_hash, by_place, begun } = self;
        by_hash.retain(|_, pending| pending.expires_at > now);
        by_place.retain(|_, of_place| {
            of_place.retain(|hash| by_hash.contains_key(hash));
            !of_place.is_empty()
        });
        *begun = by_hash.len();
        let mut places: Vec<&mut VecDeque<[u8; 32]>> = by_place.values_mut().collect();
        places.sort_unstable_by_key(|of_place| std::cmp::Reverse(of_place.len()));
        for of_place in places {
            if *begun + FORGOTTEN_MIN <= PENDING_MAX {
                break;
            }
            for hash in of_place.drain(..of_place.len().div_ceil(2)) {
                by_hash.remove(&hash);
                *begun -= 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> SecretText {
        SecretText::new(text.to_owned())
    }

    fn here() -> String {
        "here".to_owned()
    }

    fn pending(expires_at: i64) -> Pending {
        Pending {
            state: text("state"),
            nonce: text("nonce"),
            verifier: text("verifier"),
            expires_at: Millis::new(expires_at),
        }
    }

    #[test]
    fn a_log_in_is_good_once() {
        let logins = PendingLogins::default();
        let id = logins.keep(here(), pending(10), Millis::new(1)).unwrap();
        assert!(logins.take(&id, &text("state"), Millis::new(9)).is_some());
        assert!(logins.take(&id, &text("state"), Millis::new(9)).is_none());
    }

    #[test]
    fn another_state_spends_it_and_time_does() {
        let logins = PendingLogins::default();
        let id = logins.keep(here(), pending(10), Millis::new(1)).unwrap();
        assert!(logins.take(&id, &text("other"), Millis::new(9)).is_none());
        assert!(logins.take(&id, &text("state"), Millis::new(9)).is_none());
        let late = logins.keep(here(), pending(10), Millis::new(1)).unwrap();
        assert!(logins.take(&late, &text("state"), Millis::new(10)).is_none());
        assert!(logins.take(&text("rgo_x"), &text("state"), Millis::new(1)).is_none());
    }

    #[test]
    fn a_place_that_begins_too_many_forgets_its_own_oldest() {
        let logins = PendingLogins::default();
        let elsewhere = logins.keep("elsewhere".to_owned(), pending(10), Millis::new(1)).unwrap();
        let first = logins.keep(here(), pending(10), Millis::new(1)).unwrap();
        let last = (0..PENDING_PER_PLACE_MAX)
            .map(|_| logins.keep(here(), pending(10), Millis::new(1)).unwrap())
            .last();
        assert!(logins.take(&first, &text("state"), Millis::new(2)).is_none());
        for id in [elsewhere, last.unwrap()] {
            assert!(logins.take(&id, &text("state"), Millis::new(2)).is_some());
        }
    }

    #[test]
    fn a_full_house_forgets_of_whoever_has_begun_the_most() {
        let logins = PendingLogins::default();
        let few = logins.keep("few".to_owned(), pending(10), Millis::new(1)).unwrap();
        for number in 0..PENDING_MAX {
            let place = format!("many {}", number % (PENDING_MAX / PENDING_PER_PLACE_MAX + 1));
            logins.keep(place, pending(10), Millis::new(1)).unwrap();
        }
        let new = logins.keep("new".to_owned(), pending(10), Millis::new(1)).unwrap();
        assert!(logins.0.lock().by_hash.len() <= PENDING_MAX);
        for id in [few, new] {
            assert!(logins.take(&id, &text("state"), Millis::new(2)).is_some());
        }
    }

    #[test]
    fn places_whose_log_ins_have_ended_are_forgotten() {
        let logins = PendingLogins::default();
        for number in 0..2 * PENDING_MAX {
            let id = logins.keep(number.to_string(), pending(10), Millis::new(1)).unwrap();
            assert!(logins.take(&id, &text("state"), Millis::new(2)).is_some());
        }
        let Logins { by_hash, by_place, begun } = &*logins.0.lock();
        assert_eq!(by_hash.len(), 0);
        assert!(by_place.len() <= PENDING_MAX && *begun == by_place.len(), "{begun} in {}", by_place.len());
    }
}
