//! Invitations: made by admins, sent by mail or handed over as a link, accepted once.

use std::sync::Arc;

use rateguard_core::ids::{InvitationId, WorkspaceId};

use super::accounts::{invitation_unknown, members_full};
use super::attempts::Attempt;
use super::secret_tokens::{draw_invitation, invitation_sha256};
use super::{
    EmailAddress, Grant, INVITATION_LIFE_MS, INVITATIONS_PER_WORKSPACE_MAX, MEMBERS_PER_WORKSPACE_MAX,
    MailError, People, Person, Role, WORKSPACES_PER_USER_MAX, internal, mail, role_missing,
};
use crate::audit::{Deed, Origin};
use crate::error::{EngineError, Reason};
use crate::manage::{made_and_gone, request_id_reused};
use crate::ports::{ClientRequest, Invitation, InvitedOnce, JoinBounds, StoreError, WORKSPACES_FULL};
use crate::secrets::{SecretText, random};

/// What the audit trail calls taking back an invitation whose mail was not taken.
const NOT_SENT: &str = "TakeBackUnsentInvitation";

/// An invitation just made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invited {
    /// The invitation.
    pub invitation: Invitation,
    /// Its token, unless it went by mail.
    pub token: Option<SecretText>,
}

impl People {
    /// Invites somebody to the person's workspace. With an address it is for that one alone, and goes
    /// there where mail is sent at all. It runs to its end also when whoever asked waits no longer: mail takes
    /// its time, and an invitation that nobody was sent does not stay.
    ///
    /// # Errors
    /// [`Reason::RoleMissing`], [`Reason::FieldOutOfBounds`] for owners, [`Reason::AlreadyMember`],
    /// [`Reason::WorkspaceFull`], [`Reason::TooManyAttempts`], [`Reason::StoreUnavailable`] when the
    /// mail cannot be sent, [`Reason::RequestIdReused`], and [`Reason::ResourceNotFound`] where what the
    /// request made before is gone.
    pub async fn invite(
        self: &Arc<Self>,
        person: &Person,
        email: Option<EmailAddress>,
        role: Role,
        request: Option<ClientRequest>,
        origin: &Origin,
    ) -> Result<Invited, EngineError> {
        let (people, person, origin) = (self.clone(), person.clone(), origin.clone());
        let inviting =
            tokio::spawn(async move { people.make_invitation(&person, email, role, request, &origin).await });
        let ended = inviting.await;
        ended.unwrap_or_else(|_| Err(EngineError::internal("an invitation was not made to its end")))
    }

    async fn make_invitation(
        &self,
        person: &Person,
        email: Option<EmailAddress>,
        role: Role,
        request: Option<ClientRequest>,
        origin: &Origin,
    ) -> Result<Invited, EngineError> {
        let workspace = person.at_least(Role::Admin)?.clone();
        if role == Role::Owner {
            let message = "must not be owner: transfer the ownership instead";
            return Err(EngineError::field(Reason::FieldOutOfBounds, "role", message));
        }
        let now = self.now();
        self.attempts.take(Attempt::Invite, origin.ip, email.as_ref(), now)?;
        let token = draw_invitation()?;
        let hash = invitation_sha256(&token).ok_or_else(|| EngineError::internal("a token is none"))?;
        let invitation = Invitation {
            id: InvitationId::from_random(random().map_err(internal)?),
            workspace,
            email,
            role,
            inviter: person.user.clone(),
            created_at: now,
            expires_at: now.plus(INVITATION_LIFE_MS),
        };
        let deed = self.deed(&person.user, origin);
        match self.stored_invitation(&invitation, hash, request, &deed).await.map_err(not_invited)? {
            InvitedOnce::Made => match self.send(&invitation, token).await {
                Ok(token) => Ok(Invited { invitation, token }),
                Err(error) => Err(self.take_back(&invitation, error).await),
            },
            InvitedOnce::Before(Some(invitation)) => Ok(Invited { invitation: *invitation, token: None }),
            InvitedOnce::Before(None) => Err(made_and_gone()),
        }
    }

    async fn stored_invitation(
        &self,
        invitation: &Invitation,
        token_sha256: [u8; 32],
        request: Option<ClientRequest>,
        by: &Deed,
    ) -> Result<InvitedOnce, StoreError> {
        let (invitation, limit) = (invitation.clone(), INVITATIONS_PER_WORKSPACE_MAX);
        let Some(request) = request else {
            self.store.insert_invitation(invitation, token_sha256, limit, by).await?;
            return Ok(InvitedOnce::Made);
        };
        // A person's requests are told apart in all of their workspaces.
        let request = request.within(invitation.workspace.as_str());
        self.store.insert_invitation_once(invitation, token_sha256, limit, &request, by).await
    }

    /// Takes an invitation back.
    ///
    /// # Errors
    /// [`Reason::RoleMissing`], [`Reason::ResourceNotFound`].
    pub async fn revoke_invitation(
        &self,
        person: &Person,
        id: &InvitationId,
        origin: &Origin,
    ) -> Result<(), EngineError> {
        let workspace = person.at_least(Role::Admin)?;
        self.remove_invitation(workspace, id, &self.deed(&person.user, origin)).await
    }

    /// Makes the person a member by an invitation; their session goes on in its workspace.
    ///
    /// # Errors
    /// [`Reason::InvitationUnknown`], [`Reason::AlreadyMember`], [`Reason::PersonFull`],
    /// [`Reason::WorkspaceFull`], [`Reason::TooManyAttempts`].
    pub async fn accept_invitation(
        &self,
        person: &Person,
        token: &SecretText,
        origin: &Origin,
    ) -> Result<Grant, EngineError> {
        let now = self.now();
        self.attempts.take(Attempt::ComeIn, origin.ip, None, now)?;
        let hash = invitation_sha256(token).ok_or_else(invitation_unknown)?;
        let bounds =
            JoinBounds { members_max: MEMBERS_PER_WORKSPACE_MAX, workspaces_max: WORKSPACES_PER_USER_MAX };
        let accepted =
            self.store.accept_invitation(&hash, &person.user, bounds, &self.deed(&person.user, origin)).await;
        let membership = accepted.map_err(not_accepted)?;
        self.refresh_now().await;
        self.switch_workspace(person, &membership.workspace, origin).await
    }

    async fn remove_invitation(
        &self,
        workspace: &WorkspaceId,
        id: &InvitationId,
        by: &Deed,
    ) -> Result<(), EngineError> {
        self.store.remove_invitation(workspace, id, by).await.map_err(|error| not_removed(error, id))
    }

    /// Sends the token to the address that is invited; gives it back where there is none, or nobody
    /// sends mail.
    async fn send(
        &self,
        invitation: &Invitation,
        token: SecretText,
    ) -> Result<Option<SecretText>, EngineError> {
        let (Some(mailer), Some(to)) = (&self.mailer, &invitation.email) else { return Ok(Some(token)) };
        let view = self.directory.view(&invitation.workspace);
        let view = view.ok_or_else(|| EngineError::internal("a person's workspace is not in memory"))?;
        let mail = mail::invitation(to.clone(), &view.workspace.name, &self.policy.invitation_page, &token);
        mailer.send(mail).await.map(|()| None).map_err(|error| not_sent(&error))
    }

    /// Takes back an invitation that nobody was sent, and gives the error to answer with.
    async fn take_back(&self, invitation: &Invitation, error: EngineError) -> EngineError {
        let deed = Deed::of_server(NOT_SENT, self.now());
        match self.store.withdraw_invitation(invitation, &deed).await {
            // Somebody else was faster.
            Ok(()) | Err(StoreError::NotFound) => error,
            Err(kept) => {
                tracing::warn!(error = %kept, id = %invitation.id, "an invitation that was not sent stays open");
                error
            }
        }
    }
}

fn not_removed(error: StoreError, id: &InvitationId) -> EngineError {
    match error {
        StoreError::NotFound => EngineError::not_found("invitation", id.as_str()),
        error => error.into(),
    }
}

fn not_sent(error: &MailError) -> EngineError {
    tracing::warn!(%error, "the mail of an invitation was not taken");
    EngineError::new(Reason::StoreUnavailable, "the invitation cannot be sent now; invite again later")
}

fn not_invited(error: StoreError) -> EngineError {
    match error {
        StoreError::NotFound => role_missing(),
        StoreError::AlreadyExists { field: "email" } => {
            EngineError::field(Reason::AlreadyMember, "email", "belongs to a member of the workspace")
        }
        StoreError::AlreadyExists { field: "request_id" } => request_id_reused(),
        StoreError::Full { .. } => {
            let message =
                format!("the workspace has {INVITATIONS_PER_WORKSPACE_MAX} open invitations already");
            EngineError::new(Reason::WorkspaceFull, message)
        }
        error => error.into(),
    }
}

fn not_accepted(error: StoreError) -> EngineError {
    match error {
        StoreError::NotFound => invitation_unknown(),
        StoreError::AlreadyExists { .. } => {
            EngineError::new(Reason::AlreadyMember, "you belong to this workspace already")
        }
        StoreError::Full { what: WORKSPACES_FULL } => {
            let message = format!("you belong to {WORKSPACES_PER_USER_MAX} workspaces already");
            EngineError::new(Reason::PersonFull, message)
        }
        StoreError::Full { .. } => members_full(),
        error => error.into(),
    }
}
