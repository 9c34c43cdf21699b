//! Undoing an attempt whose outcome its caller does not know.

use rateguard_core::decision::take_back;
use rateguard_core::reservation::ReservationState;
use rateguard_core::time::Millis;
use rateguard_engine::ports::{CancelOutcome, CheckCommand, RequestFingerprint};

use super::{Shared, State, Workspace, end};
use crate::attempts::Left;

impl Workspace {
    /// Undoes a command's attempt, and refuses it from now on.
    pub(crate) fn cancel(&self, command: &CheckCommand, now: Millis, shared: &Shared) -> CancelOutcome {
        let request = self.fingerprint(command).filter(|request| request.attempt.is_some());
        let Some(request) = request else { return CancelOutcome::Undone };
        let mut state = self.lock();
        let now = state.tick(now);
        let until = request.expires_at.plus(now.since(command.now));
        state.attempts.cancel(&request, until);
        match shared.ids.recall(request.id, now) {
            Some(known) if known.content == request.content => {
                state.leave(&request, command, known.reservation(), now, shared)
            }
            None if request.expires_at <= now || state.attempts.is_left_taken(&request, now) => {
                CancelOutcome::TooLate
            }
            _ => CancelOutcome::Undone,
        }
    }
}

impl State {
    /// Takes an attempt from the decision that stands for its id.
    fn leave(
        &mut self,
        request: &RequestFingerprint,
        command: &CheckCommand,
        reservation: Option<u128>,
        now: Millis,
        shared: &Shared,
    ) -> CancelOutcome {
        let decision = match self.attempts.leave(request, &command.charges) {
            Left::Standing if reservation.is_none_or(|bits| self.is_open(bits)) => {
                return CancelOutcome::Stands;
            }
            Left::Standing | Left::Others => return CancelOutcome::Undone,
            Left::Nobody(decision) => decision,
        };
        if reservation.is_none_or(|bits| self.release_unanswered(bits, now)) {
            take_back(&mut self.counters, &decision.taken, now);
            shared.ids.forget(request.id);
        }
        CancelOutcome::Undone
    }

    fn is_open(&self, bits: u128) -> bool {
        let kept = self.reservations.kept(bits);
        kept.is_some_and(|kept| kept.reservation.state == ReservationState::Open)
    }

    /// Releases a reservation that nobody was told of. One that is over stays as it is.
    fn release_unanswered(&mut self, bits: u128, now: Millis) -> bool {
        let Self { counters, reservations, .. } = self;
        let kept = reservations.kept(bits).map(|kept| (kept.reservation.id.clone(), kept.reservation.state));
        let Some((id, ReservationState::Open)) = kept else { return false };
        reservations.change(&id, |reservation| end(reservation, counters, now)).is_some()
    }
}
