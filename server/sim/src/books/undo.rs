//! Which decisions may be undone, and which have to be: by the attempts that each has answered, and by
//! what their replicas heard.

use std::collections::{HashMap, HashSet};

use rateguard_core::counter::CounterId;
use rateguard_core::ids::ReservationId;
use rateguard_core::time::Millis;
use rateguard_engine::ports::{ATTEMPTS_MAX, Attempt, RequestFingerprint};

/// One attempt at one check.
pub type AttemptId = (u128, Attempt);

/// A decision that took something.
#[derive(Clone, Debug)]
pub struct Made {
    /// In which order it was made.
    pub number: u64,
    /// The attempts that it has answered, and that were not cancelled.
    pub attempts: Vec<Attempt>,
    /// Where what it took for good stands.
    pub takings: Vec<(CounterId, usize)>,
    /// What it reserved.
    pub reservation: Option<ReservationId>,
}

/// Attempts, and what became of them.
#[derive(Clone, Debug, Default)]
pub struct Undo {
    made: HashMap<u128, Made>,
    numbered: u64,
    /// Until when a cancelled attempt is refused.
    cancelled: HashMap<AttemptId, Millis>,
    /// In which life of a replica each was made.
    lives: HashMap<AttemptId, u64>,
    heard: HashSet<AttemptId>,
    gone: HashSet<u64>,
}

fn attempt_of(request: &RequestFingerprint) -> Option<AttemptId> {
    request.attempt.map(|attempt| (request.id, attempt))
}

impl Undo {
    /// A life of a replica has sent an attempt.
    pub(super) fn send(&mut self, attempt: AttemptId, life: u64) {
        self.lives.insert(attempt, life);
    }

    /// A life of a replica has heard of an attempt.
    pub(super) fn hear(&mut self, attempt: AttemptId) {
        self.heard.insert(attempt);
    }

    /// A life is over: what it has not undone by now it never does.
    pub(super) fn end_life(&mut self, life: u64) {
        self.gone.insert(life);
    }

    /// A decision was made for an attempt.
    pub(super) fn decide(
        &mut self,
        request: &RequestFingerprint,
        takings: Vec<(CounterId, usize)>,
        reservation: Option<ReservationId>,
    ) {
        self.numbered += 1;
        let attempts = request.attempt.into_iter().collect();
        self.made.insert(request.id, Made { number: self.numbered, attempts, takings, reservation });
    }

    /// A decision was given again. One that has answered too many attempts is never undone.
    pub(super) fn repeat(&mut self, request: &RequestFingerprint) {
        let (Some(made), Some(attempt)) = (self.made.get_mut(&request.id), request.attempt) else { return };
        if !made.attempts.contains(&attempt) {
            made.attempts.push(attempt);
        }
        if made.attempts.len() > ATTEMPTS_MAX {
            self.made.remove(&request.id);
        }
    }

    /// An attempt is cancelled until then. Gives the decision that goes with it, the last one that it has
    /// answered.
    pub(super) fn cancel(&mut self, request: &RequestFingerprint, until: Millis) -> Option<Made> {
        let (id, attempt) = attempt_of(request)?;
        self.cancelled.insert((id, attempt), until);
        let made = self.made.get_mut(&id)?;
        let before = made.attempts.len();
        made.attempts.retain(|other| *other != attempt);
        let is_last = before > 0 && made.attempts.is_empty();
        if is_last { self.made.remove(&id) } else { None }
    }

    /// The decision of a reservation that was renewed stands: whoever renewed it was told of it.
    pub(super) fn keep(&mut self, request: u128) {
        self.made.remove(&request);
    }

    /// Counters were set back: what was taken of them is never given back.
    pub(super) fn forget_takings(&mut self, is_set_back: impl Fn(CounterId) -> bool) {
        self.made.values_mut().for_each(|made| made.takings.retain(|(counter, _)| !is_set_back(*counter)));
    }

    /// Whether an attempt was cancelled, and is still refused.
    pub fn is_cancelled(&self, request: &RequestFingerprint, now: Millis) -> bool {
        attempt_of(request).and_then(|attempt| self.cancelled.get(&attempt)).is_some_and(|until| now < *until)
    }

    /// Whether the replica of an attempt was told how it ended.
    pub fn was_heard(&self, request: &RequestFingerprint) -> bool {
        attempt_of(request).is_some_and(|attempt| self.heard.contains(&attempt))
    }

    /// The first decision that nobody was told of and that nobody has undone, though everybody who made an
    /// attempt at it is still there.
    pub fn forgotten(&self) -> Option<&Made> {
        let left = self.made.iter().filter(|(id, made)| self.is_forgotten(**id, made));
        left.map(|(_, made)| made).min_by_key(|made| made.number)
    }

    fn is_forgotten(&self, id: u128, made: &Made) -> bool {
        let is_open = |attempt: &Attempt| {
            let attempt = (id, *attempt);
            let is_alive = self.lives.get(&attempt).is_some_and(|life| !self.gone.contains(life));
            is_alive && !self.heard.contains(&attempt)
        };
        // What is reserved ends by itself, also where it arrives after its cancel is forgotten.
        let lasts = made.reservation.is_none() && !made.attempts.is_empty();
        lasts && made.attempts.iter().all(is_open)
    }
}

#[cfg(test)]
mod tests;
