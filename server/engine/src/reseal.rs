//! Sealing everything again with the key that seals now, while everything goes on.
//!
//! It may stop anywhere and be done again: each value is sealed with one key or with another, says with
//! which, and both open it.

use std::sync::Arc;
use std::time::Duration;

use rateguard_core::time::Millis;
use thiserror::Error;
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::ports::{SealedStore, SealedValue, SealedValues, StoreError};
use crate::secrets::{CredentialCipher, EncryptionKeyId, SealedPlace, SecretError};
use crate::telling::Telling;

/// APIs read at once.
const APIS_PER_READ: usize = 200;
/// Places named of those that cannot be opened.
const PLACES_TOLD_MAX: usize = 5;
/// How often the source of keys is looked at: what it says is known here within twice of that.
pub const KEYS_READ_INTERVAL: Duration = Duration::from_secs(1);
/// How often everything is looked at while there is more than one key: something that was sealed with the
/// old one just before the change may be stored just after.
const RESEAL_INTERVAL: Duration = Duration::from_secs(5);
/// How long a key that the source no longer has goes on opening: many times the longest deadline of a
/// call.
const RETIRED_FOR: Duration = Duration::from_secs(120);

/// What one look at everything sealed has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resealed {
    /// Values that were sealed again.
    pub moved: usize,
    /// Values that were changed by somebody else meanwhile, and need another look.
    pub changed: usize,
    /// Values that cannot be opened.
    pub unopened: usize,
    /// The first of these, and why.
    pub examples: Vec<(SealedPlace, SecretError)>,
}

impl Resealed {
    /// Whether the key that seals now has sealed everything.
    pub fn is_whole(&self) -> bool {
        self.changed == 0 && self.unopened == 0
    }

    fn cannot_open(&mut self, place: SealedPlace, error: SecretError) {
        self.unopened += 1;
        if self.examples.len() < PLACES_TOLD_MAX {
            self.examples.push((place, error));
        }
    }
}

/// Values that no known key opens.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{count} sealed values cannot be opened: {described}")]
pub struct Unopened {
    /// How many.
    pub count: usize,
    described: String,
}

impl Resealed {
    /// What cannot be opened, in words.
    pub fn unopened(&self) -> Option<Unopened> {
        let examples: Vec<String> =
            self.examples.iter().map(|(place, error)| format!("{place}: {error}")).collect();
        let more = if self.unopened > examples.len() { ", and others" } else { "" };
        (self.unopened > 0)
            .then(|| Unopened { count: self.unopened, described: format!("{}{more}", examples.join("; ")) })
    }
}

/// Looks at everything sealed once, and seals again what another key has sealed than the one that does now.
///
/// # Errors
/// Those of the store; what was done before stays.
pub async fn reseal(
    store: &dyn SealedStore,
    cipher: &CredentialCipher,
    now: Millis,
) -> Result<Resealed, StoreError> {
    let mut done = Resealed::default();
    for value in store.sealed_singly().await? {
        reseal_one((store, cipher, now), value, &mut done).await?;
    }
    let mut after = None;
    loop {
        let page = store.credentials_after(after.as_ref(), APIS_PER_READ).await?;
        for value in page.values {
            reseal_one((store, cipher, now), value, &mut done).await?;
        }
        after = page.next;
        if after.is_none() {
            return Ok(done);
        }
    }
}

async fn reseal_one(
    (store, cipher, now): (&dyn SealedStore, &CredentialCipher, Millis),
    value: SealedValue,
    done: &mut Resealed,
) -> Result<(), StoreError> {
    match cipher.reseal(&value.place, &value.sealed) {
        Ok(None) => {}
        Ok(Some(sealed)) => match store.replace_sealed(&value, sealed, now).await? {
            true => done.moved += 1,
            false => done.changed += 1,
        },
        Err(error) => done.cannot_open(value.place, error),
    }
    Ok(())
}

/// How many values another key has sealed than this one.
///
/// # Errors
/// Those of the store.
pub async fn sealed_otherwise(store: &dyn SealedValues, key: EncryptionKeyId) -> Result<usize, StoreError> {
    let others = |values: &[SealedValue]| {
        values.iter().filter(|value| EncryptionKeyId::of_sealed(&value.sealed) != Some(key)).count()
    };
    let mut count = others(&store.sealed_singly().await?);
    let mut after = None;
    loop {
        let page = store.credentials_after(after.as_ref(), APIS_PER_READ).await?;
        count += others(&page.values);
        after = page.next;
        if after.is_none() {
            return Ok(count);
        }
    }
}

/// Follows the keys for a running process: takes new ones in, and seals everything again with them.
pub struct KeyWatch {
    store: Arc<dyn SealedStore>,
    cipher: CredentialCipher,
    clock: Arc<dyn Clock>,
    /// When keys were last taken in that were not there before.
    changed_at: Instant,
    /// When everything was last looked at; `None` when it is to be looked at now.
    looked_at: Option<Instant>,
    tellings: Tellings,
}

/// What is told of each thing that may fail, for one that lasts says nothing of the others.
struct Tellings {
    store: Telling,
    foreign: Telling,
    unopened: Telling,
}

/// The source of keys holds those of another installation, as far as is known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the encryption key file no longer holds the key in use; put that key back into it")]
struct ForeignKeys;

impl KeyWatch {
    /// A watch over these values by this cipher.
    pub fn new(store: Arc<dyn SealedStore>, cipher: CredentialCipher, clock: Arc<dyn Clock>) -> Self {
        let tellings = Tellings {
            store: Telling::of("following the encryption keys"),
            foreign: Telling::of("taking in the encryption keys"),
            unopened: Telling::of("sealing again with another key"),
        };
        Self { store, cipher, clock, changed_at: Instant::now(), looked_at: None, tellings }
    }

    /// Watches until it is stopped. It looks by itself, and at once when it is woken.
    pub async fn run(mut self, wake: Arc<Notify>, stop: CancellationToken) {
        let mut ticks = interval(KEYS_READ_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
                () = wake.notified() => {}
            }
            let turn = self.turn().await;
            self.tellings.store.tell(&turn);
        }
    }

    async fn turn(&mut self) -> Result<(), StoreError> {
        if self.keys_have_changed().await? {
            tracing::info!(key = %self.cipher.key_id(), "the encryption keys have changed; this one seals now");
            (self.changed_at, self.looked_at) = (Instant::now(), None);
        }
        let is_due = self.looked_at.is_none_or(|at| at.elapsed() >= RESEAL_INTERVAL);
        if !self.cipher.ring().has_others() || !is_due {
            return Ok(());
        }
        let done = reseal(self.store.as_ref(), &self.cipher, self.clock.now()).await?;
        self.looked_at = Some(Instant::now());
        self.tell(&done);
        if done.is_whole() && self.changed_at.elapsed() >= RETIRED_FOR {
            self.cipher.forget_retired();
        }
        Ok(())
    }

    /// Reads the source, on a thread of its own: a file may take its time.
    async fn keys_have_changed(&mut self) -> Result<bool, StoreError> {
        let cipher = self.cipher.clone();
        let read = tokio::task::spawn_blocking(move || cipher.refresh()).await;
        let Some(foreign) = self.cipher.foreign() else {
            self.tellings.foreign.tell(&Ok::<_, ForeignKeys>(()));
            return Ok(read.unwrap_or(false));
        };
        let foreign = CredentialCipher::with_ring(foreign);
        let singly = self.store.sealed_singly().await?;
        let check = singly.iter().find(|value| value.place == SealedPlace::Check);
        if check.is_some_and(|check| foreign.knows(&check.sealed)) {
            self.cipher.adopt_foreign();
            return Ok(true);
        }
        self.tellings.foreign.tell(&Err::<(), _>(ForeignKeys));
        Ok(false)
    }

    fn tell(&mut self, done: &Resealed) {
        if done.moved > 0 {
            tracing::info!(moved = done.moved, key = %self.cipher.key_id(), "sealed again with another key");
        }
        self.tellings.unopened.tell(&done.unopened().map_or(Ok(()), Err));
    }
}

#[cfg(test)]
mod tests;
