//! Members of a workspace: listing, changing roles, removing, handing over.

use rateguard_core::ids::UserId;

use super::{People, Person, Role, role_missing};
use crate::audit::Origin;
use crate::error::{EngineError, Reason};
use crate::ports::{Member, MemberChange, MemberRefusal, Membership, StoreError};

impl People {
    /// Gives a member another role.
    ///
    /// # Errors
    /// [`Reason::RoleMissing`], [`Reason::ResourceNotFound`], [`Reason::EtagMismatch`],
    /// [`Reason::LastOwner`].
    pub async fn change_role(
        &self,
        person: &Person,
        member: UserId,
        role: Role,
        expected: Option<u64>,
        origin: &Origin,
    ) -> Result<Member, EngineError> {
        let workspace = person.at_least(Role::Admin)?.clone();
        let actor = person.user.clone();
        let change = MemberChange { workspace, actor, member, role: Some(role), expected };
        let membership = self.change_member(change, origin).await?;
        self.with_account(membership).await
    }

    /// Takes a member out of the person's workspace; anybody may take out themselves.
    ///
    /// # Errors
    /// As [`People::change_role`].
    pub async fn remove_member(
        &self,
        person: &Person,
        member: UserId,
        origin: &Origin,
    ) -> Result<(), EngineError> {
        let least = if member == person.user { Role::Viewer } else { Role::Admin };
        let workspace = person.at_least(least)?.clone();
        let actor = person.user.clone();
        let change = MemberChange { workspace, actor, member, role: None, expected: None };
        self.change_member(change, origin).await.map(drop)
    }

    /// Makes another member an owner, and the person an admin.
    ///
    /// # Errors
    /// [`Reason::RoleMissing`], [`Reason::ResourceNotFound`], [`Reason::FieldConflict`].
    pub async fn transfer_ownership(
        &self,
        person: &Person,
        to: &UserId,
        origin: &Origin,
    ) -> Result<Member, EngineError> {
        let workspace = person.at_least(Role::Owner)?;
        if *to == person.user {
            let message = "must be another member: you own the workspace already";
            return Err(EngineError::field(Reason::FieldConflict, "user_id", message));
        }
        let deed = self.deed(&person.user, origin);
        let transferred = self.store.transfer(workspace, &person.user, to, &deed).await;
        let membership = settled(transferred, to)?;
        self.refresh_now().await;
        self.with_account(membership).await
    }

    async fn change_member(&self, change: MemberChange, origin: &Origin) -> Result<Membership, EngineError> {
        let (member, deed) = (change.member.clone(), self.deed(&change.actor, origin));
        let membership = settled(self.store.change_member(change, &deed).await, &member)?;
        self.refresh_now().await;
        Ok(membership)
    }

    async fn with_account(&self, membership: Membership) -> Result<Member, EngineError> {
        let user = self.store.user(&membership.user).await?;
        let user = user.ok_or_else(|| EngineError::internal("a member has no account"))?;
        Ok(Member { user, membership })
    }
}

fn settled(
    outcome: Result<Result<Membership, MemberRefusal>, StoreError>,
    member: &UserId,
) -> Result<Membership, EngineError> {
    match outcome {
        Ok(Ok(membership)) => Ok(membership),
        Ok(Err(MemberRefusal::RoleMissing)) => Err(role_missing()),
        Ok(Err(MemberRefusal::LastOwner)) => {
            let message = "the workspace would have no owner; transfer it first";
            Err(EngineError::new(Reason::LastOwner, message))
        }
        Err(StoreError::NotFound) => Err(EngineError::not_found("member", member.as_str())),
        Err(error) => Err(error.into()),
    }
}
