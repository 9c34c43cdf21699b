//! Attempts at a check, so that one whose outcome nobody knows can be undone.

/// One attempt at a check, by a random number: the same request id may be tried again, by its caller or
/// by another process, and each attempt is answered, or cancelled, for itself. Two attempts at one
/// request id are the same by one chance in 2³².
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Attempt(pub u32);

impl Attempt {
    /// The same caller's next.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }
}

/// Attempts at one request id that a store remembers. Where there were more, what the first of them took
/// is never taken back: one of them was surely answered.
pub const ATTEMPTS_MAX: usize = 8;
