//! Attempts at checks that may be cancelled: which ones a decision has answered, what it took, and which
//! were cancelled before they arrived.
//!
//! Only engines that share a store give attempts, so that this is empty in the embedded default.

use std::collections::VecDeque;
use std::hash::Hash;

use hashbrown::HashMap;
use rateguard_core::counter::CounterId;
use rateguard_core::decision::{Charge, Taken};
use rateguard_core::time::Millis;
use rateguard_engine::ports::{ATTEMPTS_MAX, Attempt, RequestFingerprint};
use smallvec::SmallVec;

/// Decisions of one workspace that may be cancelled, and cancelled attempts of it. Beyond it the oldest
/// are forgotten: such a decision stands.
const KEPT_MAX: usize = 100_000;

/// What a decision took, and of what it was asked.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Decision {
    /// Whether it made a reservation, which knows by itself what was taken, and gives it back in time.
    pub(crate) is_reserved: bool,
    /// What it was asked of each limit.
    pub(crate) charges: SmallVec<[Charge; 8]>,
    /// What it took for good.
    pub(crate) taken: SmallVec<[Taken; 4]>,
}

/// The attempts at the checks of one workspace.
#[derive(Default)]
pub(crate) struct Attempts {
    answered: Fading<u128, Answered>,
    cancelled: Fading<(u128, Attempt), ()>,
}

/// What an attempt leaves that is taken from those that a decision has answered.
#[derive(Debug, PartialEq)]
pub(crate) enum Left {
    /// Others that it has answered, or nothing that is known.
    Others,
    /// Nobody: it is to be undone.
    Nobody(Box<Decision>),
    /// The decision, which is not undone: too many were answered to know of each, or none that was cancelled named its
    /// amounts. What a reservation holds stands no longer than that is open.
    Standing,
}

/// The attempts that one decision has answered.
struct Answered {
    /// Hash of what they asked.
    content: u64,
    /// None where it stands whatever becomes of them.
    attempts: SmallVec<[Attempt; 2]>,
    decision: Decision,
    /// Whether one that was cancelled named what the decision was asked.
    is_named: bool,
}

/// A map whose entries end in time, the oldest first where there are too many.
struct Fading<K, V> {
    entries: HashMap<K, (V, Millis)>,
    order: VecDeque<(K, Millis)>,
}

impl Attempts {
    /// Notes a decision that was taken for an attempt, until nobody whom it answers asks of it any more; one without
    /// an attempt cannot be cancelled.
    pub(crate) fn decided(
        &mut self,
        request: &RequestFingerprint,
        known_until: Millis,
        decision: impl FnOnce() -> Decision,
    ) {
        match request.attempt {
            Some(attempt) => {
                let (content, attempts) = (request.content, SmallVec::from_elem(attempt, 1));
                let answered = Answered { content, attempts, decision: decision(), is_named: false };
                self.answered.insert(request.id, answered, known_until);
            }
            None => drop(self.answered.remove(&request.id)),
        }
    }

    /// Notes that a further attempt was answered by the decision.
    pub(crate) fn repeated(&mut self, request: &RequestFingerprint) {
        let Some(attempt) = request.attempt else { return };
        let Some(answered) = self.answered.get_mut(&request.id) else { return };
        if answered.attempts.is_empty() || answered.attempts.contains(&attempt) {
            return;
        }
        answered.attempts.push(attempt);
        if answered.attempts.len() > ATTEMPTS_MAX {
            answered.attempts.clear();
        }
    }

    /// Whether an attempt was cancelled.
    pub(crate) fn is_cancelled(&self, request: &RequestFingerprint, now: Millis) -> bool {
        let stands = |attempt| self.cancelled.ends_at(&(request.id, attempt)).is_some_and(|end| end > now);
        request.attempt.is_some_and(stands)
    }

    /// Refuses an attempt from now on, should it arrive.
    pub(crate) fn cancel(&mut self, request: &RequestFingerprint, until: Millis) {
        if let Some(attempt) = request.attempt {
            self.cancelled.insert((request.id, attempt), (), until);
        }
    }

    /// Whether a decision whose time is over took for good what this attempt was answered with: one that repeated it
    /// late is in its own time still.
    pub(crate) fn is_left_taken(&self, request: &RequestFingerprint, now: Millis) -> bool {
        let known = request.attempt.zip(self.answered.entries.get(&request.id));
        let Some((attempt, (answered, known_until))) = known else { return false };
        let was_answered = answered.attempts.is_empty() || answered.attempts.contains(&attempt);
        let is_same = answered.content == request.content && *known_until > now;
        is_same && was_answered && !answered.decision.is_reserved
    }

    /// Takes an attempt, which asked so much, from those that a decision has answered. What was reserved is known by
    /// itself, whatever they named.
    pub(crate) fn leave(&mut self, request: &RequestFingerprint, charges: &[Charge]) -> Left {
        let known = request.attempt.and_then(|attempt| Some((attempt, self.answered.get_mut(&request.id)?)));
        let Some((attempt, answered)) = known else { return Left::Others };
        if answered.attempts.is_empty() {
            return Left::Standing;
        }
        let Some(place) = answered.attempts.iter().position(|other| *other == attempt) else {
            return Left::Others;
        };
        answered.attempts.remove(place);
        let Decision { is_reserved, charges: asked, .. } = &answered.decision;
        answered.is_named |= *is_reserved || asked.as_slice() == charges;
        if !answered.attempts.is_empty() {
            return Left::Others;
        }
        if !answered.is_named {
            return Left::Standing;
        }
        self.answered
            .remove(&request.id)
            .map_or(Left::Others, |answered| Left::Nobody(Box::new(answered.decision)))
    }

    /// A decision stands from now on, whatever becomes of its attempts.
    pub(crate) fn keep(&mut self, request: u128) {
        drop(self.answered.remove(&request));
    }

    /// Counters were set back: what was taken of them before is never taken back.
    pub(crate) fn forget(&mut self, is_set_back: impl Fn(CounterId) -> bool) {
        for (answered, _) in self.answered.entries.values_mut() {
            answered.decision.taken.retain(|taken| !is_set_back(taken.counter));
        }
    }

    /// Drops what has ended.
    pub(crate) fn sweep(&mut self, now: Millis) {
        self.answered.sweep(now);
        self.cancelled.sweep(now);
    }
}

impl<K, V> Default for Fading<K, V> {
    fn default() -> Self {
        Self { entries: HashMap::new(), order: VecDeque::new() }
    }
}

impl<K: Copy + Eq + Hash, V> Fading<K, V> {
    fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.entries.get_mut(key).map(|(value, _)| value)
    }

    fn ends_at(&self, key: &K) -> Option<Millis> {
        self.entries.get(key).map(|(_, end)| *end)
    }

    fn remove(&mut self, key: &K) -> Option<V> {
        self.entries.remove(key).map(|(value, _)| value)
    }

    fn insert(&mut self, key: K, value: V, end: Millis) {
        self.entries.insert(key, (value, end));
        self.order.push_back((key, end));
        // An entry that was replaced stands twice in the order.
        while self.order.len() > KEPT_MAX {
            self.drop_first();
        }
    }

    /// In the order in which they came, which is about that of their ends.
    fn sweep(&mut self, now: Millis) {
        while self.order.front().is_some_and(|(_, end)| *end <= now) {
            self.drop_first();
        }
    }

    fn drop_first(&mut self) {
        let Some((key, end)) = self.order.pop_front() else { return };
        if self.ends_at(&key) == Some(end) {
            self.entries.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use rateguard_core::counter::Mark;

    use super::*;

    fn request(attempt: u32) -> RequestFingerprint {
        let attempt = Some(Attempt(attempt));
        RequestFingerprint { id: 1, content: 1, expires_at: Millis::new(100), attempt }
    }

    fn taken() -> Decision {
        let mark = Mark::Window { start: Millis::ZERO, end: Millis::new(10) };
        let taken = SmallVec::from_elem(Taken { counter: CounterId(1), amount: 3, mark }, 1);
        Decision { taken, ..Decision::default() }
    }

    #[test]
    fn a_decision_is_undone_with_the_last_attempt_that_it_answered() {
        let mut attempts = Attempts::default();
        attempts.decided(&request(1), Millis::new(100), taken);
        attempts.repeated(&request(2));
        assert_eq!(attempts.leave(&request(1), &[]), Left::Others);
        assert_eq!(attempts.leave(&request(1), &[]), Left::Others);
        assert_eq!(attempts.leave(&request(2), &[]), Left::Nobody(Box::new(taken())));
        assert_eq!(attempts.leave(&request(2), &[]), Left::Others);
    }

    #[test]
    fn what_a_decision_left_taken_is_known_for_whoever_it_answered() {
        let mut attempts = Attempts::default();
        attempts.decided(&request(1), Millis::new(100), taken);
        attempts.sweep(Millis::new(99));
        assert!(attempts.is_left_taken(&request(1), Millis::new(99)));
        assert!(!attempts.is_left_taken(&request(1), Millis::new(100)));
        assert!(!attempts.is_left_taken(&request(2), Millis::new(99)));
        let other = RequestFingerprint { content: 2, ..request(1) };
        assert!(!attempts.is_left_taken(&other, Millis::new(99)));
        let reserved = || Decision { is_reserved: true, ..Decision::default() };
        attempts.decided(&request(1), Millis::new(100), reserved);
        assert!(!attempts.is_left_taken(&request(1), Millis::new(99)), "it ends by itself");
    }

    #[test]
    fn a_decision_that_answered_too_many_attempts_stands() {
        let mut attempts = Attempts::default();
        attempts.decided(&request(0), Millis::new(100), taken);
        (1..=8).for_each(|attempt| attempts.repeated(&request(attempt)));
        for attempt in 0..=8 {
            assert_eq!(attempts.leave(&request(attempt), &[]), Left::Standing);
        }
    }

    #[test]
    fn a_cancelled_attempt_is_known_for_its_time() {
        let mut attempts = Attempts::default();
        attempts.cancel(&request(1), Millis::new(50));
        assert!(attempts.is_cancelled(&request(1), Millis::new(49)));
        assert!(!attempts.is_cancelled(&request(1), Millis::new(50)));
        assert!(!attempts.is_cancelled(&request(2), Millis::new(49)));
        attempts.sweep(Millis::new(50));
        assert!(attempts.cancelled.entries.is_empty() && attempts.cancelled.order.is_empty());
    }
}
