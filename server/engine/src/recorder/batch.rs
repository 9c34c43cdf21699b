//! The calls that wait for one append, and the events that go into it.

use std::collections::HashSet;

use rateguard_core::ids::ReservationId;
use rateguard_core::reservation::Reservation;
use rateguard_core::usage::UsageEvent;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::ports::StoreError;
use crate::report::{Recorded, reservation_flag};

/// Judges a record once more, by its reservation as it is now.
pub(super) fn refresh(event: &mut UsageEvent, reservation: Option<&Reservation>) {
    event.flags.insert(reservation_flag(event.reservation.is_some(), reservation));
    event.captured_budgets = match reservation.filter(|reservation| reservation.takes_reports()) {
        Some(reservation) => reservation.captured_budgets(),
        None => Vec::new(),
    };
}

/// A call that waits for its answer.
pub(super) struct Call {
    _places: OwnedSemaphorePermit,
    reply: oneshot::Sender<Result<Vec<Recorded>, StoreError>>,
    answer: Result<Vec<Recorded>, StoreError>,
}

impl Call {
    pub(super) fn new(
        reply: oneshot::Sender<Result<Vec<Recorded>, StoreError>>,
        places: OwnedSemaphorePermit,
        events: usize,
    ) -> Self {
        Self { _places: places, reply, answer: Ok(Vec::with_capacity(events)) }
    }

    pub(super) fn take(&mut self, recorded: Recorded) {
        if let Ok(answer) = &mut self.answer {
            answer.push(recorded);
        }
    }

    /// Whatever else became of its events, its caller sends them all again: those that are in the
    /// log are duplicates then.
    pub(super) fn fail(&mut self, error: StoreError) {
        self.answer = Err(error);
    }

    pub(super) fn answer(self) {
        // A caller that has gone away has lost interest, not its records.
        drop(self.reply.send(self.answer));
    }
}

/// Events that are appended together, each with the place of its call.
#[derive(Default)]
pub(super) struct Segment {
    pub(super) events: Vec<UsageEvent>,
    pub(super) of_call: Vec<usize>,
    reservations: HashSet<ReservationId>,
}

impl Segment {
    pub(super) fn push(&mut self, call: usize, event: UsageEvent) {
        self.reservations.extend(event.reservation.clone());
        self.events.push(event);
        self.of_call.push(call);
    }

    pub(super) fn mentions(&self, event: &UsageEvent) -> bool {
        event.reservation.as_ref().is_some_and(|id| self.reservations.contains(id))
    }
}
