//! What stands sealed in a store, whatever it is: for a change of the key that seals.

use async_trait::async_trait;
use rateguard_core::ids::{ApiId, WorkspaceId};
use rateguard_core::time::Millis;

use super::StoreError;
use crate::secrets::SealedPlace;

/// Something sealed, as it stands in a store.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedValue {
    /// Where it stands.
    pub place: SealedPlace,
    /// The ciphertext, with the id of its key in front.
    pub sealed: Vec<u8>,
    /// The version of the resource that it belongs to; 0 for what has none.
    pub version: u64,
}

impl std::fmt::Debug for SealedValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SealedValue({}, version {})", self.place, self.version)
    }
}

/// Whose credential: where a page begins.
pub type CredentialPlace = (WorkspaceId, ApiId);

/// A page of sealed credentials.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SealedPage {
    /// The credentials. There may be fewer than were asked for, even none.
    pub values: Vec<SealedValue>,
    /// The place to go on after; `None` at the end.
    pub next: Option<CredentialPlace>,
}

/// Everything sealed, to be read.
#[async_trait]
pub trait SealedValues: Send + Sync + 'static {
    /// What there are few of: the check text and the signing keys.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Corrupt`].
    async fn sealed_singly(&self) -> Result<Vec<SealedValue>, StoreError>;

    /// The sealed credentials of at most `limit` APIs after a place, in the order of places.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Corrupt`].
    async fn credentials_after(
        &self,
        after: Option<&CredentialPlace>,
        limit: usize,
    ) -> Result<SealedPage, StoreError>;
}

/// The same, to be sealed again.
#[async_trait]
pub trait SealedStore: SealedValues {
    /// Puts a ciphertext of the same secret in the place of another; `false`, and nothing is done, when
    /// the place has changed since it was read. An API takes its next version with an entry in the feed,
    /// so that nobody writes back what they read before.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::OutcomeUnknown`], [`StoreError::Corrupt`].
    async fn replace_sealed(
        &self,
        value: &SealedValue,
        sealed: Vec<u8>,
        now: Millis,
    ) -> Result<bool, StoreError>;
}
