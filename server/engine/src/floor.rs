//! The events of the server's own: the floor that an expired reservation is charged, and the
//! correction that takes it back when the true report comes late.

use rateguard_core::amounts::Amounts;
use rateguard_core::ids::{EventId, ReservationId};
use rateguard_core::time::Millis;
use rateguard_core::usage::{
    CallOutcome, CostComponent, EventFlags, EventKind, Exactness, TokenCounts, UsageEvent,
};

use crate::ports::ExpiredReservation;

/// The id of the event that a reservation's expiry becomes.
pub fn event_id(reservation: &ReservationId) -> EventId {
    EventId::expired(reservation)
}

/// The event that charges the floor of an expired reservation.
pub fn expired(expired: &ExpiredReservation, now: Millis) -> UsageEvent {
    let reservation = &expired.reservation;
    UsageEvent {
        workspace: expired.workspace.clone(),
        event_id: event_id(&reservation.id),
        kind: EventKind::Expired,
        corrects: None,
        request_id: reservation.request_id.clone(),
        reservation: Some(reservation.id.clone()),
        attempt: 0,
        is_final: true,
        occurred_at: reservation.decided_at,
        accounted_at: reservation.decided_at,
        received_at: now,
        call: reservation.call.as_ref().clone(),
        ip: None,
        outcome: CallOutcome::default(),
        tokens: TokenCounts::default(),
        amounts: Amounts::default(),
        already_consumed: Vec::new(),
        dimensions: Vec::new(),
        exactness: Exactness::Partial,
        cost: reservation.floor,
        components: Vec::new(),
        price: None,
        flags: EventFlags::default(),
        captured_budgets: reservation.captured_budgets(),
    }
}

/// Whether a report found its reservation gone, so that its floor may have been charged already.
/// After a crash an expired reservation is not known any more.
pub fn came_late(event: &UsageEvent) -> bool {
    let gone = [EventFlags::RESERVATION_EXPIRED, EventFlags::RESERVATION_UNKNOWN];
    event.kind == EventKind::Usage && gone.iter().any(|flag| event.flags.contains(*flag))
}

/// The event that takes a floor back.
pub fn correction(floor: &UsageEvent, now: Millis) -> UsageEvent {
    let event_id = floor.reservation.as_ref().map_or_else(|| floor.event_id.clone(), EventId::corrected);
    UsageEvent {
        event_id,
        kind: EventKind::Correction,
        corrects: Some(floor.event_id.clone()),
        received_at: now,
        cost: floor.cost.negated(),
        components: Vec::<CostComponent>::new(),
        ..floor.clone()
    }
}

#[cfg(test)]
mod tests;
