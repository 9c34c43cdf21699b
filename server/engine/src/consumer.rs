//! The log's consumer: rolls events up, and takes floors back whose true reports came beside them.
//! One process at a time does it.

use rateguard_core::limits::PAGE_SIZE_MAX;
use rateguard_core::usage::{EventKind, LoggedEvent, UsageEvent};

use crate::engine::Engine;
use crate::floor;
use crate::ports::{EventFilter, EventQuery, StoreError};
use crate::pulse::Pulse;

/// Events rolled up in one transaction.
const ROLL_UP_EVENTS: usize = 2_000;

impl Engine {
    /// Rolls up everything that the log holds, if it is this process that does. Says whether it is.
    ///
    /// # Errors
    /// Those of the stores; the cursor then stays where it was.
    pub async fn roll_up(&self) -> Result<bool, StoreError> {
        loop {
            if !self.heard(&self.usage_pulse, self.usage.try_lead().await)? {
                return Ok(false);
            }
            let cursor = self.heard(&self.usage_pulse, self.usage.cursor().await)?;
            let read = self.log.read_after(cursor, ROLL_UP_EVENTS).await;
            let events = self.heard(self.recorder.log_pulse(), read)?;
            if events.is_empty() {
                return Ok(true);
            }
            self.correct_floors(&events).await?;
            self.heard(&self.usage_pulse, self.usage.apply(&events).await)?;
        }
    }

    fn heard<T>(&self, pulse: &Pulse, outcome: Result<T, StoreError>) -> Result<T, StoreError> {
        pulse.note(self.now(), &outcome);
        outcome
    }

    /// Takes floors back whose true reports came late, or were taken by another process in the moment
    /// in which the reservation expired. Reports are found in the log itself, so that only those that
    /// count do it, and the cursor repeats it until it is done.
    async fn correct_floors(&self, events: &[LoggedEvent]) -> Result<(), StoreError> {
        for logged in events {
            let floor = if floor::came_late(&logged.event) {
                self.floor_before(logged).await?
            } else if self.shared && self.was_reported_before(logged).await? {
                Some(logged.event.clone())
            } else {
                None
            };
            if let Some(floor) = floor {
                let correction = floor::correction(&floor, logged.event.received_at);
                self.recorder.append(vec![correction]).await?;
            }
        }
        Ok(())
    }

    /// The floor that was charged for the reservation of a late report, before it.
    async fn floor_before(&self, late: &LoggedEvent) -> Result<Option<UsageEvent>, StoreError> {
        let LoggedEvent { position, event } = late;
        let Some(reservation) = &event.reservation else { return Ok(None) };
        let floor = self.log.find(&event.workspace, &floor::event_id(reservation)).await?;
        let floor = floor.filter(|floor| floor.position < *position).map(|floor| floor.event);
        Ok(floor.filter(|floor| floor.call.key == event.call.key))
    }

    /// Whether an event is a floor, and the log has its reservation's last report before it.
    async fn was_reported_before(&self, floor: &LoggedEvent) -> Result<bool, StoreError> {
        let LoggedEvent { position, event } = floor;
        let Some(reservation) = event.reservation.clone().filter(|_| event.kind == EventKind::Expired) else {
            return Ok(false);
        };
        let ends_it = |report: &UsageEvent| {
            report.reservation.as_ref() == Some(&reservation)
                && report.call.key == event.call.key
                && report.is_final
                && floor::came_late(report)
        };
        let mut before = Some(*position);
        while before.is_some() {
            let filter = EventFilter { reservation: Some(reservation.clone()), ..EventFilter::default() };
            let query = EventQuery { filter, before, limit: PAGE_SIZE_MAX };
            let page = self.usage.events(&event.workspace, &query).await?;
            if page.events.iter().any(|logged| ends_it(&logged.event)) {
                return Ok(true);
            }
            before = page.next_before;
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests;
