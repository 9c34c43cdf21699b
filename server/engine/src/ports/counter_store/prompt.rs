//! Decisions that are there at once.

use futures::future::BoxFuture;

use super::CheckOutcome;
use crate::ports::StoreError;

/// A decision, or the way to it. A store in this process decides without waiting, and its decision need not
/// be carried through a future of its own.
pub enum Prompt<'a> {
    /// It was decided, or refused.
    Answered(Result<CheckOutcome, StoreError>),
    /// It is on its way.
    Waiting(BoxFuture<'a, Result<CheckOutcome, StoreError>>),
}

impl Prompt<'_> {
    /// The decision, once it is there.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn answer(self) -> Result<CheckOutcome, StoreError> {
        match self {
            Self::Answered(outcome) => outcome,
            Self::Waiting(outcome) => outcome.await,
        }
    }
}
