//! What bounds the gateway: places for calls, reports and drains, and memory for bodies.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::GatewayConfig;

/// Bytes are counted in steps of this size.
const STEP_BYTES: usize = 1024;

/// All places.
#[derive(Debug)]
pub(crate) struct Slots {
    pub(crate) calls: Places,
    pub(crate) reports: Places,
    pub(crate) drains: Places,
    pub(crate) memory: Memory,
}

/// So many places, taken at once or not at all.
#[derive(Clone, Debug)]
pub(crate) struct Places(Arc<Semaphore>);

/// A place; free again when dropped.
pub(crate) type Place = OwnedSemaphorePermit;

/// So many bytes.
#[derive(Clone, Debug)]
pub(crate) struct Memory(Arc<Semaphore>);

/// Bytes taken from a [`Memory`]; given back when dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    memory: Arc<Semaphore>,
    taken: Option<OwnedSemaphorePermit>,
}

impl Slots {
    pub(crate) fn new(config: &GatewayConfig) -> Self {
        Self {
            calls: Places::new(config.calls_max),
            reports: Places::new(config.reports_pending_max),
            drains: Places::new(config.drains_max),
            memory: Memory::new(config.held_bytes_max),
        }
    }
}

impl Places {
    pub(crate) fn new(count: usize) -> Self {
        Self(Arc::new(Semaphore::new(count.min(Semaphore::MAX_PERMITS))))
    }

    /// A place, unless all are taken.
    pub(crate) fn take(&self) -> Option<Place> {
        Arc::clone(&self.0).try_acquire_owned().ok()
    }
}

impl Memory {
    pub(crate) fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new((bytes / STEP_BYTES).min(Semaphore::MAX_PERMITS))))
    }

    /// A lease of nothing yet.
    pub(crate) fn lease(&self) -> Lease {
        Lease { memory: Arc::clone(&self.0), taken: None }
    }
}

impl Lease {
    /// Makes the lease at least `bytes` large; false if there is not so much left.
    pub(crate) fn cover(&mut self, bytes: usize) -> bool {
        let has = self.taken.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let lacking = bytes.div_ceil(STEP_BYTES).saturating_sub(has);
        let Ok(lacking) = u32::try_from(lacking) else { return false };
        if lacking == 0 {
            return true;
        }
        let Ok(more) = Arc::clone(&self.memory).try_acquire_many_owned(lacking) else { return false };
        match &mut self.taken {
            Some(taken) => taken.merge(more),
            None => self.taken = Some(more),
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_grows_while_there_is_room_and_gives_everything_back() {
        let memory = Memory::new(3 * STEP_BYTES);
        let mut first = memory.lease();
        assert!(first.cover(1) && first.cover(STEP_BYTES) && first.cover(2 * STEP_BYTES));
        let mut second = memory.lease();
        assert!(!second.cover(STEP_BYTES + 1));
        assert!(second.cover(STEP_BYTES));
        drop((first, second));
        assert!(memory.lease().cover(3 * STEP_BYTES));
    }

    #[test]
    fn places_are_taken_at_once_or_not_at_all() {
        let places = Places::new(1);
        let place = places.take();
        assert!(place.is_some() && places.take().is_none());
        drop(place);
        assert!(places.take().is_some());
    }
}
