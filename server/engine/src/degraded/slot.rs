//! The slot of this process: a small number that no other replica has, without which it decides nothing
//! alone.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rateguard_core::limits::LOCAL_REPLICAS_MAX;
use rateguard_core::time::Millis;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::ports::{CounterStore, Slot, SlotClaim, SlotHolder, StoreError};
use crate::secrets::random;
use crate::telling::Telling;

/// How long a slot is held without the counters: the longest outage in which a replica decides alone. The
/// slot of one that was killed is free again after this.
const SLOT_LIFE: Duration = Duration::from_secs(10 * 60);
/// How often the claim is renewed.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// How long counters without memory have to be known before slots of theirs are used: every replica that
/// can reach them has claimed its own again by then.
const SETTLING: Duration = Duration::from_secs(10);
/// Longest wait for a claim.
const CLAIM_DEADLINE: Duration = Duration::from_secs(1);

/// Keeps the slot.
pub(crate) struct SlotKeeper {
    counters: Arc<dyn CounterStore>,
    clock: Arc<dyn Clock>,
    held: Mutex<Option<Held>>,
}

/// A slot that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Held {
    number: u16,
    /// From when on it may be used. Somebody else may have used it before.
    since: Millis,
    /// By this process's own count, from when it asked.
    until: Instant,
}

impl SlotKeeper {
    pub(crate) fn new(counters: Arc<dyn CounterStore>, clock: Arc<dyn Clock>) -> Self {
        Self { counters, clock, held: Mutex::new(None) }
    }

    /// The number that is held now, and since when it is this process's.
    pub(crate) fn held(&self) -> Option<(u16, Millis)> {
        let held = (*self.held.lock())?;
        (Instant::now() < held.until).then_some((held.number, held.since))
    }

    /// Claims a slot and keeps it until it is stopped; then gives it up.
    pub(crate) async fn keep(&self, stop: &CancellationToken) {
        let Ok(holder) = random().map(|bytes| SlotHolder(u64::from_be_bytes(bytes))) else {
            tracing::warn!("the system has no randomness: without it this process decides nothing alone");
            return;
        };
        let mut telling = Telling::of("keeping a slot for the time without counters");
        let endless = async {
            loop {
                telling.tell(&self.claim(holder).await);
                sleep(self.clock.spread(HEARTBEAT)).await;
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = endless => {}
        }
        self.free(holder).await;
    }

    /// Claims a slot or renews the claim. Where that fails, the claim of before stands for its life.
    pub(crate) async fn claim(&self, holder: SlotHolder) -> Result<(), StoreError> {
        let (asked_at, last) = (Instant::now(), *self.held.lock());
        let claim = SlotClaim {
            holder,
            last: last.map(|held| held.number),
            life_ms: milliseconds(SLOT_LIFE),
            settling_ms: milliseconds(SETTLING),
            slots_max: LOCAL_REPLICAS_MAX,
            now: self.clock.now(),
        };
        let answer = timeout(CLAIM_DEADLINE, self.counters.hold_slot(&claim)).await.unwrap_or_else(|_| {
            let detail = "no answer to the claim of a slot".to_owned();
            Err(StoreError::OutcomeUnknown { store: "counter", detail })
        });
        let slot = answer?;
        *self.held.lock() = slot.map(|slot| self.after(slot, last, asked_at));
        Ok(())
    }

    fn after(&self, slot: Slot, last: Option<Held>, asked_at: Instant) -> Held {
        let Slot { number, usable_in_ms } = slot;
        let kept = last.filter(|last| last.number == number && asked_at < last.until);
        let anew = self.clock.now().plus(usable_in_ms);
        Held { number, since: kept.map_or(anew, |kept| kept.since), until: asked_at + SLOT_LIFE }
    }

    async fn free(&self, holder: SlotHolder) {
        let Some(held) = self.held.lock().take() else { return };
        let freed = timeout(CLAIM_DEADLINE, self.counters.free_slot(holder, held.number)).await;
        if !matches!(freed, Ok(Ok(()))) {
            tracing::info!(slot = held.number, "the slot of this process was not freed, and ends by itself");
        }
    }
}

fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}
