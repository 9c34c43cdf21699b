//! Log-ins at the provider that were begun: kept in memory, each for one try and ten minutes.

use std::collections::HashMap;

use parking_lot::Mutex;
use rateguard_core::time::Millis;
use subtle::ConstantTimeEq;

use super::secret_tokens::{draw_login, login_sha256};
use crate::error::{EngineError, Reason};
use crate::secrets::SecretText;

/// Log-ins under way at once. A place begins some 1,300 in the ten minutes of one; each takes some 400
/// bytes.
const PENDING_MAX: usize = 50_000;
/// Life of a log-in that was begun: ten minutes to type a password and find a telephone.
pub(super) const PENDING_LIFE_MS: i64 = 10 * 60 * 1_000;

/// What is remembered of a log-in.
pub(super) struct Pending {
    pub(super) state: SecretText,
    pub(super) nonce: SecretText,
    pub(super) verifier: SecretText,
    pub(super) expires_at: Millis,
}

/// Those under way, by the hash of the secret that whoever began them has.
#[derive(Default)]
pub(super) struct PendingLogins(Mutex<HashMap<[u8; 32], Pending>>);

impl PendingLogins {
    /// Remembers one and gives its secret.
    ///
    /// # Errors
    /// [`Reason::QueueFull`].
    pub(super) fn keep(&self, pending: Pending, now: Millis) -> Result<SecretText, EngineError> {
        let (login_id, hash) = draw_login()?;
        let mut logins = self.0.lock();
        if logins.len() >= PENDING_MAX {
            logins.retain(|_, pending| pending.expires_at > now);
        }
        if logins.len() >= PENDING_MAX {
            return Err(EngineError::new(Reason::QueueFull, "too many log-ins are under way"));
        }
        logins.insert(hash, pending);
        Ok(login_id)
    }

    /// Takes one out: it is good once, whatever comes with it. `None` where there is none with the secret
    /// and the state, or it is too old.
    pub(super) fn take(&self, login_id: &SecretText, state: &SecretText, now: Millis) -> Option<Pending> {
        let pending = self.0.lock().remove(&login_sha256(login_id)?)?;
        // Compared, and never kept.
        let is_same = pending.state.expose().as_bytes().ct_eq(state.expose().as_bytes());
        (bool::from(is_same) && pending.expires_at > now).then_some(pending)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> SecretText {
        SecretText::new(text.to_owned())
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
        let id = logins.keep(pending(10), Millis::new(1)).unwrap();
        assert!(logins.take(&id, &text("state"), Millis::new(9)).is_some());
        assert!(logins.take(&id, &text("state"), Millis::new(9)).is_none());
    }

    #[test]
    fn another_state_spends_it_and_time_does() {
        let logins = PendingLogins::default();
        let id = logins.keep(pending(10), Millis::new(1)).unwrap();
        assert!(logins.take(&id, &text("other"), Millis::new(9)).is_none());
        assert!(logins.take(&id, &text("state"), Millis::new(9)).is_none());
        let late = logins.keep(pending(10), Millis::new(1)).unwrap();
        assert!(logins.take(&late, &text("state"), Millis::new(10)).is_none());
        assert!(logins.take(&text("rgo_x"), &text("state"), Millis::new(1)).is_none());
    }

    #[test]
    fn a_full_house_lets_in_again_once_the_old_ones_are_over() {
        let logins = PendingLogins::default();
        for _ in 0..PENDING_MAX {
            logins.keep(pending(10), Millis::new(1)).unwrap();
        }
        let refused = logins.keep(pending(10), Millis::new(9)).unwrap_err();
        assert_eq!(refused.reason, Reason::QueueFull);
        logins.keep(pending(20), Millis::new(10)).unwrap();
    }
}
