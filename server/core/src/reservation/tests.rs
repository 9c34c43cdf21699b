use proptest::prelude::*;

use super::*;
use crate::counter::{Refill, RetryAfter};
use crate::decision::tests::{MemoryCounters, NOON, charge};
use crate::decision::{Mode, decide};
use crate::time::{CalendarPeriod, Zone};

/// A reservation that took this.
pub(crate) fn open_reservation(captured: SmallVec<[Captured; 4]>, floor: Nanos) -> Reservation {
    let key = KeyId::from_random([1; 16]);
    Reservation {
        id: ReservationId::from_bits(7),
        key: key.clone(),
        by_gateway: false,
        state: ReservationState::Open,
        decided_at: Millis::new(NOON),
        expires_at: Millis::new(NOON + 600_000),
        floor,
        call: Arc::new(call_of(key)),
        request_id: None,
        captured,
    }
}
