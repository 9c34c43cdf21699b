//! When keys are used: remembered in memory as calls come, and written down now and then.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use parking_lot::Mutex;
use rateguard_core::ids::{KeyId, WorkspaceId};
use rateguard_core::time::Millis;

use crate::caller::Identity;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::ports::{KeyUse, StoreError};

/// Uses of one key closer together than this are one.
const USE_APART_MS: i64 = 1_000;
/// Uses written in one transaction.
const BATCH_USES_MAX: usize = 500;

/// When a key was last noted as used: one for all copies of what is known of it.
#[derive(Clone, Debug, Default)]
pub struct LastUse(Arc<AtomicI64>);

impl LastUse {
    /// Whether a use is to be noted; of several at once one is.
    fn moves_to(&self, now: Millis) -> bool {
        let last = self.0.load(Ordering::Relaxed);
        now.get().saturating_sub(last) >= USE_APART_MS
            && self.0.compare_exchange(last, now.get(), Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

/// Uses that are not written down yet: one for each key at most.
#[derive(Debug, Default)]
pub(crate) struct KeyUses(Mutex<HashMap<KeyId, KeyUse>>);

impl KeyUses {
    /// Notes that a key was used.
    pub(crate) fn note(&self, last: &LastUse, workspace: &WorkspaceId, key: &KeyId, now: Millis) {
        if last.moves_to(now) {
            self.put(KeyUse { workspace: workspace.clone(), key: key.clone(), at: now });
        }
    }

    /// When a key was used, if that is not written down yet.
    fn of(&self, key: &KeyId) -> Option<Millis> {
        self.0.lock().get(key).map(|used| used.at)
    }

    fn put(&self, used: KeyUse) {
        let mut kept = self.0.lock();
        match kept.get_mut(&used.key) {
            Some(known) => known.at = known.at.max(used.at),
            None => drop(kept.insert(used.key.clone(), used)),
        }
    }

    fn take(&self) -> Vec<KeyUse> {
        std::mem::take(&mut *self.0.lock()).into_values().collect()
    }
}

impl Engine {
    /// When keys of the caller's workspace were used last, as far as they were; at most a minute old
    /// where another process was called.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn key_uses(
        &self,
        identity: &Identity,
        keys: &[KeyId],
    ) -> Result<HashMap<KeyId, Millis>, EngineError> {
        let written = self.config.key_uses(identity.workspace()?, keys).await?;
        let mut uses: HashMap<KeyId, Millis> = written.into_iter().collect();
        for key in keys {
            if let Some(at) = self.key_uses.of(key) {
                let last = uses.entry(key.clone()).or_insert(at);
                *last = at.max(*last);
            }
        }
        Ok(uses)
    }

    /// Writes down what was noted since the last time.
    ///
    /// # Errors
    /// Those of the store; what was not written is kept for the next time.
    pub(crate) async fn write_key_uses(&self) -> Result<(), StoreError> {
        let uses = self.key_uses.take();
        let mut batches = uses.chunks(BATCH_USES_MAX);
        let mut written = Ok(());
        for batch in batches.by_ref() {
            written = self.config.touch_keys(batch).await;
            if written.is_err() {
                batch.iter().cloned().for_each(|used| self.key_uses.put(used));
                break;
            }
        }
        batches.flatten().cloned().for_each(|used| self.key_uses.put(used));
        written
    }
}

#[cfg(test)]
mod tests;
