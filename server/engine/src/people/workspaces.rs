//! The workspaces of a person.

use rateguard_core::ids::{DisplayName, UserId, WorkspaceId};
use rateguard_core::money::Currency;
use rateguard_core::time::Zone;

use super::{People, Person, Role, WORKSPACES_PER_USER_MAX, internal};
use crate::audit::{Deed, Origin};
use crate::error::{EngineError, Reason};
use crate::ports::{ClientRequest, Membership, StoreError, StoredWorkspace};
use crate::resources::Workspace;
use crate::secrets::random;

impl People {
    /// Makes a workspace that the person owns, once for the request that it comes with.
    ///
    /// # Errors
    /// [`Reason::PersonFull`], [`Reason::RequestIdReused`], [`Reason::ResourceNotFound`] where the person has
    /// left what the request made before.
    pub async fn create_workspace(
        &self,
        person: &Person,
        name: DisplayName,
        zone: Zone,
        currency: Currency,
        request: Option<ClientRequest>,
        origin: &Origin,
    ) -> Result<(Role, StoredWorkspace), EngineError> {
        let id = WorkspaceId::from_random(random().map_err(internal)?);
        let workspace = Workspace { id, name, zone, currency };
        let deed = self.deed(&person.user, origin);
        let created = self.stored_once(workspace, &person.user, request, &deed).await;
        let created = created.map_err(not_created)?;
        self.refresh_now().await;
        Ok(created)
    }

    async fn stored_once(
        &self,
        workspace: Workspace,
        owner: &UserId,
        request: Option<ClientRequest>,
        by: &Deed,
    ) -> Result<(Role, StoredWorkspace), StoreError> {
        let limit = WORKSPACES_PER_USER_MAX;
        let Some(request) = request else {
            let stored = self.store.create_workspace(workspace, owner, limit, by).await?;
            return Ok((Role::Owner, stored));
        };
        let (member, stored) =
            self.store.create_workspace_once(workspace, owner, limit, &request, by).await?;
        Ok((member.role, stored))
    }

    /// The person's workspaces, in the order of joining.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn workspaces(
        &self,
        person: &Person,
    ) -> Result<Vec<(Membership, StoredWorkspace)>, EngineError> {
        Ok(self.store.memberships(&person.user).await?)
    }

    /// One of the person's workspaces.
    ///
    /// # Errors
    /// [`Reason::ResourceNotFound`] also for a workspace that they do not belong to.
    pub async fn workspace(
        &self,
        person: &Person,
        id: &WorkspaceId,
    ) -> Result<(Membership, StoredWorkspace), EngineError> {
        let found =
            self.workspaces(person).await?.into_iter().find(|(membership, _)| membership.workspace == *id);
        found.ok_or_else(|| workspace_not_found(id))
    }

    /// Renames the workspace that the person works in.
    ///
    /// # Errors
    /// [`Reason::RoleMissing`], [`Reason::ResourceNotFound`] for any other workspace,
    /// [`Reason::EtagMismatch`].
    pub async fn rename_workspace(
        &self,
        person: &Person,
        id: &WorkspaceId,
        name: &DisplayName,
        expected: Option<u64>,
        origin: &Origin,
    ) -> Result<StoredWorkspace, EngineError> {
        let workspace = person.at_least(Role::Admin)?;
        if id != workspace {
            return Err(workspace_not_found(id));
        }
        let deed = self.deed(&person.user, origin);
        let renamed = self.store.rename_workspace(workspace, name, expected, &deed).await;
        let stored = renamed.map_err(|error| match error {
            StoreError::NotFound => workspace_not_found(id),
            error => error.into(),
        })?;
        self.refresh_now().await;
        Ok(stored)
    }
}

fn workspace_not_found(id: &WorkspaceId) -> EngineError {
    EngineError::new(Reason::ResourceNotFound, format!("you belong to no workspace {id:?}"))
}

fn not_created(error: StoreError) -> EngineError {
    match error {
        StoreError::Full { .. } => {
            let message = format!("you belong to {WORKSPACES_PER_USER_MAX} workspaces already");
            EngineError::new(Reason::PersonFull, message)
        }
        StoreError::AlreadyExists { field: "request_id" } => {
            EngineError::field(Reason::RequestIdReused, "request_id", "was used for another request")
        }
        StoreError::NotFound => EngineError::new(
            Reason::ResourceNotFound,
            "you have left the workspace that an earlier call with this request id made",
        ),
        error => error.into(),
    }
}
