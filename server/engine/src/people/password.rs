//! Passwords: kept as argon2id hashes, held against them on threads of their own, a few at a time.
//!
//! What a hash works in is kept for the next one. Allocated for each, it is fresh memory on whichever
//! thread comes to do it, which common allocators neither give back nor use again on another: a rush of
//! log-ins would leave the process holding gigabytes.

mod memory;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use argon2::password_hash::phc::PasswordHash as PhcHash;
use argon2::password_hash::phc::{Output, ParamsString, Salt};
use argon2::{Algorithm, Argon2, Block, Params, RECOMMENDED_SALT_LEN, Version};
use rateguard_core::invalid::Invalid;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{EngineError, Reason};
use crate::secrets::{SecretText, random};
use memory::Memories;

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
    memories: Arc<Memories>,
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
        let memories = Memories::default();
        let nobodys = memories.lend(|memory| hash(&unknowable, memory))?;
        Ok(Self { turns: Arc::new(Semaphore::new(HASHES_AT_ONCE)), memories: Arc::new(memories), nobodys })
    }

    /// Hashes a new password.
    pub(super) async fn hash(&self, password: &SecretText) -> Result<PasswordHash, EngineError> {
        let (turn, password) = (self.turn().await?, password.clone());
        // It is hashed, and dropped there.
        self.on_a_thread(turn, move |memory| hash(password.expose().as_bytes(), memory)).await?
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
        let verdict = self.on_a_thread(turn, move |memory| verify(&password, &hash, memory)).await?;
        Ok(if known.is_some() && fits { verdict } else { Verdict::Wrong })
    }

    async fn turn(&self) -> Result<OwnedSemaphorePermit, EngineError> {
        let busy = || EngineError::new(Reason::QueueFull, "too many passwords are being checked");
        let turn = tokio::time::timeout(TURN_WAIT_MAX, self.turns.clone().acquire_owned()).await;
        turn.map_err(|_| busy())?.map_err(|_| busy())
    }

    async fn on_a_thread<T: Send + 'static>(
        &self,
        turn: OwnedSemaphorePermit,
        work: impl FnOnce(&mut [Block]) -> T + Send + 'static,
    ) -> Result<T, EngineError> {
        let memories = self.memories.clone();
        let work = move || {
            // The turn ends with the work, also when nobody waits for it any more.
            let _turn = turn;
            memories.lend(work)
        };
        let done = tokio::task::spawn_blocking(work).await;
        done.map_err(|_| EngineError::internal("a password's thread did not run to its end"))
    }
}

fn params_of_today() -> argon2::Result<Params> {
    Params::new(MEMORY_KIB, PASSES, LANES, None)
}

fn hash(password: &[u8], memory: &mut [Block]) -> Result<PasswordHash, EngineError> {
    let salt = random::<RECOMMENDED_SALT_LEN>().map_err(|error| EngineError::internal(&error.to_string()))?;
    let hashed = hash_with(password, &salt, memory);
    let hashed = hashed.map_err(|error| EngineError::internal(&error.to_string()))?;
    Ok(PasswordHash(hashed.to_string().into()))
}

fn hash_with(
    password: &[u8],
    salt: &[u8],
    memory: &mut [Block],
) -> Result<PhcHash, argon2::password_hash::Error> {
    let params = params_of_today()?;
    let (algorithm, version) = (Algorithm::Argon2id, Version::V0x13);
    let mut tag = [0; Params::DEFAULT_OUTPUT_LEN];
    let argon2 = Argon2::new(algorithm, version, params.clone());
    argon2.hash_password_into_with_memory(password, salt, &mut tag, memory)?;
    Ok(PhcHash {
        algorithm: algorithm.ident(),
        version: Some(version.into()),
        params: ParamsString::try_from(&params)?,
        salt: Some(Salt::new(salt)?),
        hash: Some(Output::new(&tag)?),
    })
}

fn verify(password: &SecretText, hash: &PasswordHash, memory: &mut [Block]) -> Verdict {
    // It is held against the hash, and dropped there.
    let password = password.expose();
    if hash.as_str().starts_with(BCRYPT_BEGINNING) {
        let right = bcrypt::verify(password, hash.as_str()).unwrap_or(false);
        return if right { Verdict::RightButWeaklyHashed } else { Verdict::Wrong };
    }
    let Ok(parsed) = PhcHash::new(hash.as_str()) else { return Verdict::Wrong };
    match is_password_of(&parsed, password.as_bytes(), memory) {
        Ok(true) if is_as_strong_as_today(&parsed) => Verdict::Right,
        Ok(true) => Verdict::RightButWeaklyHashed,
        Ok(false) | Err(_) => Verdict::Wrong,
    }
}

/// Whether it is the password of a hash of argon2, whatever the hash's own parameters. One that needs more
/// memory than those made today has memory of its own.
fn is_password_of(
    hash: &PhcHash,
    password: &[u8],
    memory: &mut [Block],
) -> Result<bool, argon2::password_hash::Error> {
    let (Some(salt), Some(expected)) = (&hash.salt, &hash.hash) else { return Ok(false) };
    let algorithm = Algorithm::try_from(hash.algorithm.as_str())?;
    let version = hash.version.map(Version::try_from).transpose()?.unwrap_or_default();
    let params = Params::try_from(hash)?;
    let fits = params.block_count() <= memory.len();
    let argon2 = Argon2::new(algorithm, version, params);
    let mut buffer = [0; Output::MAX_LENGTH];
    let Some(tag) = buffer.get_mut(..expected.len()) else { return Ok(false) };
    if fits {
        argon2.hash_password_into_with_memory(password, salt, tag, memory)?;
    } else {
        argon2.hash_password_into(password, salt, tag)?;
    }
    // Compared in constant time.
    Ok(Output::new(tag)? == *expected)
}

fn is_as_strong_as_today(hash: &PhcHash) -> bool {
    let Ok(params) = Params::try_from(hash) else { return false };
    let is_argon2id = hash.algorithm.as_str() == Algorithm::Argon2id.as_str();
    is_argon2id && params.m_cost() >= MEMORY_KIB && params.t_cost() >= PASSES
}

#[cfg(test)]
mod tests;
