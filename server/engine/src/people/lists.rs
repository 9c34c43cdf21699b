//! Lists of what people have and belong to. Each is bounded by a constant of [`super`] and read whole, so that order
//! and filter are held against what is in memory.

use rateguard_core::ids::WorkspaceId;

use super::{MEMBERS_PER_WORKSPACE_MAX, People, Person, Role};
use crate::error::EngineError;
use crate::listing::{Listed, OrderBy, OrderValue, Page, PageQuery, Place, TextPart, page_of};
use crate::ports::{Invitation, Member, Membership, Session, StoredWorkspace};

/// Which members. Every part that is set must hold; so it is for every filter here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberFilter {
    /// A part of the name.
    pub name: Option<TextPart>,
    /// A part of the address.
    pub email: Option<TextPart>,
    /// What they may do.
    pub role: Option<Role>,
}

/// Which invitations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InvitationFilter {
    /// A part of the address. One to nobody in particular has none.
    pub email: Option<TextPart>,
    /// What the new member may do.
    pub role: Option<Role>,
}

/// Which workspaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkspaceFilter {
    /// A part of the name.
    pub name: Option<TextPart>,
    /// What the person may do there.
    pub role: Option<Role>,
}

/// Which sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionFilter {
    /// Where they work.
    pub workspace: Option<WorkspaceId>,
}

impl People {
    /// Members of the person's workspace.
    ///
    /// # Errors
    /// [`crate::error::Reason::RoleMissing`].
    pub async fn members(
        &self,
        person: &Person,
        filter: &MemberFilter,
        query: &PageQuery,
    ) -> Result<Page<Member>, EngineError> {
        let workspace = person.at_least(Role::Viewer)?;
        let mut members = self.store.members(workspace, None, MEMBERS_PER_WORKSPACE_MAX).await?;
        members.retain(|member| filter.holds(member));
        Ok(page_of(members, query))
    }

    /// Open invitations to the person's workspace.
    ///
    /// # Errors
    /// [`crate::error::Reason::RoleMissing`].
    pub async fn invitations(
        &self,
        person: &Person,
        filter: &InvitationFilter,
        query: &PageQuery,
    ) -> Result<Page<Invitation>, EngineError> {
        let workspace = person.at_least(Role::Admin)?;
        let mut open = self.store.invitations(workspace, self.now()).await?;
        open.retain(|invitation| filter.holds(invitation));
        Ok(page_of(open, query))
    }

    /// Workspaces that the person belongs to.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn workspace_page(
        &self,
        person: &Person,
        filter: &WorkspaceFilter,
        query: &PageQuery,
    ) -> Result<Page<(Membership, StoredWorkspace)>, EngineError> {
        let mut workspaces = self.workspaces(person).await?;
        workspaces.retain(|(membership, stored)| filter.holds(membership, stored));
        Ok(page_of(workspaces, query))
    }

    /// Live sessions of the person.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn sessions(
        &self,
        person: &Person,
        filter: &SessionFilter,
        query: &PageQuery,
    ) -> Result<Page<Session>, EngineError> {
        let mut live = self.store.sessions(&person.user, self.now()).await?;
        live.retain(|session| filter.workspace.is_none() || filter.workspace == session.workspace);
        Ok(page_of(live, query))
    }
}

impl MemberFilter {
    fn holds(&self, member: &Member) -> bool {
        let Member { user, membership } = member;
        self.name.as_ref().is_none_or(|part| part.is_in(user.display_name.as_str()))
            && self.email.as_ref().is_none_or(|part| part.is_in(user.email.as_str()))
            && self.role.is_none_or(|role| role == membership.role)
    }
}

impl InvitationFilter {
    fn holds(&self, invitation: &Invitation) -> bool {
        let address = invitation.email.as_ref();
        self.email.as_ref().is_none_or(|part| address.is_some_and(|address| part.is_in(address.as_str())))
            && self.role.is_none_or(|role| role == invitation.role)
    }
}

impl WorkspaceFilter {
    fn holds(&self, membership: &Membership, stored: &StoredWorkspace) -> bool {
        self.name.as_ref().is_none_or(|part| part.is_in(stored.workspace.name.as_str()))
            && self.role.is_none_or(|role| role == membership.role)
    }
}

impl Listed for Member {
    fn place(&self, by: OrderBy) -> Place {
        let Self { user, membership } = self;
        let value = match by {
            OrderBy::Id => OrderValue::Nothing,
            OrderBy::CreateTime | OrderBy::UpdateTime | OrderBy::JoinTime => {
                OrderValue::At(membership.joined_at)
            }
            OrderBy::DisplayName => OrderValue::Text(user.display_name.as_str().to_owned()),
        };
        Place { value, id: user.id.as_str().to_owned() }
    }
}

impl Listed for Invitation {
    fn place(&self, by: OrderBy) -> Place {
        let value = match by {
            OrderBy::Id | OrderBy::DisplayName => OrderValue::Nothing,
            OrderBy::CreateTime | OrderBy::UpdateTime | OrderBy::JoinTime => OrderValue::At(self.created_at),
        };
        Place { value, id: self.id.as_str().to_owned() }
    }
}

impl Listed for (Membership, StoredWorkspace) {
    fn place(&self, by: OrderBy) -> Place {
        let (membership, stored) = self;
        let value = match by {
            OrderBy::Id => OrderValue::Nothing,
            OrderBy::CreateTime => OrderValue::At(stored.created_at),
            OrderBy::UpdateTime => OrderValue::At(stored.updated_at),
            OrderBy::JoinTime => OrderValue::At(membership.joined_at),
            OrderBy::DisplayName => OrderValue::Text(stored.workspace.name.as_str().to_owned()),
        };
        Place { value, id: membership.workspace.as_str().to_owned() }
    }
}

impl Listed for Session {
    /// Of a session, what changes is when it was refreshed.
    fn place(&self, by: OrderBy) -> Place {
        let value = match by {
            OrderBy::Id | OrderBy::DisplayName => OrderValue::Nothing,
            OrderBy::CreateTime | OrderBy::JoinTime => OrderValue::At(self.created_at),
            OrderBy::UpdateTime => OrderValue::At(self.refreshed_at),
        };
        Place { value, id: self.id.as_str().to_owned() }
    }
}
