//! Attempts at a check, so that one whose outcome nobody knows can be undone.

use super::{CheckCommand, RequestFingerprint};

/// One attempt at a check, by a random number: the same request id may be tried again, by its caller or
/// by another process, and each attempt is answered, or cancelled, for itself. Two attempts at one request id are
/// taken for the same by one chance in 2³² for each pair of their numbers: its own, and the next one where that is
/// used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Attempt(pub u32);

impl Attempt {
    /// The same caller's next. Two layers take it of one number, and do not meet. A store asks some places again, under
    /// what an earlier attempt has reserved in others: such a check is allowed, or refused as half done. Whoever asks
    /// a check again asks one that was denied, and its attempt before is undone.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }
}

impl CheckCommand {
    /// The same check in an attempt of its own.
    #[must_use]
    pub fn next_attempt(&self) -> Self {
        let next = |request: RequestFingerprint| {
            let attempt = request.attempt.map(Attempt::next);
            RequestFingerprint { attempt, ..request }
        };
        Self { request: self.request.map(next), ..self.clone() }
    }
}

/// Attempts at one request id that a store remembers. Where there were more, what their decision took stands,
/// and each cancel says so: whether anybody was told of it is not known.
pub const ATTEMPTS_MAX: usize = 8;
