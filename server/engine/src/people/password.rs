//! Passwords: kept as argon2id hashes, held against them on threads of their own, a few at a time.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use argon2::password_hash::phc::PasswordHash as PhcHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use rateguard_core::invalid::Invalid;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{EngineError, Reason};
use crate::secrets::{SecretText, random};

/// Shortest password, in characters.
pub const PASSWORD_CHARS_MIN: usize = 12;
/// Longest password, in characters.
pub const PASSWORD_CHARS_MAX: usize = 128;
/// Memory of one hash, in KiB: with two passes and one lane what OWASP's "Password Storage Cheat
/// Sheet" recommends at least for argon2id.
const MEMORY_KIB: u32 = 19 * 1_024;
/// Passes over that memory.
const PASSES: u32 = 2;
/// Lanes of it.
const LANES: u32 = 1;
/// Passwords hashed at once: each takes its memory and a whole core for some tens of milliseconds.
const HASHES_AT_ONCE: usize = 4;
/// Longest wait for a turn; beyond it the caller is told to come again.
const TURN_WAIT_MAX: Duration = Duration::from_secs(5);
/// What the hashes of bcrypt begin with.
const BCRYPT_BEGINNING: &str = "$2";

/// A hash of a password, in the PHC string format or that of bcrypt.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(Arc<str>);

impl PasswordHash {
    /// A hash out of a store, or brought along from another system.
    pub fn stored(text: &str) -> Self {
        Self(text.into())
    }

    /// The hash as text, for a store.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// How a password stands against a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is another one.
    Wrong,
    /// It is the one.
    Right,
    /// It is the one, and the hash is not as strong as those made today.
    RightButWeaklyHashed,
}

/// Checks a new password's length and characters.
///
/// # Errors
/// [`Invalid`] naming `field`.
pub fn check_password(field: &'static str, password: &SecretText) -> Result<(), Invalid> {
    // Only its length and characters are looked at.
    let text = password.expose();
    let fits = (PASSWORD_CHARS_MIN..=PASSWORD_CHARS_MAX).contains(&text.chars().count());
    if fits && !text.chars().any(char::is_control) {
        return Ok(());
    }
    let bounds =
        format!("must be {PASSWORD_CHARS_MIN} to {PASSWORD_CHARS_MAX} characters without control characters");
    Err(Invalid::new(field, bounds))
}

/// Hashes and verifies.
pub(super) struct Passwords {
    turns: Arc<Semaphore>,
    /// What nobody's password is held against, so that an unknown address takes as long as a known one. An
    /// account with a hash of bcrypt takes another time, until its first log-in here: evening that out would
    /// charge a hash of bcrypt to every log-in that fails, for as long as the installation lives.
    nobodys: PasswordHash,
}

impl Passwords {
    /// # Errors
    /// INTERNAL without randomness.
    pub(super) fn new() -> Result<Self, EngineError> {
        let unknowable = random::<32>().map_err(|error| EngineError::internal(&error.to_string()))?;
        let nobodys = hash(&unknowable)?;
        Ok(Self { turns: Arc::new(Semaphore::new(HASHES_AT_ONCE)), nobodys })
    }

    /// Hashes a new password.
    pub(super) async fn hash(&self, password: &SecretText) -> Result<PasswordHash, EngineError> {
        let (turn, password) = (self.turn().await?, password.clone());
        // It is hashed, and dropped there.
        on_a_thread(turn, move || hash(password.expose().as_bytes())).await?
    }

    /// Holds a password against an account's hash; `None` takes as long, and is always wrong.
    pub(super) async fn verify(
        &self,
        password: &SecretText,
        known: Option<&PasswordHash>,
    ) -> Result<Verdict, EngineError> {
        // Nothing longer was ever taken, and bounding it bounds the work.
        let fits = password.expose().chars().count() <= PASSWORD_CHARS_MAX;
        let (turn, password) = (self.turn().await?, password.clone());
        let hash = known.filter(|_| fits).unwrap_or(&self.nobodys).clone();
        let verdict = on_a_thread(turn, move || verify(&password, &hash)).await?;
        Ok(if known.is_some() && fits { verdict } else { Verdict::Wrong })
    }

    async fn turn(&self) -> Result<OwnedSemaphorePermit, EngineError> {
        let busy = || EngineError::new(Reason::QueueFull, "too many passwords are being checked");
        let turn = tokio::time::timeout(TURN_WAIT_MAX, self.turns.clone().acquire_owned()).await;
        turn.map_err(|_| busy())?.map_err(|_| busy())
    }
}

async fn on_a_thread<T: Send + 'static>(
    turn: OwnedSemaphorePermit,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, EngineError> {
    let work = move || {
        // The turn ends with the work, also when nobody waits for it any more.
        let _turn = turn;
        work()
    };
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| EngineError::internal("a password's thread did not run to its end"))
}

fn argon2id() -> Result<Argon2<'static>, EngineError> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None);
    let params = params.map_err(|error| EngineError::internal(&error.to_string()))?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

fn hash(password: &[u8]) -> Result<PasswordHash, EngineError> {
    let hashed = argon2id()?.hash_password(password);
    let hashed = hashed.map_err(|error| EngineError::internal(&error.to_string()))?;
    Ok(PasswordHash(hashed.to_string().into()))
}

fn verify(password: &SecretText, hash: &PasswordHash) -> Verdict {
    // It is held against the hash, and dropped there.
    let password = password.expose();
    if hash.as_str().starts_with(BCRYPT_BEGINNING) {
        let right = bcrypt::verify(password, hash.as_str()).unwrap_or(false);
        return if right { Verdict::RightButWeaklyHashed } else { Verdict::Wrong };
    }
    let Ok(parsed) = PhcHash::new(hash.as_str()) else { return Verdict::Wrong };
    match Argon2::default().verify_password(password.as_bytes(), &parsed) {
        Ok(()) if is_as_strong_as_today(&parsed) => Verdict::Right,
        Ok(()) => Verdict::RightButWeaklyHashed,
        Err(_) => Verdict::Wrong,
    }
}

fn is_as_strong_as_today(hash: &PhcHash) -> bool {
    let Ok(params) = Params::try_from(hash) else { return false };
    let is_argon2id = hash.algorithm.as_str() == Algorithm::Argon2id.as_str();
    is_argon2id && params.m_cost() >= MEMORY_KIB && params.t_cost() >= PASSES
}

#[cfg(test)]
mod tests;
