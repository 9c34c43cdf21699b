//! Checks that are decided without waiting, as far as that goes.

use futures::future::BoxFuture;

use super::asked::Demanded;
use crate::ports::{CheckCommand, CheckOutcome, StoreError};

/// A decision on its way.
pub(crate) type Outcome<'a> = BoxFuture<'a, Result<CheckOutcome, StoreError>>;

/// What became of a check without waiting.
pub(crate) enum AtOnce<T, B> {
    /// It was decided.
    Answered(T),
    /// It is on its way, and waits for the disk.
    Begun(B),
    /// Nothing.
    Not,
}

/// A check that is on its way.
pub(super) struct Begun<'a> {
    pub(super) command: CheckCommand,
    pub(super) demanded: Demanded,
    pub(super) outcome: Outcome<'a>,
}
