//! The part of the store of people that keeps whom identity providers know.

use async_trait::async_trait;
use rateguard_core::ids::{SessionId, UserId};

use super::{Joining, Membership, StoreError, User};
use crate::audit::Deed;

/// A person as an identity provider knows them. The pair names one person for ever; an address does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalIdentity {
    /// The provider's issuer.
    pub issuer: String,
    /// Whom it means, at most 255 bytes.
    pub subject: String,
}

/// Identities and the accounts that they are linked to. Changes are as those of [`super::PeopleStore`].
#[async_trait]
pub trait IdentityStore: Send + Sync + 'static {
    /// Makes an account as [`super::PeopleStore::create_user`] does, linked to an identity.
    ///
    /// # Errors
    /// Those of [`super::PeopleStore::create_user`], and [`StoreError::AlreadyExists`] for the identity
    /// (`identity`).
    async fn create_linked_user(
        &self,
        user: User,
        identity: ExternalIdentity,
        joining: Joining,
        members_max: usize,
        by: &Deed,
    ) -> Result<Membership, StoreError>;

    /// Links an identity to an account, at the wish of a session of it; nothing changes where it is already.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for the account, [`StoreError::AlreadyExists`] (`identity`) where another
    /// account has it, [`StoreError::Full`] beyond `identities_max` of the account.
    async fn link_identity(
        &self,
        user: &UserId,
        session: &SessionId,
        identity: ExternalIdentity,
        identities_max: usize,
        by: &Deed,
    ) -> Result<(), StoreError>;

    /// The account that an identity is linked to.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Corrupt`].
    async fn user_by_identity(&self, identity: &ExternalIdentity) -> Result<Option<User>, StoreError>;
}

/// What [`StoreError::Full`] names when an account has as many identities as it may.
pub const IDENTITIES_FULL: &str = "the list of the person's identities";
